"""Keras layers whose weights carry a mask; see `MaskedLayer`."""

from snip_tf.layers.attention import MultiHeadAttention
from snip_tf.layers.base import (
    MASKED_CLASSES,
    MaskedLayer,
    masked_layers,
    masked_weights,
    stock_class_of,
)
from snip_tf.layers.feedforward import (
    Conv1D,
    Conv1DTranspose,
    Conv2D,
    Conv2DTranspose,
    Conv3D,
    Conv3DTranspose,
    Dense,
    DepthwiseConv1D,
    DepthwiseConv2D,
    EinsumDense,
    Embedding,
    SeparableConv1D,
    SeparableConv2D,
)
from snip_tf.layers.recurrent import (
    GRU,
    LSTM,
    GRUCell,
    LSTMCell,
    SimpleRNN,
    SimpleRNNCell,
)

__all__ = [
    "Conv1D",
    "Conv1DTranspose",
    "Conv2D",
    "Conv2DTranspose",
    "Conv3D",
    "Conv3DTranspose",
    "Dense",
    "DepthwiseConv1D",
    "DepthwiseConv2D",
    "EinsumDense",
    "Embedding",
    "GRU",
    "GRUCell",
    "LSTM",
    "LSTMCell",
    "MASKED_CLASSES",
    "MaskedLayer",
    "MultiHeadAttention",
    "SeparableConv1D",
    "SeparableConv2D",
    "SimpleRNN",
    "SimpleRNNCell",
    "masked_layers",
    "masked_weights",
    "stock_class_of",
]
