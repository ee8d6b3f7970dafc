"""Batches: of training, evaluation and scoring, and of any arrays."""

import dataclasses
import time

import numpy as np
import pytest
import tensorflow as tf
from made_up import random_data

from snip_tf import data


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
    message = "at most 3.., the number of .* Received: size=400, label=7"
    with pytest.raises(ValueError, match=message):
        data.scoring_batch(mnist_5k, size=400, seed=0, label=7)


# Batches of any arrays.


@pytest.mark.parametrize("size", [1, 4, 10, 11])
def test_batches_are_the_arrays_in_order(size):
    x, y = np.arange(30.0).reshape(10, 3), np.arange(10)
    found = data.batches(x, y, size)
    for _ in range(2):  # it can be gone through again
        np.testing.assert_array_equal(np.concatenate([a for a, _ in found]), x)
        np.testing.assert_array_equal(np.concatenate([b for _, b in found]), y)
    sizes = [len(labels) for _, labels in found]
    assert len(found) == -(-10 // size)
    assert sizes[:-1] == [size] * (len(found) - 1)
    assert 1 <= sizes[-1] <= size


def test_batches_keep_lists_and_dicts():
    x = {"left": np.arange(5), "right": [np.ones((5, 2)), np.zeros(5)]}
    *_, (inputs, targets) = data.batches(x, [np.arange(5)], 3)
    assert inputs.keys() == {"left", "right"}
    np.testing.assert_array_equal(inputs["left"], [3, 4])
    assert [part.shape for part in inputs["right"]] == [(2, 2), (2,)]
    np.testing.assert_array_equal(targets[0], [3, 4])


def test_batches_copy_nothing():
    x = np.zeros((10, 3))
    assert all(np.shares_memory(x, a) for a, _ in data.batches(x, x[:, 0], 4))


@pytest.mark.parametrize(
    ("x", "y"),
    [
        (np.zeros((10, 3)), np.zeros(9)),
        ([np.zeros(10), np.zeros(9)], np.zeros(10)),
        (np.zeros((0, 3)), np.zeros(0)),
        (np.zeros((3, 3)), [0, 1, 2]),
        ([], []),
    ],
    ids=["lengths", "inputs", "empty", "a list of labels", "nothing"],
)
def test_batches_of_other_than_arrays_of_one_length_are_refused(x, y):
    with pytest.raises(ValueError, match="one entry for each example"):
        data.batches(x, y, 4)


def test_batches_of_no_example_are_refused():
    with pytest.raises(
        ValueError, match="`size` must be .* at least 1.*size=0"
    ):
        data.batches(np.zeros(3), np.zeros(3), 0)


# Bad arguments.


@pytest.mark.parametrize(
    "wrong",
    [
        {"batch_size": 0},
        {"batch_size": "8"},
        {"start": -1},
        {"stop": 2, "start": 3},
        {"stop": 2.5},
        {"seed": -1},
    ],
)
def test_training_batches_that_cannot_be_are_refused(wrong):
    settings = dict(batch_size=4, seed=0, start=0) | wrong
    name = next(iter(wrong))
    message = f"`{name}` must be a whole number .* Received: {name}="
    with pytest.raises(ValueError, match=message):
        data.training_batches(random_data(), **settings)


@pytest.mark.parametrize(
    "wrong", [{"split": "tests"}, {"split": "name"}, {"batch_size": 0}]
)
def test_evaluation_batches_that_cannot_be_are_refused(wrong):
    name = next(iter(wrong))
    with pytest.raises(ValueError, match=f"`{name}` must be .* Received: "):
        data.evaluation_batches(random_data(), **{"split": "test"} | wrong)


@pytest.mark.parametrize(
    ("size", "rule"), [(0, "least 1"), (11, "most 10"), ("5", "least 1")]
)
def test_a_scoring_batch_that_cannot_be_is_refused(size, rule):
    message = f"`size` must be .*at {rule}.*Received: size="
    with pytest.raises(ValueError, match=message):
        data.scoring_batch(random_data(10), size=size, seed=0)
