"""Pruning in one call: scores, masks, and masks on the model.

Lee et al. 2019, Algorithm 1.
"""

import warnings

import keras
import numpy as np

from snip_tf import layers
from snip_tf.masks import check_left, get_masks, keep_top, set_masks

# Optimizers that do not leave removed weights alone, and why.
_UNFIT = {
    "Adafactor": "gives NaN where a row and a column of a kernel are removed",
    "Muon": "moves what is stored of removed weights, if not what is used",
}


def prune(
    model,
    x,
    y=None,
    *,
    sparsity,
    criterion="snip",
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
        sparsity: The fraction of all masked weights to remove, in [0, 1).
        criterion: The scores: a name of `snip_tf.scores.SCORES`, or a function
            that takes and returns what `sensitivity` does.
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
        If the outputs of the pruned model are the same for all examples, of
        kernels without a weight, and of an optimizer that does not leave
        removed weights at zero.

    Raises:
        ValueError: See `sensitivity` and `keep_top`; also if fewer weights are
            left than the sparsity keeps. The model is then unchanged.
    """
    from snip_tf import scores  # here, as masks and `redraw` need no TensorFlow

    before = None if regrow else get_masks(model)
    if before is not None:
        check_left(before, sparsity)  # refused before the work of scoring
    found = scores.get(criterion)(model, x, y, **options)
    masks = keep_top(found, sparsity, min_kept, before, _output_axes(model))
    set_masks(model, masks, zero_removed=not regrow)
    if reinit:
        redraw(model)
    _warn_of_optimizer(model)
    _warn_of_dead(model, x, y, options.get("training", False))
    return masks


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
        for (weight, mask), (drawn, _) in zip(
            layer.masked_weights(), twin.masked_weights(), strict=True
        ):
            weight.assign(drawn * mask)


def _output_axes(model):
    """Returns the axes of each mask that count output units, or None."""
    axes = []
    for layer in layers.masked_layers(model):
        for weight, _ in layer.masked_weights():
            known = layer.unit_axes(weight)
            axes.append(known and known[1])
    return axes


def _warn_of_optimizer(model):
    name = type(getattr(model, "optimizer", None)).__name__
    if name in _UNFIT:
        warnings.warn(
            f"Keras' {name} {_UNFIT[name]}: train a pruned model with another "
            "optimizer.",
            stacklevel=3,
        )


def _warn_of_dead(model, x, y, training):
    """Warns if no output tells the examples of the first batch apart."""
    inputs = x if y is not None else next(iter(x))[0]
    with keras.StatelessScope():
        outputs = keras.tree.flatten(model(inputs, training=training))
    outputs = [keras.ops.convert_to_numpy(output) for output in outputs]
    if len(outputs[0]) > 1 and not any(
        np.ptp(output, axis=0).any() for output in outputs
    ):
        warnings.warn(
            "The outputs of the pruned model no longer depend on its inputs: "
            "no path of kept weights is left. Lower the sparsity, or prune "
            "with `min_kept=1`, which keeps a path to every unit.",
            stacklevel=3,
        )
