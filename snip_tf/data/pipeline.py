"""Batches that are a pure function of (seed, i).

The training batch of iteration i depends on nothing but the seed and i, so a
run resumes exactly at any iteration. Pixels are divided by 255 and
standardised with the mean and standard deviation of the training split.
"""

from operator import itemgetter

import keras
import numpy as np
import tensorflow as tf

from snip_tf import _checks
from snip_tf.data import loading
from snip_tf.data.loading import standardise

_SHIFT = 4  # pixels; Lee et al. 2019, section 5.3


def training_batches(
    data, *, batch_size, seed, start=0, stop=None, augment=False
):
    """Returns the batches of the iterations from `start` to before `stop`.

    Each epoch visits every training image once, in an order of its own. A
    batch may span two epochs: all are full, and no image is left out.

    Args:
        data: A `Data`.
        batch_size: Number of images in a batch.
        seed: Non-negative integer: fixes the orders and the augmentation.
        start: The first iteration.
        stop: The iteration to stop before; None for an endless run.
        augment: Whether to flip each image left to right with probability 1/2
            and move it by up to 4 pixels each way. The border is 0 after
            standardisation, so the mean and not black, as the authors do it.

    Returns:
        A `tf.data.Dataset` of (float32 images, labels).

    Raises:
        ValueError: If an argument is out of its range.
    """
    batch_size = _checks.whole("batch_size", batch_size, 1)
    start = _checks.whole("start", start)
    stop = None if stop is None else _checks.whole("stop", stop, start)
    with tf.device("CPU"):  # one copy that all batches share
        images = tf.constant(data.train.images)
        labels = tf.constant(data.train.labels)
    augment_key = _key(seed, loading.AUGMENT)

    def batch(iteration, chosen):
        x = standardise(tf.gather(images, chosen), data.mean, data.std)
        if augment:
            x = _flip_and_shift(x, seed=tf.stack([augment_key, iteration]))
        return x, tf.gather(labels, chosen)

    length = tf.data.INFINITE_CARDINALITY if stop is None else stop - start
    indices = _shuffled_indices(len(labels), batch_size, seed, start)
    numbered = indices.enumerate(start).take(length)
    mapped = numbered.map(batch, num_parallel_calls=tf.data.AUTOTUNE)
    counted = tf.data.experimental.assert_cardinality(length)
    return _prefetched(mapped.apply(counted))


def evaluation_batches(data, split, *, batch_size=1000):
    """Returns the standardised batches of a split, in order, as a Dataset.

    `split` is "train", "validation" or "test". The last batch may be smaller.
    """
    _checks.check_one_of("split", split, ("train", "validation", "test"))
    batch_size = _checks.whole("batch_size", batch_size, 1)
    stored = getattr(data, split)
    examples = tf.data.Dataset.from_tensor_slices(
        (stored.images, stored.labels)
    )
    return _prefetched(
        examples.batch(batch_size).map(
            lambda x, y: (standardise(x, data.mean, data.std), y)
        )
    )


def batches(x, y, size):
    """Returns arrays cut into batches, such as `sensitivity` and `prune` take.

    Scored batch by batch, a large number of examples needs the memory of one
    batch. Batches of numpy arrays are views, which copy nothing.

        >>> x, y = np.zeros((10, 4)), np.arange(10)
        >>> [len(labels) for _, labels in snip_tf.data.batches(x, y, 4)]
        [4, 4, 2]

    Args:
        x: The inputs: an array, or lists or dicts, also nested, of arrays, each
            with one entry an example.
        y: The targets, likewise.
        size: How many examples to a batch, at least 1. The last may have fewer.

    Returns:
        A list of pairs (x, y), in the order of the examples.

    Raises:
        ValueError: If the arrays differ in their numbers of examples or have
            none, or if `size` is below 1.
    """
    shapes = [np.shape(array) for array in keras.tree.flatten((x, y))]
    lengths = {shape[:1] for shape in shapes}
    size = _checks.whole("size", size, 1)
    if len(lengths) != 1 or lengths & {(), (0,)}:
        raise ValueError(
            "`x` and `y` must be arrays with one entry for each example. "
            f"Received: shapes {shapes}"
        )
    return [
        keras.tree.map_structure(itemgetter(slice(i, i + size)), (x, y))
        for i in range(0, shapes[0][0], size)
    ]


def scoring_batch(data, *, size, seed, label=None):
    """Returns `size` distinct training images, standardised, and labels.

    Both are numpy arrays. The images are drawn with `seed`, never augmented;
    with a `label`, from those of that class. Raises ValueError if there are
    not that many training images.
    """
    labels = data.train.labels
    among = np.flatnonzero((labels == label) | (label is None))
    size = _checks.whole("size", size, 1)
    if size > len(among):
        raise ValueError(
            f"`size` must be at most {len(among)}, the number of training "
            f"images of that `label`. Received: size={size}, label={label}"
        )
    drawn = loading.generator(seed, loading.SCORE).choice(
        len(among), size, replace=False
    )
    batch = loading.take(data.train, among[drawn])
    return standardise(batch.images, data.mean, data.std).numpy(), batch.labels


def _shuffled_indices(examples, batch_size, seed, start):
    """Returns the endless batches of image indices from `start` on.

    Not with `index_shuffle`, whose orders are far from independent: for 100
    images it has 256 of them, for 54,000 those of two epochs correlate by 0.8.
    """
    first_epoch, done = divmod(start * batch_size, examples)
    key = _key(seed, loading.SHUFFLE)

    def rest_of_epoch(epoch):
        order = tf.random.experimental.stateless_shuffle(
            tf.range(examples), seed=tf.stack([key, epoch]), alg="philox"
        )
        return order[tf.where(epoch == first_epoch, done, 0) :]

    epochs = tf.data.Dataset.counter(first_epoch).map(rest_of_epoch)
    return epochs.prefetch(1).rebatch(batch_size, drop_remainder=True)


def _prefetched(dataset):
    """Returns a data set that prepares a batch while others are used."""
    options = tf.data.Options()
    # On a single core, the end of an iterator waits for the tuner to wake, up
    # to as long again as the iterator was used: measured with TensorFlow 2.21.
    options.autotune.enabled = False
    return dataset.prefetch(tf.data.AUTOTUNE).with_options(options)


def _flip_and_shift(images, seed):
    """Returns each image flipped or not, and shifted; what comes in is 0."""
    size, height, width, _ = images.shape
    shifts = 2 * _SHIFT + 1
    variants = tf.random.stateless_uniform(
        [size, 1], seed, maxval=2 * shifts**2, dtype=tf.int32, alg="philox"
    )
    rows = variants // shifts % shifts + tf.range(height)
    columns = variants % shifts + tf.range(width)
    mirrored = width + 2 * _SHIFT - 1 - columns
    columns = tf.where(variants < shifts**2, columns, mirrored)
    border = [_SHIFT, _SHIFT]
    padded = tf.pad(images, [[0, 0], border, border, [0, 0]])
    images = tf.gather(padded, rows, axis=1, batch_dims=1)
    return tf.gather(images, columns, axis=2, batch_dims=1)


def _key(seed, use):
    """Returns half of a seed for TensorFlow's stateless operations."""
    return tf.constant(loading.generator(seed, use).integers(2**31), tf.int64)
