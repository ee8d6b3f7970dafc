"""Times masked networks against stock Keras, interleaved, in one process.

    python scripts/benchmark.py --what=step,prune,memory

step    one training step, masked at the paper's sparsity against the same
        network of plain Keras layers: same optimiser, loss, batches.
prune   one call of snip_tf.prune, traced, against a stock training step.
memory  the peak of a process that prunes, against one that trains.

The images are noise. Times are medians over rounds in which each takes its
turn; read the ratios.
"""

import multiprocessing
import resource
import statistics
import time

import environment  # noqa: F401

import keras
import numpy as np
from absl import flags

import program
import run_directory
import snip_tf
from snip_tf import data, models, training

# Lee et al. 2019, Tables 1 and 2.
SPARSITIES = {
    "lenet_300_100": 0.95,
    "lenet_5_caffe": 0.98,
    "alexnet_s": 0.9,
    "alexnet_b": 0.9,
    "vgg_c": 0.95,
    "vgg_d": 0.95,
    "vgg_like": 0.97,
    "wrn_16_8": 0.95,
    "wrn_16_10": 0.95,
    "wrn_22_8": 0.95,
    "lstm_s": 0.95,
    "lstm_b": 0.95,
    "gru_s": 0.95,
    "gru_b": 0.95,
}
_SMALL = ["lenet_300_100", "lenet_5_caffe"]
_KINDS = ("step", "prune", "memory")
_HALF = np.float32(0.5), np.float32(0.3)  # mean and deviation of noise

_WHAT = flags.DEFINE_list("what", ["step", "prune"], "step, prune, memory.")
_MODELS = flags.DEFINE_list("models", _SMALL, "The networks, or all.")
_ROUNDS = flags.DEFINE_integer("rounds", 101, "Rounds.", lower_bound=2)
_STEPS = flags.DEFINE_integer(
    "steps_per_execution", 50, "Training steps a round.", lower_bound=1
)


def main():
    """Runs the script."""
    if _MODELS.value == ["all"]:
        _MODELS.value = list(SPARSITIES)
    for flag, known in (("what", _KINDS), ("models", tuple(SPARSITIES))):
        for value in flags.FLAGS[flag].value:
            if value not in known:
                raise ValueError(
                    f"--{flag} must be of {', '.join(known)}. Received: {value}"
                )
    place = run_directory.surroundings()
    print(
        f"{place['processor']}, {place['cores']} cores, TensorFlow "
        f"{place['versions']['tensorflow']}, Keras {place['versions']['keras']}"
    )
    for name in _MODELS.value:
        # Apart from each other: what one leaves in the caches slows the next.
        for what in ("step", "prune"):
            if what in _WHAT.value:
                compare_times(name, what, _ROUNDS.value, _STEPS.value)
        if "memory" in _WHAT.value:
            compare_memory(name)


def compare_times(name, what, rounds, steps):
    """Prints the times of one network."""
    masked, examples, recipe = _task(name)
    fresh = masked.get_weights()
    prune = _pruning(name, masked, examples, recipe)
    prune()
    stock = keras.models.clone_model(snip_tf.strip(masked))
    turns = {"stock step": (steps, _steps(stock, examples, recipe, steps))}
    if what == "step":
        pruned = keras.models.clone_model(masked)
        pruned.set_weights(masked.get_weights())
        turns["masked step"] = steps, _steps(pruned, examples, recipe, steps)
    if what == "prune":
        single = keras.models.clone_model(stock)
        turns["stock step in a call"] = 1, _steps(single, examples, recipe, 1)
        turns["prune"] = 1, prune
    seconds = {turn: [] for turn in turns}
    for round_number in range(rounds + 1):
        for turn, (times, run) in turns.items():
            if turn == "prune":
                masked.set_weights(fresh)  # a new network, every mask one
            elapsed = _seconds(run) / times
            if round_number:  # the first traces
                seconds[turn].append(elapsed)
    medians = {
        turn: _report(name, turn, values) for turn, values in seconds.items()
    }
    for above, below in (
        ("masked step", "stock step"),
        ("prune", "stock step"),
        ("prune", "stock step in a call"),
    ):
        if above in medians:
            ratio = medians[above] / medians[below]
            print(f"{name:16}{above} / {below}: {ratio:.2f}", flush=True)


def compare_memory(name):
    """Prints the peak memory of a process that trains and one that prunes."""
    processes = multiprocessing.get_context("spawn")
    peaks = {}
    for what in ("stock step", "prune"):
        with processes.Pool(1) as pool:
            peaks[what] = pool.apply(_peak, (name, what))
        print(f"{name:16}{what:24}{peaks[what]:8.0f} MB at its peak")
    ratio = peaks["prune"] / peaks["stock step"]
    print(f"{name:16}prune / stock step, memory: {ratio:.2f}", flush=True)


def _peak(name, what):
    """Returns the peak resident memory of this process, in MB."""
    model, examples, recipe = _task(name)
    if what == "prune":
        run = _pruning(name, model, examples, recipe)
    else:
        stock = snip_tf.strip(model)
        del model
        run = _steps(stock, examples, recipe, 1)
    for _ in range(3):
        run()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _task(name):
    """Returns a new network, noise in its shape, and its recipe."""
    model = models.build(name)
    shape = model.input_shape[1:]
    generator = np.random.default_rng(0)
    noise = data.Split(
        generator.integers(0, 256, (1000, *shape), dtype=np.uint8),
        generator.integers(0, 10, 1000),
    )
    examples = data.Data("noise", noise, noise, noise, *_HALF, 10)
    recipe = training.RECIPES["mnist" if shape[0] == 28 else "cifar10"]
    return model, examples, recipe


def _pruning(name, model, examples, recipe):
    """Returns a function that prunes the model at the paper's sparsity."""
    x, y = data.scoring_batch(examples, size=recipe.batch_size, seed=0)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    return lambda: snip_tf.prune(
        model, x, y, sparsity=SPARSITIES[name], loss=loss
    )


def _steps(model, examples, recipe, steps_per_execution):
    """Returns a function that runs one execution of training steps."""
    training.compile_model(
        model, recipe, steps_per_execution=steps_per_execution
    )
    batches = data.training_batches(
        examples, batch_size=recipe.batch_size, seed=0
    )
    iterator = iter(batches)
    model.make_train_function()
    return lambda: model.train_function(iterator)


def _seconds(run):
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def _report(name, what, seconds):
    median = statistics.median(seconds)
    low, *_, high = statistics.quantiles(seconds, n=10)
    print(
        f"{name:16}{what:24}{1e3 * median:10.2f} ms   "
        f"(10th to 90th percentile {1e3 * low:.2f} to {1e3 * high:.2f})",
        flush=True,
    )
    return median


if __name__ == "__main__":
    program.run(main)
