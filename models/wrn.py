"""Wide residual networks, WRN-depth-widening (Zagoruyko and Komodakis 2016)."""

import keras

from snip_tf.models import blocks

# (filters before widening, stride of the first block) of each group.
_GROUPS = ((16, 1), (32, 2), (64, 2))


def wrn_16_8(**options):
    """Returns WRN-16-8: 10,958,666 weights on CIFAR-10."""
    return _wrn(16, 8, **options)


def wrn_16_10(**options):
    """Returns WRN-16-10: 17,113,258 weights on CIFAR-10."""
    return _wrn(16, 10, **options)


def wrn_22_8(**options):
    """Returns WRN-22-8: 17,153,610 weights on CIFAR-10."""
    return _wrn(22, 8, **options)


def _wrn(depth, widening, input_shape=blocks.CIFAR, classes=10, **weights):
    options = blocks.weight_options(**weights)
    images = keras.Input(input_shape)
    x = blocks.conv(16, 3, padding="same", name="conv1", **options)(images)
    for group, (filters, strides) in enumerate(_GROUPS, 1):
        # The depth counts convolutions: two in each block of the three groups,
        # the first one, and one in each of the three shortcuts that widen.
        for index in range(1, (depth - 4) // 6 + 1):
            x = _block(
                x,
                filters * widening,
                strides=strides if index == 1 else 1,
                name=f"group{group}_block{index}",
                **options,
            )
    x = keras.layers.GlobalAveragePooling2D()(blocks.batch_norm_relu(x, "last"))
    logits = blocks.dense(classes, name="fc1", **options)(x)
    return keras.Model(images, logits, name=f"wrn_{depth}_{widening}")


def _block(x, filters, *, strides, name, **options):
    """Applies a pre-activated residual block of two 3x3 convolutions."""
    activated = blocks.batch_norm_relu(x, name)
    shortcut = x
    if x.shape[-1] != filters:
        shortcut = blocks.conv(
            filters, 1, strides=strides, name=f"{name}_shortcut", **options
        )(activated)
    x = blocks.conv_bn_relu(
        activated, filters, 3, strides=strides, name=f"{name}_conv1", **options
    )
    x = blocks.conv(
        filters, 3, padding="same", name=f"{name}_conv2", **options
    )(x)
    return keras.layers.Add(name=f"{name}_add")([shortcut, x])
