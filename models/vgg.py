"""VGG for CIFAR-10 (Simonyan and Zisserman 2015; Zagoruyko 2015).

Batch normalisation instead of dropout, and hidden fully connected layers of
512 units (Lee et al. 2019, 5.3).
"""

import keras

from snip_tf.models import blocks

# Stages of (filters, kernel sizes), each ending in max pooling: 32 -> 1.
_VGG_C = (
    (64, (3, 3)),
    (128, (3, 3)),
    (256, (3, 3, 1)),
    (512, (3, 3, 1)),
    (512, (3, 3, 1)),
)
_VGG_D = (
    (64, (3, 3)),
    (128, (3, 3)),
    (256, (3, 3, 3)),
    (512, (3, 3, 3)),
    (512, (3, 3, 3)),
)


def vgg_c(**options):
    """Returns VGG-C, of 1x1 convolutions too: 10,526,538 weights."""
    return _vgg("vgg_c", _VGG_C, (512, 512), **options)


def vgg_d(**options):
    """Returns VGG-D, better known as VGG-16: 15,245,130 weights."""
    return _vgg("vgg_d", _VGG_D, (512, 512), **options)


def vgg_like(**options):
    """Returns VGG-D with one hidden layer less: 14,982,474 weights."""
    return _vgg("vgg_like", _VGG_D, (512,), **options)


def _vgg(name, stages, widths, input_shape=blocks.CIFAR, classes=10, **weights):
    options = blocks.weight_options(**weights)
    x = images = keras.Input(input_shape)
    for stage, (filters, sizes) in enumerate(stages, 1):
        for index, size in enumerate(sizes, 1):
            x = blocks.conv_bn_relu(
                x, filters, size, name=f"conv{stage}_{index}", **options
            )
        x = keras.layers.MaxPooling2D(2, name=f"pool{stage}")(x)
    logits = blocks.classifier(x, widths, classes, **options)
    return keras.Model(images, logits, name=name)
