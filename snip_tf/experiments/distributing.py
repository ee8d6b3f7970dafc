"""A run on several devices, as `--distribution` says.

All is done in the scope of a strategy, as it is without one: the network is
scored on one device with the whole batch, its masks reach all, and `fit` gives
each an equal part of a training batch and sums their gradients.
"""

import contextlib

import tensorflow as tf

NAMES = ("mirrored",)


@contextlib.contextmanager
def scope(name):
    """Has networks that are made in the block trained on several devices.

    Args:
        name: "mirrored" for all devices of this machine, GPUs if it has any;
            or None for one device.

    Raises:
        ValueError: If the process is one of several that train together.
    """
    if name is None:
        yield
        return
    cluster = tf.distribute.cluster_resolver.TFConfigClusterResolver()
    tasks = sum(map(len, cluster.cluster_spec().as_dict().values()))
    if tasks > 1:
        raise ValueError(
            "--distribution=mirrored is for one machine: several need "
            "--distribution=data_parallel, under Keras' JAX backend. "
            f"Received: TF_CONFIG with {tasks} tasks"
        )
    with tf.distribute.MirroredStrategy().scope():
        print(f"Training on {replicas()} replicas", flush=True)
        yield


def replicas():
    """Returns among how many devices a training batch is split."""
    return tf.distribute.get_strategy().num_replicas_in_sync


def check_splits(batch_size):
    """Raises a ValueError if the replicas' parts of a batch are not equal."""
    if batch_size % replicas():
        raise ValueError(
            "`batch_size` must be a multiple of the number of replicas. "
            f"Received: batch_size={batch_size}, replicas={replicas()}"
        )
