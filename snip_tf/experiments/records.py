"""Recorded runs: a file of lines of JSON, one a run, for each experiment.

A run is known by its settings, not by its place.
"""

import dataclasses
import json
import math
import statistics

from snip_tf import _atomic, training
from snip_tf.experiments import paper, rows, run_directory, runs


def line_of(experiment_name, run, result):
    """Returns the line of a run and what came of it, or its {"error": ...}."""
    return {
        "experiment": experiment_name,
        "row": run.row.name,
        "backend": run.backend,
        "shortened": run.is_shortened,
        **dataclasses.asdict(run.settings),
        **result,
    }


def settings_of(values):
    """Returns the `Settings` among the values of a line or of a job.

    What a line was written too early to have takes its default.
    """
    names = {field.name for field in dataclasses.fields(runs.Settings)}
    given = {name: values[name] for name in names & set(values)}
    recipe = {**given["recipe"], "drops": tuple(given["recipe"]["drops"])}
    options = tuple(given.pop("method_options", ()))
    given["recipe"] = training.Recipe(**recipe)
    return runs.Settings(**given, method_options=options)


def append(path, line):
    """Appends a line to a file, whole or not at all."""
    with run_directory.locked(path.parent, wait=True):
        written = path.read_text(encoding="utf-8") if path.exists() else ""
        # Editors can leave the last line without its end.
        written = written.removesuffix("\n") + "\n" if written else ""
        written += json.dumps(line, separators=(",", ":")) + "\n"
        with _atomic.replaced(path) as new:
            new.write_text(written, encoding="utf-8")


def read(path):
    """Returns the lines of a file as dicts; none if there is no file.

    Raises:
        ValueError: If a line is no JSON.
    """
    if not path.exists():
        return []
    found = []
    lines = path.read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines, 1):
        try:
            found += [json.loads(line)] if line else []
        except ValueError as error:
            raise ValueError(
                f"{path} must hold lines of JSON. Received: line {number}, "
                f"{line[:50]!r}"
            ) from error
    return found


def by_run(experiment_name, lines):
    """Returns the latest line of each `rows.Run` of an experiment, as a dict.

    A result outdoes a failure. Lines that belong to no row as it stands now,
    because the row was changed, are left out.
    """
    ordered = sorted(lines, key=lambda line: "error" not in line)
    found = {run_of(experiment_name, line): line for line in ordered}
    found.pop(None, None)
    return found


def run_of(experiment_name, line):
    """Returns the `rows.Run` of a line, None if no row makes such a run."""
    settings = settings_of(line)
    for row in paper.EXPERIMENTS[experiment_name].rows:
        made = row.at(
            seed=settings.seed,
            steps=settings.recipe.steps,
            dataset=settings.dataset,
        )
        if (row.name, made) == (line["row"], settings):
            return rows.Run(row, settings, line["backend"])
    return None


def taken_over(experiment_name, planned, lines):
    """Returns what other experiments have run, as lines of this one, by run."""
    made = {
        (settings_of(line), line["backend"]): line
        for line in lines
        if "test_error" in line
        and "taken_from" not in line
        and line["experiment"] != experiment_name
    }
    found = {}
    for run in planned:
        line = made.get((run.settings, run.backend))
        # Where pictures are drawn, only a line that has them will do.
        if line and ("mean_image" in line or not run.row.pictures):
            own = {"experiment": experiment_name, "row": run.row.name}
            found[run] = line | own | {"taken_from": line["experiment"]}
    return found


@dataclasses.dataclass(frozen=True)
class Group:
    """Runs that differ in nothing but the seed."""

    run: rows.Run  # one of them, with seed 0
    lines: list[dict]  # of those that are finished, by seed
    failed: int  # how many more failed

    @property
    def was_run(self):
        """Whether any run was made, if only to fail."""
        return bool(self.lines or self.failed)

    @property
    def nothing(self):
        """Why there is no number where no run is finished."""
        return "failed" if self.failed else "not run"

    def values(self, name):
        """Returns a number of each line; none at all if one line has none.

        `best_test_error` is the least of a line's last five `test_errors`: the
        authors' code prints the best of the five checkpoints that it keeps.
        """
        if name == "best_test_error":
            return [min(errors[-5:]) for errors in self.values("test_errors")]
        values = [line.get(name) for line in self.lines]
        return [] if None in values else values

    def mean(self, name="test_error"):
        """Returns the mean over the lines."""
        return statistics.fmean(self.values(name))

    def std(self, name="test_error"):
        """Returns the sample standard deviation; NaN of a single line."""
        values = self.values(name)
        return statistics.stdev(values) if len(values) > 1 else math.nan


def groups(name, lines):
    """Returns what was run of an experiment, a list of `Group`s.

    Groups are in the order of the rows; of a row, first those on its own data,
    then those of the longest schedule. A row without a run is an empty group.
    """
    known = paper.EXPERIMENTS[name].rows
    found = by_run(name, lines)
    missing = set(known) - {run.row for run in found}
    found |= {rows.Run(row, row.settings): None for row in missing}

    def place(run):
        steps, seed = run.settings.recipe.steps, run.settings.seed
        return known.index(run.row), run.departures, -steps, seed

    alike = {}
    for run in sorted(found, key=place):
        settings = dataclasses.replace(run.settings, seed=0)
        seedless = dataclasses.replace(run, settings=settings)
        alike.setdefault(seedless, []).append(found[run])
    return [
        Group(
            run,
            [line for line in own if line and "error" not in line],
            sum("error" in (line or ()) for line in own),
        )
        for run, own in alike.items()
    ]
