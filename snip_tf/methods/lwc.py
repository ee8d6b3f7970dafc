"""Rounds of removing small weights of each layer, and retraining between.

Han et al. 2015 (Learning both Weights and Connections for Efficient Neural
Networks).
"""

import math

from snip_tf import schedules
from snip_tf._checks import whole
from snip_tf.gradual import PruneGradually


class LWC(PruneGradually):
    """Removes the smallest weights of layers, or of all, in rounds.

    Retrain at a tenth of the learning rate (section 4.1). The paper says
    neither how many rounds its LeNets had nor what each removed: here the same
    share of what is left. The wanted share takes the place of the paper's
    threshold, a multiple of the deviation, which gives no exact number.

        prune = snip_tf.methods.LWC({"fc1": 0.9}, begin=1000, every=500)
        model.fit(x, y, epochs=10, callbacks=[prune])

    Args:
        sparsity: The fraction of its masked weights to remove, by the names of
            layers; or one, of the whole network.
        begin: The step of the first round, counted since the optimizer was
            made; train before.
        every: The steps between two rounds.
        rounds: Their number.

    Raises:
        ValueError: See `PruneGradually`.
    """

    def __init__(self, sparsity, *, begin, every, rounds=3):
        super().__init__(**in_rounds(sparsity, begin, every, rounds))


def in_rounds(sparsity, begin, every, rounds):
    """Returns the options of `PruneGradually` that prune in rounds."""
    begin, every = whole("begin", begin), whole("every", every, 1)
    rounds = whole("rounds", rounds, 1)
    fractions = sparsity if isinstance(sparsity, dict) else {None: sparsity}
    found = {
        name: schedules.rounds(fraction, begin, every, rounds)
        for name, fraction in fractions.items()
    }
    schedule = found.get(None, found)
    return {"schedule": schedule, "every": math.gcd(begin, every)}
