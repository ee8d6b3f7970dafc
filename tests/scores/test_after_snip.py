"""The scores before and after SNIP, against their formulas."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import CROSS_ENTROPY, flat

import snip_tf
from snip_tf import layers, scores, stepwise

DOUBLE = keras.losses.SparseCategoricalCrossentropy(True, dtype="float64")


@pytest.fixture
def net():
    """A 5-4-3 network in double precision."""
    keras.utils.set_random_seed(3)
    dense = snip_tf.layers.Dense
    return keras.Sequential(
        [
            keras.Input((5,), dtype="float64"),
            dense(4, "relu", mask_bias=True, dtype="float64"),
            dense(3, mask_bias=True, dtype="float64"),
        ]
    )


@pytest.fixture
def examples():
    generator = np.random.default_rng(0)
    return generator.normal(size=(7, 5)), generator.integers(0, 3, 7)


def gradient_at(net, weights, x, y, temperature=1.0):
    """The gradient by Keras alone, at other weights."""
    before = net.get_weights()
    variables = [weight for weight, _ in layers.masked_weights(net)]
    for variable, value in zip(variables, weights, strict=True):
        variable.assign(value)
    with tf.GradientTape() as tape:
        loss = DOUBLE(y, net(x) / temperature)
    found = tape.gradient(loss, [variable.value for variable in variables])
    net.set_weights(before)
    return [gradient.numpy() for gradient in found]


def test_grasp_is_the_change_of_the_gradient_along_itself(net, examples):
    values = [weight.numpy() for weight, _ in layers.masked_weights(net)]
    flow = gradient_at(net, values, *examples, temperature=2.0)
    ahead, behind = (
        gradient_at(
            net,
            [v + step * g for v, g in zip(values, flow, strict=True)],
            *examples,
            temperature=2.0,
        )
        for step in (1e-5, -1e-5)
    )
    kept_by = flat(values) * (flat(ahead) - flat(behind)) / 2e-5
    shifted = kept_by - kept_by.min()
    found = scores.grasp(net, *examples, loss=DOUBLE, temperature=2.0)
    np.testing.assert_allclose(flat(found), shifted / shifted.sum(), rtol=1e-6)


def test_grasp_takes_batches_as_one(net, examples):
    at_once = scores.grasp(net, *examples, loss=CROSS_ENTROPY)
    batches = snip_tf.data.batches(*examples, 3)
    by_batch = scores.grasp(net, batches, loss=CROSS_ENTROPY)
    np.testing.assert_allclose(flat(by_batch), flat(at_once), rtol=1e-6)


def test_removing_what_grasp_scores_least_keeps_the_gradient_flow():
    """Its own claim: more is left of it than without the highest scores."""
    x = np.random.default_rng(1).normal(size=(100, 28, 28, 1))
    y = np.arange(100) % 10
    model = snip_tf.models.build("lenet_300_100")
    found = scores.grasp(model, x, y, loss=CROSS_ENTROPY, temperature=1.0)
    turned = [max(s.max() for s in found) - score for score in found]
    flows = []
    for kept_by in (found, turned):
        masks = snip_tf.keep_top(kept_by, 0.2)
        values = [
            weight.numpy() * mask
            for (weight, _), mask in zip(
                layers.masked_weights(model), masks, strict=True
            )
        ]
        gradients = flat(gradient_at(model, values, x, y)) * flat(masks)
        flows.append(np.sum(gradients**2))
    assert flows[0] > flows[1]


def test_obd_is_the_diagonal_of_the_hessian(net, examples):
    x, y = examples
    weights = [weight.value for weight, _ in layers.masked_weights(net)]
    with tf.GradientTape(persistent=True) as outer:
        with tf.GradientTape() as inner:
            loss = DOUBLE(y, net(x))
        gradients = inner.gradient(loss, weights)
    diagonals = []
    for gradient, weight in zip(gradients, weights, strict=True):
        size = int(np.prod(weight.shape))
        hessian = outer.jacobian(gradient, weight).numpy()
        diagonals.append(np.diag(hessian.reshape(size, size)))
    saliency = flat(diagonals) * flat(weights) ** 2
    found = flat(scores.obd(net, x, y, loss=DOUBLE))
    np.testing.assert_allclose(found, saliency / saliency.sum(), rtol=1e-6)


@pytest.mark.parametrize("name", ["grasp", "obd"])
def test_weight_decay_is_no_part_of_the_loss_that_is_differentiated(
    name, net, examples
):
    found = scores.get(name)(net, *examples, loss=DOUBLE)
    decayed = snip_tf.training.Recipe(steps=1, batch_size=1, l2=0.1)
    snip_tf.training.compile_model(net, decayed)
    again = scores.get(name)(net, *examples, loss=DOUBLE)
    np.testing.assert_allclose(flat(again), flat(found), rtol=1e-6)
    assert len(net.losses) == 4


def test_obd_refuses_a_loss_without_classes(net, examples):
    with pytest.raises(ValueError, match="`loss` must be a sparse .*'mse'"):
        scores.obd(net, *examples, loss="mse")


@pytest.mark.parametrize("name", ["grasp", "obd", "synflow"])
def test_what_is_no_model_is_refused_by_name(name, examples):
    with pytest.raises(ValueError, match="`model` must be a Keras model"):
        scores.get(name)("model.keras", *examples)


def test_synflow_conserves_the_flow():
    """What flows through each layer is all that flows out (Tanaka, eq. 7)."""
    model = snip_tf.models.build("lenet_5_caffe")
    kernels = scores.synflow(model)[::2]
    sums = [score.sum() for score in kernels]
    np.testing.assert_allclose(sums, sums[0], rtol=1e-5)
    # A network of absolute weights: the flow is its sum of outputs.
    weights = [np.abs(weight) for weight in model.get_weights()]
    model.set_weights(weights)
    again = scores.synflow(model, np.zeros((3, 28, 28, 1), np.float32))
    np.testing.assert_allclose(flat(again), flat(scores.synflow(model)))


def test_synflow_keeps_a_path_where_snip_once_has_none():
    model = snip_tf.models.build("lenet_300_100")
    snip_tf.prune(model, None, sparsity=0.9995, criterion="synflow")
    assert snip_tf.summary(model).kept == 133
    assert all(mask.any() for mask in snip_tf.get_masks(model)[::2])


def test_synflow_refuses_whole_numbers():
    model = keras.Sequential(
        [
            keras.Input((4,), dtype="int32"),
            snip_tf.layers.Embedding(5, 2),
            keras.layers.Flatten(),
            snip_tf.layers.Dense(2),
        ]
    )
    with pytest.raises(ValueError, match="`model` must take .*int32"):
        scores.synflow(model)


def steps_of(criterion, model, batch, **options):
    """Prunes; returns the masks after each step."""
    seen = []

    def watched(model, *args, **kwargs):
        seen.append(flat(snip_tf.get_masks(model)))
        return scores.get(criterion)(model, *args, **kwargs)

    masks = snip_tf.prune(
        model, *batch, criterion=watched, loss=CROSS_ENTROPY, **options
    )
    return [*seen[1:], flat(masks)]


@pytest.mark.parametrize("regrow", [False, True])
def test_steps_remove_equal_shares_of_what_is_left(regrow, batch):
    model = snip_tf.models.build("lenet_300_100")
    masks = steps_of(
        "snip", model, batch, sparsity=0.99, steps=4, regrow=regrow
    )
    kept = [int(mask.sum()) for mask in masks]
    np.testing.assert_allclose(
        kept, 266_610 * 0.01 ** (np.arange(1, 5) / 4), atol=1
    )
    back = [np.any(new > old) for old, new in itertools.pairwise(masks)]
    assert any(back) == regrow


@pytest.mark.parametrize("criterion", ["snip_iterative", "force"])
def test_named_steps_are_those_of_the_paper(criterion, batch):
    model = snip_tf.models.build("lenet_300_100")
    twin = keras.models.clone_model(model)
    twin.set_weights(model.get_weights())
    options = {"sparsity": 0.98, "loss": CROSS_ENTROPY}
    masks = snip_tf.prune(model, *batch, criterion=criterion, **options)
    by_hand = stepwise.masks_of(
        twin,
        lambda: snip_tf.sensitivity(twin, *batch, loss=CROSS_ENTROPY),
        0.98,
        steps=60,
        regrow=criterion == "force",
    )
    np.testing.assert_array_equal(flat(masks), flat(by_hand))
    for weight, mask in layers.masked_weights(model):
        assert not weight.numpy()[mask.numpy() == 0].any()


def test_force_brings_nothing_back_that_was_removed_before(batch):
    model = snip_tf.models.build("lenet_300_100")
    options = {"loss": CROSS_ENTROPY, "criterion": "force", "steps": 4}
    before = flat(snip_tf.prune(model, *batch, sparsity=0.9, **options))
    after = flat(snip_tf.prune(model, *batch, sparsity=0.95, **options))
    assert np.all(after <= before)
    with pytest.raises(ValueError, match="removed already"):
        snip_tf.prune(model, *batch, sparsity=0.5, **options)


def test_synflow_takes_pictures_of_whole_numbers():
    model = keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Rescaling(1 / 255),
            snip_tf.layers.Dense(2),
        ]
    )
    found = scores.synflow(model, np.ones((2, 4), "uint8"))
    np.testing.assert_allclose(flat(found), flat(scores.synflow(model)))


def test_an_error_in_a_step_leaves_the_model_as_it_was(small_model):
    before = small_model.get_weights()
    found = iter([scores.random(small_model), [np.nan] * 3])

    def fails_the_second_time(model, x, y):
        return next(found)

    with pytest.raises(ValueError, match="`scores`, which .*3 numbers"):
        snip_tf.prune(
            small_model,
            None,
            sparsity=0.5,
            criterion=fails_the_second_time,
            steps=3,
        )
    for weight, old in zip(small_model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, old)


def test_steps_of_a_model_pruned_before_start_there(small_model, small_batch):
    snip_tf.prune(small_model, *small_batch, sparsity=0.75)
    masks = steps_of("snip", small_model, small_batch, sparsity=0.8, steps=10)
    assert np.all(np.diff([mask.sum() for mask in masks]) <= 0)
    assert masks[-1].sum() == 6


def test_obd_is_of_the_probabilities_whatever_else_is_in_the_loss():
    """Weights of losses and penalties of activations are none of theirs."""
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=(4, 6)), generator.integers(0, 3, 4)
    found = []
    for penalty, weights in ((None, None), ("l2", None), (None, [4.0])):
        keras.utils.set_random_seed(0)
        hidden = layers.Dense(8, "relu", activity_regularizer=penalty)
        model = keras.Sequential([keras.Input((6,)), hidden, layers.Dense(3)])
        model.compile(loss=CROSS_ENTROPY, loss_weights=weights)
        found.append(flat(scores.obd(model, x, y)))
    np.testing.assert_array_equal(found[1], found[0])
    np.testing.assert_array_equal(found[2], found[0])


@pytest.mark.parametrize("name", ["grasp", "synflow"])
def test_outputs_and_weights_may_be_of_several_types(name):
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=(4, 6)), generator.integers(0, 3, 4)
    inputs = keras.Input((6,))
    hidden = layers.Dense(8, "relu", dtype="bfloat16")(inputs)
    outputs = [
        layers.Dense(3)(hidden),
        layers.Dense(3, dtype="float64")(hidden),
    ]
    model = keras.Model(inputs, outputs)
    found = scores.get(name)(model, x, [y, y], loss=[CROSS_ENTROPY] * 2)
    assert flat(found).sum() == pytest.approx(1, rel=1e-5)


def test_synflow_needs_inputs_where_a_model_knows_none(net, examples):
    class Own(keras.Model):
        def __init__(self):
            super().__init__(name="own")
            self.net = net

        def call(self, x):
            return self.net(x)

    model = Own()
    model(examples[0])
    with pytest.raises(ValueError, match="`x` must be given.*model='own'"):
        scores.synflow(model, None)


def test_a_criterion_needs_no_hash(net):
    class Own:
        __hash__ = None

        def __call__(self, model, x, y, **options):
            return scores.magnitude(model, x, y)

    snip_tf.prune(net, None, sparsity=0.5, criterion=Own())
    assert snip_tf.model_sparsity(net) == pytest.approx(0.5, abs=0.02)
