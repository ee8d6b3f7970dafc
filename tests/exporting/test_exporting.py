"""`export`: what it writes runs without snip_tf; what it refuses, and how."""

import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
import test_compaction
from litert_reader import op_names, outputs, stored_weights

import snip_tf
from snip_tf import exporting, layers
from snip_tf.exporting import litert

FILES = {"litert": "model.tflite", "keras": "model.keras"}


@pytest.fixture
def model():
    """A pruned convolutional network with batch normalisation."""
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Conv2D(6, 3, padding="same"),
            keras.layers.BatchNormalization(),
            keras.layers.ReLU(),
            keras.layers.MaxPooling2D(),
            keras.layers.Flatten(),
            layers.Dense(20, activation="relu", bias_initializer="normal"),
            layers.Dense(10),
        ]
    )
    scores = snip_tf.scores.random(model, seed=0)
    snip_tf.set_masks(model, snip_tf.keep_top(scores, 0.95))
    return model


@keras.saving.register_keras_serializable("test_exporting")
class Subclassed(keras.Model):
    """A model whose own code makes and calls its layers."""

    def __init__(self, **options):
        super().__init__(**options)
        self.convolution = keras.layers.Conv2D(6, 3, activation="relu")
        self.drop = keras.layers.Dropout(0.5)
        self.logits = keras.layers.Dense(10)

    def call(self, images, training=False):
        x = self.convolution(images)
        x = self.drop(keras.ops.mean(x, axis=(1, 2)), training=training)
        return self.logits(x)


def subclassed():
    model = Subclassed()
    model(_x(2))
    snip_tf.masked(model)
    scores = snip_tf.scores.random(model, seed=0)
    snip_tf.set_masks(model, snip_tf.keep_top(scores, 0.8))
    return model


def _x(batch):
    generator = np.random.default_rng(batch)
    return generator.normal(size=(batch, 8, 8, 1)).astype(np.float32)


def _run(path, x):
    """Returns what the file or directory makes of x, in its own engine."""
    if path.is_dir():
        loaded = tf.saved_model.load(path)  # `serve` alone would not keep it
        return loaded.serve(x).numpy()
    if path.suffix == ".keras":
        return keras.models.load_model(path).predict(x, verbose=0)
    return outputs(path.read_bytes(), x)


@pytest.mark.parametrize("compact", [False, True])
@pytest.mark.parametrize("format", exporting.FORMATS)
def test_outputs_are_those_of_the_masked_model(
    format, compact, model, tmp_path
):
    path = snip_tf.export(
        model, tmp_path / "out", format=format, compact=compact
    )
    assert path == tmp_path / "out" / FILES.get(format, "")
    np.testing.assert_allclose(
        _run(path, _x(3)), np.array(model(_x(3))), atol=1e-5
    )


@pytest.mark.parametrize("format", ["saved_model", "sparse_saved_model"])
def test_a_saved_model_runs_where_there_is_only_tensorflow(
    format, model, tmp_path
):
    path = snip_tf.export(model, tmp_path / "out", format=format)
    sizes = (1, 7, 1000)
    inputs = {str(size): _x(size) for size in sizes}
    np.savez(tmp_path / "x.npz", **inputs)
    code = f"""
import sys
sys.modules.update(dict.fromkeys(("snip_tf", "keras")))
import numpy as np, tensorflow as tf
model = tf.saved_model.load({str(path)!r})
inputs = np.load({str(tmp_path / "x.npz")!r})
outputs = {{size: model.serve(inputs[size]).numpy() for size in inputs}}
np.savez({str(tmp_path / "y.npz")!r}, **outputs)
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)
    outputs = np.load(tmp_path / "y.npz")
    for size, x in inputs.items():
        np.testing.assert_allclose(outputs[size], np.array(model(x)), atol=1e-6)


def test_the_sparse_saved_model_is_the_saved_model_to_the_bit(model, tmp_path):
    dense = snip_tf.export(model, tmp_path / "dense", format="saved_model")
    sparse = snip_tf.export(
        model, tmp_path / "sparse", format="sparse_saved_model"
    )
    np.testing.assert_array_equal(_run(sparse, _x(7)), _run(dense, _x(7)))


@pytest.mark.parametrize("format", exporting.FORMATS)
def test_a_subclassed_model_is_exported_too(format, tmp_path):
    model = subclassed()
    path = snip_tf.export(model, tmp_path / "out", format=format)
    np.testing.assert_allclose(
        _run(path, _x(3)), np.array(model(_x(3))), atol=1e-5
    )


@pytest.mark.parametrize("format", exporting.FORMATS)
@pytest.mark.parametrize("fails", [False, True])
def test_the_model_is_left_as_it_was(format, fails, tmp_path, monkeypatch):
    model = subclassed()
    model.compile("adam", "mse")
    model.fit(_x(8), np.zeros((8, 10)), verbose=0)
    optimizer, kinds = model.optimizer, [type(one) for one in model.layers]
    weights, expected = model.get_weights(), np.array(model(_x(3)))
    if fails:

        def full(*_args, **_options):
            raise OSError("no space left on device")

        monkeypatch.setattr("os.fsync", full)
        with pytest.raises(OSError, match="no space left"):
            snip_tf.export(model, tmp_path / "out", format=format)
        assert not list(tmp_path.iterdir())
    else:
        snip_tf.export(model, tmp_path / "out", format=format)
    assert [type(one) for one in model.layers] == kinds
    for value, before in zip(model.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(value, before)
    np.testing.assert_array_equal(np.array(model(_x(3))), expected)
    assert model.optimizer is optimizer
    model.fit(_x(8), np.zeros((8, 10)), verbose=0)
    assert int(optimizer.iterations) == 2


@pytest.mark.parametrize("format", exporting.FORMATS)
def test_layers_that_augment_are_off_in_every_format(format, tmp_path):
    model = snip_tf.masked(
        keras.Sequential(
            [
                keras.Input((8, 8, 1)),
                keras.layers.RandomFlip(),
                keras.layers.Conv2D(4, 3),
                keras.layers.Flatten(),
                keras.layers.Dense(3),
            ]
        )
    )
    path = snip_tf.export(model, tmp_path / "out", format=format)
    np.testing.assert_allclose(
        _run(path, _x(5)), model.predict(_x(5), verbose=0), atol=1e-5
    )


def test_a_compiled_model_is_as_large_as_one_that_is_not(model, tmp_path):
    path = snip_tf.export(model, tmp_path / "plain", format="keras")
    model.compile("adam", lambda y_true, y_pred: 0.0 * y_pred)
    model.fit(_x(8), np.zeros((8, 10)), verbose=0)
    other = snip_tf.export(model, tmp_path / "compiled", format="keras")
    sizes = [file.stat().st_size for file in (path, other)]
    assert sizes[1] < 1.05 * sizes[0]
    assert not keras.models.load_model(other).compiled  # knows no such loss
    assert model.compiled


def test_the_keras_file_is_of_plain_keras_layers(model, tmp_path):
    path = snip_tf.export(model, tmp_path / "out", format="keras")
    plain = keras.models.load_model(path)
    assert [type(layer).__module__.split(".")[0] for layer in plain.layers] == [
        "keras"
    ] * len(plain.layers)
    assert not [w.name for w in plain.weights if "mask" in w.name]


def test_compact_stores_fewer_parameters(model, tmp_path):
    counts = [
        keras.models.load_model(
            snip_tf.export(
                model, tmp_path / str(compact), format="keras", compact=compact
            )
        ).count_params()
        for compact in (False, True)
    ]
    assert counts[1] < counts[0] / 2


def test_litert_is_compact_by_default(model, tmp_path):
    shapes = []
    for compact in (None, True, False):
        path = snip_tf.export(
            model, tmp_path / str(compact), format="litert", compact=compact
        )
        rows = stored_weights(path.read_bytes())
        shapes.append({row.shape for row in rows})
    assert shapes[0] == shapes[1] != shapes[2]


def test_a_dense_litert_file_has_no_sparse_weights(model, tmp_path):
    path = snip_tf.export(
        model, tmp_path / "out", format="litert", compact=False, dense=True
    )
    file = path.read_bytes()
    assert "DENSIFY" not in op_names(file)
    assert not any(row.is_sparse for row in stored_weights(file))
    np.testing.assert_allclose(
        _run(path, _x(3)), np.array(model(_x(3))), atol=1e-5
    )


def test_int8_takes_the_data_set_of_fit(model, tmp_path):
    pairs = tf.data.Dataset.from_tensor_slices((_x(40), np.zeros(40))).batch(8)
    path = snip_tf.export(
        model,
        tmp_path / "out",
        format="litert",
        quantization="int8",
        calibration_data=pairs,
    )
    rows = stored_weights(path.read_bytes())
    assert {row.dtype for row in rows} == {"int8"}


def test_an_earlier_export_is_kept_unless_it_is_to_be_overwritten(
    model, tmp_path
):
    directory = tmp_path / "out"
    snip_tf.export(model, directory, format="keras")
    with pytest.raises(
        FileExistsError, match="with `overwrite` hold an earlier"
    ):
        snip_tf.export(model, directory)
    assert {path.name for path in directory.iterdir()} == {
        "model.keras",
        "SHA256SUMS",
    }
    snip_tf.export(model, directory, overwrite=True)
    assert not (directory / "model.keras").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_directory_keeps_its_mode(model, tmp_path):
    (tmp_path / "out").mkdir(mode=0o700)
    snip_tf.export(model, tmp_path / "out", format="keras")
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    ("directory", "message"),
    [
        (".", "another than the working directory. Received: directory='/"),
        ("gs://bucket/model", "on a local disk. Received: directory=gs://buck"),
    ],
)
def test_places_that_would_be_others_are_refused(
    directory, message, model, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=message):
        snip_tf.export(model, directory, format="keras")
    assert not list(tmp_path.iterdir())


def test_an_export_that_fails_leaves_the_old_one(model, tmp_path, monkeypatch):
    path = snip_tf.export(model, tmp_path / "out", format="keras")
    before = path.read_bytes()

    def full(*_args, **_options):
        raise OSError("no space left on device")

    monkeypatch.setattr(tf.saved_model, "save", full)
    with pytest.raises(OSError, match="no space left"):
        snip_tf.export(model, tmp_path / "out", overwrite=True)
    assert path.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("other", ["notes.txt", "variables"])
def test_other_peoples_files_are_never_replaced(other, model, tmp_path):
    (tmp_path / "model.keras").write_bytes(b"")
    (tmp_path / other).write_text("mine")
    with pytest.raises(FileExistsError, match="nothing else. Received: "):
        snip_tf.export(model, tmp_path, overwrite=True)
    assert (tmp_path / other).exists()


def test_a_file_is_refused_as_directory(model, tmp_path):
    (tmp_path / "out").write_text("")
    with pytest.raises(FileExistsError, match="`directory` must"):
        snip_tf.export(model, tmp_path / "out")
    with pytest.raises(OSError, match="inside must be writable"):
        snip_tf.export(model, tmp_path / "out" / "inside")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"format": "onnx"}, "one of saved_model, sparse_saved_model, litert"),
        ({"quantization": "int8"}, 'go with format="litert" only.*quantiz'),
        ({"dense": True}, 'go with format="litert" only. .* and dense'),
        (
            {"format": "litert", "quantization": "int4"},
            "one of None, float16, int8",
        ),
        (
            {"format": "litert", "quantization": "int8"},
            "`calibration_data` must be ex",
        ),
        (
            {"calibration_data": np.zeros((2, 3))},
            'go with format="litert" only',
        ),
    ],
)
def test_bad_options_are_refused(options, message, model, tmp_path):
    with pytest.raises(ValueError, match=message):
        snip_tf.export(model, tmp_path / "out", **options)
    assert not list(tmp_path.iterdir())


def test_on_another_backend_only_keras_files_are_written(
    model, tmp_path, monkeypatch
):
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    for format in set(exporting.FORMATS) - {"keras"}:
        message = f"unless .* TensorFlow.*Received: format='{format}', .*=jax"
        with pytest.raises(ValueError, match=message):
            snip_tf.export(model, tmp_path / "out", format=format)
    assert not list(tmp_path.iterdir())
    snip_tf.export(model, tmp_path / "out", format="keras")


def test_a_model_that_is_not_built_is_refused(tmp_path):
    with pytest.raises(ValueError, match="must be a built Keras model"):
        snip_tf.export(keras.Sequential([layers.Dense(2)]), tmp_path / "out")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("format", snip_tf.exporting.FORMATS)
def test_a_stripped_model_has_the_files_of_a_masked_one(
    format, model, tmp_path
):
    one = snip_tf.export(model, tmp_path / "one", format=format)
    snip_tf.strip(model)
    two = snip_tf.export(model, tmp_path / "two", format=format)
    sizes = [
        sum(file.stat().st_size for file in path.rglob("*"))
        for path in (tmp_path / "one", tmp_path / "two")
    ]
    assert one.name in (two.name, "one")
    assert sizes[1] == pytest.approx(sizes[0], rel=0.02)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The masks of these kernels:UserWarning")
@pytest.mark.filterwarnings(test_compaction.WHOLE)
@pytest.mark.parametrize("sparsity", [0.5, 0.9, 0.99])
@pytest.mark.parametrize("build", test_compaction.NETWORKS[:4])
def test_every_format_gives_the_outputs_of_random_masks(
    build, sparsity, tmp_path
):
    generator = np.random.default_rng(int(1000 * sparsity))
    model = build(generator)
    test_compaction._random_values(model, generator)
    test_compaction._random_masks(model, sparsity, generator)
    (shape,) = (tensor.shape[1:] for tensor in model.inputs)
    x = generator.normal(size=(4, *shape)).astype(np.float32)
    expected = keras.tree.flatten(model(x))
    for format in exporting.FORMATS:
        for compact in (False, True):
            path = snip_tf.export(
                model,
                tmp_path / f"{format}{compact}",
                format=format,
                compact=compact,
            )
            found = keras.tree.flatten(_structured(path, x))
            for value, close_to in zip(found, expected, strict=True):
                np.testing.assert_allclose(
                    np.array(value), np.array(close_to), atol=1e-5, rtol=1e-5
                )


def _structured(path, x):
    """Returns what the file or directory makes of x, by names of outputs."""
    if path.suffix != ".tflite":
        if path.is_dir():
            loaded = tf.saved_model.load(path)
            return loaded.serve(x)
        return keras.models.load_model(path)(x)
    interpreter = litert.interpreter(path.read_bytes())
    run = interpreter.get_signature_runner("serving_default")
    (name,) = run.get_input_details()
    return run(**{name: x})
