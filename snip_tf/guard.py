"""What keeps a pruned network alive: a guard, and warnings.

If each output unit of each kernel keeps one weight at least, then by induction
every unit has a path to an input.
"""

import warnings

import keras
import numpy as np

from snip_tf import _batches, _checks, _keras, layers
from snip_tf._keeping import left_as_it_was

_EXAMPLES = 8  # enough to tell a network that is dead, at little cost
# Optimizers that do not leave removed weights alone, and why.
_UNFIT = {
    "Adafactor": "gives NaN where a row and a column of a kernel are removed",
    "Muon": "moves what is stored of removed weights, if not what is used",
}


def output_axes(model):
    """Returns the axes of each mask that count output units, or None."""
    axes = []
    for layer in layers.masked_layers(model):
        for weight, _ in layer.masked_weights():
            known = layer.unit_axes(weight)
            axes.append(known and known[1])
    return axes


def without_inputs(model):
    """Returns how many kernels, and units of theirs, have no weight left."""
    kernels = units = 0
    axes = output_axes(model)
    masks = [mask for _, mask in layers.masked_weights(model)]
    for mask, own in zip(masks, axes, strict=True):
        if own is not None:
            mask = keras.ops.convert_to_numpy(mask)
            others = [i for i in range(mask.ndim) if i - mask.ndim not in own]
            alive = mask.any(axis=tuple(others))
            kernels += not alive.any()
            units += int((~alive).sum())
    return kernels, units


def raise_best(scores, output_axes, min_kept, kappa):
    """Raises the best scores of each output unit over all, in place."""
    needed = 0
    for score, axes in zip(scores, output_axes, strict=True):
        if axes is None:
            continue
        last = tuple(range(-len(axes), 0))
        by_unit = np.moveaxis(score, axes, last)
        units = by_unit.shape[-len(axes) :]
        by_unit = by_unit.reshape(-1, *units)
        best = np.argsort(-by_unit, axis=0, kind="stable")[:min_kept]
        raised = np.take_along_axis(by_unit, best, axis=0)
        raised = np.where(np.isneginf(raised), raised, np.inf)
        needed += np.count_nonzero(np.isposinf(raised))
        np.put_along_axis(by_unit, best, raised, axis=0)
        moved = np.moveaxis(score, axes, last)
        moved[...] = by_unit.reshape(moved.shape)
    if needed > kappa:
        raise ValueError(
            f"`min_kept` must leave room among the {kappa} weights to keep. "
            f"Received: min_kept={min_kept}, which needs {needed}: lower the "
            "sparsity"
        )


def warn_if_dead(model, masks, x, y, training):
    """Warns if with these masks, and not before, all outputs are the same."""
    if x is None:  # the score needs no data
        return
    variables = [mask for _, mask in layers.masked_weights(model)]

    def tells_examples_apart(values):
        with left_as_it_was(model), keras.StatelessScope(values):
            try:
                outputs = model(few, training=training)
            except Exception:  # made for batches of this size alone
                outputs = model(inputs, training=training)
        return _differ(outputs)

    pruned = list(zip(variables, masks, strict=True))
    with _checks.naming(x=x):  # not all scores have looked at it
        inputs = _batches.array_of(_batches.first_inputs(x, y))
        inputs = keras.tree.map_structure(_batches.as_numpy, inputs)
        few = keras.tree.map_structure(lambda part: part[:_EXAMPLES], inputs)
        is_dead = (
            _differ(few)
            and not tells_examples_apart(pruned)
            and tells_examples_apart([])
        )
    if is_dead:
        warnings.warn(
            "The outputs of the pruned model no longer depend on its inputs. "
            "Lower the sparsity, or prune with `min_kept=1`, which keeps a "
            "path to every unit.",
            stacklevel=3,
        )


def _differ(examples):
    """Returns whether any two examples of a batch differ in any number."""
    parts = map(keras.ops.convert_to_numpy, keras.tree.flatten(examples))
    return any((part != part[:1]).any() for part in parts)


def warn_of_optimizer(model):
    """Warns of a compiled optimizer that does not leave removed weights."""
    optimizer = getattr(model, "optimizer", None)
    weights = [weight for weight, _ in layers.masked_weights(model)]
    every = _keras.optimizers_of(optimizer, weights)
    for name in sorted({type(each).__name__ for each in every} & set(_UNFIT)):
        warnings.warn(
            f"Keras' {name} {_UNFIT[name]}: train a pruned model with another "
            "optimizer.",
            stacklevel=3,
        )


def forget_removed(model):
    """Sets to zero what the optimizer remembers of removed weights.

    Momentum from before would move what is stored of them. Sums of squares
    would not, and Ftrl's must not be zero.
    """
    optimizer = getattr(model, "optimizer", None)
    masks = {id(weight): mask for weight, mask in layers.masked_weights(model)}
    for weight, slot in _keras.slots(optimizer) if optimizer else ():
        mask = masks.get(id(weight))
        is_sum = slot.name == f"{weight.path.replace('/', '_')}_accumulator"
        if mask is not None and slot.shape == mask.shape and not is_sum:
            slot.assign(slot * keras.ops.cast(mask, slot.dtype))
