"""Rules of layers with weights."""

import keras
import numpy as np

from snip_tf.compaction.facts import Constants, Facts, Rule
from snip_tf.compaction.plain_rules import is_elementwise

_TRANSPOSED = (
    keras.layers.Conv1DTranspose,
    keras.layers.Conv2DTranspose,
    keras.layers.Conv3DTranspose,
)


def _activated(layer, weights, known, values):
    """Returns the constants behind a layer's bias and activation.

    Args:
        layer: The layer.
        weights: Its `Weights`.
        known: Which outputs no input changes.
        values: What they are before the bias is added.
    """
    if not is_elementwise(layer.activation):
        return Constants.none(len(known))
    if "bias" in weights.values:
        values = values + weights.values["bias"]
        known = known & weights.fixed("bias")
    tensor = keras.ops.convert_to_tensor(values, "float32")
    outputs = keras.ops.convert_to_numpy(layer.activation(tensor))
    return Constants.where(known, outputs.astype(np.float64))


def _over_positions(kernel):
    """Returns a kernel as (positions, inputs, outputs)."""
    return kernel.reshape(-1, *kernel.shape[-2:])


def _cut(weights, selections, **changed):
    """Returns the values and masks that are left of a layer.

    Args:
        weights: The `Weights` of the layer.
        selections: By name of a weight, which entries stay along each of its
            last axes.
        **changed: Values that replace those of the layer.
    """
    result = {}
    for name, value in {**weights.values, **changed}.items():
        result[name] = _selected(value, selections[name])
        if name in weights.masks:
            mask = _selected(weights.masks[name], selections[name])
            # What was folded in may fall on an entry that was removed.
            result[f"{name}_mask"] = np.maximum(mask, result[name] != 0)
    return result


def _selected(value, selections):
    for axis, selection in enumerate(selections, -len(selections)):
        value = np.compress(selection, value, axis)
    return value


class Kernel(Rule):
    """Dense layers and convolutions: outputs are units of their own.

    Constants go into the bias. At the border of a padded convolution they are
    none; but there all of them are multiples of one, which stands for them.
    """

    def accepts(self, call):
        """Returns whether every output may depend on every input."""
        return getattr(call.layer, "groups", 1) == 1

    def forward(self, call, weights, inputs):
        """Returns the facts: outputs without live connections are constants."""
        layer, constants = call.layer, inputs[0]
        kernel = _over_positions(_turned(layer, weights.values["kernel"]))
        live = _over_positions(_turned(layer, weights.live("kernel")))
        folded, at_border, stand_in = self._folded(layer, constants)
        reach = live.any(axis=0) & ~folded[:, None]
        dead = ~reach.any(axis=0)
        values = (constants.values * folded) @ kernel.sum(axis=0, dtype=float)
        outputs = _activated(layer, weights, dead, values)
        if at_border.any():
            reach[stand_in] = reach[at_border].any(axis=0)
            at_border[stand_in] = False
            reach[at_border] = False
        is_whole = not is_elementwise(layer.activation)
        return Facts(inputs, outputs, reach=[reach], is_whole=is_whole)

    def _folded(self, layer, constants):
        """Returns the constants of the two kinds, and the stand-in."""
        zero = constants.known & (constants.values == 0)
        folded = constants.known if _sees_no_border(layer) else zero
        at_border = constants.known & ~folded
        return folded, at_border, np.abs(constants.values * at_border).argmax()

    def rebuild(self, call, weights, facts, inputs, outputs):
        """Returns the size, whether there is a bias, and the weights."""
        layer, constants = call.layer, facts.inputs[0]
        folded, at_border, stand_in = self._folded(layer, constants)
        gone = np.where(inputs[0], 0.0, constants.values)
        kernel = _turned(layer, weights.values["kernel"]).astype(float)
        more = (gone * folded) @ _over_positions(kernel).sum(axis=0)
        if at_border.any():
            factors = gone * at_border / constants.values[stand_in]
            kernel[..., stand_in, :] += np.einsum(
                "i,...io->...o", factors, kernel
            )
        changed = {"kernel": _turned(layer, kernel)}
        if "bias" in weights.values or more[outputs].any():
            changed["bias"] = weights.values.get("bias", 0) + more
        rows_and_columns = (inputs[0], outputs)
        if isinstance(layer, _TRANSPOSED):
            rows_and_columns = (outputs, inputs[0])
        selections = {"kernel": rows_and_columns, "bias": (outputs,)}
        size = "units" if isinstance(layer, keras.layers.Dense) else "filters"
        config = {size: int(outputs.sum()), "use_bias": "bias" in changed}
        return config, _cut(weights, selections, **changed)


class Dense(Kernel):
    """Dense layers."""

    can_select = True


def _turned(layer, kernel):
    """Returns a kernel of (..., inputs, outputs), or back again."""
    is_turned = isinstance(layer, _TRANSPOSED)
    return np.swapaxes(kernel, -1, -2) if is_turned else kernel


def _sees_no_border(layer):
    """Returns whether a constant is one at all positions of the kernel."""
    if isinstance(layer, keras.layers.Dense):
        return True
    return not isinstance(layer, _TRANSPOSED) and (
        layer.padding == "valid" or set(layer.kernel_size) == {1}
    )


class DepthwiseConv(Rule):
    """Depthwise convolutions: each output is of one input."""

    def forward(self, call, weights, inputs):
        """Returns the facts: an output goes with its input."""
        layer, constants = call.layer, inputs[0]
        if layer.padding != "valid":
            constants = constants.only_zeros()
        kernel = _over_positions(weights.values["kernel"])
        live = _over_positions(weights.live("kernel")).any(axis=0)
        channels, multiples = live.shape
        dead = constants.known[:, None] | ~live
        values = constants.values[:, None] * kernel.sum(axis=0, dtype=float)
        outputs = _activated(layer, weights, dead.ravel(), values.ravel())
        own = np.repeat(np.arange(channels), multiples)
        reach = (np.arange(channels)[:, None] == own) & live.ravel()
        is_whole = not is_elementwise(layer.activation)
        return Facts(inputs, outputs, [own], [reach], is_whole=is_whole)

    def rebuild(self, call, weights, facts, inputs, outputs):
        """Returns the weights of the channels that stay."""
        multiples = np.ones(weights.values["kernel"].shape[-1], bool)
        kernel = (inputs[0], multiples)
        return {}, _cut(weights, {"kernel": kernel, "bias": (outputs,)})


class SeparableConv(Rule):
    """Depthwise, then 1x1: like a convolution of which zeros are folded."""

    def forward(self, call, weights, inputs):
        """Returns the facts: outputs without live connections are constants."""
        depthwise = _over_positions(weights.live("depthwise_kernel"))
        channels, multiples = depthwise.shape[-2:]
        pointwise = weights.live("pointwise_kernel")
        pointwise = pointwise.reshape(channels, multiples, -1)
        connected = depthwise.any(axis=0)[..., None] & pointwise
        reach = connected.any(axis=1) & ~inputs[0].only_zeros().known[:, None]
        dead = ~reach.any(axis=0)
        outputs = _activated(call.layer, weights, dead, np.zeros(len(dead)))
        is_whole = not is_elementwise(call.layer.activation)
        return Facts(inputs, outputs, reach=[reach], is_whole=is_whole)

    def rebuild(self, call, weights, facts, inputs, outputs):
        """Returns the size and the weights."""
        multiples = weights.values["depthwise_kernel"].shape[-1]
        selections = {
            "depthwise_kernel": (inputs[0], np.ones(multiples, bool)),
            "pointwise_kernel": (np.repeat(inputs[0], multiples), outputs),
            "bias": (outputs,),
        }
        return {"filters": int(outputs.sum())}, _cut(weights, selections)


class BatchNormalization(Rule):
    """Batch normalisation of the last axis."""

    def accepts(self, call):
        """Returns whether it is units that are normalised."""
        return call.layer.axis in (-1, len(call.inputs[0].shape) - 1)

    def forward(self, call, weights, inputs):
        """Returns the facts: constants are normalised as in inference."""
        values, known = weights.values, inputs[0].known
        scale = values.get("gamma", 1) / np.sqrt(
            values["moving_variance"].astype(float) + call.layer.epsilon
        )
        outputs = (inputs[0].values - values["moving_mean"]) * scale
        if "beta" in values:
            outputs = outputs + values["beta"]
            known = known & weights.fixed("beta")
        return Facts(
            inputs, Constants.where(known, outputs), [np.arange(len(known))]
        )

    def rebuild(self, call, weights, facts, inputs, outputs):
        """Returns the weights of the units that stay."""
        return {}, _cut(weights, {name: (outputs,) for name in weights.values})


class Recurrent(Rule):
    """SimpleRNN, LSTM and GRU: units that also feed each other.

    A unit stays zero if the gate of its new content is given zeros alone, by
    the inputs, the bias and the other units.
    """

    can_select = True
    # By class: the number of gates, and which is that of the content.
    _GATES = {
        keras.layers.SimpleRNN: (1, 0),
        keras.layers.LSTM: (4, 2),
        keras.layers.GRU: (3, 2),
    }

    def accepts(self, call):
        """Returns whether units are on their own, and begin at zero."""
        layer = call.layer
        activations = [
            getattr(layer, name, keras.activations.linear)
            for name in ("activation", "recurrent_activation")
        ]
        return not (layer.stateful or layer.return_state) and all(
            map(is_elementwise, activations)
        )

    def _gates_of(self, layer):
        return next(
            gates
            for cls, gates in self._GATES.items()
            if isinstance(layer, cls)
        )

    def forward(self, call, weights, inputs):
        """Returns the facts: units that stay zero, and which feed which."""
        gates, content = self._gates_of(call.layer)

        def by_gate(name):
            live = weights.live(name)
            return live.reshape(*live.shape[:-1], gates, -1)

        kernel, recurrent = by_gate("kernel"), by_gate("recurrent_kernel")
        is_zero = inputs[0].only_zeros().known
        zero = ~kernel[~is_zero, content].any(axis=0)
        if "bias" in weights.values:
            bias = by_gate("bias")[..., content, :]
            zero &= ~bias.reshape(-1, len(zero)).any(axis=0)
        at_zero = call.layer.activation(keras.ops.zeros((1,)))
        zero &= float(at_zero[0]) == 0
        feeds = recurrent[:, content]
        while (fed := zero & feeds[~zero].any(axis=0)).any():
            zero = zero & ~fed
        outputs = Constants(zero, np.zeros(len(zero)))
        reach = kernel.any(axis=1) & ~is_zero[:, None] & ~zero
        feeds = recurrent.any(axis=1) & ~zero[:, None] & ~zero
        return Facts(inputs, outputs, reach=[reach], feeds=feeds)

    def rebuild(self, call, weights, facts, inputs, outputs):
        """Returns the size and the weights."""
        gates, _ = self._gates_of(call.layer)
        columns = np.tile(outputs, gates)
        selections = {
            "kernel": (inputs[0], columns),
            "recurrent_kernel": (outputs, columns),
            "bias": (columns,),
        }
        return {"units": int(outputs.sum())}, _cut(weights, selections)
