"""Recorded runs: one line of JSON each, appended to a file and never changed.

A run is known by its settings, not by its place. A line that was cut short when
its writer was killed is passed over, and the run counts as missing.
"""

import collections
import dataclasses
import json
import os
import pathlib
import statistics

from absl import logging

from snip_tf import training
from snip_tf.experiments import paper, rows, runs

# Where a run happened to be made, which is no one else's business.
_LOCAL = ("data_dir", "pruned_model")


@dataclasses.dataclass(frozen=True)
class Run:
    """One training, or one scoring where the row says so.

    Attributes:
        row: The `rows.Row` it belongs to.
        settings: Its `runs.Settings`; its `data_dir` is None.
        backend: The Keras backend it is trained on.
    """

    row: rows.Row
    settings: runs.Settings
    backend: str = "tensorflow"

    @property
    def name(self):
        """What it is called in reports, unique within an experiment."""
        return f"{self.row.name}-seed{self.settings.seed}"

    @property
    def key(self):
        """What tells it from all other runs of an experiment."""
        return self.row.name, self.settings, self.backend

    @property
    def is_on_own_data(self):
        """Whether it is on the data set that its row names."""
        return self.settings.dataset == self.row.settings.dataset

    @property
    def departures(self):
        """What it is on besides what its row says: data set and backend."""
        backends = [] if self.backend == "tensorflow" else [self.backend]
        data = [] if self.is_on_own_data else [self.settings.dataset]
        return data + backends

    @property
    def is_shortened(self):
        """Whether it trains for fewer iterations than the full recipe."""
        full = training.RECIPES[self.settings.dataset].steps
        return not self.row.sparsities and self.settings.recipe.steps < full

    @property
    def schedule(self):
        """How long it trains, in words; what is shortened says so."""
        steps = f"{self.settings.recipe.steps:,}"
        if self.row.sparsities:
            return "no steps"
        if not self.is_shortened:
            return f"{steps} steps"
        full = training.RECIPES[self.settings.dataset].steps
        return f"shortened: {steps} of {full:,} steps"


@dataclasses.dataclass(frozen=True)
class Group:
    """The runs of a row that differ in nothing but the seed.

    Attributes:
        run: One of them, with seed 0.
        lines: Their lines, by seed; none if it was not run, or failed.
        failed: How many more were run and failed.
    """

    run: Run
    lines: tuple[dict, ...] = ()
    failed: int = 0

    @property
    def was_run(self):
        """Whether any of them was run, if only to fail."""
        return bool(self.lines or self.failed)

    def values(self, name):
        """Returns one number of each line."""
        return [line[name] for line in self.lines]

    def mean(self, name):
        """Returns the mean over the seeds."""
        return statistics.fmean(self.values(name))

    def deviation(self, name):
        """Returns the sample standard deviation, None for a single seed."""
        values = self.values(name)
        return statistics.stdev(values) if len(values) > 1 else None


def line_of(experiment_name, run, result):
    """Returns the line of a run.

    Args:
        experiment_name: A name of `paper.EXPERIMENTS`.
        run: The `Run`.
        result: What came of it, or {"error": ...} if it failed.
    """
    line = {
        "experiment": experiment_name,
        "row": run.row.name,
        "backend": run.backend,
        "shortened": run.is_shortened,
        **dataclasses.asdict(run.settings),
        **result,
    }
    return {name: value for name, value in line.items() if name not in _LOCAL}


def settings_of(values):
    """Returns the `Settings` among the values of a line or of a job.

    What a line was written too early to have takes its default.
    """
    names = {field.name for field in dataclasses.fields(runs.Settings)}
    given = {name: values[name] for name in names & set(values)}
    recipe = dict(given["recipe"])
    recipe["drops"] = tuple(recipe["drops"])
    given["recipe"] = training.Recipe(**recipe)
    return runs.Settings(**given)


def append(path, line):
    """Appends a line to a file in one write, and has it reach the disk.

    Raises:
        OSError: If it could not be written whole. What was is passed over by
            `read`.
    """
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(line, separators=(",", ":")) + "\n"
    with open(path, "ab+", buffering=0) as file:
        if file.tell():
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                text = "\n" + text  # ends a line that was cut short
        content = text.encode("utf-8")
        if file.write(content) != len(content):
            raise OSError(f"The disk must have room for a line of {path}")
        os.fsync(file.fileno())


def read(path):
    """Returns the whole lines of a file as dicts; none if there is no file."""
    path = pathlib.Path(path)
    if not path.exists():
        return []
    lines = []
    text = path.read_text(encoding="utf-8")
    for number, written in enumerate(text.splitlines(), 1):
        if not written:
            continue
        try:
            lines.append(json.loads(written))
        except ValueError:
            logging.warning("%s: line %d is cut short", path.name, number)
    return lines


def of_others(experiment_name, lines):
    """Returns what other experiments trained, by settings and backend.

    Args:
        experiment_name: A name of `paper.EXPERIMENTS`.
        lines: Lines of any experiments, also of files that hold none.
    """
    return {
        (settings_of(line), line["backend"]): line
        for line in lines
        if "test_error" in line
        and "taken_from" not in line
        and line.get("experiment", experiment_name) != experiment_name
    }


def can_be_taken_over(run, line):
    """Returns whether a line has the pictures that a run is to have, if any."""
    return "mean_image" in line or not run.row.pictures


def taken_over(experiment_name, run, line):
    """Returns the line of a run that another experiment made."""
    return {
        **line,
        "experiment": experiment_name,
        "row": run.row.name,
        "taken_from": line["experiment"],
    }


def by_run(experiment_name, lines):
    """Returns the latest line of each run: its key and the line.

    A result outdoes a failure. Lines that belong to no row as it stands now,
    because the row was changed, are left out.
    """
    known = _rows(experiment_name)
    found = {}
    for line in lines:
        run = _run_of(known, line)
        if run is None:
            continue
        _, earlier = found.get(run.key, (run, line))
        if "error" not in line or "error" in earlier:
            found[run.key] = run, line
    return found


def _rows(experiment_name):
    """Returns the rows of an experiment by their names."""
    described = paper.EXPERIMENTS[experiment_name]
    return {row.name: row for row in described.rows}


def _run_of(known, line):
    """Returns the `Run` of a line, None if no row makes such a run."""
    row = known.get(line["row"])
    if row is None:
        return None
    settings = settings_of(line)
    try:
        expected = row.at(
            seed=settings.seed,
            steps=settings.recipe.steps,
            dataset=settings.dataset,
        )
    except ValueError:  # its spacing of validations does not fit any more
        return None
    if settings != expected:
        return None
    return Run(row, settings, line["backend"])


def strays(experiment_name, lines):
    """Returns the lines of runs that no row makes as it stands now."""
    known = _rows(experiment_name)
    return [line for line in lines if _run_of(known, line) is None]


def groups(experiment_name, lines):
    """Returns the runs that were made in `Group`s, in the order of the rows.

    Runs of other schedules, data or backends are groups of their own: first
    those on the row's own data, then the longest schedule. A row without a
    run is an empty group.
    """
    found = collections.defaultdict(list)
    failed = collections.Counter()
    for run, line in by_run(experiment_name, lines).values():
        seedless = dataclasses.replace(
            run, settings=dataclasses.replace(run.settings, seed=0)
        )
        if "error" in line:
            failed[seedless] += 1
        else:
            found[seedless].append(line)
    result = []
    for row in paper.EXPERIMENTS[experiment_name].rows:
        own = [run for run in {**found, **failed} if run.row == row]
        own.sort(key=_order)
        for run in own:
            of_run = sorted(found[run], key=lambda line: line["seed"])
            result.append(Group(run, tuple(of_run), failed[run]))
        if not own:
            result.append(Group(Run(row, row.at())))
    return result


def _order(run):
    return not run.is_on_own_data, -run.settings.recipe.steps, run.backend
