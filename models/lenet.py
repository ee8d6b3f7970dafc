"""LeNet-300-100 and LeNet-5-Caffe (LeCun et al. 1998; Caffe's example)."""

import keras

from snip_tf.models import blocks


def lenet_300_100(
    input_shape=blocks.MNIST, classes=10, batch_norm=False, **weights
):
    """Returns the fully connected LeNet: 266,610 weights on MNIST."""
    options = blocks.weight_options(**weights)
    layers = [keras.Input(input_shape), keras.layers.Flatten()]
    for name, units in (("fc1", 300), ("fc2", 100)):
        hidden = blocks.dense(units, name=name, **options)
        layers += _activated(hidden, "relu", batch_norm)
    layers.append(blocks.dense(classes, name="fc3", **options))
    return keras.Sequential(layers, name="lenet_300_100")


def lenet_5_caffe(
    input_shape=blocks.MNIST,
    classes=10,
    batch_norm=False,
    conv_activation=None,
    **weights,
):
    """Returns the convolutional LeNet: 431,080 weights on MNIST.

    As in Caffe's network and in the authors' code there is no non-linearity
    after the convolutions but max pooling, unless there is a `conv_activation`.
    """
    options = blocks.weight_options(**weights)
    layers = [keras.Input(input_shape)]
    for name, filters in (("conv1", 20), ("conv2", 50)):
        hidden = blocks.conv(filters, 5, name=name, **options)
        layers += _activated(hidden, conv_activation, batch_norm)
        layers.append(keras.layers.MaxPooling2D(2))
    hidden = blocks.dense(500, name="fc1", **options)
    layers += [
        keras.layers.Flatten(),
        *_activated(hidden, "relu", batch_norm),
        blocks.dense(classes, name="fc2", **options),
    ]
    return keras.Sequential(layers, name="lenet_5_caffe")


def _activated(layer, activation, batch_norm):
    """Returns a linear layer and what follows it: normalised first, if at all.

    Without normalisation the layer has the activation itself.
    """
    if not batch_norm:
        layer.activation = keras.activations.get(activation)
        return [layer]
    activate = keras.layers.Activation(activation, name=f"{layer.name}_act")
    return [layer, blocks.batch_norm(layer.name), activate]
