"""Rules of layers without weights; most output units are input units."""

import keras
import numpy as np

from snip_tf.compaction.facts import Constants, Facts, Rule
from snip_tf.compaction.graph import size

# Activations that act on each number by itself.
_ELEMENTWISE = [
    getattr(keras.activations, name)
    for name in (
        *("celu", "elu", "exponential", "gelu", "hard_shrink", "hard_sigmoid"),
        *("hard_silu", "hard_tanh", "leaky_relu", "linear", "log_sigmoid"),
        *("mish", "relu", "relu6", "selu", "sigmoid", "silu", "soft_shrink"),
        *("softplus", "softsign", "squareplus", "tanh", "tanh_shrink"),
        "threshold",
    )
]


def is_elementwise(activation):
    """Returns whether an activation is known to act on each number alone."""
    return any(activation is known for known in _ELEMENTWISE)


class Passing(Rule):
    """Units stay what they are, and so do constants: pooling, dropout."""

    def accepts(self, call):
        """Returns whether dropout falls on each unit by itself."""
        return getattr(call.layer, "noise_shape", None) is None

    def forward(self, call, weights, inputs):
        """Returns the facts: each output unit is an input unit."""
        tie = self.tie(call)
        return Facts(inputs, inputs[0].at(tie), [tie])

    def tie(self, call):
        """Returns which input unit each output unit is."""
        return np.arange(size(call.inputs[0]))


class ZeroPadding(Passing):
    """Of the constants only zero is one at the border as well."""

    def forward(self, call, weights, inputs):
        """Returns the facts: of the constants zeros stay."""
        tie = self.tie(call)
        return Facts(inputs, inputs[0].only_zeros(), [tie])


class Flatten(Passing):
    """Every position of a channel becomes a unit."""

    def accepts(self, call):
        """Returns whether the number of positions is known."""
        return size(call.outputs[0]) > 0

    def tie(self, call):
        """Returns which channel each output unit is of."""
        channels = size(call.inputs[0])
        return np.arange(size(call.outputs[0])) % channels


class Concatenate(Rule):
    """Units one after another."""

    def accepts(self, call):
        """Returns whether it is units that are concatenated."""
        return call.layer.axis in (-1, len(call.inputs[0].shape) - 1)

    def forward(self, call, weights, inputs):
        """Returns the facts: each output unit is one of one input."""
        known = np.concatenate([given.known for given in inputs])
        values = np.concatenate([given.values for given in inputs])
        starts = np.cumsum([0, *(len(given.known) for given in inputs)])
        units = np.arange(len(known))
        ties = [
            np.where((units >= start) & (units < end), units - start, -1)
            for start, end in zip(starts[:-1], starts[1:], strict=True)
        ]
        return Facts(inputs, Constants(known, values), ties)


class Elementwise(Rule):
    """Numbers of each unit by itself, of one input or of several.

    A unit goes only where all inputs agree.
    """

    def accepts(self, call):
        """Returns whether units meet their like and none is mixed."""
        same_size = len({size(tensor) for tensor in call.inputs}) == 1
        return same_size and (
            not isinstance(call.layer, keras.layers.Activation)
            or is_elementwise(call.layer.activation)
        )

    def forward(self, call, weights, inputs):
        """Returns the facts; the layer itself says what becomes of constants."""
        known = np.logical_and.reduce([given.known for given in inputs])
        values = iter(
            keras.ops.convert_to_tensor(given.values[None], "float32")
            for given in inputs
        )
        args = keras.tree.map_structure(
            lambda given: (
                next(values) if isinstance(given, keras.KerasTensor) else given
            ),
            call.args,
        )
        # Calling the layer would leave traces on it.
        outputs = keras.ops.convert_to_numpy(call.layer.call(*args))[0]
        units = np.arange(len(known))
        constants = Constants.where(known, outputs.astype(np.float64))
        return Facts(inputs, constants, [units for _ in inputs])
