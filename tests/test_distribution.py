"""Two replicas under tf.distribute, against one model without a strategy."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import CROSS_ENTROPY, FORKS

import snip_tf
from snip_tf import layers


def test_pruned_outside_of_the_scope_two_replicas_train_as_one():
    # TensorFlow makes two devices of a CPU only before it computes.
    process = FORKS.Process(target=train_on_two_replicas)
    process.start()
    process.join()
    assert process.exitcode == 0


def train_on_two_replicas():
    (cpu,) = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(
        cpu, 2 * [tf.config.LogicalDeviceConfiguration()]
    )
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    assert strategy.num_replicas_in_sync == 2
    x = np.random.default_rng(0).normal(size=(20, 8)).astype(np.float32)
    y = np.random.default_rng(1).integers(0, 3, 20)
    with strategy.scope():
        pruned, prunes_itself = build(), build()
        with pytest.raises(ValueError, match="outside of `strategy.scope"):
            snip_tf.prune(pruned, x, y, sparsity=0.5)
    single = build()
    snip_tf.prune(single, x, y, sparsity=0.5)
    snip_tf.prune(pruned, x, y, sparsity=0.5)
    callback = snip_tf.PruneAtStart(x, y, sparsity=0.5)
    for model, callbacks in (
        (single, None),
        (pruned, None),
        (prunes_itself, [callback]),
    ):
        model.fit(x, y, batch_size=10, verbose=0, callbacks=callbacks)
    for model in (pruned, prunes_itself):
        for value, expected in zip(
            model.get_weights(), single.get_weights(), strict=True
        ):
            np.testing.assert_allclose(value, expected, atol=1e-6)
        for weight, mask in layers.masked_weights(model):
            replicas = weight.value.values
            assert len(replicas) == 2
            for replica in replicas:
                assert not np.any(replica.numpy()[mask.numpy() == 0])


def build():
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((8,)), layers.Dense(4), layers.Dense(3)]
    )
    model.compile("sgd", CROSS_ENTROPY)
    return model
