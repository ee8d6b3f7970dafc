"""Batch normalisation with the statistics of a batch, for a while."""

import contextlib
import functools
import itertools

import keras

from snip_tf import _batches, _checks, _keras, overriding


@contextlib.contextmanager
def warmed_up(model, x):
    """Replaces the moving statistics of batch normalisation by those of x.

    In a new model they are those of no data, with which whole layers of a deep
    network can score zero. Unlike in training mode the examples of a batch
    stay independent of each other, and dropout stays off. At the end of the
    block the old statistics are back.

        >>> model = snip_tf.models.build("alexnet_s")
        >>> x = np.random.rand(8, 32, 32, 3)
        >>> with snip_tf.scores.warmed_up(model, x):
        ...     loss = keras.losses.SparseCategoricalCrossentropy(True)
        ...     masks = snip_tf.prune(
        ...         model, x, np.arange(8), sparsity=0.9, loss=loss
        ...     )

    Args:
        model: A built Keras model.
        x: One batch of inputs.
    """
    norms = [
        layer
        for layer in _keras.all_layers(model)
        if isinstance(layer, keras.layers.BatchNormalization)
    ]
    before = [
        (n, n.momentum, n.moving_mean.numpy(), n.moving_variance.numpy())
        for n in norms
    ]
    try:
        with overriding.overridden(norms, "call", _in_training_mode):
            with _checks.naming(x=x):
                model(_batches.array_of(x), training=False)
        yield
    finally:
        for norm, momentum, mean, variance in before:
            norm.momentum = momentum
            norm.moving_mean.assign(mean)
            norm.moving_variance.assign(variance)


def _in_training_mode(layer, call):
    calls = itertools.count()

    @functools.wraps(call)
    def in_training_mode(*args, **options):
        # The mean over the calls of a layer that is used more than once.
        done = next(calls)
        layer.momentum = done / (done + 1)
        return call(*args, **{**options, "training": True})

    return in_training_mode
