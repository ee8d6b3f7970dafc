"""A TensorFlow SavedModel of a pruned model that stores few of its zeros.

A weight of many zeros is stored as its other values and where they are, and is
made dense once, when the SavedModel is loaded. Loading takes TensorFlow alone.
"""

import contextlib
import dataclasses
import itertools
import math

import keras
import numpy as np
import tensorflow as tf

# The dtypes that have a sparse form, and unsigned integers of as many bits.
_BITS = {
    "bfloat16": np.uint16,
    "float16": np.uint16,
    "float32": np.uint32,
    "float64": np.uint64,
}
# What a sparse weight adds to saved_model.pb, measured: the graph that makes
# it dense, and its two variables in the graphs that save and restore.
_GRAPH_BYTES = 7_000


@dataclasses.dataclass(frozen=True)
class Encoded:
    """A weight as it is stored.

    Attributes:
        form: "dense", "bitmask" or "gaps".
        shape: The shape of the weight.
        values: Vector of its values in row-major order: all of them if dense,
            else those that are not zero.
        codes: Vector that says where the values are; empty if dense. A bitmask
            (uint8) has a bit for every place, the lowest of a byte first. Gaps
            (uint8 or uint16) are the numbers of zeros before each value; the
            largest number of the type stands for as many zeros and no value.
    """

    form: str
    shape: tuple
    values: np.ndarray
    codes: np.ndarray

    @property
    def bytes(self):
        """The bytes of values and codes."""
        return self.values.nbytes + self.codes.nbytes


def encode(weight, overhead=_GRAPH_BYTES):
    """Returns a weight in the form that takes the fewest bytes.

    Zeros of both signs count as zero: -0.0 is what a mask makes of a negative
    weight. All else, NaN included, is kept bit by bit.

    Args:
        weight: A numpy array. Scalars, and all but floats of 16, 32 and 64
            bits, stay dense.
        overhead: What a sparse form costs beside its arrays, in bytes. By
            default the graph that decodes it, for which small weights stay
            dense.

    Returns:
        An `Encoded`.
    """
    flat = np.ascontiguousarray(weight).reshape(-1)
    dense = Encoded("dense", weight.shape, flat, np.zeros(0, np.uint8))
    if not weight.shape or weight.dtype.name not in _BITS:
        return dense
    # Without the sign bit. `flat != 0` may take denormal numbers for zero.
    kept = np.flatnonzero(flat.view(_BITS[weight.dtype.name]) << 1)
    bits = np.zeros(flat.size, bool)
    bits[kept] = True
    forms = [
        ("bitmask", np.packbits(bits, bitorder="little")),
        ("gaps", _gaps(kept, np.uint8)),
        ("gaps", _gaps(kept, np.uint16)),
    ]
    sparse = min(
        (Encoded(form, weight.shape, flat[kept], c) for form, c in forms),
        key=lambda encoded: encoded.bytes,
    )
    return sparse if sparse.bytes + overhead < dense.bytes else dense


def _gaps(kept, dtype):
    largest = np.iinfo(dtype).max
    skips, gaps = np.divmod(np.diff(kept, prepend=-1) - 1, largest)
    codes = np.full(len(kept) + skips.sum(), largest, dtype)
    codes[np.cumsum(skips + 1) - 1] = gaps
    return codes


def decode(form, shape, values, codes):
    """Returns the dense tensor of a weight in a sparse form.

    Args:
        form: "bitmask" or "gaps".
        shape: The shape of the weight.
        values: Vector of the values, a tensor.
        codes: Vector of the codes, a tensor.
    """
    if form == "bitmask":
        bits = tf.bitwise.right_shift(
            tf.expand_dims(codes, 1), np.arange(8, dtype=np.uint8)
        )
        places = tf.where(tf.reshape(bits & 1, [-1]))
    else:
        has_value = codes < codes.dtype.max
        steps = tf.cast(codes, tf.int64) + tf.cast(has_value, tf.int64)
        places = tf.gather(tf.cumsum(steps) - 1, tf.where(has_value))
    zeros = tf.zeros([math.prod(shape)], values.dtype)
    # An update, as a sum would lose bits of a NaN.
    return tf.reshape(tf.tensor_scatter_nd_update(zeros, places, values), shape)


class _Decoder(tf.saved_model.experimental.TrackableResource):
    """Makes the weights dense when the SavedModel is loaded.

    A TensorFlow resource for what TensorFlow does with one: it calls
    `_initialize` once all variables have their values from the file.

    Args:
        sparse: A list of pairs: the variable of a weight, and its `Encoded`.
    """

    def __init__(self, sparse):
        super().__init__()
        self._sparse = sparse
        self.arrays = [
            [
                tf.Variable(array, shape=[None], trainable=False)
                for array in (encoded.values, encoded.codes)
            ]
            for _, encoded in sparse
        ]
        # Set in the file of a loaded model that was saved anew.
        self.is_done = tf.Variable(False, trainable=False)

    def _create_resource(self):
        return tf.constant(0)  # TensorFlow wants a handle; we have none.

    def _initialize(self):
        tf.cond(self.is_done, lambda: 0, self._decode)

    def _decode(self):
        for (weight, encoded), arrays in zip(
            self._sparse, self.arrays, strict=True
        ):
            values, codes = map(tf.identity, arrays)
            weight.assign(decode(encoded.form, encoded.shape, values, codes))
            for array in arrays:
                array.assign(tf.zeros([0], array.dtype))
        self.is_done.assign(True)
        return 0


@contextlib.contextmanager
def _values_left_out(variables):
    """Saves variables without their values while it is entered.

    TensorFlow has no public way: these are the methods by which it asks a
    variable for its value in a checkpoint and for its copy in the graph. A
    TensorFlow that asks in another way writes a larger file or one that does
    not load, but no number in it is wrong.
    """

    def leave_out(variable):
        export = variable._export_to_saved_model_graph

        def export_without_value(object_map, **options):
            handles = export(object_map=object_map, **options)
            object_map[variable]._serialize_to_tensors = dict
            return handles

        variable._serialize_to_tensors = dict
        variable._export_to_saved_model_graph = export_without_value

    for variable in variables:
        leave_out(variable)
    try:
        yield
    finally:
        for variable in variables:
            del variable._serialize_to_tensors
            del variable._export_to_saved_model_graph


def save(model, directory, *, sparse=True):
    """Writes a model as a SavedModel, each weight in its smallest form.

    `tf.saved_model.load` gives what it gives of `model.export`: `serve` and the
    signatures `serve` and `serving_default`, any batch size, the same outputs.
    Only layers that augment data are off here, as in `model.predict`. Once
    loaded, all weights are dense variables, and the arrays that they came from
    are freed. TensorFlow refuses a file of variables that is truncated or
    altered: it holds a checksum of each.

    Args:
        model: A built model of plain Keras layers. It is left as it is.
        directory: The directory to make.
        sparse: Whether weights may be stored sparsely. If not, the file is
            still half of that of `model.export`, which has each weight twice.

    Raises:
        ValueError: See `serving_function` and `input_signature`.
    """
    exported = tf.Module()
    exported.serve = serving_function(model)
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
    stored_sparsely = [
        (weight, encoded)
        for weight in exported.weights
        if sparse and (encoded := encode(weight.numpy())).form != "dense"
    ]
    if stored_sparsely:
        exported.decoder = _Decoder(stored_sparsely)
        # TensorFlow finds variables in lists, not in a resource.
        exported.decoded = [exported.decoder.arrays, exported.decoder.is_done]
    signatures = dict.fromkeys(("serve", "serving_default"), exported.serve)
    with _values_left_out([weight for weight, _ in stored_sparsely]):
        tf.saved_model.save(exported, directory, signatures)


def serving_function(model):
    """Returns a model's inference as a `tf.function`, for any batch size.

    Raises:
        ValueError: If it cannot be called on what `input_signature` says.
    """
    signature = input_signature(model)
    serve = tf.function(
        lambda *inputs: model(*inputs, training=False),
        input_signature=signature,
        autograph=False,
    )
    try:
        serve.get_concrete_function()
    except Exception as error:  # whatever the layers' own code raises
        raise ValueError(
            f"`model` must take inputs of {signature}, as its first call did, "
            f"and nothing else. Received: model={model.name!r} "
            f"({type(error).__name__}: {error})"
        ) from error
    return serve


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
