"""LiteRT files of integers, made by the converter alone, and safely.

For calibration data that are not finite the converter crashes the process or,
as for no data at all, leaves the weights in float32 without a word.
"""

import itertools
import warnings

import keras
import numpy as np
import tensorflow as tf
from tensorflow.lite.tools import flatbuffer_utils

from snip_tf.exporting import saved_model
from snip_tf.exporting.litert_sparse import schema

_MOST_EXAMPLES = 1_000  # TensorFlow's guide asks for a few hundred


def convert(converter, model, calibration_data):
    """Returns a model's file of int8 weights; see `litert.convert`."""
    specs = keras.tree.flatten(saved_model.input_signature(model))
    examples = list(
        itertools.islice(_examples(calibration_data, specs), _MOST_EXAMPLES)
    )
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.representative_dataset = lambda: examples
    with warnings.catch_warnings():
        # To calibrate, TensorFlow uses what it wants to remove.
        warnings.filterwarnings("ignore", r"\s*Warning: tf.lite.Interpreter")
        flatbuffer = converter.convert() if examples else b""
    if not examples or not _has_int8(flatbuffer):
        raise ValueError(
            "`calibration_data` must give activations a range. Received: "
            f"{len(examples)} examples, by which no weight became int8"
        )
    return flatbuffer


def _examples(calibration_data, specs):
    """Yields single examples as the converter takes them."""
    is_array = hasattr(calibration_data, "shape")
    for batch in [calibration_data] if is_array else calibration_data:
        x = keras.tree.flatten(batch[0] if isinstance(batch, tuple) else batch)
        shapes = [np.shape(array) for array in x]
        fits = len(x) == len(specs) and all(
            spec.shape.is_compatible_with(shape)
            for spec, shape in zip(specs, shapes, strict=True)
        )
        if not fits or not all(np.isfinite(array).all() for array in x):
            raise ValueError(
                "`calibration_data` must be batches of the model's inputs, "
                f"finite and of shapes {[tuple(spec.shape) for spec in specs]}"
                f". Received: {shapes}{', not finite' * fits}"
            )
        arrays = {
            spec.name: np.asarray(array, spec.dtype.as_numpy_dtype)
            for spec, array in zip(specs, x, strict=True)
        }
        for i in range(shapes[0][0]):
            example = {name: value[i : i + 1] for name, value in arrays.items()}
            # By name, as the file has its inputs in an order of its own.
            yield example if len(example) > 1 else list(example.values())


def _has_int8(flatbuffer):
    """Returns whether a weight of two axes or more is stored as int8."""
    file = flatbuffer_utils.read_model_from_bytearray(bytearray(flatbuffer))
    return any(
        tensor.type == schema.TensorType.INT8
        and np.size(tensor.shape) > 1
        and file.buffers[tensor.buffer].data is not None
        for graph in file.subgraphs
        for tensor in graph.tensors
    )
