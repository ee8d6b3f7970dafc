"""Dense layers, embeddings and convolutions with masks."""

import keras

from snip_tf.layers.base import MaskedLayer, masks


@masks("kernel")
class Dense(MaskedLayer, keras.layers.Dense):
    """`keras.layers.Dense` with a mask on its kernel."""


@masks("kernel")
class EinsumDense(MaskedLayer, keras.layers.EinsumDense):
    """`keras.layers.EinsumDense` with a mask on its kernel."""

    def unit_axes(self, weight):
        """Returns (input axes, output axes) of the kernel, by the equation."""
        if weight.name == "bias":
            return None
        given, outputs = self.equation.split("->")
        inputs, kernel = given.split(",")
        # An axis of both counts both, as that of a depthwise kernel.
        return tuple(
            tuple(i for i, letter in enumerate(kernel.strip()) if letter in own)
            for own in (inputs, outputs)
        )


@masks("embeddings")
class Embedding(MaskedLayer, keras.layers.Embedding):
    """`keras.layers.Embedding` with a mask on its embeddings."""


@masks("kernel")
class Conv1D(MaskedLayer, keras.layers.Conv1D):
    """`keras.layers.Conv1D` with a mask on its kernel."""


@masks("kernel")
class Conv2D(MaskedLayer, keras.layers.Conv2D):
    """`keras.layers.Conv2D` with a mask on its kernel."""


@masks("kernel")
class Conv3D(MaskedLayer, keras.layers.Conv3D):
    """`keras.layers.Conv3D` with a mask on its kernel."""


@masks("kernel")
class Conv1DTranspose(MaskedLayer, keras.layers.Conv1DTranspose):
    """`keras.layers.Conv1DTranspose` with a mask on its kernel."""

    input_axes, output_axes = (-1,), (-2,)


@masks("kernel")
class Conv2DTranspose(MaskedLayer, keras.layers.Conv2DTranspose):
    """`keras.layers.Conv2DTranspose` with a mask on its kernel."""

    input_axes, output_axes = (-1,), (-2,)


@masks("kernel")
class Conv3DTranspose(MaskedLayer, keras.layers.Conv3DTranspose):
    """`keras.layers.Conv3DTranspose` with a mask on its kernel."""

    input_axes, output_axes = (-1,), (-2,)


@masks("kernel")
class DepthwiseConv1D(MaskedLayer, keras.layers.DepthwiseConv1D):
    """`keras.layers.DepthwiseConv1D` with a mask on its kernel."""

    output_axes = (-2, -1)


@masks("kernel")
class DepthwiseConv2D(MaskedLayer, keras.layers.DepthwiseConv2D):
    """`keras.layers.DepthwiseConv2D` with a mask on its kernel."""

    output_axes = (-2, -1)


@masks("depthwise_kernel", "pointwise_kernel")
class SeparableConv1D(MaskedLayer, keras.layers.SeparableConv1D):
    """`keras.layers.SeparableConv1D` with a mask on both kernels."""


@masks("depthwise_kernel", "pointwise_kernel")
class SeparableConv2D(MaskedLayer, keras.layers.SeparableConv2D):
    """`keras.layers.SeparableConv2D` with a mask on both kernels."""
