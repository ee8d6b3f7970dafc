"""Data sets in memory, and batches that are a pure function of (seed, i)."""

from snip_tf.data.batches import (
    Data,
    evaluation_batches,
    load,
    scoring_batch,
    standardise,
    training_batches,
    with_shuffled_labels,
)
from snip_tf.data.sources import NAMES, Split, take

__all__ = [
    "NAMES",
    "Data",
    "Split",
    "evaluation_batches",
    "load",
    "scoring_batch",
    "standardise",
    "take",
    "training_batches",
    "with_shuffled_labels",
]
