"""JAX and PyTorch against TensorFlow: the same scores, masks and losses."""

import json
import os
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest
from conftest import missing

import snip_tf
from snip_tf import layers

# The second half of each test is this file again, in a process of its own:
# Keras chooses its backend once.
_WITHOUT_TENSORFLOW = """
import sys
sys.modules["tensorflow"] = None  # importing it is then an ImportError
import test_backends
getattr(test_backends, sys.argv[1])(*sys.argv[2:])
"""


_BACKENDS = [
    pytest.param(backend, marks=missing(backend))
    for backend in ("jax", "torch")
]


def _under(backend, function, *arguments):
    """Calls a function of this file on a backend, where is no TensorFlow."""
    settings = {
        "KERAS_BACKEND": backend,
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": str(pathlib.Path(__file__).parent),
    }
    command = [sys.executable, "-c", _WITHOUT_TENSORFLOW, function.__name__]
    process = subprocess.run(
        [*command, *map(str, arguments)],
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr


def _batches(image_shape, *, steps, batch_size):
    """Returns noisy copies of ten images, and which: something to learn."""
    generator = np.random.default_rng(0)
    classes = generator.normal(size=(10, *image_shape))
    y = generator.integers(0, 10, (steps, batch_size))
    x = classes[y] + generator.normal(size=(steps, batch_size, *image_shape))
    return x.astype(np.float32), y


def train(directory, backend, learning_rate):
    """Trains the saved model on the saved batches.

    Leaves in the directory a JSON of the loss of each step, the loss in
    inference mode afterwards, and the largest weight that is not zero though
    it is removed.
    """
    assert keras.backend.backend() == backend
    directory = pathlib.Path(directory)
    batches = np.load(directory / "batches.npz")
    x, y = batches["x"], batches["y"]
    model = keras.models.load_model(directory / "pruned.keras")
    recipe = snip_tf.training.Recipe(
        steps=len(x),
        batch_size=len(x[0]),
        learning_rate=float(learning_rate),
    )
    snip_tf.training.compile_model(model, recipe)
    # An epoch of one step, as Keras reports the mean loss of an epoch.
    history = model.fit(
        (batch for batch in zip(x, y, strict=True)),
        steps_per_epoch=1,
        epochs=len(x),
        shuffle=False,
        verbose=0,
    )
    removed = [
        np.abs(keras.ops.convert_to_numpy(weight * (1 - mask))).max()
        for weight, mask in layers.masked_weights(model)
    ]
    run = {
        "losses": history.history["loss"],
        "test_loss": model.evaluate(x[0], y[0], verbose=0)[0],
        "removed": float(max(removed)),
        "sparsity": snip_tf.model_sparsity(model),
    }
    (directory / f"{backend}.json").write_text(
        json.dumps(run), encoding="utf-8"
    )


def _wrn_16_1():
    # Widened by one only: the layers of WRN-16-8 in little time.
    return snip_tf.models.wrn._wrn(16, 1, input_shape=(16, 16, 3))


def _wrn_16_8():
    return snip_tf.models.build("wrn_16_8", input_shape=(8, 8, 3))


def _lenet_5_caffe():
    return snip_tf.models.build("lenet_5_caffe")


def _lstm_s():
    return snip_tf.models.build("lstm_s")


@pytest.mark.slow
@pytest.mark.parametrize("backend", _BACKENDS)
@pytest.mark.parametrize(
    ("build", "sparsity", "steps", "batch_size", "learning_rate"),
    [
        (_lstm_s, 0.95, 50, 20, 0.05),
        (_lenet_5_caffe, 0.98, 50, 20, 0.01),
        (_wrn_16_1, 0.9, 50, 32, 0.01),
        (_wrn_16_8, 0.95, 10, 8, 0.01),
    ],
)
def test_a_pruned_network_trains_as_under_tensorflow(
    build, sparsity, steps, batch_size, learning_rate, backend, tmp_path
):
    model = build()
    x, y = _batches(model.input_shape[1:], steps=steps, batch_size=batch_size)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    snip_tf.prune(model, x[0], y[0], sparsity=sparsity, loss=loss)
    model.save(tmp_path / "pruned.keras")
    np.savez(tmp_path / "batches.npz", x=x, y=y)

    train(tmp_path, "tensorflow", learning_rate)
    _under(backend, train, tmp_path, backend, learning_rate)

    expected, trained = (
        json.loads((tmp_path / f"{name}.json").read_text(encoding="utf-8"))
        for name in ("tensorflow", backend)
    )
    for run in (expected, trained):
        assert run["removed"] == 0
        assert run["losses"][-1] < run["losses"][0]
        assert run["sparsity"] == snip_tf.model_sparsity(model)
    # At first the two differ by the last digit of single precision, 1e-7: a
    # gradient, a mask, momentum or L2 that is not the same would show by more.
    np.testing.assert_allclose(
        trained["losses"][:5], expected["losses"][:5], rtol=2e-6
    )
    # Every step amplifies that where a ReLU or a maximum is near to switching.
    # After 50 steps it was 6e-6 for LeNet, 7e-5 for a WRN.
    np.testing.assert_allclose(trained["losses"], expected["losses"], rtol=5e-4)
    # In inference mode, so with the moving averages of batch normalisation.
    np.testing.assert_allclose(
        trained["test_loss"], expected["test_loss"], rtol=5e-4
    )


def _small():
    """Returns a compiled network with a convolution and a norm."""
    inputs = keras.Input((8, 8, 2))
    x = layers.Conv2D(6, 3, strides=2)(inputs)
    x = keras.layers.ReLU()(keras.layers.BatchNormalization()(x))
    x = keras.layers.Flatten()(x)
    model = keras.Model(inputs, layers.Dense(3, mask_bias=True)(x))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.1, 0.9), loss)
    return model


_STEPS = {"force": 3, "snip_iterative": 3, "synflow": 3}


def prune(directory, backend):
    """Prunes the small network by every score, then while it trains.

    Leaves scores, masks and losses in the directory.
    """
    directory = pathlib.Path(directory)
    given = np.load(directory / "given.npz")
    x, y = given["x"], given["y"]
    model = _small()
    weights = [given[name] for name in given if name.startswith("weight")]
    found = {}
    for name, score in snip_tf.scores.SCORES.items():
        model.set_weights(weights)
        found[f"{name}_score"] = score(model, x, y)
        options = {"criterion": name, "steps": _STEPS.get(name)}
        found[name] = snip_tf.prune(model, x, y, sparsity=0.7, **options)
    model.set_weights(weights)
    schedule = snip_tf.schedules.cubic(0.0, 0.7, begin=1, end=3)
    callbacks = [
        snip_tf.PruneAtStart(x, y, sparsity=0.3, verbose=0),
        snip_tf.PruneGradually(schedule=schedule, every=1),
    ]
    history = model.fit(
        x,
        y,
        batch_size=4,
        epochs=2,
        shuffle=False,
        verbose=0,
        callbacks=callbacks,
    )
    found["losses"] = [history.history["loss"]]
    for weight, mask in layers.masked_weights(model):
        removed = keras.ops.convert_to_numpy(mask) == 0
        assert not keras.ops.convert_to_numpy(weight)[removed].any()
    assert snip_tf.model_sparsity(model) == pytest.approx(0.7, abs=0.01)
    arrays = {
        f"{name}_{index}": array
        for name, parts in found.items()
        for index, array in enumerate(parts)
    }
    np.savez(directory / f"{backend}.npz", **arrays)


def score_what_cannot_be_traced_as_it_is():
    """Metrics made at the first call, a table, and arrays of others."""
    images, whole = np.random.rand(8, 4), np.arange(8)
    inputs = keras.Input((4,))
    outputs = [layers.Dense(3)(inputs), layers.Dense(1)(inputs)]
    model = keras.Model(inputs, outputs)
    loss = "sparse_categorical_crossentropy"
    model.compile("sgd", [loss, "mse"])
    batch = images, [whole % 3, images[:, :1]]
    snip_tf.prune(model, [batch, batch], sparsity=0.5, steps=2)
    for variable in model.metrics_variables:
        assert np.isfinite(keras.ops.convert_to_numpy(variable)).all()

    if keras.backend.backend() == "jax":  # the one that asks layers
        model = keras.Sequential([keras.Input((4,)), _Numpy(), layers.Dense(3)])
        snip_tf.prune(model, images, whole % 3, sparsity=0.5, loss=loss)

    model = keras.Sequential([keras.Input((4,)), layers.Dense(3)])
    batch = images, whole % 3
    expected = snip_tf.sensitivity(model, *batch, loss=loss)
    scores = snip_tf.sensitivity(model, *map(_Table, batch), loss=loss)
    np.testing.assert_allclose(scores, expected, 1e-5)


class _Table:
    """What numpy takes as an array, as the tables of other libraries."""

    def __init__(self, array):
        self.shape, self._array = array.shape, array

    def __array__(self, dtype=None, copy=None):
        return self._array


class _Numpy(keras.layers.Layer):
    """A layer that computes with numpy, which cannot be traced."""

    def __init__(self):
        super().__init__()
        self.supports_jit = False

    def compute_output_spec(self, inputs):
        return inputs

    def call(self, inputs):
        return keras.ops.convert_to_numpy(inputs)


def convert():
    """Does what needs no TensorFlow, and asks for what does."""
    inputs = keras.Input((4,))
    model = keras.Model(inputs, keras.layers.Dense(3)(inputs))
    model = snip_tf.masked(snip_tf.strip(snip_tf.masked(model)))
    snip_tf.prune(model, None, sparsity=0.5, criterion="magnitude")
    snip_tf.redraw(model)
    assert snip_tf.summary(model).kept == 6
    with pytest.raises(ModuleNotFoundError, match="tensorflow"):
        snip_tf.data  # noqa: B018
    with pytest.raises(ValueError, match="TensorFlow backend"):
        snip_tf.methods.DNS(model, c=1.0)


def prune_and_convert(directory, backend):
    prune(directory, backend)
    convert()
    score_what_cannot_be_traced_as_it_is()


@pytest.mark.parametrize("backend", _BACKENDS)
def test_every_score_gives_the_masks_and_losses_of_tensorflow(
    backend, tmp_path
):
    generator = np.random.default_rng(0)
    arrays = {
        f"weight_{index:02}": weight
        for index, weight in enumerate(_small().get_weights())
    }
    x = generator.normal(size=(8, 8, 8, 2)).astype(np.float32)
    y = generator.integers(0, 3, 8)
    np.savez(tmp_path / "given.npz", x=x, y=y, **arrays)
    prune(tmp_path, "tensorflow")
    _under(backend, prune_and_convert, tmp_path, backend)
    expected = np.load(tmp_path / "tensorflow.npz")
    found = np.load(tmp_path / f"{backend}.npz")
    assert sorted(found) == sorted(expected)
    for name in found:
        if "score" in name or "losses" in name:
            largest = expected[name].max()
            np.testing.assert_allclose(
                found[name], expected[name], 1e-4, 1e-6 * largest, err_msg=name
            )
        else:
            np.testing.assert_array_equal(found[name], expected[name], name)


def test_what_cannot_be_traced_as_it_is_has_scores():
    score_what_cannot_be_traced_as_it_is()


def test_an_unknown_name_raises_what_python_raises():
    message = "^module 'snip_tf' has no attribute 'purne'$"
    with pytest.raises(AttributeError, match=message):
        snip_tf.purne  # noqa: B018
