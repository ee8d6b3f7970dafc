"""The tables of the experiments: what stands in them, cell by cell.

No cell is filled that was not run.
"""

import statistics

import pandas

from snip_tf.experiments.grouping import (
    FAILED,
    NOT_RUN,
    label,
    nothing_of,
    was_run,
    with_departures,
)

_NO_NUMBER = "–"


def of_experiment(name, groups):
    """Returns the table of an experiment, in Markdown.

    Args:
        name: A name of `paper.EXPERIMENTS`.
        groups: What `grouping.groups` returned.
    """
    return _markdown(_TABLES.get(name, _errors)(groups))


def comparison(groups):
    """Returns what compares all that the paper prints, in Markdown.

    Args:
        groups: What `grouping.groups` returned, by the name of the
            experiment.
    """
    return _markdown(
        {"experiment": name, **row}
        for name, own in groups.items()
        for row in _filled(_COMPARISON, [g for g in own if g.run.row.paper])
    )


def markdown(header, rows):
    """Returns a table in Markdown, from rows of strings."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _markdown(table):
    """Returns a table in Markdown, from rows that are dicts of strings."""
    table = list(table)
    return markdown(table[0], (row.values() for row in table))


def _filled(columns, groups):
    """Returns a row a group, each cell of which is a function of the group."""
    return [
        {name: cell(group) for name, cell in columns.items()}
        for group in groups
    ]


def _errors(groups):
    """Returns an error for each group, and the paper's if it prints any."""
    is_printed = any(group.run.row.paper for group in groups)
    return _filled(_ERRORS | (_PRINTED if is_printed else {}), groups)


def _fits(groups):
    """Returns how well each group fits its labels."""
    return _filled(_FITS, groups)


def _pairs(groups):
    """Returns each network dense and pruned, by schedule."""
    table = []
    for model in dict.fromkeys(group.run.settings.model for group in groups):
        own = [group for group in groups if group.run.settings.model == model]
        schedules = [_schedule(group) for group in own if was_run(group)]
        for schedule in dict.fromkeys(schedules or [_schedule(own[0])]):
            table.append(_pair(*_dense_and_sparse(own, schedule)))
    return table


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
        yield ran[0] if ran else alike[0]._replace(lines=[], failed=0)


def _pair(dense, sparse):
    """Returns a row of `_pairs`, a dict of its cells."""
    both = (dense, sparse)
    ran = next(filter(was_run, both), dense)
    change = nothing_of(*both)
    if dense.lines and sparse.lines:
        change = f"{sparse.test_error - dense.test_error:+.2f}"
    printed = [group.run.row.paper_error for group in both]
    return {
        "network": with_departures(ran.run.settings.model, ran),
        "sparsity": f"{sparse.run.settings.sparsity:g}",
        "weights": _arrow(_kept, both),
        "printed": _arrow(lambda group: group.run.row.parameters, both),
        "iterations": _iterations(ran),
        "seeds": _arrow(_seeds, both),
        "test error": _arrow(_error, both),
        "Δ": change,
        "paper": _arrow(_paper, both),
        "paper's Δ": f"{printed[1] - printed[0]:+.2f}",
        "difference": _arrow(_to_paper, both),
    }


def _arrow(cell, both):
    before, after = map(cell, both)
    if before == after and before in (NOT_RUN, FAILED, _NO_NUMBER):
        return before
    return f"{before} → {after}"


def _kept_by_data(groups):
    """Returns what is kept at each sparsity of a data set."""
    table, by_data = [], {}
    for group in groups:
        data = with_departures(group.run.row.settings.dataset, group)
        by_data.setdefault(data, []).append(group)
    for data, own in by_data.items():
        lines = [line for group in own for line in group.lines]
        for sparsity in own[0].run.row.sparsities:
            key = f"{sparsity:g}"
            kept = sorted({line["kept"][key] for line in lines})
            first = [sum(line["kept_per_pixel"][key]) for line in lines]
            mean = f"{statistics.fmean(first):,.0f}" if first else ""
            table.append(
                {
                    "data": data,
                    "sparsity": key,
                    "classes": f"{sum(bool(group.lines) for group in own)}",
                    "seeds": f"{len({line['seed'] for line in lines})}",
                    "weights kept": _counts(kept) or nothing_of(*own),
                    "of them in the first layer, mean over classes": (
                        mean or nothing_of(*own)
                    ),
                }
            )
    return table


def _counts(counts):
    return ", ".join(f"{count:,}" for count in sorted(set(counts)))


def _kept(group):
    return _counts(line["kept"] for line in group.lines) or nothing_of(group)


def _iterations(group):
    """Returns the number of iterations, with a star if it is shortened."""
    if not was_run(group):
        return NOT_RUN
    star = "\\*" if group.run.is_shortened else ""
    return f"{group.run.settings.recipe.steps:,}{star}"


def _seeds(group):
    if not was_run(group):
        return NOT_RUN
    done = len(group.lines)
    return f"{done} of {done + group.failed}" if group.failed else f"{done}"


def _error(group, name="test_error"):
    if not group.lines:
        return nothing_of(group)
    std = getattr(group, f"{name}_std")
    spread = "" if pandas.isna(std) else f" ± {std:.2f}"
    return f"{getattr(group, name):.2f}{spread}"


def _error_at_best(group):
    return _error(group, "test_error_at_best_validation")


def _train_error(group):
    return _error(group, "train_error")


def _last_loss(group):
    losses = [line["train_cross_entropies"][-1] for line in group.lines]
    return f"{statistics.fmean(losses):.4f}" if losses else nothing_of(group)


def _paper(group):
    return group.run.row.paper


def _authors(group):
    error = group.run.row.authors
    return _NO_NUMBER if error is None else f"{error:.2f}"


def _to_paper(group):
    return _difference(group, group.run.row.paper_error)


def _to_authors(group):
    return _difference(group, group.run.row.authors)


def _difference(group, other):
    """Returns ours less another error, and that in our standard deviations."""
    if not group.lines:
        return nothing_of(group)
    if other is None or not group.run.is_on_own_data:
        return _NO_NUMBER
    difference, std = group.test_error - other, group.test_error_std
    if not std > 0:  # a single seed has none
        return _signed(difference, 2)
    return f"{_signed(difference, 2)} ({_signed(difference / std, 1)} sd)"


def _signed(number, digits):
    """Returns a number with its sign; what rounds to zero is not negative."""
    return f"{round(number, digits) + 0.0:+.{digits}f}"


# Each column of a table, and what stands in it of a group.
_RUN = {"run": label, "weights kept": _kept}
_HOW = {"iterations": _iterations, "seeds": _seeds}
_ERRORS = {
    **_RUN,
    **_HOW,
    "test error": _error,
    "at best validation": _error_at_best,
}
_PRINTED = {
    "paper": lambda group: _paper(group) or "not printed",
    "difference": _to_paper,
}
_FITS = {
    **_RUN,
    **_HOW,
    "training cross-entropy, last period": _last_loss,
    "training error, last period": _train_error,
    "test error": _error,
}
_COMPARISON = {
    "run": label,
    "paper": _paper,
    "authors' code": _authors,
    "ours": _error,
    **_HOW,
    "to the paper": _to_paper,
    "to the authors' code": _to_authors,
}
_TABLES = {"table_2": _pairs, "figure_2": _kept_by_data, "figure_4": _fits}
