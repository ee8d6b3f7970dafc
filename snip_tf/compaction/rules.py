"""Which rule a layer has. A new rule is a class and a row of a table here."""

import keras

from snip_tf import layers
from snip_tf.compaction import plain_rules, weighted_rules

# By name of the stock layer; n stands for 1D, 2D and 3D.
_NAMES = {
    weighted_rules.Dense(): ["Dense"],
    weighted_rules.Kernel(): ["Conv{n}", "Conv{n}Transpose"],
    weighted_rules.SeparableConv(): ["SeparableConv{n}"],
    weighted_rules.DepthwiseConv(): ["DepthwiseConv{n}"],
    weighted_rules.Recurrent(): ["SimpleRNN", "LSTM", "GRU"],
    weighted_rules.BatchNormalization(): ["BatchNormalization"],
    plain_rules.Passing(): [
        *("Dropout", "SpatialDropout{n}", "MaxPooling{n}", "AveragePooling{n}"),
        *("GlobalMaxPooling{n}", "GlobalAveragePooling{n}"),
        *("UpSampling{n}", "Cropping{n}"),
    ],
    plain_rules.ZeroPadding(): ["ZeroPadding{n}"],
    plain_rules.Flatten(): ["Flatten"],
    plain_rules.Concatenate(): ["Concatenate"],
    plain_rules.Elementwise(): [
        *("Activation", "ReLU", "LeakyReLU", "ELU", "Identity"),
        *("GaussianNoise", "Add", "Subtract", "Multiply", "Average"),
        *("Maximum", "Minimum"),
    ],
}
RULES = {
    getattr(keras.layers, name.format(n=n)): rule
    for rule, names in _NAMES.items()
    for name in names
    for n in ("1D", "2D", "3D")
    if hasattr(keras.layers, name.format(n=n))
}
# Operators on symbolic tensors, such as x + y, have no public classes.
_OPERATIONS = (
    *("Add", "Subtract", "Multiply", "Maximum", "Minimum"),
    *("Relu", "Relu6", "Sigmoid", "HardSigmoid", "Tanh"),
)


def rule_of(call, for_training):
    """Returns the rule of a call, None if the layer must be left whole."""
    shapes = [tensor.shape for tensor in call.inputs]
    if not (
        call.is_plain
        and shapes
        and all(len(shape) > 1 and shape[-1] is not None for shape in shapes)
    ):
        return None
    rule = _rule_for(call.layer)
    takes_many = isinstance(
        rule, (plain_rules.Elementwise, plain_rules.Concatenate)
    )
    if (
        rule is None
        # Such as the states that a recurrent layer may be given.
        or (len(shapes) > 1 and not takes_many)
        or getattr(call.layer, "data_format", None) == "channels_first"
        or getattr(call.layer, "quantization_mode", None)
        or getattr(call.layer, "lora_enabled", False)
        or (for_training and _is_bound_in_training(call.layer))
    ):
        return None
    return rule if rule.accepts(call) else None


def _rule_for(layer):
    cls = type(layer)
    if isinstance(layer, keras.Layer):
        if isinstance(layer, layers.MaskedLayer):
            # A subclass of the user's may do anything.
            own = cls.__module__.startswith("snip_tf.")
            cls = layers.stock_class_of(cls) if own else None
        return RULES.get(cls)
    is_known = cls.__module__.startswith("keras.") and cls.__name__ in (
        _OPERATIONS
    )
    return RULES[keras.layers.Add] if is_known else None


def _is_bound_in_training(layer):
    """Returns whether in training a layer's units count with each other.

    A constraint may depend on weights that are removed, and a penalty on what
    a layer gives on units that lead nowhere. Noise makes zeros other numbers.
    """
    if not isinstance(layer, keras.Layer):
        return False
    return (
        isinstance(layer, keras.layers.GaussianNoise)
        or layer.activity_regularizer is not None
        or any(
            weight.constraint is not None for weight in layer.trainable_weights
        )
    )
