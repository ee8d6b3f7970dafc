"""The tables of the experiments: what stands in them, cell by cell.

No cell is filled that was not run. A table is a list of a dict for each row,
column to cell.
"""

import dataclasses
import itertools
import statistics

from snip_tf.experiments import method_runs, rivals

_RUN = ("run", "weights kept", "iterations", "seeds")
_BEST = "best of the last five on the test set"
_ERRORS = (*_RUN, "test error", "at best validation", _BEST)
_FITS = (
    *_RUN,
    "training cross-entropy, last period",
    "training error, last period",
    "test error",
)
_COMPARISON = ("run", "paper", "authors' code", *_ERRORS[4:])
_COMPARISON += ("iterations", "seeds", "to the paper", "to the authors' code")


def of_experiment(name, groups):
    """Returns the table of an experiment from its `records.groups`."""
    if name == "table_2":
        return _pairs(groups)
    if name == "figure_2":
        return _kept_by_data(groups)
    if name == "criteria":
        return _criteria(groups)
    if name == "rivals":
        return _rivals(groups)
    columns = _FITS if name == "figure_4" else _ERRORS
    if any(group.run.row.paper for group in groups):
        columns += ("paper", "difference")
    return _table(columns, groups)


def comparison(groups):
    """Returns the table of all that the paper prints.

    Args:
        groups: The `records.groups` of each experiment, by its name.
    """
    return [
        {"experiment": name, **row}
        for name, own in groups.items()
        # Searches have pages of their own; the best protocol is in Table 1.
        if name not in ("protocol", "recurrent", "rivals")
        for row in _table(_COMPARISON, [g for g in own if g.run.row.paper])
    ]


def quoted():
    """Returns the table of what the paper quotes of other methods."""
    columns = ("method", "criterion", "LeNet-300-100, sparsity", "error")
    columns += ("LeNet-5-Caffe, sparsity", "its error")
    return [
        dict(zip(columns, (name, criterion, *map(str, numbers)), strict=True))
        for name, criterion, *pairs in rivals.QUOTED.values()
        for numbers in [itertools.chain(*pairs)]
    ]


def markdown(table):
    """Returns a table in Markdown."""
    lines = [table[0], ["---"] * len(table[0])]
    lines += [row.values() for row in table]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _table(columns, groups):
    return [
        {column: cells[column] for column in columns}
        for cells in map(_cells, groups)
    ]


def _cells(group):
    """Returns all that can stand in the row of a group, column to cell."""
    run, row, lines = group.run, group.run.row, group.lines
    star = "\\*" if run.is_shortened else ""
    steps = f"{run.settings.recipe.steps:,}{star}"
    of = f" of {len(lines) + group.failed}" if group.failed else ""
    losses = [line["train_cross_entropies"][-1] for line in lines]
    cells = {
        "run": row.name,
        "weights kept": _counts(line["kept"] for line in lines),
        "iterations": group.was_run and ", ".join([steps, *run.departures]),
        "seeds": group.was_run and f"{len(lines)}{of}",
        "test error": error(group, "test_error"),
        "at best validation": error(group, "test_error_at_best_validation"),
        _BEST: error(group, "best_test_error"),
        "training error, last period": error(group, "train_error"),
        "training cross-entropy, last period": (
            losses and f"{statistics.fmean(losses):.4f}"
        ),
        "paper": row.paper or "not printed",
        "difference": _difference(group, row.paper_error),
        "authors' code": f"{row.authors:.2f}" if row.authors else "–",
        "to the authors' code": _difference(group, row.authors),
    }
    cells["to the paper"] = cells["difference"]
    return {column: cell or group.nothing for column, cell in cells.items()}


def _criteria(groups):
    """Returns errors, dead kernels and units by score and sparsity."""
    levels = sorted({group.run.settings.sparsity for group in groups})
    columns = {level: f"{100 * level:g}%" for level in levels}
    table = {}
    for group in groups:
        settings = group.run.settings
        start = {
            "network": settings.model,
            "score": settings.criterion,
            "iterations": f"{settings.recipe.steps:,}",
            **dict.fromkeys(columns.values(), "–"),
        }
        key = settings.model, settings.criterion, settings.recipe.steps
        row = table.setdefault(key, start)
        dead = [_mean(group, f"dead_{what}") for what in ("kernels", "units")]
        cell = [f"{error(group)} ({', '.join(dead)})", *group.run.departures]
        row[columns[settings.sparsity]] = (
            ", ".join(cell) if group.lines else group.nothing
        )
    return list(table.values())


def _mean(group, name):
    values = group.values(name)
    return f"{statistics.fmean(values):,.4g}" if values else "–"


def _rivals(groups):
    """Returns SNIP and its rivals, with what the paper says of each."""
    table = []
    for group in groups:
        settings = group.run.settings
        name, _, *quoted = rivals.QUOTED.get(settings.method, ("SNIP", ""))
        place = rivals.MODELS.index(settings.model)
        before = method_runs.pretraining_steps(settings)
        cells = {
            **_cells(group),
            "method": name,
            "terms": ("published" if rivals.is_published(group) else "equal"),
            "batch": f"{settings.recipe.batch_size}",
            "steps": ", ".join(
                [f"{settings.recipe.steps:,}", *group.run.departures]
            ),
            "network": settings.model,
            "sparsity": _sparsity(group),
            "trained before": f"{before:,}" if before else "no",
            "prunings": rivals.PRUNINGS[settings.method],
            "numbers by hand": f"{method_runs.numbers_by_hand(settings)}",
            "other loss": (
                "yes" if settings.method in rivals.OTHER_LOSS else "no"
            ),
            "quoted": "–",
        }
        if quoted and group.run.row.paper and group.run.is_on_own_data:
            cells["quoted"] = "{} at {}%".format(*reversed(quoted[place]))
        table.append({c: cells[c] or group.nothing for c in _RIVALS})
    return table


_RIVALS = ("network", "method", "terms", "sparsity", "test error", "quoted")
_RIVALS += ("seeds", "batch", "steps", "trained before", "prunings")
_RIVALS += ("numbers by hand", "other loss")


def _sparsity(group):
    """Returns the sparsity reached, or what is asked of those not run."""
    asked = group.run.settings.sparsity
    if values := group.values("sparsity_reached") or asked and [asked]:
        return f"{100 * statistics.fmean(values):.2f}%"
    return ""


def _counts(counts):
    return ", ".join(f"{count:,}" for count in sorted(set(counts)))


def error(group, name="test_error"):
    """Returns the mean of an error and its deviation, as text."""
    if not group.values(name):
        return "–" if group.lines else ""
    spread = f" ± {group.std(name):.2f}" if len(group.lines) > 1 else ""
    return f"{group.mean(name):.2f}{spread}"


def _difference(group, other):
    """Returns ours less another error, and that in our standard deviations."""
    if not group.lines:
        return ""
    if other is None or not group.run.is_on_own_data:
        return "–"
    difference, std = group.mean() - other, group.std()
    # Plus 0: what rounds to zero is not negative.
    text = f"{round(difference, 2) + 0.0:+.2f}"
    if not std > 0:
        return text
    return f"{text} ({round(difference / std, 1) + 0.0:+.1f} sd)"


def _pairs(groups):
    """Returns each network dense and pruned, by schedule (Table 2)."""
    table = []
    for model in dict.fromkeys(g.run.settings.model for g in groups):
        own = [g for g in groups if g.run.settings.model == model]
        dense = [g for g in own if not g.run.settings.sparsity]
        sparse = [g for g in own if g.run.settings.sparsity]
        ran = [g for g in own if g.was_run] or own[:1]
        for schedule in dict.fromkeys(g.run.schedule for g in ran):
            table.append(_pair(_at(schedule, dense), _at(schedule, sparse)))
    return table


def _at(schedule, groups):
    """Returns the group of a schedule; one that was not run is empty."""
    empty = dataclasses.replace(groups[0], lines=[], failed=0)
    return next((g for g in groups if g.run.schedule == schedule), empty)


def _pair(dense, sparse):
    """Returns the cells of a network, dense and pruned."""
    before, after = _cells(dense), _cells(sparse)
    change = (dense if dense.failed else sparse).nothing
    if dense.lines and sparse.lines:
        change = f"{sparse.mean() - dense.mean():+.2f}"
    rows = dense.run.row, sparse.run.row

    def arrow(column):
        both = before[column], after[column]
        if both[0] == both[1] in ("not run", "failed", "–"):
            return both[0]
        return " → ".join(both)

    return {
        "network": sparse.run.settings.model,
        "sparsity": f"{sparse.run.settings.sparsity:g}",
        "weights": arrow("weights kept"),
        "printed": f"{rows[0].parameters} → {rows[1].parameters}",
        "iterations": (before if dense.was_run else after)["iterations"],
        "seeds": arrow("seeds"),
        "test error": arrow("test error"),
        "Δ": change,
        "paper": arrow("paper"),
        "paper's Δ": f"{rows[1].paper_error - rows[0].paper_error:+.2f}",
        "difference": arrow("difference"),
    }


def _kept_by_data(groups):
    """Returns what is kept at each sparsity of a data set (Figure 2)."""
    table = []
    for data in dict.fromkeys(g.run.row.settings.dataset for g in groups):
        own = [g for g in groups if g.run.row.settings.dataset == data]
        lines = [line for group in own for line in group.lines]
        for sparsity in own[0].run.row.sparsities:
            key = f"{sparsity:g}"
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
            nothing = next((g for g in own if g.failed), own[0]).nothing
            table.append({name: cell or nothing for name, cell in row.items()})
    return table
