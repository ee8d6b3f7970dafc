"""Sparse variational dropout: weights that are mostly noise go.

Molchanov et al. 2017 (Variational Dropout Sparsifies Deep Neural Networks).
"""

import keras
import numpy as np
from keras import ops

from snip_tf import _keras, layers, overriding
from snip_tf._checks import naming, whole
from snip_tf.methods._method import Method

_EPSILON = 1e-8  # below a root or a logarithm


class SVD(Method):
    """Learns the variance of each kernel's weights with their values.

    A weight is N(theta, sigma^2), alpha = sigma^2 / theta^2. The loss gains
    the divergence from the log-uniform prior, over the number of examples as
    the rest is a mean. Outputs of layers are drawn, not weights (section 4.1).
    A weight with log alpha of `threshold` or more counts as zero. Biases have
    no noise and stay.

        with snip_tf.methods.SVD(model, examples=60_000) as svd:
            model.compile(keras.optimizers.Adam(1e-3), loss)
            model.fit(x, y, epochs=200, callbacks=[svd])

    How many weights are left is what comes out. For the block Adam's epsilon
    becomes small, as gradients are divided by the number of examples.

    Args:
        model: A Keras model whose masked layers are Dense or convolutions.
            Compile it inside of the block, which adds variables, and again
            after it.
        examples: The number of training examples.
        warm_up: The steps between which the divergence counts ever more, from
            nothing to all, as (begin, end).
        threshold: See above, in natural logarithms.
        initial: log sigma^2 at first.

    Raises:
        ValueError: For other layers; at the beginning of the block, for an
            optimizer that is built.
    """

    def __init__(
        self, model, *, examples, warm_up=(0, 1), threshold=3.0, initial=-10.0
    ):
        super().__init__(model)
        for layer in self._owners:
            is_known = layer.weight_names == ("kernel",)
            is_known &= hasattr(layer, "activation")
            if not is_known or layer.compute_dtype != "float32":
                raise ValueError(
                    "SVD is for Dense layers and convolutions in float32. "
                    f"Received: {layer.name!r}, a {type(layer).__name__} in "
                    f"{layer.compute_dtype}"
                )
        with naming(warm_up=warm_up):
            begin, end = warm_up
            whole("warm_up", end, whole("warm_up", begin) + 1)
        self._examples, self._warm_up = examples, warm_up
        self._threshold, self._initial = threshold, initial
        self._share = keras.Variable(0.0, trainable=False, name="kl_share")
        self._log_variances = {}

    def _begin(self):
        for layer in self._owners:
            start = np.full(layer._kernel.shape, self._initial)
            variable = self._add_variable(layer, "log_variance", start)
            self._log_variances[id(layer)] = variable
            self._add_loss(variable, self._divergence(layer))
        self._override("read", self._reader)
        self._override("call", self._caller)

    def _divergence(self, layer):
        return lambda log_variance: (
            self._share
            / self._examples
            * ops.sum(divergence(log_alpha(layer._kernel, log_variance)))
        )

    def on_train_begin(self, logs=None):
        """Sets Adam's epsilon, before the step is traced."""
        if hasattr(self.model.optimizer, "epsilon"):
            self.model.optimizer.epsilon = 1e-12

    def on_train_batch_begin(self, batch, logs=None):
        """Lets the divergence count as much as it should."""
        begin, end = self._warm_up
        step = _keras.steps_of(self.model.optimizer)
        self._share.assign(min(max((step - begin) / (end - begin), 0.0), 1.0))

    def _reader(self, layer, read):
        def mean(name):
            weight = read(name)
            if name != "kernel":
                return weight
            return weight * ops.cast(self._kept(layer), weight.dtype)

        return mean

    def _kept(self, layer):
        found = log_alpha(layer._kernel, self._log_variances[id(layer)])
        return ops.cast(found < self._threshold, "float32")

    def _caller(self, layer, call):
        def variance_of(name):  # the bias has none
            if name == "kernel":
                return ops.exp(self._log_variances[id(layer)])
            bias = getattr(layer, layers.base.stored(name))
            return None if bias is None else ops.zeros_like(bias)

        def drawn(inputs, **options):
            if not _keras.is_training(layer):
                return call(inputs, **options)
            # The layer computes what is linear in its kernel: first the mean,
            # then the variance of its outputs.
            activation = layer.activation
            try:
                layer.activation = keras.activations.linear
                mean = call(inputs, **options)
                with overriding.overridden(
                    [layer], "read", lambda layer, read: variance_of
                ):
                    spread = call(ops.square(inputs), **options)
            finally:
                layer.activation = activation
            noise = keras.random.normal(ops.shape(mean), dtype=mean.dtype)
            return activation(mean + ops.sqrt(spread + _EPSILON) * noise)

        return drawn

    def _found_masks(self):
        kept = {
            id(mask): self._kept(layer)
            for layer in self._owners
            for weight, mask in layer.masked_weights()
            if weight.name != "bias"
        }
        return [
            ops.convert_to_numpy(kept.get(id(mask), mask))
            for _, mask in self._pairs
        ]


def log_alpha(mean, log_variance):
    """Returns log sigma^2 - log theta^2, in [-8, 8] as in the authors' code."""
    found = log_variance - ops.log(ops.square(mean) + _EPSILON)
    return ops.clip(found, -8.0, 8.0)


def divergence(log_alpha):
    """Returns the divergence of N(theta, sigma^2) from the log-uniform prior.

    The approximation of section 4.2, eq. 14, which is zero at alpha = infinity.
    """
    k1, k2, k3 = 0.63576, 1.87320, 1.48695
    return (
        k1
        - k1 * ops.sigmoid(k2 + k3 * log_alpha)
        + 0.5 * ops.softplus(-log_alpha)
    )
