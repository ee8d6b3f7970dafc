"""Sparse SavedModels, with numpy and what Keras exports as the oracles."""

import gc
import itertools
import subprocess
import sys
import zlib

import keras
import numpy as np
import pytest
import tensorflow as tf

import snip_tf
from snip_tf.exporting import saved_model

DTYPES = ["bfloat16", "float16", "float32", "float64"]
DATA = "variables.data-00000-of-00001"


def by_hand(code, like):
    """Decodes a weight with a loop."""
    stored = zlib.decompress(code)
    flat, places = np.zeros(like.size, like.dtype), -(-like.size // 8)
    values = list(np.frombuffer(stored[places:], like.dtype))
    for place in range(flat.size):
        if stored[place // 8] >> place % 8 & 1:
            flat[place] = values.pop(0)
    assert not values
    return flat.reshape(like.shape)


def with_values(size, values):
    """Zeros, but for values at some places."""
    weight = np.zeros(size, np.float32)
    weight[list(values)] = list(values.values())
    return weight


def some_weights(dtype="float32"):
    """Weights of many sizes and sparsities."""
    generator = np.random.default_rng(0)
    shapes = [(1,), (9,), (7, 5), (40, 50), (3, 3, 8, 16)]
    densities = (0, 0.003, 0.02, 0.3)
    cases = [*itertools.product(shapes, densities), ((140_000,), 0.00002)]
    for shape, density in cases:
        kept = generator.random(shape) < density
        yield (generator.normal(size=shape) * kept).astype(dtype)


def bits(array):
    return np.ascontiguousarray(array).tobytes()


def decoded(code, like):
    """Decodes a weight with TensorFlow."""
    dtype = tf.as_dtype(like.dtype)
    return saved_model.decode(tf.constant(code), like.shape, dtype).numpy()


def test_a_code_has_a_bit_for_every_place_and_then_the_values():
    weight = np.array([[0, 2, 0, 3, 4], [0, 0, 0, 0, 5]], np.float32)
    stored = zlib.decompress(saved_model.encode(weight))
    assert list(stored[:2]) == [0b00011010, 0b10]
    values = np.frombuffer(stored[2:], np.float32)
    np.testing.assert_array_equal(values, [2, 3, 4, 5])


@pytest.mark.parametrize("density", [0.02, 0.1, 0.5])
def test_a_code_takes_little_more_than_its_values(density):
    generator = np.random.default_rng(0)
    kept = generator.random(300_000) < density
    weight = (kept * generator.normal(size=kept.shape)).astype(np.float32)
    entropy = -density * np.log2(density)
    entropy -= (1 - density) * np.log2(1 - density)
    least = 4 * np.count_nonzero(kept) + kept.size * entropy / 8
    assert len(saved_model.encode(weight)) < 1.05 * least


@pytest.mark.parametrize("dtype", DTYPES)
def test_weights_come_back_by_hand_and_by_tensorflow(dtype):
    for weight in some_weights(dtype):
        code = saved_model.encode(weight)
        found = by_hand(code, weight)
        np.testing.assert_array_equal(found, weight)
        assert bits(decoded(code, weight)) == bits(found)


def test_all_but_zeros_come_back_bit_by_bit():
    signalling = np.array([0x7F800001, 0xFFC00123], np.uint32)
    odd = [np.nan, -np.nan, np.inf, -np.inf, 1e-45, -1e-45]
    weight = np.zeros(400, np.float32)
    weight[2:8] = odd
    weight[10:12] = signalling.view(np.float32)
    assert bits(decoded(saved_model.encode(weight), weight)) == bits(weight)


def test_zeros_of_both_signs_come_back_as_zero():
    weight = with_values(300, {5: -0.0, 9: 1.0})
    code = saved_model.encode(weight)
    assert bits(by_hand(code, weight)) == bits(with_values(300, {9: 1.0}))


def pruned(model, sparsity=0.95):
    """Returns a plain model with that fraction of its kernels zero."""
    if model.name not in snip_tf.models.NAMES:
        snip_tf.masked(model)
    generator = np.random.default_rng(0)
    for _, mask in snip_tf.layers.masked_weights(model):
        mask.assign(generator.random(mask.shape) > sparsity)
    return snip_tf.strip(model)


def noise(*shape):
    return np.random.default_rng(1).normal(size=shape).astype(np.float32)


def dense(units=100):
    return pruned(
        keras.Sequential([keras.Input((64,)), keras.layers.Dense(units)])
    )


def convolutions():
    return keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            keras.layers.Conv2D(32, 3, activation="relu"),
            keras.layers.BatchNormalization(),
            keras.layers.DepthwiseConv2D(3),
            keras.layers.Conv2D(64, 3, activation="relu"),
            keras.layers.Dropout(0.5),
            keras.layers.Flatten(),
            keras.layers.Dense(10),
        ]
    )


def embedding():
    return keras.Sequential(
        [
            keras.Input((9,), dtype="int32"),
            keras.layers.Embedding(300, 32, mask_zero=True),
            keras.layers.GRU(64),
        ]
    )


def two_inputs_and_outputs():
    left = keras.Input((40,), name="left")
    right = keras.Input((60,), name="right")
    both = keras.ops.concatenate(
        [keras.layers.Dense(80)(left), keras.layers.Dense(50)(right)], axis=-1
    )
    return keras.Model(
        {"left": left, "right": right},
        {"sum": keras.layers.Dense(70)(both), "both": both},
    )


def mixed():
    policy = keras.DTypePolicy("mixed_float16")
    inputs = keras.Input((64,), dtype="float32")
    hidden = keras.layers.Dense(90, "relu", dtype=policy)(inputs)
    hidden = keras.ops.multiply(hidden, inputs[:, :1])
    return keras.Model([inputs], [keras.layers.Dense(60, dtype=policy)(hidden)])


# name: a network, and a batch of inputs.
NETWORKS = {
    "convolutions": (convolutions, lambda n: noise(n, 8, 8, 3)),
    "lstm_s": (
        lambda: snip_tf.models.build("lstm_s"),
        lambda n: noise(n, 28, 28, 1),
    ),
    "embedding": (
        embedding,
        lambda n: np.random.default_rng(0).integers(0, 300, (n, 9), np.int32),
    ),
    "two_inputs_and_outputs": (
        two_inputs_and_outputs,
        lambda n: {"left": noise(n, 40), "right": noise(n, 60)},
    ),
    "mixed": (mixed, lambda n: [noise(n, 64)]),
}


def saved(model, directory):
    """Returns what loads from the model's sparse SavedModel."""
    saved_model.save(model, directory)
    return tf.saved_model.load(directory)


def variables_size(directory):
    return sum(f.stat().st_size for f in (directory / "variables").iterdir())


def assert_same(outputs, expected):
    """Checks structures and all numbers, bit by bit but for a zero's sign."""
    keras.tree.assert_same_structure(outputs, expected)
    keras.tree.map_structure(np.testing.assert_array_equal, outputs, expected)


@pytest.mark.parametrize("name", NETWORKS)
def test_it_serves_as_what_keras_exports(name, tmp_path):
    build, inputs = NETWORKS[name]
    model = pruned(build())
    sparse = saved(model, tmp_path / "sparse")
    model.export(tmp_path / "keras", verbose=False)
    keras_own = tf.saved_model.load(tmp_path / "keras")
    assert sparse.signatures.keys() == keras_own.signatures.keys()
    for key, signature in keras_own.signatures.items():
        twin = sparse.signatures[key]
        assert (
            twin.structured_input_signature
            == signature.structured_input_signature
        )
        assert twin.structured_outputs == signature.structured_outputs
    for size in (1, 7, 1_000):
        x = inputs(size)
        assert_same(sparse.serve(x), keras_own.serve(x))
    assert variables_size(tmp_path / "sparse") < 0.2 * variables_size(
        tmp_path / "keras"
    )


@pytest.fixture(scope="module")
def lenet(tmp_path_factory):
    """LeNet-300-100 of 2% of its weights, and its SavedModel's directory."""
    keras.utils.set_random_seed(0)
    model = snip_tf.models.build("lenet_300_100")
    model.compile(
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    labels = np.random.default_rng(0).integers(0, 10, 100)
    snip_tf.prune(model, noise(100, 28, 28, 1), labels, sparsity=0.98)
    model = snip_tf.strip(model)
    directory = tmp_path_factory.mktemp("lenet") / "export"
    saved_model.save(model, directory)
    return model, directory


def test_lenet_at_98_percent_takes_40_kilobytes(lenet):
    model, directory = lenet
    assert sum(4 * weight.size for weight in model.get_weights()) > 1_066_000
    assert variables_size(directory) <= 40_000


def test_tensorflow_alone_loads_several_models_at_once(lenet, tmp_path):
    model, directory = lenet
    other = dense()
    saved_model.save(other, tmp_path / "other")
    images, vectors = noise(7, 28, 28, 1), noise(7, 64)
    np.savez(tmp_path / "x.npz", images=images, vectors=vectors)
    code = """
import sys

sys.modules["keras"] = sys.modules["snip_tf"] = None
lenet, other, arrays, outputs = sys.argv[1:]
import gc
import numpy as np
import tensorflow as tf

x = np.load(arrays)
first = tf.saved_model.load(lenet)
second = tf.saved_model.load(other)
third = tf.saved_model.load(lenet)
logits = first.serve(x["images"])
del first
gc.collect()
np.savez(
    outputs,
    first=logits,
    second=second.serve(x["vectors"]),
    third=third.serve(x["images"]),
)
"""
    paths = (
        directory,
        tmp_path / "other",
        tmp_path / "x.npz",
        tmp_path / "y.npz",
    )
    subprocess.run([sys.executable, "-c", code, *map(str, paths)], check=True)
    with np.load(tmp_path / "y.npz") as outputs:
        np.testing.assert_array_equal(outputs["first"], outputs["third"])
        # Not bit by bit: another process may add in another order.
        for name, expected in (
            ("first", model(images)),
            ("second", other(vectors)),
        ):
            np.testing.assert_allclose(
                outputs[name], expected, rtol=1e-5, atol=1e-6
            )


def test_loaded_weights_are_dense_and_their_codes_gone(lenet):
    model, directory = lenet
    loaded = tf.saved_model.load(directory)
    assert [weight.shape for weight in loaded.weights] == [
        weight.shape for weight in model.weights
    ]
    for weight, expected in zip(loaded.weights, model.weights, strict=True):
        np.testing.assert_array_equal(weight, expected)
    assert [code.numpy() for code in loaded.codes] == [b""] * 2


def test_a_signature_outlives_what_it_was_taken_from(tmp_path):
    model, x = dense(), noise(3, 64)
    serve = saved(model, tmp_path / "export").signatures["serving_default"]
    gc.collect()
    (outputs,) = serve(**{model.inputs[0].name: tf.constant(x)}).values()
    assert_same(outputs, model(x))


def test_a_session_serves_it_as_tensorflow_serving_does(tmp_path):
    build, inputs = NETWORKS["two_inputs_and_outputs"]
    model, x = pruned(build()), inputs(3)
    saved_model.save(model, tmp_path / "export")
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        loaded = tf.compat.v1.saved_model.load(
            session, ["serve"], str(tmp_path / "export")
        )
        signature = loaded.signature_def["serving_default"]
        outputs = session.run(
            {name: y.name for name, y in signature.outputs.items()},
            {signature.inputs[name].name: x[name] for name in x},
        )
    assert_same(outputs, model(x))


def test_a_loaded_model_can_change_and_be_saved_anew(tmp_path):
    model, x = dense(), noise(3, 64)
    loaded = saved(model, tmp_path / "export")
    loaded.weights[0].assign(2 * loaded.weights[0])
    tf.saved_model.save(loaded, tmp_path / "again")
    again = tf.saved_model.load(tmp_path / "again")
    assert_same(again.serve(x), 2 * model(x))


def test_keras_serves_it_as_a_layer(tmp_path):
    model, x = dense(), noise(3, 64)
    saved_model.save(model, tmp_path / "export")
    layer = keras.layers.TFSMLayer(tmp_path / "export", call_endpoint="serve")
    assert_same(layer(x), model(x))


def test_small_weights_and_integers_are_stored_as_they_are(tmp_path):
    small = pruned(
        keras.Sequential([keras.Input((10,)), keras.layers.Dense(100)])
    )
    small.count = small.add_weight((4_000,), "zeros", "int32", name="count")
    loaded = saved(small, tmp_path / "export")
    assert not hasattr(loaded, "codes")
    assert_same(loaded.serve(noise(3, 10)), small(noise(3, 10)))


def test_a_model_without_zeros_is_saved_too(tmp_path):
    model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(200)])
    x = noise(3, 64)
    loaded = saved(model, tmp_path / "export")
    assert_same(loaded.serve(x), model(x))


def test_a_fixed_batch_size_is_freed(tmp_path):
    inputs = keras.Input(batch_shape=(8, 64))
    model = pruned(keras.Model(inputs, keras.layers.Dense(100)(inputs)))
    loaded = saved(model, tmp_path / "export")
    assert loaded.serve(noise(5, 64)).shape == (5, 100)


def test_saving_leaves_the_model_as_it_was(tmp_path):
    model, x = dense(), noise(3, 64)
    before = model.get_weights()
    saved_model.save(model, tmp_path / "sparse")
    model.export(tmp_path / "keras", verbose=False)
    assert_same(model.get_weights(), before)
    keras_own = tf.saved_model.load(tmp_path / "keras")
    assert_same(keras_own.serve(x), model(x))


def test_a_stateful_lstm_keeps_its_state_between_calls(tmp_path):
    inputs = keras.Input(batch_shape=(3, 5, 8))
    outputs = keras.layers.LSTM(64, stateful=True)(inputs)
    model, x = pruned(keras.Model(inputs, outputs)), noise(3, 5, 8)
    loaded = saved(model, tmp_path / "export")
    for _ in range(3):
        assert_same(loaded.serve(x), model(x))


def test_lookup_tables_come_along(tmp_path):
    model = pruned(
        keras.Sequential(
            [
                keras.Input((2,), dtype="string"),
                keras.layers.StringLookup(vocabulary=["hot", "cold"]),
                keras.layers.Embedding(100, 50),
            ]
        )
    )
    x = tf.constant([["cold", "hot"], ["warm", "cold"]])
    loaded = saved(model, tmp_path / "export")
    assert_same(loaded.serve(x), model(x))


# What TensorFlow raises: its own errors, and IndexError for its "out of range".
REFUSED = (tf.errors.OpError, IndexError)


@pytest.mark.parametrize("name", [DATA, "variables.index"])
@pytest.mark.parametrize("left", [0, 0.5, 0.99])
def test_truncated_variables_are_refused(name, left, tmp_path):
    saved_model.save(dense(), tmp_path / "export")
    path = tmp_path / "export" / "variables" / name
    content = path.read_bytes()
    path.write_bytes(content[: int(left * len(content))])
    with pytest.raises(REFUSED):
        tf.saved_model.load(tmp_path / "export")


def test_variables_with_an_altered_byte_are_refused(tmp_path):
    saved_model.save(dense(), tmp_path / "export")
    path = tmp_path / "export" / "variables" / DATA
    content = path.read_bytes()
    for place in np.linspace(0, len(content) - 1, 12, dtype=int):
        altered = bytearray(content)
        altered[place] ^= 16
        path.write_bytes(altered)
        with pytest.raises(REFUSED):
            tf.saved_model.load(tmp_path / "export")


class Subclassed(keras.Model):
    """A model without inputs of its own."""

    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(100)
        self.flip = keras.layers.RandomFlip()

    def call(self, x):
        if isinstance(x, dict):
            x = keras.ops.concatenate([x["b"], x["a"]], axis=-1)
        return self.dense(self.flip(x[:, :, None, None])[:, :, 0, 0])


@pytest.mark.parametrize(
    "x",
    [noise(3, 64), {"b": noise(3, 40), "a": noise(3, 24)}],
    ids=["array", "dict"],
)
def test_a_subclassed_model_is_saved_as_keras_exports_it(x, tmp_path):
    model = Subclassed()
    model(x)
    model = pruned(model)
    loaded = saved(model, tmp_path / "sparse")
    model.export(tmp_path / "keras", verbose=False)
    keras_own = tf.saved_model.load(tmp_path / "keras")
    for size in (1, 3):
        part = keras.tree.map_structure(lambda array: array[:size], x)  # noqa: B023
        assert_same(loaded.serve(part), model(part, training=False))
    signature = loaded.signatures["serving_default"]
    theirs = keras_own.signatures["serving_default"]
    assert len(signature.structured_input_signature[1]) == len(
        theirs.structured_input_signature[1]
    )
    assert variables_size(tmp_path / "sparse") < 0.2 * variables_size(
        tmp_path / "keras"
    )


class TwoArguments(keras.Model):
    """A model whose second argument Keras does not record."""

    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(2)

    def call(self, x, y):
        return self.dense(x) + self.dense(y)


class TwoShapes(TwoArguments):
    """A model whose `build` takes the shapes of both."""

    def build(self, x_shape, y_shape):
        self.dense.build(x_shape)


def test_each_argument_that_build_takes_the_shape_of_is_an_input(tmp_path):
    model, x, y = TwoShapes(), noise(3, 64), noise(3, 64)
    model(x, y)
    loaded = saved(model, tmp_path / "export")
    assert_same(loaded.serve(x[:2], y[:2]), model(x[:2], y[:2]))


def test_a_model_that_needs_more_than_its_inputs_is_refused(tmp_path):
    model = TwoArguments()
    model(noise(3, 64), noise(3, 64))
    with pytest.raises(TypeError, match="missing a required argument: 'y'"):
        saved_model.save(model, tmp_path / "export")
    assert not (tmp_path / "export").exists()


@pytest.mark.parametrize(
    "model",
    [keras.Sequential([keras.layers.Dense(2)]), Subclassed()],
    ids=["sequential", "subclassed"],
)
def test_models_that_were_never_called_are_refused(model, tmp_path):
    with pytest.raises(ValueError, match="must have been called.*Received: mo"):
        saved_model.save(model, tmp_path / "export")
    assert not (tmp_path / "export").exists()
