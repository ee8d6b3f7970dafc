import keras
import numpy as np
import pytest
import tensorflow as tf

import snip_tf
from snip_tf import training

RECIPE = training.Recipe(steps=40, batch_size=8, drops=(10, 30))


def test_the_learning_rate_drops_where_the_recipe_says(small_model):
    training.compile_model(small_model, RECIPE)
    schedule = small_model.optimizer._learning_rate
    rates = [float(schedule(step)) for step in (0, 10, 11, 30, 31, 40)]
    expected = [0.1, 0.1, 0.01, 0.01, 0.001, 0.001]
    np.testing.assert_allclose(rates, expected, rtol=1e-6)


def test_the_papers_recipe():
    recipe = training.RECIPES["mnist"]
    assert (recipe.batch_size, recipe.learning_rate) == (100, 0.1)
    assert (recipe.momentum, recipe.l2, recipe.decay) == (0.9, 2.5e-4, 0.1)
    assert recipe.drops == (25_000, 50_000)
    cifar = training.RECIPES["cifar10"]
    assert (cifar.batch_size, cifar.drops) == (128, (30_000, 60_000))


def test_drops_move_in_proportion():
    scaled = training.RECIPES["mnist"].scaled_to(6_000)
    assert (scaled.steps, scaled.drops) == (6_000, (2_500, 5_000))


def test_a_very_short_recipe_is_one_too():
    assert training.RECIPES["cifar10"].scaled_to(2).drops == (1,)
    assert training.RECIPES["cifar10"].scaled_to(1).drops == ()


def test_a_step_is_momentum_sgd_with_l2(small_model, small_batch):
    """Two steps against the formulas, the gradient from a tape."""
    x, y = small_batch
    recipe = training.Recipe(steps=2, batch_size=8, l2=0.01)
    training.compile_model(small_model, recipe)
    weights = [weight.value for weight in small_model.trainable_weights]
    expected = [weight.numpy() for weight in weights]
    velocities = [0.0 for _ in weights]
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    for _ in range(2):
        with tf.GradientTape() as tape:
            value = loss(y, small_model(x))
        gradients = tape.gradient(value, weights)
        for i, gradient in enumerate(gradients):
            total = gradient.numpy() + 2 * 0.01 * expected[i]
            velocities[i] = 0.9 * velocities[i] - 0.1 * total
            expected[i] = expected[i] + velocities[i]
        small_model.train_on_batch(x, y)
        for weight, value in zip(weights, expected, strict=True):
            np.testing.assert_allclose(weight, value, rtol=1e-4, atol=1e-6)


def test_l2_spares_normalisation_layers():
    model = keras.Sequential(
        [
            keras.Input((4,)),
            snip_tf.layers.Dense(3),
            keras.layers.BatchNormalization(),
        ]
    )
    training.compile_model(model, RECIPE)
    decayed = {w.path for w in model.weights if w.regularizer is not None}
    assert {path.split("/")[-1] for path in decayed} == {"kernel", "bias"}


def test_other_metrics_can_be_reported(small_model, small_batch):
    metric = keras.metrics.SparseCategoricalCrossentropy(
        from_logits=True, name="cross_entropy"
    )
    training.compile_model(small_model, RECIPE, metrics=[metric])
    results = small_model.evaluate(*small_batch, verbose=0, return_dict=True)
    penalty = sum(
        2.5e-4 * np.sum(np.square(weight))
        for weight in small_model.trainable_weights
    )
    assert results["loss"] == pytest.approx(
        results["cross_entropy"] + penalty, rel=1e-5
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "`steps` must .* at least 1. Received: steps=0"),
        ({"optimizer": "lbfgs"}, "one of sgd, adam. Received: optimizer='lb"),
        ({"drops": (5, 3)}, r"ascending steps .* drops=\(5, 3\), steps=10"),
        ({"drops": (5, 90)}, r"Received: drops=\(5, 90\), steps=10"),
    ],
)
def test_a_recipe_that_makes_no_sense_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        training.Recipe(**{"steps": 10, "batch_size": 1, **options})
