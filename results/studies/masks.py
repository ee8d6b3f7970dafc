"""Counts the weights of a mask that depend on what should not matter.

    python results/studies/masks.py --models=lenet_5_caffe,vgg_like

The scores of one draw and one batch are taken again with the batch in another
order, in four parts, and on one thread. In exact arithmetic all are the same.
In floating point a weight whose score is next to the kappa-th largest may
change places with another: that many of those kept are counted.
"""

import multiprocessing

import keras
import numpy as np
import tensorflow as tf
from absl import flags

import snip_tf
from snip_tf import data, models, training
from snip_tf.experiments import program, run_flags, runs

VARIANTS = ("another order", "in four parts", "one thread")


def main():
    """Runs the study."""
    print("".join(f"{title:>16}" for title in ("network", "kept", *VARIANTS)))
    for name in flags.FLAGS.models:
        is_mnist = models.build(name).input_shape[1] == 28
        dataset = flags.FLAGS.dataset if is_mnist else "cifar10"
        x, y = data.scoring_batch(
            data.load(dataset, data_dir=flags.FLAGS.data_dir),
            size=training.RECIPES[dataset].batch_size,
            seed=0,
        )
        kept, different = compare(name, x, y, sparsity=runs.SPARSITIES[name])
        counts = (kept, *different.values())
        print(f"{name:>16}" + "".join(f"{n:16,}" for n in counts), flush=True)


def compare(name, x, y, *, sparsity):
    """Returns how many weights are kept, and how many others a variant keeps.

    Args:
        name: The network.
        x: One batch of inputs.
        y: Its labels.
        sparsity: The fraction of weights removed.

    Returns:
        The number of weights kept, and a dict by name in VARIANTS.
    """
    order = np.random.default_rng(0).permutation(len(x))
    parts = zip(np.array_split(x, 4), np.array_split(y, 4), strict=True)
    with multiprocessing.get_context("spawn").Pool(1, _limit) as one_thread:
        masks = (
            mask_of(name, [(x[order], y[order])], sparsity),
            mask_of(name, list(parts), sparsity),
            one_thread.apply(mask_of, (name, [(x, y)], sparsity)),
        )
    mask = mask_of(name, [(x, y)], sparsity)
    different = (int(np.sum(other & ~mask)) for other in masks)
    return int(mask.sum()), dict(zip(VARIANTS, different, strict=True))


def mask_of(name, batches, sparsity):
    """Returns the masks of a new network, as one vector."""
    keras.utils.set_random_seed(0)
    model = models.build(name, input_shape=batches[0][0].shape[1:])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    scores = snip_tf.sensitivity(model, batches, loss=loss)
    masks = snip_tf.keep_top(scores, sparsity)
    return np.concatenate([mask.ravel() for mask in masks]) != 0


def _limit():
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)


if __name__ == "__main__":
    run_flags.define_data()
    flags.FLAGS.set_default("dataset", "mnist")
    run_flags.define_list(
        "models",
        ["lenet_300_100", "lenet_5_caffe"],
        models.NAMES,
        "The networks.",
    )
    program.run(main)
