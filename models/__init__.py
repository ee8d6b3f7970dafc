"""The networks of the SNIP paper, by name.

Every network takes images and returns logits, is built, and has masks on all
kernels and biases, which is how the paper counts its parameters (Table 2).
"""

from snip_tf._checks import check_one_of, naming, whole
from snip_tf.models import alexnet, blocks, lenet, rnn, vgg, wrn

_BUILDERS = {
    "lenet_300_100": lenet.lenet_300_100,
    "lenet_5_caffe": lenet.lenet_5_caffe,
    "alexnet_s": alexnet.alexnet_s,
    "alexnet_b": alexnet.alexnet_b,
    "vgg_c": vgg.vgg_c,
    "vgg_d": vgg.vgg_d,
    "vgg_like": vgg.vgg_like,
    "wrn_16_8": wrn.wrn_16_8,
    "wrn_16_10": wrn.wrn_16_10,
    "wrn_22_8": wrn.wrn_22_8,
    "lstm_s": rnn.lstm_s,
    "lstm_b": rnn.lstm_b,
    "gru_s": rnn.gru_s,
    "gru_b": rnn.gru_b,
}
NAMES = tuple(_BUILDERS)


def build(name, **options):
    """Returns a new network with masks of ones.

    Args:
        name: One of `snip_tf.models.NAMES`.
        **options: Passed to the network's function:
            `input_shape`: (height, width, channels) of one image, by default
            that of the paper's data set.
            `classes`: The number of logits, by default 10.
            `kernel_initializer`: A name of Table 3, rn, tn, vs_x or vs_h; or
            lecun, the default; or a Keras initialiser or its name. Used for
            recurrent kernels too.
            `bias_initializer`: The same for biases; those of a GRU's gates
            are one more. A bias that starts at zero, the default, has
            sensitivity zero and so is pruned.
            `mask_bias`: Whether biases have masks, as they do by default.
            `batch_norm`, LeNets only: Whether batch normalisation stands
            between each hidden layer and its activation. By default not.
            `conv_activation`, LeNet-5-Caffe only: What follows its
            convolutions, a Keras activation; by default nothing.
            `width`, AlexNet only: The units of its two hidden layers.
            `units`, LSTM and GRU only: The size of the state.

    Raises:
        ValueError: If there is no network of that name, or if it does not take
            these options.
    """
    check_one_of("name", name, NAMES)
    with naming(**options):
        for key in options.keys() & {"classes", "units", "width"}:
            options[key] = whole(key, options[key], 1)
        _, _, _ = options.get("input_shape", blocks.MNIST)  # three sizes
        return _BUILDERS[name](**options)


__all__ = ["NAMES", "build"]
