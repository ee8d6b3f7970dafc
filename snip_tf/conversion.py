"""Between stock Keras models and masked ones, in place.

A model keeps its layer objects, so this reaches every layer that it holds,
whoever's code made it. What its own config cannot make again with masks, the
layers of other people's code, is saved as `Rebuilt`.
"""

import contextlib
import warnings

import keras

from snip_tf import _checks, _keras, layers
from snip_tf.layers.base import MaskedLayer
from snip_tf.layers.dense_weights import kernels_left_dense
from snip_tf.layers.in_place import become, take_masks
from snip_tf.rebuilding import (
    Rebuilt,
    forget_compiled,
    mask_parts,
    maskable_class,
    stock_class_of,
)

# They assign the weight that their inner layer reads.
_ASSIGNING = (keras.layers.SpectralNormalization,)


def masked(model, *, skip=(), mask_bias=False):
    """Gives a model's layers masks, every mask one, and returns the model.

    In place, as Keras' own `quantize` works: outputs and weights stay, also a
    compiled model's optimizer. For a model that is wanted twice, copy it first:
    `copy.deepcopy(model)`. `strip` takes the masks off again. Mask the
    outermost model, or compile it anew: what it traced knows of no masks.

        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
        >>> snip_tf.masked(model) is model
        True
        >>> [mask.shape for mask in snip_tf.get_masks(model)]
        [(4, 3)]

    Files: `model.save` and `keras.models.load_model` keep the masks where
    snip_tf is imported; those of a model with a `call` of its own if that model
    was masked, not a part of it: there is `skip`. `model.save_weights` writes
    them too; the weights load into `snip_tf.masked(...)` of a model made by the
    same code.

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
        ConvLSTM2D, a user's own, or an embedding whose matrix is also read by
        an operation of the model's graph, with the number of weights.

    Raises:
        ValueError: If the model is not built, has masks already, has LoRA or
            no layer that can have a mask, or if `skip` names a layer that is
            not there. The model is then unchanged.
    """
    _check_maskable(model)
    with _checks.naming(skip=skip):
        skipped = _skipped(model, skip or ())
    reached = _reached(model, skipped)
    assigned = {
        id(inner)
        for layer in reached
        if isinstance(layer, _ASSIGNING)
        for inner in _keras.all_layers(layer)
    }
    # Such as an embedding that is also what the outputs are multiplied by.
    read = {id(one) for layer in reached for one in _keras.read_by_graph(layer)}
    found = [
        layer
        for layer in reached
        if _can_mask(layer)
        and id(layer) not in assigned
        and read.isdisjoint(map(id, layer.weights))
    ]
    if not found:
        raise ValueError(
            "`model` must have at least one layer that can have a mask, and "
            f"that `skip` leaves. Received: model={model.name!r}"
        )
    _check_parts(found, skipped)
    mask_parts(model, {id(layer): mask_bias for layer in found})
    _warn_of_dense(kernels_left_dense(model, reached))
    return model


def strip(model):
    """Makes all layers stock Keras layers, zeros baked in; returns the model.

    In place, the inverse of `masked`: the result needs neither masks nor
    snip_tf. A compiled model stays compiled; only the paper's recurrent
    networks, where two biases become one, must be compiled anew. To keep the
    masks as well, copy the model first: `copy.deepcopy(model)`.

        >>> model = snip_tf.models.build("lenet_300_100")
        >>> type(snip_tf.strip(model).layers[-1]) is keras.layers.Dense
        True

    Raises:
        ValueError: If the model has no masks.
    """
    layers.masked_layers(model)  # refused if there are none
    before = list(model.trainable_variables)
    _strip(model)
    if set(map(id, before)) != set(map(id, model.trainable_variables)):
        _keras.forget_optimizer(model)
    return model


@contextlib.contextmanager
def stripped(model):
    """Makes a model stock, as `strip` does, inside of the block.

    At its end all is as before: classes, masks and what was stored under them.
    """
    undo = _strip(model)
    try:
        yield model
    finally:
        undo.close()


def _check_maskable(model):
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
    if not model.built:
        raise ValueError(
            "`model` must be built: call it, or give it an Input. Received: "
            f"model={model.name!r}, not built"
        )


def _skipped(model, skip):
    """Returns the ids of the layers that are skipped."""
    found = _keras.all_layers(model)[1:]
    if isinstance(skip, (str, keras.layers.Layer)):
        skip = [skip]
    if callable(skip):
        return {id(layer) for layer in found if skip(layer)}
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
    """Returns the layers that are reached without passing a skipped one."""
    found, stack = {}, [layer]
    while stack:
        layer = stack.pop()
        if id(layer) not in skipped and id(layer) not in found:
            found[id(layer)] = layer
            stack.extend(_keras.sublayers(layer))
    return found.values()


def _can_mask(layer):
    """Returns whether a layer can have a mask where it is."""
    stock_class = maskable_class(type(layer))
    return (
        stock_class is not None
        and layer.built
        and getattr(layer, "quantization_mode", None) is None
    )


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


def _strip(model):
    """Makes the model stock; returns the ExitStack that undoes it."""
    with contextlib.ExitStack() as undo:
        undo.callback(forget_compiled, model)
        for layer in _keras.all_layers(model):
            if isinstance(layer, MaskedLayer):
                undo.callback(take_masks(layer))
            elif isinstance(layer, Rebuilt):
                undo.callback(become, layer, type(layer))
                become(layer, stock_class_of(type(layer)))
        forget_compiled(model)
        return undo.pop_all()


def _warn_of_dense(left):
    if left:
        named = ", ".join(
            f"{place} ({count:,})" for place, count in left.items()
        )
        warnings.warn(
            f"{sum(left.values()):,} weights get no mask and stay dense, as "
            "their layers' own code makes or reads them, their wrapper assigns "
            f"them, or the model's graph reads them: {named}",
            stacklevel=3,
        )
