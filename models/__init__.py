"""The networks of the SNIP paper, by name.

Every network takes images and returns logits, is built, and has masks on all
kernels and biases, which is how the paper counts its parameters (Table 2).
"""

from snip_tf.models import lenet

_BUILDERS = {
    "lenet_300_100": lenet.lenet_300_100,
    "lenet_5_caffe": lenet.lenet_5_caffe,
}
NAMES = tuple(_BUILDERS)


def build(name, **options):
    """Returns a new network with masks of ones.

    Args:
        name: One of `snip_tf.models.NAMES`.
        **options: Passed to the network's function: `input_shape`, `classes`,
            `kernel_initializer`, `bias_initializer`.

    Raises:
        ValueError: If there is no network of that name.
    """
    if name not in _BUILDERS:
        raise ValueError(
            f"`name` must be one of {', '.join(NAMES)}. Received: name={name!r}"
        )
    return _BUILDERS[name](**options)


__all__ = ["NAMES", "build"]
