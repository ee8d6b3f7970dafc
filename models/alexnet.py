"""AlexNet for CIFAR-10: strides instead of pooling (Lee et al. 2019, 5.3).

The paper's text gives its hidden fully connected layers 512 and 1024 units; the
parameter counts of its Table 2 and the authors' code, 1024 and 2048.
"""

import keras

from snip_tf.models import blocks

# (filters, kernel size) of each convolution, all with stride 2: 32 -> 1.
_CONVS = ((96, 11), (256, 5), (384, 3), (384, 3), (256, 3))


def alexnet_s(width=1024, **options):
    """Returns the small AlexNet: 5,070,218 weights on CIFAR-10."""
    return _alexnet("alexnet_s", width, **options)


def alexnet_b(width=2048, **options):
    """Returns the big AlexNet: 8,490,378 weights on CIFAR-10."""
    return _alexnet("alexnet_b", width, **options)


def _alexnet(name, width, input_shape=blocks.CIFAR, classes=10, **weights):
    options = blocks.weight_options(**weights)
    x = images = keras.Input(input_shape)
    for index, (filters, size) in enumerate(_CONVS, 1):
        x = blocks.conv_bn_relu(
            x, filters, size, strides=2, name=f"conv{index}", **options
        )
    logits = blocks.classifier(x, (width, width), classes, **options)
    return keras.Model(images, logits, name=name)
