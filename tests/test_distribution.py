"""Two replicas under tf.distribute, against one model without a strategy."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import CROSS_ENTROPY, FORKS

import snip_tf
from snip_tf import layers

_X = np.random.default_rng(0).normal(size=(20, 8)).astype(np.float32)
_Y = np.random.default_rng(1).integers(0, 3, 20)


def test_two_replicas_are_scored_pruned_and_train_as_one():
    # TensorFlow makes two devices of a CPU only before it computes.
    process = FORKS.Process(target=use_two_replicas)
    process.start()
    process.join()
    assert process.exitcode == 0


def use_two_replicas():
    (cpu,) = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(
        cpu, 2 * [tf.config.LogicalDeviceConfiguration()]
    )
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    assert strategy.num_replicas_in_sync == 2
    score_in_the_scope_and_outside(strategy)
    train(strategy)
    prune_gradually(strategy)
    with (
        tf.distribute.MultiWorkerMirroredStrategy().scope(),
        pytest.raises(ValueError, match="JAX.* a CollectiveAllReduceStrategy"),
    ):
        snip_tf.prune(build(), _X, _Y, sparsity=0.5)


def score_in_the_scope_and_outside(strategy):
    """Keras divides its loss by the replicas there, but not what is added."""
    with strategy.scope():
        model = build(activity_regularizer="l2")
    for name, score in snip_tf.scores.SCORES.items():
        outside = score(model, _X, _Y, loss=CROSS_ENTROPY, seed=1)
        with strategy.scope():
            inside = score(model, _X, _Y, loss=CROSS_ENTROPY, seed=1)
        for one, other in zip(inside, outside, strict=True):
            np.testing.assert_array_equal(one, other, err_msg=name)


def prune_gradually(strategy):
    with strategy.scope():
        model = build()
    schedule = snip_tf.schedules.cubic(0.0, 0.5, 1, 4)
    callback = snip_tf.PruneGradually(schedule=schedule, every=1)
    model.fit(_X, _Y, batch_size=4, callbacks=[callback], verbose=0)
    assert snip_tf.model_sparsity(model) == 0.5


def train(strategy):
    with strategy.scope():
        pruned, pruned_inside, prunes_itself = build(), build(), build()
        snip_tf.prune(pruned_inside, _X, _Y, sparsity=0.5)
    single = build()
    snip_tf.prune(single, _X, _Y, sparsity=0.5)
    snip_tf.prune(pruned, _X, _Y, sparsity=0.5)
    callback = snip_tf.PruneAtStart(_X, _Y, sparsity=0.5)
    models = (single, pruned, pruned_inside, prunes_itself)
    for model in models:
        callbacks = [callback] if model is prunes_itself else None
        model.fit(_X, _Y, batch_size=10, verbose=0, callbacks=callbacks)
    for model in models[1:]:
        for mask, expected in zip(
            snip_tf.get_masks(model), snip_tf.get_masks(single), strict=True
        ):
            np.testing.assert_array_equal(mask, expected)
        for value, expected in zip(
            model.get_weights(), single.get_weights(), strict=True
        ):
            np.testing.assert_allclose(value, expected, atol=1e-6)
        for weight, mask in layers.masked_weights(model):
            replicas = weight.value.values
            assert len(replicas) == 2
            for replica in replicas:
                assert not np.any(replica.numpy()[mask.numpy() == 0])


def build(**options):
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((8,)), layers.Dense(4, **options), layers.Dense(3)]
    )
    model.compile("sgd", CROSS_ENTROPY)
    return model
