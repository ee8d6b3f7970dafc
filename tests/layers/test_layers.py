"""The masked layers, each against its stock Keras layer.

All layers go through one table: a new layer is a new row.
"""

import collections
import contextlib
import dataclasses
import json
from collections.abc import Callable

import keras
import numpy as np
import pytest
import tensorflow as tf

from snip_tf import layers
from snip_tf.layers import attention


@dataclasses.dataclass(frozen=True)
class Row:
    """One layer of the table.

    Attributes:
        name: The row's name in the test's id.
        make: A function of the library to take the layer from, `keras.layers`
            or `snip_tf.layers`, and of more constructor arguments.
        shape: The shape of one example.
        has_bias: Whether the layer has a bias.
        tokens: The number of different integers in the input; 0 for floats.
        inputs: How often the layer takes the input.
    """

    name: str
    make: Callable
    shape: tuple[int, ...]
    has_bias: bool = True
    tokens: int = 0
    inputs: int = 1


def _row(name, *args, shape, has_bias=True, tokens=0, inputs=1, **kwargs):
    def make(library, **options):
        return getattr(library, name)(*args, **kwargs, **options)

    return Row(name, make, shape, has_bias, tokens, inputs)


def _cell_row(name):
    def make(library, **options):
        return keras.layers.RNN(getattr(library, name)(3, **options))

    return Row(f"RNN({name})", make, (4, 2))


def _wrapped(wrapper, row, shape, **wrapper_options):
    def make(library, **options):
        return wrapper(row.make(library, **options), **wrapper_options)

    return Row(f"{wrapper.__name__}({row.name})", make, shape)


ROWS = [
    _row("Dense", 4, shape=(3,)),
    _row("EinsumDense", "abc,cd->abd", (None, 4), bias_axes="d", shape=(5, 3)),
    _row("Embedding", 7, 3, shape=(5,), has_bias=False, tokens=7),
    _row("Conv1D", 4, 3, padding="same", strides=2, shape=(6, 2)),
    _row("Conv2D", 4, 3, padding="same", groups=2, shape=(5, 6, 2)),
    _row("Conv3D", 2, 2, shape=(3, 4, 3, 2)),
    _row("Conv1DTranspose", 4, 3, strides=2, shape=(4, 2)),
    _row("Conv2DTranspose", 4, 3, strides=2, shape=(3, 3, 2)),
    _row("Conv3DTranspose", 2, 2, shape=(3, 3, 3, 2)),
    _row("DepthwiseConv1D", 3, depth_multiplier=2, shape=(6, 2)),
    _row("DepthwiseConv2D", 3, depth_multiplier=2, shape=(5, 5, 2)),
    _row("SeparableConv1D", 4, 3, depth_multiplier=2, shape=(6, 2)),
    _row("SeparableConv2D", 4, 3, depth_multiplier=2, shape=(5, 5, 2)),
    _row("SimpleRNN", 3, return_sequences=True, shape=(4, 2)),
    _row("LSTM", 3, return_sequences=True, shape=(4, 2)),
    _row("GRU", 3, return_sequences=True, shape=(4, 2)),
    _cell_row("SimpleRNNCell"),
    _cell_row("LSTMCell"),
    _cell_row("GRUCell"),
    _row("MultiHeadAttention", 2, 3, use_gate=True, shape=(4, 3), inputs=2),
    _wrapped(keras.layers.Bidirectional, _row("LSTM", 3, shape=()), (4, 2)),
    _wrapped(
        keras.layers.Bidirectional,
        _row("GRU", 3, return_sequences=True, shape=()),
        (4, 2),
        merge_mode="sum",
    ),
    _wrapped(
        keras.layers.TimeDistributed,
        _row("Conv2D", 2, 3, shape=()),
        (3, 5, 5, 2),
    ),
]
BIASED_ROWS = [row for row in ROWS if row.has_bias]


def each(rows):
    return pytest.mark.parametrize("row", rows, ids=lambda row: row.name)


def build(row, library=layers, **options):
    """Returns a model of the row's layer alone; masks on its biases, too."""
    if library is layers:
        options = {"mask_bias": True, **options}
    dtype = "int32" if row.tokens else None
    inputs = keras.Input(row.shape, dtype=dtype)
    layer = row.make(library, **options)
    return keras.Model(inputs, layer(*[inputs] * row.inputs))


def build_random(row, seed=1, **options):
    """Returns the row's model with random weights, biases, and masks."""
    model = build(row, **options)
    generator = np.random.default_rng(seed)
    for weight in model.weights:
        weight.assign(generator.normal(size=weight.shape))
    for _, mask in layers.masked_weights(model):
        mask.assign(random_mask(mask, generator))
    return model


def random_mask(mask, generator):
    """Returns random zeros and ones, at least one of each."""
    values = np.arange(mask.numpy().size) % 2
    return generator.permutation(values).reshape(mask.shape)


def with_masks_of_ones(model):
    for _, mask in layers.masked_weights(model):
        mask.assign(np.ones(mask.shape))
    return model


def batch(row, size=3):
    """Returns one batch for the row."""
    generator = np.random.default_rng(2)
    if row.tokens:
        return generator.integers(row.tokens, size=(size, *row.shape))
    return generator.normal(size=(size, *row.shape)).astype("float32")


def values(variables):
    return [variable.numpy() for variable in variables]


def assert_all_equal(actual, expected):
    assert len(actual) == len(expected)
    for one, other in zip(actual, expected, strict=True):
        np.testing.assert_array_equal(one, other)


@contextlib.contextmanager
def policy(name):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def stock_twin(row, model):
    """Returns the stock layer's model with the weights weight * mask."""
    effective = {
        id(weight): weight.numpy() * mask.numpy()
        for weight, mask in layers.masked_weights(model)
    }
    masks = {id(mask) for _, mask in layers.masked_weights(model)}
    stock = build(row, keras.layers)
    stock.set_weights(
        [
            effective.get(id(weight), weight.numpy())
            for weight in model.weights
            if id(weight) not in masks
        ]
    )
    return stock


# The table itself.


def test_every_masked_class_stands_in_the_table():
    in_table = {
        type(layer) for row in ROWS for layer in build(row)._flatten_layers()
    }
    assert set(layers.MASKED_CLASSES) <= in_table


# Against the stock layer.


@each(ROWS)
def test_masks_of_ones_give_the_stock_layer(row):
    model = with_masks_of_ones(build_random(row))
    expected = stock_twin(row, model)(batch(row))
    np.testing.assert_allclose(model(batch(row)), expected, rtol=1e-6)


@each(ROWS)
def test_kernel_masks_of_zeros_leave_the_bias_only(row):
    model = with_masks_of_ones(build_random(row))
    stock = stock_twin(row, model)
    for weight in stock.weights:
        if weight.name != "bias":
            weight.assign(np.zeros(weight.shape))
    for weight, mask in layers.masked_weights(model):
        if weight.name != "bias":
            mask.assign(np.zeros(mask.shape))
    np.testing.assert_array_equal(model(batch(row)), stock(batch(row)))


@each(ROWS)
def test_removed_weights_count_as_zero_in_the_stock_layer(row):
    model = build_random(row)
    stock = stock_twin(row, model)
    np.testing.assert_allclose(
        model(batch(row)), stock(batch(row)), rtol=1e-5, atol=1e-6
    )
    assert not np.allclose(
        model(batch(row)), with_masks_of_ones(model)(batch(row))
    )


@each(ROWS)
def test_call_in_a_tf_function_gives_the_eager_output(row):
    model = build_random(row)
    np.testing.assert_allclose(
        tf.function(model)(batch(row)), model(batch(row)), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@each(ROWS)
def test_mixed_precision_computes_in_the_low_one_with_float32_masks(row, dtype):
    with policy(f"mixed_{dtype}"):
        model = build_random(row)
        inputs = batch(row)
        outputs = tf.function(model)(inputs)
    assert outputs.dtype == dtype
    assert {mask.dtype for _, mask in layers.masked_weights(model)} == {
        "float32"
    }
    expected = stock_twin(row, model)(inputs)
    digits = {"float16": 2e-2, "bfloat16": 2e-1}[dtype]
    np.testing.assert_allclose(
        tf.cast(outputs, "float32"), expected, rtol=digits, atol=digits
    )


# Gradients.


def gradients(model, inputs):
    """Returns w, c, dL/dw, dL/dc per masked weight; L a sum of squares."""
    pairs = layers.masked_weights(model)
    weights = [weight.value for weight, _ in pairs]
    masks = [mask.value for _, mask in pairs]
    with tf.GradientTape() as tape:
        tape.watch(masks)
        loss = tf.reduce_sum(model(inputs, training=True) ** 2)
    by_weight, by_mask = tape.gradient(loss, (weights, masks))
    return [
        tuple(tf.convert_to_tensor(value).numpy() for value in entry)
        for entry in zip(weights, masks, by_weight, by_mask, strict=True)
    ]


@each(ROWS)
def test_gradient_of_a_mask_is_weight_times_gradient_of_the_weight(row):
    with policy("float64"):
        model = with_masks_of_ones(build_random(row))
        found = gradients(model, batch(row).astype(model.input.dtype))
    for weight, _, by_weight, by_mask in found:
        assert weight.dtype == np.float64 and np.any(by_mask)
        # Masks are float32, and so are their gradients.
        scale = np.abs(by_mask).max()
        np.testing.assert_allclose(
            by_mask, weight * by_weight, rtol=1e-6, atol=1e-7 * scale
        )


@each(ROWS)
def test_removed_weights_get_no_gradient(row):
    for _, mask, by_weight, _ in gradients(build_random(row), batch(row)):
        assert not np.any(by_weight[mask == 0])


@pytest.mark.parametrize("name", ["Dense", "Conv2D"])
def test_gradient_of_a_mask_is_the_central_difference_of_the_loss(name):
    row = next(row for row in ROWS if row.name == name)
    with policy("float64"):
        model = with_masks_of_ones(build_random(row, activation="tanh"))
        inputs = batch(row).astype("float64")
        _, _, _, expected = gradients(model, inputs)[0]
        _, mask = layers.masked_weights(model)[0]
        step = 2.0**-12  # 1 + step and 1 - step are exact in float32

        def loss_at(value):
            changed = np.ones(mask.shape)
            changed.flat[5] = value
            mask.assign(changed)
            return float(tf.reduce_sum(model(inputs) ** 2))

        difference = (loss_at(1 + step) - loss_at(1 - step)) / (2 * step)
    np.testing.assert_allclose(expected.flat[5], difference, rtol=1e-5)


# Saving, cloning, exporting.


@each(ROWS)
def test_config_makes_the_same_layer(row):
    layer = row.make(layers, **({"mask_bias": True} if row.has_bias else {}))
    config = json.loads(json.dumps(keras.layers.serialize(layer)))
    twin = keras.layers.deserialize(config)
    assert type(twin) is type(layer)
    assert twin.get_config() == layer.get_config()


@each(ROWS)
def test_keras_file_holds_weights_and_masks(row, tmp_path):
    model = build_random(row)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert_all_equal(values(loaded.weights), values(model.weights))
    np.testing.assert_array_equal(loaded(batch(row)), model(batch(row)))


@each(ROWS)
def test_weights_file_holds_weights_and_masks(row, tmp_path):
    model, other = build_random(row), build_random(row, seed=3)
    model.save_weights(tmp_path / "model.weights.h5")
    other.load_weights(tmp_path / "model.weights.h5")
    assert_all_equal(values(other.weights), values(model.weights))
    np.testing.assert_array_equal(other(batch(row)), model(batch(row)))


@each(ROWS)
def test_clone_has_the_same_config_and_masks_of_ones(row):
    model = build_random(row)
    clone = keras.models.clone_model(model)
    assert clone.layers[-1].get_config() == model.layers[-1].get_config()
    for (_, mask), (_, original) in zip(
        layers.masked_weights(clone), layers.masked_weights(model), strict=True
    ):
        assert mask is not original
        np.testing.assert_array_equal(mask, np.ones(mask.shape))


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Every row's model and their SavedModel: one, as exporting is slow."""
    models = [build_random(row) for row in ROWS]
    whole = keras.Model(
        [model.input for model in models], [model.output for model in models]
    )
    path = tmp_path_factory.mktemp("exported")
    whole.export(path, format="tf_saved_model", verbose=False)
    loaded = tf.saved_model.load(path)
    outputs = loaded.serve(
        [
            tf.cast(batch(row), model.input.dtype)
            for row, model in zip(ROWS, models, strict=True)
        ]
    )
    return {
        row.name: (model, output)
        for row, model, output in zip(ROWS, models, outputs, strict=True)
    }


@each(ROWS)
def test_exported_saved_model_gives_the_same_output(row, exported):
    model, output = exported[row.name]
    np.testing.assert_allclose(output, model(batch(row)), rtol=1e-5, atol=1e-6)


# The masks themselves.


@each(ROWS)
def test_masks_are_float32_ones_not_trainable_and_named(row):
    model = build(row)
    trainable = {id(weight) for weight in model.trainable_weights}
    for weight, mask in layers.masked_weights(model):
        assert mask.name == f"{weight.name}_mask"
        assert mask.dtype == "float32"
        assert not mask.trainable and id(mask) not in trainable
        assert weight.trainable and id(weight) in trainable
        np.testing.assert_array_equal(mask, np.ones(weight.shape))


@each(BIASED_ROWS)
def test_bias_has_a_mask_only_if_asked_for(row):
    def names(**options):
        pairs = layers.masked_weights(build(row, **options))
        return [mask.name for _, mask in pairs]

    assert "bias_mask" in names(mask_bias=True)
    without = names(mask_bias=False)
    assert without == [n for n in names(mask_bias=True) if n != "bias_mask"]


@each([row for row in BIASED_ROWS if row.name != "EinsumDense"])
def test_layer_without_bias_has_no_bias_mask(row):
    model = build(row, use_bias=False, mask_bias=True)
    names = {mask.name for _, mask in layers.masked_weights(model)}
    assert names and "bias_mask" not in names


def test_einsum_dense_without_bias_axes_has_no_bias_mask():
    layer = layers.EinsumDense("ab,bc->ac", 4, mask_bias=True)
    layer.build((None, 3))
    assert [mask.name for _, mask in layer.masked_weights()] == ["kernel_mask"]


def test_masked_layers_and_weights_stand_in_model_order_kernels_first():
    first = layers.Dense(4, mask_bias=True)
    second = layers.Dense(3)
    third = layers.LSTM(2, mask_bias=True)
    model = keras.Sequential(
        [
            keras.Input((2,)),
            first,
            keras.Sequential([keras.Input((4,)), second]),
            keras.layers.Reshape((3, 1)),
            third,
        ]
    )
    cell = third.cell
    assert layers.masked_layers(model) == [first, second, third, cell]
    assert [
        (weight.name, mask) for weight, mask in layers.masked_weights(model)
    ] == [
        ("kernel", first.kernel_mask),
        ("bias", first.bias_mask),
        ("kernel", second.kernel_mask),
        ("kernel", cell.kernel_mask),
        ("recurrent_kernel", cell.recurrent_kernel_mask),
        ("bias", cell.bias_mask),
    ]


def test_shared_layer_is_listed_once():
    shared = layers.Dense(2, name="shared")
    inputs = keras.Input((2,))
    model = keras.Model(inputs, shared(shared(inputs)))
    assert layers.masked_layers(model) == [shared]


def test_model_without_masked_layers_is_refused():
    model = keras.Sequential(
        [keras.Input((2,)), keras.layers.Dense(2)], name="plain"
    )
    with pytest.raises(ValueError, match="`model` must be built and have") as e:
        layers.masked_weights(model)
    assert "'plain' with 0 masked layers, built=True" in str(e.value)


def test_model_that_is_not_built_is_refused():
    model = keras.Sequential([layers.Dense(2)], name="fresh")
    with pytest.raises(ValueError, match="1 masked layers, built=False"):
        layers.masked_layers(model)


@each([row for row in ROWS if "kernel" in vars(getattr(layers, row.name, row))])
def test_unit_axes_count_the_units_that_a_kernel_joins(row):
    model = with_masks_of_ones(build_random(row))
    (layer,), inputs = layers.masked_layers(model), batch(row)
    (kernel, mask), (bias, _) = layer.masked_weights()
    assert layer.unit_axes(bias) is None

    def without(axes, unit):
        where = [slice(None)] * len(mask.shape)
        for axis in axes:
            where[axis] = unit
        removed = np.ones(mask.shape)
        removed[tuple(where)] = 0
        mask.assign(removed)
        return np.array(model(inputs))

    (axis,), axes = layer.unit_axes(kernel)
    expected = np.array(model(inputs))
    changed = (without(axes, 1) != expected).reshape(-1, expected.shape[-1])
    shape = [kernel.shape[axis] for axis in axes]
    unit = np.ravel_multi_index([1] * len(axes), shape)
    assert list(np.flatnonzero(changed.any(axis=0))) == [unit]
    expected = without([axis], 0)
    inputs[..., :: kernel.shape[axis]] += 1  # this unit, in every group
    np.testing.assert_array_equal(model(inputs), expected)
    mask.assign(np.ones(mask.shape))
    assert not np.allclose(model(inputs), expected)


@each([row for row in ROWS if row.name.startswith("Separable")])
def test_unit_axes_of_both_kernels_of_a_separable_layer_meet(row):
    model = with_masks_of_ones(build_random(row))
    (layer,), inputs = layers.masked_layers(model), batch(row)
    (first, mask), (second, other), _ = layer.masked_weights()

    def without(mask, axes, unit):
        mask.assign(np.ones(mask.shape))
        removed = np.moveaxis(mask.numpy(), axes, range(len(axes)))
        removed[unit] = 0
        mask.assign(np.moveaxis(removed, range(len(axes)), axes))
        outputs = np.array(model(inputs))
        mask.assign(np.ones(mask.shape))
        return outputs

    channels, multiples = layer.unit_axes(first)
    joined, _ = layer.unit_axes(second)
    np.testing.assert_allclose(  # the second multiple of the second channel
        without(mask, multiples, (1, 1)),
        without(other, joined, 3),
        rtol=1e-5,
        atol=1e-6,
    )
    expected = without(mask, channels, 0)
    inputs[..., 0] += 1
    np.testing.assert_array_equal(without(mask, channels, 0), expected)


# Recurrent layers.


def _products_per_step(library, name, **options):
    """Returns the number of Mul nodes in the body of the loop over time."""
    layer = keras.layers.RNN if name.endswith("Cell") else (lambda one: one)
    model = keras.Sequential(
        [keras.Input((7, 2)), layer(getattr(library, name)(3, **options))]
    )
    function = tf.function(model).get_concrete_function(
        tf.TensorSpec((5, 7, 2), "float32")
    )
    bodies = [
        collections.Counter(node.op for node in body.node_def)["Mul"]
        for body in function.graph.as_graph_def().library.function
        if "while_body" in body.signature.name
    ]
    (products,) = bodies
    return products


@pytest.mark.parametrize("name", ["SimpleRNN", "LSTM", "GRU"])
def test_recurrent_layer_masks_once_a_call_and_not_every_step(name):
    stock = _products_per_step(keras.layers, name)
    assert _products_per_step(layers, name, mask_bias=True) == stock
    # The count sees masks in the loop: a cell of its own is masked there.
    assert _products_per_step(layers, f"{name}Cell", mask_bias=True) > stock


def test_recurrent_layer_reads_new_masks_at_the_next_call():
    row = next(row for row in ROWS if row.name == "LSTM")
    model = build_random(row)
    before = model(batch(row))
    with_masks_of_ones(model)
    after = stock_twin(row, model)(batch(row))
    np.testing.assert_allclose(model(batch(row)), after, rtol=1e-5, atol=1e-6)
    assert not np.allclose(before, after)


# What we know of Keras' inside. These fail when a new Keras changed it.


@each(ROWS)
def test_keras_still_stores_weights_under_the_names_we_know(row):
    masked = [layer for layer in layers.masked_layers(build(row))]
    stock = {type(x): x for x in build(row, keras.layers)._flatten_layers()}
    for layer in masked:
        stock_class = layers.stock_class_of(type(layer))
        for name in layer.weight_names:
            behind_property = hasattr(stock_class, name)
            stored = f"_{name}" if behind_property else name
            assert isinstance(
                getattr(stock[stock_class], stored, None), keras.Variable
            ), (
                f"Keras {keras.__version__} changed its private storage name: "
                f"{stock_class.__name__} no longer stores its weight as "
                f"`{stored}`. Change `stored` in snip_tf/layers/base.py."
            )


def test_keras_still_names_the_projections_of_attention_as_we_know():
    layer = keras.layers.MultiHeadAttention(2, 3, use_gate=True)
    layer.build((None, 4, 3), (None, 4, 3))
    found = [
        name
        for name, value in vars(layer).items()
        if isinstance(value, keras.layers.EinsumDense)
    ]
    assert found == list(attention._PROJECTIONS), (
        f"Keras {keras.__version__} changed the projections of "
        "MultiHeadAttention, or their order. Change `_PROJECTIONS` in "
        "snip_tf/layers/attention.py."
    )
