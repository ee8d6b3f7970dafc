"""SynFlow: how much of the flow through the network a weight carries."""

import keras
import numpy as np

from snip_tf import _batches, gradients, layers, scoring
from snip_tf._keeping import left_as_it_was


def synflow(model, x=None, y=None, *, loss=None, training=False, seed=None):
    """Returns |w| dR/d|w|, R the sum of the outputs of the network |w|.

    Tanaka et al. 2020 (Pruning Neural Networks Without Any Data by Iteratively
    Conserving Synaptic Flow), eq. 5: all variables are replaced by their
    absolute values and the inputs are ones, so that no data count. `prune`
    takes it by name in 100 steps, as the authors do: at once, whole layers go.

        >>> model = snip_tf.models.build("lenet_300_100")
        >>> _ = snip_tf.prune(model, None, sparsity=0.99, criterion="synflow")
        >>> snip_tf.summary(model).kept
        2666

    Args:
        model: See `sensitivity`; also on inputs of numbers alone, as ones mean
            nothing to an embedding.
        x: One batch of inputs, or a sequence of batches, the first of which
            counts, for their shape; by default that of `model.inputs`,
            dimensions that are not known being one.
        y: Has no effect.
        loss: Has no effect.
        training: Has no effect: it is scored in inference mode.
        seed: Has no effect.

    Returns:
        See `sensitivity`.

    Raises:
        ValueError: If the model has no masks, for inputs of whole numbers,
            and where the flow is too large for the model's numbers.
    """
    del loss, training, seed
    weights = [weight for weight, _ in layers.masked_weights(model)]
    if x is None and not getattr(model, "inputs", None):
        raise ValueError(
            "`x` must be given for a model that does not know its inputs. "
            f"Received: x=None, model={model.name!r}"
        )
    if x is None:
        x = model.input if len(model.inputs) > 1 else model.inputs[0]
    x = _batches.first_inputs(x, y)
    parts = keras.tree.flatten(x)
    # Those that the model takes, whatever was given.
    taken = getattr(model, "inputs", None) or parts
    ones = [
        _ones(part, like.dtype) for part, like in zip(parts, taken, strict=True)
    ]
    ones = keras.tree.pack_sequence_as(x, ones)

    def gradient(ones):
        floats = filter(_is_float, model.variables)
        absolute = [(variable, keras.ops.abs(variable)) for variable in floats]

        def flow(values):
            own = [*absolute, *zip(weights, values, strict=True)]
            with keras.StatelessScope(own):
                outputs = keras.tree.flatten(model(ones, training=False))
            # They may be of several types.
            return sum(
                keras.ops.cast(keras.ops.sum(each), "float32")
                for each in outputs
            )

        values = list(map(keras.ops.abs, gradients.tensors_of(weights)))
        return gradients.value_and_gradient(flow, values)[1]

    with left_as_it_was(model):
        found = gradients.compiled(gradient, model)(ones)
    scores = [
        np.abs(gradients.as_flat_array(weight))
        * gradients.as_flat_array(gradient)
        for weight, gradient in zip(weights, found, strict=True)
    ]
    return scoring.normalised(np.concatenate(scores), model)


def _is_float(variable):
    return keras.backend.is_float_dtype(variable.dtype)


def _ones(inputs, dtype):
    """Returns one example of ones for a batch, or for a symbolic input."""
    dtype = keras.backend.standardize_dtype(dtype)
    if not keras.backend.is_float_dtype(dtype):
        raise ValueError(
            "`model` must take numbers that are not whole: SynFlow puts ones "
            f"into it. Received: inputs of {dtype}"
        )
    return keras.ops.ones((1, *(size or 1 for size in inputs.shape[1:])), dtype)
