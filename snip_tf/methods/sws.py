"""Soft weight-sharing: weights gather at a few values, one of which is zero.

Ullrich et al. 2017 (Soft Weight-Sharing for Neural Network Compression), after
Nowlan and Hinton 1992. Most of what the paper leaves open is as in the authors'
code.
"""

import math

import numpy as np
from keras import ops

from snip_tf import layers
from snip_tf._checks import whole
from snip_tf.methods._method import Method

# Gamma priors of the precisions 1 / sigma^2, as (shape, rate): of the component
# at zero and of the others. Both have the mean 2500.
GAMMAS = (5000.0, 2.0), (250.0, 0.1)


class SWS(Method):
    """Fits a mixture of normals to the weights, and the weights to it.

    The loss gains tau / examples times the negative log density of all masked
    weights under sum_j pi_j N(mu_j, sigma_j^2), eq. 5 to 7, and of the
    precisions under Gamma priors. The component of zero has a fixed mean and
    share. At the end components that have become alike are merged (eq. 8), and
    each weight becomes the mean of that to which it most likely belongs; of
    component zero, it is removed.

        with snip_tf.methods.SWS(model, examples=60_000) as sws:
            model.compile(keras.optimizers.Adam(sws.learning_rate), loss)
            model.fit(x, y, epochs=40, callbacks=[sws])

    How many weights are left is what comes out. The rates of the mixture hold
    where the optimizer is Adam, whose steps do not depend on the scale.

    Args:
        model: A trained Keras model with masked layers. Compile it inside of
            the block, which adds variables, and again after it.
        examples: The number of training examples.
        components: How many, that of zero included.
        tau: See above.
        zero_share: pi of the component of zero.
        learning_rate: That of the optimizer, for the weights.
        rates: Those of means, of log precisions and of log shares.
        merge_below: The divergence below which two components are alike.
        gammas: The Gamma priors, as (shape, rate): of the component of zero and
            of the others.

    Raises:
        ValueError: At the beginning of the block, for an optimizer that is
            built.
    """

    def __init__(
        self,
        model,
        *,
        examples,
        components=16,
        tau=0.003,
        zero_share=0.99,
        learning_rate=5e-4,
        rates=(1e-4, 3e-3, 3e-3),
        merge_below=1e-10,
        gammas=GAMMAS,
    ):
        super().__init__(model)
        self.learning_rate = learning_rate
        self._components = whole("components", components, 2)
        self._zero_share = zero_share
        self._factor, self._merge_below = tau / examples, merge_below
        self._gammas = gammas
        # A variable holds its value over its scale, and so moves faster.
        self._scales = [rate / learning_rate for rate in rates]

    def _begin(self):
        largest = max(float(ops.max(ops.abs(w))) for w in self._weights)
        others = self._components - 1
        means = np.linspace(-largest, largest, others)
        # About half of the distance between two means.
        spread = np.full(self._components, largest / others)
        starts = (
            means,
            -2 * np.log(spread),
            np.full(others, math.log((1 - self._zero_share) / others)),
        )
        owner = layers.masked_layers(self._pruned_model)[0]
        names = "means", "log_precisions", "log_shares"
        self._variables = [
            self._add_variable(owner, f"mixture_{name}", start / scale)
            for name, start, scale in zip(
                names, starts, self._scales, strict=True
            )
        ]
        self._add_loss(self._variables[0], self._complexity)

    def mixture(self):
        """Returns means, log precisions and log shares, zero's first."""
        means, precisions, shares = (
            variable * scale
            for variable, scale in zip(
                self._variables, self._scales, strict=True
            )
        )
        zero = ops.zeros((1,))
        rest = math.log(1 - self._zero_share)
        return (
            ops.concatenate([zero, means]),
            precisions,
            ops.concatenate(
                [
                    zero + math.log(self._zero_share),
                    rest + ops.log_softmax(shares),
                ]
            ),
        )

    def _complexity(self, _):
        """Returns the loss of all weights and precisions."""
        means, precisions, shares = self.mixture()
        total = ops.zeros(())
        for weight in self._weights:
            flat = ops.cast(ops.reshape(weight, (-1,)), "float32")
            total -= ops.sum(log_density(flat, means, precisions, shares))
        for own, (shape, rate) in zip(
            (precisions[:1], precisions[1:]), self._gammas, strict=True
        ):
            total += ops.sum((1 - shape) * own + rate * ops.exp(own))
        return self._factor * total

    def _found_masks(self):
        mixture = merged(
            *(
                ops.convert_to_numpy(part).astype(float)
                for part in self.mixture()
            ),
            self._merge_below,
        )
        return self._bake(assigned(self._flat_weights(), *mixture))


def log_density(weights, means, log_precisions, log_shares):
    """Returns log sum_j pi_j N(w | mu_j, sigma_j^2) of each weight."""
    return ops.logsumexp(
        _log_joint(weights, means, log_precisions, log_shares), axis=-1
    )


def _log_joint(weights, means, log_precisions, log_shares):
    squares = ops.square(weights[:, None] - means)
    return log_shares + 0.5 * (
        log_precisions
        - math.log(2 * math.pi)
        - ops.exp(log_precisions) * squares
    )


def merged(means, log_precisions, log_shares, below):
    """Returns the mixture with alike components in one, eq. 8.

    Two are alike if the divergence of one from the other, the smaller, is below
    `below`. What is merged with the component of zero has its mean.
    """
    parts = [
        (mean, math.exp(-precision), math.exp(share))
        for mean, precision, share in zip(
            means, log_precisions, log_shares, strict=True
        )
    ]
    i = 0
    while i < len(parts):
        j = i + 1
        while j < len(parts):
            if (
                min(
                    _divergence(*parts[i], *parts[j]),
                    _divergence(*parts[j], *parts[i]),
                )
                < below
            ):
                parts[i] = _together(parts[i], parts.pop(j), is_zero=i == 0)
            else:
                j += 1
        i += 1
    means, variances, shares = map(np.array, zip(*parts, strict=True))
    return means, -np.log(variances), np.log(shares)


def _divergence(mean, variance, _, other_mean, other_variance, __):
    return 0.5 * (
        math.log(other_variance / variance)
        + (variance + (mean - other_mean) ** 2) / other_variance
        - 1
    )


def _together(one, other, *, is_zero):
    share = one[2] + other[2]
    mean, variance = (
        (one[2] * one[k] + other[2] * other[k]) / share for k in (0, 1)
    )
    return (0.0 if is_zero else mean), variance, share


def assigned(weights, means, log_precisions, log_shares):
    """Returns the mean of the component that each weight belongs to."""
    joint = _log_joint(weights, means, log_precisions, log_shares)
    return np.asarray(means)[np.argmax(np.asarray(joint), axis=-1)]
