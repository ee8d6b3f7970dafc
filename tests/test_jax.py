"""A network pruned under TensorFlow trains under JAX, without TensorFlow."""

import json
import os
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest

import snip_tf

# The second half of each test is this file again, in a process of its own:
# Keras chooses its backend once.
_WITHOUT_TENSORFLOW = """
import sys
sys.modules["tensorflow"] = None  # importing it is then an ImportError
import test_jax
getattr(test_jax, sys.argv[1])(*sys.argv[2:])
"""


def _under_jax(function, *arguments):
    """Calls a function of this file where there is JAX and no TensorFlow."""
    pytest.importorskip("jax", reason="needs JAX: pip install 'snip_tf[jax]'")
    settings = {
        "KERAS_BACKEND": "jax",
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
    """Trains the saved model on the saved batches, on either backend.

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
        for weight, mask in snip_tf.layers.masked_weights(model)
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


_SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    ("build", "sparsity", "steps", "batch_size", "learning_rate"),
    [
        (_lstm_s, 0.95, 50, 20, 0.05),
        pytest.param(_lenet_5_caffe, 0.98, 50, 20, 0.01, marks=_SLOW),
        pytest.param(_wrn_16_1, 0.9, 50, 32, 0.01, marks=_SLOW),
        pytest.param(_wrn_16_8, 0.95, 10, 8, 0.01, marks=_SLOW),
    ],
)
def test_a_pruned_network_trains_under_jax_as_under_tensorflow(
    build, sparsity, steps, batch_size, learning_rate, tmp_path
):
    model = build()
    x, y = _batches(model.input_shape[1:], steps=steps, batch_size=batch_size)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    snip_tf.prune(model, x[0], y[0], sparsity=sparsity, loss=loss)
    model.save(tmp_path / "pruned.keras")
    np.savez(tmp_path / "batches.npz", x=x, y=y)

    train(tmp_path, "tensorflow", learning_rate)
    _under_jax(train, tmp_path, "jax", learning_rate)

    expected, trained = (
        json.loads((tmp_path / f"{backend}.json").read_text(encoding="utf-8"))
        for backend in ("tensorflow", "jax")
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


def convert():
    """Does what needs no TensorFlow, and asks for what does."""
    inputs = keras.Input((4,))
    model = keras.Model(inputs, keras.layers.Dense(3)(inputs))
    model = snip_tf.masked(snip_tf.strip(snip_tf.masked(model)))
    assert snip_tf.summary(model).kept == 12
    scores = [np.arange(12).reshape(4, 3)]
    snip_tf.set_masks(model, snip_tf.keep_top(scores, sparsity=0.5))
    snip_tf.redraw(model)
    assert snip_tf.summary(model).kept == 6
    assert "sensitivity" in dir(snip_tf)
    with pytest.raises(ModuleNotFoundError, match="tensorflow"):
        snip_tf.sensitivity  # noqa: B018


def test_without_tensorflow_only_scoring_and_data_fail():
    _under_jax(convert)


def test_every_public_name_is_listed_and_loads():
    assert set(snip_tf.__all__) <= set(dir(snip_tf))
    names = {}
    exec("from snip_tf import *", names)
    assert set(snip_tf.__all__) <= set(names)


def test_an_unknown_name_raises_what_python_raises():
    message = "^module 'snip_tf' has no attribute 'purne'$"
    with pytest.raises(AttributeError, match=message):
        snip_tf.purne  # noqa: B018
