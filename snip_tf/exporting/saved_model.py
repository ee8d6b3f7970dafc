"""A TensorFlow SavedModel of a pruned model that stores few of its zeros.

A weight of many zeros is stored as its other values and where they are, and is
made dense once, when the SavedModel is loaded. Loading takes TensorFlow alone.
"""

import itertools
import math
import zlib

import keras
import numpy as np
import tensorflow as tf

from snip_tf.overriding import overridden

_FLOATS = ("bfloat16", "float16", "float32", "float64")
# What a sparse weight adds to saved_model.pb, measured: the graph that makes
# it dense, and its variable in the graphs that save and restore.
_GRAPH_BYTES = 5_400


def encode(weight):
    """Returns the bytes that a float array is stored as: zeros take few.

    Compressed by zlib: a bit for every place, the lowest of a byte first, which
    says where there is a value; then the values. Zeros of both signs are none:
    -0.0 is what a mask makes of a negative weight. All else, NaN included, is
    kept bit by bit.
    """
    flat = np.ascontiguousarray(weight).reshape(-1)
    # Without the sign bit. `flat != 0` may take denormal numbers for zero.
    kept = flat.view(f"uint{8 * flat.itemsize}") << 1 != 0
    places = np.packbits(kept, bitorder="little")
    return zlib.compress(places.tobytes() + flat[kept].tobytes(), 9)


def decode(code, shape, dtype):
    """Returns the dense tensor that `encode` made a string tensor of."""
    stored = tf.io.decode_compressed(code, compression_type="ZLIB")
    stored = tf.io.decode_raw(stored, tf.uint8)
    size = math.prod(shape)
    places, values = stored[: -(-size // 8)], stored[-(-size // 8) :]
    bits = tf.bitwise.right_shift(places[:, None], np.arange(8, dtype=np.uint8))
    places = tf.where(tf.reshape(bits & 1, [-1]))
    values = tf.bitcast(tf.reshape(values, [-1, dtype.size]), dtype)
    # An update, as a sum would lose bits of a NaN.
    dense = tf.tensor_scatter_nd_update(tf.zeros([size], dtype), places, values)
    return tf.reshape(dense, shape)


class _Decoder(tf.saved_model.experimental.TrackableResource):
    """Makes the weights dense when the SavedModel is loaded.

    A TensorFlow resource for what TensorFlow does with one: it calls
    `_initialize` once all variables have their values from the file. `codes`
    are pairs: the variable of a weight, and that of its code.
    """

    def __init__(self, codes):
        super().__init__()
        self._codes = codes

    def _create_resource(self):
        return tf.constant(0)  # TensorFlow wants a handle; we have none.

    def _initialize(self):
        _, first = self._codes[0]
        # Empty in the file of a loaded model that was saved anew.
        tf.cond(first == "", lambda: 0, self._decode)

    def _decode(self):
        for weight, code in self._codes:
            weight.assign(decode(code, weight.shape, weight.dtype))
            code.assign("")
        return 0


def _without_value(variable, export):
    """Returns what leaves the value out of a variable's copy in the graph.

    TensorFlow has no public way: these are the methods by which it asks a
    variable for that copy and for its value in a checkpoint. A TensorFlow that
    asks in another way writes a larger file or one that does not load, but no
    number in it is wrong.
    """

    def export_without_value(object_map, **options):
        handles = export(object_map=object_map, **options)
        object_map[variable]._serialize_to_tensors = dict
        return handles

    return export_without_value


def save(model, directory, *, sparse=True):
    """Writes a model as a SavedModel, each weight in its smaller form.

    `tf.saved_model.load` gives what it gives of `model.export`: `serve` and the
    signatures `serve` and `serving_default`, any batch size, the same outputs.
    Only layers that augment data are off here, as in `model.predict`. Once
    loaded, all weights are dense variables, and their codes are freed.
    TensorFlow refuses files of variables that are truncated or altered.

    Args:
        model: A built model of plain Keras layers. It is left as it is.
        directory: The directory to make.
        sparse: Whether weights may be stored sparsely. If not, the file is
            still half of that of `model.export`, which has each weight twice.

    Raises:
        ValueError: If the model was never called.
    """
    exported = tf.Module()
    exported.serve = tf.function(
        lambda *inputs: model(*inputs, training=False),
        input_signature=input_signature(model),
        autograph=False,
    )
    traced = exported.serve.get_concrete_function()
    # TensorFlow lists them in no order; the state of an LSTM Keras does not.
    ranks = {id(v.value): rank for rank, v in enumerate(model.variables)}
    exported.weights = sorted(
        traced.variables, key=lambda v: ranks.get(id(v), len(ranks))
    )
    exported.tables = [
        child
        for child in tf.train.TrackableView(model).descendants()
        if isinstance(child, tf.saved_model.experimental.TrackableResource)
    ]
    codes = []
    for weight in exported.weights if sparse else []:
        value = weight.numpy()
        code = encode(value) if value.dtype.name in _FLOATS else b""
        if code and len(code) + _GRAPH_BYTES < value.nbytes:
            codes.append((weight, tf.Variable(code, trainable=False)))
    if codes:
        exported.decoder = _Decoder(codes)
        # TensorFlow finds variables in lists, not in a resource.
        exported.codes = [code for _, code in codes]
    signatures = dict.fromkeys(("serve", "serving_default"), exported.serve)
    left_out = [weight for weight, _ in codes]
    with (
        overridden(left_out, "_serialize_to_tensors", lambda *_: dict),
        overridden(left_out, "_export_to_saved_model_graph", _without_value),
    ):
        tf.saved_model.save(exported, directory, signatures)


def input_signature(model):
    """Returns the named specs of what a model is called on, a list.

    As `model.export` has them: the inputs of a Sequential or functional model,
    else floats of the shapes of the first call, of its first argument alone
    unless `build` takes the shapes of more.

    Raises:
        ValueError: If the model was never called.
    """
    if getattr(model, "inputs", None):
        is_sequential = isinstance(model, keras.Sequential)
        return keras.tree.map_structure(
            lambda x: tf.TensorSpec((None, *x.shape[1:]), x.dtype, x.name),
            model.inputs if is_sequential else [model.input],
        )
    # Of one argument or of each by its name, as its `build` takes them.
    config = model.get_build_config() or {}
    arguments = list(config.get("shapes_dict", config).values())
    if None in arguments or not arguments:
        raise ValueError(
            "`model` must have been called, so that the shapes of its inputs "
            f"are known. Received: model={model.name!r}"
        )
    numbers = itertools.count()
    return keras.tree.map_shape_structure(
        lambda shape: tf.TensorSpec(
            (None, *shape[1:]), model.input_dtype, f"args_{next(numbers)}"
        ),
        arguments,
    )
