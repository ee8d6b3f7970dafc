"""Values that people give for arguments: those that are taken, and mistakes."""

import itertools
import pathlib
import tempfile
import typing

import keras
import numpy as np
import tensorflow as tf
from conftest import CROSS_ENTROPY
from hypothesis import strategies as st

import snip_tf
from snip_tf import layers, scores, training

_RANDOM = np.random.default_rng(0)
X = _RANDOM.normal(size=(8, 4)).astype(np.float32)
Y = np.arange(8) % 3
MASKS = [np.eye(4), np.ones(4), np.ones((4, 3))]
SCORES = [_RANDOM.random(mask.shape) for mask in MASKS]
DATA_SET = tf.data.Dataset.from_tensor_slices((X, Y))
FILES = tempfile.TemporaryDirectory()
NAN = float("nan")


def network(kinds=layers, **mask_bias):
    """Returns a network of 4 inputs and 3 classes: 32 masked weights."""
    hidden = kinds.Dense(4, activation="tanh", name="hidden", **mask_bias)
    model = keras.Sequential([keras.Input((4,)), hidden, kinds.Dense(3)])
    model.compile("sgd", CROSS_ENTROPY, run_eagerly=True)
    return model


def masked():
    return network(mask_bias=True)


def stock():
    return network(keras.layers)


class Values(typing.NamedTuple):
    """Strategies for an argument: values that are taken, and mistakes."""

    fine: st.SearchStrategy
    wrong: st.SearchStrategy = st.nothing()


def values(fine, wrong=()):
    wrong = st.sampled_from(wrong) if wrong else st.nothing()
    return Values(st.sampled_from(fine), wrong)


def one_of(*given):
    return st.sampled_from(given)


def numbers(fine, *wrong):
    """Numbers as Python and numpy have them, and what is none of them."""
    taken = fine | fine.map(np.float64) | fine.map(np.float32)
    strange = one_of(NAN, None, "0.5", "high", [0.5], (0.1, 0.2))
    return Values(taken, st.one_of(strange, *wrong))


def whole(least, most):
    fine = st.integers(least, most)
    strange = one_of(NAN, np.inf, None, "3", "many", [3], least - 1, least - 7)
    return Values(
        fine | fine.map(np.int64) | fine.map(np.uint8) | fine.map(float),
        fine.map(lambda number: number + 0.5) | strange,
    )


@st.composite
def spoiled(draw, array, *wrong):
    """An array with a wrong value in one place."""
    array = np.array(array, dtype=float)
    array.flat[draw(st.integers(0, array.size - 1))] = draw(one_of(*wrong))
    return array


@st.composite
def one_spoiled(draw, arrays, *wrong):
    """Arrays, one of which has a wrong value, or is of another type."""
    index = draw(st.integers(0, len(arrays) - 1))
    good = arrays[index]
    strange = one_of(good.astype(str), None, "ones", RAGGED)
    bad = draw(spoiled(good, *wrong) | strange)
    return [*arrays[:index], bad, *arrays[index + 1 :]]


def returning(found):
    return lambda model, x, y=None, **options: found


def new_directory():
    return tempfile.mkdtemp(dir=FILES.name)


def file_of_theirs():
    path = pathlib.Path(new_directory()) / "file"
    path.write_text("mine")
    return path


RAGGED = [[1.0], [1.0, 2.0]] * 4
NO_MODEL = one_of("model.keras", pathlib.Path("model.keras"), None, [], 3)
MASKED, STOCK = st.just(masked()), st.just(stock())
NOT_BUILT = st.just(keras.Sequential([layers.Dense(3)]))
MODEL = Values(MASKED, NO_MODEL | NOT_BUILT | STOCK)
TO_MASK = Values(st.just(stock), NO_MODEL | NOT_BUILT | MASKED)
ANY_MODEL = Values(MASKED | STOCK, NO_MODEL | NOT_BUILT)
FRACTION = numbers(
    st.floats(0, 0.5, width=32),
    st.floats(max_value=-0.01),
    st.floats(min_value=1),
)
DECAY = Values(FRACTION.fine | st.none(), one_of(1.0, -0.1, NAN, "0.9", [0.9]))
POSITIVE = numbers(
    st.floats(0, 10, width=32), st.floats(max_value=-0.01), st.just(np.inf)
)
DATA = {
    "x": Values(
        one_of(X, X.tolist(), tuple(X.tolist()), X.astype(float))
        | one_of(tf.constant(X), X.astype(int) + 1),
        spoiled(X, NAN, np.inf)
        | one_of(X[:5], X[:, :3], X[0], X[:0], X.astype(str), 0 * X, list(X))
        | one_of(None, "x.npy", 3, RAGGED, DATA_SET, [], {"x": X[:, :3]}),
    ),
    "y": Values(
        one_of(Y, Y.tolist(), tuple(Y.tolist()), list(Y), Y[:, None], Y * 1.0)
        | one_of(tf.constant(Y), Y.astype(np.uint8)),
        spoiled(Y, 3, -1, 0.5, NAN)
        | one_of(np.eye(3)[Y], np.eye(3)[Y].tolist(), Y[:5], Y.astype(str), X)
        | one_of(None, "y.npy", 5, RAGGED, [], [[0, 1]] * 8),
    ),
}
BATCHES = Values(
    one_of([(X, Y)], [(X.tolist(), tuple(Y.tolist()))], [(X, Y, np.ones(8))])
    | one_of(DATA_SET.batch(3), snip_tf.data.batches(X, Y, 3)),
    one_of(X, [], iter([(X, Y)]), itertools.repeat((X, Y)), [(X, None)], [X, Y])
    | one_of([(X,)], DATA_SET, DATA_SET.batch(3).repeat(), (X, Y), {"x": X}, 3)
    | one_of([(X, Y), (X[:0], Y[:0])], [(X, Y), (X[:5], Y)], "x.npy", None)
    | one_of([(X, Y), (X[:, :3], Y)], X.tolist()),
)
LOSS = values(
    [None, CROSS_ENTROPY],
    ["crossentropy", 3, ["mse"] * 2, "adam"]
    + [{"digit": "mse"}, "categorical_crossentropy"],
)
MASKING = Values(
    one_of(MASKS, tuple(MASKS), [mask.tolist() for mask in MASKS])
    | one_of([mask > 0 for mask in MASKS], [tf.constant(m) for m in MASKS]),
    one_spoiled(MASKS, 0.5, -1, 2, NAN, np.inf)
    | one_of(MASKS[:2], [*MASKS, MASKS[0]], MASKS[::-1], np.ones(32), [])
    | one_of(1, "masks.npz", dict(enumerate(MASKS)), [MASKS]),
)
SCORING = Values(
    one_of(SCORES, tuple(SCORES), [score.tolist() for score in SCORES])
    | one_of([np.arange(m.size).reshape(m.shape) for m in MASKS]),
    one_spoiled(SCORES, -0.1, NAN, np.inf)
    | one_of([], None, 0.5, "scores.npz", [0 * score for score in SCORES]),
)
NO_SCORE = one_of("snipp", "", None, 3, ["snip"], np.ones(3))
CRITERION = Values(
    one_of("snip", "shuffled", scores.sensitivity),
    NO_SCORE
    | st.just(returning(None))
    | one_of(SCORES[:2], SCORES[::-1]).map(returning)
    | one_spoiled(SCORES, -0.1, NAN).map(returning),
)
SEED = Values(
    st.integers(0, 2**40) | st.integers(0, 9).map(np.int64) | st.none(),
    one_of(-1, 0.5, "a", NAN),
)
INITIALIZER = values(
    ["he_normal", keras.initializers.Ones(), "zeros"],
    ["glorott", 3, 0.1, ["zeros"], np.ones(3)],
)
REINIT = values(
    [False, True, np.bool_(True)],
    ["yes", "he_normal", None, 0.5, [True], np.ones(2)],
)
UNUSED = Values(
    one_of(X, X.astype(float), tf.constant(X)),
    one_of([], 3, "x.npy", X[:, :3], X.astype(str), X[0], RAGGED),
)
SKIP = values(
    [(), None, "hidden", ["hidden"], lambda layer: layer.name == "hidden"],
    [3, [0], "hiden", ["hidden", "out"], keras.layers.Dense, keras.layers.ReLU],
)
AXES = values(
    [None, [(-1,), None, (1,)], [(0,), None, (-1,)]],
    [-1, (-1,), [(-1,)], [(2,), None, (1,)], "last", [0.5] * 3, [1] * 3],
)
IMAGES = values(
    [(5, 6, 1), [4, 4, 3], (np.int64(5), 5, 1)],
    [(28, 28), 28, None, "mnist", (5, 5, 1.5), (1, 5, 5, 1)]
    + [(8, 8, None), (-1, 5, 1), ("5", 5, 1), ()],
)
END = Values(
    whole(10, 20).fine, one_of(NAN, None, "20", 9.5, 0, -1, [10], np.inf)
)
DIRECTORY = Values(
    st.builds(new_directory) | st.builds(new_directory).map(pathlib.Path),
    st.builds(file_of_theirs)
    | st.builds(lambda: file_of_theirs().parent)
    | one_of(None, 3, ["out"]),
)
RECIPE = training.Recipe(10, 8)
TRAINED = {
    "steps": Values(whole(6, 20).fine, whole(1, 9).wrong),
    "batch_size": whole(1, 9),
    "learning_rate": POSITIVE,
    "drops": values(
        [(), (3,), [3, 5], np.array([3, 5]), (3.0,)],
        ["3,5", 3, None, (5, 3), (0,), (NAN,), (2.5,), ("3",), (3, 90)],
    ),
    "decay": POSITIVE,
    "optimizer": values(["sgd", "adam"], ["SGD", None, 3, ["sgd"], "rmsprop"]),
    "momentum": FRACTION,
    "l2": POSITIVE,
}
