"""LiteRT files of integers: right, and refused where they would be wrong."""

import itertools
import types

import keras
import numpy as np
import pytest
import tensorflow as tf
from litert_reader import outputs, stored_weights
from test_litert import batch, conv_bn_pool, converted, lstm, odd_widths, sparse

from snip_tf.exporting import litert, litert_int8

K = keras.layers


def int8(model, calibration_data):
    return litert.convert(
        model, quantization="int8", calibration_data=calibration_data
    )


def two_inputs():
    inputs = [keras.Input((3,), name="z"), keras.Input((4,), name="a")]
    return keras.Model(inputs, K.Dense(2)(K.Concatenate()(inputs)))


@pytest.mark.parametrize("network", [odd_widths, conv_bn_pool])
def test_outputs_are_within_a_twentieth(network):
    model, file = converted(network, 0.5, "int8")
    expected = np.asarray(model(batch(model)))
    error = outputs(file, batch(model)) - expected
    assert np.std(error) < np.std(expected) / 20
    assert {row.dtype for row in stored_weights(file)} == {"int8"}


def in_batches(x):
    return iter([x[:30], [x[30:]]])


def in_pairs(x):
    return [(x[:50], np.zeros(50)), (x[50:], np.zeros(50))]


def in_a_data_set(x):
    return tf.data.Dataset.from_tensor_slices(x).batch(40)


def in_a_data_set_of_pairs(x):
    return tf.data.Dataset.from_tensor_slices((x, np.zeros(100))).batch(40)


@pytest.mark.parametrize(
    "form", [in_batches, in_pairs, in_a_data_set, in_a_data_set_of_pairs]
)
def test_all_forms_of_the_same_data_make_the_same_file(form):
    model, file = converted(odd_widths, 0.5, "int8")
    assert int8(model, form(batch(model))) == file


@pytest.mark.parametrize(
    "inputs",
    [
        [np.ones((5, 3)), np.ones((5, 4))],
        ([np.ones((5, 3)), np.ones((5, 4))], np.ones(5)),
    ],
    ids=["inputs", "pair"],
)
def test_several_inputs_come_in_the_order_of_the_model(inputs):
    file = int8(two_inputs(), [inputs])
    assert {row.dtype for row in stored_weights(file)} == {"int8"}


def test_a_subclassed_model_is_calibrated_too():
    class Subclassed(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = K.Dense(3)

        def call(self, x):
            return self.dense(x)

    x = np.random.default_rng(0).normal(size=(50, 8)).astype(np.float32)
    model = Subclassed()
    expected = np.asarray(model(x))
    error = outputs(int8(model, x), x) - expected
    assert np.std(error) < np.std(expected) / 20


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [0, 57])
def test_data_that_are_not_finite_are_refused(value, place):
    model = sparse(odd_widths)
    x = batch(model)
    x[place, 3] = value
    for form in (x, in_pairs(x), in_a_data_set_of_pairs(x)):
        with pytest.raises(ValueError, match="not finite"):
            int8(model, form)


@pytest.mark.parametrize(
    "nothing",
    [[], np.zeros((0, 30)), [np.zeros((0, 30))], iter([])],
    ids=["no batch", "empty array", "empty batch", "empty iterator"],
)
def test_no_examples_are_refused(nothing):
    with pytest.raises(ValueError, match="Received: 0 examples"):
        int8(sparse(odd_widths), nothing)


@pytest.mark.parametrize("kind", ["data set", "generator"])
def test_of_endless_data_the_first_thousand_examples_are_used(kind):
    model = sparse(odd_widths)
    x = np.random.default_rng(0).normal(size=(1000, 30)).astype(np.float32)
    endless = itertools.chain([x], itertools.repeat(1e6 * x))
    if kind == "data set":
        endless = tf.data.Dataset.from_generator(
            lambda: itertools.chain([x], itertools.repeat(1e6 * x)),
            output_signature=tf.TensorSpec((None, 30)),
        )
    assert int8(model, endless) == int8(model, x)


@pytest.mark.parametrize(
    ("build", "data", "received"),
    [
        (lambda: sparse(odd_widths), np.ones((5, 31)), r"\[\(5, 31\)\]"),
        (lambda: sparse(odd_widths), [np.ones(30)], r"\[\(30,\)\]"),
        (two_inputs, [np.ones((5, 3))], r"\[\(5, 3\)\]"),
        (two_inputs, [(np.ones((5, 3)), np.ones((5, 4)))], r"\[\(5, 3\)\]"),
    ],
    ids=["features", "an example", "an input", "a pair"],
)
def test_data_of_other_shapes_are_refused(build, data, received):
    message = "`calibration_data` must be batches of the model's inputs, fin"
    with pytest.raises(ValueError, match=f"{message}.*Received: {received}"):
        int8(build(), data)


def test_a_file_in_which_nothing_became_int8_is_refused():
    model, file = converted(odd_widths)
    converter = types.SimpleNamespace(
        target_spec=types.SimpleNamespace(), convert=lambda: file
    )
    with pytest.raises(ValueError, match="by which no weight became int8"):
        litert_int8.convert(converter, model, np.ones((2, 30)))


def test_recurrent_layers_are_refused():
    model = sparse(lstm)
    with pytest.raises(ValueError) as error:
        int8(model, batch(model))
    assert str(error.value) == (
        "`quantization` must be None or 'float16' for a model with recurrent "
        "layers. Received: quantization='int8', model='lstm_s'"
    )
