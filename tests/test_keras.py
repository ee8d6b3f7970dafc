"""Keras still has the private names that the library relies on.

Each test says which one is gone, or means something else, in a new version.
"""

import keras
import numpy as np
import pytest

from snip_tf import _keras


@pytest.fixture
def model():
    inputs = keras.Input((5, 3))
    x = keras.layers.Bidirectional(keras.layers.LSTM(2, name="lstm"))(inputs)
    block = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    return keras.Model(inputs, block(x))


def test_all_layers_are_those_of_keras_each_once(model):
    found = _keras.all_layers(model)
    assert found[0] is model
    assert {id(one) for one in found} == {
        id(one) for one in model._flatten_layers()
    }
    assert len({id(one) for one in found}) == len(found)


def test_what_is_inside_of_a_layer_follows_it(model):
    names = [layer.name for layer in _keras.all_layers(model)]
    both = names.index(model.layers[1].name)
    assert names[both + 1 : both + 3] == ["forward_lstm", "lstm_cell"]


def test_the_nodes_of_a_graph_are_its_calls_inputs_first(model):
    operations = [node.operation for node in _keras.graph_nodes(model)]
    assert operations == model.layers[1:]


def test_the_variables_among_the_arguments_of_a_graph():
    layer, inputs = keras.layers.Dense(2), keras.Input((3,))
    outputs = keras.ops.matmul(layer(inputs), keras.ops.ones((2, 2)))
    model = keras.Model(inputs, outputs)
    assert _keras.read_by_graph(model) == _keras.read_by_graph(layer) == []
    back = keras.ops.matmul(outputs, b := keras.Variable(np.ones((2, 2))))
    (found,) = _keras.read_by_graph(keras.Model(inputs, back))
    assert found is b


def test_a_symbolic_tensor_knows_its_operation(model):
    assert _keras.history(model.output).operation is model.layers[-1]


def test_padding_has_a_mask():
    tokens = np.array([[1, 0]])
    embedded = keras.layers.Embedding(2, 3, mask_zero=True)(tokens)
    np.testing.assert_array_equal(
        _keras.padding_mask(embedded), [[True, False]]
    )
    assert _keras.padding_mask(keras.ops.ones(2)) is None


def test_a_built_layer_gives_and_takes_variables():
    layer = keras.layers.Dense(2)
    layer.build((None, 3))
    kernel = layer.weights[0]
    _keras.untrack(layer, kernel)
    assert [weight.name for weight in layer.weights] == ["bias"]
    _keras.track(layer, kernel)
    assert [weight.name for weight in layer.weights] == ["bias", "kernel"]
    extra = _keras.unlocked(layer).add_weight(shape=(), name="extra")
    assert layer.weights[-1] is extra


def test_a_loss_is_taken_in_a_mode():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile(loss="mse")
    x, y = np.ones((3, 2)), np.zeros((3, 1))
    loss = _keras.compute_loss(model, x, y, model(x), None, True)
    np.testing.assert_allclose(loss, np.mean(np.array(model(x)) ** 2))


def test_an_optimizer_has_lists_of_what_it_keeps_of_each_weight(model):
    optimizer = keras.optimizers.LossScaleOptimizer(
        keras.optimizers.Adam(use_ema=True)
    )
    check_slots(optimizer, model, 3)


@pytest.mark.skipif(
    not hasattr(keras.optimizers, "MultiOptimizer"),
    reason="Keras has MultiOptimizer from 3.15 on",
)
def test_an_optimizer_of_several_says_which_is_for_a_weight(model):
    own = keras.optimizers.SGD(momentum=0.9)
    several = keras.optimizers.MultiOptimizer(lambda weight: own)
    check_slots(several, model, 1)
    weights = model.trainable_variables
    assert set(_keras.optimizers_of(several, weights)) == {own}


def check_slots(optimizer, model, each):
    weights = model.trainable_variables
    optimizer.build(weights)
    found = list(_keras.slots(optimizer))
    assert len(found) == each * len(weights)
    assert {id(weight) for weight, _ in found} == set(map(id, weights))
    assert all(weight.shape == slot.shape for weight, slot in found)


def test_the_lists_of_a_layers_variables_are_the_layers_own():
    layer = keras.layers.BatchNormalization()
    layer.build((None, 3))
    trained, others = _keras.variable_lists(layer)
    assert [variable.name for variable in trained] == ["gamma", "beta"]
    others[:] = others[::-1]
    names = [variable.name for variable in layer.non_trainable_variables]
    assert names == ["moving_variance", "moving_mean"]
