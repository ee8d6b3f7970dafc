"""The kept weights drawn anew, as the authors' code and Table 3 have it."""

import inspect

import keras

from snip_tf import _checks, layers


def redraw(model, kernel_initializer=None):
    """Draws all masked weights anew from their layers' initialisers.

    A layer whose initialiser has a fixed seed gets its old values again. The
    masks stay, and removed weights stay zero.

    Args:
        model: A built Keras model with masked layers.
        kernel_initializer: A Keras initialiser or its name to draw all weights
            but the biases from; by default each layer's own.

    Raises:
        ValueError: If it does not draw them all. The model is then unchanged.
    """
    drawn_anew(model, kernel_initializer)()


def drawn_anew(model, kernel_initializer=None):
    """Draws as `redraw` does; returns the function that assigns the draw."""
    pairs = []
    for layer in layers.masked_layers(model):
        if not layer.masked_weights():
            continue  # its cell or its projections have them
        # An initialiser object returns the same values each time it is asked;
        # a layer made from the config draws for itself.
        config = layer.get_config()
        # That of other people's subclass stands inside, see `Rebuilt`.
        own = config.get("layer", {}).get("config", config)
        with _checks.naming(kernel_initializer=kernel_initializer):
            for key in own:
                if not key.endswith("_initializer"):
                    continue
                before = getattr(layer, key, None)
                if kernel_initializer is not None and key != "bias_initializer":
                    initializer = keras.initializers.get(kernel_initializer)
                    own[key] = initializer.clone()
                elif inspect.isfunction(before):  # its name may say nothing
                    own[key] = before
            twin = type(layer).from_config(config)
            twin.build_from_config(layer.get_build_config())
        pairs += zip(layer.masked_weights(), twin.masked_weights(), strict=True)

    def assign():  # none of them failed
        for (weight, mask), (drawn, _) in pairs:
            weight.assign(drawn * mask)

    return assign
