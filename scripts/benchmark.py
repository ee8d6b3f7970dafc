"""Times masked networks against stock Keras, interleaved, in one process.

    python scripts/benchmark.py --what=step,prune

step   one training step, masked at the paper's sparsity against the same
       network of plain Keras layers: same optimiser, loss, batches.
prune  one call of snip_tf.prune, traced, against the masked training step,
       one of many in an execution and one in a call of its own.

Times are medians over rounds in which each takes its turn; read the ratios.
"""

import statistics
import time

import environment  # noqa: F401

import keras
from absl import flags

import program
import run_directory
import snip_tf
from snip_tf import data, models, training

# Lee et al. 2019, Tables 1 and 2.
SPARSITIES = {"lenet_300_100": 0.95, "lenet_5_caffe": 0.98}

_WHAT = flags.DEFINE_list("what", ["step", "prune"], "step, prune or both.")
_MODELS = flags.DEFINE_list("models", list(SPARSITIES), "The networks.")
_DATASET = flags.DEFINE_enum("dataset", "mnist_5k", data.NAMES, "The data.")
_DATA_DIR = flags.DEFINE_string("data_dir", None, "TFDS data directory.")
_ROUNDS = flags.DEFINE_integer("rounds", 31, "Rounds.", lower_bound=1)
_STEPS = flags.DEFINE_integer(
    "steps_per_execution", 50, "Training steps a round.", lower_bound=1
)


def main():
    """Runs the script."""
    for flag, known in (("what", ("step", "prune")), ("models", models.NAMES)):
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
    examples = data.load(_DATASET.value, data_dir=_DATA_DIR.value)
    for name in _MODELS.value:
        compare(name, examples)


def compare(name, examples):
    """Prints the times of one network."""
    recipe = training.RECIPES[_DATASET.value]
    masked = models.build(
        name, input_shape=examples.image_shape, classes=examples.classes
    )
    fresh = masked.get_weights()
    x, y = data.scoring_batch(examples, size=recipe.batch_size, seed=0)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    def prune():
        snip_tf.prune(masked, x, y, sparsity=SPARSITIES[name], loss=loss)

    prune()
    many = _STEPS.value
    turns = {"step, masked": (many, _steps(masked, examples, recipe, many))}
    if "step" in _WHAT.value:
        stock = _steps(snip_tf.strip(masked), examples, recipe, many)
        turns["step, stock Keras"] = many, stock
    if "prune" in _WHAT.value:
        twin = keras.models.clone_model(masked)
        turns["step in a call"] = 1, _steps(twin, examples, recipe, 1)
        turns["prune"] = 1, prune
    seconds = {turn: [] for turn in turns}
    for round_number in range(_ROUNDS.value + 1):
        for turn, (steps, run) in turns.items():
            if turn == "prune":
                masked.set_weights(fresh)  # a new network, every mask one
            elapsed = _seconds(run) / steps
            if round_number:  # the first traces
                seconds[turn].append(elapsed)
    medians = {
        turn: _report(name, turn, values) for turn, values in seconds.items()
    }
    for above, below in (
        ("step, masked", "step, stock Keras"),
        ("prune", "step, masked"),
        ("prune", "step in a call"),
    ):
        if above in medians and below in medians:
            ratio = medians[above] / medians[below]
            print(f"{name:16}{above} / {below}: {ratio:.2f}", flush=True)


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
        f"{name:16}{what:20}{1e3 * median:10.2f} ms   "
        f"(10th to 90th percentile {1e3 * low:.2f} to {1e3 * high:.2f})",
        flush=True,
    )
    return median


if __name__ == "__main__":
    program.run(main)
