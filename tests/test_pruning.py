import fractions

import keras
import numpy as np
import pytest
from conftest import CROSS_ENTROPY

import snip_tf
from snip_tf import criteria, layers


@pytest.mark.parametrize(
    ("weights", "sparsity", "kappa"),
    [
        # Lee et al. 2019, Tables 1 and 2.
        (266_610, 0.95, 13_331),  # exactly half a weight is rounded up
        (266_610, 0.98, 5_332),
        (431_080, 0.98, 8_622),
        (431_080, 0.99, 4_311),
        (136_970, 0.95, 6_849),
        (404_490, 0.95, 20_225),
        (15_245_130, 0.95, 762_257),
        (10, 0.0, 10),
        (10, 0.05, 10),
        (10, np.float32(0.9), 1),
    ],
)
def test_kept_weights_round_halves_up(weights, sparsity, kappa):
    assert snip_tf.kept_weights(weights, sparsity) == kappa


@pytest.mark.parametrize("sparsity", [-0.1, 1, 1.5, 95, float("nan")])
def test_a_sparsity_out_of_range_is_refused(sparsity):
    with pytest.raises(ValueError, match=rf"\[0, 1\).*sparsity={sparsity!r}"):
        snip_tf.kept_weights(100, sparsity)


def test_a_sparsity_that_keeps_nothing_is_refused():
    with pytest.raises(ValueError, match="keep at least one.*0.999 of 100 w"):
        snip_tf.kept_weights(100, 0.999)


def test_the_top_is_taken_over_all_layers_together():
    scores = [np.array([[0.1, 0.4], [0.0, 0.3]]), np.array([0.2, 0.05])]
    masks = snip_tf.keep_top(scores, sparsity=0.5)
    np.testing.assert_array_equal(masks[0], [[0, 1], [0, 1]])
    np.testing.assert_array_equal(masks[1], [1, 0])
    assert {mask.dtype for mask in masks} == {np.dtype(np.float32)}


def test_of_equal_scores_the_first_stay():
    masks = snip_tf.keep_top([np.array([1, 2, 1]), np.array([1, 1])], 0.4)
    np.testing.assert_array_equal(masks[0], [1, 1, 1])
    np.testing.assert_array_equal(masks[1], [0, 0])


@pytest.mark.parametrize("sparsity", ["0.1", "0.5", "0.9", "0.95", "0.999"])
@pytest.mark.parametrize("levels", [2, 30, 10**6])
def test_exactly_kappa_are_kept_whatever_the_ties(sparsity, levels):
    generator = np.random.default_rng(1)
    scores = [
        generator.integers(0, levels, shape)
        for shape in [(70, 30), (30,), (5,)]
    ]
    masks = snip_tf.keep_top(scores, float(sparsity))
    kept = sum(mask.sum() for mask in masks)
    exact = 2135 * (1 - fractions.Fraction(sparsity))
    assert abs(kept - exact) <= fractions.Fraction(1, 2)
    flat = np.concatenate([score.ravel() for score in scores])
    ones = np.concatenate([mask.ravel() for mask in masks]) == 1
    assert flat[ones].min() >= flat[~ones].max()


@pytest.mark.parametrize(
    ("scores", "count"),
    [([0.0, 0.0], "0 not finite, 0 not"), ([np.nan, 1], "1 not finite, 2 not")],
)
def test_scores_without_an_order_are_refused(scores, count):
    with pytest.raises(ValueError, match=f"not all zero. Received: {count}"):
        snip_tf.keep_top([np.array(scores)], 0.5)


def test_set_masks_zeroes_the_removed_weights(small_model):
    masks = snip_tf.get_masks(small_model)
    kernel = small_model.layers[0]._kernel.numpy()
    masks[0][1:] = 0
    snip_tf.set_masks(small_model, masks)
    stored = small_model.layers[0]._kernel.numpy()
    np.testing.assert_array_equal(stored[0], kernel[0])
    np.testing.assert_array_equal(stored[1:], 0)
    np.testing.assert_array_equal(snip_tf.get_masks(small_model)[0], masks[0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda masks: masks[:-1], "each of the model's 3 masks.*2 arrays"),
        (lambda m: [m[0], m[1], m[2].T], r"logits/kernel .*\(3, 4\)"),
        (lambda m: [m[0], m[1], m[2] / 2], "logits/kernel.*Received: 0.5"),
        (lambda m: [m[0], m[1], m[2] * np.nan], "logits/.*Received: nan"),
    ],
)
def test_masks_that_do_not_fit_change_nothing(change, message, small_model):
    before = small_model.get_weights()
    masks = [0 * mask for mask in snip_tf.get_masks(small_model)[:1]]
    masks += snip_tf.get_masks(small_model)[1:]
    with pytest.raises(ValueError, match=message):
        snip_tf.set_masks(small_model, change(masks))
    for value, old in zip(small_model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(value, old)


def test_a_layer_that_loses_every_weight_is_named(small_model):
    masks = snip_tf.get_masks(small_model)
    masks[2][:] = 0
    with pytest.warns(UserWarning, match="logits/kernel removes every weight"):
        snip_tf.set_masks(small_model, masks)


@pytest.mark.parametrize(
    ("name", "sparsity", "kappa"),
    [("lenet_300_100", 0.95, 13_331), ("lenet_5_caffe", 0.98, 8_622)],
)
def test_prune_keeps_exactly_what_the_paper_counts(
    name, sparsity, kappa, batch
):
    model = snip_tf.models.build(name)
    model.compile(loss=CROSS_ENTROPY)
    scores = snip_tf.sensitivity(model, *batch)
    masks = snip_tf.prune(model, *batch, sparsity=sparsity)
    assert sum(int(mask.sum()) for mask in masks) == kappa
    for kept, mask in zip(snip_tf.get_masks(model), masks, strict=True):
        np.testing.assert_array_equal(kept, mask)
    ones = np.concatenate([mask.ravel() for mask in masks]) == 1
    flat = np.concatenate([score.ravel() for score in scores])
    assert flat[ones].min() >= flat[~ones].max()


def test_a_bad_sparsity_leaves_the_model_unscored(small_model):
    with pytest.raises(ValueError, match="sparsity=2"):
        snip_tf.prune(small_model, None, None, sparsity=2)


def test_the_draw_that_was_scored_is_kept_by_default(small_model, small_batch):
    before = small_model.layers[0]._kernel.numpy()
    mask, *_ = snip_tf.prune(small_model, *small_batch, sparsity=0.5)
    stored = small_model.layers[0]._kernel.numpy()
    np.testing.assert_array_equal(stored, before * mask)


def test_reinit_draws_kept_weights_anew_and_keeps_the_masks(batch):
    model = snip_tf.models.build("lenet_300_100")
    model.compile(loss=CROSS_ENTROPY)
    before = model.layers[1]._kernel.numpy()
    mask, *_ = snip_tf.prune(model, *batch, sparsity=0.5, reinit=True)
    after = model.layers[1]._kernel.numpy()
    kept = mask == 1
    np.testing.assert_array_equal(after[~kept], 0)
    assert np.mean(after[kept] == before[kept]) < 0.01
    # LeCun's normal: variance 1 / fan-in of all weights, not of the kept.
    assert after[kept].std() == pytest.approx(784**-0.5, rel=0.05)
    np.testing.assert_array_equal(snip_tf.get_masks(model)[0], mask)


@pytest.mark.parametrize(
    "optimizer", [keras.optimizers.SGD(0.01, momentum=0.9), "adam"]
)
def test_removed_weights_stay_exactly_zero(optimizer, batch, tmp_path):
    """Through 100 steps with L2, and through a file."""
    model = snip_tf.models.build("lenet_5_caffe")
    model.compile(optimizer, CROSS_ENTROPY)
    snip_tf.prune(model, *batch, sparsity=0.95)
    for weight, _ in layers.masked_weights(model):
        weight.regularizer = keras.regularizers.L2(2.5e-4)
    before = model.layers[0]._kernel.numpy()
    x, y = batch
    model.fit(x, y, batch_size=10, epochs=10, verbose=0)
    assert np.abs(model.layers[0]._kernel.numpy() - before).max() > 1e-4
    model.save(tmp_path / "model.keras")
    for trained in (model, keras.models.load_model(tmp_path / "model.keras")):
        for weight, mask in layers.masked_weights(trained):
            removed = weight.numpy()[mask.numpy() == 0]
            np.testing.assert_array_equal(removed, 0)
        assert snip_tf.summary(trained).kept == 21_554


def test_the_guard_keeps_the_best_of_each_kernel():
    scores = [np.array([[0.5, 0.4, 0.6]]), np.array([[0.1, 0.3]]), np.ones(3)]
    masks = snip_tf.keep_top(scores, sparsity=0.375, min_kept=1)
    np.testing.assert_array_equal(masks[0], [[0, 0, 1]])
    np.testing.assert_array_equal(masks[1], [[0, 1]])  # by the guard
    np.testing.assert_array_equal(masks[2], [1, 1, 1])


def test_a_guard_that_needs_too_many_is_refused():
    scores = [np.ones((2, 2)), np.ones((2, 2))]
    with pytest.raises(ValueError, match="2 weights to keep.*which needs 4"):
        snip_tf.keep_top(scores, sparsity=0.75, min_kept=2)
    with pytest.raises(ValueError, match="not be negative.*min_kept=-1"):
        snip_tf.keep_top(scores, sparsity=0.75, min_kept=-1)


def test_redraw_takes_another_initialiser():
    model = snip_tf.models.build("lenet_300_100", kernel_initializer="rn")
    kernel = model.layers[1]._kernel
    assert kernel.numpy().std() == pytest.approx(1, rel=0.02)
    snip_tf.redraw(model, "glorot_uniform")
    assert kernel.numpy().std() == pytest.approx((2 / 1084) ** 0.5, rel=0.02)
    np.testing.assert_array_equal(model.layers[1]._bias, 0)


def test_a_misspelt_option_is_refused(small_model, small_batch):
    with pytest.raises(TypeError, match="trainig"):
        snip_tf.prune(small_model, *small_batch, sparsity=0.5, trainig=True)
    assert snip_tf.model_sparsity(small_model) == 0


def test_pruning_again_goes_on_from_what_is_left(small_model, small_batch):
    snip_tf.prune(small_model, *small_batch, sparsity=0.25)
    before = snip_tf.get_masks(small_model)
    snip_tf.prune(small_model, *small_batch, sparsity=0.75)
    assert snip_tf.summary(small_model).kept == 8
    for mask, old in zip(snip_tf.get_masks(small_model), before, strict=True):
        assert (mask <= old).all()


@pytest.mark.parametrize(
    "criterion",
    [
        snip_tf.sensitivity,
        criteria.random,
        criteria.magnitude,
        criteria.shuffled_sensitivity,
    ],
)
@pytest.mark.parametrize("min_kept", [0, 12])
def test_pruning_again_never_takes_back(
    criterion, min_kept, small_model, small_batch
):
    """Not even where the scores of what is left are zero, as those removed."""
    x, y = small_batch
    before = [
        np.arange(mask.size).reshape(mask.shape) % 2
        for mask in snip_tf.get_masks(small_model)
    ]
    snip_tf.set_masks(small_model, before)
    dark = x.copy()
    dark[:, 1:] = 0
    snip_tf.prune(
        small_model,
        dark,
        y,
        sparsity=0.55,
        criterion=criterion,
        min_kept=min_kept,
    )
    after = snip_tf.get_masks(small_model)
    for mask, old in zip(after, before, strict=True):
        assert (mask <= old).all()
    kappa = snip_tf.kept_weights(sum(mask.size for mask in after), 0.55)
    assert sum(mask.sum() for mask in after) == kappa


def test_more_than_is_left_is_refused():
    scores, masks = [np.arange(1, 5)], [np.array([0, 1, 0, 1])]
    (mask,) = snip_tf.keep_top(scores, 0.5, masks=masks)
    np.testing.assert_array_equal(mask, [0, 1, 0, 1])
    with pytest.raises(ValueError, match="which keeps 3, of a .* 2 left"):
        snip_tf.keep_top(scores, 0.25, masks=masks)


def test_removed_weights_do_not_come_back(small_model, small_batch):
    snip_tf.prune(small_model, *small_batch, sparsity=0.75)
    with pytest.raises(ValueError, match="which keeps 16, of a .* 8 left"):
        snip_tf.prune(small_model, *small_batch, sparsity=0.5)


@pytest.mark.parametrize("sparsity", ["0.9", None, True])
def test_a_sparsity_that_is_no_number_is_refused(sparsity):
    with pytest.raises(ValueError, match=f"Received: sparsity={sparsity!r}"):
        snip_tf.kept_weights(100, sparsity)
