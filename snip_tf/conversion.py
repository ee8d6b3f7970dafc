"""Between stock Keras models and masked ones, in place.

A model keeps its layer objects, so this reaches every layer that it holds,
whoever's code made it. What its own config cannot make again with masks, the
layers of other people's code, is saved as `Rebuilt`.
"""

import contextlib
import functools
import warnings

import keras

from snip_tf import _keras, layers
from snip_tf.layers.base import MaskedLayer, stored, weights_left_dense
from snip_tf.layers.in_place import become, give_masks, take_masks

_MASKED = {layers.stock_class_of(cls): cls for cls in layers.MASKED_CLASSES}
# They assign the weight that their inner layer reads.
_ASSIGNING = (keras.layers.SpectralNormalization,)


def masked(model, *, skip=(), mask_bias=False):
    """Gives a model's layers masks, every mask one, and returns the model.

    In place, as Keras' own `quantize` works: outputs and weights stay, also a
    compiled model's optimizer. For a model that is wanted twice, copy it first:
    `copy.deepcopy(model)`. `strip` takes the masks off again.

        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
        >>> snip_tf.masked(model) is model
        True
        >>> [mask.shape for mask in snip_tf.get_masks(model)]
        [(4, 3)]

    Files: `model.save` and `keras.models.load_model` keep the masks where
    snip_tf is imported. `model.save_weights` writes them too; the weights load
    into `snip_tf.masked(...)` of a model made by the same code.

    Args:
        model: A built Keras model of any kind: nested models, wrappers, shared
            layers, and layers that a model's own code makes are all reached.
        skip: Layers to leave as they are, by name or as layers, or a function
            that takes a layer and returns whether to skip it. With a nested
            model or a wrapper all that is inside is left, and of layers of one
            name in several nested models each.
        mask_bias: Whether biases have masks too. The networks of the paper
            count and prune them; to keep them is the default here.

    Warns:
        Of layers with weights that cannot have a mask and stay dense, such as
        ConvLSTM2D or a user's own, with the number of weights.

    Raises:
        ValueError: If the model is not built, has masks already, has LoRA or
            no layer that can have a mask, or if `skip` names a layer that is
            not there. The model is then unchanged.
    """
    _check_maskable(model)
    skipped = _skipped(model, skip)
    reached = _reached(model, skipped)
    found = [layer for layer in reached if _can_mask(layer)]
    if not found:
        raise ValueError(
            "`model` must have at least one layer that can have a mask, and "
            f"that `skip` leaves. Received: model={model.name!r}"
        )
    _check_parts(found, skipped)
    _mask(model, {id(layer): mask_bias for layer in found})
    _warn_of_dense(reached)
    return model


def strip(model):
    """Makes all layers stock Keras layers, zeros baked in; returns the model.

    In place, the inverse of `masked`: the result needs neither masks nor
    snip_tf. A compiled model stays compiled. To keep the masks as well, copy
    the model first: `copy.deepcopy(model)`.

        >>> model = snip_tf.models.build("lenet_300_100")
        >>> type(snip_tf.strip(model).layers[-1]) is keras.layers.Dense
        True

    Raises:
        ValueError: If the model has no masks.
    """
    _strip(model)
    return model


@contextlib.contextmanager
def stripped(model):
    """Makes a model stock, as `strip` does, inside of the block.

    At its end all is as before: classes, masks and what was stored under them.

    Raises:
        ValueError: If the model has no masks.
    """
    undo = _strip(model)
    try:
        yield model
    finally:
        undo.close()


@keras.saving.register_keras_serializable("snip_tf")
class Rebuilt:
    """A layer or model of other people's code that was masked in place.

    Its class cannot know of masks, so its config holds which of the layers
    inside of it have them; they get them when it is loaded and built.
    """

    def get_config(self):
        """Returns the config of the stock layer, and which parts have masks."""
        stock = _stock_class_of(type(self))
        config = super().get_config()
        config.pop("mask_bias", None)
        return {
            "layer": {
                "module": stock.__module__,
                "class_name": stock.__name__,
                "config": config,
                "registered_name": keras.saving.get_registered_name(stock),
            },
            "masked": [
                (index, layer.mask_bias)
                for index, layer in enumerate(_keras.all_layers(self))
                if isinstance(layer, MaskedLayer)
            ],
        }

    @classmethod
    def from_config(cls, config):
        """Returns the layer, its parts masked as soon as it is built."""
        layer = keras.saving.deserialize_keras_object(config["layer"])
        become(layer, _derived(Rebuilt, type(layer)))
        vars(layer)["_parts_to_mask"] = config["masked"]
        if layer.built:
            layer._mask_parts()
        return layer

    def build_from_config(self, config):
        """Builds the stock layer, then masks its parts."""
        super().build_from_config(config)
        self._mask_parts()

    def _mask_parts(self):
        parts = vars(self).pop("_parts_to_mask", None)
        if parts is not None:
            become(self, _stock_class_of(type(self)))
            found = _keras.all_layers(self)
            _mask(self, {id(found[index]): bias for index, bias in parts})


def _check_maskable(model):
    if not model.built:
        raise ValueError(
            "`model` must be built: call it, or give it an Input. Received: "
            f"model={model.name!r}, not built"
        )
    for layer in _keras.all_layers(model):
        if isinstance(layer, MaskedLayer):
            raise ValueError(
                "`model` must have no masks yet; `strip` takes them off. "
                f"Received: model={model.name!r}, which has some"
            )
        if getattr(layer, "lora_enabled", False):
            raise ValueError(
                "`model` must have no LoRA: prune first, then `strip`, then "
                f"enable it. Received: layer {layer.name!r} with LoRA"
            )


def _skipped(model, skip):
    """Returns the ids of the layers that are skipped."""
    found = _keras.all_layers(model)[1:]
    if callable(skip):
        return {id(layer) for layer in found if skip(layer)}
    if isinstance(skip, (str, keras.layers.Layer)):
        skip = [skip]
    ids = set()
    for one in skip:
        its = {id(x) for x in found if one is x or one == x.name}
        if not its:
            raise ValueError(
                "`skip` must name layers of the model. Received: "
                f"{getattr(one, 'name', one)!r}"
            )
        ids |= its
    return ids


def _reached(layer, skipped):
    """Returns the layers on a way without skipped ones, each once."""
    found, stack = {}, [layer]
    while stack:
        layer = stack.pop()
        if id(layer) not in skipped and id(layer) not in found:
            found[id(layer)] = layer
            if not isinstance(layer, _ASSIGNING):
                stack.extend(_keras.sublayers(layer))
    return found.values()


def _can_mask(layer):
    """Returns whether a layer can have a mask where it is."""
    stock_class = _maskable_class(type(layer))
    return (
        stock_class is not None
        and layer.built
        and getattr(layer, "quantization_mode", None) is None
    )


@functools.cache
def _maskable_class(layer_class):
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


def _check_parts(found, skipped):
    """Refuses to skip a part, such as a cell, of a layer that is masked."""
    for layer in found:
        for part in _keras.sublayers(layer):
            if id(part) in skipped and _can_mask(part):
                raise ValueError(
                    "`skip` must name layers that do not belong to another, "
                    "such as the cell of an LSTM: skip that one. Received: "
                    f"{part.name!r}, of {layer.name!r}"
                )


def _mask(model, mask_bias_of):
    """Masks layers of a model in place, given `mask_bias` by their ids."""
    changed = set()
    for layer in reversed(_keras.all_layers(model)):  # what is inside first
        holds_changed = any(
            id(inner) in changed for inner in _keras.sublayers(layer)
        )
        if not holds_changed and id(layer) not in mask_bias_of:
            continue
        changed.add(id(layer))
        layer_class = type(layer)
        of_others = layer_class.__module__.partition(".")[0] not in (
            "keras",
            "snip_tf",
        )
        if id(layer) in mask_bias_of and not isinstance(layer, MaskedLayer):
            masked_class = _MASKED[_maskable_class(layer_class)]
            if of_others:
                masked_class = _derived(Rebuilt, masked_class, layer_class)
            give_masks(layer, masked_class, mask_bias_of[id(layer)])
        elif of_others:
            become(layer, _derived(Rebuilt, layer_class))
    _forget_compiled(model)


def _strip(model):
    """Makes the model stock; returns the ExitStack that undoes it."""
    layers.masked_layers(model)  # refused if there are none
    with contextlib.ExitStack() as undo:
        undo.callback(_forget_compiled, model)
        for layer in _keras.all_layers(model):
            if isinstance(layer, MaskedLayer):
                undo.callback(take_masks(layer))
            elif isinstance(layer, Rebuilt):
                undo.callback(become, layer, type(layer))
                become(layer, _stock_class_of(type(layer)))
        _forget_compiled(model)
        return undo.pop_all()


@functools.cache
def _derived(*bases):
    """Returns a class of these bases, named as the last, and so saved."""
    derived = type(bases[-1].__name__, bases, {"__module__": __name__})
    return keras.saving.register_keras_serializable("snip_tf", "Rebuilt")(
        derived
    )


def _stock_class_of(layer_class):
    if issubclass(layer_class, MaskedLayer):
        return layers.stock_class_of(layer_class)
    bases = layer_class.__mro__
    return bases[bases.index(Rebuilt) + 1]


def _forget_compiled(model):
    """Has Keras trace anew what it compiled for the layers as they were."""
    for layer in _keras.all_layers(model):
        if isinstance(layer, keras.Model):
            layer.train_function = None
            layer.test_function = layer.predict_function = None


def _warn_of_dense(reached):
    left = {layer.name: count for layer, count in weights_left_dense(reached)}
    if left:
        named = ", ".join(f"{name} ({count:,})" for name, count in left.items())
        warnings.warn(
            f"{sum(left.values()):,} weights get no mask and stay dense, as "
            "their layers' own code makes or reads them, or their wrapper "
            f"assigns them: {named}",
            stacklevel=3,
        )
