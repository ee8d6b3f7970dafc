import keras
import numpy as np
from conftest import CROSS_ENTROPY, flat

import snip_tf
from snip_tf import layers


def warm_scores(model, x, y, **options):
    with snip_tf.scores.warmed_up(model, x):
        return snip_tf.sensitivity(model, x, y, **options)


def test_warm_up_averages_over_the_calls_of_a_shared_layer():
    """A network that is symmetric in its inputs, but for its two kernels."""
    one, two = keras.Input((4,)), keras.Input((4,))
    norm = keras.layers.BatchNormalization()
    first, second = (
        layers.Dense(3, use_bias=False, name=name) for name in ("a", "b")
    )
    model = keras.Model([one, two], first(norm(one)) + second(norm(two)))
    model.compile(loss="mse")
    generator = np.random.default_rng(0)
    x = generator.normal(size=(16, 4)).astype(np.float32)
    z = (3 * generator.normal(size=(16, 4)) + 5).astype(np.float32)
    y = np.ones((16, 3), np.float32)
    scores = warm_scores(model, [x, z], y)
    weights = [layer._kernel.numpy() for layer in (first, second)]
    for layer, weight in zip((first, second), weights[::-1], strict=True):
        layer._kernel.assign(weight)
    mirrored = warm_scores(model, [z, x], y)
    np.testing.assert_allclose(scores[0], mirrored[1], rtol=1e-4)
    np.testing.assert_allclose(scores[1], mirrored[0], rtol=1e-4)


def test_warm_up_scores_with_the_statistics_of_the_batch():
    model = keras.Sequential(
        [
            keras.Input((4,)),
            snip_tf.layers.Dense(5, name="hidden"),
            keras.layers.BatchNormalization(name="norm"),
            keras.layers.ReLU(),
            keras.layers.Dropout(0.5),
            snip_tf.layers.Dense(3),
        ]
    )
    generator = np.random.default_rng(0)
    x = generator.normal(3, 2, (64, 4)).astype(np.float32)
    y = generator.integers(0, 3, 64)
    before = model.get_weights()
    warm = warm_scores(model, x, y, loss=CROSS_ENTROPY)
    for value, unchanged in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(value, unchanged)
    assert model.get_layer("norm").momentum == 0.99
    # The same by hand: numpy's mean and variance, then the plain scores.
    hidden = x @ np.array(model.get_layer("hidden").kernel)
    model.get_layer("norm").moving_mean.assign(hidden.mean(0))
    model.get_layer("norm").moving_variance.assign(hidden.var(0))
    by_hand = snip_tf.sensitivity(model, x, y, loss=CROSS_ENTROPY)
    for score, expected in zip(warm, by_hand, strict=True):
        np.testing.assert_allclose(score, expected, rtol=1e-4, atol=1e-7)


def test_warm_up_leaves_dropout_off():
    model = keras.Sequential(
        [
            keras.Input((6,)),
            keras.layers.Dropout(0.5),
            keras.layers.BatchNormalization(epsilon=0.0, scale=False),
            layers.Dense(3),
        ]
    )
    model.compile("sgd", "mse")
    generator = np.random.default_rng(0)
    x, y = generator.normal(2, 3, (64, 6)), generator.normal(size=(64, 3))
    warm = flat(warm_scores(model, x, y))
    standard = (x - x.mean(axis=0)) / x.std(axis=0)
    dense = model.layers[-1]
    weights, bias = dense.kernel.numpy(), dense.bias.numpy()
    # The gradient of the mean squared error of x W + b, times W.
    slope = standard.T @ (standard @ weights + bias - y) * weights
    by_hand = np.abs(slope).ravel() / np.abs(slope).sum()
    np.testing.assert_allclose(warm, by_hand, rtol=1e-3, atol=1e-6)
