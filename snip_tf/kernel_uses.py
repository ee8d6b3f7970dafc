"""How often one example uses each kernel of a model: at how many positions."""

import functools
import math

import keras
from keras import layers as stock

from snip_tf import _keras, overriding

# The layers that are known here. Keras exports Conv1D, Conv2D and Conv3D, but
# not the base that they share.
_CONVOLUTIONS = tuple(
    kind.__base__
    for kind in (stock.Conv2D, stock.DepthwiseConv2D, stock.SeparableConv2D)
)
_TRANSPOSES = (stock.Conv2DTranspose.__base__,)
_PROJECTIONS = (stock.Dense, stock.EinsumDense, stock.Embedding)
# `Bidirectional` itself, as on some devices it runs both its layers at once.
_RECURRENT = (stock.RNN, stock.Bidirectional)
_CELLS = (stock.SimpleRNNCell, stock.LSTMCell, stock.GRUCell)
_KNOWN = _CONVOLUTIONS + _TRANSPOSES + _PROJECTIONS + _RECURRENT


def uses_of_kernels(model):
    """Returns (kernel, uses by one example) pairs, in the order of first calls.

    The model runs once, on zeros, and is left as it is.

    Raises:
        ValueError: If the model is not built or has an input of unknown shape.
    """
    inputs, running, used = _zeros(model), [], {}

    def counting(layer, call):
        @functools.wraps(call)
        def call_and_count(*args, **kwargs):
            running.append(layer)
            outputs = call(*args, **kwargs)
            running.pop()
            if not running:  # else a part of what is counted as a whole
                both = (*args, *kwargs.values()), outputs
                shapes = [keras.tree.flatten(x)[0].shape for x in both]
                for kernel in _kernels(layer):
                    _, before = used.get(id(kernel), (kernel, 0))
                    uses = before + _uses(layer, kernel, *shapes)
                    used[id(kernel)] = kernel, uses
            return outputs

        return call_and_count

    found = [x for x in _keras.all_layers(model) if isinstance(x, _KNOWN)]
    with overriding.overridden(found, "call", counting), keras.StatelessScope():
        model(inputs)
    batch_size = keras.tree.flatten(inputs)[0].shape[0]
    return [(kernel, uses // batch_size) for kernel, uses in used.values()]


def _zeros(model):
    """Returns zeros as the model is called: one tensor, a list, a dict."""
    inputs = getattr(model, "inputs", None)
    shape = (model.get_build_config() or {}).get("input_shape")
    if inputs:
        is_sequential = isinstance(model, keras.Sequential)
        inputs = inputs[0] if is_sequential else model.input
    elif model.built and shape and isinstance(shape[0], int | None):
        inputs = keras.KerasTensor(shape)
    flat = [] if inputs is None else keras.tree.flatten(inputs)
    shapes = {tensor.name: tuple(tensor.shape) for tensor in flat}
    if not flat or any(None in shape[1:] for shape in shapes.values()):
        raise ValueError(
            "`model` must be built with inputs of fixed shapes, the batch "
            "aside, as the count depends on them: call it, or give every size "
            "to `keras.Input`; a subclassed model must take one input. "
            f"Received: model={model.name!r} with inputs {shapes}"
        )

    def zeros(tensor):  # a stateful layer has a batch size of its own
        return keras.ops.zeros([n or 1 for n in tensor.shape], tensor.dtype)

    return keras.tree.map_structure(zeros, inputs)


def _kernels(layer):
    owners = [layer]
    if isinstance(layer, _RECURRENT):  # its cells may be a user's: not known
        inner = _keras.all_layers(layer)
        owners = [cell for cell in inner if isinstance(cell, _CELLS)]
    return [
        weight
        for owner in owners
        for weight in owner.weights
        if weight.name.endswith("kernel") or weight.name == "embeddings"
    ]


def _uses(layer, kernel, input_shape, output_shape):
    """Returns how often one call uses each entry of a kernel.

    Once at every position: of the outputs of a convolution, of the inputs of
    other layers. A position is one of all sizes but the features, the batch
    included: of one example, a model may make many.
    """
    adds_an_axis = len(output_shape) > len(input_shape)
    if isinstance(layer, stock.Embedding) and adds_an_axis:  # a look-up
        return 0
    shape = output_shape if isinstance(layer, _CONVOLUTIONS) else input_shape
    features = shape[-1]
    if isinstance(layer, stock.EinsumDense):
        terms, _ = layer.equation.replace(" ", "").split("->")
        inputs, axes = terms.split(",")
        sizes = zip(axes, kernel.shape, strict=True)
        features = math.prod(size for axis, size in sizes if axis in inputs)
    elif getattr(layer, "data_format", None) == "channels_first":
        features = shape[1]
    return math.prod(shape) // features
