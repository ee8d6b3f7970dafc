"""Pruning in one call: scores, masks, and masks on the model.

Lee et al. 2019, Algorithm 1.
"""

import contextlib

from snip_tf import _checks, gradients, guard, scores, stepwise
from snip_tf.masks import set_masks
from snip_tf.redrawing import drawn_anew


def prune(
    model,
    x,
    y=None,
    *,
    sparsity,
    criterion="snip",
    steps=None,
    min_kept=0,
    regrow=False,
    reinit=False,
    **options,
):
    """Prunes the model in place: scores, then keep_top, then set_masks.

    By default this is Algorithm 1 of Lee et al. 2019 up to the training, which
    is then `model.fit` as usual.

        >>> model = snip_tf.models.build("lenet_300_100")
        >>> x, y = np.random.rand(10, 28, 28, 1), np.arange(10)
        >>> loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        >>> masks = snip_tf.prune(model, x, y, sparsity=0.95, loss=loss)
        >>> int(sum(mask.sum() for mask in masks))
        13331

    Args:
        model: A built Keras model with masked layers.
        x: One batch of inputs or a sequence of batches; see `sensitivity`.
        y: The targets of the one batch.
        sparsity: The fraction of all masked weights to remove, in [0, 1). Or
            a dict of them by the names of layers, each then pruned by itself.
        criterion: The scores: a name of `snip_tf.scores.SCORES`, or a function
            that takes and returns what `sensitivity` does. Only by their names
            have SynFlow, FORCE and iterative SNIP the steps of their papers.
        steps: In how many; each scores what the one before left. By default
            that of the name's paper (`stepwise.STEPS`), else one.
        min_kept: See `keep_top`; 1 keeps a path to every unit.
        regrow: Whether weights that are removed already may come back.
        reinit: Whether the kept weights are drawn anew after scoring. False
            trains the draw that was scored, as in Algorithm 1; the authors'
            code trains a fresh one.
        **options: Passed to the criterion. All take `loss`, by default the
            compiled one, `training` and `seed`.

    Returns:
        The masks, as `keep_top` returns them.

    Warns:
        Of outputs that are the same for all examples, of kernels without a
        weight, of optimizers that do not leave removed weights at zero.

    Raises:
        ValueError: See `sensitivity`, `keep_top`. The model is unchanged.
    """
    _checks.check_one_of("reinit", reinit, (True, False))
    score = scores.get(criterion)
    # What is not ours may score whatever it likes in a step.
    name = criterion if isinstance(criterion, str) else None
    with gradients.reusing() if name else contextlib.nullcontext():
        masks = stepwise.masks_of(
            model,
            lambda: score(model, x, y, **options),
            sparsity,
            steps=stepwise.STEPS.get(name, 1) if steps is None else steps,
            between=name in stepwise.REGROWING,
            regrow=regrow,
            min_kept=min_kept,
        )
    guard.warn_of_optimizer(model)
    guard.warn_if_dead(model, masks, x, y, options.get("training", False))
    assign_anew = drawn_anew(model) if reinit else lambda: None
    set_masks(model, masks, zero_removed=not regrow)
    assign_anew()
    return masks
