"""What is in a LiteRT file, as a table."""

from tensorflow.lite.tools import flatbuffer_utils

from snip_tf import tables
from snip_tf.exporting import litert_sparse


def stored_weights(flatbuffer):
    """Returns a table of how each weight is stored and if its zeros cost time.

    "sparse" means that LiteRT multiplies by the stored entries alone. It does
    where FULLY_CONNECTED reads a sparse tensor itself. Where a DENSIFY op comes
    in between the weight is unpacked once and the layer is as fast as a dense
    one. Source: TensorFlow's lite/kernels/fully_connected.cc and densify.cc,
    and timed.

    Args:
        flatbuffer: The bytes of a LiteRT file.
    """
    model = flatbuffer_utils.read_model_from_bytearray(bytearray(flatbuffer))
    rows, total = [], 0
    for graph in model.subgraphs:
        for index, weight in litert_sparse.weights_of(model, graph):
            values = model.buffers[weight.buffer].data
            size = litert_sparse.bytes_of(values, weight.sparsity)
            readers = litert_sparse.readers_of(model, graph, index)
            is_sparse = weight.sparsity and all(
                name == "FULLY_CONNECTED" for name, _ in readers
            )
            rows.append(
                (
                    weight.name.decode().split(";")[0],
                    "x".join(map(str, weight.shape)),
                    litert_sparse.DTYPES[weight.type].name,
                    "entries" if weight.sparsity else "all",
                    "sparse" if is_sparse else "dense",
                    f"{size:,}",
                )
            )
            total += size
    header = ("weight", "shape", "dtype", "stored", "kernel", "bytes")
    last = ("total", "", "", "", "", f"{total:,}")
    return tables.aligned([header, *rows, last], text_columns=5)
