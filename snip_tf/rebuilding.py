"""Layers of any code masked in place, and read back from files with masks.

A stock layer has a masked class of its own. A layer of other people's code
that is a subclass of one, or that holds such layers, becomes `Rebuilt`.
"""

import functools

import keras

from snip_tf import _keras, layers
from snip_tf.layers.base import MaskedLayer, stored
from snip_tf.layers.in_place import become, give_masks

# Stock layers that make their parts in code, as other people's do.
_MADE_IN_CODE = (keras.layers.GroupQueryAttention,)
_MASKED = {layers.stock_class_of(cls): cls for cls in layers.MASKED_CLASSES}


@keras.saving.register_keras_serializable("snip_tf")
class Rebuilt:
    """A layer or model of other people's code that was masked in place.

    Its class cannot know of masks, so its config holds which of the layers
    inside of it have them; they get them when it is loaded and built.
    """

    def get_config(self):
        """Returns the config of the stock layer, and which parts have masks."""
        rebuilt, stock = type(self), stock_class_of(type(self))
        become(self, stock)  # Keras asks a class what to write down for it
        try:
            config = self.get_config()
        finally:
            become(self, rebuilt)
        pending = vars(self).get("_parts_to_mask")
        return {
            "layer": {
                "module": stock.__module__,
                "class_name": stock.__name__,
                "config": config,
                "registered_name": keras.saving.get_registered_name(stock),
            },
            "masked": pending
            or [
                (index, layer.mask_bias)
                for index, layer in enumerate(_keras.all_layers(self))
                if isinstance(layer, MaskedLayer)
            ],
        }

    def __reduce__(self):
        """Pickles as Keras does, without naming a class that is made here."""
        return keras.Layer._unpickle_model, super().__reduce__()[1]

    @classmethod
    def from_config(cls, config):
        """Returns the layer, its parts masked as soon as they are built."""
        own, known = config["layer"], {}
        if cls is not Rebuilt:  # a class that need not be registered
            stock = stock_class_of(cls)
            names = stock.__module__, stock.__name__
            if names == (own["module"], own["class_name"]):
                known = {own["registered_name"]: stock}
        layer = keras.saving.deserialize_keras_object(own, known)
        become(layer, _derived(Rebuilt, type(layer)))
        vars(layer)["_parts_to_mask"] = config["masked"]
        layer._mask_parts()
        return layer

    def build_from_config(self, config):
        """Builds the stock layer, then masks its parts."""
        super().build_from_config(config)
        self._mask_parts()

    def __call__(self, *args, **kwargs):
        """Calls the stock layer, then masks its parts if that has built it."""
        outputs = super().__call__(*args, **kwargs)
        self._mask_parts()
        return outputs

    def _mask_parts(self):
        parts = vars(self).get("_parts_to_mask")
        if not parts:  # as at every call but the first
            return
        found = dict(enumerate(_keras.all_layers(self)))
        if all(i in found and found[i].built for i, _ in parts):
            del vars(self)["_parts_to_mask"]
            become(self, stock_class_of(type(self)))
            mask_parts(self, {id(found[i]): bias for i, bias in parts})


def mask_parts(model, mask_bias_of):
    """Masks layers of a model in place, given `mask_bias` by their ids."""
    changed, new_classes = set(), []
    for layer in reversed(_keras.all_layers(model)):  # what is inside first
        holds_changed = any(
            id(inner) in changed for inner in _keras.sublayers(layer)
        )
        if not holds_changed and id(layer) not in mask_bias_of:
            continue
        changed.add(id(layer))
        layer_class = type(layer)
        if isinstance(layer, MaskedLayer):
            continue  # its own config told of its mask
        if id(layer) in mask_bias_of:
            masked_class = _MASKED[maskable_class(layer_class)]
            if layer_class not in _MASKED:
                masked_class = _derived(Rebuilt, masked_class, layer_class)
            new_classes.append((layer, masked_class))
        elif layer_class in _MADE_IN_CODE or not (
            layer_class.__module__.startswith(("keras.", "snip_tf."))
        ):
            new_classes.append((layer, _derived(Rebuilt, layer_class)))
    for layer, new_class in new_classes:  # all are known: nothing can fail
        if id(layer) in mask_bias_of:
            give_masks(layer, new_class, mask_bias_of[id(layer)])
        else:
            become(layer, new_class)
    forget_compiled(model)


@functools.cache
def maskable_class(layer_class):
    """Returns the stock class that says how the layer reads its weights.

    A subclass reads them as its stock class does unless it stores, makes or
    reads them in its own way.
    """
    bases = layer_class.__mro__
    stock = next((base for base in bases if base in _MASKED), None)
    if stock is None:
        return None
    names = {*_MASKED[stock].weight_names, "bias"}
    stores = {stored(name) for name in names}
    for base in bases[: bases.index(stock)]:
        own = vars(base)
        functions = [value for value in own.values() if callable(value)]
        used = {name for one in functions for name in _names_in(one)}
        if names & set(own) or stores & used:
            return None
    return stock


def _names_in(function):
    """Returns the attributes that the code of a function uses."""
    codes = [getattr(function, "__code__", None)]
    while codes:
        code = codes.pop()
        if hasattr(code, "co_names"):
            yield from code.co_names
            codes.extend(code.co_consts)


@functools.cache
def _derived(*bases):
    """Returns a class of these bases, named as the last, and so saved."""
    derived = type(bases[-1].__name__, bases, {"__module__": __name__})
    return keras.saving.register_keras_serializable("snip_tf", "Rebuilt")(
        derived
    )


def stock_class_of(layer_class):
    """Returns the class that a masked or rebuilt layer had before."""
    if issubclass(layer_class, MaskedLayer):
        return layers.stock_class_of(layer_class)
    bases = layer_class.__mro__
    return bases[bases.index(Rebuilt) + 1]


def forget_compiled(model):
    """Has Keras trace anew what it compiled for the layers as they were."""
    for layer in _keras.all_layers(model):
        if isinstance(layer, keras.Model):
            layer.train_function = None
            layer.test_function = layer.predict_function = None
