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
    assert (row.live_inputs, row.live_outputs) == (779, 293)
    assert (row.inputs, row.outputs) == (784, 300)
    assert (bias.live_inputs, bias.live_outputs) == (None, None)


def test_channels_are_the_units_of_a_convolution():
    model = snip_tf.models.build("lenet_5_caffe")
    masks = snip_tf.get_masks(model)
    masks[2][:, :, 3] = 0
    masks[2][:, :, :, 10:] = 0
    snip_tf.set_masks(model, masks)
    row = snip_tf.summary(model).rows[2]
    assert (row.live_inputs, row.live_outputs) == (19, 10)


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
        (layers.Conv2DTranspose(7, 3), 3, 7),
        (layers.DepthwiseConv2D(3, depth_multiplier=2), 3, 6),
        (layers.Conv2D(5, 3), 3, 5),
        (layers.EinsumDense("bhwc,cd->bhwd", (8, 8, 4)), None, None),
    ],
)
def test_units_are_those_of_the_layer(layer, inputs, outputs):
    model = keras.Sequential([keras.Input((8, 8, 3)), layer])
    (mask,) = snip_tf.get_masks(model)
    row, *_ = snip_tf.summary(model).rows
    assert (row.inputs, row.outputs) == (inputs, outputs)
    assert (row.live_inputs, row.live_outputs) == (inputs, outputs)
    assert str(snip_tf.summary(model))


def test_a_dead_channel_of_a_depthwise_kernel_kills_its_outputs():
    layer = layers.DepthwiseConv2D(3, depth_multiplier=2)
    model = keras.Sequential([keras.Input((8, 8, 3)), layer])
    (mask,) = snip_tf.get_masks(model)
    mask[:, :, 1] = 0
    snip_tf.set_masks(model, [mask])
    row, *_ = snip_tf.summary(model).rows
    assert (row.live_inputs, row.live_outputs) == (2, 4)
