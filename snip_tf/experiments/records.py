"""Recorded runs: one line of JSON each, appended to a file and never changed.

A run is known by its settings, not by its place. A line that was cut short when
its writer was killed is passed over, and the run counts as missing.
"""

import dataclasses
import json
import os
import pathlib

from absl import logging

from snip_tf import training
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
        try:
            lines += [json.loads(written)] if written else []
        except ValueError:
            logging.warning("%s: line %d is cut short", path.name, number)
    return lines


def by_run(experiment_name, lines):
    """Returns the latest line of each `rows.Run` of an experiment, as a dict.

    A result outdoes a failure. Lines that belong to no row as it stands now,
    because the row was changed, are left out.
    """
    found = {}
    for line in lines:
        run = run_of(experiment_name, line)
        if run and ("error" not in line or "error" in found.get(run, line)):
            found[run] = line
    return found


def run_of(experiment_name, line):
    """Returns the `rows.Run` of a line, None if no row makes such a run."""
    settings = settings_of(line)
    for row in paper.EXPERIMENTS[experiment_name].rows:
        if row.name != line["row"]:
            continue
        try:
            expected = row.at(
                seed=settings.seed,
                steps=settings.recipe.steps,
                dataset=settings.dataset,
            )
        except ValueError:  # its spacing of validations does not fit any more
            return None
        if settings == expected:
            return rows.Run(row, settings, line["backend"])
    return None


def taken_over(experiment_name, planned, lines):
    """Returns the lines of runs that other experiments have made.

    Args:
        experiment_name: A name of `paper.EXPERIMENTS`.
        planned: Its `rows.Run`s.
        lines: Lines of any experiments, also of files that hold none.
    """
    made = {
        (settings_of(line), line["backend"]): line
        for line in lines
        if "test_error" in line
        and "taken_from" not in line
        and line.get("experiment", experiment_name) != experiment_name
    }
    found = []
    for run in planned:
        line = made.get((run.settings, run.backend))
        # Where pictures are drawn, only a line that has them will do.
        if line and ("mean_image" in line or not run.row.pictures):
            found.append(
                {
                    **line,
                    "experiment": experiment_name,
                    "row": run.row.name,
                    "taken_from": line["experiment"],
                }
            )
    return found
