"""How long runs and steps take: from recorded runs, else a short table."""

import statistics

import keras

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
# Others take longer there. JAX from 1.5 times (LeNet-300-100) to 8 times
# (VGG-like), PyTorch from twice (LeNet-5-Caffe, LSTM-s) to 3 times.
FACTORS = {"tensorflow": 1, "jax": 4, "torch": 2}
# Starting a process, loading, tracing, validating and testing a LeNet.
FIXED_SECONDS = 12.0
# A shorter run spends most of its time tracing.
_LEAST_SECONDS = 10.0
# Before a signal to stop is seen.
_SECONDS_AT_A_TIME = 2.0


def run_seconds(run, lines, *, done=0):
    """Returns about how many seconds a `rows.Run` takes after `done` steps.

    The median of the recorded lines of its network counts, if there are any.
    """
    if run.row.sparsities:
        return FIXED_SECONDS
    model = run.settings.model
    measured = [
        line["train_seconds"]
        / (line["recipe"]["steps"] - line.get("pretraining_steps", 0))
        for line in lines
        if (line["model"], line["backend"]) == (model, run.backend)
        and line.get("train_seconds", 0) >= _LEAST_SECONDS
    ]
    step = FACTORS[run.backend] * STEP_SECONDS[model]
    step = statistics.median(measured or [step])
    return FIXED_SECONDS + step * (run.settings.recipe.steps - done)


def steps_at_a_time(model, period):
    """Returns how many steps Keras runs between two looks at the callbacks.

    They divide the period. Many on a small network, which else spends half of
    the time outside of its steps; few on a large one: signals have to wait.
    """
    if keras.backend.backend() == "torch":
        return 1  # Keras takes no more there
    most = int(_SECONDS_AT_A_TIME / STEP_SECONDS.get(model, 1))
    return largest_divisor(period, max(1, min(most, 50)))


def largest_divisor(number, most):
    """Returns the largest divisor of a number that is at most `most`."""
    return max(n for n in range(1, most + 1) if not number % n)


def clock(seconds):
    """Returns seconds as hours and minutes, "2:05 h", or less, "0:09 min"."""
    seconds = round(seconds)
    if seconds < 3_600:
        return f"{seconds // 60}:{seconds % 60:02} min"
    minutes = round(seconds / 60)
    return f"{minutes // 60}:{minutes % 60:02} h"
