"""Removal of dead units: the same outputs from a smaller model.

A unit (neuron, channel, input feature) is dead if no path of kept weights
leads from it to an output, or none from an input to it. The second kind is a
constant, and goes into the biases that follow.
"""

import dataclasses
import itertools
import warnings

import keras
import numpy as np

from snip_tf import conversion
from snip_tf.compaction import units

# A layer takes a selection of its inputs if that leaves out a tenth of them;
# for less the selecting costs more than it saves.
_WORTH_SELECTING = 0.9


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
    if not _is_graph(model):
        raise ValueError(
            "`model` must be Sequential or functional. Received: "
            f"model={model.name!r} of {type(model).__name__}"
        )
    model = conversion.copied(model)
    graph = _Graph(model, for_training)
    graph.find_constants()
    graph.find_needs()
    kept = graph.kept_units()
    _warn_of_whole(graph.calls)
    return conversion.copied(_Rebuilding(model, graph, kept).result())


def _warn_of_whole(calls):
    """Warns of layers with kernels that are left as they are."""
    whole = {
        call.layer.name: None
        for call in calls
        if call.rule.whole
        and any(len(weight.shape) > 1 for weight in _weights(call.layer))
    }
    if whole:
        warnings.warn(
            "`compact` leaves these layers whole, as it has no rule for them: "
            f"{', '.join(whole)}",
            stacklevel=3,
        )


def _weights(layer):
    return layer.weights if isinstance(layer, keras.layers.Layer) else []


@dataclasses.dataclass(eq=False)
class _Tensor:
    """A symbolic tensor and what is known of the units of its last axis."""

    shape: tuple
    units: np.ndarray  # which group of units, that go together, each is of
    constants: np.ndarray
    needed: np.ndarray


@dataclasses.dataclass(eq=False)
class _Call:
    """One call of a layer."""

    layer: object
    inputs: list
    outputs: list
    is_plain: bool  # of nothing but tensors
    has_padding: bool  # whether an input has a Keras mask
    rule: units.Opaque | None = None


class _Ties:
    """Which units go together: disjoint sets of consecutive numbers."""

    def __init__(self):
        self._parents = []

    def fresh(self, size):
        start = len(self._parents)
        self._parents.extend(range(start, start + size))
        return np.arange(start, start + size)

    def tie(self, some, others):
        for one, other in zip(some, others, strict=True):
            self._parents[self._root(one)] = self._root(other)

    def _root(self, unit):
        while self._parents[unit] != unit:
            self._parents[unit] = self._parents[self._parents[unit]]
            unit = self._parents[unit]
        return unit

    def roots(self):
        return np.array([self._root(unit) for unit in self._parents], int)


class _Graph:
    """The calls of a model's layers in order, nested models unfolded."""

    def __init__(self, model, training):
        self.calls = []
        self.inputs = model.inputs
        outputs = _replayed(model, _structure_of_inputs(model), self._record)
        self.outputs = keras.tree.flatten(outputs)
        # Behind a layer of any kind the tensors of the graph may lack the mask
        # that those of a call have.
        has_padding = any(call.has_padding for call in self.calls)
        for layer_calls in self._calls_by_layer().values():
            layer = layer_calls[0].layer
            kinds = {
                units.rule_of(layer, [tensor.shape for tensor in call.inputs])
                if call.is_plain
                else units.Opaque
                for call in layer_calls
            }
            kind = kinds.pop() if len(kinds) == 1 else units.Opaque
            if training and units.is_bound_in_training(layer):
                kind = units.Opaque
            rule = kind(layer, training=training, shared=len(layer_calls) > 1)
            # A selection would lose the mask of padded time steps, and there
            # is none of sparse tensors.
            if has_padding or any(
                tensor.sparse for call in layer_calls for tensor in call.inputs
            ):
                rule.has_inputs_of_its_own = False
            for call in layer_calls:
                call.rule = rule

    def _record(self, layer, *args, **kwargs):
        outputs = layer(*args, **kwargs)
        given = keras.tree.flatten([args, kwargs])
        inputs = [v for v in given if isinstance(v, keras.KerasTensor)]
        is_plain = len(inputs) == len(
            keras.tree.flatten(args)
        ) and _are_defaults(kwargs)
        has_padding = any(
            getattr(tensor, "_keras_mask", None) is not None
            for tensor in inputs
        )
        flat = keras.tree.flatten(outputs)
        self.calls.append(_Call(layer, inputs, flat, is_plain, has_padding))
        return outputs

    def _calls_by_layer(self):
        found = {}
        for call in self.calls:
            found.setdefault(id(call.layer), []).append(call)
        return found

    def find_constants(self):
        """Finds each tensor's units and constants, from inputs to outputs."""
        self.ties = _Ties()
        self.tensors = {}
        for tensor in self.inputs:
            self._add(tensor, self.ties.fresh(_size(tensor)), None)
        for call in self.calls:
            inputs = [self.tensors[id(tensor)] for tensor in call.inputs]
            known = [tensor.units for tensor in inputs]
            constants = [tensor.constants for tensor in inputs]
            for output in call.outputs:
                sizes = _size(output), _positions(call.inputs)
                self._add(
                    output,
                    call.rule.output_units(self.ties, known, *sizes),
                    call.rule.constants(constants, *sizes),
                    needed=call.rule.whole_outputs,
                )

    def _add(self, tensor, its_units, constants, needed=False):
        size = len(its_units)
        if constants is None:
            constants = np.full(size, np.nan)
        # What is given to the model stays; `needed` tells so of the rest.
        self.tensors[id(tensor)] = _Tensor(
            tensor.shape, its_units, constants, np.full(size, needed)
        )

    def find_needs(self):
        """Finds the units that outputs need, from outputs to inputs."""
        for tensor in (*self.inputs, *self.outputs):
            self.tensors[id(tensor)].needed[:] = True
        for call in reversed(self.calls):
            inputs = [self.tensors[id(tensor)] for tensor in call.inputs]
            needed = np.zeros(0, bool)
            for output in call.outputs:
                output = self.tensors[id(output)]
                output.needed = call.rule.with_own_needs(output.needed)
                needed = output.needed
            needs = call.rule.needs(
                needed, [tensor.constants for tensor in inputs]
            )
            for tensor, its_needs in zip(inputs, needs, strict=True):
                tensor.needed = tensor.needed | its_needs
            if call.rule.has_inputs_of_its_own:
                before = call.rule.needed
                call.rule.needed = (
                    needs[0] if before is None else before | needs[0]
                )

    def kept_units(self):
        """Returns by id of a tensor which of its units are kept."""
        roots = self.ties.roots()
        kept = np.zeros(len(roots), bool)
        for tensor in self.tensors.values():
            kept[roots[tensor.units[tensor.needed]]] = True
        for tensor in self.tensors.values():
            # Keras has no layers without units.
            if len(tensor.units) and not kept[roots[tensor.units]].any():
                kept[roots[tensor.units[0]]] = True
        return {
            key: kept[roots[tensor.units]]
            for key, tensor in self.tensors.items()
        }


class _Rebuilding:
    """Builds the model of the kept units."""

    def __init__(self, model, graph, kept):
        self._model = model
        self._calls = iter(graph.calls)
        self._kept = kept
        self._layers = {}
        self._given = {call.layer.name for call in graph.calls}
        self._names = {tensor.name for tensor in model.inputs}

    def result(self):
        inputs = keras.tree.map_structure(
            lambda tensor: keras.Input(
                batch_shape=tensor.shape,
                dtype=tensor.dtype,
                name=tensor.name,
                sparse=tensor.sparse,
                optional=tensor._keras_history.operation.optional,
            ),
            _structure_of_inputs(self._model),
        )
        outputs = _replayed(self._model, inputs, self._call)
        return keras.Model(inputs, outputs, name=self._model.name)

    def _call(self, layer, *args, **kwargs):
        call = next(self._calls)
        if id(layer) not in self._layers:
            self._layers[id(layer)] = self._smaller(call)
        smaller, values, selected = self._layers[id(layer)]
        if selected is not None:
            taken = keras.ops.take(args[0], selected, axis=-1)
            # Keras numbers names within a process: a loaded model may have it.
            operation = taken._keras_history.operation
            operation.name = self._unused_name("take", self._given)
            args = (taken,)
        outputs = smaller(*args, **kwargs)
        for weight in _weights(smaller):
            if weight.name in values:
                weight.assign(values.pop(weight.name))
        return outputs

    def _smaller(self, call):
        """Returns (layer, values of its weights, selected inputs or None)."""
        inputs = [self._kept[id(tensor)] for tensor in call.inputs]
        outputs = [self._kept[id(tensor)] for tensor in call.outputs]
        inputs = inputs[0] if inputs else None
        selected = None
        if call.rule.has_inputs_of_its_own:
            rows = call.rule.needed & inputs
            if rows.sum() <= _WORTH_SELECTING * inputs.sum():
                if not rows.any():
                    rows[np.argmax(inputs)] = True
                selected, inputs = np.flatnonzero(rows[inputs]), rows
        layer, values = call.rule.smaller(inputs, outputs[0])
        layer.name = self._unused_name(layer.name)
        return layer, values, selected

    def _unused_name(self, name, given=()):
        """Returns the name, numbered if it is used, or given to a layer."""
        for number in itertools.count(1):
            candidate = name if number == 1 else f"{name}_{number}"
            if candidate not in self._names and candidate not in given:
                self._names.add(candidate)
                return candidate


def _structure_of_inputs(model):
    return (
        model.inputs[0] if isinstance(model, keras.Sequential) else model.input
    )


def _replayed(model, inputs, call):
    """Returns the outputs of a model, every layer called through `call`."""

    def unfolding(layer, *args, **kwargs):
        if _is_graph(layer) and _are_defaults(kwargs) and _fit(layer, args):
            return _replayed(layer, _cast_for(layer, args[0], call), call)
        return call(layer, *args, **kwargs)

    if isinstance(model, keras.Sequential):
        for layer in model.layers:
            inputs = unfolding(layer, inputs)
        return inputs
    # What keras.models.clone_model calls; it alone gives the tensors as well.
    return model._run_through_graph(inputs, call_fn=unfolding)


def _is_graph(layer):
    """Returns whether a layer is a model whose graph is all that it does."""
    is_graph = isinstance(layer, keras.Sequential) or hasattr(
        layer, "_run_through_graph"
    )
    return is_graph and type(layer).call.__module__.startswith("keras.")


def _are_defaults(options):
    """Returns whether a layer's call is given nothing that matters.

    Keras writes `training=False` down where a layer has that default; how the
    model is called goes before it.
    """
    return all(
        value is None or (name == "training" and value is False)
        for name, value in options.items()
    )


def _fit(model, args):
    """Returns whether a model takes its inputs, integers cast at most."""
    given = keras.tree.flatten(args)
    return (
        len(args) == 1
        and len(given) == len(model.inputs)
        and all(
            len(tensor.shape) == len(its.shape)
            and tensor.sparse == its.sparse
            # A cast loses the mask of padded time steps; integers have none.
            and (tensor.dtype == its.dtype or "int" in tensor.dtype)
            for tensor, its in zip(given, model.inputs, strict=True)
        )
    )


def _cast_for(model, inputs, call):
    """Returns the inputs of the types that a nested model takes."""

    def cast(tensor, its):
        if tensor.dtype == its.dtype:
            return tensor
        operation = keras.ops.cast(tensor, its.dtype)._keras_history.operation
        return call(operation, tensor)

    flat = keras.tree.flatten(inputs)
    return keras.tree.pack_sequence_as(
        inputs, [cast(*pair) for pair in zip(flat, model.inputs, strict=True)]
    )


def _size(tensor):
    """Returns the number of units of a tensor; zero if that is not known."""
    return (tensor.shape[-1] or 0) if len(tensor.shape) > 1 else 0


def _positions(tensors):
    """Returns the number of positions of the first tensor, None if unknown."""
    if not tensors or None in tensors[0].shape[1:]:
        return None
    return int(np.prod(tensors[0].shape[1:-1]))
