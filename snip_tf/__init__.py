"""SNIP: single-shot network pruning, for TensorFlow 2 and Keras 3.

Lee, Ajanthan, Torr: SNIP: Single-shot Network Pruning based on Connection
Sensitivity, ICLR 2019. The public API:

    sensitivity     |dL/dc| of every connection, from one batch
    keep_top        scores -> masks, exactly kappa ones over all layers
    set_masks       put masks on a model; get_masks reads them
    prune           the three in one call; PruneAtStart does it in `fit`, and
                    PruneGradually while it trains
    redraw          draw the kept weights anew
    scores          other scores by name: GraSP, SynFlow, OBD, magnitude...
    methods         what Table 1 compares with: LWC, DNS, LC, SWS, SVD, OBD...
    schedules       sparsity as a function of the step
    summary         what is left, per weight; model_sparsity in one number
    flops           the multiply-adds of a model, with and without its zeros
    masked          gives any Keras model masks, in place
    strip           makes its layers stock ones again, zeros baked in
    compact         a smaller model with the same outputs: no dead units
    export          SavedModel, sparse SavedModel, LiteRT or .keras files
    layers          the masked layers
    models          the networks of the paper: models.build(name)
    data            MNIST and the other data sets, in memory
    training        the paper's training recipe
"""

import importlib

# Keras alone, on any of its backends. Always loaded, as a saved model is made
# of classes that `layers`, `models` and `conversion` register.
from snip_tf import layers, methods, models, schedules, scores, training
from snip_tf.callbacks import PruneAtStart
from snip_tf.compaction import compact
from snip_tf.conversion import masked, strip
from snip_tf.exporting import export
from snip_tf.gradual import PruneGradually
from snip_tf.inspection import flops, model_sparsity, summary
from snip_tf.masks import get_masks, keep_top, kept_weights, set_masks
from snip_tf.pruning import prune
from snip_tf.redrawing import redraw
from snip_tf.scoring import sensitivity

__all__ = [
    "PruneAtStart",
    "PruneGradually",
    "compact",
    "data",
    "export",
    "flops",
    "get_masks",
    "keep_top",
    "kept_weights",
    "layers",
    "masked",
    "methods",
    "model_sparsity",
    "models",
    "prune",
    "redraw",
    "schedules",
    "scores",
    "sensitivity",
    "set_masks",
    "strip",
    "summary",
    "training",
]


def __getattr__(name):
    """Loads `data` on first use (PEP 562): it alone needs TensorFlow."""
    if name != "data":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return importlib.import_module("snip_tf.data")


def __dir__():
    return sorted({*globals(), *__all__})
