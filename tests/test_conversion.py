"""`masked` and `strip` in place, over all the ways to put a model together."""

import copy
import pickle
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import CROSS_ENTROPY

import snip_tf
from snip_tf import conversion, layers


class Scale(keras.layers.Layer):
    """A user's own layer with a weight, not registered with Keras."""

    def build(self, shape):
        self.factor = self.add_weight(
            name="factor", shape=shape[-1:], initializer="ones"
        )

    def call(self, x):
        return x * self.factor


class OwnDense(keras.layers.Dense):
    """A user's own kind of `Dense`, which reads its kernel as `Dense` does."""

    def call(self, x):
        return keras.ops.tanh(keras.ops.matmul(x, self.kernel) + self.bias)


class Residual(keras.Model):
    """A subclassed model whose config holds its layer."""

    def __init__(self, layer, **kwargs):
        super().__init__(**kwargs)
        self.layer = layer

    def call(self, x):
        return x + self.layer(x)

    def get_config(self):
        layer = keras.saving.serialize_keras_object(self.layer)
        return {**super().get_config(), "layer": layer}

    @classmethod
    def from_config(cls, config):
        config = dict(config)
        layer = keras.saving.deserialize_keras_object(config.pop("layer"))
        return cls(layer, **config)


class SelfMade(keras.Model):
    """A subclassed model that makes its layers, some of them in a list."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.first = keras.layers.Dense(4)
        self.rest = [keras.layers.Dense(4), OwnDense(4)]

    def call(self, x):
        x = self.first(x)
        for layer in self.rest:
            x = layer(x)
        return x


def sequential():
    return keras.Sequential(
        [
            keras.Input((6, 6, 2)),
            keras.layers.Conv2D(4, 3, activation="relu"),
            keras.layers.DepthwiseConv2D(3, padding="same"),
            keras.layers.SeparableConv2D(3, 2),
            keras.layers.Conv2DTranspose(2, 2),
            keras.layers.Flatten(),
            keras.layers.Dense(3),
        ]
    )


def functional():
    x = keras.Input((4,), name="x")
    y = keras.Input((4,), name="y")
    both = keras.layers.Concatenate()(
        [keras.layers.Dense(3)(x), keras.layers.Dense(2)(y)]
    )
    return keras.Model([x, y], [both, keras.layers.Dense(4)(both)])


def nested():
    def block(name):
        return keras.Sequential(
            [keras.Input((4,)), keras.layers.Dense(4, name="same_name")],
            name=name,
        )

    inputs = keras.Input((4,))
    inner = keras.Model(
        inputs, block("first")(inputs) + block("second")(inputs)
    )
    inputs = keras.Input((4,))
    return keras.Model(inputs, keras.layers.Dense(2)(inner(inputs)))


def shared():
    inputs = keras.Input((4,))
    layer = keras.layers.Dense(4, activation="tanh", name="shared")
    block = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(4, name="in_shared_block")]
    )
    return keras.Model(inputs, block(layer(block(layer(inputs)))))


def made_in_another_order():
    last, first, other = (keras.layers.Dense(4) for _ in range(3))
    inputs = keras.Input((4,))
    x = first(inputs)
    return keras.Model(inputs, [last(x), other(x), first(x)])


def bidirectional():
    return keras.Sequential(
        [
            keras.Input((5, 3)),
            keras.layers.Bidirectional(
                keras.layers.LSTM(3, return_sequences=True)
            ),
            keras.layers.Bidirectional(
                keras.layers.SimpleRNN(2),
                backward_layer=keras.layers.GRU(2, go_backwards=True),
            ),
        ]
    )


def time_distributed():
    return keras.Sequential(
        [
            keras.Input((3, 5, 5, 2)),
            keras.layers.TimeDistributed(keras.layers.Conv2D(2, 3)),
            keras.layers.TimeDistributed(
                keras.Sequential(
                    [keras.layers.Flatten(), keras.layers.Dense(2)]
                )
            ),
        ]
    )


def attention():
    inputs = keras.Input((4, 3))
    x = keras.layers.MultiHeadAttention(2, 3)(inputs, inputs)
    # With a gate, two of the projections have the same shape.
    x = keras.layers.MultiHeadAttention(2, 3, use_gate=True)(x, inputs)
    x = keras.layers.LayerNormalization()(x)
    dense = keras.layers.EinsumDense("abc,cd->abd", (None, 2), bias_axes="d")
    return keras.Model(inputs, dense(x))


def embedding():
    return keras.Sequential(
        [
            keras.Input((5,), dtype="int32"),
            keras.layers.Embedding(7, 4, mask_zero=True),
            keras.layers.GRU(3),
        ]
    )


def stacked_cells():
    cells = [keras.layers.LSTMCell(3), keras.layers.GRUCell(2)]
    return keras.Sequential([keras.Input((5, 3)), keras.layers.RNN(cells)])


def dropout_and_batch_norm():
    return keras.Sequential(
        [
            keras.Input((5, 3)),
            keras.layers.Conv1D(4, 3, use_bias=False),
            keras.layers.BatchNormalization(),
            keras.layers.Dropout(0.5, seed=1),
            keras.layers.LSTM(3, dropout=0.5, recurrent_dropout=0.5),
            keras.layers.Dense(2, kernel_regularizer="l2"),
        ]
    )


def subclassed():
    model = Residual(
        keras.Sequential(
            [
                keras.layers.Dense(3, activation="relu"),
                keras.layers.Dense(4),
            ]
        )
    )
    model(np.zeros((1, 4)))
    return model


def self_made():
    model = SelfMade()
    model(np.zeros((1, 4)))
    return model


def shared_with_a_model_inside():
    layer = keras.layers.Dense(4)
    inputs = keras.Input((4,))
    block = keras.Sequential([keras.Input((4,)), layer])
    return keras.Model(inputs, block(layer(inputs)))


def functions():
    return keras.Sequential(
        [
            keras.Input((4, 4, 2)),
            keras.layers.Lambda(
                lambda t: tf.reduce_mean(t, axis=[1, 2]), output_shape=(2,)
            ),
            keras.layers.Dense(3, activation=lambda x: keras.ops.sin(x)),
        ]
    )


def own_layers():
    inputs = keras.Input((4,))
    x = keras.layers.Dense(3)(inputs)
    return keras.Model(inputs, OwnDense(2)(Scale()(x)))


NETWORKS = [
    sequential,
    functional,
    nested,
    shared,
    made_in_another_order,
    bidirectional,
    time_distributed,
    attention,
    embedding,
    stacked_cells,
    dropout_and_batch_norm,
    subclassed,
    self_made,
    shared_with_a_model_inside,
    functions,
    own_layers,
]
each_network = pytest.mark.parametrize(
    "network", NETWORKS, ids=lambda network: network.__name__
)


def built(network):
    """Returns the network with random weights, all different."""
    model = network()
    generator = np.random.default_rng(1)
    for weight in model.weights:
        # Positive, as some are the variances of batch normalisation.
        weight.assign(generator.uniform(0.01, 1, size=weight.shape))
    return model


def batch(model, size=2):
    """Returns a batch for the model: one array, or a list of them."""
    generator = np.random.default_rng(2)
    inputs = getattr(model, "inputs", None)
    if inputs is None:  # subclassed
        return generator.normal(size=(size, 4)).astype("float32")
    arrays = [
        generator.integers(7, size=(size, *tensor.shape[1:]))
        if tensor.dtype == "int32"
        else generator.normal(size=(size, *tensor.shape[1:]))
        for tensor in inputs
    ]
    arrays = [
        array.astype(tensor.dtype)
        for array, tensor in zip(arrays, inputs, strict=True)
    ]
    return arrays if len(arrays) > 1 else arrays[0]


def outputs_of(model):
    return [np.array(one) for one in keras.tree.flatten(model(batch(model)))]


def assert_outputs(model, expected, tolerance=0):
    for one, value in zip(outputs_of(model), expected, strict=True):
        np.testing.assert_allclose(one, value, rtol=tolerance, atol=tolerance)


def types_in(model):
    return [type(layer) for layer in model._flatten_layers()]


def prune_at_random(model, kept=0.5):
    generator = np.random.default_rng(3)
    masks = [
        generator.random(mask.shape) < kept for mask in snip_tf.get_masks(model)
    ]
    snip_tf.set_masks(model, masks)
    return model


def names_of_masked(model):
    return [layer.name for layer in layers.masked_layers(model)]


# masked


@each_network
def test_masked_keeps_the_object_and_its_outputs_to_the_bit(network):
    model = built(network)
    expected = outputs_of(model)
    assert snip_tf.masked(model, mask_bias=True) is model
    assert_outputs(model, expected)
    for mask in snip_tf.get_masks(model):
        np.testing.assert_array_equal(mask, np.ones_like(mask))


@each_network
def test_masked_masks_every_layer_that_it_can(network):
    maskable = {layers.stock_class_of(cls) for cls in layers.MASKED_CLASSES}
    found = types_in(snip_tf.masked(built(network)))
    assert not [cls for cls in found if cls in maskable]


@each_network
def test_masked_counts_every_kernel_and_bias_of_those_layers(network):
    model = built(network)
    counted = ("kernel", "recurrent_kernel", "embeddings", "bias")
    counted += ("depthwise_kernel", "pointwise_kernel")
    expected = sum(
        int(np.prod(weight.shape))
        for weight in model.weights
        if weight.name in counted
    )
    masks = snip_tf.get_masks(snip_tf.masked(model, mask_bias=True))
    assert sum(mask.size for mask in masks) == expected


@each_network
def test_every_mask_counts_in_the_outputs(network):
    model = snip_tf.masked(built(network), mask_bias=True)
    masks = [mask for _, mask in layers.masked_weights(model)]
    with tf.GradientTape() as tape:
        tape.watch([mask.value for mask in masks])
        outputs = keras.tree.flatten(model(batch(model, size=7)))
        total = sum(keras.ops.sum(one**2) for one in outputs)
    gradients = tape.gradient(total, [mask.value for mask in masks])
    assert all(np.any(gradient) for gradient in gradients)


def test_masked_keeps_layers_shared():
    names = names_of_masked(snip_tf.masked(built(shared)))
    assert sorted(names) == ["in_shared_block", "shared"]


def test_masked_masks_biases_only_if_asked_to():
    for asked in (False, True):
        model = snip_tf.masked(built(sequential), mask_bias=asked)
        names = {weight.name for weight, _ in layers.masked_weights(model)}
        assert ("bias" in names) == asked


def test_masked_keeps_precision_and_frozen_layers():
    model = keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(3, dtype="mixed_bfloat16", name="low"),
            keras.layers.Dense(2, trainable=False, name="frozen"),
        ]
    )
    snip_tf.masked(model)
    assert model.get_layer("low").compute_dtype == "bfloat16"
    assert model.get_layer("frozen").trainable_weights == []


def test_a_compiled_model_trains_on_with_its_optimizer():
    models = [built(three_layers) for _ in range(2)]
    x, y = np.ones((4, 3)), np.ones((4, 2))
    for model in models:
        model.compile(keras.optimizers.Adam(0.1), "mse")
        model.fit(x, y, epochs=2, verbose=0)
    stock, model = models
    model.set_weights(stock.get_weights())
    snip_tf.masked(model)
    assert int(model.optimizer.iterations) == 2
    for one in models:
        one.fit(x, y, epochs=2, verbose=0)
    assert_outputs(model, outputs_of(stock), tolerance=1e-6)
    snip_tf.strip(model)
    for one in models:
        one.fit(x, y, epochs=2, verbose=0)
    assert_outputs(model, outputs_of(stock), tolerance=1e-6)


def test_what_was_compiled_for_the_stock_layers_is_forgotten():
    model = built(three_layers)
    model.compile("sgd", "mse")
    x = batch(model)
    model.predict(x, verbose=0)
    model.evaluate(x, np.ones((2, 2)), verbose=0)
    model.fit(x, np.ones((2, 2)), verbose=0)
    snip_tf.masked(model)
    masks = [np.zeros_like(mask) for mask in snip_tf.get_masks(model)]
    for (_, variable), mask in zip(
        layers.masked_weights(model), masks, strict=True
    ):
        variable.assign(mask)
    bias = np.tile(model.layers[-1].bias, (2, 1))
    np.testing.assert_allclose(model.predict(x, verbose=0), bias, atol=1e-7)


def test_a_model_is_copied_by_its_owner():
    for network in (sequential, functional, nested, bidirectional, self_made):
        model = built(network)
        if network is self_made:
            keras.saving.register_keras_serializable("test")(SelfMade)
            keras.saving.register_keras_serializable("test")(OwnDense)
        other = snip_tf.masked(copy.deepcopy(model))
        assert not any(
            isinstance(layer, layers.MaskedLayer)
            for layer in model._flatten_layers()
        )
        assert_outputs(other, outputs_of(model))
        third = copy.deepcopy(prune_at_random(other))
        for one, same in zip(
            snip_tf.get_masks(third), snip_tf.get_masks(other), strict=True
        ):
            np.testing.assert_array_equal(one, same)


# Files of models whose own code makes their layers.


@keras.saving.register_keras_serializable("test")
class OwnConv(keras.layers.Conv2D):
    """A subclass that changes nothing of how the kernel is read."""


@keras.saving.register_keras_serializable("test")
class Block(keras.layers.Layer):
    """A layer that makes layers: attention, a loop, a subclass."""

    def __init__(self, **options):
        super().__init__(**options)
        self.attention = keras.layers.MultiHeadAttention(2, 3)
        self.both = keras.layers.Bidirectional(
            keras.layers.LSTM(2, return_sequences=True), name="both"
        )
        self.convs = [OwnConv(3, 1), keras.layers.Conv2D(2, 1)]

    def build(self, shape):
        self.attention.build(shape, shape)
        self.both.build(shape)
        shape = (None, *shape[1:2], 4, 1)
        for conv in self.convs:
            conv.build(shape)
            shape = conv.compute_output_shape(shape)

    def call(self, x):
        x = self.both(self.attention(x, x))[..., None]
        for conv in self.convs:
            x = conv(x)
        return x


@keras.saving.register_keras_serializable("test")
class Net(keras.Model):
    """A model that makes layers, one of which makes layers."""

    def __init__(self, units=3, **options):
        super().__init__(**options)
        self.units = units
        self.block = Block()
        self.flat = keras.layers.Flatten()
        self.head = keras.layers.Dense(units, name="head")

    def call(self, x):
        return self.head(self.flat(self.block(x)))

    def get_config(self):
        return {**super().get_config(), "units": self.units}


def in_a_graph():
    inputs = keras.Input((4, 4))
    x = keras.layers.Flatten()(Block()(inputs))
    return keras.Model(inputs, keras.layers.Dense(2)(x))


def made_in_code():
    model = Net()
    model(np.zeros((1, 4, 4)))
    return model


@pytest.mark.parametrize("network", [in_a_graph, made_in_code])
def test_files_of_layers_made_in_code_keep_the_masks(network, tmp_path):
    model = prune_at_random(snip_tf.masked(network(), mask_bias=True))
    assert len(snip_tf.get_masks(model)) == 20
    x = np.random.default_rng(0).normal(size=(3, 4, 4))
    model.compile("adam", "mse")
    model.fit(x, np.zeros(model(x).shape), verbose=0)
    model.save(tmp_path / "model.keras")
    model.save_weights(tmp_path / "model.weights.h5")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    again = snip_tf.masked(network(), mask_bias=True)
    again.load_weights(tmp_path / "model.weights.h5")
    for other in (loaded, again):
        np.testing.assert_array_equal(other(x), model(x))
        for one, same in zip(
            snip_tf.get_masks(other), snip_tf.get_masks(model), strict=True
        ):
            np.testing.assert_array_equal(one, same)
    before = np.array(loaded(x))
    types = types_in(network())
    assert types_in(snip_tf.strip(loaded)) == types
    np.testing.assert_allclose(loaded(x), before, rtol=1e-6, atol=1e-6)


@pytest.mark.filterwarnings("ignore:`compact` leaves these layers whole")
@pytest.mark.parametrize("network", [in_a_graph, own_layers])
def test_layers_of_others_code_go_through_compact(network):
    """Also of classes that are not registered."""
    model = prune_at_random(snip_tf.masked(built(network), mask_bias=True))
    small = snip_tf.compact(model)
    assert_outputs(small, outputs_of(model), tolerance=1e-5)
    assert len(snip_tf.get_masks(small)) == len(snip_tf.get_masks(model))


@keras.saving.register_keras_serializable("test")
class WithoutBuild(keras.layers.Layer):
    """A layer whose parts are built, and partly made, by its first call."""

    def __init__(self, factor=1.0, **options):  # Keras notes the arguments
        super().__init__(**options)
        self.factor = factor
        self.dense = keras.layers.Dense(3)
        self.attention = keras.layers.MultiHeadAttention(2, 3)

    def call(self, x):
        return self.factor * self.dense(self.attention(x, x))


@pytest.mark.filterwarnings("ignore:`build\\(\\)` was called on layer")
def test_a_layer_without_build_or_config_is_read_back(tmp_path):
    model = keras.Sequential([keras.Input((4, 5)), WithoutBuild(factor=5.0)])
    prune_at_random(snip_tf.masked(model))
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    for other in (loaded, copy.deepcopy(model)):
        assert_outputs(other, outputs_of(model), tolerance=1e-6)
        for one, same in zip(
            snip_tf.get_masks(other), snip_tf.get_masks(model), strict=True
        ):
            np.testing.assert_array_equal(one, same)
    pending = type(model.layers[0]).from_config(model.layers[0].get_config())
    config = model.layers[0].get_config()
    assert pending.get_config()["masked"] == config["masked"]


def block_class(shift):
    class Twin(keras.layers.Layer):
        def __init__(self, **options):
            super().__init__(**options)
            self.dense = keras.layers.Dense(3)

        def build(self, shape):
            self.dense.build(shape)

        def call(self, x):
            return self.dense(x) + shift

        def get_config(self):
            return super().get_config()

    return Twin


def test_classes_of_one_name_are_told_apart_by_the_caller(tmp_path):
    first, second = block_class(0.0), block_class(7.0)
    model = keras.Sequential([keras.Input((4,)), first()])
    snip_tf.masked(model)
    model.save(tmp_path / "model.keras")
    snip_tf.masked(keras.Sequential([keras.Input((4,)), second()]))
    second.__module__ = "another"
    loaded = keras.models.load_model(
        tmp_path / "model.keras", custom_objects={"Twin": first}
    )
    assert_outputs(loaded, outputs_of(model))


def test_stock_layers_that_make_their_parts_are_read_back():
    inputs = keras.Input((5, 8))
    attention = keras.layers.GroupQueryAttention(4, 4, 2)
    model = keras.Model(inputs, attention(inputs, inputs))
    prune_at_random(snip_tf.masked(model))
    other = copy.deepcopy(model)
    assert_outputs(other, outputs_of(model), tolerance=1e-6)
    assert len(snip_tf.get_masks(other)) == 4


def test_a_class_that_cannot_be_derived_leaves_the_model_stock():
    class Tagged(keras.Model):
        def __init_subclass__(cls, *, tag, **options):
            super().__init_subclass__(**options)

    class Net(Tagged, tag=1):
        def __init__(self):
            super().__init__()
            self.dense = keras.layers.Dense(3)

        def call(self, x):
            return self.dense(x)

    model = Net()
    model(np.ones((2, 4)))
    types = types_in(model)
    with pytest.raises(TypeError, match="tag"):
        snip_tf.masked(model)
    assert types_in(model) == types


def test_a_file_keeps_which_layers_were_skipped(tmp_path):
    model = snip_tf.masked(made_in_code(), skip=["head", "both"])
    assert not {"head", "forward_lstm"} & set(names_of_masked(model))
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert [
        [mask.shape for mask in snip_tf.get_masks(one)]
        for one in (loaded, model)
    ] == [[(4, 2, 3)] * 3 + [(2, 3, 4), (1, 1, 1, 3), (1, 1, 3, 2)]] * 2


def test_stock_weights_do_not_load_as_if_they_were_masked(tmp_path):
    made_in_code().save_weights(tmp_path / "stock.weights.h5")
    model = snip_tf.masked(made_in_code())
    with pytest.raises(ValueError, match="kernel_mask"):
        model.load_weights(tmp_path / "stock.weights.h5")


# Layers that stay dense.


class OwnKernel(keras.layers.Layer):
    """A layer with a kernel of its own."""

    def build(self, shape):
        self.kernel = self.add_weight(shape=(shape[-1], 5), name="kernel")

    def call(self, x):
        return x @ self.kernel


class StoredRead(keras.layers.Dense):
    """A subclass that reads the kernel where it is stored."""

    def call(self, x):
        return keras.ops.matmul(x, self._kernel)


class Standardised(keras.layers.Dense):
    """A subclass that reads the kernel in its own way."""

    @property
    def kernel(self):
        kernel = self._kernel
        return kernel - keras.ops.mean(kernel, axis=0)


@pytest.mark.parametrize(
    ("layer", "shape", "count"),
    [
        (lambda: keras.layers.ConvLSTM2D(8, 3), (4, 8, 8, 2), 2_880),
        (OwnKernel, (4,), 20),
        (lambda: StoredRead(5), (4,), 20),
        (lambda: Standardised(5), (4,), 20),
    ],
    ids=["ConvLSTM2D", "own kernel", "stored read", "own kernel property"],
)
def test_a_layer_that_cannot_have_a_mask_is_named_with_its_weights(
    layer, shape, count
):
    dense = layer()
    dense.name = "left"
    model = keras.Sequential(
        [
            keras.Input(shape),
            dense,
            keras.layers.Flatten(),
            keras.layers.Dense(3),
        ]
    )
    if type(dense) is keras.layers.ConvLSTM2D:
        name = rf"left/{dense.cell.name} \({count:,}\)"
    else:
        name = rf"left \({count:,}\)"
    with pytest.warns(UserWarning, match=rf"^{count:,} weights get no mask.*"):
        snip_tf.masked(model)
    snip_tf.strip(model)
    with pytest.warns(UserWarning, match=f": {name}$"):
        snip_tf.masked(model)
    assert len(snip_tf.get_masks(model)) == 1


def test_a_weight_that_its_wrapper_assigns_gets_no_mask():
    model = keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.SpectralNormalization(keras.layers.Dense(5)),
            keras.layers.Dense(3),
        ]
    )
    name = model.layers[0].layer.name
    expected = np.array(model(np.ones((2, 4))))
    with pytest.warns(UserWarning, match=rf"assigns them, .*{name} \(20\)"):
        snip_tf.masked(model)
    assert [mask.shape for mask in snip_tf.get_masks(model)] == [(5, 3)]
    np.testing.assert_array_equal(model(np.ones((2, 4))), expected)
    model.compile("sgd", "mse")
    model.fit(np.ones((2, 4)), np.ones((2, 3)), verbose=0)


def test_a_weight_that_the_graph_reads_besides_gets_no_mask():
    """An embedding tied to the outputs, as language models have it."""
    tokens = keras.Input((6,), dtype="int32")
    embedding = keras.layers.Embedding(20, 8, name="tied")
    hidden = keras.layers.Dense(8, activation="relu")(embedding(tokens))
    tied = keras.ops.einsum("btd,vd->btv", hidden, embedding.embeddings)
    model = keras.Model(tokens, tied)
    with pytest.warns(UserWarning, match=r"graph reads them: tied \(160\)$"):
        snip_tf.masked(model)
    assert [mask.shape for mask in snip_tf.get_masks(model)] == [(8, 8)]


# skip


def three_layers():
    return keras.Sequential(
        [
            keras.Input((3,)),
            keras.layers.Dense(3, name="one"),
            keras.layers.Dense(3, name="two"),
            keras.layers.Dense(2, name="three"),
        ]
    )


@pytest.mark.parametrize(
    "skip",
    [
        lambda model: ["one", "three"],
        lambda model: [model.layers[0], model.layers[-1]],
        lambda model: ["one", model.layers[-1]],
        lambda model: lambda layer: "e" in layer.name,
    ],
    ids=["names", "layers", "both", "predicate"],
)
def test_skipped_layers_stay_stock(skip):
    model = built(three_layers)
    snip_tf.masked(model, skip=skip(model))
    assert names_of_masked(model) == ["two"]
    assert type(model.layers[0]) is keras.layers.Dense


def test_one_name_to_skip_needs_no_list():
    model = snip_tf.masked(built(three_layers), skip="two")
    assert names_of_masked(model) == ["one", "three"]


def test_skip_reaches_into_wrappers():
    model = built(bidirectional)
    name = model.layers[0].forward_layer.name
    assert name not in names_of_masked(snip_tf.masked(model, skip=[name]))


def backbone_and_head():
    inner = keras.Sequential(
        [keras.Input((3,)), keras.layers.Dense(4, name="in")], name="backbone"
    )
    inputs = keras.Input((3,))
    outputs = keras.layers.Dense(2, name="head")(inner(inputs))
    return keras.Model(inputs, outputs)


@pytest.mark.parametrize(
    "skip",
    [
        lambda model: "backbone",
        lambda model: model.layers[1],
        lambda model: lambda layer: isinstance(layer, keras.Sequential),
    ],
    ids=["name", "layer", "predicate"],
)
def test_all_that_is_inside_of_a_skipped_model_stays_stock(skip):
    model = built(backbone_and_head)
    snip_tf.masked(model, skip=skip(model))
    assert names_of_masked(model) == ["head"]


def test_all_that_is_inside_of_a_skipped_wrapper_stays_stock():
    found = names_of_masked(snip_tf.masked(built(bidirectional)))
    model = built(bidirectional)
    left = names_of_masked(snip_tf.masked(model, skip=model.layers[0].name))
    assert len(found) > len(left) > 0
    assert not any("lstm" in name for name in left)


def attention_and_loop():
    inputs = keras.Input((4, 6))
    attention = keras.layers.MultiHeadAttention(2, 3, name="attention")
    x = attention(inputs, inputs)
    return keras.Model(inputs, keras.layers.LSTM(3, name="loop")(x))


def test_skip_refuses_a_part_of_another_layer():
    model = built(attention_and_loop)
    types = types_in(model)
    for skip, of in (("lstm_cell", "loop"), ("query", "attention")):
        with pytest.raises(ValueError, match=f"Received: '{skip}', of '{of}'$"):
            snip_tf.masked(model, skip=skip)
    assert types_in(model) == types
    # What chooses by kind means the layers themselves.
    snip_tf.masked(
        model,
        skip=lambda layer: isinstance(layer, keras.layers.MultiHeadAttention),
    )
    assert len(snip_tf.get_masks(model)) == 2


def test_skip_refuses_a_name_that_is_not_there():
    model = built(three_layers)
    with pytest.raises(ValueError) as error:
        snip_tf.masked(model, skip=["two", "fuor"])
    assert str(error.value) == (
        "`skip` must name layers of the model. Received: 'fuor'"
    )


# Refused


def test_masked_refuses_a_model_that_is_not_built():
    model = keras.Sequential([keras.layers.Dense(2)], name="fresh")
    with pytest.raises(ValueError, match="`model` must be built") as error:
        snip_tf.masked(model)
    assert "model='fresh', not built" in str(error.value)


def test_masked_refuses_a_model_with_nothing_to_mask():
    model = keras.Sequential(
        [keras.Input((2,)), keras.layers.ReLU()], name="plain"
    )
    with pytest.raises(ValueError, match="at least one layer that can have a"):
        snip_tf.masked(model)


def test_masked_refuses_to_skip_all():
    with pytest.raises(ValueError, match="at least one layer that can have a"):
        snip_tf.masked(built(three_layers), skip=lambda layer: True)


def test_a_model_with_masks_is_refused():
    with pytest.raises(ValueError, match="no masks yet; `strip` takes them"):
        snip_tf.masked(snip_tf.models.build("lenet_300_100"))


def test_lora_is_refused_before_and_after():
    model = built(three_layers)
    model.layers[0].enable_lora(2)
    with pytest.raises(ValueError, match="must have no LoRA.*layer 'one'"):
        snip_tf.masked(model)
    model = snip_tf.masked(built(three_layers))
    with pytest.raises(ValueError, match="takes no LoRA.*layer='two'"):
        model.layers[1].enable_lora(2)


def test_strip_refuses_a_model_without_masks():
    with pytest.raises(ValueError, match="at least one layer with a mask"):
        snip_tf.strip(built(three_layers))


# strip


def test_a_network_whose_variables_are_new_must_be_compiled_anew():
    """Of each gate of an LSTM two biases become one."""
    model = snip_tf.models.build("lstm_s")
    x, y = np.random.default_rng(0).normal(size=(8, 28, 28, 1)), np.arange(8)
    model.compile(keras.optimizers.SGD(0.01, momentum=0.9), CROSS_ENTROPY)
    model.fit(x, y, verbose=0)
    with pytest.raises(ValueError, match="call `compile"):
        snip_tf.strip(model).fit(x, y, verbose=0)
    model.compile("sgd", CROSS_ENTROPY)
    model.fit(x, y, verbose=0)


@each_network
def test_strip_keeps_the_object_and_its_outputs(network):
    model = prune_at_random(snip_tf.masked(built(network), mask_bias=True))
    expected = outputs_of(model)
    assert snip_tf.strip(model) is model
    assert_outputs(model, expected, tolerance=1e-6)


@each_network
def test_strip_is_the_inverse_of_masked(network):
    model = built(network)
    types, attributes = types_in(model), [set(vars(x)) for x in model.layers]
    weights = [(weight.path, weight.shape) for weight in model.weights]
    before = model.get_weights()
    snip_tf.strip(snip_tf.masked(model, mask_bias=True))
    assert types_in(model) == types
    assert [set(vars(layer)) for layer in model.layers] == attributes
    assert [(w.path, w.shape) for w in model.weights] == weights
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


@each_network
def test_stripped_is_stock_inside_and_as_before_behind(network):
    model = prune_at_random(snip_tf.masked(built(network), mask_bias=True))
    for weight, _ in layers.masked_weights(model):
        weight.assign_add(np.ones(weight.shape))  # under the masks, too
    expected, types = outputs_of(model), types_in(model)
    paths, before = [w.path for w in model.weights], model.get_weights()
    with pytest.raises(KeyError), conversion.stripped(model):
        assert_outputs(model, expected, tolerance=1e-6)
        found = types_in(model)
        assert not [cls for cls in found if cls.__module__[:7] == "snip_tf"]
        raise KeyError
    assert types_in(model) == types
    assert [weight.path for weight in model.weights] == paths
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    assert_outputs(model, expected)


@pytest.mark.parametrize("name", ["lstm_s", "gru_s"])
def test_a_cell_of_two_biases_becomes_the_stock_one_and_back(name):
    model = prune_at_random(snip_tf.models.build(name, units=3))
    x = np.random.default_rng(0).normal(size=(2, 28, 28, 1))
    expected, before = np.array(model(x)), model.get_weights()
    with conversion.stripped(model):
        np.testing.assert_allclose(model(x), expected, rtol=1e-6, atol=1e-6)
        assert type(model.get_layer("recurrent")).__module__[:5] == "keras"
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    snip_tf.strip(model)
    np.testing.assert_allclose(model(x), expected, rtol=1e-6, atol=1e-6)


def test_strip_bakes_zeros_in_whatever_is_stored_under_the_mask():
    model = snip_tf.masked(built(three_layers))
    ((weight, mask), *_) = layers.masked_weights(model)
    mask.assign(np.eye(3))  # and not set_masks, which zeroes the weight
    expected = weight.numpy() * np.eye(3)
    assert np.all(weight.numpy() != 0)
    kernel = snip_tf.strip(model).layers[0].kernel
    np.testing.assert_array_equal(kernel, expected)


@pytest.mark.filterwarnings("ignore:The masks of these:UserWarning")
def test_strip_leaves_no_negative_zeros():
    model = keras.Sequential([keras.Input((3,)), layers.Dense(4)])
    snip_tf.set_masks(model, [np.zeros((3, 4))])
    kernel = np.array(snip_tf.strip(model).layers[0].kernel)
    assert not np.signbit(kernel).any()


def test_stripped_file_loads_where_snip_tf_is_never_imported(tmp_path):
    parts = [sequential, attention, bidirectional, embedding, shared]
    models = [built(part) for part in parts]
    model = keras.Model(
        [one.inputs[0] for one in models], [one.outputs[0] for one in models]
    )
    snip_tf.strip(prune_at_random(snip_tf.masked(model)))
    model.save(tmp_path / "plain.keras")
    np.savez(tmp_path / "x.npz", *batch(model))
    script = (
        "import sys, keras, numpy as np\n"
        "x = list(np.load('x.npz').values())\n"
        "y = keras.models.load_model('plain.keras')(x)\n"
        "np.savez('y.npz', *[one.numpy() for one in y])\n"
        "assert 'snip_tf' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True)
    found = np.load(tmp_path / "y.npz").values()
    for one, expected in zip(found, outputs_of(model), strict=True):
        np.testing.assert_allclose(one, expected, rtol=1e-6, atol=1e-6)


class Gated(keras.layers.Dense):
    """A `Dense` with a weight more, which the stock class does not know."""

    def build(self, shape):
        super().build(shape)
        self.gate = self.add_weight(shape=(shape[-1], self.units), name="gate")

    def call(self, x):
        return super().call(x) * keras.ops.sigmoid(x @ self.gate)


def test_another_weight_of_a_masked_layer_is_told_of():
    model = keras.Sequential([keras.Input((6,)), Gated(5, name="gated")])
    with pytest.warns(UserWarning, match=r"^30 weights get no mask.*gated \("):
        snip_tf.masked(model)
    assert str(snip_tf.summary(model)).endswith(
        "not masked: 30 weights in gated"
    )


class Frozen(layers.Dense):
    """A masked layer that makes a variable after its masks."""

    def build(self, shape):
        super().build(shape)
        self.more = self.add_weight(
            name="more", shape=self._kernel.shape, trainable=False
        )


def test_undoing_strip_leaves_variables_in_their_order():
    """Files of weights have no other names for them."""
    model = keras.Sequential([keras.Input((6,)), Frozen(4)])
    before = [id(variable) for variable in model.variables]
    with conversion.stripped(model):
        assert len(model.variables) == 3
    assert [id(variable) for variable in model.variables] == before


def test_a_masked_subclassed_model_is_pickled_as_the_stock_one_is():
    model = prune_at_random(snip_tf.masked(built(self_made)))
    again = pickle.loads(pickle.dumps(model))
    assert type(again) is type(model)
    assert snip_tf.model_sparsity(again) == snip_tf.model_sparsity(model)
    for one, other in zip(outputs_of(again), outputs_of(model), strict=True):
        np.testing.assert_array_equal(one, other)
