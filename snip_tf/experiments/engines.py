"""Exported networks, loaded and run by the engines that they are for."""

import dataclasses
import functools
import math
import pathlib
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf
from tensorflow.lite.python import schema_py_generated as schema
from tensorflow.lite.tools import flatbuffer_utils

from snip_tf.exporting import litert

_FLOATS = (schema.TensorType.FLOAT32, schema.TensorType.FLOAT16)


@dataclasses.dataclass(frozen=True)
class Loaded:
    """A network that was loaded from its files.

    Attributes:
        logits: Takes a batch of images and returns the logits, float32 arrays
            both.
        numbers: How many weights, and masks, the files store a number for.
        again: Computes the latest batch anew, without copying it; None if the
            engine has no such call.
    """

    logits: Callable
    numbers: int
    again: Callable | None = None

    def prepared(self, images):
        """Returns a function without arguments that computes the batch."""
        self.logits(images)
        return self.again or functools.partial(self.logits, images)


def load(path, format, *, threads=1):
    """Returns a network that was exported, as a `Loaded`.

    Args:
        path: What `snip_tf.export` returned.
        format: One of `snip_tf.exporting.FORMATS`.
        threads: How many threads LiteRT is to use; the others take all cores.
    """
    if format == "keras":
        return _keras(path)
    if format == "litert":
        return _litert(path, threads)
    return _saved_model(path)


def _keras(path):
    model = keras.models.load_model(path, compile=False, safe_mode=True)
    numbers = sum(math.prod(weight.shape) for weight in model.weights)
    images = tf.TensorSpec(model.input_shape, tf.float32)
    call = tf.function(model, input_signature=[images])  # one trace for all
    return Loaded(lambda images: call(images).numpy(), numbers)


def _saved_model(path):
    model = tf.saved_model.load(path)
    serve = model.signatures["serving_default"]
    _, named = serve.structured_input_signature
    (name,) = named

    # The default argument keeps the variables, which the signature does not.
    def logits(images, _model=model):
        (outputs,) = serve(**{name: tf.constant(images)}).values()
        return outputs.numpy()

    stored = tf.train.load_checkpoint(
        str(pathlib.Path(path) / "variables" / "variables")
    )
    dtypes = stored.get_variable_to_dtype_map()
    numbers = sum(
        math.prod(shape)
        for variable, shape in stored.get_variable_to_shape_map().items()
        if dtypes[variable].is_floating
    )
    return Loaded(logits, numbers)


def _litert(path, threads):
    flatbuffer = pathlib.Path(path).read_bytes()
    interpreter = litert.interpreter(flatbuffer, threads=threads)
    (inputs,) = interpreter.get_input_details()
    (outputs,) = interpreter.get_output_details()
    allocated = None

    def logits(images):
        nonlocal allocated
        if images.shape != allocated:
            interpreter.resize_tensor_input(inputs["index"], images.shape)
            interpreter.allocate_tensors()
            allocated = images.shape
        interpreter.set_tensor(inputs["index"], images)
        interpreter.invoke()
        return interpreter.get_tensor(outputs["index"])

    return Loaded(logits, _numbers_of_litert(flatbuffer), interpreter.invoke)


def _numbers_of_litert(flatbuffer):
    """Returns how many weights have a number in a LiteRT file.

    Those are the constants of float and, when quantised, those with a scale.
    """
    model = flatbuffer_utils.read_model_from_bytearray(bytearray(flatbuffer))
    sizes = {}
    for tensor in (t for graph in model.subgraphs for t in graph.tensors):
        data = model.buffers[tensor.buffer].data
        quantized = getattr(tensor.quantization, "scale", None) is not None
        if data is not None and (quantized or tensor.type in _FLOATS):
            itemsize = np.dtype(
                flatbuffer_utils.type_to_name(tensor.type).lower()
            ).itemsize
            sizes[tensor.buffer] = data.nbytes // itemsize
    return sum(sizes.values())
