"""The tables of the experiments: what stands in them, cell by cell.

No cell is filled that was not run.
"""

import statistics

from snip_tf.experiments import records

_NOT_RUN, _FAILED = "not run", "failed"
_NO_NUMBER = "–"


def header_and_rows(name, groups):
    """Returns the table of an experiment: its header and its rows of strings.

    Args:
        name: A name of `paper.EXPERIMENTS`.
        groups: What `records.groups` returned.
    """
    return _TABLES.get(name, _errors)(groups)


def comparison(groups):
    """Returns the header and rows that compare all that the paper prints.

    Args:
        groups: What `records.groups` returned, by the name of the experiment.
    """
    header = (
        "experiment",
        "run",
        "paper",
        "authors' code",
        "ours",
        "iterations",
        "seeds",
        "to the paper",
        "to the authors' code",
    )
    rows = [
        (
            name,
            label(group),
            group.run.row.paper,
            _number(group.run.row.authors),
            _error(group),
            _iterations(group),
            _seeds(group),
            _difference(group, group.run.row.paper_error),
            _difference(group, group.run.row.authors),
        )
        for name, own in groups.items()
        for group in own
        if group.run.row.paper
    ]
    return header, rows


def label(group):
    """Returns the name of a group, with how it departs from its row."""
    return _with_departures(group.run.row.name, group)


def _with_departures(name, group):
    departures = (f"({departure})" for departure in group.run.departures)
    return " ".join([name, *departures])


def _errors(groups):
    """Returns header and rows: an error for each group, the paper's if any."""
    header = (
        "run",
        "weights kept",
        "iterations",
        "seeds",
        "test error",
        "at best validation",
        "paper",
        "difference",
    )
    rows = [
        (
            label(group),
            _kept(group),
            _iterations(group),
            _seeds(group),
            _error(group),
            _error(group, "test_error_at_best_validation"),
            group.run.row.paper or "not printed",
            _difference(group, group.run.row.paper_error),
        )
        for group in groups
    ]
    if not any(group.run.row.paper for group in groups):
        return header[:-2], [row[:-2] for row in rows]
    return header, rows


def _fits(groups):
    """Returns header and rows: how well each group fits its labels."""
    header = (
        "run",
        "weights kept",
        "iterations",
        "seeds",
        "training cross-entropy, last period",
        "training error, last period",
        "test error",
    )
    rows = []
    for group in groups:
        losses = [line["train_cross_entropies"][-1] for line in group.lines]
        rows.append(
            (
                label(group),
                _kept(group),
                _iterations(group),
                _seeds(group),
                f"{statistics.fmean(losses):.4f}"
                if losses
                else nothing_of(group),
                _error(group, "train_error"),
                _error(group),
            )
        )
    return header, rows


def _pairs(groups):
    """Returns header and rows: each network dense and pruned, by schedule."""
    header = (
        "network",
        "sparsity",
        "weights",
        "printed",
        "iterations",
        "seeds",
        "test error",
        "Δ",
        "paper",
        "paper's Δ",
        "difference",
    )
    rows = []
    for model in dict.fromkeys(group.run.settings.model for group in groups):
        own = [group for group in groups if group.run.settings.model == model]
        schedules = [_schedule(group) for group in own if group.was_run]
        for schedule in dict.fromkeys(schedules or [_schedule(own[0])]):
            rows.append(_pair(*_dense_and_sparse(own, schedule)))
    return header, rows


def _schedule(group):
    settings = group.run.settings
    return settings.recipe, settings.dataset, group.run.backend


def _dense_and_sparse(groups, schedule):
    """Returns the two groups of a schedule; one that was not run is empty."""
    for is_sparse in (False, True):
        alike = [
            group
            for group in groups
            if bool(group.run.settings.sparsity) == is_sparse
        ]
        ran = [group for group in alike if _schedule(group) == schedule]
        yield ran[0] if ran else records.Group(alike[0].run)


def _pair(dense, sparse):
    both = (dense, sparse)
    ran = next((group for group in both if group.was_run), dense)
    change = nothing_of(*both)
    if dense.lines and sparse.lines:
        delta = sparse.mean("test_error") - dense.mean("test_error")
        change = f"{delta:+.2f}"
    printed = [group.run.row.paper_error for group in both]
    return (
        label(ran).replace(ran.run.row.name, ran.run.settings.model),
        f"{sparse.run.settings.sparsity:g}",
        _arrow(map(_kept, both)),
        _arrow(group.run.row.parameters for group in both),
        _iterations(ran),
        _arrow(map(_seeds, both)),
        _arrow(map(_error, both)),
        change,
        _arrow(group.run.row.paper for group in both),
        f"{printed[1] - printed[0]:+.2f}",
        _arrow(_difference(g, g.run.row.paper_error) for g in both),
    )


def _arrow(values):
    values = list(values)
    if len(set(values)) == 1 and values[0] in (_NOT_RUN, _FAILED, _NO_NUMBER):
        return values[0]
    return " → ".join(values)


def _pictures(groups):
    """Returns header and rows: what is kept at each sparsity of a data set."""
    header = (
        "data",
        "sparsity",
        "classes",
        "seeds",
        "weights kept",
        "of them in the first layer, mean over classes",
    )
    rows = []
    by_data = {}
    for group in groups:
        data = _with_departures(group.run.row.settings.dataset, group)
        by_data.setdefault(data, []).append(group)
    for data, own in by_data.items():
        lines = [line for group in own for line in group.lines]
        seeds = {line["seed"] for line in lines}
        for sparsity in own[0].run.row.sparsities:
            key = f"{sparsity:g}"
            kept = {line["kept"][key] for line in lines}
            first = [sum(line["kept_per_pixel"][key]) for line in lines]
            rows.append(
                (
                    data,
                    key,
                    str(sum(bool(group.lines) for group in own)),
                    str(len(seeds)),
                    ", ".join(f"{count:,}" for count in sorted(kept))
                    or nothing_of(*own),
                    f"{statistics.fmean(first):,.0f}"
                    if first
                    else nothing_of(*own),
                )
            )
    return header, rows


def nothing_of(*groups):
    """Returns why there is no number of groups without a finished run."""
    return _FAILED if any(group.failed for group in groups) else _NOT_RUN


def _kept(group):
    counts = sorted(set(group.values("kept")))
    return ", ".join(f"{count:,}" for count in counts) or nothing_of(group)


def _iterations(group):
    """Returns the number of iterations, with a star if it is shortened."""
    if not group.was_run:
        return _NOT_RUN
    star = "\\*" if group.run.is_shortened else ""
    return f"{group.run.settings.recipe.steps:,}{star}"


def _seeds(group):
    if not group.was_run:
        return _NOT_RUN
    done = len(group.lines)
    return f"{done} of {done + group.failed}" if group.failed else f"{done}"


def _error(group, name="test_error"):
    if not group.lines:
        return nothing_of(group)
    deviation = group.deviation(name)
    spread = "" if deviation is None else f" ± {deviation:.2f}"
    return f"{group.mean(name):.2f}{spread}"


def _number(error):
    return _NO_NUMBER if error is None else f"{error:.2f}"


def _difference(group, other):
    """Returns ours less another error, and that in our standard deviations."""
    if not group.lines:
        return nothing_of(group)
    if other is None or not group.run.is_on_own_data:
        return _NO_NUMBER
    difference = group.mean("test_error") - other
    deviation = group.deviation("test_error")
    if not deviation:
        return _signed(difference, 2)
    return f"{_signed(difference, 2)} ({_signed(difference / deviation, 1)} sd)"


def _signed(number, digits):
    """Returns a number with its sign; what rounds to zero is not negative."""
    return f"{round(number, digits) + 0.0:+.{digits}f}"


_TABLES = {"table_2": _pairs, "figure_2": _pictures, "figure_4": _fits}
