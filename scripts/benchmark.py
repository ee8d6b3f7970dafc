"""Times masked networks against stock Keras, interleaved, in one process.

    python scripts/benchmark.py --what=step,prune,memory
    python scripts/benchmark.py --what=compact --sparsity=0.98 \
        --dataset=mnist_5k

step    one training step, masked at the paper's sparsity against the same
        network of plain Keras layers: same optimiser, loss, batches.
prune   one call of snip_tf.prune, traced, against a stock training step.
memory  the peak of a process that prunes, against one that trains (Linux).
compact one training step of the network without its dead units, against the
        masked one; and the losses of both over their first steps, without L2.

The images are noise, unless --dataset says which. Times are medians over
rounds in which each takes its turn; read the ratios.
"""

import copy
import dataclasses
import multiprocessing
import pathlib

import environment  # noqa: F401
import keras
import numpy as np
from absl import flags

import snip_tf
from snip_tf import data, models, training
from snip_tf.experiments import program, run_flags, runs, timing

_HALF = np.float32(0.5), np.float32(0.3)  # mean and deviation of noise
_LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)

run_flags.define_data("The images; by default noise.")
run_flags.define_list(
    "what",
    ["step", "prune"],
    ("step", "prune", "memory", "compact"),
    "What to measure.",
)
run_flags.define_list(
    "models",
    ["lenet_300_100", "lenet_5_caffe"],
    (*runs.SPARSITIES, "all"),
    "The networks.",
)
_ROUNDS = flags.DEFINE_integer("rounds", 101, "Rounds.", lower_bound=2)
_STEPS = flags.DEFINE_integer(
    "steps_per_execution", 50, "Training steps a round.", lower_bound=1
)
_SPARSITY = flags.DEFINE_float(
    "sparsity", None, "The fraction removed; by default the paper's."
)


def main():
    """Runs the script."""
    given = flags.FLAGS
    names = runs.SPARSITIES if "all" in given.models else given.models
    place = runs.surroundings()
    print(
        f"{place['processor']}, {place['cores']} cores, TensorFlow "
        f"{place['versions']['tensorflow']}, Keras {place['versions']['keras']}"
    )
    examples = None
    if given.dataset:
        examples = data.load(given.dataset, data_dir=given.data_dir)
    for name in names:
        sparsity = _SPARSITY.value or runs.SPARSITIES[name]
        # Apart from each other: what one leaves in the caches slows the next.
        for what in ("step", "prune", "compact"):
            if what in given.what:
                task = _task(name, sparsity, examples)
                compare_times(task, what, _ROUNDS.value, _STEPS.value)
        if "compact" in given.what:
            compare_losses(_task(name, sparsity, examples))
        if "memory" in given.what:
            compare_memory(name, sparsity)


@dataclasses.dataclass(frozen=True)
class Task:
    """A network, what it is trained on, and how.

    Attributes:
        name: Its name.
        sparsity: The fraction of its weights that pruning removes.
        model: A new network, every mask one.
        examples: A `data.Data`.
        recipe: A `training.Recipe`.
    """

    name: str
    sparsity: float
    model: keras.Model
    examples: data.Data
    recipe: training.Recipe


def compare_times(task, what, rounds, steps):
    """Prints the times of one network."""
    masked, fresh = task.model, task.model.get_weights()
    prune = _pruning(task)
    prune()
    turns = {}
    if what in ("step", "prune"):
        stock = snip_tf.strip(models.build(task.name))
        turns["stock step"] = steps, _steps(stock, task, steps)
    if what in ("step", "compact"):
        pruned = copy.deepcopy(masked)
        turns["masked step"] = steps, _steps(pruned, task, steps)
    if what == "compact":
        small = snip_tf.compact(masked, for_training=True)
        turns["compacted step"] = steps, _steps(small, task, steps)
    if what == "prune":
        single = keras.models.clone_model(stock)
        turns["stock step in a call"] = 1, _steps(single, task, 1)
        turns["prune"] = 1, prune
    times = timing.in_turns(
        {turn: run for turn, (_, run) in turns.items()},
        rounds=rounds,
        # A new network for the next `prune`, every mask one.
        before=lambda: masked.set_weights(fresh),
    )
    for turn, (done, _) in turns.items():
        times[turn] = 1e3 * times[turn] / done
        low, median, high = times[turn]
        print(
            f"{task.name:16}{turn:24}{median:10.2f} ms   "
            f"(10th to 90th percentile {low:.2f} to {high:.2f})",
            flush=True,
        )
    for above, below in (
        ("masked step", "stock step"),
        ("prune", "stock step"),
        ("prune", "stock step in a call"),
        ("compacted step", "masked step"),
    ):
        if {above, below} <= set(times):
            ratio = times[above][1] / times[below][1]
            print(f"{task.name:16}{above} / {below}: {ratio:.2f}", flush=True)


def compare_losses(task, steps=100):
    """Prints how far the losses of the compacted network are off.

    Without L2, which the loss of the masked network has of its dead units
    too.
    """
    _pruning(task)()
    recipe = dataclasses.replace(task.recipe, l2=0)
    losses = []
    for model in (
        snip_tf.compact(task.model, for_training=True),
        task.model,
    ):
        training.compile_model(model, recipe)
        batches = data.training_batches(
            task.examples, batch_size=recipe.batch_size, seed=0, stop=steps
        )
        losses.append([model.train_on_batch(*batch)[0] for batch in batches])
    apart = np.max(np.abs(np.subtract(*losses)))
    small, masked = (values[-1] for values in losses)
    print(
        f"{task.name:16}loss of step {steps}, without L2: {small:.6f} "
        f"compacted, {masked:.6f} masked; at most {apart:.1e} apart in "
        f"{steps} steps",
        flush=True,
    )


def compare_memory(name, sparsity):
    """Prints the peak memory of a process that trains and one that prunes."""
    processes = multiprocessing.get_context("spawn")
    peaks = {}
    for what in ("stock step", "prune"):
        with processes.Pool(1) as pool:
            peaks[what] = pool.apply(_peak, (name, sparsity, what))
        print(f"{name:16}{what:24}{peaks[what]:8.0f} MB at its peak")
    ratio = peaks["prune"] / peaks["stock step"]
    print(f"{name:16}prune / stock step, memory: {ratio:.2f}", flush=True)


def _peak(name, sparsity, what):
    """Returns the peak resident memory of this process, in MB."""
    task = _task(name, sparsity)
    if what == "prune":
        run = _pruning(task)
    else:
        # Of the masked network nothing stays.
        task = dataclasses.replace(task, model=snip_tf.strip(task.model))
        run = _steps(task.model, task, 1)
    for _ in range(3):
        run()
    return _peak_of_this_process()


def _peak_of_this_process():
    # Not getrusage's maximum, which begins with what the parent process had.
    status = pathlib.Path("/proc/self/status").read_text()
    (line,) = (line for line in status.splitlines() if "VmHWM" in line)
    return int(line.split()[1]) / 1024


def _task(name, sparsity, examples=None):
    """Returns the `Task` of a network, by default on noise in its shape."""
    model = models.build(name)
    shape = model.input_shape[1:]
    if examples is None:
        generator = np.random.default_rng(0)
        noise = data.Split(
            generator.integers(0, 256, (1000, *shape), dtype=np.uint8),
            generator.integers(0, 10, 1000),
        )
        examples = data.Data("noise", noise, noise, noise, *_HALF, 10)
    recipe = training.RECIPES["mnist" if shape[0] == 28 else "cifar10"]
    return Task(name, sparsity, model, examples, recipe)


def _pruning(task):
    """Returns a function that prunes the task's network."""
    x, y = data.scoring_batch(
        task.examples, size=task.recipe.batch_size, seed=0
    )
    return lambda: snip_tf.prune(
        task.model, x, y, sparsity=task.sparsity, loss=_LOSS
    )


def _steps(model, task, steps_per_execution):
    """Returns a function that runs one execution of training steps."""
    training.compile_model(
        model, task.recipe, steps_per_execution=steps_per_execution
    )
    batches = data.training_batches(
        task.examples, batch_size=task.recipe.batch_size, seed=0
    )
    iterator = iter(batches)
    model.make_train_function()
    return lambda: model.train_function(iterator)


if __name__ == "__main__":
    program.run(main)
