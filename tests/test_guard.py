"""Networks that nothing passes: told of, and kept from."""

import warnings

import keras
import numpy as np
import pytest
from conftest import CROSS_ENTROPY, places

import snip_tf
from snip_tf import guard, layers

L = keras.layers


def test_the_guard_keeps_the_best_inputs_of_each_unit():
    scores = [
        np.array([[0.5, 0.4, 0.6], [0.7, 0.1, 0.2]]),
        np.ones(3),  # a bias, which has no units
        np.array([[0.1], [0.3], [0.2]]),
    ]
    masks = snip_tf.keep_top(scores, sparsity=5 / 12, min_kept=1)
    np.testing.assert_array_equal(masks[0], [[0, 1, 1], [1, 0, 0]])
    np.testing.assert_array_equal(masks[1], [1, 1, 1])
    np.testing.assert_array_equal(masks[2], [[0], [1], [0]])  # by the guard


def test_the_guard_keeps_two_of_each_channel_whatever_the_axes():
    generator = np.random.default_rng(0)
    scores = [generator.random((3, 2, 4, 5)) for _ in range(3)]
    scores[0][..., 1] /= 100  # a channel with the smallest scores
    axes = [(-1,), (-2,), (2, 3)]
    masks = snip_tf.keep_top(scores, 0.6, min_kept=2, output_axes=axes)
    assert sum(mask.sum() for mask in masks) == 144
    assert (masks[0].sum(axis=(0, 1, 2)) >= 2).all()
    assert (masks[1].sum(axis=(0, 1, 3)) >= 2).all()
    assert (masks[2].sum(axis=(0, 1)) >= 2).all()
    channel, mask = scores[0][..., 1], masks[0][..., 1]
    best = np.sort(channel.ravel())[-2:]
    np.testing.assert_array_equal(np.sort(channel[mask == 1]), best)


def test_a_guard_that_needs_too_many_is_refused():
    scores = [np.ones((2, 2)), np.ones((2, 2))]
    with pytest.raises(ValueError, match="2 weights to keep.*which needs 8"):
        snip_tf.keep_top(scores, sparsity=0.75, min_kept=2)
    with pytest.raises(ValueError, match="whole number.*min_kept=-1"):
        snip_tf.keep_top(scores, sparsity=0.75, min_kept=-1)


def depthwise_blocks():
    """Fresh, and at 90% without a path from its inputs to its outputs."""
    net = [
        keras.Input((8, 8, 3)),
        L.Conv2D(16, 3, padding="same", use_bias=False),
        L.BatchNormalization(),
        L.ReLU(),
    ]
    for _ in range(4):
        net += [
            L.DepthwiseConv2D(3, padding="same", use_bias=False),
            L.BatchNormalization(),
            L.ReLU(),
            L.Conv2D(16, 1, use_bias=False),
            L.BatchNormalization(),
            L.ReLU(),
        ]
    return keras.Sequential([*net, L.GlobalAveragePooling2D(), L.Dense(3)])


def mobile_net():
    return keras.applications.MobileNetV2(
        (32, 32, 3), weights=None, classes=3, classifier_activation=None
    )


@pytest.mark.filterwarnings("ignore:The masks of these kernels")
@pytest.mark.parametrize(
    ("network", "sparsity"), [(depthwise_blocks, 0.85), (mobile_net, 0.95)]
)
def test_a_dead_network_is_told_of_and_can_be_kept_alive(network, sparsity):
    generator = np.random.default_rng(0)
    model = snip_tf.masked(network())
    x = generator.normal(size=(64, *model.input_shape[1:])).astype("float32")
    y = generator.integers(0, 3, 64)
    fresh = model.get_weights()
    options = {"loss": CROSS_ENTROPY, "training": True}
    message = "no longer depend.*`min_kept=1`"
    with pytest.warns(UserWarning, match=message) as warned:
        snip_tf.prune(model, x, y, sparsity=sparsity, **options)
    assert places(warned, "no longer depend") == {__file__}
    assert np.ptp(np.array(model(x, training=True)), axis=0).max() == 0
    model.set_weights(fresh)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        snip_tf.prune(model, x, y, sparsity=sparsity, min_kept=1, **options)
    assert np.ptp(np.array(model(x, training=True)), axis=0).max() > 1e-3
    summary = snip_tf.summary(model)
    assert summary.kept == snip_tf.kept_weights(summary.weights, sparsity)


@pytest.mark.parametrize("training", [False, True])
def test_a_network_is_looked_at_in_the_mode_of_its_scores(
    training, small_batch
):
    modes = []

    class Seeing(keras.layers.Layer):
        def call(self, x, training=None):
            modes.append(training)
            return x

    model = keras.Sequential([keras.Input((4,)), layers.Dense(3), Seeing()])
    options = {"criterion": "magnitude", "training": training}
    modes.clear()
    snip_tf.prune(model, *small_batch, sparsity=0.5, **options)
    assert set(modes) == {training}


def test_one_example_many_times_tells_nothing_of_a_network(small_model):
    x, y = np.ones((8, 4), np.float32), np.zeros(8, int)
    snip_tf.prune(small_model, x, y, sparsity=0.5)  # a warning is an error


def test_every_kernel_knows_its_output_units():
    inputs = keras.Input((4, 3))
    x = layers.EinsumDense("abc,cde->abde", (4, 2, 5))(inputs)
    x = layers.EinsumDense("abde,def->abf", (4, 7), bias_axes="f")(x)
    x = layers.Conv1DTranspose(6, 3)(x)
    model = keras.Model(inputs, layers.DepthwiseConv1D(3)(x))
    shapes = [
        tuple(mask.shape[axis] for axis in axes)
        for mask, axes in zip(
            snip_tf.get_masks(model), guard.output_axes(model), strict=True
        )
    ]
    assert shapes == [(2, 5), (7,), (6,), (6, 1)]


def test_a_network_that_was_saturated_before_is_no_alarm():
    """Unscaled inputs: all outputs are 1.0, whatever the masks."""
    model = keras.Sequential(
        [keras.Input((4,)), layers.Dense(8, "relu"), layers.Dense(1, "sigmoid")]
    )
    for weight in model.trainable_weights:
        weight.assign(np.abs(weight.numpy()) + 0.1)
    x = 255 * np.random.default_rng(0).random((64, 4)).astype("float32")
    y = np.arange(64) % 2
    snip_tf.prune(
        model, x, y, sparsity=0.1, criterion="random", loss="mse"
    )  # a warning is an error


def test_scores_without_data_take_inputs_alone(small_model, small_batch):
    x, _ = small_batch
    snip_tf.prune(small_model, x, sparsity=0.5, criterion="magnitude")
    assert snip_tf.model_sparsity(small_model) == 0.5


def test_a_network_of_a_fixed_batch_size_is_pruned():
    model = keras.Sequential(
        [
            keras.Input(batch_shape=(32, 5, 4)),
            layers.LSTM(6, stateful=True),
            layers.Dense(1),
        ]
    )
    model.compile("adam", "mse")
    x = np.random.default_rng(0).normal(size=(32, 5, 4))
    snip_tf.prune(model, x, np.ones((32, 1)), sparsity=0.5)
    assert snip_tf.model_sparsity(model) == 0.5
    assert not model.layers[0].states[0].numpy().any()


def test_a_wrapped_optimizer_is_warned_of(small_model, small_batch):
    wrapped = keras.optimizers.LossScaleOptimizer(keras.optimizers.Muon())
    small_model.compile(wrapped, CROSS_ENTROPY)
    message = "Muon moves.*another optimizer"
    with pytest.warns(UserWarning, match=message) as warned:
        snip_tf.prune(small_model, *small_batch, sparsity=0.25)
    assert places(warned, "Muon") == {__file__}


@pytest.mark.skipif(
    not hasattr(keras.optimizers, "MultiOptimizer"),
    reason="Keras has MultiOptimizer from 3.15 on",
)
def test_an_optimizer_for_some_weights_is_warned_of(small_model, small_batch):
    """Which Keras makes at the first step."""
    fast, adam = keras.optimizers.Muon(), keras.optimizers.Adam()
    several = keras.optimizers.MultiOptimizer(
        lambda weight: fast if "hidden/kernel" in weight.path else adam
    )
    small_model.compile(several, CROSS_ENTROPY)
    with pytest.warns(UserWarning, match="Muon moves"):
        snip_tf.prune(small_model, *small_batch, sparsity=0.25)


def test_what_is_kept_of_other_weights_of_the_same_path_stays():
    """In two nested models whose layers have the same names."""
    inputs = keras.Input((6,))
    parts = []
    for _ in range(2):
        own = keras.Input((6,))
        parts.append(keras.Model(own, layers.Dense(6, name="same")(own)))
    outputs = L.Concatenate()([part(inputs) for part in parts])
    model = keras.Model(inputs, outputs)
    optimizer = keras.optimizers.LossScaleOptimizer(
        keras.optimizers.Adam(use_ema=True)
    )
    model.compile(optimizer, "mse")
    x = np.random.default_rng(0).normal(size=(32, 6))
    model.fit(x, np.hstack([x, -x]), verbose=0)
    of_kernels = [v for v in optimizer.variables if v.shape == (6, 6)]
    assert len(of_kernels) == 2 * 3 and all(v.numpy().all() for v in of_kernels)
    masks = [np.ones((6, 6)), np.ones((6, 6))]
    masks[0][:3] = 0
    snip_tf.set_masks(model, masks)
    left = sorted(np.count_nonzero(v) for v in of_kernels)
    assert left == [18] * 3 + [36] * 3


def test_the_guard_knows_axes_that_inputs_and_outputs_share():
    """As of heads that each have a kernel of their own."""
    inputs = keras.Input((4, 8))
    dense = layers.EinsumDense("bhd,hdk->bhk", output_shape=(4, 6))
    model = keras.Model(inputs, dense(inputs))
    snip_tf.prune(
        model, None, sparsity=0.85, criterion="random", min_kept=1, seed=0
    )
    (mask,) = snip_tf.get_masks(model)
    assert mask.sum() == 29 and mask.any(axis=1).all()


OPTIMIZERS = {
    name
    for name, value in vars(keras.optimizers).items()
    if isinstance(value, type) and issubclass(value, keras.optimizers.Optimizer)
} - {"Optimizer", "LossScaleOptimizer", "MultiOptimizer"}


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
@pytest.mark.parametrize(
    "options",
    [
        {},
        {
            "use_ema": True,
            "ema_overwrite_frequency": 2,
            "weight_decay": 0.1,
            "clipnorm": 0.1,
            "gradient_accumulation_steps": 3,
        },
    ],
    ids=["plain", "all"],
)
def test_an_optimizer_leaves_removed_weights_or_is_warned_of(name, options):
    generator = np.random.default_rng(0)
    x = generator.normal(size=(16, 6)).astype("float32")
    y = generator.integers(0, 3, 16)
    model = keras.Sequential(
        [keras.Input((6,)), layers.Dense(5, "relu"), layers.Dense(3)]
    )
    optimizer = getattr(keras.optimizers, name)(**options)
    model.compile(optimizer, CROSS_ENTROPY, run_eagerly=True)
    masks = [
        (generator.random(m.shape) < 0.6) for m in snip_tf.get_masks(model)
    ]
    masks[0][2] = masks[0][:, 1] = False  # a whole row and a whole column
    snip_tf.set_masks(model, masks)
    model.fit(x, y, epochs=2, batch_size=4, verbose=0)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        snip_tf.prune(model, x, y, sparsity=0.8, criterion="random")
    is_warned_of = any("another optimizer" in str(one.message) for one in told)
    model.fit(x, y, epochs=2, batch_size=4, verbose=0)
    is_safe = all(
        np.isfinite(weight.numpy()).all()
        and not weight.numpy()[mask.numpy() == 0].any()
        for weight, mask in layers.masked_weights(model)
    )
    assert is_safe or is_warned_of
