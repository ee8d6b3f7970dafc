"""The calls of a model's layers in order, nested models unfolded."""

import dataclasses

import keras

from snip_tf import _keras


@dataclasses.dataclass(frozen=True, eq=False)
class Call:
    """One call of a layer or operation, on `keras.KerasTensor`s."""

    layer: object  # the model's own, which is never changed
    args: tuple
    kwargs: dict
    outputs: list

    @property
    def inputs(self):
        """The tensors among what it is called with, as a flat list."""
        return [
            value
            for value in keras.tree.flatten((self.args, self.kwargs))
            if isinstance(value, keras.KerasTensor)
        ]

    @property
    def is_plain(self):
        """Whether it is given tensors and nothing else that matters.

        Operations may have numbers as well, as in `x + 1.0`.
        """
        numbers = () if isinstance(self.layer, keras.Layer) else (int, float)
        return _are_defaults(self.kwargs) and all(
            isinstance(value, (keras.KerasTensor, *numbers))
            for value in keras.tree.flatten(self.args)
        )

    def given(self, found):
        """Returns what it is called with, for other tensors by id."""
        return keras.tree.map_structure(
            lambda value: found.get(id(value), value), (self.args, self.kwargs)
        )


@dataclasses.dataclass(frozen=True, eq=False)
class Graph:
    """A model as one list of calls, between flat lists of tensors."""

    inputs: list
    outputs: list
    calls: list


def is_graph(layer):
    """Returns whether a layer is a model whose graph is all that it does."""
    return (
        isinstance(layer, (keras.Function, keras.Sequential))
        and hasattr(layer, "inputs")
        and type(layer).call.__module__.startswith("keras.")
    )


def graph_of(model):
    """Returns the graph of a model; no layer is called."""
    calls = []
    inputs = [_fresh(tensor) for tensor in model.inputs]
    outputs = _unfold(model, inputs, calls)
    return Graph(inputs, outputs, calls)


def size(tensor):
    """Returns the number of units of a tensor; zero if that is not known."""
    return (tensor.shape[-1] or 0) if len(tensor.shape) > 1 else 0


def _unfold(model, inputs, calls, training=None):
    """Appends a model's calls to `calls`; returns the outputs for `inputs`.

    As Keras does it, the mode that a nested model is called in goes before
    that of its layers, and is handed to all of them.
    """
    found = dict(zip(map(id, model.inputs), inputs, strict=True))
    for node in _keras.graph_nodes(model):
        if any(id(tensor) not in found for tensor in node.input_tensors):
            continue  # what is not computed from the model's inputs
        layer, given = node.operation, node.arguments
        call = Call(layer, given.args, given.kwargs, node.outputs)
        args, kwargs = call.given(found)
        if training is not None and isinstance(layer, keras.Layer):
            kwargs = {**kwargs, "training": training}
        if is_graph(layer) and _can_unfold(layer, args, kwargs):
            inside = keras.tree.flatten(args), calls, kwargs.get("training")
            outputs = _unfold(layer, *inside)
        else:
            outputs = [_fresh(tensor) for tensor in node.outputs]
            calls.append(Call(layer, args, kwargs, outputs))
        found.update(zip(map(id, node.outputs), outputs, strict=True))
    return [found[id(tensor)] for tensor in model.outputs]


def _can_unfold(model, args, kwargs):
    """Returns whether calling a model is no more than calling its layers.

    They get the `training` that the model is called with; of other options
    they would know nothing. Inputs must be of the types that the model would
    cast them to, and by name only if the model names them.
    """
    options = {key: kwargs[key] for key in kwargs if key != "training"}
    if len(args) != 1 or not _are_defaults(options):
        return False
    given, expected = (
        [(len(t.shape), t.shape[-1:], t.dtype) for t in tensors]
        for tensors in (keras.tree.flatten(args), model.inputs)
    )
    names = [set(x) for x in (args[0], model.input) if isinstance(x, dict)]
    same = len(given) == 1 or names in ([], 2 * names[:1])
    return given == expected and same


def _are_defaults(options):
    """Returns whether a layer's call is given nothing that matters.

    Keras writes `training=False` down where a layer has that default; how the
    model is called goes before it. Masks are as the inputs: in a list or dict.
    """
    return all(
        value is None or (name == "training" and value is False)
        for name, values in options.items()
        for value in keras.tree.flatten(values)
    )


def _fresh(tensor):
    return keras.KerasTensor(tensor.shape, tensor.dtype)
