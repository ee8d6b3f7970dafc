import keras
import numpy as np
import pytest

import snip_tf
from snip_tf import layers


@pytest.fixture
def model():
    """784-300-100-10 with known masks: one unit of each layer is dead."""
    model = snip_tf.models.build("lenet_300_100")
    masks = snip_tf.get_masks(model)
    masks[0][:5] = 0  # five inputs
    masks[0][:, :7] = 0  # seven outputs
    masks[1][:] = 0
    snip_tf.set_masks(model, masks)
    return model


def test_summary_counts_what_is_kept(model):
    row = snip_tf.summary(model).rows[0]
    assert row.name == "fc1/kernel"
    assert row.shape == (784, 300)
    assert row.weights == 235_200
    assert row.kept == 779 * 293
    assert row.sparsity == pytest.approx(1 - 779 * 293 / 235_200)


def test_summary_counts_live_units(model):
    row, bias, *_ = snip_tf.summary(model).rows
    assert row.inputs == (779, 784)
    assert row.outputs == (293, 300)
    assert (bias.inputs, bias.outputs) == (None, None)


def test_channels_are_the_units_of_a_convolution():
    model = snip_tf.models.build("lenet_5_caffe")
    masks = snip_tf.get_masks(model)
    masks[2][:, :, 3] = 0
    masks[2][:, :, :, 10:] = 0
    snip_tf.set_masks(model, masks)
    row = snip_tf.summary(model).rows[2]
    assert (row.inputs, row.outputs) == ((19, 20), (10, 50))


def test_the_total_is_the_sum_of_the_rows(model):
    summary = snip_tf.summary(model)
    kept = sum(np.count_nonzero(mask) for mask in snip_tf.get_masks(model))
    assert (summary.weights, summary.kept) == (266_610, kept)
    assert snip_tf.model_sparsity(model) == pytest.approx(1 - kept / 266_610)


def test_the_table_has_a_line_per_weight_and_a_total(model):
    lines = str(snip_tf.summary(model)).splitlines()
    assert len(lines) == 8
    fields = "fc1/kernel 784x300 228,247 235,200 2.96% 779/784 293/300"
    assert lines[1].split() == fields.split()
    assert lines[-1].split()[0::2] == ["total", "266,610"]


@pytest.mark.parametrize(
    ("layer", "inputs", "outputs"),
    [
        (layers.Conv2DTranspose(7, 3), (3, 3), (7, 7)),
        (layers.DepthwiseConv2D(3, depth_multiplier=2), (3, 3), (6, 6)),
        (layers.Conv2D(5, 3), (3, 3), (5, 5)),
        (layers.EinsumDense("bhwc,cd->bhwd", (8, 8, 4)), (3, 3), (4, 4)),
    ],
)
def test_units_are_those_of_the_layer(layer, inputs, outputs):
    model = keras.Sequential([keras.Input((8, 8, 3)), layer])
    (mask,) = snip_tf.get_masks(model)
    row, *_ = snip_tf.summary(model).rows
    assert (row.inputs, row.outputs) == (inputs, outputs)
    assert str(snip_tf.summary(model))


def test_a_dead_channel_of_a_depthwise_kernel_kills_its_outputs():
    layer = layers.DepthwiseConv2D(3, depth_multiplier=2)
    model = keras.Sequential([keras.Input((8, 8, 3)), layer])
    (mask,) = snip_tf.get_masks(model)
    mask[:, :, 1] = 0
    snip_tf.set_masks(model, [mask])
    row, *_ = snip_tf.summary(model).rows
    assert (row.inputs, row.outputs) == ((2, 3), (4, 6))


class Bilinear(keras.layers.Layer):
    """A user's own layer with 4,608 weights that multiply."""

    def build(self, shape):
        self.form = self.add_weight(name="form", shape=(8, 3 * 8 * 24))
        self.scale = self.add_weight(name="scale", shape=(8,))

    def call(self, x):
        return (x * self.scale) @ self.form


@pytest.fixture
def partly_dense():
    """A model with masks in its last layer alone."""
    return keras.Sequential(
        [
            keras.Input((4, 8, 8, 2)),
            keras.layers.ConvLSTM2D(8, 3, name="big"),
            keras.layers.LayerNormalization(axis=[1, 2, 3]),
            keras.layers.GlobalAveragePooling2D(),
            Bilinear(name="own"),
            layers.Dense(3),
        ]
    )


def test_layers_left_dense_are_counted_and_named(partly_dense):
    summary = snip_tf.summary(partly_dense)
    recurrent = 3 * 3 * (2 + 8) * (4 * 8)
    assert summary.dense == recurrent + 4_608
    assert summary.dense_layers == ("big/conv_lstm_cell", "own")
    assert summary.weights == 576 * 3  # without those
    lines = str(summary).splitlines()
    assert lines[-1] == "not masked: 7,488 weights in big/conv_lstm_cell, own"
    assert lines[-2].startswith("total")


@pytest.mark.parametrize("mask_bias", [False, True])
def test_biases_scales_and_states_are_not_left_dense(mask_bias):
    inputs = keras.Input((6, 3))
    x = keras.layers.BatchNormalization()(inputs)
    x = layers.MultiHeadAttention(2, 3, mask_bias=mask_bias)(x, x)
    x = layers.Conv1D(4, 3, mask_bias=mask_bias)(x)
    x = keras.layers.PReLU()(x)
    x = keras.layers.Bidirectional(layers.GRU(2, mask_bias=mask_bias))(x)
    x = keras.layers.SpectralNormalization(keras.layers.Dense(3, name="fc"))(x)
    summary = snip_tf.summary(keras.Model(inputs, x))
    # The kernel of the one layer without a mask.
    assert summary.dense == (2 * 2) * 3
    assert "spectral_normalization" in summary.dense_layers[0]


def test_a_masked_model_has_no_line_of_layers_left_dense(model):
    assert snip_tf.summary(model).dense == 0
    assert "not masked" not in str(snip_tf.summary(model))


# Multiply-adds


def test_lenet_300_100_by_hand():
    count = snip_tf.flops(snip_tf.models.build("lenet_300_100"))
    by_hand = [784 * 300, 300 * 100, 100 * 10]
    assert [row.dense for row in count.rows] == by_hand
    assert count.dense == count.effective == 266_200


def test_lenet_5_caffe_by_hand():
    count = snip_tf.flops(snip_tf.models.build("lenet_5_caffe"))
    by_hand = {
        "conv1/kernel": 24 * 24 * (5 * 5 * 1) * 20,
        "conv2/kernel": 8 * 8 * (5 * 5 * 20) * 50,
        "fc1/kernel": (4 * 4 * 50) * 500,
        "fc2/kernel": 500 * 10,
    }
    assert {row.name: row.dense for row in count.rows} == by_hand
    assert count.dense == 2_293_000


def test_a_block_of_wrn_16_8_that_halves_the_image_by_hand():
    count = snip_tf.flops(snip_tf.models.build("wrn_16_8"))
    dense = {row.name: row.dense for row in count.rows}
    positions, before, filters = 16 * 16, 128, 256
    block = "group2_block1"
    by_hand = {
        f"{block}_shortcut/kernel": positions * before * filters,
        f"{block}_conv1/kernel": positions * 3 * 3 * before * filters,
        f"{block}_conv2/kernel": positions * 3 * 3 * filters * filters,
    }
    assert {name: dense[name] for name in by_hand} == by_hand


def test_lstm_s_by_hand():
    count = snip_tf.flops(snip_tf.models.build("lstm_s"))
    assert [row.dense for row in count.rows] == [
        28 * 28 * 128,  # 28 rows of 28 pixels are projected
        28 * 128 * (4 * 128),
        28 * 128 * (4 * 128),
        128 * 10,
    ]


def convolutions():
    return keras.Sequential(
        [
            keras.Input((6, 6, 2)),
            keras.layers.Conv2D(4, 3),
            keras.layers.BatchNormalization(),
            keras.layers.DepthwiseConv2D(3, padding="same"),
            keras.layers.SeparableConv2D(3, 2),
            keras.layers.Conv2DTranspose(2, 2),
        ]
    )


def recurrent():
    cells = [keras.layers.LSTMCell(3), keras.layers.GRUCell(2)]
    return keras.Sequential(
        [
            keras.Input((5,), dtype="int32"),
            keras.layers.Embedding(7, 4),
            keras.layers.TimeDistributed(keras.layers.Dense(3)),
            keras.layers.Bidirectional(
                keras.layers.SimpleRNN(3, return_sequences=True)
            ),
            keras.layers.RNN(cells),
        ]
    )


def attention():
    inputs = keras.Input((4, 3))
    x = keras.layers.MultiHeadAttention(2, 3)(inputs, inputs)
    x = keras.layers.LayerNormalization()(x)
    dense = keras.layers.EinsumDense("abc,cd->abd", (None, 2), bias_axes="d")
    return keras.Model(inputs, dense(x))


@pytest.mark.parametrize("network", [convolutions, recurrent, attention])
def test_plain_masked_and_stripped_networks_count_the_same(network):
    model = network()
    plain = snip_tf.flops(model)
    assert plain.uncounted == ()
    assert plain.effective == plain.dense > 0
    model = snip_tf.masked(model)
    generator = np.random.default_rng(3)
    masks = [
        generator.random(mask.shape) < 0.5 for mask in snip_tf.get_masks(model)
    ]
    snip_tf.set_masks(model, masks)
    pruned = snip_tf.flops(model)
    assert pruned.uncounted == ()
    assert [row.dense for row in pruned.rows] == [
        row.dense for row in plain.rows
    ]
    kept = {row.name: row.kept for row in snip_tf.summary(model).rows}
    assert {row.name: row.kept for row in pruned.rows} == kept
    assert sum(kept.values()) == sum(map(np.count_nonzero, masks))
    assert snip_tf.flops(snip_tf.strip(model)).effective == pruned.effective


def test_what_is_stored_under_a_mask_does_not_count():
    model = keras.Sequential([keras.Input((3,)), layers.Dense(3)])
    ((weight, mask),) = layers.masked_weights(model)
    mask.assign(np.eye(3))  # and not set_masks, which zeroes the weight
    assert np.all(weight.numpy() != 0)
    count = snip_tf.flops(model)
    assert (count.dense, count.effective, count.ratio) == (9, 3, 1 / 3)


def test_weights_that_are_not_counted_are_named(partly_dense):
    count = snip_tf.flops(partly_dense)
    assert count.dense == 576 * 3
    cell = "big/conv_lstm_cell"
    own = (f"{cell}/kernel", f"{cell}/recurrent_kernel", "own/form")
    assert count.uncounted == own
    assert str(count).splitlines()[-1] == f"not counted: {', '.join(own)}"


def test_the_table_has_a_line_per_kernel_and_a_total():
    model = snip_tf.models.build("lenet_300_100")
    masks = snip_tf.get_masks(model)
    masks[0][:, 100:] = 0
    snip_tf.set_masks(model, masks)
    lines = str(snip_tf.flops(model)).splitlines()
    header = "weight shape multiply-adds nonzero ratio"
    assert lines[0].split() == header.split()
    fields = "fc1/kernel 784x300 235,200 78,400 33.33%"
    assert lines[1].split() == fields.split()
    assert lines[-1].split() == ["total", "266,200", "109,400", "41.10%"]


def test_a_model_with_nothing_to_count_is_refused():
    layer = keras.layers.ReLU()
    model = keras.Sequential([keras.Input((2,)), layer], name="new")
    with pytest.raises(ValueError, match="that multiplies.*model='new'"):
        snip_tf.flops(model)
