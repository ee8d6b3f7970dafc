import numpy as np
import pytest

import snip_tf
from snip_tf import criteria


def test_magnitude_is_the_absolute_weight(small_model):
    scores = criteria.magnitude(small_model)
    kernel = small_model.layers[0]._kernel.numpy()
    np.testing.assert_array_equal(scores[0], np.abs(kernel))


def test_pruning_by_magnitude_keeps_the_largest_weights(small_model):
    weights = [small_model.layers[0]._kernel, small_model.layers[1]._kernel]
    largest = np.sort(np.abs(np.concatenate([np.ravel(w) for w in weights])))
    snip_tf.prune(
        small_model, None, sparsity=0.75, criterion=criteria.magnitude
    )
    kept = np.concatenate([np.ravel(weight) for weight in weights])
    kept = np.sort(np.abs(kept[kept != 0]))
    np.testing.assert_array_equal(kept, largest[-8:])  # of 32 weights


def test_random_scores_are_uniform_and_of_their_seed():
    model = snip_tf.models.build("lenet_300_100")
    first, *_ = criteria.random(model, seed=1)
    again, *_ = criteria.random(model, seed=1)
    other, *_ = criteria.random(model, seed=2)
    np.testing.assert_array_equal(first, again)
    assert np.mean(first == other) < 1e-3
    assert 0 < first.min() < 1e-3
    assert 1 - 1e-3 < first.max() <= 1
    assert first.mean() == pytest.approx(0.5, abs=5e-3)


def test_shuffling_keeps_every_layers_share(batch):
    model = snip_tf.models.build("lenet_300_100")
    model.compile(loss="sparse_categorical_crossentropy")
    scores = snip_tf.sensitivity(model, *batch)
    shuffled = criteria.shuffled_sensitivity(model, *batch, seed=3)
    for score, other in zip(scores, shuffled, strict=True):
        np.testing.assert_array_equal(
            np.sort(other.ravel()), np.sort(score.ravel())
        )
    assert np.mean(scores[0] == shuffled[0]) < 0.3
    counts = [mask.sum() for mask in snip_tf.keep_top(scores, 0.95)]
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
            snip_tf.criteria.shuffled_sensitivity,
        )
    ]
    assert shares[0] == shares[1]
