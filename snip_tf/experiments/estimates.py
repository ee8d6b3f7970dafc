"""How long runs will take: from recorded ones, else from a short table."""

import collections
import statistics

# Seconds of one core's time that a step of the dense network takes, on an AMD
# EPYC with AVX-512: batch 100 of MNIST, 128 of CIFAR-10.
STEP_SECONDS = {
    "lenet_300_100": 0.0016,
    "lenet_5_caffe": 0.015,
    "alexnet_s": 0.36,
    "alexnet_b": 0.38,
    "vgg_c": 1.3,
    "vgg_d": 1.7,
    "vgg_like": 1.7,
    "wrn_16_8": 6.6,
    "wrn_16_10": 10.0,
    "wrn_22_8": 9.9,
    "lstm_s": 0.020,
    "lstm_b": 0.066,
    "gru_s": 0.022,
    "gru_b": 0.056,
}
# Where JAX was measured. It takes longer on this processor.
_JAX_STEP_SECONDS = {
    "lenet_300_100": 0.0024,
    "lenet_5_caffe": 0.062,
    "alexnet_s": 1.1,
    "vgg_like": 14.0,
}
# Starting a process, loading, tracing, validating and testing a LeNet.
FIXED_SECONDS = 12.0
# A shorter run spends most of its time tracing.
_LEAST_SECONDS = 10.0


def step_seconds(lines):
    """Returns the median seconds a step took, by (network, backend)."""
    seconds = collections.defaultdict(list)
    for line in lines:
        if line.get("train_seconds", 0) >= _LEAST_SECONDS:
            key = line["model"], line.get("backend", "tensorflow")
            seconds[key].append(line["train_seconds"] / line["recipe"]["steps"])
    return {key: statistics.median(values) for key, values in seconds.items()}


def run_seconds(run, measured, *, steps=None):
    """Returns about how many seconds a run takes.

    Args:
        run: A `rows.Run`.
        measured: What `step_seconds` returned.
        steps: The steps of it to count; by default all.
    """
    if run.row.sparsities:
        return FIXED_SECONDS
    model = run.settings.model
    others = _JAX_STEP_SECONDS if run.backend == "jax" else {}
    known = others.get(model, STEP_SECONDS[model])
    steps = run.settings.recipe.steps if steps is None else steps
    return FIXED_SECONDS + steps * measured.get((model, run.backend), known)


def clock(seconds):
    """Returns seconds as hours and minutes, "2:05 h", or less, "0:09 min"."""
    seconds = round(seconds)
    if seconds < 3_600:
        return f"{seconds // 60}:{seconds % 60:02} min"
    minutes = round(seconds / 60)
    return f"{minutes // 60}:{minutes % 60:02} h"
