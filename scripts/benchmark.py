"""Times masked networks against stock Keras, interleaved, in one process.

    python scripts/benchmark.py --what=step,prune,memory
    python scripts/benchmark.py --what=compact --sparsity=0.98 \
        --dataset=mnist_5k

step    one training step, masked at the paper's sparsity against the same
        network of plain Keras layers: same optimiser, loss, batches.
methods one training step of the methods of Table 1 that change it, against
        that of the masked network.
prune   one call of snip_tf.prune against a stock training step.
memory  the peak of a process that prunes, against one that trains (Linux).
compact one training step of the network without its dead units, against the
        masked one.
scale   training by several processes and replicas of CPUs (Linux), and
        sums of what many devices would do.

The images are noise, unless --dataset says which. Times are medians over
rounds in which each takes its turn; read the ratios.
"""

import contextlib
import functools
import multiprocessing
import pathlib

import environment  # noqa: F401
import keras
import numpy as np
from absl import flags

import snip_tf
from snip_tf import data, models, training
from snip_tf.experiments import (
    method_runs,
    program,
    provenance,
    run_flags,
    runs,
    scaling,
    timing,
)

_LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)

run_flags.define_data("The images; by default noise.")
run_flags.define_list(
    "what",
    ["step", "prune"],
    ("step", "methods", "prune", "memory", "compact", "scale"),
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
    place = provenance.surroundings()
    print(
        f"{place['processor']}, {place['cores']} cores, TensorFlow "
        f"{place['versions']['tensorflow']}, Keras {place['versions']['keras']}"
    )
    if "scale" in given.what:
        program.refuse(["dataset", "sparsity"], "--what=scale takes noise, 95%")
        compare_layouts(names)
    if "memory" in given.what:
        program.refuse(["dataset"], "--what=memory takes noise")
    examples = None
    if given.dataset:
        examples = data.load(given.dataset, data_dir=given.data_dir)
    for name in names:
        sparsity = _SPARSITY.value
        if sparsity is None:
            sparsity = runs.SPARSITIES[name]
        # Apart from each other: what one leaves in the caches slows the next.
        for what in given.what:
            if what == "memory":
                compare_memory(name, sparsity)
            elif what == "methods":
                compare_methods(name, sparsity, examples)
            elif what != "scale":
                compare_times(what, name, sparsity, examples)


def compare_times(what, name, sparsity, examples):
    """Prints the times of one network."""
    model, steps, before = models.build(name), _STEPS.value, None
    stock, fresh = snip_tf.strip(models.build(name)), model.get_weights()
    prune = _pruning(model, sparsity, examples)
    prune()
    if what == "compact":
        small = snip_tf.compact(model, for_training=True)
        turns = {"compacted step": _steps(small, examples, steps)}
        turns["masked step"] = _steps(model, examples, steps)
    elif what == "step":
        turns = {"masked step": _steps(model, examples, steps)}
        turns["stock step"] = _steps(stock, examples, steps)
    else:
        turns = {"prune": prune, "stock step": _steps(stock, examples, steps)}
        # A new network for the next call, every mask one.
        before = functools.partial(model.set_weights, fresh)
    _compare(name, turns, before)


def compare_methods(name, sparsity, examples):
    """Prints the times of a step of the methods that change it."""
    network = models.build(name)
    examples = examples or _noise(network.input_shape[1:])
    recipe = scaling.recipe_of(network)
    with contextlib.ExitStack() as blocks:
        turns = {}
        for method in ("dns", "lc", "sws", "svd", "snip"):
            settings = runs.Settings(
                model=name,
                dataset=examples.name,
                recipe=recipe,
                sparsity=sparsity * (method in ("lc", "snip")),
                method=method,
            )
            model, _ = runs.build_and_prune(settings, examples)
            callbacks = blocks.enter_context(
                method_runs.prepared(settings, model, examples)
            )
            own = method_runs.after_pretraining(settings).recipe
            turn = "masked step" if method == "snip" else f"{method} step"
            turns[turn] = _steps(model, examples, _STEPS.value, own)
            for callback in callbacks:
                callback.set_model(model)
                callback.on_train_begin()
        _compare(name, turns)


def _compare(name, turns, before=None):
    """Prints the times of functions, and the ratios to that of the last."""
    times = timing.in_turns(turns, rounds=_ROUNDS.value, before=before)
    for turn, seconds in times.items():
        times[turn] = seconds / (1 if turn == "prune" else _STEPS.value)
        low, median, high = 1e3 * times[turn]
        print(
            f"{name:16}{turn:16}{median:10.2f} ms   "
            f"(10th to 90th percentile {low:.2f} to {high:.2f})",
            flush=True,
        )
    last, (_, unit, _) = times.popitem()
    for turn, (_, median, _) in times.items():
        print(f"{name:16}{turn} / {last}: {median / unit:.2f}", flush=True)


def compare_layouts(names):
    """Prints what several processes and replicas do, and many would."""
    rounds = _ROUNDS.value if _ROUNDS.present else 3
    networks = {name: scaling.measured(name, rounds=rounds) for name in names}
    for name, layouts in networks.items():
        _, dense = scaling.size_of(snip_tf.strip(models.build(name)))
        for layout, found in layouts.items():
            print(
                f"{name:16}{layout:28}{found.images_per_second:10,.0f} "
                f"images/s, first step after {found.first_step:4.1f} s, "
                f"{found.gradient_bytes:,.0f} bytes of gradients a step, "
                f"{found.gradient_bytes / dense:.2f} of the dense network's",
                flush=True,
            )
    print(scaling.projected(networks))


def compare_memory(name, sparsity):
    """Prints the peak memory of a process that trains and one that prunes."""
    peaks = {}
    for what in ("stock step", "prune"):
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            peaks[what] = pool.apply(_peak, (name, sparsity, what))
        print(f"{name:16}{what:16}{peaks[what]:8.0f} MB at its peak")
    ratio = peaks["prune"] / peaks["stock step"]
    print(f"{name:16}prune / stock step, memory: {ratio:.2f}", flush=True)


def _peak(name, sparsity, what):
    """Returns the peak resident memory of this process, in MB."""
    model = models.build(name)
    if what == "prune":
        run = _pruning(model, sparsity)
    else:
        run = _steps(snip_tf.strip(model), None, 1)
    for _ in range(3):
        run()
    # Not getrusage's maximum, which begins with what the parent process had.
    status = pathlib.Path("/proc/self/status").read_text()
    (line,) = (line for line in status.splitlines() if "VmHWM" in line)
    return int(line.split()[1]) / 1024


def _noise(shape):
    """Returns a thousand images of noise and labels, as a `data.Data`."""
    generator = np.random.default_rng(0)
    noise = data.Split(
        generator.integers(0, 256, (1000, *shape), dtype=np.uint8),
        generator.integers(0, 10, 1000),
    )
    mean, deviation = np.float32(0.5), np.float32(0.3)
    return data.Data("noise", noise, noise, noise, mean, deviation, 10)


def _pruning(model, sparsity, examples=None):
    """Returns a function that prunes the network."""
    x, y = data.scoring_batch(
        examples or _noise(model.input_shape[1:]),
        size=scaling.recipe_of(model).batch_size,
        seed=0,
    )
    return lambda: snip_tf.prune(model, x, y, sparsity=sparsity, loss=_LOSS)


def _steps(model, examples, steps_per_execution, recipe=None):
    """Returns a function that runs one execution of training steps."""
    recipe = recipe or scaling.recipe_of(model)
    training.compile_model(
        model, recipe, steps_per_execution=steps_per_execution
    )
    batches = data.training_batches(
        examples or _noise(model.input_shape[1:]),
        batch_size=recipe.batch_size,
        seed=0,
    )
    iterator = iter(batches)
    model.make_train_function()
    return lambda: model.train_function(iterator)


if __name__ == "__main__":
    program.run(main)
