"""Builds the model of the units that stay."""

import inspect
import itertools

import keras
import numpy as np

from snip_tf import _keras

# A layer takes a selection of its inputs if that leaves out a tenth of them;
# for less the selecting costs more than it saves.
_WORTH_SELECTING = 0.9


class Rebuilding:
    """Calls new layers, of the units that stay, one after the other.

    Args:
        graph: The `Graph` of the model.
        liveness: The `Liveness` of its units.
        inputs: The inputs of the new model, as a flat list.
    """

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
        if not isinstance(layer, keras.Operation):
            return self._named(layer(*args, **kwargs), "cast")
        config, values = {}, None
        if step.rule is not None:
            inputs = [self._liveness.kept[id(tensor)] for tensor in call.inputs]
            selected = self._selected(step, inputs[0])
            if selected is not None:
                units = np.flatnonzero(selected[inputs[0]])
                taken = keras.ops.take(args[0], units, axis=-1)
                args, inputs = (self._named(taken, "take"),), [selected]
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

    def _named(self, tensor, name):
        """Returns the result of an operation, renamed.

        Keras numbers names within a process: a loaded model may have them.
        """
        given = {getattr(c.layer, "name", None) for c in self._graph.calls}
        operation = _keras.history(tensor).operation
        operation.name = self._unused_name(name, given)
        return tensor

    def _unused_name(self, name, given=()):
        """Returns the name, numbered if it is used, or given to a layer."""
        for number in itertools.count(1):
            candidate = name if number == 1 else f"{name}_{number}"
            if candidate not in self._names and candidate not in given:
                self._names.add(candidate)
                return candidate


def twin_of(layer, changes):
    """Returns a new layer of the same config but for some changes.

    Functions and other objects of the config that are not layers go on being
    used. The layer itself is returned if it was adapted to data, and if it has
    no weights and cannot be made from its config.

    Args:
        layer: A layer or operation.
        changes: The entries of its config that change.

    Raises:
        ValueError: If a layer with weights cannot be made from its config.
    """
    if hasattr(layer, "adapt"):
        return layer
    try:
        config = {**layer.get_config(), **changes}
        objects = _objects_of(layer, config)
        if objects:
            return type(layer)(**{**config, **objects})
        return type(layer).from_config(config)
    except Exception as error:  # whatever a layer's own code raises
        if not getattr(layer, "weights", []):
            return layer
        raise ValueError(
            "`compact` makes layers with weights anew: their classes must "
            "have a `get_config` that says all, and what these are made of be "
            "registered with Keras. Received: "
            f"layer={layer.name!r} ({type(error).__name__}: {error})"
        ) from error


def _objects_of(layer, config):
    """Returns what the config describes and the layer has, layers aside."""
    found = {key: getattr(layer, key, None) for key in config}
    return {
        key: value
        for key, value in found.items()
        if callable(value)
        and isinstance(config[key], (dict, str))
        and not isinstance(value, keras.Layer)
        and not inspect.ismethod(value)
    }


def _fill(twin, layer, values):
    """Assigns the weights of a twin: by name, or None for those of the layer.

    Raises:
        ValueError: If the twin has other weights than the layer.
    """
    if values is not None:
        for weight in getattr(twin, "weights", []):
            if weight.name in values:
                weight.assign(values[weight.name])
        return
    its, own = getattr(layer, "weights", []), getattr(twin, "weights", [])
    if [weight.shape for weight in its] != [weight.shape for weight in own]:
        raise ValueError(
            "`compact` makes layers anew from their config, which must say "
            f"all of their weights. Received: layer={layer.name!r}, of "
            f"{len(its)} weights in the model and {len(own)} made anew"
        )
    for weight, value in zip(own, its, strict=True):
        weight.assign(value)
