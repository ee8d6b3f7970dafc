"""Every private name of Keras that the library relies on."""

import keras


def all_layers(model):
    """Returns a model and the layers in it, nested ones included."""
    return model._flatten_layers()


def run_graph(model, inputs, call):
    """Returns a functional model's outputs, each layer called by `call`."""
    return model._run_through_graph(inputs, call_fn=call)


def graph_nodes(model):
    """Returns the calls of a Sequential or functional model, inputs first.

    Each has an `operation`, its `arguments.args` and `arguments.kwargs`, and
    flat lists of `input_tensors` and `outputs`.
    """
    by_depth = keras.Function(model.inputs, model.outputs)._nodes_by_depth
    return [
        node
        for depth in sorted(by_depth, reverse=True)
        for node in by_depth[depth]
        if not node.is_input
    ]


def history(tensor):
    """Returns where a symbolic tensor comes from: its `operation`."""
    return tensor._keras_history


def padding_mask(tensor):
    """Returns the mask of padded time steps of a tensor, None without one."""
    return getattr(tensor, "_keras_mask", None)
