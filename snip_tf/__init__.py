"""SNIP: single-shot network pruning, for TensorFlow 2 and Keras 3.

Lee, Ajanthan, Torr: SNIP: Single-shot Network Pruning based on Connection
Sensitivity, ICLR 2019. The public API:

    sensitivity     |dL/dc| of every connection, from one batch
    keep_top        scores -> masks, exactly kappa ones over all layers
    set_masks       put masks on a model; get_masks reads them
    prune           the three in one call; PruneAtStart does it in `fit`
    summary         what is left, per weight; model_sparsity in one number
    masked          any Keras model -> the same with masked layers
    strip           the same model of plain Keras layers
    layers          the masked layers
    models          the networks of the paper: models.build(name)
    data            MNIST and the other data sets, in memory
    training        the paper's training recipe
"""

from snip_tf import data, layers, models, training
from snip_tf.callbacks import PruneAtStart
from snip_tf.conversion import masked, strip
from snip_tf.inspection import model_sparsity, summary
from snip_tf.pruning import (
    get_masks,
    keep_top,
    kept_weights,
    prune,
    redraw,
    set_masks,
)
from snip_tf.scoring import sensitivity

__all__ = [
    "PruneAtStart",
    "data",
    "get_masks",
    "keep_top",
    "kept_weights",
    "layers",
    "masked",
    "model_sparsity",
    "models",
    "prune",
    "redraw",
    "sensitivity",
    "set_masks",
    "strip",
    "summary",
    "training",
]
