import numpy as np
import pytest
from conftest import CROSS_ENTROPY

import snip_tf
from snip_tf import scores


def test_magnitude_is_the_absolute_weight(small_model):
    found = scores.magnitude(small_model)
    kernel = small_model.layers[0]._kernel.numpy()
    np.testing.assert_array_equal(found[0], np.abs(kernel))


def test_pruning_by_magnitude_keeps_the_largest_weights(small_model):
    weights = [small_model.layers[0]._kernel, small_model.layers[1]._kernel]
    largest = np.sort(np.abs(np.concatenate([np.ravel(w) for w in weights])))
    snip_tf.prune(small_model, None, sparsity=0.75, criterion="magnitude")
    kept = np.concatenate([np.ravel(weight) for weight in weights])
    kept = np.sort(np.abs(kept[kept != 0]))
    np.testing.assert_array_equal(kept, largest[-8:])  # of 32 weights


def test_random_scores_are_uniform_and_of_their_seed():
    model = snip_tf.models.build("lenet_300_100")
    first, *_ = scores.random(model, seed=1)
    again, *_ = scores.random(model, seed=1)
    other, *_ = scores.random(model, seed=2)
    np.testing.assert_array_equal(first, again)
    assert np.mean(first == other) < 1e-3
    assert 0 < first.min() < 1e-3
    assert 1 - 1e-3 < first.max() <= 1
    assert first.mean() == pytest.approx(0.5, abs=5e-3)


def test_shuffling_keeps_every_layers_share(batch):
    model = snip_tf.models.build("lenet_300_100")
    model.compile(loss="sparse_categorical_crossentropy")
    found = snip_tf.sensitivity(model, *batch)
    shuffled = scores.shuffled_sensitivity(model, *batch, seed=3)
    for score, other in zip(found, shuffled, strict=True):
        np.testing.assert_array_equal(
            np.sort(other.ravel()), np.sort(score.ravel())
        )
    assert np.mean(found[0] == shuffled[0]) < 0.3
    counts = [mask.sum() for mask in snip_tf.keep_top(found, 0.95)]
    others = [mask.sum() for mask in snip_tf.keep_top(shuffled, 0.95)]
    np.testing.assert_array_equal(counts, others)


def test_shuffled_keeps_the_shares_of_a_model_pruned_before(
    small_model, small_batch
):
    snip_tf.prune(small_model, *small_batch, sparsity=0.25)
    before = snip_tf.get_masks(small_model)
    shares = [
        [
            int(mask.sum())
            for mask in snip_tf.keep_top(
                criterion(small_model, *small_batch), 0.6, masks=before
            )
        ]
        for criterion in (
            snip_tf.sensitivity,
            snip_tf.scores.shuffled_sensitivity,
        )
    ]
    assert shares[0] == shares[1]


@pytest.mark.parametrize("name", scores.SCORES)
def test_every_score_keeps_the_contract(name, small_model, small_batch):
    """All take the same keywords, and leave the model as it was."""
    before = small_model.get_weights()
    options = {"loss": CROSS_ENTROPY, "training": True, "seed": 3}
    found = scores.get(name)(small_model, *small_batch, **options)
    shapes = [mask.shape for mask in snip_tf.get_masks(small_model)]
    assert [score.shape for score in found] == shapes
    assert all(score.dtype.kind == "f" for score in found)
    assert min(score.min() for score in found) >= 0
    for weight, old in zip(small_model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, old)
    with pytest.raises(TypeError, match="sead"):
        scores.get(name)(small_model, *small_batch, sead=3)


def test_prune_takes_a_loss_whatever_the_score(small_model, small_batch):
    snip_tf.prune(
        small_model,
        *small_batch,
        sparsity=0.5,
        criterion=scores.magnitude,
        loss=CROSS_ENTROPY,
    )
    assert snip_tf.summary(small_model).kept == 16


def test_a_score_that_is_not_there_is_refused(small_model, small_batch):
    message = "one of snip, random, magnitude, shuffled, .*criterion='snap'"
    with pytest.raises(ValueError, match=message):
        snip_tf.prune(small_model, *small_batch, sparsity=0.5, criterion="snap")
