import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import CROSS_ENTROPY

import snip_tf
from snip_tf import layers


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


def test_a_unit_may_lose_every_weight_by_default(small_model, small_batch):
    scores = [np.ones(mask.shape) for mask in snip_tf.get_masks(small_model)]
    scores[0][:, 3] = 0.5
    for masks in (
        snip_tf.keep_top(scores, sparsity=4 / 32),
        snip_tf.prune(
            small_model,
            *small_batch,
            sparsity=4 / 32,
            criterion=lambda *_: scores,
        ),
    ):
        np.testing.assert_array_equal(masks[0][:, 3], 0)


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


def test_redraw_takes_another_initialiser():
    model = snip_tf.models.build("lenet_300_100", kernel_initializer="rn")
    kernel = model.layers[1]._kernel
    assert kernel.numpy().std() == pytest.approx(1, rel=0.02)
    snip_tf.redraw(model, "glorot_uniform")
    assert kernel.numpy().std() == pytest.approx((2 / 1084) ** 0.5, rel=0.02)
    np.testing.assert_array_equal(model.layers[1]._bias, 0)


def test_redraw_takes_initialisers_that_are_functions():
    def ones(shape, dtype=None):
        return keras.ops.ones(shape, dtype)

    layer = layers.Dense(3, kernel_initializer=ones)
    model = keras.Sequential([keras.Input((4,)), layer])
    layer._kernel.assign(np.zeros((4, 3)))
    snip_tf.redraw(model)
    np.testing.assert_array_equal(layer._kernel, np.ones((4, 3)))


def test_sparse_inputs_are_pruned_as_dense_ones(small_model, small_batch):
    x, y = small_batch
    model = keras.Sequential([keras.Input((4,), sparse=True)])
    for layer in small_model.layers:
        model.add(type(layer).from_config(layer.get_config()))
    model.set_weights(small_model.get_weights())
    model.compile("sgd", small_model.loss)
    batches = tf.data.Dataset.from_tensors((tf.sparse.from_dense(x), y))
    masks = snip_tf.prune(model, batches, sparsity=0.5)
    expected = snip_tf.prune(small_model, x, y, sparsity=0.5)
    for mask, other in zip(masks, expected, strict=True):
        np.testing.assert_array_equal(mask, other)


def test_a_misspelt_option_is_refused(small_model, small_batch):
    with pytest.raises(TypeError, match="trainig"):
        snip_tf.prune(small_model, *small_batch, sparsity=0.5, trainig=True)
    assert snip_tf.model_sparsity(small_model) == 0


@pytest.mark.parametrize(
    "criterion",
    ["snip", "random", "magnitude", "shuffled"],
)
@pytest.mark.parametrize("min_kept", [0, 1])
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


def test_weights_come_back_only_if_they_may(small_model, small_batch):
    """With FORCE's options: what is stored stays, and any weight may return."""
    stored = small_model.get_weights()[0].copy()
    masks = snip_tf.get_masks(small_model)
    masks[0][:] = 0
    masks[0][0, 0] = 1
    snip_tf.set_masks(small_model, masks, zero_removed=False)
    np.testing.assert_array_equal(small_model.get_weights()[0], stored)

    def of_the_removed(model, x, y):
        return [np.arange(1.0, m.size + 1).reshape(m.shape) for m in masks]

    options = {"sparsity": 0.25, "criterion": of_the_removed}
    with pytest.raises(ValueError, match="removed already"):
        snip_tf.prune(small_model, *small_batch, **options)
    snip_tf.prune(small_model, *small_batch, regrow=True, **options)
    first, *_ = snip_tf.get_masks(small_model)
    assert first[-1, -1] == 1 and first[0, 0] == 0
    np.testing.assert_array_equal(small_model.get_weights()[0], stored)


def test_redraw_draws_all_or_nothing():
    model = keras.Sequential(
        [keras.Input((8, 8, 1)), layers.Dense(8), layers.Conv2D(2, 3)]
    )
    before = model.get_weights()
    with pytest.raises(ValueError, match="(?i)identity"):
        snip_tf.redraw(model, "identity")
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_redraw_reaches_subclasses_of_stock_layers():
    class Own(keras.layers.Dense):
        pass

    model = snip_tf.masked(keras.Sequential([keras.Input((4,)), Own(3)]))
    snip_tf.redraw(model, "ones")
    np.testing.assert_array_equal(model.layers[0].kernel, np.ones((4, 3)))
