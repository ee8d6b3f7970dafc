"""Multi-head attention with masks on its projections."""

import functools

import keras

from snip_tf.layers.base import MaskedLayer, register
from snip_tf.layers.feedforward import EinsumDense
from snip_tf.layers.in_place import give_masks

# Keras makes these projections when it builds the layer; `_gate_dense` under an
# option only.
_PROJECTIONS = (
    "_query_dense",
    "_key_dense",
    "_gate_dense",
    "_value_dense",
    "_output_dense",
)


@register
class MultiHeadAttention(MaskedLayer, keras.layers.MultiHeadAttention):
    """`keras.layers.MultiHeadAttention` with masks on all its projections."""

    @functools.wraps(keras.layers.MultiHeadAttention.build)
    def build(self, *args, **kwargs):
        """Builds the stock layer, then gives its projections their masks."""
        super().build(*args, **kwargs)
        for name in _PROJECTIONS:
            projection = getattr(self, name, None)
            if projection is not None:
                give_masks(projection, EinsumDense, self.mask_bias)
