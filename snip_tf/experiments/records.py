"""Recorded runs: a file of lines of JSON, one a run.

A run is known by its settings, not by its place.
"""

import dataclasses
import json

from snip_tf import _atomic, training
from snip_tf.experiments import paper, rows, runs

# Where a run happened to be made, which is no one else's business.
_LOCAL = ("data_dir", "pruned_model")


def line_of(experiment_name, run, result):
    """Returns the line of a run.

    Args:
        experiment_name: A name of `paper.EXPERIMENTS`.
        run: The `rows.Run`.
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
    recipe = {**given["recipe"], "drops": tuple(given["recipe"]["drops"])}
    return runs.Settings(**{**given, "recipe": training.Recipe(**recipe)})


def append(path, line):
    """Appends a line to a file, whole or not at all."""
    written = path.read_text(encoding="utf-8") if path.exists() else ""
    written += json.dumps(line, separators=(",", ":")) + "\n"
    with _atomic.replaced(path) as new:
        new.write_text(written, encoding="utf-8")


def read(path):
    """Returns the lines of a file as dicts; none if there is no file."""
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


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
    """Returns what other experiments have run, as lines of this one, by run.

    Args:
        experiment_name: A name of `paper.EXPERIMENTS`.
        planned: Its `rows.Run`s.
        lines: Lines of any experiments.
    """
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
