"""What the rules of layers take and return: values that nothing changes.

A unit is an index of the last axis of a tensor: a neuron, a channel. Constants
are an array (units,): what a unit is at all positions and for all inputs; NaN
where it is not always the same.
"""

import dataclasses

import keras
import numpy as np

_ELEMENTWISE = [
    getattr(keras.activations, name)
    for name in (
        "celu elu exponential gelu hard_sigmoid hard_silu leaky_relu linear "
        "mish relu relu6 selu sigmoid silu softplus softsign tanh"
    ).split()
]


def is_elementwise(layer, name="activation"):
    """Returns whether a layer's activation, if any, acts on each number."""
    return getattr(layer, name, keras.activations.linear) in _ELEMENTWISE


def only_zeros(constants):
    """Returns those of the constants that are zero."""
    return np.where(constants == 0, 0.0, np.nan)


@dataclasses.dataclass(frozen=True, eq=False)
class Weights:
    """A layer's weights by name, zeros baked in, and their masks by name."""

    values: dict
    masks: dict
    learn: bool  # whether training changes what no mask removes

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
        inputs: The constants of each input.
        outputs: The constants of the output.
        ties: Per input, an index of shape (output units,): the input unit that
            stays or goes together with each output unit, -1 for none. Empty
            where outputs are units of their own.
        reach: Of the only input, a matrix (input units, output units): which
            inputs an output depends on. None where it is what it is tied to.
        feeds: A matrix (output units, output units): which units feed which
            others over time. None in layers that are not recurrent.
    """

    inputs: list
    outputs: np.ndarray
    ties: list = ()
    reach: np.ndarray | None = None
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
            return [self.reach[:, needed].any(axis=1)]
        return [
            np.isin(np.arange(len(given)), tie[needed])
            for given, tie in zip(self.inputs, self.ties, strict=True)
        ]


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
        """Returns the `Facts` of a call, given the constants of its inputs."""
        raise NotImplementedError

    def rebuild(self, call, weights, facts, inputs, outputs):
        """Returns (config, values) of the layer of the units that are kept.

        `config` has the entries of the layer's config that change, `values`
        those of its weights and masks by name.
        """
        return {}, {}
