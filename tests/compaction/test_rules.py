"""Each rule of `compact` by itself: what it says must be true of the layer."""

import keras
import numpy as np
import pytest

from snip_tf import layers
from snip_tf.compaction.facts import Weights
from snip_tf.compaction.graph import graph_of
from snip_tf.compaction.rebuild import twin_of
from snip_tf.compaction.rules import rule_of

stock = keras.layers
# Of the five units of an input, three are always the same.
_CONSTANTS = np.array([np.nan, 0.0, 1.5, -0.5, np.nan])
_UNITS, _IMAGES, _STEPS = (5,), (5, 5, 5), (3, 5)

# A row a rule and option: (name, function of one input or more, their shape).
ROWS = [
    ("dense", layers.Dense(6, activation="tanh"), _UNITS),
    ("dense_of_steps", stock.Dense(6, use_bias=False), _STEPS),
    ("conv_1d", layers.Conv1D(6, 2, mask_bias=True), _STEPS),
    ("conv_2d", layers.Conv2D(6, 3, activation="sigmoid"), _IMAGES),
    ("conv_padded", stock.Conv2D(6, 3, padding="same"), _IMAGES),
    ("conv_1x1", stock.Conv2D(6, 1, padding="same", strides=2), _IMAGES),
    ("conv_3d", stock.Conv3D(6, 2), (3, 3, 3, 5)),
    (
        "depthwise",
        layers.DepthwiseConv2D(3, depth_multiplier=2, activation="tanh"),
        _IMAGES,
    ),
    ("depthwise_padded", stock.DepthwiseConv1D(3, padding="same"), _STEPS),
    ("separable", layers.SeparableConv2D(6, 2, depth_multiplier=2), _IMAGES),
    ("separable_1d", stock.SeparableConv1D(6, 2, padding="same"), _STEPS),
    ("batch_normalization", stock.BatchNormalization(), _IMAGES),
    (
        "batch_normalization_plain",
        stock.BatchNormalization(center=False, scale=False),
        _UNITS,
    ),
    ("lstm", layers.LSTM(6, return_sequences=True, use_bias=False), _STEPS),
    (
        "lstm_with_bias",
        layers.LSTM(6, mask_bias=True, return_sequences=True),
        _STEPS,
    ),
    ("gru", layers.GRU(6, use_bias=False), _STEPS),
    ("gru_with_bias", stock.GRU(6, return_sequences=True), _STEPS),
    ("simple_rnn", layers.SimpleRNN(6, use_bias=False), _STEPS),
    ("activation", stock.Activation("gelu"), _IMAGES),
    ("relu", stock.ReLU(max_value=1.0, negative_slope=0.1), _UNITS),
    ("leaky_relu", stock.LeakyReLU(), _UNITS),
    ("elu", stock.ELU(), _UNITS),
    ("identity", stock.Identity(), _UNITS),
    ("noise", stock.GaussianNoise(0.5), _UNITS),
    ("dropout", stock.Dropout(0.5), _UNITS),
    ("spatial_dropout", stock.SpatialDropout2D(0.5), _IMAGES),
    ("max_pooling", stock.MaxPooling2D(2, padding="same"), _IMAGES),
    ("average_pooling", stock.AveragePooling2D(2, padding="same"), _IMAGES),
    ("global_max_pooling", stock.GlobalMaxPooling2D(), _IMAGES),
    ("global_average", stock.GlobalAveragePooling1D(), _STEPS),
    ("up_sampling", stock.UpSampling2D(interpolation="bilinear"), _IMAGES),
    ("cropping", stock.Cropping2D(1), _IMAGES),
    ("zero_padding", stock.ZeroPadding2D(1), _IMAGES),
    ("flatten", stock.Flatten(), _IMAGES),
    ("concatenate", lambda x, y: stock.Concatenate()([x, y]), _IMAGES),
    ("add", lambda x, y: stock.Add()([x, y]), _IMAGES),
    ("subtract", lambda x, y: stock.Subtract()([x, y]), _IMAGES),
    ("multiply", lambda x, y: stock.Multiply()([x, y]), _IMAGES),
    ("average", lambda x, y: stock.Average()([x, y]), _UNITS),
    ("maximum", lambda x, y: stock.Maximum()([x, y]), _UNITS),
    ("minimum", lambda x, y: stock.Minimum()([x, y]), _UNITS),
    ("plus", lambda x, y: x + y, _IMAGES),
    ("times_a_number", lambda x: 2.0 * x, _IMAGES),
    ("relu_operation", lambda x: keras.ops.relu(x), _IMAGES),
]
_EACH = pytest.mark.parametrize(
    ("build", "shape"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS]
)


def _call(build, shape):
    """Returns (call, its weights, the facts); two thirds of a kernel zero."""
    generator = np.random.default_rng(0)
    takes = 1 if isinstance(build, stock.Layer) else build.__code__.co_argcount
    inputs = [keras.Input(shape) for _ in range(takes)]
    if isinstance(build, stock.Layer):  # anew, as each test changes it
        build = type(build).from_config(build.get_config())
    (call,) = graph_of(keras.Model(inputs, build(*inputs))).calls
    for weight in getattr(call.layer, "weights", []):
        value = generator.normal(size=weight.shape)
        if weight.name.endswith("_mask"):
            value = value > 0
        elif "kernel" in weight.name:
            value *= generator.random(weight.shape) > 0.6
            units = getattr(call.layer, "units", value.shape[-1])
            by_gate = value.reshape(-1, value.shape[-1] // units, units)
            by_gate[..., :2] = 0  # without any inputs
        elif weight.name == "moving_variance":
            value = value**2 + 0.1
        weight.assign(value)
    weights = Weights.of(call.layer, for_training=False)
    rule = rule_of(call, for_training=False)
    facts = rule.forward(call, weights, [_CONSTANTS] * takes)
    return call, rule, weights, facts


def _inputs(call, seed=0):
    generator = np.random.default_rng(seed)
    result = []
    for tensor in call.inputs:
        x = generator.normal(size=(8, *tensor.shape[1:]))
        x = np.where(np.isnan(_CONSTANTS), x, _CONSTANTS).astype("float32")
        result.append(x)
    return result


def _outputs(layer, call, inputs):
    inputs = iter(inputs)
    args = keras.tree.map_structure(
        lambda value: (
            next(inputs) if isinstance(value, keras.KerasTensor) else value
        ),
        call.args,
    )
    return keras.ops.convert_to_numpy(layer(*args))


@_EACH
def test_a_constant_is_the_same_at_all_positions_for_all_inputs(build, shape):
    call, _, _, facts = _call(build, shape)
    outputs = _outputs(call.layer, call, _inputs(call))
    rows = outputs.reshape(-1, outputs.shape[-1])
    known = ~np.isnan(facts.outputs)
    np.testing.assert_allclose(
        rows[:, known],
        np.tile(facts.outputs[known], (len(rows), 1)),
        rtol=1e-5,
        atol=1e-6,
    )
    # None is missed, but of these those that constants other than zero make.
    if not isinstance(
        call.layer,
        (stock.SeparableConv1D, stock.SeparableConv2D, stock.SimpleRNN),
    ):
        is_constant = np.ptp(rows, axis=0) < 1e-6
        np.testing.assert_array_equal(known, is_constant)


@_EACH
def test_needed_outputs_depend_on_needed_inputs_alone(build, shape):
    call, _, _, facts = _call(build, shape)
    inputs = _inputs(call)
    before = _outputs(call.layer, call, inputs)
    for unit in range(before.shape[-1]):
        needed = np.arange(before.shape[-1]) == unit
        needs = facts.needed_inputs(facts.needed_outputs(needed))
        changed = [x.copy() for x in inputs]
        for x, its, other in zip(
            changed, needs, _inputs(call, seed=1), strict=True
        ):
            x[..., ~its] = other[..., ~its]
        after = _outputs(call.layer, call, changed)
        np.testing.assert_allclose(
            after[..., unit], before[..., unit], rtol=1e-5, atol=1e-6
        )


@_EACH
def test_a_rebuilt_layer_gives_what_the_layer_gave(build, shape):
    call, rule, weights, facts = _call(build, shape)
    inputs = _inputs(call)
    before = _outputs(call.layer, call, inputs)
    for unit in range(before.shape[-1]):
        needed = np.arange(before.shape[-1]) == unit
        outputs = facts.needed_outputs(needed)
        kept = facts.needed_inputs(outputs)
        for its in kept:
            its[0] |= not its.any()
        for its, tie in 2 * list(zip(kept, facts.ties, strict=False)):
            outputs = outputs | ((tie >= 0) & its[tie])
            its[tie[outputs & (tie >= 0)]] = True
        config, values = rule.rebuild(call, weights, facts, kept, outputs)
        twin = twin_of(call.layer, config)
        small = [x[..., its] for x, its in zip(inputs, kept, strict=True)]
        _outputs(twin, call, small)  # builds it
        for weight in getattr(twin, "weights", []):
            weight.assign(values[weight.name])
        after = _outputs(twin, call, small)
        (position,) = np.flatnonzero(np.flatnonzero(outputs) == unit)
        np.testing.assert_allclose(
            after[..., position], before[..., unit], rtol=1e-4, atol=1e-5
        )


@_EACH
def test_a_rule_says_the_same_every_time_and_changes_nothing(build, shape):
    call, rule, weights, facts = _call(build, shape)
    given = [constants.copy() for constants in facts.inputs]
    values = {name: value.copy() for name, value in weights.values.items()}
    again = rule.forward(call, weights, facts.inputs)
    np.testing.assert_array_equal(again.outputs, facts.outputs)
    kept = [np.ones(constants.shape, bool) for constants in facts.inputs]
    outputs = np.ones(facts.outputs.shape, bool)
    rule.rebuild(call, weights, facts, kept, outputs)
    for before, after in zip(given, facts.inputs, strict=True):
        np.testing.assert_array_equal(before, after)
    for name, value in weights.values.items():
        np.testing.assert_array_equal(value, values[name])
    assert not vars(rule)


@pytest.mark.parametrize(
    ("build", "shape"),
    [
        (stock.LayerNormalization(), _UNITS),
        (stock.Activation("softmax"), _UNITS),
        (stock.Activation(lambda x: x), _UNITS),
        (stock.Dropout(0.5, noise_shape=(1, 5)), _UNITS),
        (stock.BatchNormalization(axis=1), _STEPS),
        (stock.Conv2D(5, 3, groups=5), _IMAGES),
        (stock.Conv2DTranspose(5, 3), _IMAGES),
        (stock.LSTM(4, stateful=True), _STEPS),
        (stock.GRU(4, return_state=True), _STEPS),
        (stock.LSTM(4, activation="softmax"), _STEPS),
        (stock.GRU(4, recurrent_activation="softmax"), _STEPS),
        (stock.Flatten(data_format="channels_first"), _IMAGES),
        (stock.ReLU(), (None,)),
        (lambda x, y: stock.Concatenate(axis=1)([x, y]), _IMAGES),
        (lambda x, y: x + y[..., :1], _IMAGES),
        (lambda x: stock.BatchNormalization()(x, training=True), _IMAGES),
    ],
)
def test_what_a_rule_is_not_right_for_has_none(build, shape):
    takes = 1 if isinstance(build, stock.Layer) else build.__code__.co_argcount
    batch = 2 if getattr(build, "stateful", False) else None
    inputs = [keras.Input(shape, batch_size=batch) for _ in range(takes)]
    model = keras.Model(inputs, build(*inputs))
    call = graph_of(model).calls[-1]
    assert rule_of(call, for_training=False) is None


@pytest.mark.parametrize("for_training", [False, True])
def test_in_training_only_masks_say_what_stays(for_training):
    layer = layers.Dense(2)
    layer.build((None, 2))
    (pair,) = layer.masked_weights()
    for variable, value in zip(
        pair, [[[0, 1], [2, 3]], [[1, 1], [1, 0]]], strict=True
    ):
        variable.assign(value)
    weights = Weights.of(layer, for_training)
    np.testing.assert_array_equal(weights.values["kernel"], [[0, 1], [2, 0]])
    learns = [[for_training, True], [True, False]]
    np.testing.assert_array_equal(weights.live("kernel"), learns)
    assert (~weights.fixed("bias")).any() == for_training
    x = keras.Input((2,))
    (call,) = graph_of(keras.Model(x, layer(x))).calls
    facts = rule_of(call, for_training).forward(call, weights, [np.zeros(2)])
    assert np.isnan(facts.outputs).any() == for_training


@pytest.mark.parametrize(
    "layer",
    [
        stock.GaussianNoise(0.5),
        stock.Dense(4, kernel_constraint="unit_norm"),
        stock.Dense(4, activity_regularizer="l2"),
    ],
)
def test_in_training_some_rules_do_not_hold(layer):
    x = keras.Input((4,))
    (call,) = graph_of(keras.Model(x, layer(x))).calls
    assert rule_of(call, for_training=False) is not None
    assert rule_of(call, for_training=True) is None
