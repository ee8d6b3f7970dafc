"""The calls of a model's layers in order, nested models unfolded."""

import dataclasses
import functools
import inspect

import keras

from snip_tf import _keras


@dataclasses.dataclass(frozen=True, eq=False)
class Call:
    """One call of a layer or operation.

    Attributes:
        layer: The layer; the model's own, which is never changed.
        args: What it is called with, `keras.KerasTensor`s in place of tensors.
        kwargs: The same of what is given by name.
        outputs: The `keras.KerasTensor`s that it returns, as a flat list.
        has_padding: Whether a tensor has a mask of padded time steps.
    """

    layer: object
    args: tuple
    kwargs: dict
    outputs: list
    has_padding: bool = False

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
        is_layer = isinstance(self.layer, keras.Layer)
        allowed = (keras.KerasTensor, *(() if is_layer else (int, float)))
        given = keras.tree.flatten(self.args)
        return _are_defaults(self.kwargs) and all(
            isinstance(value, allowed) for value in given
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
    outputs = _unfold(model, inputs, None, calls)
    return Graph(inputs, outputs, calls)


def size(tensor):
    """Returns the number of units of a tensor; zero if that is not known."""
    return (tensor.shape[-1] or 0) if len(tensor.shape) > 1 else 0


def _unfold(model, inputs, training, calls):
    """Appends a model's calls to `calls`; returns the outputs for `inputs`."""
    found = dict(zip(map(id, model.inputs), inputs, strict=True))
    for node in _keras.graph_nodes(model):
        if any(id(tensor) not in found for tensor in node.input_tensors):
            continue  # what is not computed from the model's inputs
        layer = node.operation
        args, kwargs = keras.tree.map_structure(
            lambda value: found.get(id(value), value),
            (node.arguments.args, node.arguments.kwargs),
        )
        if training is not None and _takes_training(layer):
            kwargs = {**kwargs, "training": training}
        if is_graph(layer) and _can_unfold(layer, args, kwargs):
            given = [
                _cast(tensor, its.dtype, calls)
                for tensor, its in zip(
                    keras.tree.flatten(args), layer.inputs, strict=True
                )
            ]
            outputs = _unfold(layer, given, kwargs.get("training"), calls)
        else:
            outputs = _outputs_of(
                node, [found[id(tensor)] for tensor in node.input_tensors]
            )
            has_padding = any(
                _keras.padding_mask(tensor) is not None
                for tensor in (*node.input_tensors, *node.outputs)
            )
            calls.append(Call(layer, args, kwargs, outputs, has_padding))
        found.update(zip(map(id, node.outputs), outputs, strict=True))
    return [found[id(tensor)] for tensor in model.outputs]


def _takes_training(layer):
    """Returns whether a nested model hands its `training` to a layer."""
    return isinstance(layer, keras.Layer) and (
        "training" in inspect.signature(layer.call).parameters
        or len(_keras.all_layers(layer)) > 1
    )


def _can_unfold(model, args, kwargs):
    """Returns whether calling a model is calling its layers.

    They get the `training` that the model is called with; of other options
    they would know nothing.
    """
    options = {key: kwargs[key] for key in kwargs if key != "training"}
    given = keras.tree.flatten(args)
    if len(args) != 1 or not _are_defaults(options):
        return False
    if len(given) > 1 and not _same_structure(args[0], model.input):
        return False  # such as names for a list, which Keras would sort
    return len(given) == len(model.inputs) and all(
        map(_fits, given, model.inputs)
    )


def _same_structure(one, other):
    try:
        keras.tree.assert_same_structure(one, other)
    except (ValueError, TypeError):
        return False
    return True


def _fits(tensor, expected):
    """Returns whether a nested model takes a tensor, integers cast at most."""
    return (
        len(tensor.shape) == len(expected.shape)
        and tensor.shape[-1:] == expected.shape[-1:]
        and tensor.sparse == expected.sparse
        # A cast loses the mask of padded time steps; integers have none.
        and (tensor.dtype == expected.dtype or "int" in tensor.dtype)
    )


def _are_defaults(options):
    """Returns whether a layer's call is given nothing that matters.

    Keras writes `training=False` down where a layer has that default; how the
    model is called goes before it.
    """
    return all(
        value is None or (name == "training" and value is False)
        for name, value in options.items()
    )


def _fresh(tensor, **changes):
    options = {"dtype": tensor.dtype, "sparse": tensor.sparse, **changes}
    return keras.KerasTensor(tensor.shape, **options)


def _outputs_of(node, inputs):
    """Returns new tensors like the outputs of a node."""
    # Keras takes a number that an operation is given for a sparse tensor.
    can_be_sparse = isinstance(node.operation, keras.Layer) or any(
        tensor.sparse for tensor in inputs
    )
    return [
        _fresh(tensor, sparse=tensor.sparse and can_be_sparse)
        for tensor in node.outputs
    ]


def _cast(tensor, dtype, calls):
    """Returns a tensor of the type that a nested model casts its input to."""
    if tensor.dtype == dtype:
        return tensor
    result = _fresh(tensor, dtype=dtype)
    cast = functools.partial(keras.ops.cast, dtype=dtype)
    calls.append(Call(cast, (tensor,), {}, [result]))
    return result
