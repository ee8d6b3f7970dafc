import gc
import itertools
import weakref

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import CROSS_ENTROPY, flat

import snip_tf
from snip_tf import layers


def numpy_sensitivity(model, x, y):
    """|w * dL/dw| / sum of a two-layer tanh network, by hand."""
    w1, b1, w2 = [weight.numpy() for weight, _ in layers.masked_weights(model)]
    b2 = model.layers[1].bias.numpy()
    x, (w1, b1, w2, b2) = x.astype(float), map(float64, (w1, b1, w2, b2))
    hidden = np.tanh(x @ w1 + b1)
    logits = hidden @ w2 + b2
    probabilities = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    d_logits = (probabilities - np.eye(3)[y]) / len(y)
    d_hidden = d_logits @ w2.T * (1 - hidden**2)
    by_hand = [
        np.abs(w1 * (x.T @ d_hidden)),
        np.abs(b1 * d_hidden.sum(axis=0)),
        np.abs(w2 * (hidden.T @ d_logits)),
    ]
    return [scores / flat(by_hand).sum() for scores in by_hand]


def weight_times_gradient(model, loss):
    """|w * dL/dw| / sum of a loss without arguments, by a tape over w."""
    weights = [weight.value for weight, _ in layers.masked_weights(model)]
    with tf.GradientTape() as tape:
        value = loss()
    gradients = tape.gradient(value, weights)
    products = np.abs(
        flat(w * g for w, g in zip(weights, gradients, strict=True))
    )
    return products / products.sum()


def batch_norm_network():
    """A masked network of images with fresh batch normalisation."""
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(4, 3),
            keras.layers.BatchNormalization(),
            keras.layers.Flatten(),
            layers.Dense(10),
        ]
    )


def float64(array):
    return array.astype(np.float64)


def test_scores_are_those_worked_out_by_hand(small_model, small_batch):
    small_model.layers[0]._bias.assign([0.3, -0.1, 0.2, 0.5])
    scores = snip_tf.sensitivity(small_model, *small_batch)
    expected = numpy_sensitivity(small_model, *small_batch)
    for score, by_hand in zip(scores, expected, strict=True):
        np.testing.assert_allclose(score, by_hand, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("name", ["lenet_300_100", "lenet_5_caffe"])
def test_scores_are_weight_times_gradient(name, batch):
    model = snip_tf.models.build(name, bias_initializer="random_normal")
    model.compile(loss=CROSS_ENTROPY)
    scores = flat(snip_tf.sensitivity(model, *batch))
    x, y = batch
    expected = weight_times_gradient(model, lambda: CROSS_ENTROPY(y, model(x)))
    np.testing.assert_allclose(scores, expected, rtol=1e-3, atol=1e-9)


def test_scores_are_finite_differences_of_the_loss(small_batch):
    """In double precision, moving one mask entry at a time by 1e-4."""
    x, y = small_batch
    model = keras.Sequential(
        [
            keras.Input((4,), dtype="float64"),
            layers.Dense(4, "tanh", dtype="float64"),
            layers.Dense(3, dtype="float64"),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(
        from_logits=True, dtype="float64"
    )
    scores = flat(snip_tf.sensitivity(model, x, y, loss=loss))
    step = 2.0**-13  # exact in a single-precision mask
    differences = []
    for _, mask in layers.masked_weights(model):
        ones = mask.numpy()
        for index in np.ndindex(ones.shape):
            losses = []
            for sign in (1, -1):
                moved = ones.copy()
                moved[index] += sign * step
                mask.assign(moved)
                losses.append(float(loss(y, model(x))))
            mask.assign(ones)
            differences.append((losses[0] - losses[1]) / (2 * step))
    expected = np.abs(differences) / np.abs(differences).sum()
    np.testing.assert_allclose(scores, expected, rtol=1e-5, atol=1e-8)


def test_scores_sum_to_one_and_have_the_masks_shapes(small_model, small_batch):
    scores = snip_tf.sensitivity(small_model, *small_batch)
    shapes = [mask.shape for mask in snip_tf.get_masks(small_model)]
    assert [score.shape for score in scores] == shapes
    assert flat(scores).min() >= 0
    assert flat(scores).sum() == pytest.approx(1, abs=1e-6)


def test_a_bias_of_zero_has_no_sensitivity(small_model, small_batch):
    _, bias, _ = snip_tf.sensitivity(small_model, *small_batch)
    np.testing.assert_array_equal(bias, 0)


@pytest.mark.parametrize("training", [False, True])
def test_scoring_changes_nothing_in_the_model(training, batch):
    model = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(4, 3),
            keras.layers.BatchNormalization(),
            keras.layers.Dropout(0.5),
            keras.layers.Flatten(),
            layers.Dense(10),
        ]
    )
    model.compile("sgd", CROSS_ENTROPY, metrics=["accuracy"])
    before = [variable.numpy() for variable in model.variables]
    snip_tf.sensitivity(model, *batch, training=training)
    for variable, value in zip(model.variables, before, strict=True):
        np.testing.assert_array_equal(variable, value, err_msg=variable.path)


def test_batch_norm_scores_with_moving_statistics_by_default(batch):
    model = batch_norm_network()
    model.compile(loss=CROSS_ENTROPY)
    # With fresh statistics, mean 0 and variance 1, the layer only divides by
    # sqrt(1 + epsilon): what a network without it gives, to 1e-3.
    without = keras.Sequential(
        [model.layers[0], model.layers[2], model.layers[3]]
    )
    without.build((None, 28, 28, 1))
    without.compile(loss=CROSS_ENTROPY)
    inference = flat(snip_tf.sensitivity(model, *batch))
    plain = flat(snip_tf.sensitivity(without, *batch))
    training = flat(snip_tf.sensitivity(model, *batch, training=True))
    np.testing.assert_allclose(inference, plain, rtol=2e-2, atol=1e-7)
    assert np.abs(training - plain).max() > 1e-5


def test_weight_decay_plays_no_part(small_model, small_batch):
    free = snip_tf.sensitivity(small_model, *small_batch)
    for weight, _ in layers.masked_weights(small_model):
        weight.regularizer = keras.regularizers.L2(10.0)
    small_model.compile("sgd", CROSS_ENTROPY)
    decayed = snip_tf.sensitivity(small_model, *small_batch)
    np.testing.assert_array_equal(flat(decayed), flat(free))


def test_batches_add_up_to_one_large_batch(small_model, small_batch):
    x, y = small_batch
    whole = flat(snip_tf.sensitivity(small_model, x, y))
    cut = tf.data.Dataset.from_tensor_slices((x, y)).batch(3)  # 3, 3, 2
    parts = snip_tf.sensitivity(small_model, cut)
    np.testing.assert_allclose(flat(parts), whole, rtol=1e-4, atol=1e-7)
    assert {part.dtype for part in parts} == {np.dtype(np.float32)}


def test_signed_gradients_are_summed_before_the_absolute_value(small_model):
    """Two opposite labels on one input: what they agree on stays."""
    x = np.ones((1, 4), np.float32)
    batches = [(x, np.array([label])) for label in (0, 1)]
    summed = flat(snip_tf.sensitivity(small_model, batches))
    single = [flat(snip_tf.sensitivity(small_model, *b)) for b in batches]
    assert np.abs(summed - np.mean(single, axis=0)).max() > 1e-2


def test_the_order_of_the_examples_does_not_matter(small_model, small_batch):
    x, y = small_batch
    scores = flat(snip_tf.sensitivity(small_model, x, y))
    turned = flat(snip_tf.sensitivity(small_model, x[::-1], y[::-1]))
    np.testing.assert_allclose(turned, scores, rtol=1e-4, atol=1e-7)


def test_another_loss_can_be_given(small_model, small_batch):
    x, y = small_batch
    targets = np.eye(3, dtype=np.float32)[y]
    by_name = snip_tf.sensitivity(small_model, x, targets, loss="mse")
    by_function = snip_tf.sensitivity(
        small_model,
        x,
        targets,
        loss=lambda t, p: tf.reduce_mean((t - p) ** 2, axis=-1),
    )
    np.testing.assert_allclose(flat(by_name), flat(by_function), rtol=1e-5)
    compiled = snip_tf.sensitivity(small_model, x, y)
    assert np.abs(flat(compiled) - flat(by_name)).max() > 1e-3


def test_a_scored_model_can_be_collected(small_batch):
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3)])
    snip_tf.sensitivity(model, *small_batch, loss=CROSS_ENTROPY)
    reference = weakref.ref(model)
    keras.backend.clear_session()
    del model
    gc.collect()
    assert reference() is None


def test_a_model_without_a_loss_is_refused(small_batch):
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3)])
    with pytest.raises(ValueError, match="must be compiled with a loss, or"):
        snip_tf.sensitivity(model, *small_batch)


def test_a_model_without_masks_is_refused(small_batch):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    model.compile(loss=CROSS_ENTROPY)
    with pytest.raises(ValueError, match="at least one layer with a mask"):
        snip_tf.sensitivity(model, *small_batch)


@pytest.mark.parametrize("strange", [np.nan, np.inf])
def test_inputs_that_are_not_finite_are_refused(
    strange, small_model, small_batch
):
    x, y = small_batch
    x[2, 1] = strange
    with pytest.raises(ValueError, match="Received: 1 of 32 values are NaN"):
        snip_tf.sensitivity(small_model, x, y)


@pytest.mark.parametrize("label", [3, -1])
def test_labels_outside_the_classes_are_refused(
    label, small_model, small_batch
):
    x, y = small_batch
    y[5] = label
    message = f"labels from 0 to 2.*3 outputs. Received: a label {label}"
    with pytest.raises(ValueError, match=message):
        snip_tf.sensitivity(small_model, x, y)


@pytest.mark.parametrize("value", [0, np.nan])
def test_gradients_that_tell_nothing_are_refused(
    value, small_model, small_batch
):
    for weight in small_model.weights:
        weight.assign(np.full(weight.shape, value))
    with pytest.raises(ValueError, match="finite and not all zero"):
        snip_tf.sensitivity(small_model, *small_batch)


def test_no_batches_are_refused(small_model):
    with pytest.raises(ValueError, match="at least one batch. Received: none"):
        snip_tf.sensitivity(small_model, [])


def test_the_moving_average_follows_its_formula(small_model, small_batch):
    """From the signed gradients of each batch, taken with a tape."""
    x, y = small_batch
    batches = [(x[:3], y[:3]), (x[3:5], y[3:5]), (x[5:], y[5:])]
    average = None
    for x_batch, y_batch in batches:
        masks = [mask.value for _, mask in layers.masked_weights(small_model)]
        with tf.GradientTape() as tape:
            tape.watch(masks)
            loss = CROSS_ENTROPY(y_batch, small_model(x_batch))
        gradient = flat(tape.gradient(loss, masks))
        if average is None:
            average = gradient
        average = 0.8 * average + 0.2 * gradient
    expected = np.abs(average) / np.abs(average).sum()
    scores = snip_tf.sensitivity(small_model, batches, ema_decay=0.8)
    np.testing.assert_allclose(flat(scores), expected, rtol=1e-4, atol=1e-7)


def test_inputs_without_targets_are_refused(small_model, small_batch):
    x, _ = small_batch
    with pytest.raises(ValueError, match="Without `y`, `x` must be"):
        snip_tf.sensitivity(small_model, x)


@pytest.fixture
def two_headed():
    """A compiled model with two outputs and two losses, and its data."""
    inputs = keras.Input((4,))
    hidden = layers.Dense(4, "tanh")(inputs)
    outputs = {
        "digit": layers.Dense(3, name="digit")(hidden),
        "size": layers.Dense(1, name="size")(hidden),
    }
    model = keras.Model(inputs, outputs)
    model.compile("sgd", {"digit": CROSS_ENTROPY, "size": "mse"})
    generator = np.random.default_rng(0)
    x = generator.normal(size=(8, 4)).astype(np.float32)
    size = generator.normal(size=(8, 1)).astype(np.float32)
    return model, x, {"digit": generator.integers(0, 3, 8), "size": size}


def test_several_outputs_score_on_the_sum_of_their_losses(two_headed):
    model, x, y = two_headed
    scores = flat(snip_tf.sensitivity(model, x, y))

    def sum_of_losses():
        outputs = model(x)
        digit = CROSS_ENTROPY(y["digit"], outputs["digit"])
        return digit + tf.reduce_mean((y["size"] - outputs["size"]) ** 2)

    expected = weight_times_gradient(model, sum_of_losses)
    np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-7)


def test_scoring_leaves_the_metrics_of_each_output(two_headed):
    model, x, y = two_headed
    snip_tf.sensitivity(model, x, y)
    for variable in model.metrics_variables:
        np.testing.assert_array_equal(variable, 0)
    model.evaluate(x, y, verbose=0)
    before = [variable.numpy() for variable in model.metrics_variables]
    assert np.count_nonzero(before) > 2
    snip_tf.sensitivity(model, x, y)
    for variable, value in zip(model.metrics_variables, before, strict=True):
        np.testing.assert_array_equal(variable, value)


def test_labels_may_have_an_axis_of_one(small_model, small_batch):
    x, y = small_batch
    scores = flat(snip_tf.sensitivity(small_model, x, y))
    column = flat(snip_tf.sensitivity(small_model, x, y[:, None]))
    np.testing.assert_allclose(column, scores, rtol=1e-6)


def test_a_given_loss_reads_shapes_as_a_compiled_one(small_batch):
    """Targets (n,) and outputs (n, 1) are no matter of broadcasting."""
    x, _ = small_batch
    y = np.arange(8, dtype=np.float32)
    model = keras.Sequential([keras.Input((4,)), layers.Dense(1)])

    def squares(targets, outputs):
        return keras.ops.square(targets - outputs)

    given = flat(snip_tf.sensitivity(model, x, y, loss=squares))
    model.compile(loss=squares)
    compiled = flat(snip_tf.sensitivity(model, x, y))
    np.testing.assert_allclose(given, compiled, rtol=1e-5)


def test_sample_weights_count(small_model, small_batch):
    """A weight of zero is as good as leaving the example out."""
    x, y = small_batch
    weights = np.array([1, 1, 1, 1, 1, 0, 0, 0], np.float32)
    weighted = snip_tf.sensitivity(small_model, [(x, y, weights)])
    without = snip_tf.sensitivity(small_model, x[:5], y[:5])
    np.testing.assert_allclose(
        flat(weighted), flat(without), rtol=1e-4, atol=1e-7
    )


def test_what_is_recomputed_is_scored_as_what_is_kept(small_batch):
    class Recomputed(keras.layers.Wrapper):
        def call(self, x):
            return keras.remat(self.layer.call)(x)

    keras.utils.set_random_seed(1)
    inner = layers.Dense(5, activation="tanh")
    plain = keras.Sequential([keras.Input((4,)), inner, layers.Dense(3)])
    last = plain.layers[-1]
    model = keras.Sequential([keras.Input((4,)), Recomputed(inner), last])
    scores = snip_tf.sensitivity(model, *small_batch, loss=CROSS_ENTROPY)
    expected = snip_tf.sensitivity(plain, *small_batch, loss=CROSS_ENTROPY)
    np.testing.assert_array_equal(flat(scores), flat(expected))


def test_frozen_batch_norm_is_scored_in_inference_mode(batch):
    model = batch_norm_network()
    options = {"loss": CROSS_ENTROPY, "training": True}
    by_batch = flat(snip_tf.sensitivity(model, *batch, **options))
    model.layers[1].trainable = False  # Keras then runs it in inference mode
    frozen = flat(snip_tf.sensitivity(model, *batch, **options))
    inference = flat(snip_tf.sensitivity(model, *batch, loss=CROSS_ENTROPY))
    assert np.abs(by_batch - frozen).max() > 1e-5
    np.testing.assert_allclose(frozen, inference, rtol=1e-5)


def test_half_precision_does_not_lose_small_gradients():
    generator = np.random.default_rng(0)
    x = 1e-3 * generator.normal(size=(1000, 64)).astype(np.float32)
    y = generator.integers(0, 10, 1000)
    scores = {}
    for policy in ("float32", "mixed_float16"):
        keras.utils.set_random_seed(0)
        model = keras.Sequential(
            [
                keras.Input((64,)),
                layers.Dense(256, "relu", dtype=policy),
                layers.Dense(10, dtype=policy),
                keras.layers.Activation("linear", dtype="float32"),
            ]
        )
        scores[policy] = snip_tf.sensitivity(model, x, y, loss=CROSS_ENTROPY)
    kept = {
        policy: flat(snip_tf.keep_top(score, 0.5)) == 1
        for policy, score in scores.items()
    }
    same = kept["float32"] & kept["mixed_float16"]
    assert same.sum() > 0.97 * kept["float32"].sum()


def test_half_precision_takes_large_losses():
    """Gradients to 1,347: finite in 16 bits, but not a thousand times that.

    Beside them small ones of another batch, which may be scaled further.
    """
    batches = [
        (np.ones((8, 4)), np.full((8, 1), 500.0)),
        (np.eye(4)[:1], np.full((1, 1), -3.0)),
    ]
    scores = []
    for dtype in ("mixed_float16", "float32"):
        keras.utils.set_random_seed(0)
        model = keras.Sequential(
            [
                keras.Input((4,)),
                layers.Dense(8, dtype=dtype),
                layers.Dense(1, dtype=dtype),
            ]
        )
        model.compile("sgd", "mse")
        scores.append(flat(snip_tf.sensitivity(model, batches)))
    np.testing.assert_allclose(*scores, rtol=0.02, atol=1e-4)


def test_targets_of_another_length_are_refused(small_model, small_batch):
    x, y = small_batch
    with pytest.raises(ValueError, match=r"each example.*\(8, 4\), \(5,\)"):
        snip_tf.sensitivity(small_model, x, y[:5])


def test_targets_that_are_not_finite_are_refused(small_model, small_batch):
    x, y = small_batch
    y = np.where(y == 0, np.nan, y)
    with pytest.raises(ValueError, match="`y` must hold finite numbers"):
        snip_tf.sensitivity(small_model, x, y)


def test_an_ignored_class_is_no_wrong_label(small_model, small_batch):
    x, y = small_batch
    y[0] = -1
    loss = keras.losses.SparseCategoricalCrossentropy(
        from_logits=True, ignore_class=-1
    )
    scores = snip_tf.sensitivity(small_model, x, y, loss=loss)
    assert np.isfinite(flat(scores)).all()


def test_backends_without_gradients_are_refused(
    small_model, small_batch, monkeypatch
):
    monkeypatch.setattr(keras.backend, "backend", lambda: "openvino")
    with pytest.raises(ValueError, match="jax, torch.*backend=openvino"):
        snip_tf.sensitivity(small_model, *small_batch)


def test_one_output_may_have_a_name(small_model, small_batch):
    x, y = small_batch
    inputs = keras.Input((4,))
    named = keras.Model(inputs, {"digit": small_model(inputs)})
    named.compile("sgd", "sparse_categorical_crossentropy")
    small_model.compile("sgd", "sparse_categorical_crossentropy")
    np.testing.assert_array_equal(
        flat(snip_tf.sensitivity(named, x, {"digit": y})),
        flat(snip_tf.sensitivity(small_model, x, y)),
    )
    with pytest.raises(ValueError, match="Received: a label 7"):
        snip_tf.sensitivity(named, x, {"digit": np.full(8, 7)})


def test_losses_may_be_given_by_the_names_of_the_outputs(small_batch):
    x, _ = small_batch
    inputs = keras.Input((4,))
    outputs = [layers.Dense(2, name=name)(inputs) for name in "ab"]
    model = keras.Model(inputs, outputs)
    losses = {"a": "mse", "b": "mae"}
    y = [np.ones((8, 2)), np.ones((8, 2))]
    given = flat(snip_tf.sensitivity(model, x, y, loss=losses))
    model.compile("sgd", losses)
    np.testing.assert_array_equal(given, flat(snip_tf.sensitivity(model, x, y)))


def test_what_layers_add_counts_beside_a_given_loss(small_batch):
    """A vector too: it counts as its sum."""

    class Adding(keras.layers.Layer):
        def call(self, x):
            self.add_loss(keras.ops.mean(x**2, axis=0))
            return x

    x, _ = small_batch
    model = keras.Sequential(
        [
            keras.Input((4,)),
            layers.Dense(3, activity_regularizer="l2"),
            Adding(),
        ]
    )
    given = flat(snip_tf.sensitivity(model, x, np.ones((8, 3)), loss="mse"))
    model.compile("sgd", "mse")
    compiled = flat(snip_tf.sensitivity(model, x, np.ones((8, 3))))
    np.testing.assert_allclose(given, compiled, rtol=1e-5, atol=1e-8)


def test_a_model_that_runs_eagerly_is_scored_eagerly(small_model, small_batch):
    traced = flat(snip_tf.sensitivity(small_model, *small_batch))
    seen = []

    def loss(targets, logits):
        seen.append(keras.ops.convert_to_numpy(logits))
        return CROSS_ENTROPY(targets, logits)

    small_model.compile("sgd", loss, run_eagerly=True)
    eager = flat(snip_tf.sensitivity(small_model, *small_batch))
    assert len(seen) == 1
    np.testing.assert_allclose(eager, traced, rtol=1e-5)


def test_the_steps_of_a_pruning_share_a_trace(small_model, small_batch):
    seen = []

    def loss(targets, logits):
        seen.append(logits)
        return CROSS_ENTROPY(targets, logits)

    snip_tf.prune(small_model, *small_batch, sparsity=0.8, steps=5, loss=loss)
    assert len(seen) == 1
    # Another call is another trace: anything may have changed since.
    snip_tf.sensitivity(small_model, *small_batch, loss=loss)
    assert len(seen) == 2


def test_a_criterion_may_score_twice_in_a_step(small_batch):
    x, y = small_batch
    dropout = keras.layers.Dropout(0.5, seed=0)
    model = keras.Sequential([keras.Input((4,)), dropout, layers.Dense(3)])
    found = []

    def criterion(*arguments, **options):
        for dropout.rate in (0.1, 0.9):
            found.append(flat(snip_tf.sensitivity(*arguments, **options)))
        return snip_tf.sensitivity(*arguments, **options)

    options = {"loss": CROSS_ENTROPY, "training": True}
    snip_tf.prune(model, x, y, sparsity=0.5, criterion=criterion, **options)
    assert not np.allclose(*found)


def test_a_layer_is_scored_as_a_model(small_batch):
    x, y = small_batch
    layer = layers.Dense(3)
    layer.build((None, 4))
    layer_scores = snip_tf.sensitivity(layer, x, y, loss=CROSS_ENTROPY)
    model = keras.Sequential([keras.Input((4,)), layer])
    scores = snip_tf.sensitivity(model, x, y, loss=CROSS_ENTROPY)
    np.testing.assert_allclose(layer_scores, scores, 1e-6)


def test_tensorflow_does_not_warn_of_many_traces(
    small_model, small_batch, caplog
):
    x, y = small_batch
    for _ in range(6):
        snip_tf.sensitivity(small_model, x, y)
    sizes = [(x[:size], y[:size]) for size in range(1, 9)]
    snip_tf.sensitivity(small_model, [*sizes, (x, y, np.ones(8))])
    assert not caplog.messages


def test_a_loss_of_the_models_own_is_used(small_batch):
    """Also one that knows of no `training`, which Keras still takes."""

    class Halved(keras.Sequential):
        def compute_loss(self, x, y, y_pred, sample_weight=None):
            return tf.reduce_mean(y_pred[:, 0] ** 2)

    x, y = small_batch
    model = Halved([keras.Input((4,)), layers.Dense(3)])
    model.compile("sgd", "mse")
    expected = weight_times_gradient(
        model, lambda: tf.reduce_mean(model(x)[:, 0] ** 2)
    )
    found = flat(snip_tf.sensitivity(model, x, np.ones((8, 3))))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-8)


def test_a_batch_without_examples_is_refused(small_model, small_batch):
    x, y = small_batch
    with pytest.raises(ValueError, match=r"one at least.*shapes \[\(0, 4"):
        snip_tf.sensitivity(small_model, [(x, y), (x[:0], y[:0])])


def test_a_decay_out_of_range_is_refused(small_model, small_batch):
    for decay in (1.0, -0.1):
        with pytest.raises(ValueError, match=f"Received: ema_decay={decay}"):
            snip_tf.sensitivity(small_model, *small_batch, ema_decay=decay)


def test_a_decay_of_zero_is_the_last_batch(small_model, small_batch):
    x, y = small_batch
    last = flat(snip_tf.sensitivity(small_model, x[4:], y[4:]))
    batches = [(x[:4], y[:4]), (x[4:], y[4:])]
    scores = flat(snip_tf.sensitivity(small_model, batches, ema_decay=0))
    np.testing.assert_allclose(scores, last, rtol=1e-6, atol=1e-9)


def _forever(batch):
    while True:
        yield batch


@pytest.mark.parametrize(
    "endless",
    [
        lambda batch: tf.data.Dataset.from_tensors(batch).repeat(),
        _forever,
        lambda batch: itertools.repeat(batch),
        lambda batch: tf.data.Dataset.from_generator(
            lambda: _forever(batch),
            output_signature=(tf.TensorSpec((8, 4)), tf.TensorSpec((8,))),
        ),
    ],
    ids=["data set", "generator", "iterator", "data set of a generator"],
)
def test_batches_that_might_never_end_are_refused(
    endless, small_model, small_batch
):
    with pytest.raises(ValueError, match="`x` must have a length") as error:
        snip_tf.sensitivity(small_model, endless(small_batch))
    assert "list(itertools.islice(x, 10))" in str(error.value)


def test_a_sequence_of_keras_is_cut_by_its_length(small_model, small_batch):
    class Batches(keras.utils.PyDataset):
        def __len__(self):
            return 2

        def __getitem__(self, index):
            return small_batch  # whatever the index

    scores = flat(snip_tf.sensitivity(small_model, Batches()))
    once = flat(snip_tf.sensitivity(small_model, *small_batch))
    np.testing.assert_allclose(scores, once, rtol=1e-6)


def test_a_batch_without_targets_is_refused(small_model, small_batch):
    with pytest.raises(ValueError, match="`y` must be given, or each batch"):
        snip_tf.sensitivity(small_model, [(small_batch[0], None)])


def test_a_model_without_a_call_is_refused(small_model, small_batch):
    class Parts(keras.Model):
        def __init__(self):
            super().__init__()
            self.net = small_model

    parts = Parts()
    parts.compile("adam", CROSS_ENTROPY)
    with pytest.raises(ValueError, match="`model` must have a `call`"):
        snip_tf.sensitivity(parts, *small_batch)


@keras.saving.register_keras_serializable("test")
class Restless(keras.layers.Layer):
    """A layer that changes all that a layer can hold."""

    def __init__(self):
        super().__init__()
        self.count, self.seen, self.first = 0, [], [0]
        self.known, self.names = {}, set()
        self.tensorflow = tf.Variable(0.0)
        self.generator = tf.random.Generator.from_seed(1)
        self.metric = keras.metrics.Mean()
        self.seeds = keras.random.SeedGenerator(1)

    def build(self, shape):
        self.total = self.add_weight(shape=(), initializer="zeros")
        self.average = self.add_weight(
            shape=(), initializer="zeros", trainable=False
        )

    def call(self, x):
        self.count += 1
        self.seen.append(1)
        self.first[0] += 1
        self.known["n"] = 1
        self.names.add(self.count)
        self.tensorflow.assign_add(1.0)
        self.metric.update_state(x)
        self.average.assign_add(1.0)
        self.total.assign_add(1.0)
        noise = keras.random.normal((4,), seed=self.seeds)
        return x + 1e-9 * (noise + self.generator.normal((4,)))

    def compute_output_shape(self, shape):
        return shape

    def held(self):
        variables = [*self.weights, *self.metric.variables, self.seeds.state]
        return [
            self.count,
            len(self.seen),
            list(self.first),
            dict(self.known),
            set(self.names),
            self.tensorflow.numpy(),
            self.generator.state.numpy().tolist(),
            [keras.ops.convert_to_numpy(v).tolist() for v in variables],
        ]


@pytest.mark.parametrize("training", [False, True])
def test_scoring_leaves_all_that_a_layer_holds(training, small_batch):
    restless = Restless()
    model = keras.Sequential([keras.Input((4,)), restless, layers.Dense(3)])
    model.compile("sgd", CROSS_ENTROPY)
    model(small_batch[0])
    before = restless.held()
    options = {"training": training}
    snip_tf.sensitivity(model, *small_batch, **options)
    assert restless.held() == before
    snip_tf.prune(model, *small_batch, sparsity=0.5, **options)
    assert restless.held() == before


@pytest.mark.parametrize("training", [False, True])
def test_scoring_leaves_weights_that_a_layer_assigns(training):
    model = keras.Sequential(
        [
            keras.Input((6,)),
            keras.layers.SpectralNormalization(keras.layers.Dense(5)),
            layers.Dense(3),
        ]
    )
    model.compile("sgd", "mse")
    before = model.get_weights()
    x, y = np.ones((4, 6)), np.ones((4, 3))
    snip_tf.sensitivity(model, x, y, training=training)
    for weight, old in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, old)


def test_lists_of_numbers_are_taken(small_model, small_batch):
    x, y = small_batch
    scores = flat(snip_tf.sensitivity(small_model, x.tolist(), y.tolist()))
    expected = flat(snip_tf.sensitivity(small_model, x, y))
    np.testing.assert_allclose(scores, expected, rtol=1e-5)
