"""Counts the weights of a mask that depend on what should not matter.

    python scripts/check_masks.py --models=lenet_5_caffe,vgg_like

The scores of one draw and one batch are taken again with the batch in another
order, in four micro-batches, and on one thread. In exact arithmetic all are
the same. In floating point a weight whose score is next to the kappa-th largest
may change places with another: that many of those kept are counted.
"""

import multiprocessing
import pathlib
import tempfile

import environment  # noqa: F401
import keras
import numpy as np
import tensorflow as tf
from absl import flags

import snip_tf
from snip_tf import data, models, training
from snip_tf.experiments import program, run_directory, runs

VARIANTS = ("another order", "micro-batches", "one thread")

_MODELS = flags.DEFINE_list(
    "models", ["lenet_300_100", "lenet_5_caffe"], "The networks, or all."
)
_MNIST = flags.DEFINE_enum(
    "mnist", "mnist", data.NAMES, "The data set of the networks for 28 x 28."
)
_DATA_DIR = flags.DEFINE_string("data_dir", None, "TFDS data directory.")
_SEED = flags.DEFINE_integer("seed", 0, "Of draw and batch.", lower_bound=0)


def main():
    """Runs the script."""
    # Many models in one process are what TensorFlow warns of.
    tf.get_logger().setLevel("ERROR")
    names = _MODELS.value
    if names == ["all"]:
        names = list(models.NAMES)
    for name in names:
        if name not in models.NAMES:
            raise ValueError(
                f"--models must be of {', '.join(models.NAMES)}. "
                f"Received: {name}"
            )
    place = run_directory.surroundings()
    print(f"{place['processor']}, {place['cores']} cores")
    print(f"{'network':16}{'kept':>9}" + "".join(f"{v:>16}" for v in VARIANTS))
    for name in names:
        x, y = _batch(name)
        kept, different = compare(
            name, x, y, sparsity=runs.SPARSITIES[name], seed=_SEED.value
        )
        counts = "".join(f"{different[variant]:16,}" for variant in VARIANTS)
        print(f"{name:16}{kept:9,}{counts}", flush=True)


def compare(name, x, y, *, sparsity, seed=0):
    """Returns how many weights are kept, and how many others a variant keeps.

    Args:
        name: The network.
        x: One batch of inputs.
        y: Its labels.
        sparsity: The fraction of weights removed.
        seed: Of the draw and of the other order.

    Returns:
        The number of weights kept, and a dict by name in VARIANTS.
    """
    order = np.random.default_rng(seed).permutation(len(x))
    micro = -(-len(x) // 4)
    masks = _mask(name, seed, x, y, sparsity)
    variants = {
        "another order": _mask(name, seed, x[order], y[order], sparsity),
        "micro-batches": _mask(
            name, seed, x, y, sparsity, micro_batch_size=micro
        ),
        "one thread": _on_one_thread(name, seed, x, y, sparsity),
    }
    different = {
        variant: int(np.sum(mask & ~masks))
        for variant, mask in variants.items()
    }
    return int(masks.sum()), different


def _mask(name, seed, x, y, sparsity, **options):
    """Returns the masks of a new network, as one vector."""
    keras.utils.set_random_seed(seed)
    model = models.build(name, input_shape=x.shape[1:])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    scores = snip_tf.sensitivity(model, x, y, loss=loss, **options)
    masks = snip_tf.keep_top(scores, sparsity)
    return np.concatenate([mask.ravel() for mask in masks]) != 0


def _on_one_thread(name, seed, x, y, sparsity):
    """Returns `_mask` of a process that has one thread to compute with."""
    with tempfile.TemporaryDirectory() as directory:
        path = pathlib.Path(directory) / "batch.npz"
        np.savez(path, x=x, y=y)
        with multiprocessing.get_context("spawn").Pool(1, _limit) as pool:
            return pool.apply(_mask_of_file, (name, seed, path, sparsity))


def _limit():
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)


def _mask_of_file(name, seed, path, sparsity):
    batch = np.load(path)
    return _mask(name, seed, batch["x"], batch["y"], sparsity)


def _batch(name):
    """Returns the scoring batch of a network's real data."""
    is_mnist = models.build(name).input_shape[1] == 28
    dataset = _MNIST.value if is_mnist else "cifar10"
    examples = data.load(dataset, data_dir=_DATA_DIR.value, seed=_SEED.value)
    size = training.RECIPES[dataset].batch_size
    return data.scoring_batch(examples, size=size, seed=_SEED.value)


if __name__ == "__main__":
    program.run(main)
