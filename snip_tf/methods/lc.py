"""Learning-compression: the weights are drawn towards their pruned selves.

Carreira-Perpinan and Idelbayev 2018 ("Learning-Compression" Algorithms for
Neural Net Pruning); the settings are those of the authors' example.
"""

import keras
import numpy as np
from keras import ops

from snip_tf import _keras
from snip_tf._checks import whole
from snip_tf.masks import kept_weights
from snip_tf.methods._method import Method


class LC(Method):
    """The augmented Lagrangian of: minimise L(w), w = theta, kappa of theta.

    The loss gains mu/2 |w - theta - lambda/mu|^2. After every `every` steps
    theta becomes the kappa largest of w - lambda/mu over the whole network,
    lambda loses mu (w - theta), and mu grows. What comes out is theta. The
    optimizer keeps its momentum over these steps.

        with snip_tf.methods.LC(model, sparsity=0.95, every=4000) as lc:
            model.fit(x, y, epochs=100, callbacks=[lc])

    Args:
        model: A trained Keras model with masked layers, compiled before.
        sparsity: The fraction of all masked weights to remove, in [0, 1).
        every: The number of steps of learning between two of compression.
        mu: The penalty at first.
        growth: What it is multiplied by, each time.

    Raises:
        ValueError: If the sparsity is out of range; in `fit`, if the weights
            are no longer finite.
    """

    def __init__(self, model, *, sparsity, every, mu=9e-5, growth=1.1):
        super().__init__(model)
        total = sum(int(np.prod(weight.shape)) for weight in self._weights)
        self._kappa = kept_weights(total, sparsity)
        self._every, self._growth = whole("every", every, 1), growth
        self._first, self._step, self._learned = None, 0, False
        self._mu = keras.Variable(mu, trainable=False, name="mu")
        # theta + lambda / mu, towards which each weight is drawn.
        self._targets = [
            keras.Variable(ops.zeros_like(weight), trainable=False)
            for weight in self._weights
        ]

    def _begin(self):
        values = self._flat_weights()
        self._multipliers = np.zeros_like(values)
        self._theta = largest(values, self._kappa)
        self._set_targets()
        for weight, target in zip(self._weights, self._targets, strict=True):
            self._add_loss(weight, self._penalty(target))

    def _penalty(self, target):
        return lambda value: self._mu / 2 * ops.sum(ops.square(value - target))

    def on_train_begin(self, logs=None):
        """Counts from here, whatever the optimizer has behind it."""
        if self._first is None:
            self._first = _keras.steps_of(self.model.optimizer)

    def on_train_batch_end(self, batch, logs=None):
        """Compresses, if it is time."""
        before, now = self._step, _keras.steps_of(self.model.optimizer)
        now -= self._first
        self._step, self._learned = now, True
        if now // self._every > before // self._every:
            self._compress()

    def _compress(self):
        values, mu = self._flat_weights(), float(self._mu)
        self._learned = False
        if not np.isfinite(values).all():
            raise ValueError(
                "The weights must stay finite: LC diverged before step "
                f"{self._step:,} at mu={mu:.3g}. Lower the learning rate, to "
                "1/mu at most, or `growth`"
            )
        self._theta = largest(values - self._multipliers / mu, self._kappa)
        self._multipliers -= mu * (values - self._theta)
        self._mu.assign(mu * self._growth)
        self._set_targets()

    def _set_targets(self):
        targets = self._theta + self._multipliers / float(self._mu)
        self._assign(self._targets, targets)

    def _found_masks(self):
        if self._learned:  # since the last time
            self._compress()
        return self._bake(self._theta)


def largest(values, kappa):
    """Returns values of which all but the kappa of the largest size are zero.

    The nearest point with kappa numbers, the C step of the paper. Of equal
    sizes those that come first stay.
    """
    order = np.argsort(-np.abs(values), kind="stable")
    kept = np.zeros_like(values)
    kept[order[:kappa]] = values[order[:kappa]]
    return kept
