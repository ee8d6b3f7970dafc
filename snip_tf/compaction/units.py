"""How each kind of layer passes on the units (channels) of its input.

For `compact`: which output units are constants, which input units are needed,
and what the layer is without the others. A rule per kind of layer; a layer
without a rule is left whole.
"""

import keras
import numpy as np

from snip_tf import layers

# Activations that act on each unit by itself.
_ELEMENTWISE = {
    "celu",
    "elu",
    "exponential",
    "gelu",
    "hard_shrink",
    "hard_sigmoid",
    "hard_silu",
    "hard_tanh",
    "leaky_relu",
    "linear",
    "log_sigmoid",
    "mish",
    "relu",
    "relu6",
    "selu",
    "sigmoid",
    "silu",
    "soft_shrink",
    "softplus",
    "softsign",
    "squareplus",
    "tanh",
    "tanh_shrink",
    "threshold",
}


class Opaque:
    """A layer that is left whole; also the base of the rules.

    Units are along the last axis. A constant is the value of a unit that is
    the same at all positions and for all inputs, NaN where there is none.

    Attributes:
        layer: The layer.
        training: Whether what is removed must stay removable in training.
        shared: Whether the layer is called more than once.
        whole: Whether all its inputs and outputs stay.
        whole_outputs: Whether all its outputs stay.
        has_inputs_of_its_own: Whether it can take a selection of its inputs.
        needed: Which input units any of its calls needs, once that is known.
    """

    whole = whole_outputs = True
    has_inputs_of_its_own = False

    def __init__(self, layer, *, training=False, shared=False):
        self.layer = layer
        self.training = training
        self.shared = shared
        self.needed = None

    def output_units(self, ties, inputs, output_size, positions):
        """Returns the units of an output, tied to those of the inputs."""
        return ties.fresh(output_size)

    def constants(self, inputs, output_size, positions):
        """Returns the constants of the output, given those of the inputs."""
        return np.full(output_size, np.nan)

    def needs(self, needed, inputs):
        """Returns per input which of its units the needed outputs need."""
        return [np.ones(len(constants), bool) for constants in inputs]

    def with_own_needs(self, needed):
        """Returns the needed outputs with those that they need themselves."""
        return needed

    def smaller(self, inputs, outputs):
        """Returns (layer, values by weight name) for these units alone."""
        return self.layer, {}


class _Weighted(Opaque):
    """What the rules of layers with weights share."""

    whole = whole_outputs = False

    def __init__(self, layer, **options):
        super().__init__(layer, **options)
        values = {
            variable.name: keras.ops.convert_to_numpy(variable)
            for variable in layer.weights
        }
        self.masks = {
            name: values.pop(f"{name}_mask")
            for name in tuple(values)
            if f"{name}_mask" in values
        }
        self.values = {
            name: value * self.masks.get(name, 1)
            for name, value in values.items()
        }

    def live(self, name):
        """Returns which entries of a weight are, or can become, not zero."""
        if self.training and self.layer.trainable:
            ones = np.ones(self.values[name].shape, bool)
            return self.masks.get(name, ones) != 0
        return self.values[name] != 0

    def output_units(self, ties, inputs, output_size, positions):
        if not self.shared:
            return ties.fresh(output_size)
        if not hasattr(self, "ends"):
            self.ends = inputs[0], ties.fresh(output_size)
        ties.tie(self.ends[0], inputs[0])
        return self.ends[1]

    def rebuilt(self, values, **config):
        """Returns (layer, values) of another config, with masks to match."""
        config = {**self.layer.get_config(), **config}
        masks = {f"{name}_mask": mask for name, mask in self._masks_of(values)}
        return type(self.layer).from_config(config), {**values, **masks}

    def _masks_of(self, values):
        for name, mask in self.masks.items():
            kept = values.get(f"{name}_mask", mask)
            # What was folded in may fall on an entry that was removed.
            yield name, np.maximum(kept, values[name] != 0)

    def usable(self, constants, folds):
        """Returns the constants that can be taken out of the layer's input."""
        if self.training or self.shared or not folds:
            return np.where(constants == 0, 0.0, np.nan)
        return constants

    def as_constants(self, dead, values):
        """Returns the constants of outputs: activated values where dead."""
        activation = self.layer.activation
        if not is_elementwise(activation):
            return np.full(len(dead), np.nan)
        values = np.asarray(values, np.float32)
        values = keras.ops.convert_to_numpy(
            activation(keras.ops.convert_to_tensor(values))
        ).astype(np.float64)
        if self.training:
            dead = dead & (values == 0)
            if "bias" in self.values:
                dead = dead & ~self.live("bias")
        return np.where(dead, values, np.nan)


def is_elementwise(activation):
    """Returns whether an activation acts on each unit by itself."""
    name = keras.activations.serialize(activation)
    if not isinstance(name, str) or name not in _ELEMENTWISE:
        return False
    return (
        keras.activations.get(name) is activation
    )  # not one's own of the name


class _Kernel(_Weighted):
    """Dense layers and convolutions: outputs of their own."""

    def __init__(self, layer, **options):
        super().__init__(layer, **options)
        transposed = isinstance(
            layer,
            (
                keras.layers.Conv1DTranspose,
                keras.layers.Conv2DTranspose,
                keras.layers.Conv3DTranspose,
            ),
        )
        self.is_dense = isinstance(layer, keras.layers.Dense)
        self.has_inputs_of_its_own = self.is_dense
        # A padded convolution sees a constant as none at its border.
        self.folds = self.is_dense or (
            not transposed
            and (layer.padding == "valid" or set(layer.kernel_size) == {1})
        )
        self.whole_outputs = not is_elementwise(layer.activation)
        self.swap = transposed
        self.kernel = self._turned(self.values["kernel"]).astype(np.float64)
        live = self._turned(self.live("kernel"))
        self.connected = live.reshape(-1, *live.shape[-2:]).any(axis=0)
        self.summed = self.kernel.reshape(-1, *live.shape[-2:]).sum(axis=0)
        self.given = np.full(len(self.summed), np.nan)
        self.stand_in = None  # (unit, the constants that it stands for)

    def _turned(self, kernel):
        """Returns a kernel of (..., inputs, outputs), or back again."""
        return np.swapaxes(kernel, -1, -2) if self.swap else kernel

    def constants(self, inputs, output_size, positions):
        usable = self.usable(inputs[0], self.folds)
        dead = ~self.connected[np.isnan(usable)].any(axis=0)
        values = np.nan_to_num(usable) @ self.summed
        values = values + self.values.get("bias", 0)
        if not self.shared:
            self.given = usable
        return self.as_constants(dead, values)

    def needs(self, needed, inputs):
        wanted = self.connected[:, needed].any(axis=1)
        usable = self.usable(inputs[0], self.folds)
        needs = wanted & np.isnan(usable)
        known = needs & ~np.isnan(inputs[0])
        if known.any() and not (self.training or self.shared):
            # At the border a constant is none, but all of them are multiples
            # of one, which can stand for them all.
            sizes = np.where(known, np.abs(inputs[0]), 0)
            unit = int(sizes.argmax())
            self.stand_in = unit, np.where(known, inputs[0], 0.0)
            needs[known] = False
            needs[unit] = True
        return [needs]

    def smaller(self, inputs, outputs):
        kernel, bias = self.kernel.copy(), self.values.get("bias")
        if self.stand_in:
            unit, known = self.stand_in
            factors = np.where(inputs, 0, known / known[unit])
            kernel[..., unit, :] += np.einsum("i,...io->...o", factors, kernel)
        folded = np.where(inputs, 0, np.nan_to_num(self.given)) @ self.summed
        if bias is None and folded[outputs].any():
            bias = np.zeros(len(folded))
        values = {"kernel": self._cut(kernel, inputs, outputs)}
        if "kernel" in self.masks:
            mask = self._turned(self.masks["kernel"])
            values["kernel_mask"] = self._cut(mask, inputs, outputs)
        if bias is not None:
            values["bias"] = (bias + folded)[outputs]
        if "bias" in self.masks:
            values["bias_mask"] = self.masks["bias"][outputs]
        size = "units" if self.is_dense else "filters"
        return self.rebuilt(
            values, use_bias=bias is not None, **{size: int(outputs.sum())}
        )

    def _cut(self, kernel, inputs, outputs):
        return self._turned(kernel[..., inputs, :][..., outputs])


class _Separable(_Weighted):
    """Depthwise, then 1x1: like a convolution of which zeros are folded."""

    def __init__(self, layer, **options):
        super().__init__(layer, **options)
        self.whole_outputs = not is_elementwise(layer.activation)
        depthwise = self.live("depthwise_kernel")
        channels, multiples = depthwise.shape[-2:]
        depthwise = depthwise.reshape(-1, channels, multiples).any(axis=0)
        pointwise = self.live("pointwise_kernel")
        pointwise = pointwise.reshape(channels, multiples, -1)
        self.multiples = multiples
        self.connected = np.einsum("cm,cmo->co", depthwise, pointwise) != 0

    def constants(self, inputs, output_size, positions):
        dead = ~self.connected[inputs[0] != 0].any(axis=0)
        values = np.zeros(output_size) + self.values.get("bias", 0)
        return self.as_constants(dead, values)

    def needs(self, needed, inputs):
        return [self.connected[:, needed].any(axis=1) & (inputs[0] != 0)]

    def smaller(self, inputs, outputs):
        rows = np.repeat(inputs, self.multiples)
        cuts = {
            "depthwise_kernel": lambda value: value[..., inputs, :],
            "pointwise_kernel": lambda value: value[..., rows, :][..., outputs],
            "bias": lambda value: value[outputs],
        }
        values = {name: cuts[name](self.values[name]) for name in self.values}
        for name, mask in self.masks.items():
            values[f"{name}_mask"] = cuts[name](mask)
        return self.rebuilt(values, filters=int(outputs.sum()))


class _Passing(Opaque):
    """Layers whose output units are those of the input."""

    whole = whole_outputs = False

    def output_units(self, ties, inputs, output_size, positions):
        return inputs[0]

    def needs(self, needed, inputs):
        return [needed for _ in inputs]

    def smaller(self, inputs, outputs):
        if not isinstance(self.layer, keras.layers.Layer):
            return self.layer, {}  # an operation, such as keras.ops.relu
        return type(self.layer).from_config(self.layer.get_config()), {}


class _Depthwise(_Weighted):
    """Depthwise convolutions: each output belongs to one input."""

    def __init__(self, layer, **options):
        super().__init__(layer, **options)
        self.multiples = layer.depth_multiplier
        self.whole_outputs = not is_elementwise(layer.activation)
        kernel = self.values["kernel"].astype(np.float64)
        self.summed = kernel.reshape(-1, *kernel.shape[-2:]).sum(axis=0)
        live = self.live("kernel")
        self.connected = live.reshape(-1, *live.shape[-2:]).any(axis=0)

    def output_units(self, ties, inputs, output_size, positions):
        if self.shared:
            super().output_units(ties, inputs, output_size, positions)
        return np.repeat(inputs[0], self.multiples)

    def constants(self, inputs, output_size, positions):
        usable = self.usable(inputs[0], self.layer.padding == "valid")
        dead = ~(np.isnan(usable)[:, None] & self.connected)
        values = (np.nan_to_num(usable)[:, None] * self.summed).ravel()
        values = values + self.values.get("bias", 0)
        return self.as_constants(dead.ravel(), values)

    def needs(self, needed, inputs):
        needed = needed.reshape(-1, self.multiples)
        return [(self.connected & needed).any(axis=1)]

    def smaller(self, inputs, outputs):
        def cut(name, value):
            return value[outputs] if name == "bias" else value[..., inputs, :]

        values = {name: cut(name, self.values[name]) for name in self.values}
        for name, mask in self.masks.items():
            values[f"{name}_mask"] = cut(name, mask)
        return self.rebuilt(values)


class _BatchNorm(_Weighted):
    """Batch normalisation of the last axis."""

    def output_units(self, ties, inputs, output_size, positions):
        if self.shared:
            super().output_units(ties, inputs, output_size, positions)
        return inputs[0]

    def constants(self, inputs, output_size, positions):
        if self.training and self.layer.center:
            return np.full(output_size, np.nan)
        return evaluated(self.layer, inputs, self.layer.input_spec.ndim)

    def needs(self, needed, inputs):
        return [needed]

    def smaller(self, inputs, outputs):
        values = {name: value[outputs] for name, value in self.values.items()}
        return self.rebuilt(values)


class _Elementwise(_Passing):
    """Layers that act on each number by itself; noise only in training."""

    def constants(self, inputs, output_size, positions):
        if self.training:
            values = evaluated(self.layer, inputs, 2)
            return np.where(values == 0, values, np.nan)
        return evaluated(self.layer, inputs, 2)


class _Noise(_Passing):
    """Additive noise: nothing in inference, and no constant in training."""

    def constants(self, inputs, output_size, positions):
        return np.full(output_size, np.nan) if self.training else inputs[0]


class _Pooling(_Passing):
    """Pooling, up-sampling, cropping: a constant stays one."""

    def constants(self, inputs, output_size, positions):
        return inputs[0]


class _ZeroPadding(_Passing):
    """Zero padding: zero stays zero."""

    def constants(self, inputs, output_size, positions):
        return np.where(inputs[0] == 0, 0.0, np.nan)


class _Flattening(_Passing):
    """Flatten: every position of a channel becomes a unit."""

    def output_units(self, ties, inputs, output_size, positions):
        return np.tile(inputs[0], positions)

    def constants(self, inputs, output_size, positions):
        return np.tile(inputs[0], positions)

    def needs(self, needed, inputs):
        return [needed.reshape(-1, len(inputs[0])).any(axis=0)]


class _Joining(_Passing):
    """Concatenate along the units."""

    def output_units(self, ties, inputs, output_size, positions):
        return np.concatenate(inputs)

    def constants(self, inputs, output_size, positions):
        return np.concatenate(inputs)

    def needs(self, needed, inputs):
        ends = np.cumsum([len(constants) for constants in inputs])
        return np.split(needed, ends[:-1])


class _Merging(_Passing):
    """Add and the like: a unit goes only where all branches agree."""

    def output_units(self, ties, inputs, output_size, positions):
        for other in inputs[1:]:
            ties.tie(inputs[0], other)
        return inputs[0]

    def constants(self, inputs, output_size, positions):
        is_layer = isinstance(self.layer, keras.layers.Layer)
        values = evaluated(self.layer, inputs, 2, as_list=is_layer)
        return np.where(values == 0, 0.0, np.nan) if self.training else values


class _Stacking(_Merging):
    """Concatenate along another axis than the units."""

    def constants(self, inputs, output_size, positions):
        same = np.logical_and.reduce([c == inputs[0] for c in inputs])
        return np.where(same, inputs[0], np.nan)


class _Recurrent(_Weighted):
    """SimpleRNN, LSTM and GRU: units that also feed each other."""

    has_inputs_of_its_own = True
    # The gate that a unit's new content comes through: of zero, zero stays.
    _CONTENT = {"LSTM": (4, 2), "GRU": (3, 2), "SimpleRNN": (1, 0)}

    def __init__(self, layer, **options):
        super().__init__(layer, **options)
        stock = type(layer)
        if isinstance(layer, layers.MaskedLayer):
            stock = layers.stock_class_of(stock)
        self.gates, self.content = self._CONTENT[stock.__name__]
        self.kernel = self._by_gate(self.live("kernel"))
        self.recurrent = self._by_gate(self.live("recurrent_kernel"))
        self.zero = None  # which units stay zero, at every call

    def _by_gate(self, weight):
        return weight.reshape(*weight.shape[:-1], self.gates, -1)

    def constants(self, inputs, output_size, positions):
        content = self.content
        zero = ~self.kernel[inputs[0] != 0, content].any(axis=0)
        if "bias" in self.values:
            bias = self._by_gate(self.live("bias"))[..., content, :]
            zero &= ~bias.reshape(-1, output_size).any(axis=0)
        if not is_zero_at_zero(self.layer.activation):
            zero[:] = False
        before = None
        while before != zero.sum():
            before = zero.sum()
            zero &= ~self.recurrent[~zero, content].any(axis=0)
        self.zero = zero if self.zero is None else self.zero & zero
        return np.where(zero, 0.0, np.nan)

    def with_own_needs(self, needed):
        feeding = self.recurrent.any(axis=1) & ~self.zero[:, None]
        before = None
        while before != needed.sum():
            before = needed.sum()
            needed = needed | feeding[:, needed & ~self.zero].any(axis=1)
        return needed

    def needs(self, needed, inputs):
        needed = needed & ~self.zero
        wanted = self.kernel.any(axis=1)[:, needed].any(axis=1)
        return [wanted & (inputs[0] != 0)]

    def smaller(self, inputs, outputs):
        def cut(name, value):
            value = self._by_gate(value)[..., outputs]
            if name == "kernel":
                value = value[inputs]
            if name == "recurrent_kernel":
                value = value[outputs]
            return value.reshape(*value.shape[:-2], -1)

        values = {name: cut(name, self.values[name]) for name in self.values}
        for name, mask in self.masks.items():
            values[f"{name}_mask"] = cut(name, mask)
        return self.rebuilt(values, units=int(outputs.sum()))


def is_zero_at_zero(activation):
    """Returns whether an activation of single units maps zero to zero."""
    zero = keras.ops.convert_to_numpy(activation(keras.ops.zeros((1, 2))))
    return is_elementwise(activation) and not zero.any()


def evaluated(layer, inputs, rank, as_list=False):
    """Returns what a layer makes of constants, NaN of those that are none."""
    unknown = np.logical_or.reduce([np.isnan(values) for values in inputs])
    tensors = [
        keras.ops.convert_to_tensor(
            np.nan_to_num(values).reshape(*[1] * (rank - 1), -1), "float32"
        )
        for values in inputs
    ]
    outputs = layer(tensors) if as_list else layer(*tensors)
    values = keras.ops.convert_to_numpy(outputs).astype(np.float64).ravel()
    return np.where(unknown, np.nan, values)


# By name of the stock layer; n stands for 1D, 2D and 3D.
_RULES = {
    "Dense": _Kernel,
    "Conv{n}": _Kernel,
    "Conv{n}Transpose": _Kernel,
    "SeparableConv{n}": _Separable,
    "DepthwiseConv{n}": _Depthwise,
    "SimpleRNN": _Recurrent,
    "LSTM": _Recurrent,
    "GRU": _Recurrent,
    "BatchNormalization": _BatchNorm,
    "Activation": _Elementwise,
    "ReLU": _Elementwise,
    "LeakyReLU": _Elementwise,
    "ELU": _Elementwise,
    "Identity": _Elementwise,
    "GaussianNoise": _Noise,
    "Dropout": _Pooling,
    "SpatialDropout{n}": _Pooling,
    "MaxPooling{n}": _Pooling,
    "AveragePooling{n}": _Pooling,
    "GlobalMaxPooling{n}": _Pooling,
    "GlobalAveragePooling{n}": _Pooling,
    "UpSampling{n}": _Pooling,
    "Cropping{n}": _Pooling,
    "ZeroPadding{n}": _ZeroPadding,
    "Flatten": _Flattening,
    "Add": _Merging,
    "Subtract": _Merging,
    "Multiply": _Merging,
    "Average": _Merging,
    "Maximum": _Merging,
    "Minimum": _Merging,
}
_RULES_BY_CLASS = {
    getattr(keras.layers, name.format(n=n)): rule
    for name, rule in _RULES.items()
    for n in ("1D", "2D", "3D")
    if hasattr(keras.layers, name.format(n=n))
}
# Operators on symbolic tensors, such as x + y, have no public classes.
_OPERATIONS = {
    "Add": _Merging,
    "Subtract": _Merging,
    "Multiply": _Merging,
    "Maximum": _Merging,
    "Minimum": _Merging,
    "Relu": _Elementwise,
    "Sigmoid": _Elementwise,
    "Tanh": _Elementwise,
}


def rule_of(layer, shapes):
    """Returns the class of the rule of a layer, `Opaque` if there is none.

    Args:
        layer: A layer or a Keras operation.
        shapes: The shapes of its inputs.
    """
    if any(len(shape) < 2 or shape[-1] is None for shape in shapes):
        return Opaque
    cls = type(layer)
    if isinstance(layer, layers.MaskedLayer):
        # A subclass of the user's may do anything.
        own = cls.__module__.startswith("snip_tf.")
        cls = layers.stock_class_of(cls) if own else None
    rule = _RULES_BY_CLASS.get(cls, Opaque)
    if cls is keras.layers.Concatenate:
        last = layer.axis in (-1, len(shapes[0]) - 1)
        return _Joining if last else _Stacking
    if not isinstance(layer, keras.layers.Layer):
        rule = _OPERATIONS.get(cls.__name__, Opaque)
    if len(shapes) != 1 and rule is not _Merging:
        return Opaque  # a recurrent layer that is given its state
    return Opaque if _is_beyond(layer, rule, shapes) else rule


def _is_beyond(layer, rule, shapes):
    """Returns whether a layer has options that its rule knows nothing of."""
    if getattr(layer, "data_format", "channels_last") == "channels_first":
        return True
    if getattr(layer, "quantization_mode", None):
        return True
    if rule is _Kernel:
        return getattr(layer, "groups", 1) != 1 or getattr(
            layer, "lora_enabled", False
        )
    if rule is _Merging:
        return len({shape[-1] for shape in shapes}) != 1
    if rule is _Flattening:
        return None in shapes[0][1:]
    if rule is _BatchNorm:
        return layer.axis not in (-1, len(shapes[0]) - 1)
    if rule is _Recurrent:
        return layer.stateful or layer.return_state or _mixes_units(layer)
    if isinstance(layer, keras.layers.Dropout):
        return layer.noise_shape is not None
    if isinstance(layer, keras.layers.Activation):
        return not is_elementwise(layer.activation)
    return False


def _mixes_units(layer):
    """Returns whether a recurrent layer has an activation across its units."""
    names = ("activation", "recurrent_activation")
    return not all(
        is_elementwise(getattr(layer, name))
        for name in names
        if hasattr(layer, name)
    )


def is_bound_in_training(layer):
    """Returns whether in training a layer's units count with each other.

    A constraint may depend on weights that are removed, and a penalty on what
    a layer gives on units that lead nowhere.
    """
    if not isinstance(layer, keras.layers.Layer):
        return False
    return layer.activity_regularizer is not None or any(
        weight.constraint is not None for weight in layer.trainable_weights
    )
