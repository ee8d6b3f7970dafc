"""Dynamic network surgery: weights that are masked train on, and may come back.

Guo et al. 2016 (Dynamic Network Surgery for Efficient DNNs).
"""

import keras
import numpy as np
from keras import ops

from snip_tf import layers, overriding
from snip_tf._checks import naming
from snip_tf.methods._method import Method


class DNS(Method):
    """Masks by two thresholds a layer, looked at ever more rarely.

    A weight whose size falls to 0.9 t or below is masked, one above 1.1 t comes
    back; t = max(mean|w| + c std|w|, 0) over the masked weights of its layer
    when the block begins (eq. 3, and the authors' code). The gradient is that
    of the masked network, and every weight takes it, masked or not (eq. 4).
    Each step the masks of a layer are looked at with the probability
    (1 + gamma step)^-power, and from step `stop` on never again.

        with snip_tf.methods.DNS(model, c=1.0) as dns:
            model.fit(x, y, callbacks=[dns])

    How many weights are left is what comes out. The authors take c = 5, 3, 3
    for LeNet-300-100 and 2, 3, 4, 2.5 for LeNet-5, layer by layer.

    Args:
        model: A trained Keras model with masked layers.
        c: What sets the thresholds; one number, or a dict by names of layers.
        gamma: See above.
        power: See above.
        stop: See above.
        seed: Of the draws.

    Raises:
        ValueError: For a layer that has no number.
    """

    def __init__(self, model, *, c, gamma=1e-4, power=1.0, stop=20_000, seed=0):
        super().__init__(model)
        for layer in self._owners:
            if type(layer).read is not layers.base.MaskedLayer.read:
                raise ValueError(
                    "DNS is for layers that read their weights as they are. "
                    f"Received: {layer.name!r}, a {type(layer).__name__}"
                )
        names = [layer.name for layer in self._owners]
        if isinstance(c, dict) and set(c) != set(names):
            raise ValueError(
                f"`c` must have a number for each of {', '.join(names)}. "
                f"Received: c={c}"
            )
        c = c if isinstance(c, dict) else dict.fromkeys(names, c)
        with naming(c=c):
            self._c = {name: float(value) for name, value in c.items()}
        self._gamma, self._power, self._stop = gamma, power, stop
        self._draws = keras.random.SeedGenerator(seed)
        self._step = keras.Variable(0, trainable=False, dtype="int32")

    def _begin(self):
        self._thresholds = [
            threshold(layer, self._c[layer.name]) for layer in self._owners
        ]
        self._override("read", _straight_through)
        self._changes.enter_context(
            overriding.overridden(
                [self._pruned_model], "train_step", self._looking
            )
        )

    def _looking(self, _, train_step):
        """Returns the step and a look at the masks after it, in one graph."""

        def step(*arguments):
            logs = train_step(*arguments)
            now = ops.cast(self._step, "float32")
            share = (1 + self._gamma * now) ** -self._power
            share = ops.where(self._step < self._stop, share, 0.0)
            for layer, threshold in zip(
                self._owners, self._thresholds, strict=True
            ):
                drawn = keras.random.uniform((), seed=self._draws)
                for weight, mask in layer.masked_weights():
                    found = surgery(weight, mask, threshold)
                    mask.assign(ops.where(drawn < share, found, mask))
            self._step.assign_add(1)
            return logs

        return step

    def _found_masks(self):
        return [ops.convert_to_numpy(mask) for _, mask in self._pairs]


def threshold(layer, c):
    """Returns t of a layer, over what is not zero of its masked weights."""
    sizes = np.concatenate(
        [
            np.abs(ops.convert_to_numpy(weight)).ravel()
            for weight, _ in layer.masked_weights()
        ]
    )
    sizes = sizes[sizes > 0].astype(np.float64)
    return max(float(sizes.mean() + c * sizes.std()), 0.0)


def surgery(weight, mask, threshold):
    """Returns the new mask, eq. 3: between the thresholds it stays."""
    size = ops.abs(weight)
    kept = ops.where(size > 1.1 * threshold, 1.0, mask)
    return ops.where(size <= 0.9 * threshold, 0.0, kept)


def _straight_through(layer, read):
    """Returns `read` whose gradient is that of the weight without the mask."""

    def straight_through(name):
        weight = getattr(layer, layers.base.stored(name))
        if weight is None:  # no bias
            return None
        weight = ops.convert_to_tensor(weight)
        # Its value is exactly that of the masked weight.
        return ops.stop_gradient(read(name) - weight) + weight

    return straight_through
