"""`masked` and `strip` over all the ways to put a Keras model together."""

import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

import snip_tf
from snip_tf import layers


class Scale(keras.layers.Layer):
    """A user's own layer with a weight, not registered with Keras."""

    def build(self, shape):
        self.factor = self.add_weight(
            name="factor", shape=shape[-1:], initializer="ones"
        )

    def call(self, x):
        return x * self.factor


class OwnDense(keras.layers.Dense):
    """A user's own kind of `Dense`: not a stock layer, so never masked."""


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
    """A subclassed model that makes its layers, so its config has none."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.layer = keras.layers.Dense(2)

    def call(self, x):
        return self.layer(x)


class Unclonable(SelfMade):
    """A subclassed model with an argument that Keras cannot write down."""

    def __init__(self, scale):
        super().__init__()
        self.scale = scale


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


def assert_same_output(model, other, tolerance=1e-6):
    x = batch(model)
    for one, expected in zip(
        keras.tree.flatten(model(x)), keras.tree.flatten(other(x)), strict=True
    ):
        np.testing.assert_allclose(
            one, expected, rtol=tolerance, atol=tolerance
        )


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
def test_masked_has_the_outputs_of_the_model_and_masks_of_ones(network):
    model = built(network)
    result = snip_tf.masked(model, mask_bias=True)
    assert_same_output(result, model)
    for mask in snip_tf.get_masks(result):
        np.testing.assert_array_equal(mask, np.ones_like(mask))


@each_network
def test_masked_masks_every_layer_that_it_can(network):
    model = built(network)
    maskable = {layers.stock_class_of(cls) for cls in layers.MASKED_CLASSES}
    found = snip_tf.masked(model)._flatten_layers()
    assert not [layer.name for layer in found if type(layer) in maskable]


@each_network
def test_masked_counts_every_kernel_and_bias_of_those_layers(network):
    model = built(network)
    counted = ("kernel", "recurrent_kernel", "embeddings", "bias")
    counted += ("depthwise_kernel", "pointwise_kernel")
    expected = sum(
        int(np.prod(weight.shape))
        for weight in model.weights
        if weight.name in counted and "own_dense" not in weight.path
    )
    masks = snip_tf.get_masks(snip_tf.masked(model, mask_bias=True))
    assert sum(mask.size for mask in masks) == expected


@each_network
def test_masked_leaves_the_model_as_it_was(network):
    model = built(network)
    types = [type(layer) for layer in model._flatten_layers()]
    before = model.get_weights()
    prune_at_random(snip_tf.masked(model))
    assert [type(layer) for layer in model._flatten_layers()] == types
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_masked_keeps_layers_shared():
    names = names_of_masked(snip_tf.masked(built(shared)))
    assert sorted(names) == ["in_shared_block", "shared"]


def test_masked_masks_biases_only_if_asked_to():
    model = built(sequential)
    without = layers.masked_weights(snip_tf.masked(model))
    assert "bias" not in {weight.name for weight, _ in without}
    having = layers.masked_weights(snip_tf.masked(model, mask_bias=True))
    assert "bias" in {weight.name for weight, _ in having}


def test_masked_keeps_precision_and_frozen_layers():
    model = keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(3, dtype="mixed_bfloat16", name="low"),
            keras.layers.Dense(2, trainable=False, name="frozen"),
        ]
    )
    result = snip_tf.masked(model)
    assert result.get_layer("low").compute_dtype == "bfloat16"
    assert result.get_layer("frozen").trainable_weights == []
    assert_same_output(result, model)


def test_masked_is_not_compiled():
    model = built(sequential)
    model.compile("sgd", "mse")
    assert not snip_tf.masked(model).compiled


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
    result = snip_tf.masked(model, skip=skip(model))
    assert names_of_masked(result) == ["two"]
    assert type(result.layers[0]) is keras.layers.Dense
    assert_same_output(result, model)


def test_skip_reaches_into_wrappers():
    model = built(bidirectional)
    name = model.layers[0].forward_layer.name
    assert name not in names_of_masked(snip_tf.masked(model, skip=[name]))


def nested():
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
    model = built(nested)
    result = snip_tf.masked(model, skip=skip(model))
    assert names_of_masked(result) == ["head"]
    assert_same_output(result, model)


def test_all_that_is_inside_of_a_skipped_wrapper_stays_stock():
    model = built(bidirectional)
    found = names_of_masked(snip_tf.masked(model))
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
    with pytest.raises(ValueError, match="Received: 'lstm_cell', 'query'$"):
        snip_tf.masked(model, skip=["query", "lstm_cell"])
    with pytest.raises(ValueError, match="Received: 'query'$"):
        snip_tf.masked(model, skip=model.layers[1]._query_dense)
    # What chooses by kind means the layers themselves.
    masked = snip_tf.masked(
        model, skip=lambda layer: not isinstance(layer, keras.layers.LSTM)
    )
    assert len(snip_tf.get_masks(masked)) == 2


def test_skip_refuses_a_name_that_is_not_there():
    model = built(three_layers)
    with pytest.raises(ValueError) as error:
        snip_tf.masked(model, skip=["two", "fuor", "five"])
    assert str(error.value) == (
        "`skip` must name layers of the model. Received: 'five', 'fuor'"
    )


# Refused


def test_masked_refuses_a_model_that_is_not_built():
    model = keras.Sequential([keras.layers.Dense(2)], name="fresh")
    with pytest.raises(ValueError, match="`model` must be built") as error:
        snip_tf.masked(model)
    assert "model='fresh', not built" in str(error.value)


def test_masked_refuses_a_model_that_keras_cannot_make_from_its_config():
    model = Unclonable(scale=np.ones(2))
    model(np.zeros((1, 3)))
    with pytest.raises(ValueError, match="make from its config") as error:
        snip_tf.masked(model)
    assert "subclassed with `get_config`" in str(error.value)
    assert f"model={model.name!r}" in str(error.value)


def test_masked_refuses_a_model_with_nothing_to_mask():
    model = keras.Sequential(
        [keras.Input((2,)), keras.layers.ReLU()], name="plain"
    )
    with pytest.raises(ValueError, match="at least one layer with a mask"):
        snip_tf.masked(model)


def test_masked_refuses_to_skip_all():
    with pytest.raises(ValueError, match="at least one layer with a mask"):
        snip_tf.masked(built(three_layers), skip=lambda layer: True)


def test_masked_refuses_a_model_that_makes_its_layers_itself():
    model = SelfMade()
    model(np.zeros((1, 3)))
    with pytest.raises(ValueError, match="at least one layer with a mask"):
        snip_tf.masked(model)


def test_masked_refuses_a_layer_shared_with_a_model_inside():
    # Keras writes such a layer down twice, and reads two layers back.
    layer = keras.layers.Dense(4)
    inputs = keras.Input((4,))
    block = keras.Sequential([keras.Input((4,)), layer])
    model = keras.Model(inputs, block(layer(inputs)))
    with pytest.raises(ValueError, match="2 weights for 4 of the new model"):
        snip_tf.masked(model)


def test_two_classes_of_one_name_are_refused():
    def block_times(factor):
        class Block(keras.layers.Layer):
            def call(self, x):
                return x * factor

        return Block()

    model = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(3)]
        + [block_times(2), block_times(3)]
    )
    with pytest.raises(ValueError, match="Received: two named Block"):
        snip_tf.masked(model)


def test_strip_refuses_a_model_without_masks():
    with pytest.raises(ValueError, match="at least one layer with a mask"):
        snip_tf.strip(built(three_layers))


# strip


@each_network
def test_strip_has_the_outputs_of_the_pruned_model(network):
    pruned = prune_at_random(snip_tf.masked(built(network), mask_bias=True))
    assert_same_output(snip_tf.strip(pruned), pruned)


@each_network
def test_strip_has_the_layers_and_weights_of_the_first_model(network):
    model = built(network)
    plain = snip_tf.strip(prune_at_random(snip_tf.masked(model)))
    found, expected = plain._flatten_layers(), model._flatten_layers()
    assert [type(x) for x in found] == [type(x) for x in expected]
    assert [(w.name, w.shape) for w in plain.weights] == [
        (w.name, w.shape) for w in model.weights
    ]


def test_strip_bakes_zeros_in_whatever_is_stored_under_the_mask():
    pruned = snip_tf.masked(built(three_layers))
    ((weight, mask), *_) = layers.masked_weights(pruned)
    mask.assign(np.eye(3))  # and not set_masks, which zeroes the weight
    assert np.all(weight.numpy() != 0)
    kernel = snip_tf.strip(pruned).layers[0].kernel
    np.testing.assert_array_equal(kernel, weight.numpy() * np.eye(3))


def test_strip_leaves_the_model_as_it_was():
    pruned = prune_at_random(snip_tf.masked(built(sequential)))
    before = pruned.get_weights()
    plain = snip_tf.strip(pruned)
    for weight in plain.weights:
        weight.assign(np.zeros(weight.shape))
    for old, new in zip(before, pruned.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_stripped_file_loads_where_snip_tf_is_never_imported(tmp_path):
    parts = [sequential, attention, bidirectional, embedding, shared]
    models = [built(part) for part in parts]
    model = keras.Model(
        [one.inputs[0] for one in models], [one.outputs[0] for one in models]
    )
    pruned = prune_at_random(snip_tf.masked(model))
    snip_tf.strip(pruned).save(tmp_path / "plain.keras")
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
    for one, expected in zip(found, pruned(batch(model)), strict=True):
        np.testing.assert_allclose(one, expected, rtol=1e-6, atol=1e-6)


# Networks of others


def test_a_model_with_masks_is_refused():
    with pytest.raises(ValueError, match="no masks yet; `strip` takes them"):
        snip_tf.masked(snip_tf.models.build("lenet_300_100"))


def test_one_name_to_skip_needs_no_list():
    model = keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(3),
            keras.layers.Dense(2, name="head"),
        ]
    )
    masked = snip_tf.masked(model, skip="head")
    assert [mask.shape for mask in snip_tf.get_masks(masked)] == [(4, 3)]


def test_layers_inside_of_others_own_code_are_named():
    class Block(keras.layers.Layer):
        def __init__(self, **options):
            super().__init__(**options)
            self.inner = keras.layers.Dense(4, name="inner")

        def build(self, shape):
            self.inner.build(shape)

        def call(self, x):
            return self.inner(x)

    model = keras.Sequential(
        [keras.Input((4,)), Block(), keras.layers.Dense(3)]
    )
    with pytest.warns(UserWarning, match="own code: inner"):
        masked = snip_tf.masked(model)
    assert [mask.shape for mask in snip_tf.get_masks(masked)] == [(4, 3)]


def test_a_weight_that_its_wrapper_assigns_gets_no_mask():
    model = keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.SpectralNormalization(keras.layers.Dense(5)),
            keras.layers.Dense(3),
        ]
    )
    name = model.layers[0].layer.name
    with pytest.warns(UserWarning, match=f"their weights assigned.*: {name}$"):
        masked = snip_tf.masked(model)
    assert [mask.shape for mask in snip_tf.get_masks(masked)] == [(5, 3)]
    x = np.ones((2, 4))
    np.testing.assert_array_equal(masked(x), model(x))
    masked.compile("sgd", "mse")
    masked.fit(x, np.ones((2, 3)), verbose=0)


def with_lora(build):
    """Returns a masked and pruned network with LoRA, not at its start."""
    model = prune_at_random(snip_tf.masked(build()))
    for layer in model.layers:
        if hasattr(layer, "enable_lora"):
            layer.enable_lora(2, lora_alpha=3)
    generator = np.random.default_rng(0)
    for weight in model.trainable_weights:
        if weight.name.startswith("lora_"):
            weight.assign(generator.normal(size=weight.shape))
    return model


def three_kinds_with_lora():
    return keras.Sequential(
        [
            keras.Input((6,), dtype="int32"),
            keras.layers.Embedding(9, 4),
            keras.layers.EinsumDense("abc,cd->abd", (None, 5)),
            keras.layers.Conv1D(3, 2),
            keras.layers.Dense(2),
        ]
    )


def test_lora_is_merged_by_strip():
    model = with_lora(three_kinds_with_lora)
    x = np.arange(12).reshape(2, 6) % 9
    plain = snip_tf.strip(model)
    np.testing.assert_allclose(plain(x), model(x), rtol=1e-5, atol=1e-5)
    assert len(plain.weights) == 6  # as many as there were without LoRA
    for masked, stock in zip(model.layers, plain.layers, strict=True):
        assert not stock.lora_enabled
        # What was removed stays removed, LoRA or not.
        (_, mask), *_ = masked.masked_weights()
        removed = mask.numpy() == 0
        assert removed.any()
        assert not stock.weights[0].numpy()[removed].any()


def test_lora_is_saved_and_loaded(tmp_path):
    model = with_lora(three_kinds_with_lora)
    x = np.arange(12).reshape(2, 6) % 9
    model.save(tmp_path / "lora.keras")
    loaded = keras.models.load_model(tmp_path / "lora.keras")
    np.testing.assert_array_equal(loaded(x), model(x))


def test_a_model_with_lora_can_be_masked():
    model = three_kinds_with_lora()
    model.layers[-1].enable_lora(2)
    model.layers[-1].lora_kernel_b.assign(np.ones((2, 2)))
    masked = snip_tf.masked(model)
    x = np.arange(12).reshape(2, 6) % 9
    np.testing.assert_array_equal(masked(x), model(x))


def test_the_scale_of_lora_is_kept_in_layers_without_masks():
    model = keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(6, name="one"),
            keras.layers.Dense(3),
        ]
    )
    model.layers[0].enable_lora(2, lora_alpha=8)
    model.layers[0].lora_kernel_b.assign(np.ones((2, 6)))
    x = np.ones((2, 4))
    masked = snip_tf.masked(model, skip="one")
    with pytest.warns(UserWarning, match="leaves these layers whole.*one"):
        small = snip_tf.compact(model)
    for same in (masked, snip_tf.strip(masked), small):
        np.testing.assert_allclose(same(x), model(x), rtol=1e-5)


def test_lora_leaves_the_embedding_itself_as_it_is():
    model = keras.Sequential(
        [
            keras.Input((6,), dtype="int32"),
            layers.Embedding(9, 4),
            layers.Dense(2),
        ]
    )
    model.layers[0].enable_lora(2)
    model.compile("sgd", "mse")
    before = model.layers[0].embeddings.numpy()
    model.fit(np.ones((2, 6)), np.ones((2, 6, 2)), verbose=0)
    np.testing.assert_array_equal(model.layers[0]._embeddings, before)
    assert model.layers[0].lora_embeddings_b.numpy().any()


def test_an_embedding_may_be_given_its_weights():
    table = np.arange(15, dtype="float32").reshape(5, 3)
    for weights in (table, [table]):
        layer = layers.Embedding(5, 3, weights=weights)
        np.testing.assert_array_equal(layer(np.arange(5)), table)


def test_how_a_nested_model_was_compiled_does_not_matter():
    """As the discriminator of a GAN is, with a loss of one's own."""
    model = built(nested)

    def loss(targets, outputs):
        return keras.ops.mean((targets - outputs) ** 2)

    model.layers[1].compile("sgd", loss)
    masked = snip_tf.masked(model)
    assert names_of_masked(masked) == ["in", "head"]
    assert_same_output(masked, model)


def adapted_normalization():
    layer = keras.layers.Normalization()
    x = np.random.default_rng(0).normal(5, 3, size=(20, 4)).astype("float32")
    layer.adapt(x)
    inputs = keras.Input((4,))
    return keras.Model(inputs, keras.layers.Dense(3)(layer(inputs))), x


def adapted_vocabulary():
    layer = keras.layers.TextVectorization(output_sequence_length=4)
    layer.adapt(["a b c", "c d e"])
    inputs = keras.Input((1,), dtype="string")
    x = keras.layers.Embedding(10, 3)(layer(inputs))
    return keras.Model(inputs, x), tf.constant([["a b"], ["d q"]])


def adapted_frequencies():
    layer = keras.layers.TextVectorization(output_mode="tf_idf")
    layer.adapt(["a b c", "a a", "b d e f"])
    inputs = keras.Input((), dtype="string")
    x = keras.layers.Dense(2)(layer(inputs))
    return keras.Model(inputs, x), tf.constant(["a b", "d q"])


@pytest.mark.parametrize(
    "network", [adapted_normalization, adapted_vocabulary, adapted_frequencies]
)
def test_what_adapt_learned_is_carried_over(network):
    model, x = network()
    masked = snip_tf.masked(model)
    np.testing.assert_allclose(masked(x), model(x), rtol=1e-6)
    np.testing.assert_allclose(snip_tf.strip(masked)(x), model(x), rtol=1e-6)


@pytest.mark.filterwarnings("ignore:The mask of:UserWarning")
def test_strip_leaves_no_negative_zeros():
    model = keras.Sequential([keras.Input((3,)), layers.Dense(4)])
    snip_tf.set_masks(model, [np.zeros((3, 4))])
    kernel = np.array(snip_tf.strip(model).layers[0].kernel)
    assert not np.signbit(kernel).any()


def own_loss(targets, outputs):
    return keras.ops.mean((targets - outputs) ** 2)


def test_a_skipped_model_may_be_compiled_with_a_loss_of_ones_own():
    inner = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(3)], name="inner"
    )
    inner.compile(loss=own_loss)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(4), inner])
    converted = snip_tf.masked(model, skip="inner")
    assert [mask.shape for mask in snip_tf.get_masks(converted)] == [(4, 4)]
    x = np.ones((2, 4), np.float32)
    np.testing.assert_array_equal(converted(x), model(x))
