"""What is in a LiteRT file, read by its schema, and what LiteRT makes of it."""

import dataclasses
import math

import numpy as np
from tensorflow.lite.python import schema_py_generated as schema
from tensorflow.lite.tools import flatbuffer_utils

from snip_tf.exporting import litert

_NAMES = {
    number: name.lower()
    for name, number in vars(schema.TensorType).items()
    if not name.startswith("_")
}


@dataclasses.dataclass(frozen=True)
class Stored:
    """A constant of two axes or more, and the names of the ops that read it."""

    shape: tuple
    dtype: str
    is_sparse: bool
    bytes: int
    readers: frozenset


def stored_weights(flatbuffer):
    """Returns a `Stored` of every weight."""
    model = flatbuffer_utils.read_model_from_bytearray(bytearray(flatbuffer))
    found = []
    for graph in model.subgraphs:
        for index, tensor in enumerate(graph.tensors):
            data = model.buffers[tensor.buffer].data
            if data is None or tensor.shape is None or len(tensor.shape) < 2:
                continue
            dtype = _NAMES[tensor.type]
            if dtype not in ("float32", "float16", "int8"):
                continue
            sizes = [len(data)]
            if tensor.sparsity is None:
                assert len(data) == math.prod(tensor.shape) * (
                    np.dtype(dtype).itemsize
                )
            else:
                csr = tensor.sparsity.dimMetadata[-1]
                sizes.append(csr.arraySegments.values.nbytes)
                sizes.append(csr.arrayIndices.values.nbytes)
            readers = frozenset(
                flatbuffer_utils.opcode_to_name(model, op.opcodeIndex)
                for op in graph.operators
                if index in op.inputs
            )
            found.append(
                Stored(
                    tuple(map(int, tensor.shape)),
                    dtype,
                    tensor.sparsity is not None,
                    sum(sizes),
                    readers,
                )
            )
    return found


def op_names(flatbuffer):
    """Returns the names of all ops in a file."""
    model = flatbuffer_utils.read_model_from_bytearray(bytearray(flatbuffer))
    return {
        flatbuffer_utils.opcode_to_name(model, op.opcodeIndex)
        for graph in model.subgraphs
        for op in graph.operators
    }


def outputs(flatbuffer, x):
    """Returns what LiteRT makes of a batch, by a file of one in and output."""
    runner = litert.interpreter(flatbuffer)
    (given,) = runner.get_input_details()
    (returned,) = runner.get_output_details()
    runner.resize_tensor_input(given["index"], x.shape)
    runner.allocate_tensors()
    runner.set_tensor(given["index"], x)
    runner.invoke()
    return runner.get_tensor(returned["index"])
