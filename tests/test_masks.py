import fractions

import numpy as np
import pytest
from conftest import places

import snip_tf


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


@pytest.mark.parametrize(
    "sparsity", [-0.1, 1, 1.5, 95, float("nan"), "0.9", None, True]
)
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
    ("scores", "wrong"), [([0, 0], 0), ([np.nan, 1], 1), ([-1, np.inf, 1], 2)]
)
def test_scores_without_an_order_are_refused(scores, wrong):
    with pytest.raises(ValueError, match=f"not all zero. Received: {wrong} "):
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
        (lambda masks: masks[:-1], "each of the 3 masks.*2 arrays"),
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
    message = "every weight.*logits/kernel. Low"
    with pytest.warns(UserWarning, match=message) as warned:
        snip_tf.set_masks(small_model, masks)
    assert places(warned, "every weight") == {__file__}


def test_more_than_is_left_is_refused():
    scores, masks = [np.arange(1, 5)], [np.array([0, 1, 0, 1])]
    (mask,) = snip_tf.keep_top(scores, 0.5, masks=masks)
    np.testing.assert_array_equal(mask, [0, 1, 0, 1])
    with pytest.raises(ValueError, match="which keeps 3, of a .* 2 left"):
        snip_tf.keep_top(scores, 0.25, masks=masks)
