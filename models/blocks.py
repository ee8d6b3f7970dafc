"""What the networks share."""

import keras

from snip_tf import layers

# (height, width, channels) of what the paper trains the networks on.
MNIST = (28, 28, 1)
CIFAR = (32, 32, 3)


# The names of Table 3, and the authors' own draw. The paper does not give the
# deviation of the first two: 1 is the default of the TensorFlow it was run on.
INITIALIZERS = {
    "rn": keras.initializers.RandomNormal(stddev=1.0),
    "tn": keras.initializers.TruncatedNormal(stddev=1.0),
    "vs_x": keras.initializers.GlorotUniform(),
    "vs_h": keras.initializers.HeNormal(),
    "lecun": keras.initializers.LecunNormal(),
}


def weight_options(
    # Fan-in scaled truncated normal, as in the authors' code. The paper's own
    # ablation (Table 3) finds little between the variance scaling methods.
    kernel_initializer="lecun",
    bias_initializer="zeros",
    # The paper counts and prunes biases too (Table 2).
    mask_bias=True,
):
    """Returns the options that all layers of a network take; no others pass."""
    return {
        "kernel_initializer": kernel_initializer,
        "bias_initializer": bias_initializer,
        "mask_bias": mask_bias,
    }


def own(initializer):
    """Returns an initialiser that draws for one weight only.

    An initialiser object draws the same numbers each time it is used.

    Args:
        initializer: A name of INITIALIZERS, a Keras initialiser or its name.
    """
    if isinstance(initializer, str):
        initializer = INITIALIZERS.get(initializer, initializer)
    return keras.initializers.get(initializer).clone()


def prunable(
    layer_class, *arguments, kernel_initializer, bias_initializer, **options
):
    """Returns a masked layer that draws its own weights."""
    return layer_class(
        *arguments,
        kernel_initializer=own(kernel_initializer),
        bias_initializer=own(bias_initializer),
        **options,
    )


def dense(*arguments, **options):
    """Returns a masked Dense layer."""
    return prunable(layers.Dense, *arguments, **options)


def conv(*arguments, **options):
    """Returns a masked Conv2D layer."""
    return prunable(layers.Conv2D, *arguments, **options)


def batch_norm(name):
    """Returns the batch normalisation of a layer; it has no masks."""
    return keras.layers.BatchNormalization(
        momentum=0.99, epsilon=1e-3, name=f"{name}_bn"
    )


def batch_norm_relu(x, name):
    """Applies batch normalisation and ReLU."""
    return keras.layers.ReLU(name=f"{name}_relu")(batch_norm(name)(x))


def conv_bn_relu(x, filters, size, *, name, **options):
    """Applies a convolution of padding "same", batch normalisation, ReLU."""
    x = conv(filters, size, padding="same", name=name, **options)(x)
    return batch_norm_relu(x, name)


def classifier(x, widths, classes, **options):
    """Flattens, applies hidden layers of these widths, returns the logits."""
    x = keras.layers.Flatten()(x)
    for index, width in enumerate(widths, 1):
        x = dense(width, name=f"fc{index}", **options)(x)
        x = batch_norm_relu(x, f"fc{index}")
    return dense(classes, name=f"fc{len(widths) + 1}", **options)(x)
