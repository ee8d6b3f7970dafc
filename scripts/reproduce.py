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
from absl import flags

from snip_tf.experiments import campaign, paper, processes, program, records

_EXPERIMENT = flags.DEFINE_enum(
    "experiment", None, paper.EXPERIMENTS, "What to reproduce."
)
_RESULTS_DIR = flags.DEFINE_string(
    "results_dir", "results", "Where the lines, the table and the picture are."
)
_RUNS_DIR = flags.DEFINE_string(
    "runs_dir", "runs", "Where runs and their logs are until they are done."
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
    "The Keras backend to train on; pruned is under TensorFlow in any case.",
)
_CORES = len(processes.usable_cores())
_WORKERS = flags.DEFINE_integer(
    "workers",
    _CORES,
    "Processes at a time, which share the cores; by default one a core.",
    lower_bound=1,
    upper_bound=_CORES,
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
_OF_RUNS = ("backend", "data_dir", "dataset", "dry_run", "only")
_OF_RUNS += ("retry_failed", "runs_dir", "seeds", "steps", "workers")


def _excludes(flag, value, others, why):
    """Refuses other flags where one has a value."""
    for other in others:
        flags.register_multi_flags_validator(
            [flag, other],
            lambda given, other=other: (
                given[flag] != value or not flags.FLAGS[other].present
            ),
            why,
        )


_excludes("draw_only", True, _OF_RUNS, "--draw_only runs nothing")
_excludes("experiment", "figure_2", ("backend", "steps"), "trains nothing")
flags.register_multi_flags_validator(
    ["experiment", "draw_only"],
    lambda given: given["experiment"] or given["draw_only"],
    f"--experiment must be one of {', '.join(paper.EXPERIMENTS)}",
)


def main():
    """Runs the script."""
    # What is missing is said now, not after the runs.
    jax = ["jax"] if _BACKEND.value == "jax" else []
    for package in ("matplotlib", "pandas", *jax):
        if not importlib.util.find_spec(package):
            extra = "jax" if package == "jax" else "demo"
            raise ImportError(
                f"This needs {package}: pip install 'snip_tf[{extra}]'"
            )
    from snip_tf.experiments import report

    name, results = _EXPERIMENT.value, pathlib.Path(_RESULTS_DIR.value)
    if _DRAW_ONLY.value:
        report.write([name] if name else report.recorded(results), results)
        return
    work = campaign.Campaign(
        name,
        paper.EXPERIMENTS[name].runs(
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
        workers=_WORKERS.value,
        lines=sum(map(records.read, sorted(results.glob("*.jsonl"))), []),
    )
    if _DRY_RUN.value:
        print(work.listing())
        return
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        lost = work.execute()
    except KeyboardInterrupt:
        print("\nThe same command goes on with what is missing.")
        raise
    recorded = work.failures()
    failed = recorded | lost
    if work.path.exists():
        report.write([name], results)
    if failed:
        print(f"{len(failed)} of {len(work.runs)} runs failed:")
        for run_name, error in failed.items():
            print(f"  {run_name}: {error}")
        if lost:
            print("The same command goes on with what lost its process.")
        if recorded:
            print("--retry_failed runs again what failed.")
        sys.exit(1)


if __name__ == "__main__":
    program.run(main)
