"""LiteRT files of integers, made by the converter alone, and safely.

For calibration data that are not finite the converter crashes the process or,
as for no data at all, leaves the weights in float32 without a word.
"""

import warnings

import keras
import numpy as np
import tensorflow as tf
from tensorflow.lite.tools import flatbuffer_utils

from snip_tf.exporting import litert_sparse, saved_model


def checked_examples(model, calibration_data):
    """Returns single examples, each a dict of arrays by names of inputs.

    Raises:
        ValueError: If there are none, or they do not fit the inputs of the
            model, or they or what the model makes of them are not finite.
    """
    signature = saved_model.input_signature(model)
    specs = keras.tree.flatten(signature)
    examples = []
    for batch in _batches(calibration_data):
        arrays = _checked_batch(batch, specs)
        inputs = keras.tree.pack_sequence_as(signature, arrays)
        outputs = model(*inputs, training=False) if len(arrays[0]) else []
        for array in [*arrays, *keras.tree.flatten(outputs)]:
            if not np.isfinite(array).all():
                raise ValueError(
                    "`calibration_data` must be finite, and so must be what "
                    "the model makes of them. Received: NaN or infinity"
                )
        names = [spec.name for spec in specs]
        for i in range(len(arrays[0])):
            ones = [array[i : i + 1] for array in arrays]
            examples.append(dict(zip(names, ones, strict=True)))
    if not examples:
        raise ValueError(
            "`calibration_data` must hold examples. Received: none"
        )
    return examples


def _batches(calibration_data):
    if hasattr(calibration_data, "shape"):
        starts = range(0, len(calibration_data), 100)  # to bound memory
        return [calibration_data[i : i + 100] for i in starts]
    if (
        isinstance(calibration_data, tf.data.Dataset)
        and calibration_data.cardinality() == tf.data.INFINITE_CARDINALITY
    ):
        raise ValueError(
            "`calibration_data` must end: take some of its batches, as in "
            "`dataset.take(10)`. Received: an endless data set"
        )
    return calibration_data


def _checked_batch(batch, specs):
    """Returns the inputs of a batch as a list of arrays."""
    inputs = batch[0] if isinstance(batch, tuple) else batch
    arrays = [np.asarray(array) for array in keras.tree.flatten(inputs)]
    if len(arrays) != len(specs) or not all(
        spec.shape.is_compatible_with(array.shape)
        for array, spec in zip(arrays, specs, strict=True)
    ):
        raise ValueError(
            "`calibration_data` must be batches of the model's inputs, of "
            f"shapes {[tuple(spec.shape) for spec in specs]}. Received: "
            f"{[array.shape for array in arrays]}"
        )
    return [
        array.astype(spec.dtype.as_numpy_dtype)
        for array, spec in zip(arrays, specs, strict=True)
    ]


def convert(converter, examples):
    """Returns the file of a converter, once it is seen to hold int8 weights.

    Raises:
        ValueError: If it holds none.
    """
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    # By name, as the file has its inputs in an order of its own.
    converter.representative_dataset = lambda: (
        one if len(one) > 1 else list(one.values()) for one in examples
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
    if "int8" not in dtypes:
        raise ValueError(
            "`calibration_data` must give activations a range. Received: "
            f"{len(examples)} examples, by which no weight became int8"
        )
    return flatbuffer
