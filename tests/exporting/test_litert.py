import contextlib
import functools
import io
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

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


def outputs(flatbuffer, x):
    with warnings.catch_warnings():  # that it is to leave TensorFlow
        warnings.simplefilter("ignore")
        runner = tf.lite.Interpreter(model_content=flatbuffer)
    (given,) = runner.get_input_details()
    (returned,) = runner.get_output_details()
    runner.resize_tensor_input(given["index"], x.shape)
    runner.allocate_tensors()
    runner.set_tensor(given["index"], x)
    runner.invoke()
    return runner.get_tensor(returned["index"])


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
    rows = litert.stored_weights(converted(lstm)[1]).rows
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


# quantization


@pytest.mark.parametrize("network", [odd_widths, rare_convolutions])
def test_float16_rounds_weights(network):
    model, file = converted(network, quantization="float16")
    # 11 bits a weight, and half a unit of the last one at most.
    assert_right(file, model, tolerance=4 * 2**-12)
    assert "float16" in {row.dtype for row in litert.stored_weights(file).rows}


def test_float16_takes_two_bytes_less_an_entry():
    model, half = converted(odd_widths, quantization="float16")
    _, full = converted(odd_widths)
    entries = sum(
        np.count_nonzero(layer.kernel.numpy()) for layer in model.layers
    )
    full, half = (litert.stored_weights(file).bytes for file in (full, half))
    assert full - half == 2 * entries


@pytest.mark.parametrize("network", [odd_widths, conv_bn_pool])
def test_int8_is_within_a_twentieth(network):
    model, file = converted(network, 0.5, "int8")
    expected = np.asarray(model(batch(model)))
    error = outputs(file, batch(model)) - expected
    assert np.std(error) < np.std(expected) / 20
    assert {row.dtype for row in litert.stored_weights(file).rows} == {"int8"}


def test_int8_calibrates_on_batches_as_on_one_array():
    model, file = converted(odd_widths, 0.5, "int8")
    x = batch(model)
    batches = iter([x[:30], [x[30:]]])
    assert file == litert.convert(
        model, quantization="int8", calibration_data=batches
    )


def test_int8_takes_several_inputs_in_the_order_of_the_model():
    inputs = [keras.Input((3,), name="z"), keras.Input((4,), name="a")]
    model = keras.Model(inputs, K.Dense(2)(K.Concatenate()(inputs)))
    batches = [[np.ones((5, 3)), np.ones((5, 4))]]
    assert litert.convert(model, quantization="int8", calibration_data=batches)


# Refused


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision_becomes_float32(policy):
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


def test_unknown_quantization_is_refused():
    with pytest.raises(ValueError) as error:
        litert.convert(sparse(odd_widths), quantization="int4")
    assert str(error.value) == (
        "`quantization` must be None or one of 'float16', 'int8'. "
        "Received: quantization='int4'"
    )


def test_int8_is_refused_for_recurrent_layers():
    model = sparse(lstm)
    with pytest.raises(ValueError) as error:
        litert.convert(
            model, quantization="int8", calibration_data=batch(model)
        )
    assert str(error.value) == (
        "`quantization` must be None or 'float16' for a model with recurrent "
        "layers. Received: quantization='int8', model='lstm_s' with layer "
        "'recurrent'"
    )


@pytest.mark.parametrize(
    ("quantization", "data", "given"),
    [("int8", None, "None"), ("float16", np.ones((1, 30)), "some")],
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
        f"`quantization` is 'int8'. Received: calibration_data={given}, "
        f"quantization={quantization!r}"
    )


# stored_weights


def test_bytes_are_those_of_entries_indices_and_row_ends():
    rows = {row.shape: row for row in litert.stored_weights(known()[1]).rows}
    assert rows[16, 3, 3, 4].bytes == 50 * 4 + 50 + 16 * 3 * 3 + 1
    assert rows[128, 256].bytes == 100 * 4 + 100 + 128 + 1
    # 600 entries: the ends of the rows take two bytes each.
    assert rows[10, 128].bytes == 600 * 4 + 600 + 2 * (10 + 1)


def test_sparse_kernels_are_for_fully_connected_weights_that_are_sparse():
    rows = litert.stored_weights(known()[1]).rows
    assert {row.shape: row.has_sparse_kernel for row in rows} == {
        (16, 3, 3, 4): False,
        (128, 256): True,
        (10, 128): False,
    }
    assert {row.block for row in rows} == {(1, 1), (1, 1, 1, 1)}


def test_what_has_no_sparse_kernel_is_unpacked_by_litert():
    _, file = known()
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        tf.lite.experimental.Analyzer.analyze(model_content=file)
    rows = litert.stored_weights(file).rows
    unpacked = [row for row in rows if row.block and not row.has_sparse_kernel]
    assert printed.getvalue().count("DENSIFY(") == len(unpacked) == 2


def test_blocks_of_tensorflows_converter_are_read(tmp_path):
    known()[0].export(tmp_path, verbose=False)
    converter = tf.lite.TFLiteConverter.from_saved_model(str(tmp_path))
    converter.optimizations = [tf.lite.Optimize.EXPERIMENTAL_SPARSITY]
    rows = litert.stored_weights(converter.convert()).rows
    row = next(row for row in rows if row.shape == (128, 256))
    assert (row.block, row.has_sparse_kernel) == ((1, 4), True)


def test_dense_weights_are_stored_as_they_are():
    rows = litert.stored_weights(converted(odd_widths, kept=1)[1]).rows
    assert {row.shape: row.bytes for row in rows} == {
        (50, 30): 6_000,
        (70, 50): 14_000,
        (10, 70): 2_800,
    }
    assert {(row.block, row.has_sparse_kernel) for row in rows} == {
        (None, False)
    }


def test_the_table_has_a_line_per_weight_and_a_total():
    stored = litert.stored_weights(known()[1])
    lines = str(stored).splitlines()
    assert len(lines) == 5
    fields = next(line.split() for line in lines if "128x256" in line)
    assert fields[1:] == "128x256 float32 1x1 sparse 629".split()
    assert lines[-1].split() == ["total", f"{stored.bytes:,}"]
