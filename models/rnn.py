"""LSTM and GRU that read an image row by row (Lee et al. 2019, 5.3).

The paper's networks were never released. This is the simplest layout that has
all the parameter counts of its Table 2: the rows are projected to the size of
the state without a bias, and the LSTM has two bias vectors a gate, as Keras'
GRU and other libraries' LSTMs have.

The gates start open as in TensorFlow 1, whose cells cite the same papers as
Lee et al. do: to the forget gate of the LSTM (`BasicLSTMCell`, Zaremba et al.
2014) a constant is added that is no weight; the biases of the gates of the GRU
(`GRUCell`, Cho et al. 2014) start at one, and are weights like any others.
"""

import keras
import numpy as np
from keras import ops

from snip_tf import layers
from snip_tf.models import blocks

FORGET_BIAS = 1.0


@keras.saving.register_keras_serializable(package="snip_tf")
class TwoBiasLSTMCell(layers.LSTMCell):
    """A masked LSTM cell with a bias beside the kernel and one beside U.

    The two are one weight of shape (2, 4 * units) with one mask, like the bias
    of Keras' GRU. It reads as their sum, which is all that an LSTM uses, and
    FORGET_BIAS more in the forget gate: no mask removes that.
    """

    def add_weight(self, shape=None, *arguments, name=None, **options):
        """Adds a weight as the stock cell does; two biases instead of one."""
        if name == "bias":
            shape = (2, *shape)
        return super().add_weight(shape, *arguments, name=name, **options)

    def read(self, name):
        """Returns weight * mask; of the biases the sum, the gate opened."""
        weight = super().read(name)
        if name != "bias":
            return weight
        forget = np.repeat([0, FORGET_BIAS, 0, 0], self.units)
        return ops.sum(weight, axis=0) + ops.cast(forget, weight.dtype)


@keras.saving.register_keras_serializable(package="snip_tf")
class TwoBiasLSTM(layers.LSTM):
    """A masked LSTM around a `TwoBiasLSTMCell`.

    Raises:
        ValueError: If `unit_forget_bias` is set, which starts a bias at one
            that can be trained and pruned: here a constant is added.
    """

    cell_class = TwoBiasLSTMCell

    def __init__(self, *arguments, unit_forget_bias=False, **options):
        if unit_forget_bias:
            raise ValueError(
                "`unit_forget_bias` must be False: a constant is the forget "
                f"bias. Received: unit_forget_bias={unit_forget_bias}"
            )
        super().__init__(*arguments, unit_forget_bias=False, **options)


@keras.saving.register_keras_serializable(package="snip_tf")
class OpenGRUCell(layers.GRUCell):
    """A masked GRU cell whose gates' biases start one above the initialiser."""

    def add_weight(self, *arguments, name=None, initializer=None, **options):
        """Adds a weight as the stock cell does, but for the start of a bias."""
        if name == "bias":
            # The first of the two that are added.
            update_reset_candidate = np.repeat([1, 1, 0], self.units)
            start = np.stack([update_reset_candidate, np.zeros(3 * self.units)])
            draw = initializer

            def initializer(shape, dtype):
                return draw(shape, dtype) + ops.cast(start, dtype)

        return super().add_weight(
            *arguments, name=name, initializer=initializer, **options
        )


@keras.saving.register_keras_serializable(package="snip_tf")
class OpenGRU(layers.GRU):
    """A masked GRU around an `OpenGRUCell`."""

    cell_class = OpenGRUCell


def lstm_s(units=128, **options):
    """Returns the small LSTM: 136,970 weights on MNIST."""
    return _recurrent("lstm_s", TwoBiasLSTM, units, **options)


def lstm_b(units=256, **options):
    """Returns the big LSTM: 536,074 weights on MNIST."""
    return _recurrent("lstm_b", TwoBiasLSTM, units, **options)


def gru_s(units=128, **options):
    """Returns the small GRU: 103,946 weights on MNIST."""
    return _recurrent("gru_s", OpenGRU, units, **options)


def gru_b(units=256, **options):
    """Returns the big GRU: 404,490 weights on MNIST."""
    return _recurrent("gru_b", OpenGRU, units, **options)


def _recurrent(
    name,
    layer_class,
    units,
    input_shape=blocks.MNIST,
    classes=10,
    **weights,
):
    options = blocks.weight_options(**weights)
    height, width, channels = input_shape
    return keras.Sequential(
        [
            keras.Input(input_shape),
            keras.layers.Reshape((height, width * channels), name="rows"),
            blocks.dense(units, use_bias=False, name="projection", **options),
            blocks.prunable(
                layer_class,
                units,
                recurrent_initializer=blocks.own(options["kernel_initializer"]),
                name="recurrent",
                **options,
            ),
            blocks.dense(classes, name="fc1", **options),
        ],
        name=name,
    )
