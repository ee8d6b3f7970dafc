"""Weights in a LiteRT file: found, and stored by their non-zero entries."""

import numpy as np

# TensorFlow has no public module for the schema of these files.
from tensorflow.lite.python import schema_py_generated as schema
from tensorflow.lite.tools import flatbuffer_utils

from snip_tf import tables

_DTYPES = {
    schema.TensorType.FLOAT32: np.dtype("float32"),
    schema.TensorType.FLOAT16: np.dtype("float16"),
    schema.TensorType.INT8: np.dtype("int8"),
}
_INDEX_TYPES = {"Uint8": np.uint8, "Uint16": np.uint16, "Int32": np.int32}
# The ops that compute the same from a weight that DENSIFY unpacks, and those
# that do with a DEQUANTIZE in between. XNNPACK takes that pair as one; of an op
# that it does not run itself it then leaves the weight unset.
_READERS_OF_DEQUANTIZED = {"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"}
_READERS = {
    *_READERS_OF_DEQUANTIZED,
    *("BATCH_MATMUL", "CONV_3D", "GATHER", "TRANSPOSE_CONV"),
}
# With at most this fraction of entries left LiteRT's sparse kernel is about as
# fast as its dense one or faster, at batch 1. The two meet at 0.04 (128x512
# weights) to 0.1 (784x300), at batch 10 near 0.03, on x86 with AVX-512.
_SPARSE_KERNEL_DENSITY = 0.05
# The first version of FULLY_CONNECTED with sparse weights. Of an older one the
# XNNPACK delegate would take the values for a dense weight.
_SPARSE_FULLY_CONNECTED = 8
# What a DENSIFY op and its tensor add to a file, about.
_DENSIFY_BYTES = 200


def with_sparse_weights(flatbuffer):
    """Returns a LiteRT file with its weights stored by their non-zero entries.

    Fully connected float32 weights that are sparse enough stay sparse: LiteRT
    multiplies by the entries. A DENSIFY op unpacks the others when the model
    is loaded.
    """
    model = flatbuffer_utils.read_model_from_bytearray(bytearray(flatbuffer))
    buffers = [
        tensor.buffer for graph in model.subgraphs for tensor in graph.tensors
    ]
    for graph in model.subgraphs:
        for index, weight in _weights_of(model, graph):
            shared = buffers.count(weight.buffer) > 1 or index in graph.outputs
            if not shared and _may_be_unpacked(model, graph, index):
                _store_by_entries(model, graph, index, weight)
    return flatbuffer_utils.convert_object_to_bytearray(model)


def stored_weights(flatbuffer):
    """Returns a table of how each weight of a LiteRT file's bytes is stored.

    By a "sparse" kernel LiteRT multiplies by the stored entries alone. Where a
    DENSIFY op comes in between, a weight costs the time of a dense one. Source:
    TensorFlow's lite/kernels/fully_connected.cc and densify.cc, and timed.
    """
    model = flatbuffer_utils.read_model_from_bytearray(bytearray(flatbuffer))
    rows = [("weight", "shape", "dtype", "kernel", "bytes")]
    for graph in model.subgraphs:
        for index, weight in _weights_of(model, graph):
            names = {name for name, _ in _readers_of(model, graph, index)}
            is_sparse = weight.sparsity and names == {"FULLY_CONNECTED"}
            values = model.buffers[weight.buffer].data
            name = weight.name.decode().split(";")[0]
            shape = "x".join(map(str, weight.shape))
            kernel = "sparse" if is_sparse else "dense"
            size = f"{_bytes_of(values, weight.sparsity):,}"
            rows.append((name, shape, _DTYPES[weight.type].name, kernel, size))
    return tables.aligned(rows, text_columns=4)


def _weights_of(model, graph):
    """Returns (index, tensor) of the constants of two axes or more."""
    return [
        (index, tensor)
        for index, tensor in enumerate(graph.tensors)
        if tensor.type in _DTYPES
        and tensor.shape is not None
        and len(tensor.shape) > 1
        and model.buffers[tensor.buffer].data is not None
    ]


def _readers_of(model, graph, index):
    """Returns (name, operator) of the operators that read a tensor."""
    return [
        (flatbuffer_utils.opcode_to_name(model, op.opcodeIndex), op)
        for op in graph.operators
        if index in op.inputs
    ]


def _bytes_of(values, sparsity):
    """Returns how many bytes a tensor's values and their indices take."""
    vectors = [
        vector.values
        for axis in (sparsity.dimMetadata if sparsity else [])
        for vector in (axis.arraySegments, axis.arrayIndices)
        if vector is not None
    ]
    return sum(array.nbytes for array in [values, *vectors])


def _may_be_unpacked(model, graph, index):
    """Returns whether all readers of a tensor are among those known to work."""
    readers = _readers_of(model, graph, index)
    names, known = {name for name, _ in readers}, _READERS
    if names == {"DEQUANTIZE"}:
        known = _READERS_OF_DEQUANTIZED
        names = {
            name
            for _, dequantize in readers
            for name, _ in _readers_of(model, graph, dequantize.outputs[0])
        }
    return names <= known


def _store_by_entries(model, graph, index, weight):
    """Changes how a weight is stored, if that takes fewer bytes."""
    buffer = model.buffers[weight.buffer]
    dense = buffer.data.view(_DTYPES[weight.type]).reshape(weight.shape)
    values, sparsity = _by_entries(dense)
    if _bytes_of(values, sparsity) + _DENSIFY_BYTES > dense.nbytes:
        return
    buffer.data, weight.sparsity = values.view(np.uint8), sparsity
    readers = _readers_of(model, graph, index)
    if (
        dense.dtype != np.float32
        or len(values) > _SPARSE_KERNEL_DENSITY * dense.size
        or not all(
            name == "FULLY_CONNECTED" and operator.inputs[1] == index
            for name, operator in readers
        )
    ):
        _densify(model, graph, index, [operator for _, operator in readers])
        return
    code = _operator_code(model, "FULLY_CONNECTED", _SPARSE_FULLY_CONNECTED)
    for _, operator in readers:
        operator.opcodeIndex = code


def _by_entries(dense):
    """Returns the non-zero entries and where they are, for LiteRT.

    All axes are dense but the last, of which the indices are stored, as in
    CSR. Source: the schema's comments on SparsityParameters.
    """
    kept = dense != 0
    # A buffer without any byte would not be a constant.
    kept.flat[0] |= not kept.any()
    rows = kept.reshape(-1, dense.shape[-1])
    sparsity = schema.SparsityParametersT()
    sparsity.traversalOrder = np.arange(dense.ndim, dtype=np.int32)
    sparsity.dimMetadata = [schema.DimensionMetadataT() for _ in dense.shape]
    for axis, size in zip(sparsity.dimMetadata, dense.shape, strict=True):
        axis.format, axis.denseSize = schema.DimensionType.DENSE, size
    last = sparsity.dimMetadata[-1]
    last.format, last.denseSize = schema.DimensionType.SPARSE_CSR, 0
    ends, indices = np.cumsum([0, *rows.sum(axis=1)]), np.nonzero(rows)[1]
    last.arraySegmentsType, last.arraySegments = _integers(ends)
    last.arrayIndicesType, last.arrayIndices = _integers(indices)
    return dense[kept], sparsity


def _integers(values):
    """Returns the type and the vector that hold these in the fewest bytes."""
    name, dtype = next(
        (name, dtype)
        for name, dtype in _INDEX_TYPES.items()
        if values.max() <= np.iinfo(dtype).max
    )
    vector = getattr(schema, f"{name}VectorT")()
    vector.values = values.astype(dtype)
    return getattr(schema.SparseIndexVector, f"{name}Vector"), vector


def _densify(model, graph, index, readers):
    """Puts a DENSIFY op between a sparse tensor and its readers."""
    sparse = graph.tensors[index]
    dense = schema.TensorT()
    dense.buffer = 0  # the empty one
    dense.shape, dense.type = sparse.shape, sparse.type
    dense.quantization = sparse.quantization
    graph.tensors.append(dense)
    output = len(graph.tensors) - 1
    for reader in readers:
        reader.inputs = np.where(reader.inputs == index, output, reader.inputs)
    densify = schema.OperatorT()
    densify.opcodeIndex = _operator_code(model, "DENSIFY", version=1)
    densify.inputs = np.array([index], np.int32)
    densify.outputs = np.array([output], np.int32)
    graph.operators.insert(0, densify)


def _operator_code(model, name, version):
    """Returns the index of an operator code, added if it is not there."""
    builtin = getattr(schema.BuiltinOperator, name)
    codes = [(code.builtinCode, code.version) for code in model.operatorCodes]
    if (builtin, version) not in codes:
        code = schema.OperatorCodeT()
        code.builtinCode = code.deprecatedBuiltinCode = builtin
        code.version = version
        model.operatorCodes.append(code)
        codes.append((builtin, version))
    return codes.index((builtin, version))
