"""The weights that masking leaves dense."""

import math

from snip_tf import _keras
from snip_tf.layers.base import MaskedLayer

# Weights that multiply no inputs, whatever their number of axes.
NO_KERNELS = (
    *("alpha", "beta", "gamma", "mean", "variance"),
    *("moving_mean", "moving_variance"),
    *("bias", "vector_u"),  # the last of spectral normalisation
)


def kernels_left_dense(model, found=None):
    """Returns how many kernel weights without a mask there are, by layer.

    A kernel is a weight of two or more axes that multiplies inputs.

    Args:
        model: A built model.
        found: The layers of it to look at; all by default.

    Returns:
        A dict of numbers by the layers' paths in the model.
    """
    counts = {}
    for layer in _keras.all_layers(model) if found is None else found:
        is_masked = isinstance(layer, MaskedLayer)
        pairs = layer.masked_weights() if is_masked else ()
        known = {id(variable) for pair in pairs for variable in pair}
        for inner in _keras.sublayers(layer):
            known.update(id(weight) for weight in inner.weights)
        for weight in layer.weights:
            is_kernel = len(weight.shape) > 1 and weight.name not in NO_KERNELS
            if is_kernel and id(weight) not in known:
                place = path_in(model, weight).rpartition("/")[0] or layer.name
                counts[place] = counts.get(place, 0) + math.prod(weight.shape)
    return counts


def path_in(model, weight):
    """Returns the path of a weight without the name of its model."""
    # Keras puts the model first or not, as it was built or loaded.
    return weight.path.removeprefix(f"{model.name}/")
