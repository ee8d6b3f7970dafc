"""LeNet-300-100 and LeNet-5-Caffe (LeCun et al. 1998; Caffe's example)."""

import keras

from snip_tf.models import blocks


def lenet_300_100(input_shape=blocks.MNIST, classes=10, **initializers):
    """Returns the fully connected LeNet: 266,610 weights on MNIST."""
    options = blocks.initializers(**initializers)
    return keras.Sequential(
        [
            keras.Input(input_shape),
            keras.layers.Flatten(),
            blocks.dense(300, activation="relu", name="fc1", **options),
            blocks.dense(100, activation="relu", name="fc2", **options),
            blocks.dense(classes, name="fc3", **options),
        ],
        name="lenet_300_100",
    )


def lenet_5_caffe(input_shape=blocks.MNIST, classes=10, **initializers):
    """Returns the convolutional LeNet: 431,080 weights on MNIST.

    As in Caffe's network and in the authors' code there is no non-linearity
    after the convolutions but max pooling.
    """
    options = blocks.initializers(**initializers)
    return keras.Sequential(
        [
            keras.Input(input_shape),
            blocks.conv(20, 5, name="conv1", **options),
            keras.layers.MaxPooling2D(2),
            blocks.conv(50, 5, name="conv2", **options),
            keras.layers.MaxPooling2D(2),
            keras.layers.Flatten(),
            blocks.dense(500, activation="relu", name="fc1", **options),
            blocks.dense(classes, name="fc2", **options),
        ],
        name="lenet_5_caffe",
    )
