"""Rules of layers without weights; most output units are input units."""

import keras
import numpy as np

from snip_tf.compaction.facts import Facts, Rule, is_elementwise, only_zeros
from snip_tf.compaction.graph import size


class _Passing(Rule):
    """Units stay what they are, and so do constants: pooling, dropout."""

    def accepts(self, call):
        return getattr(call.layer, "noise_shape", None) is None

    def forward(self, call, weights, inputs):
        return Facts(inputs, inputs[0], [np.arange(len(inputs[0]))])


class _ZeroPadding(_Passing):
    """Of the constants only zero is one at the border as well."""

    def forward(self, call, weights, inputs):
        return super().forward(call, weights, [only_zeros(inputs[0])])


class _Flatten(Rule):
    """Every position of a channel becomes a unit."""

    def accepts(self, call):
        return size(call.outputs[0]) > 0

    def forward(self, call, weights, inputs):
        units = np.arange(size(call.outputs[0])) % len(inputs[0])
        return Facts(inputs, inputs[0][units], [units])


class _Concatenate(Rule):
    """Units of one input after those of another."""

    takes_many = True

    def accepts(self, call):
        return call.layer.axis in (-1, len(call.inputs[0].shape) - 1)

    def forward(self, call, weights, inputs):
        outputs = np.concatenate(inputs)
        ties, start = [], 0
        for given in inputs:
            tie = np.full(len(outputs), -1)
            tie[start : start + len(given)] = np.arange(len(given))
            ties.append(tie)
            start += len(given)
        return Facts(inputs, outputs, ties)


class _Elementwise(Rule):
    """Numbers of one input, or of several that meet their like.

    A unit goes only where all inputs agree.
    """

    takes_many = True

    def accepts(self, call):
        sizes = {size(tensor) for tensor in call.inputs}
        return len(sizes) == 1 and is_elementwise(call.layer)

    def forward(self, call, weights, inputs):
        known = ~np.isnan(inputs).any(axis=0)
        values = np.nan_to_num(inputs)[:, None]
        values = keras.ops.convert_to_tensor(values, "float32")
        ids = map(id, call.inputs)
        args, _ = call.given(dict(zip(ids, values, strict=True)))
        # Not the layer itself, which notes down that it was called.
        outputs = keras.ops.convert_to_numpy(call.layer.call(*args))[0]
        ties = [np.arange(len(known)) for _ in inputs]
        return Facts(inputs, np.where(known, outputs, np.nan), ties)


# By the names of the layers; n stands for 1D, 2D and 3D.
RULES = {
    "Dropout SpatialDropout{n} MaxPooling{n} AveragePooling{n} "
    "GlobalMaxPooling{n} GlobalAveragePooling{n} "
    "UpSampling{n} Cropping{n}": _Passing(),
    "ZeroPadding{n}": _ZeroPadding(),
    "Flatten": _Flatten(),
    "Concatenate": _Concatenate(),
    "Activation ReLU LeakyReLU ELU Identity GaussianNoise "
    "Add Subtract Multiply Average Maximum Minimum": _Elementwise(),
}
# Operations, such as x + y, have no public classes; they are elementwise.
OPERATIONS = "Add Subtract Multiply Maximum Minimum Relu Sigmoid Tanh".split()
