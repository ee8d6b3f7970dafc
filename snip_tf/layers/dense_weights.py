"""The weights that masking leaves dense."""

import math

from snip_tf import _keras
from snip_tf.layers.base import MaskedLayer

# Weights that are no kernels, whatever their rank.
_NO_KERNELS = (
    *("beta", "gamma", "mean", "variance", "moving_mean", "moving_variance"),
    *("bias", "vector_u"),  # the last of spectral normalisation
)


def weights_left_dense(found):
    """Yields (layer, number of weights) of layers whose kernels have no mask.

    A kernel is a weight of two or more axes that multiplies inputs.

    Args:
        found: The layers, as `all_layers` returns them; a layer counts without
            what is inside of it.
    """
    for layer in found:
        if isinstance(layer, MaskedLayer):
            continue
        inside = {
            id(weight)
            for inner in _keras.sublayers(layer)
            for weight in inner.weights
        }
        count = sum(
            math.prod(weight.shape)
            for weight in layer.weights
            if id(weight) not in inside
            and len(weight.shape) > 1
            and weight.name not in _NO_KERNELS
        )
        if count:
            yield layer, count
