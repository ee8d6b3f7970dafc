"""Runs what a figure or table of the paper shows, then draws it.

    python scripts/reproduce.py --experiment=figure_1

Each run is a line of results/NAME.jsonl; started again, only what is missing
is run, from its last checkpoint on, and what another experiment has run is
taken over. From the lines alone come results/NAME.png and results/NAME.md.
"""

import importlib.util
import pathlib
import signal
import sys

import environment  # noqa: F401
from absl import app, flags

from snip_tf.experiments import (
    estimates,
    paper,
    pool,
    program,
    records,
    report,
    runner,
)

_EXPERIMENT = flags.DEFINE_enum(
    "experiment", None, paper.EXPERIMENTS, "What to reproduce."
)
_RESULTS_DIR = flags.DEFINE_string(
    "results_dir", "results", "Where the lines, the table and the picture are."
)
_RUNS_DIR = flags.DEFINE_string(
    "runs_dir", "runs", "Where runs are kept until they are done."
)
_DATA_DIR = flags.DEFINE_string(
    "data_dir",
    None,
    "TFDS data directory to read; by default TFDS_DATA_DIR, else TFDS' own "
    "directory, into which TFDS downloads.",
)
_DATASET = flags.DEFINE_enum(
    "dataset",
    "mnist",
    ["mnist", "fashion_mnist", "mnist_5k"],
    "What takes the place of MNIST.",
)
_SEEDS = flags.DEFINE_integer(
    "seeds",
    None,
    "The number of seeds, from 0 on; by default the experiment's own.",
    lower_bound=1,
)
_ONLY = flags.DEFINE_string(
    "only", "", "A regular expression: only the runs with it in their names."
)
_STEPS = flags.DEFINE_integer(
    "steps",
    None,
    "Iterations of every run; the drops of the learning rate move in "
    "proportion. By default those of each row.",
    lower_bound=1,
)
_BACKEND = flags.DEFINE_enum(
    "backend",
    "tensorflow",
    ["tensorflow", "jax"],
    "The Keras backend to train on. Networks are built and pruned under "
    "TensorFlow in any case.",
)
_WORKERS = flags.DEFINE_integer(
    "workers",
    None,
    "Processes that share the cores; by default one a core.",
    lower_bound=1,
)
_RETRY_FAILED = flags.DEFINE_bool(
    "retry_failed", False, "Run again what failed before."
)
_DRY_RUN = flags.DEFINE_bool(
    "dry_run", False, "Only list the runs and about how long they take."
)
_DRAW_ONLY = flags.DEFINE_bool(
    "draw_only",
    False,
    "Run nothing, draw what is recorded: of all experiments, or of one.",
)

_TRAINING = ("backend", "steps")
_RUNNING = (
    *_TRAINING,
    "data_dir",
    "dataset",
    "dry_run",
    "only",
    "retry_failed",
    "runs_dir",
    "seeds",
    "workers",
)


def main():
    """Runs the script."""
    name = _EXPERIMENT.value
    _check_flags(name)
    results = pathlib.Path(_RESULTS_DIR.value)
    if _DRAW_ONLY.value:
        report.write([name] if name else report.recorded(results), results)
        return
    campaign = _campaign(name, results)
    if _DRY_RUN.value:
        print(campaign.listing())
        return
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        lost = campaign.execute()
    except KeyboardInterrupt:
        print("\nThe same command goes on with what is missing.")
        raise
    recorded = campaign.failures()
    failed = recorded | lost
    if failed:
        print(f"{len(failed)} of {len(campaign.runs)} runs failed:")
        for run_name, error in failed.items():
            print(f"  {run_name}: {error}")
    if lost:
        print("The same command goes on with what lost its process.")
    if recorded:
        print("--retry_failed runs again what failed.")
    if campaign.path.exists():
        report.write([name], results)
    if failed:
        sys.exit(1)


def _check_flags(name):
    if name is None and not _DRAW_ONLY.value:
        names = ", ".join(paper.EXPERIMENTS)
        raise app.UsageError(f"--experiment must be given: one of {names}")
    if _DRAW_ONLY.value:
        program.refuse(_RUNNING, "--draw_only runs nothing")
    if name and paper.EXPERIMENTS[name].rows[0].sparsities:
        program.refuse(_TRAINING, f"{name} trains nothing")
    cores = len(pool.usable_cores())
    if (_WORKERS.value or 1) > cores:
        raise app.UsageError(
            f"--workers must be at most the number of usable cores, {cores}. "
            f"Received: {_WORKERS.value}"
        )
    # What is missing is said now, not after the runs.
    for package, extra, needed in (
        ("matplotlib", "demo", True),
        ("jax", "jax", _BACKEND.value == "jax"),
    ):
        if needed and not importlib.util.find_spec(package):
            raise ImportError(
                f"This needs {package}: pip install 'snip_tf[{extra}]'"
            )


def _campaign(name, results):
    lines = [
        line
        for path in sorted(results.glob("*.jsonl"))
        for line in records.read(path)
    ]
    return runner.Campaign(
        name,
        runner.plan(
            name,
            seeds=_SEEDS.value,
            steps=_STEPS.value,
            dataset=_DATASET.value,
            backend=_BACKEND.value,
            only=_ONLY.value,
        ),
        path=results / f"{name}.jsonl",
        runs_dir=pathlib.Path(_RUNS_DIR.value),
        data_dir=_DATA_DIR.value,
        retry_failed=_RETRY_FAILED.value,
        workers=_WORKERS.value or len(pool.usable_cores()),
        measured=estimates.step_seconds(lines),
        others=records.of_others(name, lines),
    )


if __name__ == "__main__":
    program.run(main)
