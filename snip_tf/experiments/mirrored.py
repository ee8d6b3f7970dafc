"""A run on all devices of a machine: `--distribution=mirrored`.

All is done in the scope of a strategy, as it is without one: the network is
scored on one device with the whole batch, its masks reach all, and `fit` gives
each an equal part of a training batch and sums their gradients.
"""

import contextlib

import keras
import tensorflow as tf


@contextlib.contextmanager
def scope(distribution):
    """Has networks that are made in the block trained on several devices.

    Args:
        distribution: "mirrored" for all devices of this machine, GPUs if it
            has any; else nothing is done.

    Raises:
        ValueError: If the process is one of several that train together, or
            on another backend.
    """
    if distribution != "mirrored":
        yield
        return
    cluster = tf.distribute.cluster_resolver.TFConfigClusterResolver()
    tasks = sum(map(len, cluster.cluster_spec().as_dict().values()))
    backend = keras.backend.backend()
    if tasks > 1 or backend != "tensorflow":
        raise ValueError(
            "--distribution=mirrored is for one machine and Keras' TensorFlow "
            "backend: several need --distribution=data_parallel, under JAX. "
            f"Received: TF_CONFIG with {tasks} tasks, backend={backend}"
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
