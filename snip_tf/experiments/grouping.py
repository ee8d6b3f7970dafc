"""The recorded runs of an experiment, those of all seeds taken together."""

import dataclasses

import pandas

from snip_tf.experiments import paper, records, rows

NOT_RUN, FAILED = "not run", "failed"
_MEASURES = ("test_error", "test_error_at_best_validation", "train_error")


def groups(name, lines):
    """Returns what was run of an experiment, a named tuple a group.

    Runs that differ in nothing but the seed are a group. Groups are in the
    order of the rows; of a row, first those on its own data, then those of the
    longest schedule. A row without a run is an empty group.

    Args:
        name: A name of `paper.EXPERIMENTS`.
        lines: What `records.read` returned.

    Returns:
        A list of tuples: `run`, one of the runs with seed 0; `lines`, those of
        the finished runs by seed; `failed`, how many more failed; and, NaN
        where there are too few lines, the mean over them of `test_error`,
        `test_error_at_best_validation` and `train_error`, with sample standard
        deviations of the same names and `_std`.
    """
    known = paper.EXPERIMENTS[name].rows
    found = records.by_run(name, lines)
    # Of the rows that were not run, runs without a line.
    missing = set(known) - {run.row for run in found}
    found |= {rows.Run(row, row.at()): None for row in missing}

    def place(run):
        steps = run.settings.recipe.steps
        order = known.index(run.row), not run.is_on_own_data, -steps
        return *order, run.backend, run.settings.seed

    ordered = sorted(found, key=place)
    frame = pandas.DataFrame(
        [found[run] or {} for run in ordered], columns=[*_MEASURES, "error"]
    ).astype(dict.fromkeys(_MEASURES, float))
    frame["run"] = [_seedless(run) for run in ordered]
    frame["line"] = [found[run] for run in ordered]
    table = frame.groupby("run", sort=False).agg(
        lines=("line", _finished),
        failed=("error", "count"),
        **{measure: (measure, "mean") for measure in _MEASURES},
        **{f"{measure}_std": (measure, "std") for measure in _MEASURES},
    )
    return list(table.reset_index().itertuples(name="Group", index=False))


def _seedless(run):
    settings = dataclasses.replace(run.settings, seed=0)
    return dataclasses.replace(run, settings=settings)


def _finished(lines):
    return [line for line in lines if line and "error" not in line]


def label(group, name=None):
    """Returns a name, that of its row, with how a group departs from it."""
    departures = (f"({departure})" for departure in group.run.departures)
    return " ".join([name or group.run.row.name, *departures])


def was_run(group):
    """Returns whether any run of a group was made, if only to fail."""
    return bool(group.lines or group.failed)


def nothing_of(*groups):
    """Returns why there is no number of groups without a finished run."""
    return FAILED if any(group.failed for group in groups) else NOT_RUN
