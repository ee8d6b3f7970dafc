"""Builds the model of the units that stay."""

import inspect
import itertools
import warnings

import keras
import numpy as np

from snip_tf import _keras

# A layer takes a selection of its inputs if that leaves out a tenth of them;
# for less the selecting costs more than it saves.
_WORTH_SELECTING = 0.9


class Rebuilding:
    """Calls new layers of the units that stay, one after the other."""

    def __init__(self, graph, liveness, inputs):
        self._graph = graph
        self._liveness = liveness
        self._found = dict(zip(map(id, graph.inputs), inputs, strict=True))
        self._twins = {}
        self._names = {tensor.name for tensor in inputs}
        # A selection would lose the mask of padded time steps, and there is
        # none of sparse tensors.
        self._can_select = not any(
            call.has_padding or any(tensor.sparse for tensor in call.inputs)
            for call in graph.calls
        )

    def outputs(self):
        """Returns the outputs of the new model, as a flat list."""
        for step in self._liveness.steps:
            outputs = keras.tree.flatten(self._call(step))
            ids = map(id, step.call.outputs)
            self._found.update(zip(ids, outputs, strict=True))
        return [self._found[id(tensor)] for tensor in self._graph.outputs]

    def _call(self, step):
        call, layer = step.call, step.call.layer
        args, kwargs = keras.tree.map_structure(
            lambda value: self._found.get(id(value), value),
            (call.args, call.kwargs),
        )
        if id(layer) in self._twins:
            return self._twins[id(layer)](*args, **kwargs)
        config, values = {}, None
        if step.rule is not None:
            inputs = [self._liveness.kept[id(tensor)] for tensor in call.inputs]
            selected = self._selected(step, inputs[0])
            if selected is not None:
                args = (self._taken(args[0], selected[inputs[0]]),)
                inputs = [selected]
            outputs = self._liveness.kept[id(call.outputs[0])]
            config, values = step.rule.rebuild(
                call, step.weights, step.facts, inputs, outputs
            )
        twin = self._twins[id(layer)] = twin_of(layer, config)
        if twin is layer:
            return layer(*args, **kwargs)
        twin.name = self._unused_name(layer.name)
        result = twin(*args, **kwargs)
        _fill(twin, layer, values)
        return result

    def _selected(self, step, kept):
        """Returns the inputs that a layer is to select; None for all kept."""
        if not (step.rule.can_select and self._can_select):
            return None
        needed = self._liveness.needed[id(step.call.outputs[0])]
        selected = step.facts.needed_inputs(needed)[0] & kept
        if selected.sum() > _WORTH_SELECTING * kept.sum():
            return None
        if not selected.any():  # Keras has no layers without units
            selected[np.argmax(kept)] = True
        return selected

    def _taken(self, tensor, selected):
        result = keras.ops.take(tensor, np.flatnonzero(selected), axis=-1)
        # Keras numbers names within a process: a loaded model may have it.
        given = {call.layer.name for call in self._graph.calls}
        operation = _keras.history(result).operation
        operation.name = self._unused_name("take", given)
        return result

    def _unused_name(self, name, given=()):
        """Returns the name, numbered if it is used, or given to a layer."""
        for number in itertools.count(1):
            candidate = name if number == 1 else f"{name}_{number}"
            if candidate not in self._names and candidate not in given:
                self._names.add(candidate)
                return candidate


def twin_of(layer, changes):
    """Returns a new layer, or operation, of the same config but for changes.

    Functions and the like go on being used. The layer itself is returned if it
    was adapted to data, or has no weights and no config to make it from.

    Raises:
        ValueError: If a layer with weights cannot be made from its config.
    """
    if hasattr(layer, "adapt"):
        return layer
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of functions without a name
            config = {**layer.get_config(), **changes}
        objects = {
            key: getattr(layer, key)
            for key, value in config.items()
            if isinstance(value, (str, dict)) and _is_object(layer, key)
        }
        if objects:
            return type(layer)(**{**config, **objects})
        return type(layer).from_config(config)
    except Exception as error:  # whatever a layer's own code raises
        if not _weights(layer):
            return layer
        raise ValueError(
            "`compact` makes layers with weights anew: each must be one that "
            "Keras can make from its config. Received: "
            f"layer={layer.name!r} ({type(error).__name__}: {error})"
        ) from error


def _is_object(layer, name):
    """Returns whether an attribute is a function or like one, as a layer is."""
    value = getattr(layer, name, None)
    return callable(value) and not (
        isinstance(value, keras.Layer) or inspect.ismethod(value)
    )


def _weights(layer):
    return getattr(layer, "weights", [])  # operations have none


def _fill(twin, layer, values):
    """Assigns the weights of a twin: by name, or None for those of the layer.

    Raises:
        ValueError: If the twin has other weights than the layer.
    """
    given = _weights(layer)
    if values is not None:
        given = [values.get(weight.name, weight) for weight in _weights(twin)]
    shapes = [tuple(weight.shape) for weight in _weights(twin)]
    if shapes != [tuple(value.shape) for value in given]:
        raise ValueError(
            "`compact` makes layers anew, so their config must say all of "
            f"their weights. Received: layer={layer.name!r}, of "
            f"{len(given)} weights in the model and {len(shapes)} made anew"
        )
    for weight, value in zip(_weights(twin), given, strict=True):
        weight.assign(value)
