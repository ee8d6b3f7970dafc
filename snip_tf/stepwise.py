"""Masks found in several steps, each scored on what the one before left.

With sensitivities this is iterative SNIP, or FORCE where weights may come back
(de Jorge et al. 2021, Progressive Skeletonization); with SynFlow's scores it is
SynFlow (Tanaka et al. 2020).
"""

from snip_tf import guard, layers, schedules
from snip_tf.masks import get_masks, keep_top

# In how many steps `prune` takes a score by default, if not at once, and of
# which one removed weights may come back in a later step: as in their papers.
STEPS = {"synflow": 100, "snip_iterative": 60, "force": 60}
REGROWING = ("force",)


def masks_of(model, score, sparsity, *, steps=1, regrow=False, min_kept=0):
    """Returns the masks of the last step; the model is left as it was.

    An equal share of what is left goes in each step (FORCE, eq. 9).

    Args:
        model: A built Keras model with masked layers.
        score: A function without arguments that returns the model's scores.
        sparsity: The fraction of all masked weights to remove, in [0, 1).
        steps: The number of steps.
        regrow: Whether weights that an earlier step removed may come back.
        min_kept: See `keep_top`.

    Raises:
        ValueError: See `keep_top`.
    """
    before = masks = get_masks(model)
    left = sum(mask.sum() for mask in before) / sum(m.size for m in before)
    schedule = schedules.exponential(sparsity, 0, steps)
    variables = [mask for _, mask in layers.masked_weights(model)]
    axes = guard.output_axes(model)
    try:
        for step in range(1, steps + 1):
            now = sparsity if step == steps else schedule(step)
            if step < steps and now < 1 - left:  # a model pruned before
                continue
            _assign(variables, masks)
            earlier = None if regrow else masks
            masks = keep_top(score(), now, min_kept, earlier, axes)
    finally:
        _assign(variables, before)
    return masks


def _assign(variables, masks):
    for variable, mask in zip(variables, masks, strict=True):
        variable.assign(mask)
