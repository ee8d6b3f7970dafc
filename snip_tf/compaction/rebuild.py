"""Builds the model of the units that stay."""

import inspect
import warnings

import keras
import numpy as np

from snip_tf import _keras

# A layer takes a selection of its inputs if that leaves out a tenth of them;
# for less the selecting costs more than it saves.
_WORTH_SELECTING = 0.9


class Rebuilding:
    """Calls new layers of the units that stay, one after the other."""

    def __init__(self, graph, needed, kept, inputs):
        self._needed, self._kept = needed, kept
        self._found = dict(zip(map(id, graph.inputs), inputs, strict=True))
        self._twins = {}
        self._names = {tensor.name for tensor in inputs}

    def outputs(self, graph, steps):
        """Returns the outputs of the new model, as a flat list."""
        for step in steps:
            outputs = keras.tree.flatten(self._call(step))
            ids = map(id, step.call.outputs)
            self._found.update(zip(ids, outputs, strict=True))
        return [self._found[id(tensor)] for tensor in graph.outputs]

    def _call(self, step):
        call, layer = step.call, step.call.layer
        args, kwargs = call.given(self._found)
        if id(layer) in self._twins:
            return self._twins[id(layer)](*args, **kwargs)
        config, values = {}, {}
        if step.rule is not None:
            kept = [self._kept[id(tensor)] for tensor in call.inputs]
            if step.rule.can_select:
                args, kept = self._selected(step, args, kept)
            outputs = self._kept[id(call.outputs[0])]
            config, values = step.rule.rebuild(
                call, step.weights, step.facts, kept, outputs
            )
        twin = self._twins[id(layer)] = twin_of(layer, config)
        if twin is layer:
            return layer(*args, **kwargs)
        twin.name = self._unused_name(layer.name)
        result = twin(*args, **kwargs)
        weights = getattr(twin, "weights", [])  # operations have none
        given = [values.get(weight.name, weight) for weight in weights]
        if step.rule is None:
            given = getattr(layer, "weights", [])
        for weight, value in zip(weights, given, strict=True):
            weight.assign(value)
        if isinstance(twin, keras.Layer):
            for inner in _keras.all_layers(twin):
                # Its statistics are copies of its weights.
                if isinstance(inner, keras.layers.Normalization):
                    inner.finalize_state()
        return result

    def _selected(self, step, args, kept):
        """Returns what a layer is given, and which units, if not all kept."""
        (tensor,), (kept,) = args, kept
        found = self._found.values()
        needed = self._needed[id(step.call.outputs[0])]
        selected = step.facts.needed_inputs(needed)[0] & kept
        if (
            selected.sum() > _WORTH_SELECTING * kept.sum()
            or tensor.sparse
            # It would lose the mask of padded time steps.
            or any(_keras.padding_mask(t) is not None for t in found)
        ):
            return args, [kept]
        if not selected.any():  # Keras has no layers without units
            selected[np.argmax(kept)] = True
        places = np.flatnonzero(selected[kept])
        tensor = keras.ops.take(tensor, places, axis=-1)
        # Keras numbers names within a process: a loaded model may have it.
        name = self._unused_name(f"{step.call.layer.name}_inputs")
        _keras.history(tensor).operation.name = name
        return (tensor,), [selected]

    def _unused_name(self, name):
        """Returns the name, numbered if another layer has it."""
        unused, number = name, 1
        while unused in self._names:
            number += 1
            unused = f"{name}_{number}"
        self._names.add(unused)
        return unused


def twin_of(layer, changes):
    """Returns a new layer, or operation, of the same config but for changes.

    Functions and the like go on being used. The layer itself is returned if it
    was adapted to data, or has no weights and no config to make it from.
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
        return type(layer).from_config({**config, **objects})
    except Exception:  # whatever a layer's own code raises
        if getattr(layer, "weights", []):
            raise
        return layer


def _is_object(layer, name):
    """Returns whether an attribute is a function or like one, as a layer is."""
    value = getattr(layer, name, None)
    return callable(value) and not (
        isinstance(value, keras.Layer) or inspect.ismethod(value)
    )
