"""Runs what a figure or table of the paper shows, then draws it.

    python scripts/reproduce.py --experiment=figure_1

Each run is a line of results/NAME.jsonl; started again, only what is missing
is run, from its last checkpoint on, and what another experiment has run is
taken over. What failed is run again once its line is deleted. From the lines
alone come results/NAME.png and results/NAME.md.
"""

import importlib
import os
import pathlib
import sys

import environment
from absl import app, flags

from snip_tf import gradients
from snip_tf.experiments import (
    campaign,
    paper,
    processes,
    program,
    ray_jobs,
)

_EXPERIMENT = flags.DEFINE_enum(
    "experiment", None, paper.EXPERIMENTS, "What to reproduce."
)
_RESULTS_DIR = flags.DEFINE_string(
    "results_dir", "results", "Where the lines, the table and the picture are."
)
_DRAW_ONLY = flags.DEFINE_bool(
    "draw_only",
    False,
    "Run nothing, draw what is recorded: of all experiments, or of one.",
)
flags.DEFINE_string(
    "runs_dir", "runs", "Where runs and their logs are until they are done."
)
flags.DEFINE_string("data_dir", None, "In the place of TFDS_DATA_DIR.")
flags.DEFINE_enum(
    "dataset",
    "mnist",
    ["mnist", "fashion_mnist", "mnist_5k"],
    "What takes the place of MNIST.",
)
flags.DEFINE_integer(
    "seeds", None, "By default the experiment's own number.", 1
)
flags.DEFINE_string("only", "", "A regular expression: of runs with it.")
flags.DEFINE_integer("steps", None, "Of each run; by default its row's.", 1)
flags.DEFINE_enum(
    "backend",
    "tensorflow",
    gradients.BACKENDS,
    "The Keras backend to prune and to train on.",
)
_CORES = len(processes.usable_cores())
flags.DEFINE_integer(
    "workers", _CORES, "Processes, which share the cores.", 1, _CORES
)
_EXECUTOR = flags.DEFINE_enum(
    "executor",
    "local",
    ["local", "ray"],
    "Processes of this machine, or workers of a Ray cluster: a CPU for each "
    "run, or a GPU if it has any.",
)
flags.DEFINE_string(
    "ray_address", "auto", "host:port of the cluster; auto: of this machine."
)
flags.DEFINE_bool("dry_run", False, "Only list the runs, and estimate.")

_PLAN = ("seeds", "steps", "dataset", "backend", "only")
_OF_RUNS = (*_PLAN, "runs_dir", "data_dir", "workers", "dry_run")
_OF_RUNS += ("executor", "ray_address")


def main():
    """Runs the script."""
    name, results = _EXPERIMENT.value, pathlib.Path(_RESULTS_DIR.value)
    # Without matplotlib it ends now, not after the runs.
    report = importlib.import_module("snip_tf.experiments.report")
    if _DRAW_ONLY.value:
        program.refuse(_OF_RUNS, "--draw_only runs nothing")
        report.write(results, name)
        return
    if not name:
        raise app.UsageError("--experiment must be given, or --draw_only")
    if name == "figure_2":
        why = "figure_2 trains nothing, on MNIST and Fashion-MNIST"
        program.refuse(["backend", "dataset", "steps"], why)
    given = {flag: flags.FLAGS[flag].value for flag in _OF_RUNS}
    if given["data_dir"]:
        os.environ["TFDS_DATA_DIR"] = given["data_dir"]
    environment.check_backend(given["backend"])
    workers, replies = given["workers"], processes.replies
    if _EXECUTOR.value == "ray":
        program.refuse(["workers"], "A cluster has workers of its own")
        workers = ray_jobs.connect(given["ray_address"])
        replies = ray_jobs.replies
    else:
        program.refuse(["ray_address"], "--executor=local needs no cluster")
    work = campaign.Campaign(
        name,
        paper.EXPERIMENTS[name].runs(**{flag: given[flag] for flag in _PLAN}),
        results=results,
        runs_dir=pathlib.Path(given["runs_dir"]),
        workers=workers,
        replies=replies,
    )
    if given["dry_run"]:
        print(work.listing())
        return
    failures = work.execute()
    if failures < len(work.runs):  # else there is nothing to draw
        report.write(results, name)
    if failures:
        sys.exit(f"{failures} of {len(work.runs)} runs failed.")


if __name__ == "__main__":
    program.run(main)
