"""Which rule a call has. A new rule is a class, and a row of its file."""

import keras

from snip_tf import layers
from snip_tf.compaction import plain_rules, weighted_rules
from snip_tf.compaction.graph import size

_RULES = {
    getattr(keras.layers, name.format(n=n), None): rule
    for names, rule in {**plain_rules.RULES, **weighted_rules.RULES}.items()
    for name in names.split()
    for n in ("1D", "2D", "3D")
}


def rule_of(call, for_training):
    """Returns the rule of a call, None if its layer must be left whole."""
    layer = call.layer
    rule = _rule_for(layer)
    if (
        rule is None
        or not call.is_plain
        or not all(map(size, call.inputs))
        # A recurrent layer may be given its state.
        or (len(call.inputs) > 1 and not rule.takes_many)
        or getattr(layer, "data_format", None) == "channels_first"
        or getattr(layer, "quantization_mode", None)
        or getattr(layer, "lora_enabled", False)
        or (for_training and _is_bound_in_training(layer))
    ):
        return None
    return rule if rule.accepts(call) else None


def _rule_for(layer):
    cls = type(layer)
    if not isinstance(layer, keras.Layer):
        is_stock = cls.__module__.startswith("keras.")
        is_known = is_stock and cls.__name__ in plain_rules.OPERATIONS
        return _RULES[keras.layers.Add] if is_known else None
    if isinstance(layer, layers.MaskedLayer):
        # A subclass of the user's may do anything.
        is_own = cls.__module__.startswith("snip_tf.")
        cls = layers.stock_class_of(cls) if is_own else None
    return _RULES.get(cls)


def _is_bound_in_training(layer):
    """Returns whether in training a layer's units count with each other.

    A constraint may depend on weights that are removed, and a penalty on what
    a layer gives on units that lead nowhere. Noise makes zeros other numbers.
    """
    return isinstance(layer, keras.Layer) and (
        isinstance(layer, keras.layers.GaussianNoise)
        or layer.activity_regularizer is not None
        or any(
            weight.constraint is not None for weight in layer.trainable_weights
        )
    )
