"""From scores to masks: the top kappa weights over the whole network stay.

Lee et al. 2019, eq. 7.
"""

import fractions
import math
import warnings

import keras
import numpy as np

from snip_tf import _checks, guard, layers


def kept_weights(weights, sparsity):
    """Returns kappa = round(weights * (1 - sparsity)), halves rounded up.

    The sparsity is taken as the decimal number that was written: 95% of
    266,610 weights leave 13,330.5 and so 13,331, whatever binary floating
    point makes of 0.95.

    Args:
        weights: The number of prunable weights, m in the paper.
        sparsity: The fraction removed, in [0, 1).

    Raises:
        ValueError: If the sparsity is out of range or would keep no weight.
    """
    weights = _checks.whole("weights", weights, 1)
    _checks.check_number("sparsity", sparsity, 1)
    density = 1 - fractions.Fraction(str(sparsity))
    kappa = math.floor(weights * density + fractions.Fraction(1, 2))
    if kappa == 0:
        raise ValueError(
            "`sparsity` must keep at least one weight. Received: "
            f"sparsity={sparsity} of {weights} weights"
        )
    return kappa


def keep_top(scores, sparsity, min_kept=0, masks=None, output_axes=None):
    """Returns the masks that keep the highest scores over all layers together.

    Exactly `kept_weights(m, sparsity)` entries are one (eq. 7). Of equal
    scores those that come first stay: earlier arrays, then lower flat indices.

        >>> snip_tf.keep_top([np.array([[3.0, 1.0], [2.0, 0.5]])], 0.5)
        [array([[1., 0.],
               [1., 0.]], dtype=float32)]

    Args:
        scores: A sequence of non-negative arrays, such as `sensitivity`
            returns.
        sparsity: The fraction removed over the whole network, in [0, 1).
        min_kept: A guard against units that lose every input, and so against
            networks that nothing passes: of the weights of each output unit
            (channel) of each kernel, at least so many of the highest scores
            stay. The total is kappa all the same.
        masks: Earlier masks, such as `get_masks` returns: what they removed
            stays removed. By default nothing is.
        output_axes: For `min_kept`: the axes of each score that count output
            units, None for a score without any. By default the last axis of
            scores of two or more axes.

    Returns:
        A list of float32 arrays of zeros and ones, of the scores' shapes.

    Raises:
        ValueError: If the sparsity is out of range or would keep no weight,
            more than `masks` have left, or too few for `min_kept`, if the
            scores are negative, not finite or all zero, or if `min_kept`,
            `masks` or `output_axes` make no sense for the scores.
    """
    scores = _checks.checked_scores(scores)
    flat = np.concatenate([score.ravel() for score in scores])
    flat = flat.astype(np.result_type(flat, np.float32))
    kappa = kept_weights(flat.size, sparsity)
    min_kept = _checks.whole("min_kept", min_kept)
    shapes = [score.shape for score in scores]
    ordered = cut(flat, shapes)  # views: what changes in them changes in flat
    if masks is not None:
        masks = _checks.checked_masks(masks, shapes)
        _checks.check_left(masks, kappa, sparsity)
        for part, mask in zip(ordered, masks, strict=True):
            part[mask == 0] = -np.inf
    if min_kept:
        if output_axes is None:
            output_axes = [(-1,) if len(s) > 1 else None for s in shapes]
        with _checks.naming(min_kept=min_kept, output_axes=output_axes):
            guard.raise_best(ordered, output_axes, min_kept, kappa)
    threshold = _largest(flat, kappa)
    kept = flat > threshold
    ties = np.flatnonzero(flat == threshold)
    kept[ties[: kappa - np.count_nonzero(kept)]] = True
    return cut(kept.astype(np.float32), shapes)


def cut(flat, shapes):
    """Returns a flat array cut into arrays of these shapes."""
    ends = np.cumsum([math.prod(shape) for shape in shapes])[:-1]
    return [
        part.reshape(shape)
        for part, shape in zip(np.split(flat, ends), shapes, strict=True)
    ]


def _largest(flat, kappa):
    """Returns the kappa-th largest score."""
    # Zeros can be many, as of inputs that are always zero, or of weights that
    # are removed, and `partition` is slow where many values are equal.
    positive = flat > 0
    if kappa <= np.count_nonzero(positive) < flat.size:
        flat = flat[positive]
    return np.partition(flat, flat.size - kappa)[flat.size - kappa]


def get_masks(model):
    """Returns the model's masks as float32 numpy arrays, layer by layer."""
    return [
        keras.ops.convert_to_numpy(mask)
        for _, mask in layers.masked_weights(model)
    ]


def set_masks(model, masks, *, zero_removed=True):
    """Sets the model's masks and sets the removed weights to zero.

    Warns of a kernel that loses every weight: nothing passes it any more.

    A removed weight gets no gradient, and what the model's optimizer remembers
    of it becomes zero too, so that training leaves it at zero.

    Args:
        model: A built Keras model with masked layers.
        masks: One array of zeros and ones per mask, in the order and of the
            shapes of `get_masks(model)`.
        zero_removed: Whether what is stored of removed weights becomes zero
            too. False where they may come back.

    Raises:
        ValueError: If they do not fit the model. It is then unchanged.
    """
    pairs = layers.masked_weights(model)
    masks = _checks.checked_masks(
        masks,
        [weight.shape for weight, _ in pairs],
        [weight.path for weight, _ in pairs],
    )
    emptied = [
        weight.path
        for (weight, _), mask in zip(pairs, masks, strict=True)
        if weight.name != "bias" and not mask.any()
    ]
    if emptied:  # first: a warning may be an error
        warnings.warn(
            "The masks of these kernels remove every weight, so that nothing "
            f"passes them: {', '.join(emptied)}. Lower the sparsity, or prune "
            "with `min_kept=1`.",
            stacklevel=2,
        )
    for (weight, variable), mask in zip(pairs, masks, strict=True):
        variable.assign(mask)
        if zero_removed:
            # What is stored is what is used: saved, exported and regularised
            # weights need no mask to be right.
            weight.assign(keras.ops.convert_to_numpy(weight) * mask)
    if zero_removed:
        guard.forget_removed(model)
