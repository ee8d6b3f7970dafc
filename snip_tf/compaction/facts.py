"""What the rules of layers take and return: values that nothing changes.

A unit is an index of the last axis of a tensor: a neuron, a channel.
"""

import dataclasses

import keras
import numpy as np

_ELEMENTWISE = [
    getattr(keras.activations, name)
    for name in (
        "celu elu exponential gelu hard_shrink hard_sigmoid hard_silu "
        "hard_tanh leaky_relu linear log_sigmoid mish relu relu6 selu sigmoid "
        "silu soft_shrink softplus softsign squareplus tanh tanh_shrink "
        "threshold"
    ).split()
]


def is_elementwise(layer, name="activation"):
    """Returns whether a layer's activation, if any, acts on each number."""
    activation = getattr(layer, name, keras.activations.linear)
    return any(activation is known for known in _ELEMENTWISE)


@dataclasses.dataclass(frozen=True, eq=False)
class Constants:
    """Which units are the same at all positions and for all inputs.

    Attributes:
        known: Which units are constants, of shape (units,).
        values: Their values; zero for the other units.
    """

    known: np.ndarray
    values: np.ndarray

    @classmethod
    def where(cls, known, values):
        """Returns constants of these values where they are known."""
        return cls(known, np.where(known, values, 0.0))

    @classmethod
    def none(cls, units):
        """Returns that of so many units none is a constant."""
        return cls(np.zeros(units, bool), np.zeros(units))

    def at(self, index):
        """Returns the constants of the units at an index."""
        return Constants(self.known[index], self.values[index])

    def only_zeros(self):
        """Returns those of the constants that are zero."""
        return Constants.where(self.known & (self.values == 0), 0.0)


@dataclasses.dataclass(frozen=True, eq=False)
class Weights:
    """The weights of a layer by name.

    Attributes:
        values: The values, zeros baked in.
        masks: The masks, by the name of their weight.
        learn: Whether training changes what no mask removes.
    """

    values: dict
    masks: dict
    learn: bool

    @classmethod
    def of(cls, layer, for_training):
        """Returns the weights of a layer, none of an operation."""
        arrays = {
            weight.name: keras.ops.convert_to_numpy(weight)
            for weight in getattr(layer, "weights", [])
        }
        masked = [name for name in arrays if f"{name}_mask" in arrays]
        masks = {name: arrays.pop(f"{name}_mask") for name in masked}
        values = {
            name: value * masks.get(name, 1) for name, value in arrays.items()
        }
        learn = for_training and getattr(layer, "trainable", False)
        return cls(values, masks, learn)

    def fixed(self, name):
        """Returns which entries of a weight, if there is one, never change."""
        if name not in self.values or not self.learn:
            return np.True_
        return self.masks.get(name, np.ones(self.values[name].shape)) == 0

    def live(self, name):
        """Returns which entries of a weight are, or can become, not zero."""
        return (self.values[name] != 0) | ~self.fixed(name)


@dataclasses.dataclass(frozen=True, eq=False)
class Facts:
    """What one call makes of the units of its inputs; it has one output.

    Attributes:
        inputs: The `Constants` of each input.
        outputs: The `Constants` of the output.
        ties: Per input, an index of shape (output units,): the input unit that
            stays or goes together with each output unit, -1 for none. Empty
            where outputs are units of their own.
        reach: Per input, a matrix (input units, output units): which inputs
            an output depends on. None where that is what it is tied to.
        feeds: A matrix (output units, output units): which units feed which
            others over time. None in layers that are not recurrent.
    """

    inputs: list
    outputs: Constants
    ties: list = ()
    reach: list | None = None
    feeds: np.ndarray | None = None

    def needed_outputs(self, needed):
        """Returns the needed output units and those that feed them."""
        before = None
        while self.feeds is not None and needed.sum() != before:
            before = needed.sum()
            needed = needed | self.feeds[:, needed].any(axis=1)
        return needed

    def needed_inputs(self, needed):
        """Returns per input which units the needed output units depend on."""
        if self.reach is not None:
            return [reach[:, needed].any(axis=1) for reach in self.reach]
        result = [np.zeros(len(given.known), bool) for given in self.inputs]
        for units, tie in zip(result, self.ties, strict=True):
            units[tie[needed & (tie >= 0)]] = True
        return result


class Rule:
    """How a kind of layer passes on units: no state, and nothing is changed.

    Its methods take the `Call`, the `Weights` of the layer, and what belongs
    to each input or to the output.
    """

    takes_many = False  # whether the layer may have several inputs
    # Whether it may be given a selection of the units that its input keeps.
    can_select = False

    def accepts(self, call):
        """Returns whether the rule is right for the options of the layer."""
        return True

    def forward(self, call, weights, inputs):
        """Returns the `Facts` of a call, given the inputs' `Constants`."""
        raise NotImplementedError

    def rebuild(self, call, weights, facts, inputs, outputs):
        """Returns (config, values) of the layer of the units that are kept.

        `config` has the entries of the layer's config that change, `values`
        those of its weights and masks by name.
        """
        return {}, {}
