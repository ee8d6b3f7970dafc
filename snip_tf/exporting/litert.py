"""LiteRT (TensorFlow Lite) files of pruned models.

TensorFlow's `Optimize.EXPERIMENTAL_SPARSITY` is not used. Where over 90% of a
fully connected weight's zeros fall into empty blocks (1x4 of float, 1x16 of
int8: 80%) it stores the other blocks. Then a layer whose number of inputs is no
multiple of the block computes wrong numbers, and a float16 one gives NaN
(TensorFlow 2.21). Here the converter writes dense weights, and what follows it
stores them by their non-zero entries: right for every shape, and smaller
unless the zeros come in blocks.
"""

import tempfile

import keras
import numpy as np
import tensorflow as tf

from snip_tf import _checks, _keras, overriding
from snip_tf.exporting import litert_int8, litert_loops, saved_model
from snip_tf.exporting.litert_sparse import stored_weights, with_sparse_weights

__all__ = ["QUANTIZATIONS", "convert", "interpreter", "stored_weights"]

# What LiteRT does not multiply.
_NOT_MULTIPLIED = ("float16", "bfloat16", "float64")
# What a file can be quantised to.
QUANTIZATIONS = ("float16", "int8")


def convert(model, *, quantization=None, calibration_data=None, dense=False):
    """Returns a LiteRT file's bytes: zeros left out, the batch size free.

    It needs no more than LiteRT's own ops. Recurrent layers become one loop
    over time, so a weight is in the file once, and for any batch size. What
    computes in 16 or 64 bits does so in 32.

    Args:
        model: A built model of plain Keras layers. It is left as it is.
        quantization: None stores and computes float32. "float16" stores half
            of the bytes an entry and computes in float32, at the speed of a
            dense model. "int8" stores and computes integers between float32
            inputs and outputs. Its zeros stay in the file, as LiteRT 2.3 does
            not load it otherwise, and recurrent layers are refused: pruned
            GRUs made LiteRT abort, and states are rounded at every step.
        calibration_data: Example inputs, which "int8" takes the ranges of its
            activations from; the first 1,000 are used. An array, or an iterable
            of batches as `fit` takes them: x or a tuple (x, ...), of which only
            x is used, an array or for several inputs a list or dict of arrays.
        dense: Whether zeros stay in the file, for runtimes without LiteRT's
            sparse weights or its DENSIFY op.

    Raises:
        ValueError: If an option is unknown or not for this model, or the
            calibration data are missing, have no use, do not fit the model's
            inputs or are not finite, or if nothing can be quantised by them.
    """
    _check_options(model, quantization, calibration_data)
    layers = _keras.all_layers(model)
    in_float32 = overriding.overridden(
        [layer for layer in layers if layer.compute_dtype in _NOT_MULTIPLIED],
        _keras.DTYPE_POLICY,
        lambda *_: _Float32("float32"),
    )
    # From concrete functions the converter would lose the weights of Keras 3.
    with tempfile.TemporaryDirectory() as directory, in_float32:
        with litert_loops.without_tensor_lists(model):
            saved_model.save(model, directory, sparse=False)
        converter = tf.lite.TFLiteConverter.from_saved_model(directory)
        if quantization == "int8":
            return litert_int8.convert(converter, model, calibration_data)
        if quantization == "float16":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.target_spec.supported_types = [tf.float16]
        flatbuffer = converter.convert()
    if dense:
        return flatbuffer
    return with_sparse_weights(flatbuffer)


def interpreter(flatbuffer, *, threads=None):
    """Returns LiteRT's interpreter of the bytes of a file.

    `tf.lite.Interpreter` is the same, but TensorFlow is to lose it.

    Raises:
        ImportError: If the package ai-edge-litert is not installed.
    """
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError as error:
        raise ImportError(
            "LiteRT files run with the package ai-edge-litert, which is not "
            "installed: pip install 'snip_tf[litert]'"
        ) from error
    return Interpreter(model_content=bytes(flatbuffer), num_threads=threads)


class _Float32(keras.DTypePolicy):
    """Computes in float32, whatever type the variables have."""

    variable_dtype = "any"


def _check_options(model, quantization, calibration_data):
    _checks.check_one_of("quantization", quantization, (None, *QUANTIZATIONS))
    if (quantization == "int8") != np.iterable(calibration_data):
        raise ValueError(
            "`calibration_data` must be example inputs if, and only if, "
            "`quantization` is 'int8'. Received: "
            f"quantization={quantization!r}, calibration_data of "
            f"{type(calibration_data).__name__}"
        )
    if quantization == "int8" and litert_loops.recurrent_layers(model):
        raise ValueError(
            "`quantization` must be None or 'float16' for a model with "
            "recurrent layers. Received: quantization='int8', "
            f"model={model.name!r}"
        )
