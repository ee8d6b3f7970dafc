"""The oracle is arithmetic by hand: positions x inputs x outputs."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

import snip_tf


def dense_of(*model_layers, shape, **options):
    """Returns the dense count of each row of a Sequential model."""
    model = keras.Sequential([keras.Input(shape, **options), *model_layers])
    return [row.dense for row in snip_tf.flops(model).rows]


def computes_channels_first():
    """Returns whether this machine's TensorFlow does."""
    try:
        keras.layers.Conv2D(1, 1, data_format="channels_first")(
            np.zeros((1, 1, 1, 1), np.float32)
        )
    except tf.errors.UnimplementedError:
        return False
    return True


# Layers


@pytest.mark.parametrize(
    ("layer", "shape", "by_hand"),
    [
        (keras.layers.Dense(4), (3,), [3 * 4]),
        (keras.layers.Dense(4), (5, 3), [5 * 3 * 4]),
        (
            keras.layers.EinsumDense("abc,cde->abde", (None, 2, 4)),
            (5, 3),
            [5 * 3 * 2 * 4],
        ),
        (keras.layers.EinsumDense("...x,xy->...y", 4), (5, 6, 3), [30 * 3 * 4]),
        # The sum over b goes over positions, of which each meets the kernel.
        (keras.layers.EinsumDense("abc,cd->ad", 4), (5, 3), [5 * 3 * 4]),
        (keras.layers.Conv1D(4, 3), (9, 2), [7 * 3 * 2 * 4]),
        (keras.layers.Conv1D(4, 3, padding="causal"), (9, 2), [9 * 3 * 2 * 4]),
        (
            keras.layers.Conv2D(4, 3, strides=2, padding="same"),
            (9, 8, 2),
            [(5 * 4) * 3 * 3 * 2 * 4],
        ),
        (keras.layers.Conv2D(4, 3, dilation_rate=2), (9, 9, 2), [25 * 72]),
        # Each of 4 outputs sees 3 of 6 inputs.
        (keras.layers.Conv2D(4, 3, groups=2), (9, 9, 6), [49 * 9 * 3 * 4]),
        pytest.param(
            keras.layers.Conv2D(4, 3, data_format="channels_first"),
            (2, 9, 9),
            [49 * 9 * 2 * 4],
            marks=pytest.mark.skipif(
                not computes_channels_first(),
                reason="TensorFlow computes channels_first convolutions on a "
                "CPU only with oneDNN, which it turns on for AVX-512.",
            ),
        ),
        (keras.layers.Conv3D(4, 2), (5, 4, 3, 2), [(4 * 3 * 2) * 8 * 2 * 4]),
        # Each input position spreads over the kernel, whatever is cropped.
        (keras.layers.Conv1DTranspose(4, 3, strides=2), (5, 2), [5 * 3 * 8]),
        (
            keras.layers.Conv2DTranspose(4, 3, strides=2, padding="same"),
            (5, 6, 2),
            [(5 * 6) * 9 * 2 * 4],
        ),
        (keras.layers.Conv3DTranspose(4, 2), (5, 4, 3, 2), [60 * 8 * 8]),
        (
            keras.layers.DepthwiseConv1D(3, depth_multiplier=2),
            (9, 4),
            [7 * 3 * 4 * 2],
        ),
        (
            keras.layers.DepthwiseConv2D(3, strides=2, padding="same"),
            (8, 8, 4),
            [16 * 9 * 4],
        ),
        (
            keras.layers.SeparableConv1D(5, 3, depth_multiplier=2),
            (9, 4),
            [7 * 3 * 4 * 2, 7 * (4 * 2) * 5],
        ),
        (
            keras.layers.SeparableConv2D(5, 3, strides=2, padding="same"),
            (8, 8, 4),
            [16 * 9 * 4, 16 * 4 * 5],
        ),
        (keras.layers.SimpleRNN(4), (7, 3), [7 * 3 * 4, 7 * 4 * 4]),
        (keras.layers.GRU(4), (7, 3), [7 * 3 * 12, 7 * 4 * 12]),
        (
            keras.layers.LSTM(4, return_sequences=True),
            (7, 3),
            [7 * 3 * 16, 7 * 4 * 16],
        ),
        (
            keras.layers.Bidirectional(keras.layers.LSTM(4)),
            (7, 3),
            2 * [7 * 3 * 16, 7 * 4 * 16],
        ),
        (
            keras.layers.TimeDistributed(keras.layers.Conv2D(4, 3)),
            (6, 5, 5, 2),
            [6 * (3 * 3) * 9 * 2 * 4],
        ),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_a_layer_by_hand(layer, shape, by_hand):
    assert dense_of(layer, shape=shape) == by_hand


def test_an_embedding_multiplies_nothing():
    count = dense_of(
        keras.layers.Embedding(50, 8),
        keras.layers.Dense(3),
        shape=(6,),
        dtype="int32",
    )
    assert count == [0, 6 * 8 * 3]


@pytest.mark.skipif(
    not hasattr(keras.layers, "ReversibleEmbedding"),
    reason="This version of Keras has no ReversibleEmbedding.",
)
def test_an_embedding_in_reverse_multiplies():
    words = keras.Input((6,), dtype="int32")
    embed = keras.layers.ReversibleEmbedding(50, 8)
    model = keras.Model(words, embed(embed(words), reverse=True))
    assert snip_tf.flops(model).dense == 6 * 8 * 50


def test_the_projections_of_attention_by_hand():
    query, value = keras.Input((4, 3)), keras.Input((7, 5))
    attend = keras.layers.MultiHeadAttention(num_heads=2, key_dim=6)
    count = snip_tf.flops(keras.Model([query, value], attend(query, value)))
    heads = 2 * 6
    assert {row.name.split("/")[-2]: row.dense for row in count.rows} == {
        "query": 4 * 3 * heads,
        "key": 7 * 5 * heads,
        "value": 7 * 5 * heads,
        "attention_output": 4 * heads * 3,
    }


def test_each_call_of_a_shared_layer_counts():
    inputs = keras.Input((6, 4))
    layer = keras.layers.Dense(4)
    block = keras.Sequential([keras.Input((4,)), keras.layers.Dense(4)])
    x = layer(inputs)  # six positions
    x = keras.layers.GlobalAveragePooling1D()(x)
    model = keras.Model(inputs, block(block(layer(x))))
    first, second = snip_tf.flops(model).rows
    assert (first.uses, first.dense) == (7, 7 * 4 * 4)
    assert (second.uses, second.dense) == (2, 2 * 4 * 4)


def test_examples_that_a_model_makes_of_one_count():
    inputs = keras.Input((12,))
    windows = keras.ops.reshape(inputs, (-1, 3))  # four of each example
    model = keras.Model(inputs, keras.layers.Dense(5)(windows))
    assert snip_tf.flops(model).dense == 4 * 3 * 5


def test_a_fixed_batch_counts_as_one_example():
    layer = keras.layers.LSTM(4, stateful=True)
    model = keras.Sequential([keras.Input((7, 3), batch_size=5), layer])
    assert snip_tf.flops(model).dense == 7 * (3 + 4) * 16


def test_inputs_by_name_are_given_by_name():
    inputs = {name: keras.Input((3,), name=name) for name in ("b", "a")}
    both = keras.layers.Concatenate()([inputs["a"], inputs["b"]])
    model = keras.Model(inputs, keras.layers.Dense(2)(both))
    assert snip_tf.flops(model).dense == 6 * 2


# The model


def test_the_model_is_left_as_it_was():
    layer = keras.layers.SimpleRNN(4, stateful=True)
    model = keras.Sequential([keras.Input((7, 3), batch_size=2), layer])
    model(np.ones((2, 7, 3)))  # a state that is not zero
    weights = [variable.numpy() for variable in model.variables]
    attributes = set(vars(layer))
    snip_tf.flops(model)
    assert set(vars(layer)) == attributes
    for before, after in zip(weights, model.variables, strict=True):
        np.testing.assert_array_equal(after, before)


def test_a_model_that_fails_is_left_as_it_was():
    class Fails(keras.layers.Dense):
        def call(self, x):
            raise NotImplementedError

    layer = Fails(2)
    layer.build((None, 3))
    inputs = keras.Input((3,))
    model = keras.Model(inputs, layer(inputs))
    with pytest.raises(NotImplementedError):
        snip_tf.flops(model)
    assert "call" not in vars(layer)


def test_an_unknown_size_is_refused_and_named():
    image = keras.Input((None, None, 3), name="photo")
    model = keras.Model(image, keras.layers.Conv2D(4, 3)(image))
    with pytest.raises(ValueError, match="inputs of fixed shapes") as error:
        snip_tf.flops(model)
    received = "with inputs {'photo': (None, None, None, 3)}"
    assert str(error.value).endswith(received)


class Subclassed(keras.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.layer = keras.layers.Dense(2)

    def call(self, x):
        return self.layer(x)


def test_a_subclassed_model_counts():
    model = Subclassed()
    model(np.zeros((5, 6, 3)))
    assert snip_tf.flops(model).dense == 6 * 3 * 2


@pytest.mark.parametrize(
    "model",
    [
        keras.Sequential([keras.layers.Dense(2)], name="new"),
        Subclassed(name="new"),
    ],
)
def test_a_model_that_is_not_built_is_refused(model):
    with pytest.raises(ValueError, match="must be built.*model='new'"):
        snip_tf.flops(model)


_UNDER_JAX = """
import sys
sys.modules["tensorflow"] = None  # importing it is then an ImportError
import keras
import snip_tf
assert keras.backend.backend() == "jax"
lstm = keras.layers.LSTM(4, return_sequences=True)
dense = keras.layers.TimeDistributed(keras.layers.Dense(2))
model = [keras.Input((7, 3)), keras.layers.Bidirectional(lstm), dense]
rows = snip_tf.flops(keras.Sequential(model)).rows
print(*[row.dense for row in rows])
"""


def test_it_counts_under_jax():
    pytest.importorskip("jax", reason="needs JAX: pip install 'snip_tf[jax]'")
    process = subprocess.run(
        [sys.executable, "-c", _UNDER_JAX],
        env={**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr
    steps = 2 * [7 * 3 * 16, 7 * 4 * 16]
    assert process.stdout.split() == [str(n) for n in [*steps, 7 * 8 * 2]]
