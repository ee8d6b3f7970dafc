"""Keras layers whose weights carry a mask.

A masked layer *is* its stock Keras layer: the same constructor (plus
`mask_bias`), the same `call`. Only reading a weight differs: `layer.kernel` is
`kernel * mask`, with a float32 mask of zeros and ones that is saved with the
layer and never trained. The masks are the indicator variables c of Lee et al.
2019, eq. 3.
"""

import functools
import types

import keras
from keras import ops

# The only place that relies on how Keras stores weights: a stock layer has the
# weight `name` either as the attribute `_name`, behind a property that is
# called `name`, or as the plain attribute `name`.
_STORED = "_{}".format
_MASK = "{}_mask".format


def _masked_weight(stock_class, name):
    """Returns the property that reads as weight * mask.

    Where the stock class has a property of that name it is asked for the
    weight, so that its own additions (LoRA) stay; where the stock layer
    assigns a plain attribute, the setter stores it under the private name.
    """
    stock = getattr(stock_class, name, None)

    def read(layer):
        if isinstance(stock, property):
            weight = stock.fget(layer)
        else:
            weight = getattr(layer, _STORED(name))
        mask = getattr(layer, _MASK(name), None)
        if mask is None:  # no bias, a bias that is not masked, not built yet
            return weight
        if name in layer._effective:
            return layer._effective[name]
        weight = ops.convert_to_tensor(weight)
        return weight * ops.cast(mask, weight.dtype)

    def write(layer, weight):
        setattr(layer, _STORED(name), weight)

    return property(read, write, doc=f"The effective `{name}`: weight * mask.")


def _build_with_masks(stock_class):
    """Returns the stock `build`, after which every weight has its mask."""

    # Keras reads the signature of `build` to know which shapes to pass.
    @functools.wraps(stock_class.build)
    def build(layer, *args, **kwargs):
        alpha = getattr(layer, "lora_alpha", None)
        stock_class.build(layer, *args, **kwargs)
        if alpha is not None:  # the stock build forgets it
            layer.lora_alpha = alpha
        layer._add_masks()

    return build


class MaskedLayer:
    """What all masked layers share; comes before the stock class in the MRO.

    Args:
        mask_bias: Whether the bias has a mask too and counts as prunable. Off
            by default, since a layer has few biases and they cost nothing;
            the networks of the paper count and prune them.
    """

    # Names of the weights with a mask, the bias aside.
    _weight_names = ()
    # The axes of a kernel that count its input and its output units; of a
    # depthwise kernel each (channel, multiple) is an output. None if unknown.
    _input_axes, _output_axes = (-2,), (-1,)
    # What reads as weight * mask while a recurrent layer runs over time.
    _effective = types.MappingProxyType({})

    def __init__(self, *args, mask_bias=False, **kwargs):
        super().__init__(*args, **kwargs)
        self.mask_bias = bool(mask_bias)

    def _add_masks(self):
        names = self._weight_names + ("bias",) * self.mask_bias
        self._tracker.unlock()  # a stock `build` with LoRA locks it
        for name in names:
            # An embedding has no bias at all; other layers may have None.
            weight = getattr(self, _STORED(name), None)
            if weight is None:
                continue
            mask = self.add_weight(
                name=_MASK(name),
                shape=weight.shape,
                initializer="ones",
                dtype="float32",
                autocast=False,
                trainable=False,
            )
            setattr(self, _MASK(name), mask)

    def masked_weights(self):
        """Returns the (weight, mask) variable pairs: kernels first, then bias.

        Both are `keras.Variable`s of the same shape. Empty before the layer
        is built.
        """
        return [
            (getattr(self, _STORED(name)), getattr(self, _MASK(name)))
            for name in self._masked_names()
        ]

    def _masked_names(self):
        return [
            name
            for name in (*self._weight_names, "bias")
            if getattr(self, _MASK(name), None) is not None
        ]

    def unit_axes(self, weight):
        """Returns (input axes, output axes) of a masked weight, or None.

        None for a bias, and where an equation says what the axes mean.
        """
        if weight.name == "bias" or self._input_axes is None:
            return None
        if weight.name == "depthwise_kernel":
            return (-2,), (-2, -1)
        return self._input_axes, self._output_axes

    def stock_weights(self):
        """Returns (weight, value) pairs: what the stock layer is to store."""
        return [
            (getattr(self, _STORED(name)), getattr(self, name))
            for name in self._masked_names()
        ]

    def lora_weights(self):
        """Returns the weights of LoRA, which `stock_weights` has merged."""
        return [
            weight
            for weight in self._trainable_variables
            if weight.name.startswith("lora_")
        ]

    def get_config(self):
        """Returns the stock config with `mask_bias`."""
        return {**super().get_config(), "mask_bias": self.mask_bias}

    def save_own_variables(self, store):
        """Stores all variables as they are, masks included.

        Some stock layers override this to store the weight that they read,
        which would be weight * mask, without the mask.
        """
        keras.layers.Layer.save_own_variables(self, store)

    def load_own_variables(self, store):
        """Loads what `save_own_variables` stored, or the stock layer's.

        What a stock layer stored has no masks: all weights are then kept.
        """
        masks = [mask for _, mask in self.masked_weights()]
        weights = [
            variable
            for variable in self._trainable_variables
            + self._non_trainable_variables
            if not any(variable is mask for mask in masks)
        ]
        if not masks or len(store.keys()) != len(weights):
            keras.layers.Layer.load_own_variables(self, store)
            return
        for index, weight in enumerate(weights):
            weight.assign(store[f"{index}"])
        for mask in masks:
            mask.assign(ops.ones(mask.shape))


# All masked layer classes, in the order of this file.
MASKED_CLASSES = []


def _register(layer_class):
    MASKED_CLASSES.append(layer_class)
    register = keras.saving.register_keras_serializable(package="snip_tf")
    return register(layer_class)


def _masks(*weight_names):
    """Decorates a masked layer class: which weights have a mask."""

    def decorate(layer_class):
        stock_class = stock_class_of(layer_class)
        layer_class._weight_names = weight_names
        layer_class.build = _build_with_masks(stock_class)
        for name in (*weight_names, "bias"):
            setattr(layer_class, name, _masked_weight(stock_class, name))
        return _register(layer_class)

    return decorate


def masked_layers(model):
    """Returns the masked layers of a model, nested ones included, in order.

    Raises:
        ValueError: If the model has none, or has not built them yet.
    """
    found, seen = [], set()

    def walk(layer):
        if id(layer) in seen:
            return
        seen.add(id(layer))
        if isinstance(layer, MaskedLayer):
            found.append(layer)
        for sublayer in layer._layers:
            walk(sublayer)

    walk(model)
    if not any(layer.masked_weights() for layer in found):
        raise ValueError(
            "`model` must be built and have at least one layer with a mask: "
            "use the layers of `snip_tf.layers` or a network of "
            f"`snip_tf.models`. Received: model={model.name!r} with "
            f"{len(found)} masked layers, built={model.built}"
        )
    return found


def masked_weights(model):
    """Returns all (weight, mask) variable pairs of a model, layer by layer."""
    return [
        pair
        for layer in masked_layers(model)
        for pair in layer.masked_weights()
    ]


def weights_without_masks(model):
    """Returns the model's weights but the masks, in the order of Keras.

    It is that of the same model of stock layers: within a layer the masks
    come last.
    """
    masks = {id(mask) for _, mask in masked_weights(model)}
    return [weight for weight in model.weights if id(weight) not in masks]


def stock_class_of(layer_class):
    """Returns the stock Keras class that a masked layer class derives from."""
    bases = layer_class.__mro__
    return bases[bases.index(MaskedLayer) + 1]


@_masks("kernel")
class Dense(MaskedLayer, keras.layers.Dense):
    """`keras.layers.Dense` with a mask on its kernel."""


@_masks("kernel")
class EinsumDense(MaskedLayer, keras.layers.EinsumDense):
    """`keras.layers.EinsumDense` with a mask on its kernel."""

    _input_axes = _output_axes = None


@_masks("embeddings")
class Embedding(MaskedLayer, keras.layers.Embedding):
    """`keras.layers.Embedding` with a mask on its embeddings."""

    def __init__(self, *args, weights=None, **kwargs):
        super().__init__(*args, **kwargs)
        if weights is not None:  # the stock layer would ask for the mask too
            self.build()
            is_list = isinstance(weights, (list, tuple)) and len(weights) == 1
            self._embeddings.assign(weights[0] if is_list else weights)

    def enable_lora(self, *args, **kwargs):
        """Enables LoRA as the stock layer does."""
        super().enable_lora(*args, **kwargs)
        self._embeddings.trainable = False  # not of what is read: weight * mask


@_masks("kernel")
class Conv1D(MaskedLayer, keras.layers.Conv1D):
    """`keras.layers.Conv1D` with a mask on its kernel."""


@_masks("kernel")
class Conv2D(MaskedLayer, keras.layers.Conv2D):
    """`keras.layers.Conv2D` with a mask on its kernel."""


@_masks("kernel")
class Conv3D(MaskedLayer, keras.layers.Conv3D):
    """`keras.layers.Conv3D` with a mask on its kernel."""


@_masks("kernel")
class Conv1DTranspose(MaskedLayer, keras.layers.Conv1DTranspose):
    """`keras.layers.Conv1DTranspose` with a mask on its kernel."""

    _input_axes, _output_axes = (-1,), (-2,)


@_masks("kernel")
class Conv2DTranspose(MaskedLayer, keras.layers.Conv2DTranspose):
    """`keras.layers.Conv2DTranspose` with a mask on its kernel."""

    _input_axes, _output_axes = (-1,), (-2,)


@_masks("kernel")
class Conv3DTranspose(MaskedLayer, keras.layers.Conv3DTranspose):
    """`keras.layers.Conv3DTranspose` with a mask on its kernel."""

    _input_axes, _output_axes = (-1,), (-2,)


@_masks("kernel")
class DepthwiseConv1D(MaskedLayer, keras.layers.DepthwiseConv1D):
    """`keras.layers.DepthwiseConv1D` with a mask on its kernel."""

    _output_axes = (-2, -1)


@_masks("kernel")
class DepthwiseConv2D(MaskedLayer, keras.layers.DepthwiseConv2D):
    """`keras.layers.DepthwiseConv2D` with a mask on its kernel."""

    _output_axes = (-2, -1)


@_masks("depthwise_kernel", "pointwise_kernel")
class SeparableConv1D(MaskedLayer, keras.layers.SeparableConv1D):
    """`keras.layers.SeparableConv1D` with a mask on both kernels."""


@_masks("depthwise_kernel", "pointwise_kernel")
class SeparableConv2D(MaskedLayer, keras.layers.SeparableConv2D):
    """`keras.layers.SeparableConv2D` with a mask on both kernels."""


@_masks("kernel", "recurrent_kernel")
class SimpleRNNCell(MaskedLayer, keras.layers.SimpleRNNCell):
    """`keras.layers.SimpleRNNCell` with a mask on both kernels."""


@_masks("kernel", "recurrent_kernel")
class LSTMCell(MaskedLayer, keras.layers.LSTMCell):
    """`keras.layers.LSTMCell` with a mask on both kernels."""


@_masks("kernel", "recurrent_kernel")
class GRUCell(MaskedLayer, keras.layers.GRUCell):
    """`keras.layers.GRUCell` with a mask on both kernels."""


class MaskedRecurrent(MaskedLayer):
    """A stock recurrent layer around a masked cell; the cell has the masks.

    The layer stays the stock one, so that cuDNN still serves where it can.
    """

    _cell_class = None

    def __init__(self, *args, mask_bias=False, **kwargs):
        super().__init__(*args, mask_bias=mask_bias, **kwargs)
        stock = self.cell
        self._tracker.untrack(stock)
        self.cell = self._cell_class.from_config(
            {**stock.get_config(), "mask_bias": mask_bias}
        )

    def inner_loop(self, *args, **kwargs):
        """Runs the stock loop with each weight masked once, not every step."""
        cell = self.cell
        names = (*cell._weight_names, "bias")
        # In the instance's dict, as Keras would track and lock an attribute.
        cell.__dict__["_effective"] = {
            name: getattr(cell, name)
            for name in names
            if getattr(cell, _MASK(name), None) is not None
        }
        try:
            return super().inner_loop(*args, **kwargs)
        finally:
            del cell.__dict__["_effective"]


def _recurrent(cell_class):
    """Decorates a masked recurrent layer: its cell, and its serial name."""

    def decorate(layer_class):
        layer_class._cell_class = cell_class
        return _register(layer_class)

    return decorate


@_recurrent(SimpleRNNCell)
class SimpleRNN(MaskedRecurrent, keras.layers.SimpleRNN):
    """`keras.layers.SimpleRNN` with a mask on both kernels of its cell."""


@_recurrent(LSTMCell)
class LSTM(MaskedRecurrent, keras.layers.LSTM):
    """`keras.layers.LSTM` with a mask on both kernels of its cell."""


@_recurrent(GRUCell)
class GRU(MaskedRecurrent, keras.layers.GRU):
    """`keras.layers.GRU` with a mask on both kernels of its cell."""


# Keras makes these projections, in this order, when it builds the layer;
# `_gate_dense` under an option only.
_PROJECTIONS = (
    "_query_dense",
    "_key_dense",
    "_gate_dense",
    "_value_dense",
    "_output_dense",
)


@_register
class MultiHeadAttention(MaskedLayer, keras.layers.MultiHeadAttention):
    """`keras.layers.MultiHeadAttention` with masks on all its projections."""

    @functools.wraps(keras.layers.MultiHeadAttention.build)
    def build(self, *args, **kwargs):
        """Builds the stock layer, then puts masked projections in place."""
        super().build(*args, **kwargs)
        for name in _PROJECTIONS:
            stock = getattr(self, name, None)
            if stock is None:
                continue
            self._tracker.untrack(stock)
            masked = EinsumDense.from_config(
                {**stock.get_config(), "mask_bias": self.mask_bias}
            )
            masked.build_from_config(stock.get_build_config())
            setattr(self, name, masked)
