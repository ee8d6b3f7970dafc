"""The controls for pruning at the start: does a score beat them?

Frankle et al. (Pruning Neural Networks at Initialization, ICLR 2021) ask these
of every such method: does it do better than chance, than the size of the
weights, than chance with its own share for each layer?
"""

import keras
import numpy as np

from snip_tf import _checks, layers, scoring


def random(model, x=None, y=None, *, loss=None, training=False, seed=0):
    """Returns scores drawn uniformly from (0, 1]; needs no data."""
    del x, y, loss, training
    with _checks.naming(seed=seed):
        generator = np.random.default_rng(seed)
    return [
        (1 - generator.random(mask.shape)).astype(np.float32)
        for _, mask in layers.masked_weights(model)
    ]


def magnitude(model, x=None, y=None, *, loss=None, training=False, seed=None):
    """Returns |w|, eq. 2 of Lee et al. 2019; needs no data."""
    del x, y, loss, training, seed
    return [
        np.abs(keras.ops.convert_to_numpy(weight))
        for weight, _ in layers.masked_weights(model)
    ]


def shuffled_sensitivity(model, x, y=None, *, seed=0, **options):
    """Returns the sensitivities, shuffled within each weight.

    Every layer keeps as many weights as by sensitivity, but others: what then
    stays as good owes to the layers' shares alone.

    Args:
        model: See `sensitivity`.
        x: See `sensitivity`.
        y: See `sensitivity`.
        seed: Of the shuffle.
        **options: Passed to `sensitivity`.
    """
    with _checks.naming(seed=seed):
        generator = np.random.default_rng(seed)
    scores = scoring.sensitivity(model, x, y, **options)
    for score, (_, mask) in zip(
        scores, layers.masked_weights(model), strict=True
    ):
        left = keras.ops.convert_to_numpy(mask) != 0  # others are removed
        score[left] = generator.permutation(score[left])
    return scores
