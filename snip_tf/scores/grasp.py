"""GraSP: what removing a weight would cost of the gradient flow."""

import functools
import operator

import keras
import numpy as np

from snip_tf import _batches, gradients, layers, scoring
from snip_tf._keeping import left_as_it_was, without_regularizers


def grasp(
    model,
    x,
    y=None,
    *,
    loss=None,
    training=False,
    seed=None,
    temperature=200.0,
):
    """Returns w * (H g) over all weights, shifted so that the least is zero.

    Wang et al. 2020 (Picking Winning Tickets Before Training by Preserving
    Gradient Flow), eq. 8: without weight w_j the squared norm of the gradient
    grows by 2 S_j, S_j = -w_j (H g)_j, to first order, and those of the largest
    S go. g and H are the gradient and the Hessian of the loss with respect to
    the weights, without weight decay.

        >>> model = snip_tf.models.build("lenet_300_100")
        >>> x, y = np.random.rand(10, 28, 28, 1), np.arange(10)
        >>> loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        >>> snip_tf.scores.grasp(model, x, y, loss=loss)[2].shape
        (300, 100)

    Args:
        model: See `sensitivity`.
        x: See `sensitivity`; all batches are held in memory. The authors take
            ten images of each class.
        y: See `sensitivity`.
        loss: See `sensitivity`; of logits.
        training: See `sensitivity`. The authors' code scores in training mode.
        seed: Has no effect.
        temperature: What the outputs are divided by, as in the authors' code.

    Returns:
        See `sensitivity`; in float64, as the shift would cost smaller numbers
        their digits.

    Raises:
        ValueError: See `sensitivity`.
    """
    del seed
    weights = [weight for weight, _ in layers.masked_weights(model)]
    loss_at = scoring.loss_of(
        model, loss, training=training, of=weights, temperature=temperature
    )

    def gradient_at(values, batch):
        return gradients.value_and_gradient(
            lambda values: loss_at(values, *batch), values
        )[1]

    def gradient(batch):
        return gradient_at(gradients.tensors_of(weights), batch)

    def hessian_times(flow, batch):
        def along_flow(values):
            parts = zip(gradient_at(values, batch), flow, strict=True)
            return sum(
                keras.ops.cast(keras.ops.sum(own * g), "float32")
                for own, g in parts
            )

        values = gradients.tensors_of(weights)
        return gradients.value_and_gradient(along_flow, values)[1]

    gradient, hessian_times = (
        gradients.compiled(function, model)
        for function in (gradient, hessian_times)
    )
    with left_as_it_was(model), without_regularizers(weights):
        batches = list(_batches.checked(model, x, y, loss))
        flow = _mean(gradient, batches)
        products = _mean(functools.partial(hessian_times, flow), batches)
    kept_by = np.concatenate(
        [
            gradients.as_flat_array(weight)
            * gradients.as_flat_array(product).astype(np.float64)
            for weight, product in zip(weights, products, strict=True)
        ]
    )
    return scoring.normalised(kept_by - kept_by.min(), model)


def _mean(function, batches):
    """Returns the mean of lists of tensors, by the batches' examples."""
    sizes = [_batches.size_of(batch) for batch in batches]
    total = None
    for batch, size in zip(batches, sizes, strict=True):
        found = [part * (size / sum(sizes)) for part in function(batch)]
        total = (
            found if total is None else list(map(operator.add, total, found))
        )
    return total
