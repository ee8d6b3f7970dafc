import functools
import sys

import keras
import numpy as np
import pytest
from litert_reader import op_names, outputs, stored_weights

import snip_tf
from snip_tf.exporting import litert

K = keras.layers


def odd_widths():
    """Widths that no block of weights divides."""
    return [keras.Input((30,)), K.Dense(50, "relu"), K.Dense(70), K.Dense(10)]


def conv_bn_pool():
    return [
        keras.Input((12, 12, 3)),
        K.Conv2D(8, 3, padding="same"),
        K.BatchNormalization(),
        K.ReLU(),
        K.MaxPooling2D(),
        K.Flatten(),
        K.Dense(10),
    ]


def residual():
    inputs = keras.Input((8, 8, 8))
    x = K.Conv2D(8, 3, padding="same", activation="relu")(inputs)
    x = K.Add()([inputs, K.Conv2D(8, 3, padding="same")(x)])
    return keras.Model(inputs, K.Dense(3)(K.GlobalAveragePooling2D()(x)))


def rare_convolutions():
    return [
        keras.Input((8, 8, 16)),
        K.DepthwiseConv2D(3, depth_multiplier=4),
        K.SeparableConv2D(16, 3),
        K.Conv2DTranspose(20, 2),
        K.Reshape((5, 5, 5, 4)),
        K.Conv3D(8, 3),
        K.Reshape((27, 8)),
        K.Conv1D(16, 3, padding="causal"),
    ]


def lstm():
    return snip_tf.strip(snip_tf.models.build("lstm_s", units=16))


def gru():
    return snip_tf.strip(snip_tf.models.build("gru_s", units=16))


def masked_sequences():
    """Zeros are padding; both directions; the outputs of all steps."""
    return [
        keras.Input((9,), dtype="int32"),
        K.Embedding(50, 20, mask_zero=True),
        K.Bidirectional(K.GRU(4, return_sequences=True)),
    ]


def stacked_cells():
    return [keras.Input((None, 3)), K.RNN([K.LSTMCell(4), K.GRUCell(5)])]


def attention():
    inputs = keras.Input((5, 32))
    return keras.Model(inputs, K.MultiHeadAttention(2, 16)(inputs, inputs))


def sparse(network, kept=0.1):
    """Returns a network with random weights, of kernels only some kept."""
    model = network()
    model = keras.Sequential(model) if isinstance(model, list) else model
    generator = np.random.default_rng(0)
    for weight in model.weights:
        value = generator.uniform(0.1, 1, weight.shape)
        if "kernel" in weight.name or weight.name == "embeddings":
            value = generator.normal(size=weight.shape)
            value *= generator.random(weight.shape) < kept
        weight.assign(value)
    return model


@functools.cache
def converted(network, kept=0.1, quantization=None):
    """Returns a sparse network and its file."""
    model = sparse(network, kept)
    x = batch(model) if quantization == "int8" else None
    options = {"quantization": quantization, "calibration_data": x}
    return model, litert.convert(model, **options)


def batch(model, size=100):
    generator = np.random.default_rng(1)
    shape = [axis or 6 for axis in model.inputs[0].shape[1:]]
    if model.inputs[0].dtype == "int32":
        return generator.integers(4, size=(size, *shape), dtype=np.int32)
    return generator.normal(size=(size, *shape)).astype(np.float32)


def assert_right(flatbuffer, model, tolerance=1e-5):
    """The tolerance is a fraction of the largest output."""
    x = batch(model)
    expected = np.asarray(model(x))
    for size in (1, 7, 100):
        np.testing.assert_allclose(
            outputs(flatbuffer, x[:size]),
            expected[:size],
            rtol=0,
            atol=tolerance * np.abs(expected).max(),
        )


@functools.cache
def known():
    """A convolution of 50 weights, a dense layer of 100 and one of 600."""
    model = keras.Sequential(
        [
            keras.Input((4, 4, 4)),
            K.Conv2D(16, 3, padding="same"),
            K.Flatten(),
            K.Dense(128),
            K.Dense(10),
        ]
    )
    conv, _, hidden, last = model.layers
    for layer, kept in ((conv, 50), (hidden, 100), (last, 600)):
        kernel = np.zeros(layer.kernel.shape)
        kernel.flat[:kept] = 1
        layer.kernel.assign(kernel)
    return model, litert.convert(model)


# convert


@pytest.mark.parametrize(
    "network",
    [
        odd_widths,
        conv_bn_pool,
        residual,
        rare_convolutions,
        lstm,
        gru,
        masked_sequences,
        stacked_cells,
        attention,
    ],
    ids=lambda network: network.__name__,
)
def test_outputs_are_those_of_keras_at_any_batch_size(network):
    model, file = converted(network)
    assert_right(file, model)


@pytest.mark.parametrize("kept", [0, 0.02, 1])
def test_outputs_are_right_at_any_sparsity(kept):
    model, file = converted(odd_widths, kept)
    assert_right(file, model)


def test_pruned_lstm_has_a_file_of_a_sixth():
    plain = snip_tf.strip(snip_tf.models.build("lstm_s"))
    _, file = converted(lambda: plain, kept=0.05)
    assert len(file) < 4 * plain.count_params() / 6


def test_weights_of_a_loop_are_in_the_file_once():
    rows = stored_weights(converted(lstm)[1])
    shapes = [row.shape for row in rows]
    assert sorted(shapes) == [(10, 16), (16, 28), (64, 16), (64, 16)]


def test_model_is_left_as_it_was():
    model = keras.Sequential([keras.Input((4, 3)), K.GRU(2)])
    before, x = model.get_weights(), batch(model)
    expected = np.asarray(model(x))
    litert.convert(model)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    assert "inner_loop" not in vars(model.layers[0])
    np.testing.assert_array_equal(model(x), expected)


def augmented():
    """What transfer learning puts in front of a network."""
    return [
        keras.Input((8, 8, 3)),
        K.RandomFlip(),
        K.Conv2D(4, 3),
        K.GaussianNoise(1.0),
        K.Dropout(0.5),
        K.Flatten(),
        K.Dense(3),
    ]


def augmented_base():
    """The same in a model of its own, before a base that is one too."""
    augment = keras.Sequential([K.RandomRotation(0.2), K.RandomZoom(0.2)])
    images = keras.Input((8, 8, 3))
    base = keras.Model(images, K.BatchNormalization()(K.Conv2D(4, 3)(images)))
    inputs = keras.Input((8, 8, 3))
    x = K.Flatten()(base(augment(inputs), training=False))
    return keras.Model(inputs, K.Dense(3)(x))


@pytest.mark.parametrize("network", [augmented, augmented_base])
def test_layers_that_augment_are_off_as_in_predict(network):
    model, file = converted(network)
    x = batch(model)
    expected = model.predict(x, verbose=0)
    assert np.abs(np.asarray(model(x, training=True)) - expected).max() > 0.1
    np.testing.assert_allclose(outputs(file, x), expected, atol=1e-5)


class Subclassed(keras.Model):
    """A model without inputs of its own, with a loop over time."""

    def __init__(self):
        super().__init__()
        self.hidden = K.GRU(30, return_sequences=True)
        self.logits = K.Dense(3)

    def call(self, x):
        return self.logits(self.hidden(x))


def test_a_subclassed_model_is_converted_too():
    model, x = Subclassed(), np.random.default_rng(0).normal(size=(5, 6, 20))
    x = x.astype(np.float32)
    expected = np.asarray(model(x))
    file = litert.convert(model)
    for size in (1, 5):
        np.testing.assert_allclose(
            outputs(file, x[:size]), expected[:size], atol=1e-5
        )


# quantization


@pytest.mark.parametrize("network", [odd_widths, rare_convolutions])
def test_float16_rounds_weights(network):
    model, file = converted(network, quantization="float16")
    # 11 bits a weight, and half a unit of the last one at most.
    assert_right(file, model, tolerance=4 * 2**-12)
    assert "float16" in {row.dtype for row in stored_weights(file)}


def test_float16_takes_two_bytes_less_an_entry():
    model, half = converted(odd_widths, quantization="float16")
    _, full = converted(odd_widths)
    entries = sum(
        np.count_nonzero(layer.kernel.numpy()) for layer in model.layers
    )
    full, half = (
        sum(row.bytes for row in stored_weights(file)) for file in (full, half)
    )
    assert full - half == 2 * entries


# 16 and 64 bits


@pytest.mark.parametrize(
    "policy",
    ["mixed_float16", "mixed_bfloat16", "float16", "bfloat16", "float64"],
)
def test_other_floats_become_float32(policy):
    model = keras.Sequential(
        [
            keras.Input((8, 8, 2)),
            keras.layers.Conv2D(4, 3, activation="relu", dtype=policy),
            keras.layers.Flatten(dtype=policy),
            keras.layers.Dense(3),
        ]
    )
    x = np.random.default_rng(0).normal(size=(5, 8, 8, 2)).astype("float32")
    found = outputs(litert.convert(model), x)
    # 16 bits have 8 or 11 binary digits.
    np.testing.assert_allclose(found, model(x), atol=0.05)
    assert found.dtype == np.float32
    assert [layer.dtype_policy.name for layer in model.layers] == [
        policy,
        policy,
        "float32",
    ]


# Refused


@pytest.mark.parametrize(
    ("quantization", "data", "given"),
    [("int8", None, "NoneType"), ("float16", np.ones((1, 30)), "ndarray")],
)
def test_calibration_data_without_use_or_missing_is_refused(
    quantization, data, given
):
    with pytest.raises(ValueError) as error:
        litert.convert(
            sparse(odd_widths), quantization=quantization, calibration_data=data
        )
    assert str(error.value) == (
        "`calibration_data` must be example inputs if, and only if, "
        f"`quantization` is 'int8'. Received: quantization={quantization!r}, "
        f"calibration_data of {given}"
    )


# What is stored, and how


def test_bytes_are_those_of_entries_indices_and_row_ends():
    rows = {row.shape: row for row in stored_weights(known()[1])}
    assert rows[16, 3, 3, 4].bytes == 50 * 4 + 50 + 16 * 3 * 3 + 1
    assert rows[128, 256].bytes == 100 * 4 + 100 + 128 + 1
    # 600 entries: the ends of the rows take two bytes each.
    assert rows[10, 128].bytes == 600 * 4 + 600 + 2 * (10 + 1)


def test_the_table_has_a_line_for_each_weight():
    lines = litert.stored_weights(known()[1]).splitlines()
    assert {tuple(line.split()[1:]) for line in lines} == {
        ("shape", "dtype", "kernel", "bytes"),
        ("16x3x3x4", "float32", "dense", "395"),
        ("128x256", "float32", "sparse", "629"),
        ("10x128", "float32", "dense", "3,022"),
    }


def test_sparse_kernels_are_for_fully_connected_weights_that_are_sparse():
    rows = stored_weights(known()[1])
    assert {row.shape: row.readers for row in rows} == {
        (16, 3, 3, 4): {"DENSIFY"},
        (128, 256): {"FULLY_CONNECTED"},
        (10, 128): {"DENSIFY"},
    }
    assert all(row.is_sparse for row in rows)


def test_dense_weights_are_stored_as_they_are():
    rows = stored_weights(converted(odd_widths, kept=1)[1])
    assert {row.shape: row.bytes for row in rows} == {
        (50, 30): 6_000,
        (70, 50): 14_000,
        (10, 70): 2_800,
    }
    assert not any(row.is_sparse for row in rows)


@pytest.mark.parametrize("quantization", [None, "float16"])
def test_a_dense_file_has_neither_sparse_weights_nor_densify(quantization):
    model, small = converted(conv_bn_pool, quantization=quantization)
    file = litert.convert(model, quantization=quantization, dense=True)
    assert "DENSIFY" in op_names(small)
    assert "DENSIFY" not in op_names(file)
    assert not any(row.is_sparse for row in stored_weights(file))
    x = batch(model)
    np.testing.assert_allclose(
        outputs(file, x), outputs(small, x), rtol=1e-5, atol=1e-6
    )


# interpreter


def test_without_ai_edge_litert_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
    with pytest.raises(ImportError, match=r"pip install 'snip_tf\[litert\]'"):
        litert.interpreter(b"")
