"""Rounds of removing what costs least to second order, and retraining between.

LeCun et al. 1990 (Optimal Brain Damage).
"""

from snip_tf.gradual import PruneGradually
from snip_tf.methods.lwc import in_rounds


class OBD(PruneGradually):
    """Removes the least saliencies of the whole network, in rounds.

        prune = snip_tf.methods.OBD(x, y, 0.9, begin=1000, every=500)
        model.fit(x, y, epochs=10, callbacks=[prune])

    Args:
        x: What the second derivatives are taken on; see `scores.obd`.
        y: The targets.
        sparsity: See `LWC`.
        begin: See `LWC`; train to a minimum before.
        every: See `LWC`.
        rounds: See `LWC`.
        **options: Passed to `prune`.

    Raises:
        ValueError: See `PruneGradually` and `scores.obd`.
    """

    def __init__(self, x, y, sparsity, *, begin, every, rounds=3, **options):
        rounds = in_rounds(sparsity, begin, every, rounds)
        super().__init__(x, y, criterion="obd", **rounds, **options)
