"""Removal of dead units: the same outputs from a smaller model.

A unit (neuron, channel, input feature) is dead if no path of kept weights
leads from it to an output, or none from an input to it. The second kind is a
constant, and goes into the biases that follow.
"""

import warnings

import keras

from snip_tf import _keras
from snip_tf.compaction.graph import graph_of, is_graph
from snip_tf.compaction.liveness import liveness_of, names_left_whole
from snip_tf.compaction.rebuild import Rebuilding


def compact(model, *, for_training=False):
    """Returns a smaller model with the same outputs, without dead units.

    Through dense, convolutional and recurrent layers, batch normalisation,
    activations, pooling, Flatten, Concatenate and residual additions, where a
    channel goes only if all branches agree. What the model takes and gives
    does not change: dead input features are left out inside of it. Nested
    models are unfolded. The model itself is left as it is.

    Args:
        model: A built Sequential or functional model, with masks or of plain
            Keras layers. With masks, the result has masks too: `strip` it, or
            train it as the model that it stands for.
        for_training: Whether the smaller model is to be trained. Then only
            those units go that would stay without effect in training: a
            removed bias stays zero, but one that is not masked learns, as does
            the shift of a batch normalisation. The loss is that of the model
            except for the L2 of the weights that are gone. Layers with
            constraints or a penalty on their outputs are left whole.

    Returns:
        A functional model, not compiled. Outputs are equal within the
        rounding of float32.

    Raises:
        ValueError: If the model is not built, or not Sequential or functional.
    """
    if not model.built:
        raise ValueError(
            "`model` must be built: call it, or give it an Input. Received: "
            f"model={model.name!r}, not built"
        )
    if not is_graph(model):
        raise ValueError(
            "`model` must be Sequential or functional. Received: "
            f"model={model.name!r} of {type(model).__name__}"
        )
    for layer in _keras.all_layers(model):
        if getattr(layer, "lora_enabled", False):
            raise ValueError(
                "`model` must have no LoRA, which adds to removed weights. "
                f"Received: layer {layer.name!r} with LoRA"
            )
    graph = graph_of(model)
    liveness = liveness_of(graph, for_training)
    names = names_left_whole(liveness.steps)
    if names:
        warnings.warn(
            "`compact` leaves these layers whole, as it has no rule for them "
            f"or for how they are called: {', '.join(names)}",
            stacklevel=2,
        )
    inputs = [_new_input(tensor) for tensor in model.inputs]
    outputs = Rebuilding(graph, liveness, inputs).outputs()
    if isinstance(model, keras.Sequential):
        return keras.Model(inputs[0], outputs[0], name=model.name)
    return keras.Model(
        keras.tree.pack_sequence_as(model.input, inputs),
        keras.tree.pack_sequence_as(model.output, outputs),
        name=model.name,
    )


def _new_input(tensor):
    layer = _keras.history(tensor).operation
    return type(layer).from_config(layer.get_config()).output
