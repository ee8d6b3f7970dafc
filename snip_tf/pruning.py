"""From scores to masks: keep the top kappa weights, once, before training.

Lee et al. 2019, eq. 7 and Algorithm 1.
"""

import fractions
import math
import numbers
import warnings

import keras
import numpy as np

from snip_tf import layers


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
    check_sparsity(sparsity)
    density = 1 - fractions.Fraction(str(sparsity))
    kappa = math.floor(weights * density + fractions.Fraction(1, 2))
    if kappa == 0:
        raise ValueError(
            "`sparsity` must keep at least one weight. Received: "
            f"sparsity={sparsity} of {weights} weights"
        )
    return kappa


def check_sparsity(sparsity):
    """Raises a ValueError if a sparsity is not a fraction in [0, 1)."""
    is_number = isinstance(sparsity, numbers.Real)
    if not is_number or isinstance(sparsity, bool) or not 0 <= sparsity < 1:
        raise ValueError(
            "`sparsity` is the fraction of weights removed and must be in "
            f"[0, 1). Received: sparsity={sparsity!r}"
        )


def keep_top(scores, sparsity, min_kept=0, masks=None):
    """Returns the masks that keep the highest scores over all layers together.

    Exactly `kept_weights(m, sparsity)` entries are one (eq. 7). Of equal
    scores those that come first stay: earlier arrays, then lower flat indices.

    Args:
        scores: A sequence of non-negative arrays, such as `sensitivity`
            returns.
        sparsity: The fraction removed over the whole network, in [0, 1).
        min_kept: A guard against layers that lose every weight: of each array
            with two or more axes, that is of each kernel, at least so many of
            its highest scores stay. The total is kappa all the same.
        masks: Earlier masks, such as `get_masks` returns: what they removed
            stays removed. By default nothing is.

    Returns:
        A list of float32 arrays of zeros and ones, of the scores' shapes.

    Raises:
        ValueError: If the sparsity is out of range or would keep no weight,
            more than `masks` have left, or too few for `min_kept`, if that is
            negative, or if the scores are not finite or all zero.
    """
    scores = [np.asarray(score) for score in scores]
    flat = np.concatenate([score.ravel() for score in scores])
    kappa = kept_weights(flat.size, sparsity)
    if masks is not None:
        _check_left(masks, sparsity)
    if not np.isfinite(flat).all() or not flat.any():
        raise ValueError(
            "`scores` must be finite and not all zero. Received: "
            f"{np.count_nonzero(~np.isfinite(flat))} not finite, "
            f"{np.count_nonzero(flat)} not zero of {flat.size}"
        )
    ends = np.cumsum([score.size for score in scores])[:-1]
    if masks is not None:
        flat = flat.astype(np.result_type(flat, np.float32), copy=False)
        for part, mask in zip(np.split(flat, ends), masks, strict=True):
            part[np.ravel(mask) == 0] = -np.inf
    if min_kept < 0:
        raise ValueError(
            f"`min_kept` must not be negative. Received: min_kept={min_kept}"
        )
    if min_kept:
        kernels = [score.ndim > 1 for score in scores]
        flat = _raised(np.split(flat, ends), kernels, kappa, min_kept)
    threshold = _largest(flat, kappa)
    kept = flat > threshold
    ties = np.flatnonzero(flat == threshold)
    kept[ties[: kappa - np.count_nonzero(kept)]] = True
    return [
        part.reshape(score.shape).astype(np.float32)
        for part, score in zip(np.split(kept, ends), scores, strict=True)
    ]


def _largest(flat, kappa):
    """Returns the kappa-th largest score."""
    # Zeros can be many, as of inputs that are always zero, or of weights that
    # are removed, and `partition` is slow where many values are equal.
    positive = flat > 0
    if kappa <= np.count_nonzero(positive) < flat.size:
        flat = flat[positive]
    return np.partition(flat, flat.size - kappa)[flat.size - kappa]


def _raised(parts, kernels, kappa, min_kept):
    """Returns the flat scores, the best of each kernel raised over all."""
    raised = []
    for part, is_kernel in zip(parts, kernels, strict=True):
        part = part.astype(np.float64)
        if is_kernel:
            best = np.argsort(-part, kind="stable")[:min_kept]
            part[best[~np.isneginf(part[best])]] = np.inf
        raised.append(part)
    flat = np.concatenate(raised)
    needed = np.count_nonzero(np.isposinf(flat))
    if needed > kappa:
        raise ValueError(
            f"`min_kept` must leave room among the {kappa} weights to keep. "
            f"Received: min_kept={min_kept}, which needs {needed}"
        )
    return flat


def _check_left(masks, sparsity):
    """Raises a ValueError if a sparsity keeps more than masks have left."""
    kappa = kept_weights(sum(map(np.size, masks)), sparsity)
    left = sum(np.count_nonzero(mask) for mask in masks)
    if kappa > left:
        raise ValueError(
            "`sparsity` must not ask for weights that are removed already. "
            f"Received: sparsity={sparsity}, which keeps {kappa}, of a model "
            f"with {left} left"
        )


def get_masks(model):
    """Returns the model's masks as float32 numpy arrays, layer by layer."""
    return [
        keras.ops.convert_to_numpy(mask)
        for _, mask in layers.masked_weights(model)
    ]


def set_masks(model, masks):
    """Sets the model's masks and sets the removed weights to zero.

    Warns of a kernel that loses every weight: nothing passes it any more.

    A removed weight gets no gradient, so that training leaves it at zero. Only
    an optimizer that has momentum from before still moves what is stored (what
    is used stays zero): compile the model anew when pruning after training.

    Args:
        model: A built Keras model with masked layers.
        masks: One array of zeros and ones per mask, in the order and of the
            shapes of `get_masks(model)`.

    Raises:
        ValueError: If the masks do not fit the model or hold other values than
            0 and 1. The model is then unchanged.
    """
    pairs = layers.masked_weights(model)
    masks = [np.asarray(mask, dtype=np.float32) for mask in masks]
    if len(masks) != len(pairs):
        raise ValueError(
            f"`masks` must hold one array for each of the model's {len(pairs)} "
            f"masks. Received: {len(masks)} arrays"
        )
    for (weight, _), mask in zip(pairs, masks, strict=True):
        if mask.shape != tuple(weight.shape):
            raise ValueError(
                f"The mask of {weight.path} must have the weight's shape "
                f"{tuple(weight.shape)}. Received: shape={mask.shape}"
            )
        strange = mask[(mask != 0) & (mask != 1)]
        if strange.size:
            raise ValueError(
                f"The mask of {weight.path} must hold zeros and ones. "
                f"Received: {strange[0]}"
            )
    for (weight, variable), mask in zip(pairs, masks, strict=True):
        variable.assign(mask)
        # What is stored is what is used: saved, exported and regularised
        # weights need no mask to be right.
        weight.assign(keras.ops.convert_to_numpy(weight) * mask)
    for (weight, _), mask in zip(pairs, masks, strict=True):
        if weight.name != "bias" and not mask.any():
            warnings.warn(
                f"The mask of {weight.path} removes every weight. Lower the "
                "sparsity, or prune with `min_kept`.",
                stacklevel=2,
            )


def redraw(model, kernel_initializer=None):
    """Draws all masked weights anew from their layers' initialisers.

    A layer whose initialiser has a fixed seed gets its old values again. The
    masks stay, and removed weights stay zero.

    Args:
        model: A built Keras model with masked layers.
        kernel_initializer: A Keras initialiser or its name to draw all weights
            but the biases from; by default each layer's own.
    """
    for layer in layers.masked_layers(model):
        if not layer.masked_weights():
            continue  # its cell or its projections have them
        # An initialiser object returns the same values each time it is asked;
        # a layer made from the config draws for itself.
        config = layer.get_config()
        if kernel_initializer is not None:
            for key in config:
                if key.endswith("_initializer") and key != "bias_initializer":
                    initializer = keras.initializers.get(kernel_initializer)
                    config[key] = initializer.clone()
        twin = type(layer).from_config(config)
        twin.build_from_config(layer.get_build_config())
        fresh = twin.masked_weights()
        for (weight, mask), (drawn, _) in zip(
            layer.masked_weights(), fresh, strict=True
        ):
            weight.assign(drawn * mask)


def prune(
    model,
    x,
    y=None,
    *,
    sparsity,
    criterion=None,
    min_kept=0,
    reinit=False,
    **options,
):
    """Prunes the model in place: sensitivity, then keep_top, then set_masks.

    This is Algorithm 1 of Lee et al. 2019 up to the training, which is then
    `model.fit` as usual.

    Args:
        model: A built Keras model with masked layers.
        x: One batch of inputs or an iterable of batches; see `sensitivity`.
        y: The targets of the one batch.
        sparsity: The fraction of all masked weights to remove, in [0, 1).
        criterion: The scores: by default `sensitivity`, or a function that
            takes and returns the same, such as those of `snip_tf.criteria`.
        min_kept: See `keep_top`.
        reinit: Whether the kept weights are drawn anew after scoring. False
            trains the draw that was scored, as in Algorithm 1; the authors'
            code trains a fresh one.
        **options: Passed to the criterion; for `sensitivity` they are `loss`,
            by default the compiled one, `training`, `ema_decay`,
            `micro_batch_size` and `warm_up`.

    Returns:
        The masks, as `keep_top` returns them.

    Raises:
        ValueError: See `sensitivity` and `keep_top`; also if fewer weights are
            left than the sparsity keeps. The model is then unchanged.
    """
    if criterion is None:
        # Here, as all else in this file needs no TensorFlow.
        from snip_tf.scoring import sensitivity as criterion
    before = get_masks(model)
    _check_left(before, sparsity)  # refused before the work of scoring
    scores = criterion(model, x, y, **options)
    masks = keep_top(scores, sparsity, min_kept, before)
    set_masks(model, masks)
    if reinit:
        redraw(model)
    return masks
