import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import CROSS_ENTROPY

import snip_tf
from snip_tf import layers


@pytest.fixture
def data():
    """320 examples for `small_model`."""
    generator = np.random.default_rng(0)
    x = generator.normal(size=(320, 4)).astype(np.float32)
    return x, generator.integers(0, 3, 320)


def flat_masks(model):
    return np.concatenate([m.ravel() for m in snip_tf.get_masks(model)])


def test_the_model_is_pruned_as_prune_does_it(small_model, data):
    x, y = data
    twin = keras.models.clone_model(small_model)
    twin.set_weights(small_model.get_weights())
    twin.compile(loss=CROSS_ENTROPY)
    snip_tf.prune(twin, x[:100], y[:100], sparsity=0.5)
    callback = snip_tf.PruneAtStart(x[:100], y[:100], sparsity=0.5)
    small_model.fit(x, y, callbacks=[callback], verbose=0)
    np.testing.assert_array_equal(flat_masks(small_model), flat_masks(twin))


def test_removed_weights_never_move(small_model, data):
    """Were it too late by one step, momentum would carry them on."""
    small_model.compile(keras.optimizers.SGD(0.1, momentum=0.9), CROSS_ENTROPY)
    callback = snip_tf.PruneAtStart(*data, sparsity=0.5)
    small_model.fit(*data, epochs=2, callbacks=[callback], verbose=0)
    for weight, mask in layers.masked_weights(small_model):
        np.testing.assert_array_equal(weight.numpy()[mask.numpy() == 0], 0)


def test_the_history_shows_the_sparsity(small_model, data):
    callback = snip_tf.PruneAtStart(*data, sparsity=0.5)
    history = small_model.fit(*data, epochs=2, callbacks=[callback], verbose=0)
    kept = snip_tf.summary(small_model).kept
    np.testing.assert_allclose(history.history["sparsity"], 1 - kept / 32)


def test_a_pruned_model_is_not_pruned_again(small_model, data):
    snip_tf.prune(small_model, *data, sparsity=0.25)
    before = flat_masks(small_model)
    callback = snip_tf.PruneAtStart(*data, sparsity=0.75)
    small_model.fit(*data, callbacks=[callback], initial_epoch=0, verbose=0)
    np.testing.assert_array_equal(flat_masks(small_model), before)


@pytest.mark.parametrize("first", ["backup", "prune"])
def test_a_restored_run_keeps_its_masks(first, small_model, data, tmp_path):
    """Interrupted after an epoch, started anew from another draw."""
    path = tmp_path / "backup"

    class Interrupted(Exception):
        pass

    def interrupt(epoch, logs):
        if epoch == 1:
            raise Interrupted

    def callbacks():
        both = [
            keras.callbacks.BackupAndRestore(path),
            snip_tf.PruneAtStart(*data, sparsity=0.5),
        ]
        return both if first == "backup" else both[::-1]

    stop = keras.callbacks.LambdaCallback(on_epoch_begin=interrupt)
    with pytest.raises(Interrupted):
        small_model.fit(
            *data, epochs=3, callbacks=[*callbacks(), stop], verbose=0
        )
    before = flat_masks(small_model)
    assert before.mean() == 0.5
    twin = keras.models.clone_model(small_model)
    twin.compile("sgd", CROSS_ENTROPY)
    history = twin.fit(*data, epochs=3, callbacks=callbacks(), verbose=0)
    assert history.epoch == [1, 2]
    np.testing.assert_array_equal(flat_masks(twin), before)


def test_a_dataset_prunes_too(small_model, data):
    batches = tf.data.Dataset.from_tensor_slices(data).batch(32)
    callback = snip_tf.PruneAtStart(batches.take(1), sparsity=0.5)
    small_model.fit(batches, shuffle=False, callbacks=[callback], verbose=0)
    assert snip_tf.summary(small_model).kept == 16


def test_a_model_without_masks_is_refused(data):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    model.compile("sgd", CROSS_ENTROPY)
    callback = snip_tf.PruneAtStart(*data, sparsity=0.5)
    with pytest.raises(ValueError, match="at least one layer with a mask"):
        model.fit(*data, callbacks=[callback], verbose=0)


def test_a_bad_sparsity_is_refused_when_it_is_given(data):
    with pytest.raises(ValueError, match=r"\[0, 1\). Received: sparsity=50"):
        snip_tf.PruneAtStart(*data, sparsity=50)


def test_it_takes_what_prune_takes(small_model, data):
    """Sparsities by layer, and a score that needs no data."""
    prune = snip_tf.PruneAtStart(
        sparsity={"logits": 0.5}, criterion="magnitude", verbose=0
    )
    small_model.fit(*data, callbacks=[prune], verbose=0)
    assert [mask.sum() for mask in snip_tf.get_masks(small_model)] == [16, 4, 6]


def test_one_callback_prunes_one_model_after_the_other(small_model, data):
    twin = keras.models.clone_model(small_model)
    twin.compile("sgd", CROSS_ENTROPY)
    callback = snip_tf.PruneAtStart(*data, sparsity=0.5)
    for model in (small_model, twin):
        model.fit(*data, callbacks=[callback], verbose=0)
        assert snip_tf.model_sparsity(model) == 0.5


@pytest.mark.parametrize("verbose", [0, 1])
def test_it_prints_the_summary_unless_told_not_to(
    verbose, small_model, data, capsys
):
    x, y = data
    prune = snip_tf.PruneAtStart(x, y, sparsity=0.5, verbose=verbose)
    small_model.fit(x, y, callbacks=[prune], verbose=0)
    assert ("hidden/kernel" in capsys.readouterr().out) == bool(verbose)
    assert snip_tf.model_sparsity(small_model) == 0.5


def test_a_model_without_outputs_is_refused_in_fit(small_model, data):
    class Parts(keras.Model):
        """Its losses are in its training step."""

        def __init__(self):
            super().__init__()
            self.net = small_model

        def train_step(self, batch):
            return {"loss": keras.ops.zeros(())}

    x, y = data
    parts = Parts()
    parts.compile("adam")
    prune = snip_tf.PruneAtStart(x, y, sparsity=0.5)
    with pytest.raises(ValueError, match="must have a `call`.*of those layers"):
        parts.fit(x, callbacks=[prune], verbose=0)
