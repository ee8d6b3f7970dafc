"""A built layer made a masked one, or a stock one, where it is.

The layer object stays, and with it all graphs, lists and attributes of other
layers that hold it: Keras' own `quantize` changes a model the same way.
"""

import keras

from snip_tf import _keras
from snip_tf.layers.base import mask_of, stock_class_of, stored


def give_masks(layer, masked_class, mask_bias):
    """Gives a built stock layer its masked class, every mask one.

    Args:
        layer: The layer.
        masked_class: A masked class that derives from the layer's.
        mask_bias: See `MaskedLayer`.
    """
    become(layer, masked_class)
    own = vars(layer)
    for name in _all_names(masked_class):
        if name in own:
            own[stored(name)] = own.pop(name)
    own["mask_bias"] = bool(mask_bias)
    layer.add_masks()


def take_masks(layer):
    """Gives a masked layer its stock class, the zeros baked into its weights.

    Returns:
        A function that undoes it.
    """
    own, masked_class = vars(layer), type(layer)
    before = dict(own)
    in_order = [list(found) for found in _keras.variable_lists(layer)]
    stored_values = [
        (weight, keras.ops.convert_to_numpy(weight))
        for weight, _ in layer.masked_weights()
    ]
    removed = [mask for _, mask in layer.masked_weights()]
    added = []
    effective = {
        # Plus zero, which makes zeros of the negative ones: they compress
        # better.
        name: keras.ops.convert_to_numpy(layer.read(name)) + 0.0
        for name in layer.masked_names()
    }
    for name in effective:
        del own[mask_of(name)]
    del own["mask_bias"]
    stock_class = stock_class_of(masked_class)
    become(layer, stock_class)
    for name, value in effective.items():
        weight = own[stored(name)]
        # Those of models/rnn.py have two biases, which read as one.
        if weight.shape != value.shape:
            removed.append(weight)
            weight = _keras.unlocked(layer).add_weight(value.shape, name=name)
            added.append(weight)
            own[stored(name)] = weight
        weight.assign(value)
    for name in _all_names(masked_class):
        if not isinstance(getattr(stock_class, name, None), property):
            if stored(name) in own:
                own[name] = own.pop(stored(name))
    for variable in removed:
        _keras.untrack(layer, variable)

    def undo():
        for variable in added:
            _keras.untrack(layer, variable)
        become(layer, masked_class)
        own.clear()
        own.update(before)
        for variable in removed:
            _keras.track(layer, variable)
        for found, order in zip(
            _keras.variable_lists(layer), in_order, strict=True
        ):
            found[:] = order
        for weight, value in stored_values:
            weight.assign(value)

    return undo


def _all_names(masked_class):
    return (*masked_class.weight_names, "bias")


def become(layer, layer_class):
    """Gives a layer another class."""
    # Keras would take the class for an attribute to track.
    object.__setattr__(layer, "__class__", layer_class)
