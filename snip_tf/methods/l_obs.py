"""Layer-wise optimal brain surgery: the survivors make up for the removed.

Dong et al. 2017 (Learning to Prune Deep Neural Networks via Layer-wise Optimal
Brain Surgeon), after Hassibi and Stork 1993.
"""

import keras
import numpy as np

from snip_tf import layers, overriding
from snip_tf._keeping import left_as_it_was
from snip_tf.masks import get_masks, keep_top, set_masks

_DAMPING = 1e-6  # of inputs that are always zero


def prune_by_l_obs(model, x, *, sparsity, batch_size=100):
    """Prunes layers, and moves what is left so that outputs change least.

    The error of a layer is the mean of |Delta y|^2 over what it is given by the
    model before, to second order with the same Hessian H = mean(x x^T) for each
    output unit, a one being appended to x for the bias. Of each layer the
    weights of the least w^2 / (2 [H^-1]_qq) go. The others become the best
    ones for that mask, w_S = H_SS^-1 (H w)_S: the limit of removing one after
    the other. Train afterwards as usual.

        snip_tf.methods.prune_by_l_obs(
            model, x[:1000], sparsity={"fc1": 0.9}
        )

    Args:
        model: A trained Keras model.
        x: Inputs, some hundreds of them or more.
        sparsity: The fraction of its masked weights to remove, by the names of
            Dense or Conv2D layers: scores of different layers say nothing of
            each other.
        batch_size: The number of inputs at a time.

    Returns:
        The masks.

    Raises:
        ValueError: For other layers, and for a sparsity out of range. The model
            is unchanged.
    """
    known = [
        layer
        for layer in layers.masked_layers(model)
        if isinstance(layer, (layers.Dense, layers.Conv2D))
        and getattr(layer, "groups", 1) == 1
        and getattr(layer, "data_format", None) != "channels_first"
    ]
    names = [layer.name for layer in known]
    for name in sparsity if isinstance(sparsity, dict) else [sparsity]:
        if names.count(name) != 1:
            raise ValueError(
                "`sparsity` must be a dict by the names of Dense or Conv2D "
                "layers with masks, channels last and without groups, each the "
                f"only one of its name: of {', '.join(names)}. Received: "
                f"{name!r}"
            )
    by_name = dict(zip(names, known, strict=True))
    found = [by_name[name] for name in sparsity]
    hessians = _hessians(model, x, found, batch_size)
    masks = get_masks(model)
    places = {
        id(mask): index
        for index, (_, mask) in enumerate(layers.masked_weights(model))
    }
    updates = []
    for layer, fraction in zip(found, sparsity.values(), strict=True):
        weights, left = _stacked(layer)
        hessian = hessians[layer.name][: len(weights), : len(weights)]
        best, kept = surgery(weights, left, hessian, fraction)
        rows = int(np.prod(layer._kernel.shape[:-1]))
        parts = (layer._kernel, slice(rows)), (layer._bias, slice(rows, None))
        masked = {id(weight): mask for weight, mask in layer.masked_weights()}
        for weight, cut in parts:
            if weight is None:
                continue
            updates.append((weight, best[cut].reshape(weight.shape)))
            if id(weight) in masked:
                mask = kept[cut].reshape(weight.shape).astype(np.float32)
                masks[places[id(masked[id(weight)])]] = mask
    for weight, value in updates:
        weight.assign(value)
    set_masks(model, masks)
    return masks


def surgery(weights, left, hessian, sparsity):
    """Returns the best weights with a share of them removed, and their mask.

    Args:
        weights: An array (inputs, units), the bias, if any, in the last row.
        left: What may be removed, of the same shape: 1 what is masked and there
            still, 0 what is removed, NaN what has no mask and stays.
        hessian: The array (inputs, inputs) of mean(x x^T).
        sparsity: The fraction of all that has a mask.
    """
    inputs = len(weights)
    damped = hessian + _DAMPING * np.eye(inputs)
    inverse = np.linalg.inv(damped)
    scores = np.square(weights) / (2 * np.diag(inverse)[:, None])
    has_mask = ~np.isnan(left)
    (top,) = keep_top([scores[has_mask]], sparsity, masks=[left[has_mask]])
    kept = np.ones_like(weights, dtype=bool)
    kept[has_mask] = top.astype(bool)
    best = np.zeros_like(weights)
    for unit in range(weights.shape[1]):
        stay = kept[:, unit]
        best[stay, unit] = np.linalg.solve(
            damped[np.ix_(stay, stay)], (damped @ weights[:, unit])[stay]
        )
    return best, kept


def _stacked(layer):
    """Returns kernel and bias as (inputs, units), and what of it is left."""
    masked = {id(weight): mask for weight, mask in layer.masked_weights()}
    weights, left = [], []
    for weight in (layer._kernel, layer._bias):
        if weight is None:
            continue
        value = keras.ops.convert_to_numpy(weight).astype(np.float64)
        mask = masked.get(id(weight))
        known = np.full(value.shape, np.nan)
        if mask is not None:
            known = keras.ops.convert_to_numpy(mask).astype(np.float64)
            value = value * known
        for parts, part in ((weights, value), (left, known)):
            parts.append(part.reshape(-1, value.shape[-1]))
    return np.concatenate(weights), np.concatenate(left)


def _hessians(model, x, found, batch_size):
    """Returns mean(x x^T) of the inputs of layers, a one appended, by name."""
    sums, counts = {}, dict.fromkeys([layer.name for layer in found], 0)

    def watch(layer, call):
        def watched(inputs, *args, **options):
            rows = _rows(layer, inputs).astype(np.float64)
            rows = np.hstack([rows, np.ones((len(rows), 1))])
            sums[layer.name] = sums.get(layer.name, 0) + rows.T @ rows
            counts[layer.name] += len(rows)
            return call(inputs, *args, **options)

        return watched

    with left_as_it_was(model), overriding.overridden(found, "call", watch):
        for start in range(0, len(x), batch_size):
            model(x[start : start + batch_size], training=False)
    return {name: total / counts[name] for name, total in sums.items()}


def _rows(layer, inputs):
    """Returns what the kernel of a layer is multiplied with, row by row."""
    if isinstance(layer, layers.Conv2D):
        inputs = keras.ops.image.extract_patches(
            inputs,
            layer.kernel_size,
            layer.strides,
            layer.dilation_rate,
            layer.padding,
            layer.data_format,
        )
    return keras.ops.convert_to_numpy(inputs).reshape(-1, inputs.shape[-1])
