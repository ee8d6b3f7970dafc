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
)

_NO_NUMBER = "–"


def of_experiment(name, groups):
    """Returns the table of an experiment, a list of dicts: column to cell.

    Args:
        name: A name of `paper.EXPERIMENTS`.
        groups: What `grouping.groups` returned.
    """
    if name in _TABLES:
        return _TABLES[name](groups)
    columns = _FITS if name == "figure_4" else _ERRORS
    if any(group.run.row.paper for group in groups):
        columns = columns | _PRINTED
    return _filled(columns, groups)


def comparison(groups):
    """Returns the table of all that the paper prints.

    Args:
        groups: What `grouping.groups` returned, by the name of the
            experiment.
    """
    return [
        {"experiment": name, **row}
        for name, own in groups.items()
        for row in _filled(_COMPARISON, [g for g in own if g.run.row.paper])
    ]


def markdown(header, rows):
    """Returns a table in Markdown, from rows of strings."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _filled(columns, groups):
    """Returns a row a group, each cell of which is a function of the group."""
    return [
        {name: cell(group) for name, cell in columns.items()}
        for group in groups
    ]


def _pairs(groups):
    """Returns each network dense and pruned, by schedule (Table 2)."""
    table = []
    for model in dict.fromkeys(g.run.settings.model for g in groups):
        own = [g for g in groups if g.run.settings.model == model]
        ran = list(filter(was_run, own)) or own[:1]
        for schedule in dict.fromkeys(map(_schedule, ran)):
            dense = [g for g in own if not g.run.settings.sparsity]
            sparse = [g for g in own if g.run.settings.sparsity]
            table.append(_pair(_at(schedule, dense), _at(schedule, sparse)))
    return table


def _schedule(group):
    settings = group.run.settings
    return settings.recipe, settings.dataset, group.run.backend


def _at(schedule, groups):
    """Returns the group of a schedule; one that was not run is empty."""
    empty = groups[0]._replace(lines=[], failed=0)
    return next((g for g in groups if _schedule(g) == schedule), empty)


def _pair(*both):
    """Returns the row of a network: dense, and pruned."""
    dense, sparse = both
    ran = dense if was_run(dense) or not was_run(sparse) else sparse
    change = nothing_of(*both)
    if dense.lines and sparse.lines:
        change = f"{sparse.test_error - dense.test_error:+.2f}"
    rows = [group.run.row for group in both]
    paper_change = rows[1].paper_error - rows[0].paper_error
    return {
        "network": label(ran, ran.run.settings.model),
        "sparsity": f"{sparse.run.settings.sparsity:g}",
        "weights": _arrow(map(_kept, both)),
        "printed": _arrow(row.parameters for row in rows),
        "iterations": _iterations(ran),
        "seeds": _arrow(map(_seeds, both)),
        "test error": _arrow(map(_error, both)),
        "Δ": change,
        "paper": _arrow(row.paper for row in rows),
        "paper's Δ": f"{paper_change:+.2f}",
        "difference": _arrow(map(_to_paper, both)),
    }


def _arrow(cells):
    before, after = cells
    if before == after and before in (NOT_RUN, FAILED, _NO_NUMBER):
        return before
    return f"{before} → {after}"


def _kept_by_data(groups):
    """Returns what is kept at each sparsity of a data set (Figure 2)."""
    table, by_data = [], {}
    for group in groups:
        data = label(group, group.run.row.settings.dataset)
        by_data.setdefault(data, []).append(group)
    for data, own in by_data.items():
        lines = [line for group in own for line in group.lines]
        for sparsity in own[0].run.row.sparsities:
            key, nothing = f"{sparsity:g}", nothing_of(*own)
            first = [sum(line["kept_per_pixel"][key]) for line in lines]
            row = {
                "data": data,
                "sparsity": key,
                "classes": f"{sum(bool(group.lines) for group in own)}",
                "seeds": f"{len({line['seed'] for line in lines})}",
                "weights kept": _counts(line["kept"][key] for line in lines),
                "of them in the first layer, mean over classes": (
                    first and f"{statistics.fmean(first):,.0f}"
                ),
            }
            table.append({name: cell or nothing for name, cell in row.items()})
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


def _last_loss(group):
    losses = [line["train_cross_entropies"][-1] for line in group.lines]
    return f"{statistics.fmean(losses):.4f}" if losses else nothing_of(group)


def _authors(group):
    error = group.run.row.authors
    return _NO_NUMBER if error is None else f"{error:.2f}"


def _to_paper(group):
    return _difference(group, group.run.row.paper_error)


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
_HOW = {"iterations": _iterations, "seeds": _seeds}
_RUN = {"run": label, "weights kept": _kept, **_HOW}
_ERRORS = _RUN | {
    "test error": _error,
    "at best validation": lambda g: _error(g, "test_error_at_best_validation"),
}
_PRINTED = {
    "paper": lambda g: g.run.row.paper or "not printed",
    "difference": _to_paper,
}
_FITS = _RUN | {
    "training cross-entropy, last period": _last_loss,
    "training error, last period": lambda g: _error(g, "train_error"),
    "test error": _error,
}
_COMPARISON = {
    "run": label,
    "paper": lambda g: g.run.row.paper,
    "authors' code": _authors,
    "ours": _error,
    **_HOW,
    "to the paper": _to_paper,
    "to the authors' code": lambda g: _difference(g, g.run.row.authors),
}
_TABLES = {"table_2": _pairs, "figure_2": _kept_by_data}
