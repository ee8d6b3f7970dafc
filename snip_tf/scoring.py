"""Connection sensitivity: one backward pass with respect to the masks.

Lee et al. 2019, eq. 5-6: s_j = |dL/dc_j| / sum_k |dL/dc_k|, taken at c = 1.
"""

import keras
import numpy as np

from snip_tf import _batches, _checks, _keras, gradients, layers
from snip_tf._keeping import left_as_it_was
from snip_tf.masks import cut

# Half precision loses small gradients: the loss is scaled up and the gradient
# down again, by a power of two, which changes no other digit. If that is too
# large for a number of 16 bits, by the next one.
_HALF_PRECISION_SCALES = (2.0**10, 2.0**5, 1.0)


def sensitivity(
    model, x, y=None, *, loss=None, training=False, seed=None, ema_decay=None
):
    """Returns the connection sensitivity of every masked weight.

    The scores say how much the loss would change, to first order, if a
    connection were weakened (Lee et al. 2019, eq. 5-6). The model is left as
    it was.

        >>> model = snip_tf.models.build("lenet_300_100")
        >>> x, y = np.ones((2, 28, 28, 1)), np.array([3, 7])
        >>> loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        >>> scores = snip_tf.sensitivity(model, x, y, loss=loss)
        >>> scores[0].shape, round(float(sum(s.sum() for s in scores)), 5)
        ((784, 300), 1.0)

    Args:
        model: A built Keras model with masked layers.
        x: One batch of inputs, or, with `y=None`, a sequence of batches
            `(x, y)` or `(x, y, sample_weight)` with a length, such as a finite
            `tf.data.Dataset` or `snip_tf.data.batches(x, y, size)`, which
            bounds the memory. The signed gradients are averaged, by their
            examples, before the absolute value is taken.
        y: The targets of the one batch.
        loss: A Keras loss, its name, or a function of (targets, outputs). By
            default the loss that the model was compiled with. It is traced
            where `fit` would trace it. What layers add to it counts too;
            weight decay does not, as it does not depend on the masks.
        training: Whether layers run in training mode. Off by default, as in
            the authors' code: batch normalisation then uses its moving
            statistics and dropout passes everything.
        seed: Has no effect; every score takes one.
        ema_decay: Over several batches, None for the mean over all examples,
            or the decay in [0, 1) of an exponential moving average of the
            batches' signed gradients (Lee et al. 2019, 4.2, names both).

    Returns:
        A list with one float32 numpy array per mask, of its shape, in the
        order of `get_masks(model)`. All are non-negative; together they sum
        to 1.

    Raises:
        ValueError: If the model has no masks or no loss, for batches that do
            not fit it or each other, NaN, infinity, labels that are no classes,
            gradients that are not finite or all zero, arguments out of range,
            and in the scope of a `tf.distribute` strategy that `fit` fails in.
    """
    if ema_decay is not None:
        _checks.check_number("ema_decay", ema_decay, 1)
    gradient_of = _mask_gradient(model, loss, training)
    average, examples = None, 0
    with left_as_it_was(model), _checks.naming(x=x, y=y, loss=loss):
        for batch in _batches.checked(model, x, y, loss):
            gradient = gradient_of(batch)
            size = _batches.size_of(batch)
            examples += size
            if average is None:
                average = gradient
                continue
            new = size / examples if ema_decay is None else 1 - ema_decay
            # In double precision, so that the order of the batches moves no
            # more than the last bits.
            average = average + new * (gradient.astype(np.float64) - average)
    scores = np.abs(average)
    return [part.astype(np.float32) for part in normalised(scores, model)]


def normalised(scores, model):
    """Returns flat scores over their sum, as an array for each mask."""
    total = float(scores.sum(dtype=np.float64))
    if not np.isfinite(total) or total == 0:
        raise ValueError(
            "`x`, `y` and `loss` must give gradients of the masks that are "
            f"finite and not all zero. Received: sum of magnitudes={total}"
        )
    shapes = [mask.shape for _, mask in layers.masked_weights(model)]
    return cut(scores / total, shapes)


def _mask_gradient(model, loss, training):
    """Returns a function of a batch: dL/dc of all masks, a flat float32 array.

    L is that of `loss_of`.
    """
    loss_at = loss_of(model, loss, training=training)
    masks = [mask for _, mask in layers.masked_weights(model)]
    dtypes = {layer.compute_dtype for layer in _keras.all_layers(model)}

    def scaled(scale, batch):
        return gradients.value_and_gradient(
            lambda values: loss_at(values, *batch) * scale,
            gradients.tensors_of(masks),
        )[1]

    scaled = gradients.compiled(scaled, model)

    def gradient_of(batch):
        for scale in _HALF_PRECISION_SCALES if "float16" in dtypes else (1.0,):
            found = map(gradients.as_flat_array, scaled(scale, batch))
            flat = np.concatenate(list(found))
            if scale == 1 or np.isfinite(flat).all():
                return flat if scale == 1 else flat / np.float32(scale)

    return gradient_of


def loss_of(
    model,
    loss=None,
    *,
    training=False,
    of=None,
    temperature=None,
    with_added=True,
):
    """Returns the loss of a model as a function that changes nothing in it.

    It takes (values, x, y, sample_weight=None), values of the variables `of`,
    by default the masks, and returns a scalar tensor. Outputs are divided by
    `temperature`. `with_added` says whether what layers add to a `loss` that is
    given counts. See `sensitivity` for the other arguments and errors.
    """
    of = of or [mask for _, mask in layers.masked_weights(model)]
    _batches.check_can_score(model, loss)
    judge = model
    if loss is not None:
        # Keras itself reads names, functions, lists and dicts of losses.
        judge = keras.Sequential()
        judge.output_names = getattr(model, "output_names", None)
        judge.compile(loss=loss)

    def loss_at(values, x, y, sample_weight=None):
        values = [
            *((v, v.value) for v in model.variables),
            *zip(of, values, strict=True),
        ]
        with keras.StatelessScope(values, collect_losses=True):
            outputs = model(x, training=training)
            if temperature is not None:
                outputs = keras.tree.map_structure(
                    lambda output: output / temperature, outputs
                )
            value = _keras.compute_loss(
                judge, x, y, outputs, sample_weight, training
            )
            if judge is not model and with_added and model.losses:
                value += keras.ops.sum(
                    [keras.ops.sum(added) for added in model.losses]
                )
        return value

    return loss_at
