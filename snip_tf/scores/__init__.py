"""Scores by name: what weights are kept by.

Every score is a function of (model, x, y=None, *, loss=None, training=False,
seed=..., options of its own) that takes and returns what `sensitivity` does
and leaves the model as it was; what it has no use for, it ignores. A new one
is a file here and a row of the table.
"""

from snip_tf._checks import check_one_of
from snip_tf.scores.controls import magnitude, random, shuffled_sensitivity
from snip_tf.scores.grasp import grasp
from snip_tf.scores.obd import obd
from snip_tf.scores.synflow import synflow
from snip_tf.scores.warm_up import warmed_up
from snip_tf.scoring import sensitivity

SCORES = {
    "snip": sensitivity,
    "random": random,
    "magnitude": magnitude,
    "shuffled": shuffled_sensitivity,
    "grasp": grasp,
    "synflow": synflow,
    "obd": obd,
    # In many steps, of which `stepwise` knows.
    "snip_iterative": sensitivity,
    "force": sensitivity,
}

__all__ = [
    "SCORES",
    "get",
    "grasp",
    "magnitude",
    "obd",
    "random",
    "sensitivity",
    "shuffled_sensitivity",
    "synflow",
    "warmed_up",
]


def get(criterion):
    """Returns the score of a name of `SCORES`; a function is one itself.

    Raises:
        ValueError: If it is neither.
    """
    if callable(criterion):
        return criterion
    check_one_of("criterion", criterion, SCORES)
    return SCORES[criterion]
