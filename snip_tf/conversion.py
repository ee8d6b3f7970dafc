"""Between masked models and plain Keras models."""

import keras

from snip_tf import layers


def strip(model):
    """Returns the same model of plain Keras layers, zeros baked in.

    The result needs neither masks nor snip_tf; the model itself is unchanged.

    Args:
        model: A built Sequential or functional model with masked layers.

    Raises:
        ValueError: If the model has no masks, or if Keras cannot clone it.
    """
    pairs = layers.masked_weights(model)
    effective = {id(weight): weight * mask for weight, mask in pairs}
    masks = {id(mask) for _, mask in pairs}

    def plain(layer):
        if not isinstance(layer, layers.MaskedLayer):
            return layer.__class__.from_config(layer.get_config())
        config = layer.get_config()
        del config["mask_bias"]
        return layers.stock_class_of(type(layer)).from_config(config)

    stripped = keras.models.clone_model(
        model, clone_function=plain, recursive=True
    )
    # Masks come after the weights of their layer: without them both models
    # list the same weights in the same order.
    weights = [weight for weight in model.weights if id(weight) not in masks]
    stripped.set_weights(
        [effective.get(id(weight), weight) for weight in weights]
    )
    return stripped
