"""LSTM and GRU that read an image row by row (Lee et al. 2019, 5.3).

The paper's networks were never released. This is the simplest layout that has
all the parameter counts of its Table 2: the rows are projected to the size of
the state without a bias, and the LSTM has two bias vectors a gate, as Keras'
GRU and other libraries' LSTMs have.
"""

import keras
from keras import ops

from snip_tf import layers
from snip_tf.models import blocks


@keras.saving.register_keras_serializable(package="snip_tf")
class TwoBiasLSTMCell(layers.LSTMCell):
    """A masked LSTM cell with a bias beside the kernel and one beside U.

    The two are one weight of shape (2, 4 * units) with one mask, like the bias
    of Keras' GRU. It reads as their sum, which is all that an LSTM uses.
    """

    def add_weight(self, shape=None, *arguments, name=None, **options):
        """Adds a weight as the stock cell does; two biases instead of one."""
        if name == "bias":
            shape = (2, *shape)
        return super().add_weight(shape, *arguments, name=name, **options)

    @property
    def bias(self):
        """The effective bias, of shape (4 * units,): both, masked, added."""
        # Inside of the loop over time what is read is the sum already.
        both = ops.reshape(super().bias, (-1, 4 * self.units))
        return ops.sum(both, axis=0)

    @bias.setter
    def bias(self, weight):
        layers.LSTMCell.bias.fset(self, weight)

    def stock_weights(self):
        """Returns (weight, value) pairs; the stock cell has the one bias."""
        return [
            (weight, self.bias if weight.name == "bias" else weight * mask)
            for weight, mask in self.masked_weights()
        ]


@keras.saving.register_keras_serializable(package="snip_tf")
class TwoBiasLSTM(layers.LSTM):
    """A masked LSTM around a `TwoBiasLSTMCell`.

    Raises:
        ValueError: If `unit_forget_bias` is set. It is off by default here:
            all biases start as `bias_initializer` says.
    """

    _cell_class = TwoBiasLSTMCell

    def __init__(self, *arguments, unit_forget_bias=False, **options):
        if unit_forget_bias:
            raise ValueError(
                "`unit_forget_bias` must be False: of two biases none is the "
                f"forget bias. Received: unit_forget_bias={unit_forget_bias}"
            )
        super().__init__(*arguments, unit_forget_bias=False, **options)


def lstm_s(units=128, **options):
    """Returns the small LSTM: 136,970 weights on MNIST."""
    return _recurrent("lstm_s", TwoBiasLSTM, units, **options)


def lstm_b(units=256, **options):
    """Returns the big LSTM: 536,074 weights on MNIST."""
    return _recurrent("lstm_b", TwoBiasLSTM, units, **options)


def gru_s(units=128, **options):
    """Returns the small GRU: 103,946 weights on MNIST."""
    return _recurrent("gru_s", layers.GRU, units, **options)


def gru_b(units=256, **options):
    """Returns the big GRU: 404,490 weights on MNIST."""
    return _recurrent("gru_b", layers.GRU, units, **options)


def _recurrent(
    name,
    layer_class,
    units,
    input_shape=blocks.MNIST,
    classes=10,
    **initializers,
):
    options = blocks.initializers(**initializers)
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
