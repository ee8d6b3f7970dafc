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
        skip: Layers to leave as they are, by name or as layers, or a function
            that takes a layer and returns whether to skip it. With a nested
            model or a wrapper all that is inside is left, and of layers of one
            name in several nested models each.
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
    if isinstance(skip, (str, keras.layers.Layer)):
        skip = [skip]
    skipped = _skipped_names(found, skip)

    def with_mask(config):
        stock = config["module"] == "keras.layers"
        if not stock or config["class_name"] not in _MASKED:
            return config
        masked_class = _MASKED[config["class_name"]]
        return {
            **config,
            "module": masked_class.__module__,
            "registered_name": keras.saving.get_registered_name(masked_class),
            "config": {**config["config"], "mask_bias": mask_bias},
        }

    def is_left(config):
        settings = config["config"]
        # SpectralNormalization assigns the weight that it reads.
        return config["class_name"] == "SpectralNormalization" or (
            isinstance(settings, dict) and settings.get("name") in skipped
        )

    result = _rebuilt(model, with_mask, is_left)
    if not callable(skip):
        _check_skipped(result, skipped)
    _warn_of_missed(result, skipped)
    weights = layers.weights_without_masks(result)
    return _filled(result, model, values=model.weights, into=weights)


def strip(model):
    """Returns the same model of plain Keras layers, zeros baked in.

    The result needs neither masks nor snip_tf; the model itself is left as it
    is. LoRA's weights are merged into the kernels. The result is not compiled.

    Args:
        model: A built model with masked layers, as `masked` takes and returns.

    Raises:
        ValueError: If the model has no masks or cannot be made from its
            config.
    """
    found = layers.masked_layers(model)
    # Plus zero, which makes zeros of the negative ones: they compress better.
    effective = {
        id(weight): value + 0.0
        for layer in found
        for weight, value in layer.stock_weights()
    }
    merged = {id(weight) for layer in found for weight in layer.lora_weights()}

    def without_mask(config):
        if not (config["registered_name"] or "").startswith("snip_tf>"):
            return config
        masked_class = keras.saving.get_registered_object(
            config["registered_name"]
        )
        plain = {
            key: value
            for key, value in config["config"].items()
            if key not in ("mask_bias", "lora_rank", "lora_alpha")
        }
        return {
            **config,
            "module": "keras.layers",
            "class_name": layers.stock_class_of(masked_class).__name__,
            "registered_name": None,
            "config": plain,
        }

    result = _rebuilt(model, without_mask)
    values = [
        effective.get(id(weight), weight)
        for weight in layers.weights_without_masks(model)
        if id(weight) not in merged
    ]
    return _filled(result, model, values, result.weights, without_lora=found)


def copied(model):
    """Returns the same model anew: its config and weights, not compiled.

    Raises:
        ValueError: If the model cannot be made from its config.
    """
    return _copied(model, lambda config: config)


def in_float32(model):
    """Returns the same model anew, computing in float32 throughout."""

    def of_32_bits(config):
        policy = config["class_name"] == "DTypePolicy"
        if not policy or not config["config"]["name"].endswith("float16"):
            return config
        return {**config, "config": {"name": "float32"}}

    return _copied(model, of_32_bits)


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
            "These layers get no mask, as they are made, or their weights "
            f"assigned, by other layers' own code: {', '.join(missed)}",
            stacklevel=3,
        )


def _skipped_names(found, skip):
    if callable(skip):
        return {layer.name for layer in found if skip(layer)}
    names = {getattr(layer, "name", layer) for layer in skip}
    unknown = names - {layer.name for layer in found}
    if unknown:
        raise ValueError(
            "`skip` must name layers of the model. Received: "
            + ", ".join(repr(name) for name in sorted(unknown))
        )
    return names


def _check_skipped(result, skipped):
    made = skipped & {layer.name for layer in layers.masked_layers(result)}
    if made:
        raise ValueError(
            "`skip` must name layers that do not belong to another, such as "
            "the cell of an LSTM: skip that one. Received: "
            + ", ".join(repr(name) for name in sorted(made))
        )


def _rebuilt(model, change, is_left=lambda config: False):
    """Returns a new model from the model's config, each layer's changed.

    Args:
        model: The model.
        change: Takes and returns the config of a layer.
        is_left: Takes the config of a layer and returns whether it, and what
            is inside of it, stays as it is.
    """
    classes = _classes_of_ones_own(model)
    try:
        config = keras.saving.serialize_keras_object(model)
        config["config"] = _changed(config["config"], change, is_left)
        config.pop("compile_config", None)
        return keras.saving.deserialize_keras_object(
            config, custom_objects=classes, safe_mode=False
        )
    except Exception as error:  # whatever a layer's own code raises
        raise ValueError(
            "`model` must be one that Keras can make from its config: "
            "Sequential, functional, or subclassed with `get_config`. "
            f"Received: model={model.name!r} ({type(error).__name__}: {error})"
        ) from error


def _classes_of_ones_own(model):
    """Returns the user's layer classes by name, registered ones aside.

    They need no registration here: the model has them.
    """
    classes = {}
    for layer in model._flatten_layers():
        cls = type(layer)
        name = keras.saving.get_registered_name(cls)
        if cls.__module__.startswith("keras.") or name != cls.__name__:
            continue
        if classes.setdefault(name, cls) is not cls:
            raise ValueError(
                "`model` must not have two classes of one name that are not "
                "registered: decorate them with `keras.saving."
                f"register_keras_serializable`. Received: two named {name}"
            )
    return classes


def _changed(config, change, is_left):
    """Applies a change to every serialised object, innermost first."""
    if isinstance(config, (list, tuple)):
        return type(config)(
            _changed(entry, change, is_left) for entry in config
        )
    if not isinstance(config, dict):
        return config
    is_object = "registered_name" in config
    if is_object and is_left(config):
        # Nothing inside changes either, but that it is not compiled.
        change, is_left = (lambda left: left), (lambda left: False)
    config = {
        key: _changed(value, change, is_left)
        for key, value in config.items()
        if not (is_object and key == "compile_config")
    }
    return change(config) if is_object else config


def _copied(model, change):
    """Returns a new model from the changed config, with the same weights."""
    result = _rebuilt(model, change)
    return _filled(result, model, model.weights, result.weights)


def _filled(result, model, values, into, without_lora=()):
    """Returns a rebuilt model with all that layers hold beside their config.

    Args:
        result: The rebuilt model.
        model: The model it was rebuilt from.
        values: The values of the weights.
        into: The weights that take them.
        without_lora: Layers of the model whose twins have no LoRA any more.
    """
    _copy(values, into)
    _carry_adapted(model, result)
    with_lora = [
        layer for layer in _with_lora(model) if layer not in without_lora
    ]
    for layer, twin in zip(with_lora, _with_lora(result), strict=True):
        twin.lora_alpha = layer.lora_alpha  # Keras' own build forgets it
    return result


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
            counted = {}  # how often its words occur, which Keras wants first
            layer.save_own_variables(counted)
            twin.load_own_variables(counted)
            with tempfile.TemporaryDirectory() as directory:
                layer.save_assets(directory)
                twin.load_assets(directory)
        elif isinstance(layer, keras.layers.Normalization):
            twin.finalize_state()


def _with_lora(model):
    return [
        layer
        for layer in model._flatten_layers()
        if getattr(layer, "lora_enabled", False)
    ]
