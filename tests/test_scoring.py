import gc
import weakref

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import CROSS_ENTROPY

import snip_tf
from snip_tf import layers


def flat(arrays):
    return np.concatenate([np.ravel(array) for array in arrays])


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
    parts = flat(snip_tf.sensitivity(small_model, cut))
    np.testing.assert_allclose(parts, whole, rtol=1e-4, atol=1e-7)


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


def test_compiling_with_another_loss_is_noticed(small_model, small_batch):
    x, y = small_batch
    first = flat(snip_tf.sensitivity(small_model, x, y))
    targets = np.eye(3, dtype=np.float32)[y]
    small_model.compile("sgd", "mse")
    second = flat(snip_tf.sensitivity(small_model, x, targets))
    assert np.abs(first - second).max() > 1e-3


def test_a_scored_model_can_be_collected(small_batch):
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3)])
    snip_tf.sensitivity(model, *small_batch, loss=CROSS_ENTROPY)
    reference = weakref.ref(model)
    keras.backend.clear_session()
    del model
    gc.collect()
    assert reference() is None


@pytest.mark.parametrize("loss", [None, CROSS_ENTROPY])
def test_a_changed_layer_counts_once_the_model_is_compiled(
    loss, small_model, small_batch
):
    before = snip_tf.sensitivity(small_model, *small_batch, loss=loss)
    small_model.layers[0].activation = keras.activations.relu
    small_model.compile("sgd", CROSS_ENTROPY)
    after = snip_tf.sensitivity(small_model, *small_batch, loss=loss)
    fresh = keras.models.clone_model(small_model)
    fresh.set_weights(small_model.get_weights())
    expected = snip_tf.sensitivity(fresh, *small_batch, loss=CROSS_ENTROPY)
    np.testing.assert_allclose(flat(after), flat(expected), atol=1e-7)
    assert not np.allclose(flat(after), flat(before), atol=1e-4)


@pytest.mark.parametrize("options", [{}, {"micro_batch_size": 2}])
def test_a_batch_without_examples_is_refused(options, small_model, small_batch):
    x, y = small_batch
    batches = [(x, y), (x[:0], y[:0])]
    with pytest.raises(ValueError, match="at least one example. Received: 0"):
        snip_tf.sensitivity(small_model, batches, **options)


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
    scores = snip_tf.sensitivity(model, [x, z], y, warm_up=True)
    weights = [layer._kernel.numpy() for layer in (first, second)]
    for layer, weight in zip((first, second), weights[::-1], strict=True):
        layer._kernel.assign(weight)
    mirrored = snip_tf.sensitivity(model, [z, x], y, warm_up=True)
    np.testing.assert_allclose(scores[0], mirrored[1], rtol=1e-4)
    np.testing.assert_allclose(scores[1], mirrored[0], rtol=1e-4)


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


def test_gradients_that_are_all_zero_are_refused(small_model, small_batch):
    for weight in small_model.weights:
        weight.assign(np.zeros(weight.shape))
    with pytest.raises(ValueError, match="finite and not all zero"):
        snip_tf.sensitivity(small_model, *small_batch)


def test_no_batches_are_refused(small_model):
    with pytest.raises(ValueError, match="at least one batch. Received: none"):
        snip_tf.sensitivity(small_model, [])


def test_micro_batches_give_the_scores_of_the_whole(small_model, small_batch):
    x, y = small_batch
    whole = flat(snip_tf.sensitivity(small_model, x, y))
    for size in (1, 3, 8, 100):
        cut = snip_tf.sensitivity(small_model, x, y, micro_batch_size=size)
        np.testing.assert_allclose(flat(cut), whole, rtol=1e-4, atol=1e-7)


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


@pytest.mark.parametrize(
    ("option", "value"), [("ema_decay", 1.0), ("micro_batch_size", 0)]
)
def test_options_out_of_range_are_refused(
    option, value, small_model, small_batch
):
    with pytest.raises(ValueError, match=f"Received: {option}={value}"):
        snip_tf.sensitivity(small_model, *small_batch, **{option: value})


def test_inputs_without_targets_are_refused(small_model, small_batch):
    x, _ = small_batch
    with pytest.raises(ValueError, match="`y` must be given with one batch"):
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


def test_several_outputs_are_cut_like_one(two_headed):
    model, x, y = two_headed
    whole = flat(snip_tf.sensitivity(model, x, y))
    cut = flat(snip_tf.sensitivity(model, x, y, micro_batch_size=3))
    np.testing.assert_allclose(cut, whole, rtol=1e-4, atol=1e-7)


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


def padded_network():
    return keras.Sequential(
        [
            keras.Input((5,), dtype="int32"),
            layers.Embedding(9, 4, mask_zero=True),
            layers.Dense(3),
        ]
    )


@pytest.mark.parametrize(
    ("loss", "network", "told"),
    [
        (keras.losses.MeanSquaredError(reduction="sum"), None, "'sum'"),
        (
            {"size": keras.losses.MeanSquaredError(reduction="sum")},
            None,
            "'sum'",
        ),
        (
            keras.losses.SparseCategoricalCrossentropy(ignore_class=-1),
            None,
            "ignore_class=-1",
        ),
        ("mse", padded_network, "outputs with a padding mask"),
        (keras.losses.Dice(), None, "the loss Dice"),
        ("dice", None, "the loss dice"),
        (keras.losses.Tversky(), None, "the loss Tversky"),
        (keras.losses.Circle(), None, "the loss Circle"),
    ],
)
@pytest.mark.parametrize("compiled", [True, False])
def test_pieces_that_do_not_add_up_are_refused(
    compiled, loss, network, told, small_model, small_batch
):
    model = small_model if network is None else network()
    if compiled:
        model.compile("sgd", loss)
        loss = None
    with pytest.raises(ValueError, match=f"mean over the examples.*{told}"):
        snip_tf.sensitivity(model, *small_batch, loss=loss, micro_batch_size=4)


class Subclassed(keras.Model):
    """A model without symbolic outputs, whose real ones have a mask."""

    def __init__(self):
        super().__init__()
        self.inner = padded_network()

    def call(self, x):
        return self.inner(x)


def behind_a_nested_model():
    """Keras' symbolic outputs have no mask here, the real ones have."""
    inputs = keras.Input((5,), dtype="int32")
    x = layers.Embedding(9, 4, mask_zero=True)(inputs)
    inner = keras.Input((None, 4))
    inner = keras.Model(inner, layers.Dense(3)(inner))
    return keras.Model(inputs, inner(x))


@pytest.mark.filterwarnings("ignore:Layer .* was passed an input with a mask")
@pytest.mark.parametrize("network", [Subclassed, behind_a_nested_model])
def test_padding_is_seen_where_the_graph_does_not_tell(network):
    model = network()
    x = np.random.default_rng(0).integers(0, 3, (8, 5))
    model(x)
    y = np.ones((8, 5, 3))
    snip_tf.sensitivity(model, x, y, loss="mse")
    with pytest.raises(ValueError, match="outputs with a padding mask"):
        snip_tf.sensitivity(model, x, y, loss="mse", micro_batch_size=4)


def test_a_padding_mask_that_ends_inside_does_not_hinder_pieces():
    model = padded_network()
    model.add(layers.LSTM(3))
    model.compile("sgd", "mse")
    x = np.random.default_rng(0).integers(0, 3, (8, 5))
    whole = flat(snip_tf.sensitivity(model, x, np.ones((8, 3))))
    cut = flat(
        snip_tf.sensitivity(model, x, np.ones((8, 3)), micro_batch_size=3)
    )
    np.testing.assert_allclose(cut, whole, rtol=1e-4, atol=1e-8)


def test_another_last_layer_is_noticed(small_model, small_batch):
    x, y = small_batch
    options = {"loss": "mse"}
    y = np.eye(4)[y]
    small_model.pop()
    small_model.add(keras.layers.Activation("softmax"))
    scores = []
    for kind in ("relu", "softmax"):
        small_model.pop()
        gc.collect()
        small_model.add(keras.layers.Activation(kind))
        scores.append(flat(snip_tf.sensitivity(small_model, x, y, **options)))
    probabilities = keras.ops.softmax(small_model.layers[0](x))
    np.testing.assert_allclose(small_model(x), probabilities, rtol=1e-6)
    expected = weight_times_gradient(
        small_model, lambda: tf.reduce_mean((small_model(x) - y) ** 2)
    )
    np.testing.assert_allclose(scores[1], expected, rtol=1e-4, atol=1e-7)
    assert np.abs(scores[0] - expected).max() > 0.01


def test_freezing_batch_norm_is_noticed(batch):
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
    """Gradients to 1,347: finite in 16 bits, but not a thousand times that."""
    x, y = np.ones((8, 4)), np.full((8, 1), 500.0)
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
        scores.append(flat(snip_tf.sensitivity(model, x, y)))
    np.testing.assert_allclose(*scores, rtol=0.02, atol=1e-4)


def test_targets_of_another_length_are_refused(small_model, small_batch):
    x, y = small_batch
    with pytest.raises(ValueError, match="for each example. Received: 5 and 8"):
        snip_tf.sensitivity(small_model, x, y[:5])


def test_targets_that_are_not_finite_are_refused(small_model, small_batch):
    x, y = small_batch
    y = np.where(y == 0, np.nan, y)
    with pytest.raises(ValueError, match="`y` must hold finite numbers"):
        snip_tf.sensitivity(small_model, x, y)


def test_endless_batches_are_refused(small_model, small_batch):
    endless = tf.data.Dataset.from_tensors(small_batch).repeat()
    with pytest.raises(ValueError, match="`x` must end.*endless tf.data"):
        snip_tf.sensitivity(small_model, endless)


def test_an_ignored_class_is_no_wrong_label(small_model, small_batch):
    x, y = small_batch
    y[0] = -1
    loss = keras.losses.SparseCategoricalCrossentropy(
        from_logits=True, ignore_class=-1
    )
    scores = snip_tf.sensitivity(small_model, x, y, loss=loss)
    assert np.isfinite(flat(scores)).all()


def test_other_backends_are_refused(small_model, small_batch, monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(ValueError, match="TensorFlow backend.*backend=jax"):
        snip_tf.sensitivity(small_model, *small_batch)


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
    warm = snip_tf.sensitivity(model, x, y, loss=CROSS_ENTROPY, warm_up=True)
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


def test_warm_up_in_training_mode_is_refused(small_model, small_batch):
    with pytest.raises(ValueError, match="`warm_up` is for scoring in infer"):
        snip_tf.sensitivity(
            small_model, *small_batch, warm_up=True, training=True
        )


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
    warm = flat(snip_tf.sensitivity(model, x, y, warm_up=True))
    standard = (x - x.mean(axis=0)) / x.std(axis=0)
    dense = model.layers[-1]
    weights, bias = dense.kernel.numpy(), dense.bias.numpy()
    # The gradient of the mean squared error of x W + b, times W.
    slope = standard.T @ (standard @ weights + bias - y) * weights
    by_hand = np.abs(slope).ravel() / np.abs(slope).sum()
    np.testing.assert_allclose(warm, by_hand, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("mode", ["training", "warm_up"])
def test_scoring_leaves_weights_that_a_layer_assigns(mode):
    model = keras.Sequential(
        [
            keras.Input((6,)),
            keras.layers.SpectralNormalization(keras.layers.Dense(5)),
            layers.Dense(3),
        ]
    )
    model.compile("sgd", "mse")
    before = model.get_weights()
    snip_tf.sensitivity(model, np.ones((4, 6)), np.ones((4, 3)), **{mode: True})
    for weight, old in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, old)


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
    np.testing.assert_allclose(given, compiled, rtol=1e-6)


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
