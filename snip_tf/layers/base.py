"""What a masked layer is: a stock Keras layer that reads weight * mask.

The constructor (plus `mask_bias`), `call` and the config are those of the stock
layer. Only reading a weight differs: `layer.kernel` is `kernel * mask`, with a
float32 mask of zeros and ones that is saved with the layer and never trained.
The masks are the indicator variables c of Lee et al. 2019, eq. 3.
"""

import functools

import keras
from keras import ops

from snip_tf import _keras

# All masked layer classes, in the order in which they are defined.
MASKED_CLASSES = []


# The attribute in which a masked layer stores the weight `name`: a stock layer
# stores it there too, behind a property, or in the plain attribute `name`.
stored = "_{}".format
# The attribute, and the variable's name, of its mask.
mask_of = "{}_mask".format


class MaskedLayer:
    """What all masked layers share; comes before the stock class in the MRO.

    Args:
        mask_bias: Whether the bias has a mask too and counts as prunable. Off
            by default, since a layer has few biases and they cost nothing;
            the networks of the paper count and prune them.
    """

    # Names of the weights with a mask, the bias aside.
    weight_names = ()
    # The axes of a kernel that count its input and its output units; of a
    # depthwise kernel each (channel, multiple) is an output.
    input_axes, output_axes = (-2,), (-1,)

    def __init__(self, *args, mask_bias=False, **kwargs):
        super().__init__(*args, **kwargs)
        self.mask_bias = bool(mask_bias)

    def read(self, name):
        """Returns the weight that the layer computes with: weight * mask.

        A subclass, or a method of pruning by `overriding.overridden`, may read
        it in another way.
        """
        weight = getattr(self, stored(name))
        mask = getattr(self, mask_of(name), None)
        if mask is None:  # no bias, a bias that is not masked, not built yet
            return weight
        weight = ops.convert_to_tensor(weight)
        return weight * ops.cast(mask, weight.dtype)

    def add_masks(self):
        """Adds a mask of ones for each weight; the layer has built them."""
        for name in (*self.weight_names, *["bias"] * self.mask_bias):
            weight = getattr(self, stored(name), None)
            if weight is None:  # no bias
                continue
            mask = _keras.unlocked(self).add_weight(
                name=mask_of(name),
                shape=weight.shape,
                initializer="ones",
                dtype="float32",
                autocast=False,
                trainable=False,
            )
            _keras.place_alike(mask, weight)
            setattr(self, mask_of(name), mask)

    def masked_names(self):
        """Returns the names of the weights that have a mask: the bias last."""
        return [
            name
            for name in (*self.weight_names, "bias")
            if getattr(self, mask_of(name), None) is not None
        ]

    def masked_weights(self):
        """Returns the (weight, mask) variable pairs: kernels first, then bias.

        Both are variables of one shape. Empty before the layer is built.
        """
        return [
            (getattr(self, stored(name)), getattr(self, mask_of(name)))
            for name in self.masked_names()
        ]

    def unit_axes(self, weight):
        """Returns (input axes, output axes) of a kernel, None for a bias."""
        if weight.name == "bias":
            return None
        if weight.name == "depthwise_kernel":
            return (-2,), (-2, -1)
        return self.input_axes, self.output_axes

    def get_config(self):
        """Returns the stock config with `mask_bias`."""
        return {**super().get_config(), "mask_bias": self.mask_bias}

    def enable_lora(self, *args, **kwargs):
        """Refuses: LoRA adds to a weight where removed ones must stay zero."""
        raise ValueError(
            "A masked layer takes no LoRA: prune, `strip` the model, then "
            f"enable it. Received: layer={self.name!r}"
        )

    # Some stock layers override both to store the weight that they read, which
    # would be weight * mask, without the mask.
    def save_own_variables(self, store):
        """Stores all variables as they are, masks included."""
        keras.layers.Layer.save_own_variables(self, store)

    def load_own_variables(self, store):
        """Loads what `save_own_variables` stored."""
        keras.layers.Layer.load_own_variables(self, store)


def stock_class_of(layer_class):
    """Returns the stock Keras class that a masked layer class derives from."""
    bases = layer_class.__mro__
    return bases[bases.index(MaskedLayer) + 1]


def register(layer_class):
    """Decorates a masked layer class: known to Keras' files and to `masked`."""
    MASKED_CLASSES.append(layer_class)
    return keras.saving.register_keras_serializable("snip_tf")(layer_class)


def masks(*weight_names):
    """Decorates a masked layer class: which weights, bias aside, have masks.

    This is all that a new layer needs:

        @masks("kernel")
        class Dense(MaskedLayer, keras.layers.Dense):
            pass
    """

    def decorate(layer_class):
        layer_class.weight_names = weight_names
        stock_class = stock_class_of(layer_class)

        # Keras reads the signature of `build` to know which shapes to pass.
        @functools.wraps(stock_class.build)
        def build(layer, *args, **kwargs):
            stock_class.build(layer, *args, **kwargs)
            layer.add_masks()

        layer_class.build = build
        for name in (*weight_names, "bias"):
            setattr(layer_class, name, _masked_weight(name))
        return register(layer_class)

    return decorate


def _masked_weight(name):
    """Returns the property of a weight: what is read is not what is stored."""
    return property(
        lambda layer: layer.read(name),
        lambda layer, weight: setattr(layer, stored(name), weight),
        doc=f"The effective `{name}`: weight * mask.",
    )


def masked_layers(model):
    """Returns the masked layers of a model, nested ones included, in order.

    Raises:
        ValueError: If the model has none, or has not built them yet.
    """
    found = [
        layer
        for layer in _keras.all_layers(model)
        if isinstance(layer, MaskedLayer)
    ]
    if not any(layer.masked_weights() for layer in found):
        raise ValueError(
            "`model` must be built and have at least one layer with a mask: "
            "call `snip_tf.masked` on it, or use the layers of "
            f"`snip_tf.layers`. Received: model={model.name!r} with "
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
