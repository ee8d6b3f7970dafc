"""Removal of dead units: the same outputs from a smaller model.

A unit (neuron, channel, input feature) is dead if no path of kept weights
leads from it to an output, or none from an input to it. The second kind is a
constant, and goes into the biases that follow.
"""

import warnings

import keras

from snip_tf import _keras
from snip_tf.compaction.graph import graph_of, is_graph
from snip_tf.compaction.liveness import kept_units, needed_units, steps_of
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

    Warns:
        Of layers that are left whole, as there is no rule for them or for how
        they are called.

    Raises:
        ValueError: If the model is not built, or not Sequential or functional;
            with `for_training` also if an operation of its graph reads a
            variable, as that of a tied embedding.
    """
    if not (is_graph(model) and model.built):
        raise ValueError(
            "`model` must be built, and Sequential or functional. Received: "
            f"model={model!r}"
        )
    every = _keras.all_layers(model)
    if for_training and any(map(_keras.read_by_graph, every)):
        raise ValueError(
            "With `for_training` no operation of the model's graph may read a "
            "variable: the smaller model would share it. Received: "
            f"model={model.name!r}"
        )
    graph = graph_of(model)
    steps = steps_of(graph, for_training)
    whole = {
        step.call.layer.name: None
        for step in steps
        if step.rule is None
        and isinstance(step.call.layer, keras.Layer)
        and any(len(weight.shape) > 1 for weight in step.call.layer.weights)
    }
    if whole:
        warnings.warn(
            "`compact` leaves these layers whole, as it has no rule for them "
            f"or for how they are called: {', '.join(whole)}",
            stacklevel=2,
        )
    needed = needed_units(graph, steps)
    kept = kept_units(steps, needed)
    layers = [_keras.history(tensor).operation for tensor in model.inputs]
    inputs = [
        type(layer).from_config(layer.get_config()).output for layer in layers
    ]
    outputs = Rebuilding(graph, needed, kept, inputs).outputs(graph, steps)
    if isinstance(model, keras.Sequential):
        return keras.Model(inputs[0], outputs[0], name=model.name)
    return keras.Model(
        keras.tree.pack_sequence_as(model.input, inputs),
        keras.tree.pack_sequence_as(model.output, outputs),
        name=model.name,
    )
