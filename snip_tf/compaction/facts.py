"""What the rules of layers take and return: values that nothing changes.

A unit is an index of the last axis of a tensor: a neuron, a channel.
"""

import dataclasses

import keras
import numpy as np


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
        """Returns the constants of these values where they are known."""
        return cls(known, np.where(known, values, 0.0))

    @classmethod
    def none(cls, size):
        """Returns that none of so many units is a constant."""
        return cls(np.zeros(size, bool), np.zeros(size))

    def at(self, index):
        """Returns the constants of the units at an index."""
        return Constants(self.known[index], self.values[index])

    def only_zeros(self):
        """Returns those of the constants that are zero."""
        zero = self.known & (self.values == 0)
        return Constants(zero, np.zeros(len(zero)))


@dataclasses.dataclass(frozen=True, eq=False)
class Weights:
    """The weights of a layer by name.

    Attributes:
        values: The values, zero where a mask is.
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
        masks = {
            name: arrays[f"{name}_mask"]
            for name in arrays
            if f"{name}_mask" in arrays
        }
        values = {
            name: value * masks.get(name, 1)
            for name, value in arrays.items()
            if name.removesuffix("_mask") not in masks or name in masks
        }
        return cls(values, masks, for_training and layer.trainable)

    def fixed(self, name):
        """Returns which entries of a weight keep their value."""
        if not self.learn:
            return np.ones(self.values[name].shape, bool)
        return self.masks.get(name, np.ones(self.values[name].shape)) == 0

    def live(self, name):
        """Returns which entries of a weight are, or can become, not zero."""
        return (self.values[name] != 0) | ~self.fixed(name)


@dataclasses.dataclass(frozen=True, eq=False)
class Facts:
    """What one call makes of the units of its inputs; it has one output.

    Attributes:
        inputs: The constants of each input.
        outputs: The constants of the output.
        ties: Per input, an index of shape (output units,): the input unit that
            goes or stays together with each output unit, -1 for none. Empty
            where outputs are units of their own.
        reach: Per input, a matrix (input units, output units): which input
            units an output unit depends on. None where it depends on those
            that it is tied to.
        feeds: A matrix (output units, output units): which units feed which
            others over time. None in layers that are not recurrent.
        is_whole: Whether all output units stay, as those of a softmax.
    """

    inputs: list
    outputs: Constants
    ties: list = ()
    reach: list | None = None
    feeds: np.ndarray | None = None
    is_whole: bool = False

    def needed_outputs(self, needed):
        """Returns the needed output units with those that they depend on."""
        if self.is_whole:
            return np.ones_like(needed)
        if self.feeds is None:
            return needed
        while True:
            more = needed | self.feeds[:, needed].any(axis=1)
            if (more == needed).all():
                return needed
            needed = more

    def needed_inputs(self, needed):
        """Returns per input which units the needed output units depend on."""
        if self.reach is not None:
            return [reach[:, needed].any(axis=1) for reach in self.reach]
        result = [np.zeros(len(given.known), bool) for given in self.inputs]
        for wanted, tie in zip(result, self.ties, strict=True):
            wanted[tie[needed & (tie >= 0)]] = True
        return result


class Rule:
    """How one kind of layer passes on units. Rules hold no state.

    Attributes:
        can_select: Whether a layer may be given a selection of the units of
            its input. Others take all units that the tensor keeps.
    """

    can_select = False

    def accepts(self, call):
        """Returns whether the rule is right for the options of a layer."""
        return True

    def forward(self, call, weights, inputs):
        """Returns the `Facts` of a call.

        Args:
            call: The `Call`.
            weights: The `Weights` of its layer.
            inputs: The `Constants` of each input.
        """
        raise NotImplementedError

    def rebuild(self, call, weights, facts, inputs, outputs):
        """Returns what differs in the smaller layer.

        Args:
            call: The `Call`.
            weights: The `Weights` of its layer.
            facts: What `forward` returned.
            inputs: Per input, which units it keeps.
            outputs: Which units the output keeps.

        Returns:
            (config, values): the entries of the layer's config that change,
            and the new values of its weights and masks by name.
        """
        return {}, {}
