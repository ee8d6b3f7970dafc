"""Optimal brain damage: what removing a weight costs, to second order."""

import keras
import numpy as np

from snip_tf import _batches, gradients, layers, scoring
from snip_tf._keeping import left_as_it_was, without_regularizers


def obd(model, x, y=None, *, loss=None, training=False, seed=None):
    """Returns h w^2 / 2 of every weight, h its second derivative of the loss.

    LeCun et al. 1990 (Optimal Brain Damage), eq. 2 of Lee et al. 2019. h is the
    diagonal of the Gauss-Newton matrix of the cross entropy, the mean over the
    examples of sum_c p_c (d(-log p_c)/dw)^2, p the probabilities that the
    network gives: where it is piecewise linear in each weight, as with ReLU and
    max pooling, this is the diagonal of the Hessian itself. Labels do not
    count. It is meant for a trained network. One backward pass for each example
    and class: a few hundred examples are enough.

        >>> model = snip_tf.models.build("lenet_300_100")
        >>> x, y = np.random.rand(2, 28, 28, 1), np.array([3, 7])
        >>> loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        >>> snip_tf.scores.obd(model, x, y, loss=loss)[2].shape
        (300, 100)

    Args:
        model: See `sensitivity`; with one output, a number for each class.
        x: See `sensitivity`.
        y: See `sensitivity`. Sample weights have no effect.
        loss: See `sensitivity`; a sparse categorical cross entropy.
        training: See `sensitivity`.
        seed: Has no effect.

    Returns:
        See `sensitivity`.

    Raises:
        ValueError: See `sensitivity`, and for other losses or outputs.
    """
    del seed
    weights = [weight for weight, _ in layers.masked_weights(model)]
    compiled = getattr(model, "loss", None) if loss is None else loss
    of_class = scoring.loss_of(  # -log p alone, without weights and penalties
        model, compiled, training=training, of=weights, with_added=False
    )
    shape = getattr(model, "output_shape", None)
    if not _batches.is_sparse(compiled) or len(shape or ()) != 2:
        raise ValueError(
            "`loss` must be a sparse categorical cross entropy, and `model` "
            "have one output with a number for each class. Received: "
            f"loss={compiled!r}, outputs of shape {shape}"
        )

    def with_one_more(second, example, label):
        """Returns the second derivatives with those of one class added."""
        surprise, found = gradients.value_and_gradient(
            lambda values: of_class(values, example, label),
            gradients.tensors_of(weights),
        )
        # The root of the probability, without the graph that PyTorch has of it.
        root = keras.ops.exp(keras.ops.stop_gradient(surprise) / -2)
        # Operators would not take tensors of several types, as these can be.
        return [
            keras.ops.add(
                total, keras.ops.square(keras.ops.multiply(root, one))
            )
            for total, one in zip(second, found, strict=True)
        ]

    with_one_more = gradients.compiled(with_one_more, model)
    second = [keras.ops.zeros(weight.shape) for weight in weights]
    labels = keras.ops.arange(shape[-1])[:, None]
    with left_as_it_was(model), without_regularizers(weights):
        for inputs, targets, *_ in _batches.checked(model, x, y, loss):
            for index in range(len(targets)):
                one = _example(inputs, index)
                for label in labels:
                    second = with_one_more(second, one, label)
    flat = [
        gradients.as_flat_array(total)
        * np.square(np.float64(gradients.as_flat_array(weight)))
        for total, weight in zip(second, weights, strict=True)
    ]
    return scoring.normalised(np.concatenate(flat), model)


def _example(inputs, index):
    """Returns one example of a batch, as a batch of tensors."""
    return keras.tree.map_structure(
        lambda part: keras.ops.convert_to_tensor(part[index : index + 1]),
        inputs,
    )
