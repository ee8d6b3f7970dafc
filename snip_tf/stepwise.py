"""Masks found in several steps, each scored on what the one before left.

With sensitivities this is iterative SNIP, or FORCE where weights may come back
(de Jorge et al. 2021, Progressive Skeletonization); with SynFlow's scores it is
SynFlow (Tanaka et al. 2020).
"""

import collections

import numpy as np

from snip_tf import _checks, _keras, guard, layers, schedules
from snip_tf.masks import get_masks, keep_top, kept_weights

# In how many steps `prune` takes a score by default, if not at once, and of
# which one removed weights may come back in a later step: as in their papers.
STEPS = {"synflow": 100, "snip_iterative": 60, "force": 60}
REGROWING = ("force",)


def masks_of(
    model,
    score,
    sparsity,
    *,
    steps=1,
    between=False,
    regrow=False,
    min_kept=0,
):
    """Returns the masks of the last step; the model is left as it was.

    An equal share of what is left goes in each step (FORCE, eq. 9).

    Args:
        model: A built Keras model with masked layers.
        score: A function without arguments that returns the model's scores.
        sparsity: See `groups`.
        steps: The number of steps.
        between: Whether weights that an earlier step removed may come back.
        regrow: Whether those may, too, that were removed before.
        min_kept: See `keep_top`.

    Raises:
        ValueError: See `keep_top`.
    """
    before = found = get_masks(model)
    parts, shapes = groups(model, sparsity), [mask.shape for mask in before]
    steps = _checks.whole("steps", steps, 1)
    variables = [mask for _, mask in layers.masked_weights(model)]
    axes = guard.output_axes(model)
    for _, indices, fraction in parts:  # refused before the work of scoring
        own = [before[index] for index in indices]
        kappa = kept_weights(sum(mask.size for mask in own), fraction)
        if not regrow:
            _checks.check_left(own, kappa, fraction)
    try:
        for step in range(1, steps + 1):
            _assign(variables, found)
            scores, found = score(), list(found)
            with _checks.naming(criterion=score):
                scores = _checks.checked_scores(scores, shapes)
            for _, indices, fraction in parts:
                own = [found[index] for index in indices]
                now = fraction
                if step < steps:
                    now = schedules.exponential(fraction, 0, steps)(step)
                    if not removes(own, now):  # a model pruned before
                        continue
                if between:
                    own = [before[index] for index in indices]
                masks = keep_top(
                    [scores[index] for index in indices],
                    now,
                    min_kept,
                    None if regrow else own,
                    [axes[index] for index in indices],
                )
                for index, mask in zip(indices, masks, strict=True):
                    found[index] = mask
    finally:
        _assign(variables, before)
    return found


def groups(model, sparsity):
    """Returns what is pruned by itself: (name, indices of masks, fraction).

    Args:
        model: A built Keras model with masked layers.
        sparsity: The fraction of all masked weights to remove, in [0, 1): one
            group without a name. Or a dict of them by the names of layers,
            each with all that is inside of it.

    Raises:
        ValueError: If a name is not that of one layer with masks, or a weight
            is in two groups.
    """
    owners = [
        id(layer)
        for layer in layers.masked_layers(model)
        for _ in layer.masked_weights()
    ]
    if not isinstance(sparsity, dict):
        return [(None, list(range(len(owners))), sparsity)]
    named = collections.defaultdict(list)
    for layer in _keras.all_layers(model)[1:] or [model]:  # or a layer alone
        inside = set(map(id, _keras.all_layers(layer)))
        indices = [i for i, owner in enumerate(owners) if owner in inside]
        if indices:
            named[layer.name].append(indices)
    parts, left = [], set(range(len(owners)))
    for name, fraction in sparsity.items():
        found = named.get(name, ())
        if len(found) != 1 or not left.issuperset(found[0]):
            names = ", ".join(one for one in named if len(named[one]) == 1)
            raise ValueError(
                "`sparsity` by layer must name layers with masks, each the "
                "only one of its name and none inside of another: of "
                f"{names}. Received: {name!r}"
            )
        left.difference_update(found[0])
        parts.append((name, found[0], fraction))
    return parts


def removes(masks, fraction):
    """Returns whether a sparsity leaves less than masks do."""
    weights = sum(mask.size for mask in masks)
    left = sum(np.count_nonzero(mask) for mask in masks)
    return kept_weights(weights, fraction) < left


def _assign(variables, masks):
    for variable, mask in zip(variables, masks, strict=True):
        variable.assign(mask)
