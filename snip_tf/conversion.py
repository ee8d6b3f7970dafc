"""Between masked models and plain Keras models.

Both ways rewrite the model's Keras configuration, in which a layer stands once
however deeply it is nested, wrapped or shared, and carry the weights over.
"""

import tempfile
import warnings

import keras

from snip_tf import layers

_MASKED = {
    layers.stock_class_of(cls).__name__: cls for cls in layers.MASKED_CLASSES
}


def masked(model, *, skip=(), mask_bias=False):
    """Returns the same model with masked layers, every mask one.

    Outputs are those of the model, which is left as it is. The result is not
    compiled.

    Args:
        model: A built Keras model that Keras can make from its own config:
            Sequential, functional, or subclassed with its layers in its
            config; nested models, wrappers and shared layers included.
        skip: Layers to leave as they are, by name or as layers; or a function
            that takes a layer and returns whether to skip it. Of layers of
            one name in several nested models all are left.
        mask_bias: Whether biases have masks too. The networks of the paper
            count and prune them; to keep them is the default here.

    Raises:
        ValueError: If the model is not built, has masks already, has no layer
            that can carry one, or cannot be made from its config, or if `skip`
            names a layer that is not there.
    """
    if not model.built:
        raise ValueError(
            "`model` must be built: call it, or give it an Input. Received: "
            f"model={model.name!r}, not built"
        )
    found = model._flatten_layers(include_self=False)
    if any(isinstance(layer, layers.MaskedLayer) for layer in found):
        raise ValueError(
            "`model` must have no masks yet; `strip` takes them off. "
            f"Received: model={model.name!r}, which has some"
        )
    skipped = _skipped_names(found, skip)

    def with_mask(config):
        stock = config["module"] == "keras.layers"
        if not stock or config["class_name"] not in _MASKED:
            return config
        if config["config"]["name"] in skipped:
            return config
        masked_class = _MASKED[config["class_name"]]
        return {
            **config,
            "module": masked_class.__module__,
            "registered_name": keras.saving.get_registered_name(masked_class),
            "config": {**config["config"], "mask_bias": mask_bias},
        }

    result = _rebuilt(model, with_mask)
    weights = layers.weights_without_masks(result)
    _warn_of_missed(result, skipped)
    _copy(values=model.weights, into=weights)
    _carry_adapted(model, result)
    return result


def strip(model):
    """Returns the same model of plain Keras layers, zeros baked in.

    The result needs neither masks nor snip_tf; the model itself is left as it
    is. The result is not compiled.

    Args:
        model: A built model with masked layers, as `masked` takes and returns.

    Raises:
        ValueError: If the model has no masks or cannot be made from its
            config.
    """
    # Plus zero, which makes zeros of the negative ones: they compress better.
    effective = {
        id(weight): value + 0.0
        for layer in layers.masked_layers(model)
        for weight, value in layer.stock_weights()
    }

    def without_mask(config):
        if not (config["registered_name"] or "").startswith("snip_tf>"):
            return config
        masked_class = keras.saving.get_registered_object(
            config["registered_name"]
        )
        plain = dict(config["config"])
        del plain["mask_bias"]
        return {
            **config,
            "module": "keras.layers",
            "class_name": layers.stock_class_of(masked_class).__name__,
            "registered_name": None,
            "config": plain,
        }

    result = _rebuilt(model, without_mask)
    weights = layers.weights_without_masks(model)
    _copy(
        values=[effective.get(id(weight), weight) for weight in weights],
        into=result.weights,
    )
    _carry_adapted(model, result)
    return result


def copied(model):
    """Returns the same model anew: its config and weights, not compiled.

    Raises:
        ValueError: If the model cannot be made from its config.
    """
    result = _rebuilt(model, lambda config: config)
    _copy(values=model.weights, into=result.weights)
    _carry_adapted(model, result)
    return result


def _warn_of_missed(result, skipped):
    """Warns of layers that could have a mask but are made by others' code."""
    on_purpose = {
        id(inner)
        for layer in result._flatten_layers()
        if layer.name in skipped
        for inner in layer._flatten_layers()
    }
    stock = {layers.stock_class_of(cls) for cls in _MASKED.values()}
    missed = [
        layer.name
        for layer in result._flatten_layers()
        if type(layer) in stock and id(layer) not in on_purpose
    ]
    if missed:
        warnings.warn(
            "These layers get no mask, as they are made inside of other "
            f"layers' own code: {', '.join(missed)}",
            stacklevel=3,
        )


def _skipped_names(found, skip):
    if callable(skip):
        return {layer.name for layer in found if skip(layer)}
    skip = [skip] if isinstance(skip, str) else skip
    names = {getattr(layer, "name", layer) for layer in skip}
    unknown = names - {layer.name for layer in found}
    if unknown:
        raise ValueError(
            "`skip` must name layers of the model. Received: "
            + ", ".join(repr(name) for name in sorted(unknown))
        )
    return names


def _rebuilt(model, change):
    """Returns a new model from the model's config, each layer's changed."""
    # Classes of the user's own need no registration: the model has them.
    classes = {
        type(layer).__name__: type(layer)
        for layer in model._flatten_layers()
        if not type(layer).__module__.startswith(("keras.", "snip_tf."))
    }
    try:
        config = keras.saving.serialize_keras_object(model)
        config.pop("compile_config", None)
        return keras.saving.deserialize_keras_object(
            _changed(config, change), custom_objects=classes, safe_mode=False
        )
    except Exception as error:  # whatever a layer's own code raises
        raise ValueError(
            "`model` must be one that Keras can make from its config: "
            "Sequential, functional, or subclassed with `get_config`. "
            f"Received: model={model.name!r} ({type(error).__name__}: {error})"
        ) from error


def _changed(config, change):
    """Applies a change to every serialised object, innermost first."""
    if isinstance(config, (list, tuple)):
        return type(config)(_changed(entry, change) for entry in config)
    if not isinstance(config, dict):
        return config
    config = {key: _changed(value, change) for key, value in config.items()}
    return change(config) if "registered_name" in config else config


def _copy(values, into):
    """Assigns weights, listed alike: masks come last and never in between."""
    if [tuple(v.shape) for v in values] != [tuple(v.shape) for v in into]:
        raise ValueError(
            "`model` must list its weights in the order of its config. "
            f"Received: {len(values)} weights for {len(into)} of the new model"
        )
    for variable, value in zip(into, values, strict=True):
        variable.assign(value)


def _carry_adapted(model, result):
    """Carries over what `adapt` leaves in layers beside their weights."""
    adapting = (
        [layer for layer in m._flatten_layers() if hasattr(layer, "adapt")]
        for m in (model, result)
    )
    for layer, twin in zip(*adapting, strict=True):
        if hasattr(layer, "save_assets"):  # a vocabulary
            with tempfile.TemporaryDirectory() as directory:
                layer.save_assets(directory)
                twin.load_assets(directory)
        elif isinstance(layer, keras.layers.Normalization):
            twin.finalize_state()
