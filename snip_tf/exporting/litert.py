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
import warnings

import keras
import numpy as np
import tensorflow as tf
from tensorflow.lite.tools import flatbuffer_utils

from snip_tf import _keras, overriding
from snip_tf.exporting import litert_loops, litert_sparse, saved_model
from snip_tf.exporting.litert_table import stored_weights

__all__ = ["QUANTIZATIONS", "convert", "interpreter", "stored_weights"]

# What a file can be quantised to.
QUANTIZATIONS = ("float16", "int8")


def convert(model, *, quantization=None, calibration_data=None, dense=False):
    """Returns a LiteRT file's bytes: zeros left out, the batch size free.

    It needs no more than LiteRT's own ops. Recurrent layers become one loop
    over time, so a weight is in the file once, and for any batch size. What
    computes in 16 bits under mixed precision does so in 32.

    Args:
        model: A built model of plain Keras layers. It is left as it is.
        quantization: None stores and computes float32. "float16" stores half
            of the bytes an entry and computes in float32, at the speed of a
            dense model. "int8" stores and computes integers between float32
            inputs and outputs. Its zeros stay in the file, as LiteRT 2.3 does
            not load it otherwise, and recurrent layers are refused: pruned
            GRUs made LiteRT abort, and states are rounded at every step.
        calibration_data: Example inputs, which "int8" takes the ranges of its
            activations from. An array, or an iterable of batches as `fit` takes
            them: x or a tuple (x, ...), of which only x is used. x is an array,
            or for several inputs a list or dict of arrays.
        dense: Whether zeros stay in the file, for runtimes without LiteRT's
            sparse weights or its DENSIFY op.

    Raises:
        ValueError: If an option is unknown or not for this model, or the
            calibration data are missing, have no use, do not fit the model's
            inputs or are not finite, or if nothing can be quantised by them.
    """
    _check_options(model, quantization, calibration_data)
    sixteen_bits = [
        layer
        for layer in _keras.all_layers(model)
        if "16" in layer.compute_dtype
    ]
    with (
        tempfile.TemporaryDirectory() as directory,
        # LiteRT multiplies no halves.
        overriding.overridden(
            sixteen_bits, _keras.DTYPE_POLICY, lambda *_: _Float32("float32")
        ),
    ):
        # From concrete functions the converter would lose the weights of
        # Keras 3.
        with litert_loops.without_tensor_lists(model):
            saved_model.save(model, directory, sparse=False)
        converter = tf.lite.TFLiteConverter.from_saved_model(directory)
        if quantization == "int8":
            examples = _checked_examples(model, calibration_data)
            return _int8(converter, examples)
        if quantization == "float16":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.target_spec.supported_types = [tf.float16]
        flatbuffer = converter.convert()
    if dense:
        return flatbuffer
    return litert_sparse.with_sparse_weights(flatbuffer)


def interpreter(flatbuffer, *, threads=None):
    """Returns LiteRT's interpreter of a file, of the package ai-edge-litert.

    `tf.lite.Interpreter` is the same, but TensorFlow is to lose it.

    Args:
        flatbuffer: The bytes of a LiteRT file.
        threads: How many threads it may use; by default one.

    Raises:
        ImportError: If ai-edge-litert is not installed.
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
    if quantization not in (None, *QUANTIZATIONS):
        raise ValueError(
            f"`quantization` must be None or one of "
            f"{', '.join(map(repr, QUANTIZATIONS))}. "
            f"Received: quantization={quantization!r}"
        )
    if (quantization == "int8") != (calibration_data is not None):
        given = "None" if calibration_data is None else "some"
        raise ValueError(
            "`calibration_data` must be example inputs if, and only if, "
            f"`quantization` is 'int8'. Received: calibration_data={given}, "
            f"quantization={quantization!r}"
        )
    recurrent = litert_loops.recurrent_layers(model)
    if quantization == "int8" and recurrent:
        raise ValueError(
            "`quantization` must be None or 'float16' for a model with "
            "recurrent layers. Received: quantization='int8', "
            f"model={model.name!r} with layer {recurrent[0].name!r}"
        )


def _checked_examples(model, calibration_data):
    """Returns examples as the converter takes them: dicts, a batch of one.

    What is not finite would crash TensorFlow's calibration, or leave the file
    in float32 without a word. So would outputs that overflow.
    """
    serve = saved_model.serving_function(model)
    specs = keras.tree.flatten(serve.input_signature)
    is_array = hasattr(calibration_data, "shape")
    examples = []
    for batch in [calibration_data] if is_array else calibration_data:
        given = batch[0] if isinstance(batch, tuple) else batch
        arrays = [np.asarray(array) for array in keras.tree.flatten(given)]
        if len(arrays) != len(specs) or not all(
            spec.shape.is_compatible_with(array.shape)
            for spec, array in zip(specs, arrays, strict=True)
        ):
            raise ValueError(
                "`calibration_data` must be batches of the model's inputs, of "
                f"shapes {[tuple(spec.shape) for spec in specs]}. Received: "
                f"{[array.shape for array in arrays]}"
            )
        arrays = [
            array.astype(spec.dtype.as_numpy_dtype)
            for spec, array in zip(specs, arrays, strict=True)
        ]
        outputs = serve(
            *keras.tree.pack_sequence_as(serve.input_signature, arrays)
        )
        for array in [*arrays, *keras.tree.flatten(outputs)]:
            if not np.isfinite(array).all():
                raise ValueError(
                    "`calibration_data` must be finite, as must be what the "
                    "model gives for it. Received: NaN or infinity"
                )
        examples += [
            {
                spec.name: array[i : i + 1]
                for spec, array in zip(specs, arrays, strict=True)
            }
            for i in range(len(arrays[0]))
        ]
    if not examples:
        raise ValueError(
            "`calibration_data` must hold examples. Received: none"
        )
    return examples


def _int8(converter, examples):
    """Returns the converter's file of integers, once it is seen to be one."""
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.target_spec.supported_ops = [
        tf.lite.OpsSet.TFLITE_BUILTINS_INT8
    ]
    # By name, as the file has its inputs in an order of its own.
    converter.representative_dataset = lambda: iter(
        examples if len(examples[0]) > 1 else map(list, map(dict.values, examples))
    )
    with warnings.catch_warnings():
        # To calibrate, TensorFlow uses what it wants to remove.
        warnings.filterwarnings("ignore", r"\s*Warning: tf.lite.Interpreter")
        flatbuffer = converter.convert()
    file = flatbuffer_utils.read_model_from_bytearray(bytearray(flatbuffer))
    dtypes = {
        litert_sparse.DTYPES[weight.type].name
        for graph in file.subgraphs
        for _, weight in litert_sparse.weights_of(file, graph)
    }
    if dtypes != {"int8"}:
        raise ValueError(
            "`calibration_data` must give every activation a range: the "
            "converter left weights as they were. Received: examples whose "
            f"file has weights of {', '.join(sorted(dtypes))}"
        )
    return flatbuffer
