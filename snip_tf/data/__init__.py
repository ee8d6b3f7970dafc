"""Data sets in memory, and batches that are a pure function of (seed, i)."""

from snip_tf.data.loading import (
    NAMES,
    Data,
    Split,
    load,
    standardise,
    take,
    with_shuffled_labels,
)
from snip_tf.data.pipeline import (
    batches,
    evaluation_batches,
    scoring_batch,
    training_batches,
)

__all__ = [
    "NAMES",
    "Data",
    "Split",
    "batches",
    "evaluation_batches",
    "load",
    "scoring_batch",
    "standardise",
    "take",
    "training_batches",
    "with_shuffled_labels",
]
