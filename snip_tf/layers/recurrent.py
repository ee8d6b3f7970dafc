"""Recurrent layers whose cells have masks."""

import keras

from snip_tf import _keras, overriding
from snip_tf.layers.base import MaskedLayer, masks, register


@masks("kernel", "recurrent_kernel")
class SimpleRNNCell(MaskedLayer, keras.layers.SimpleRNNCell):
    """`keras.layers.SimpleRNNCell` with a mask on both kernels."""


@masks("kernel", "recurrent_kernel")
class LSTMCell(MaskedLayer, keras.layers.LSTMCell):
    """`keras.layers.LSTMCell` with a mask on both kernels."""


@masks("kernel", "recurrent_kernel")
class GRUCell(MaskedLayer, keras.layers.GRUCell):
    """`keras.layers.GRUCell` with a mask on both kernels."""


class MaskedRecurrent(MaskedLayer):
    """A stock recurrent layer around a masked cell; the cell has the masks.

    The layer stays the stock one, so that cuDNN still serves where it can.
    """

    cell_class = None

    def __init__(self, *args, mask_bias=False, **kwargs):
        super().__init__(*args, mask_bias=mask_bias, **kwargs)
        stock = self.cell
        _keras.untrack(self, stock)
        self.cell = self.cell_class.from_config(
            {**stock.get_config(), "mask_bias": mask_bias}
        )

    def inner_loop(self, *args, **kwargs):
        """Runs the stock loop with each weight masked once, not every step."""
        with overriding.overridden([self.cell], "read", _once):
            return super().inner_loop(*args, **kwargs)


def _once(cell, read):
    """Returns `read` with all weights read now, outside of the loop."""
    values = {name: read(name) for name in (*cell.weight_names, "bias")}
    return values.get


@register
class SimpleRNN(MaskedRecurrent, keras.layers.SimpleRNN):
    """`keras.layers.SimpleRNN` with a mask on both kernels of its cell."""

    cell_class = SimpleRNNCell


@register
class LSTM(MaskedRecurrent, keras.layers.LSTM):
    """`keras.layers.LSTM` with a mask on both kernels of its cell."""

    cell_class = LSTMCell


@register
class GRU(MaskedRecurrent, keras.layers.GRU):
    """`keras.layers.GRU` with a mask on both kernels of its cell."""

    cell_class = GRUCell
