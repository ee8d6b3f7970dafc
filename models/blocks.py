"""What the networks share."""

import keras

from snip_tf import layers

# Fan-in scaled truncated normal, as in the authors' code. The paper's own
# ablation (Table 3) finds little between the variance scaling methods.
KERNEL_INITIALIZER = "lecun_normal"


def prunable(layer_class, *arguments, kernel_initializer, **options):
    """Returns a masked layer that draws its own kernel and masks its bias."""
    initializer = keras.initializers.get(kernel_initializer)
    return layer_class(
        *arguments,
        # An initialiser object draws the same numbers each time it is used.
        kernel_initializer=initializer.clone(),
        mask_bias=True,
        **options,
    )


def dense(*arguments, **options):
    """Returns a masked Dense layer with a masked bias."""
    return prunable(layers.Dense, *arguments, **options)


def conv(*arguments, **options):
    """Returns a masked Conv2D layer with a masked bias."""
    return prunable(layers.Conv2D, *arguments, **options)
