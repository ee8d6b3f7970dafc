"""Rules of layers with weights."""

import keras
import numpy as np

from snip_tf.compaction.facts import Facts, Rule, is_elementwise, only_zeros


class _Conv(Rule):
    """Convolutions and dense layers: outputs are units of their own.

    An output is a constant where all that it is connected to are. Constants go
    into the bias. At the border of a padded convolution they are none; but
    there each is a multiple of another one, which can stand for them all.
    """

    size = "filters"

    def accepts(self, call):
        return getattr(call.layer, "groups", 1) == 1

    def forward(self, call, weights, inputs):
        folded, at_border, stand_in = self._split(call.layer, inputs[0])
        live = _positions(weights.live("kernel")).any(axis=0)
        reach = live & ~folded[:, None]
        dead = ~reach.any(axis=0)
        reach[stand_in] |= reach[at_border].any(axis=0)
        reach[at_border & (np.arange(len(reach)) != stand_in)] = False
        values = np.where(folded, inputs[0], 0) @ _summed(weights)
        outputs = _activated(call.layer, weights, dead, values)
        return Facts(inputs, outputs, reach=reach)

    def rebuild(self, call, weights, facts, inputs, outputs):
        constants = facts.inputs[0]
        folded, at_border, stand_in = self._split(call.layer, constants)
        gone = np.where(inputs[0], 0.0, np.nan_to_num(constants))
        more = gone * folded @ _summed(weights)
        kernel = weights.values["kernel"].astype(float)
        if at_border.any():
            factors = gone * at_border / constants[stand_in]
            stood_for = np.einsum("i,...io->...o", factors, kernel)
            kernel[..., stand_in, :] += stood_for
        changed = {"kernel": kernel}
        if "bias" in weights.values or more[outputs].any():
            changed["bias"] = weights.values.get("bias", 0) + more
        selections = {"kernel": (inputs[0], outputs), "bias": (outputs,)}
        config = {"use_bias": "bias" in changed, self.size: int(outputs.sum())}
        return config, _cut(weights, selections, **changed)

    def _split(self, layer, constants):
        """Returns which constants are of which kind, and the stand-in."""
        known = folded = ~np.isnan(constants)
        if _is_padded(layer) and set(layer.kernel_size) != {1}:
            folded = constants == 0
        at_border = known & ~folded
        stand_in = np.abs(np.where(at_border, constants, 0)).argmax()
        return folded, at_border, stand_in


class _Dense(_Conv):
    can_select, size = True, "units"


class _DepthwiseConv(Rule):
    """Depthwise convolutions: each output goes with its input."""

    def forward(self, call, weights, inputs):
        (constants,) = inputs
        if _is_padded(call.layer):
            constants = only_zeros(constants)
        live = _positions(weights.live("kernel")).any(axis=0)
        dead = (~np.isnan(constants)[:, None] | ~live).ravel()
        values = np.nan_to_num(constants)[:, None] * _summed(weights)
        outputs = _activated(call.layer, weights, dead, values.ravel())
        channels = np.arange(len(live))
        own = np.repeat(channels, live.shape[1])
        reach = (channels[:, None] == own) & live.ravel()
        return Facts(inputs, outputs, [own], reach)

    def rebuild(self, call, weights, facts, inputs, outputs):
        multiples = np.ones(call.layer.depth_multiplier, bool)
        kernel = (inputs[0], multiples)
        return {}, _cut(weights, {"kernel": kernel, "bias": (outputs,)})


class _SeparableConv(Rule):
    """Depthwise, then 1x1: like a convolution of which zeros are folded."""

    def forward(self, call, weights, inputs):
        depthwise = _positions(weights.live("depthwise_kernel")).any(axis=0)
        pointwise = weights.live("pointwise_kernel")
        pointwise = pointwise.reshape(*depthwise.shape, -1)
        reach = (depthwise[..., None] & pointwise).any(axis=1)
        reach &= inputs[0][:, None] != 0
        dead = ~reach.any(axis=0)
        outputs = _activated(call.layer, weights, dead, np.zeros(len(dead)))
        return Facts(inputs, outputs, reach=reach)

    def rebuild(self, call, weights, facts, inputs, outputs):
        multiples = call.layer.depth_multiplier
        selections = {
            "depthwise_kernel": (inputs[0], np.ones(multiples, bool)),
            "pointwise_kernel": (np.repeat(inputs[0], multiples), outputs),
            "bias": (outputs,),
        }
        return {"filters": int(outputs.sum())}, _cut(weights, selections)


class _BatchNormalization(Rule):
    """Batch normalisation of the last axis, as it is in inference."""

    def accepts(self, call):
        return call.layer.axis in (-1, len(call.inputs[0].shape) - 1)

    def forward(self, call, weights, inputs):
        values = weights.values
        variance = values["moving_variance"].astype(float)
        outputs = inputs[0] - values["moving_mean"]
        outputs /= np.sqrt(variance + call.layer.epsilon)
        outputs = outputs * values.get("gamma", 1) + values.get("beta", 0)
        outputs = np.where(weights.fixed("beta"), outputs, np.nan)
        return Facts(inputs, outputs, [np.arange(len(outputs))])

    def rebuild(self, call, weights, facts, inputs, outputs):
        return {}, _cut(weights, {name: (outputs,) for name in weights.values})


class _Recurrent(Rule):
    """SimpleRNN, LSTM and GRU: units that also feed each other.

    A unit stays zero if the gate of its new content is given zeros alone: by
    the inputs, the bias and the other units.
    """

    can_select = True

    def accepts(self, call):
        layer = call.layer
        return (
            not (layer.stateful or layer.return_state)
            and is_elementwise(layer)
            and is_elementwise(layer, "recurrent_activation")
        )

    def forward(self, call, weights, inputs):
        units = call.layer.units
        gates = weights.values["kernel"].shape[-1] // units
        content = min(gates - 1, 2)  # the third of the LSTM's and the GRU's
        live = {
            name: weights.live(name).reshape(-1, gates, units)
            for name in weights.values
        }
        kernel, recurrent = live["kernel"], live["recurrent_kernel"]
        is_zero = inputs[0] == 0
        zero = ~kernel[~is_zero, content].any(axis=0)
        if "bias" in live:
            zero &= ~live["bias"][:, content].any(axis=0)
        zero &= float(call.layer.activation(keras.ops.zeros((1,)))[0]) == 0
        while (fed := zero & recurrent[~zero, content].any(axis=0)).any():
            zero = zero & ~fed
        reach = kernel.any(axis=1) & ~is_zero[:, None] & ~zero
        feeds = recurrent.any(axis=1) & ~zero[:, None] & ~zero
        outputs = np.where(zero, 0.0, np.nan)
        return Facts(inputs, outputs, reach=reach, feeds=feeds)

    def rebuild(self, call, weights, facts, inputs, outputs):
        units = call.layer.units
        gates = weights.values["kernel"].shape[-1] // units
        columns = np.tile(outputs, gates)
        selections = {
            "kernel": (inputs[0], columns),
            "recurrent_kernel": (outputs, columns),
            "bias": (columns,),
        }
        return {"units": int(outputs.sum())}, _cut(weights, selections)


def _activated(layer, weights, known, values):
    """Returns the constants behind a layer's bias and activation."""
    if not is_elementwise(layer):
        return np.full(len(known), np.nan)
    values = values + weights.values.get("bias", 0)
    tensor = keras.ops.convert_to_tensor(values, "float32")
    outputs = keras.ops.convert_to_numpy(layer.activation(tensor))
    return np.where(known & weights.fixed("bias"), outputs, np.nan)


def _is_padded(layer):
    return getattr(layer, "padding", "valid") != "valid"


def _positions(kernel):
    """Returns a kernel as (positions, inputs, outputs)."""
    return kernel.reshape(-1, *kernel.shape[-2:])


def _summed(weights):
    return _positions(weights.values["kernel"]).sum(axis=0, dtype=float)


def _cut(weights, selections, **changed):
    """Returns the values and masks of the entries that stay.

    `selections` has, by name of a weight, which those are along each of its
    last axes; `changed` has values that replace those of the layer.
    """
    result = {}
    for name, value in {**weights.values, **changed}.items():
        mask = weights.masks.get(name)
        for axis, stay in enumerate(selections[name], -len(selections[name])):
            value = np.compress(stay, value, axis)
            mask = None if mask is None else np.compress(stay, mask, axis)
        result[name] = value
        if mask is not None:
            # What was folded in may fall on an entry that was removed.
            result[f"{name}_mask"] = np.maximum(mask, value != 0)
    return result


# By the names of the layers; n stands for 1D, 2D and 3D.
RULES = {
    "Dense": _Dense(),
    "Conv{n}": _Conv(),
    "DepthwiseConv{n}": _DepthwiseConv(),
    "SeparableConv{n}": _SeparableConv(),
    "BatchNormalization": _BatchNormalization(),
    "SimpleRNN LSTM GRU": _Recurrent(),
}
