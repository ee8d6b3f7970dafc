"""`compact`: sizes worked out by hand, outputs those of the masked model."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import CROSS_ENTROPY

import snip_tf
from snip_tf import layers

BATCH = 4

WHOLE = "ignore:`compact` leaves:UserWarning"

# Whole layers are dead here on purpose.
pytestmark = pytest.mark.filterwarnings("ignore:The masks of:UserWarning")


def _output(model, x):
    return keras.tree.map_structure(
        keras.ops.convert_to_numpy, model(x, training=False)
    )


def _with_masks(model, *kernels):
    """Sets the masks of the kernels; biases, if masked, all stay."""
    kernels = iter(kernels)
    snip_tf.set_masks(
        model,
        [
            np.ones(mask.shape) if mask.ndim == 1 else next(kernels)
            for mask in snip_tf.get_masks(model)
        ],
    )
    return model


def _units(model):
    """Returns the kernels' (inputs, outputs), layer by layer."""
    return [
        tuple(weight.shape[-2:])
        for weight in model.trainable_weights
        if len(weight.shape) > 1
    ]


def _two_layers(**options):
    """Returns 3 - 4 - 2 with random biases, four ways of being dead.

    Input 2 leads nowhere; hidden unit 1 has no inputs, unit 2 no outputs.
    """
    model = keras.Sequential(
        [
            keras.Input((3,)),
            layers.Dense(4, bias_initializer="normal", **options),
            layers.Dense(2, bias_initializer="normal"),
        ]
    )
    first = [[1, 0, 1, 1], [0, 0, 1, 1], [0, 0, 1, 0]]
    second = [[1, 1], [1, 1], [0, 0], [1, 1]]
    return _with_masks(model, np.array(first), np.array(second))


def _x(*shape, seed=0):
    values = np.random.default_rng(seed).normal(size=(BATCH, *shape))
    return values.astype(np.float32)


def test_units_without_a_path_to_the_output_go():
    model = _two_layers(use_bias=False)
    small = snip_tf.compact(model)
    assert _units(small) == [(2, 2), (2, 2)]
    np.testing.assert_allclose(
        _output(small, _x(3)), _output(model, _x(3)), atol=1e-6
    )


def test_a_constant_unit_goes_into_the_next_bias():
    model = _two_layers(activation="sigmoid")
    small = snip_tf.compact(model)
    assert _units(small) == [(2, 2), (2, 2)]
    first, second = model.layers
    constant = 1 / (1 + np.exp(-np.array(first.bias)[1]))
    np.testing.assert_allclose(
        np.array(small.layers[-1].bias),
        np.array(second.bias) + constant * np.array(second.kernel)[1],
        rtol=1e-5,
    )
    np.testing.assert_allclose(
        _output(small, _x(3)), _output(model, _x(3)), atol=1e-6
    )


@pytest.mark.parametrize("mask_bias", [False, True])
def test_a_layer_without_a_bias_gets_one_for_the_constants(mask_bias):
    options = {"use_bias": False, "mask_bias": mask_bias}
    model = keras.Sequential(
        [
            keras.Input((2,)),
            layers.Dense(2, bias_initializer="ones"),
            layers.Dense(1, kernel_initializer="ones", **options),
        ]
    )
    _with_masks(model, np.array([[1, 0], [1, 0]]), np.ones((2, 1)))
    expected = _output(model, _x(2))
    for small in (
        snip_tf.compact(model),
        snip_tf.compact(snip_tf.strip(model)),
    ):
        assert np.array(small.layers[-1].bias) == [1]
        np.testing.assert_allclose(_output(small, _x(2)), expected, atol=1e-6)


def test_for_training_a_bias_that_learns_keeps_its_unit():
    model = _two_layers(activation="relu")
    assert _units(snip_tf.compact(model, for_training=True)) == [
        (2, 3),
        (3, 2),
    ]


def test_what_the_model_takes_does_not_change():
    small = snip_tf.compact(_two_layers())
    assert small.input_shape == (None, 3)
    assert small.output_shape == (None, 2)


def test_the_model_itself_is_left_as_it_is():
    model = _two_layers()
    weights, config = model.get_weights(), model.get_config()
    snip_tf.compact(model)
    assert model.get_config() == config
    for before, after in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)


def test_with_masks_the_result_has_masks_and_keeps_as_many_weights():
    small = snip_tf.compact(_two_layers(mask_bias=True))
    summary = snip_tf.summary(small)
    # 3 of unit 0 and 3, in the first kernel; all four of the second.
    assert [row.kept for row in summary.rows] == [3, 2, 4]


def test_a_plain_model_stays_plain_and_is_saved_and_loaded(tmp_path):
    small = snip_tf.compact(snip_tf.strip(_two_layers()))
    assert type(small.layers[-1]) is keras.layers.Dense
    small.save(tmp_path / "small.keras")
    loaded = keras.models.load_model(tmp_path / "small.keras")
    np.testing.assert_array_equal(_output(loaded, _x(3)), _output(small, _x(3)))


@pytest.mark.parametrize("add", ["layer", "operator"])
def test_a_channel_goes_only_where_all_branches_agree(add):
    x = keras.Input((4, 4, 2))
    branches = [layers.Conv2D(3, 1, use_bias=False)(x) for _ in range(2)]
    if add == "layer":
        total = keras.layers.Add()(branches)
    else:
        total = branches[0] + branches[1]
    y = layers.Conv2D(1, 1)(total)
    model = keras.Model(x, y)
    one, other, last = np.ones((3, 1, 1, 2, 3))[:3]
    one[..., :2] = 0  # channel 0 is dead in both branches, channel 1 in one
    other[..., :1] = 0
    _with_masks(model, one, other, np.ones((1, 1, 3, 1)))
    small = snip_tf.compact(model)
    assert _units(small) == [(2, 2), (2, 2), (2, 1)]
    np.testing.assert_allclose(
        _output(small, _x(4, 4, 2)), _output(model, _x(4, 4, 2)), atol=1e-6
    )


def test_a_constant_channel_before_padding_is_kept_once():
    # Three constant channels, of which none is one at the border.
    model = keras.Sequential(
        [
            keras.Input((5, 5, 1)),
            layers.Conv2D(4, 1, bias_initializer="normal"),
            layers.Conv2D(2, 3, padding="same"),
        ]
    )
    mask = np.zeros((1, 1, 1, 4))
    mask[..., 1] = 1
    _with_masks(model, mask, np.ones((3, 3, 4, 2)))
    small = snip_tf.compact(model)
    assert _units(small) == [(1, 2), (2, 2)]
    np.testing.assert_allclose(
        _output(small, _x(5, 5, 1)), _output(model, _x(5, 5, 1)), atol=1e-6
    )


def test_a_network_without_any_connection_is_its_bias():
    model = keras.Sequential(
        [
            keras.Input((6, 6, 1)),
            layers.Conv2D(4, 3, activation="relu", bias_initializer="ones"),
            keras.layers.Flatten(),
            layers.Dense(3, bias_initializer="normal"),
        ]
    )
    _with_masks(model, np.zeros((3, 3, 1, 4)), np.zeros((64, 3)))
    small = snip_tf.compact(model)
    expected = np.tile(np.array(model.layers[-1].bias), (BATCH, 1))
    np.testing.assert_allclose(_output(small, _x(6, 6, 1)), expected)
    assert _units(small) == [(1, 1), (1, 3)]


def test_lenet_300_100_loses_exactly_the_dead_units(batch):
    model = snip_tf.models.build("lenet_300_100")
    snip_tf.prune(model, *batch, sparsity=0.98, loss=CROSS_ENTROPY)
    one, two, three = (mask for mask in snip_tf.get_masks(model)[::2])
    # Paths by hand: biases are removed, so a unit without inputs is zero.
    alive = one.any(0)
    second = (alive[:, None] * two).any(0) & three.any(1)
    first = alive & (two * second).any(1)
    pixels = (one * first).any(1)
    small = snip_tf.compact(model)
    assert _units(small) == [
        (pixels.sum(), first.sum()),
        (first.sum(), second.sum()),
        (second.sum(), 10),
    ]


@pytest.mark.parametrize("name", ["lstm_s", "gru_s"])
def test_the_recurrent_networks_of_the_paper_get_smaller(name):
    model = snip_tf.models.build(name, units=16)
    scores = snip_tf.scores.random(model, seed=0)
    snip_tf.set_masks(model, snip_tf.keep_top(scores, 0.95))
    small = snip_tf.compact(model)  # and warns of no layer left whole
    assert small.count_params() < model.count_params()
    np.testing.assert_allclose(
        _output(small, _x(28, 28, 1)), _output(model, _x(28, 28, 1)), atol=1e-6
    )


def _random_masks(model, sparsity, generator):
    """Draws masks; every fourth layer is all dead."""
    masks = []
    for mask in snip_tf.get_masks(model):
        kept = generator.random(mask.shape) >= sparsity
        masks.append(kept & (generator.random() > 0.25))
    snip_tf.set_masks(model, masks)


def _random_values(model, generator):
    """Draws what is not masked, as training would move it."""
    for weight in model.weights:
        if weight.name in ("beta", "moving_mean", "bias"):
            value = generator.normal(size=weight.shape)
        elif weight.name in ("gamma", "moving_variance"):
            value = generator.uniform(0.5, 2, weight.shape)
        else:
            continue
        weight.assign(value)


def _perceptron(generator):
    widths = generator.integers(2, 9, 3).tolist()
    activations = generator.choice(["relu", "tanh", "sigmoid", "gelu"], 3)
    return keras.Sequential(
        [
            keras.Input((6,)),
            *(
                layers.Dense(
                    width,
                    activation=activation,
                    mask_bias=bool(generator.integers(2)),
                )
                for width, activation in zip(widths, activations, strict=True)
            ),
            keras.layers.Dropout(0.5),
            layers.Dense(3, activation="softmax"),
        ]
    )


def _convolutional(generator):
    padding = str(generator.choice(["same", "valid"]))
    pooling = generator.choice(["MaxPooling2D", "AveragePooling2D"])
    return keras.Sequential(
        [
            keras.Input((9, 9, 2)),
            layers.Conv2D(6, 3, padding=padding, mask_bias=True),
            keras.layers.BatchNormalization(),
            keras.layers.LeakyReLU(),
            layers.DepthwiseConv2D(
                3, depth_multiplier=2, padding=padding, activation="relu"
            ),
            getattr(keras.layers, pooling)(2),
            layers.SeparableConv2D(5, 2, padding=padding, activation="elu"),
            keras.layers.ZeroPadding2D(),
            layers.Conv2DTranspose(4, 2, activation="relu"),
            keras.layers.Flatten(),
            layers.Dense(5, mask_bias=True),
            keras.layers.BatchNormalization(),
            keras.layers.ReLU(),
            layers.Dense(3),
        ]
    )


def _wide_residual(generator):
    x = images = keras.Input((6, 6, 2))
    x = layers.Conv2D(5, 3, padding="same")(x)
    for strides in (1, 2):
        activated = keras.layers.ReLU()(keras.layers.BatchNormalization()(x))
        y = layers.Conv2D(4, 3, strides=strides, padding="same")(activated)
        y = keras.layers.Activation("relu")(
            keras.layers.BatchNormalization()(y)
        )
        y = layers.Conv2D(5, 3, padding="same", mask_bias=True)(y)
        if strides > 1:
            x = layers.Conv2D(5, 1, strides=strides)(activated)
        x = keras.layers.Add()([x, y])
    gate = keras.layers.GlobalAveragePooling2D(keepdims=True)(x)
    gate = layers.Conv2D(5, 1, activation="sigmoid")(gate)
    x = keras.layers.Concatenate()([x * gate, x])
    pooled = keras.layers.GlobalMaxPooling2D()(x)
    return keras.Model(
        images, {"a": layers.Dense(3)(pooled), "b": layers.Dense(2)(pooled)}
    )


def _recurrent(generator):
    kinds = (layers.LSTM, layers.GRU, layers.SimpleRNN)
    kind = kinds[generator.integers(3)]
    options = {"mask_bias": True, "bias_initializer": "normal"}
    return keras.Sequential(
        [
            keras.Input((4, 6)),
            layers.Dense(5, use_bias=False),
            kind(6, return_sequences=True, **options),
            kind(5, **options),
            layers.Dense(3),
        ]
    )


def _functional_recurrent(generator):
    """Keras writes down `training=False` for many of these calls."""
    one, other = keras.Input((4, 6), name="a"), keras.Input((4, 6), name="b")
    kinds = (layers.LSTM, layers.GRU, layers.SimpleRNN)
    twin = kinds[generator.integers(3)](5, return_sequences=True)
    # Above 0.9 the second call's inputs are often zero, the first's not.
    first = twin(keras.layers.Dropout(0.5)(layers.Dense(5)(one)))
    second = twin(layers.Dense(5, use_bias=False)(other))
    x = keras.layers.Concatenate()([first, second])
    x = keras.layers.GaussianNoise(0.1)(x)
    x = kinds[generator.integers(3)](5, mask_bias=True)(x)
    return keras.Model({"a": one, "b": other}, layers.Dense(3)(x))


def _shared(generator):
    one, other = keras.Input((4,), name="one"), keras.Input((4,), name="other")
    twin = keras.Sequential(
        [
            keras.Input((4,)),
            layers.Dense(6, activation="relu", mask_bias=True),
            layers.Dense(5, activation="tanh", bias_initializer="normal"),
        ]
    )
    inner = layers.Dense(5, activation="relu")
    joined = keras.layers.Maximum()([inner(twin(one)), inner(twin(other))])
    outputs = layers.Dense(2)(joined)
    return keras.Model({"one": one, "other": other}, outputs)


NETWORKS = [
    _perceptron,
    _convolutional,
    _wide_residual,
    _recurrent,
    _functional_recurrent,
    _shared,
]


def _check_outputs(build, seed, *, sparsity):
    generator = np.random.default_rng(seed)
    model = build(generator)
    _random_values(model, generator)
    _random_masks(model, sparsity, generator)
    x = {t.name: _x(*t.shape[1:], seed=seed) for t in model.inputs}
    if len(x) == 1:
        (x,) = x.values()
    small = snip_tf.compact(model)
    expected = keras.tree.flatten(_output(model, x))
    for has_masks in (True, False):
        if not has_masks:
            snip_tf.strip(small)
        for value, close_to in zip(
            keras.tree.flatten(_output(small, x)), expected, strict=True
        ):
            np.testing.assert_allclose(value, close_to, atol=1e-5, rtol=1e-5)
    assert small.count_params() <= snip_tf.strip(model).count_params() + 8


@pytest.mark.filterwarnings(WHOLE)
@pytest.mark.parametrize("sparsity", [0.5, 0.8, 0.95, 0.999])
@pytest.mark.parametrize("build", NETWORKS)
def test_outputs_are_those_of_the_masked_model(build, sparsity):
    for seed in range(2):
        _check_outputs(build, seed, sparsity=sparsity)


@pytest.mark.slow
@pytest.mark.filterwarnings(WHOLE)
@pytest.mark.parametrize("build", NETWORKS)
def test_outputs_are_those_of_the_masked_model_for_hundreds_of_masks(build):
    for seed, sparsity in enumerate(np.linspace(0.5, 0.999, 60), 100):
        _check_outputs(build, seed, sparsity=sparsity)


def _losses(model, x, y, *, steps):
    model.compile(keras.optimizers.SGD(0.05, momentum=0.9), CROSS_ENTROPY)
    return [
        model.train_on_batch(x[step::steps], y[step::steps])
        for step in range(steps)
    ]


@pytest.mark.parametrize("name", ["lenet_300_100", "lenet_5_caffe"])
def test_for_training_the_losses_are_those_of_the_masked_model(name, batch):
    generator = np.random.default_rng(0)
    model = snip_tf.models.build(name)
    snip_tf.prune(model, *batch, sparsity=0.99, loss=CROSS_ENTROPY)
    small = snip_tf.compact(model, for_training=True)
    assert np.prod(_units(small)[0]) < np.prod(_units(model)[0]) or (
        np.prod(_units(small)[1]) < np.prod(_units(model)[1])
    )
    y = generator.integers(0, 10, 400)
    x = batch[0][y % 100] + 0.1 * generator.normal(size=(400, 28, 28, 1))
    np.testing.assert_allclose(
        _losses(small, x, y, steps=20),
        _losses(model, x, y, steps=20),
        rtol=1e-4,
    )


def test_for_training_batch_normalisation_keeps_its_channels():
    model = keras.Sequential(
        [
            keras.Input((5, 5, 1)),
            layers.Conv2D(4, 3, use_bias=False),
            keras.layers.BatchNormalization(),
            keras.layers.ReLU(),
            keras.layers.Flatten(),
            layers.Dense(3),
        ]
    )
    mask = np.ones((3, 3, 1, 4))
    mask[..., :2] = 0
    _with_masks(model, mask, np.ones((36, 3)))
    assert _units(snip_tf.compact(model, for_training=True))[0] == (1, 4)
    assert _units(snip_tf.compact(model))[0] == (1, 2)


def test_layers_without_a_rule_are_left_whole_with_a_warning():
    x = keras.Input((4, 6))
    y = layers.Dense(8)(x)
    y = keras.layers.LayerNormalization()(y)
    y = layers.EinsumDense("abc,cd->abd", (4, 8), name="einsum")(y)
    model = keras.Model(x, layers.Dense(2)(y))
    _random_masks(model, 0.9, np.random.default_rng(0))
    with pytest.warns(UserWarning, match="leaves these layers whole.*einsum"):
        small = snip_tf.compact(model)
    np.testing.assert_allclose(
        _output(small, _x(4, 6)), _output(model, _x(4, 6)), atol=1e-6
    )


def test_a_model_that_is_not_built_is_refused():
    with pytest.raises(ValueError, match="`model` must be built.*built=False"):
        snip_tf.compact(keras.Sequential([layers.Dense(2)]))


def test_a_subclassed_model_is_refused():
    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.layer = layers.Dense(2)

        def call(self, x):
            return self.layer(x)

    model = Own()
    model(np.zeros((1, 2), np.float32))
    with pytest.raises(ValueError, match="Sequential or functional.*Own"):
        snip_tf.compact(model)


def _padded():
    """Padding that a recurrent layer skips: the mask must reach it."""
    return keras.Sequential(
        [
            keras.Input((6,), dtype="int32"),
            keras.layers.Embedding(3, 8, mask_zero=True),
            layers.GRU(4, mask_bias=True),
            layers.Dense(3),
        ]
    )


def _softmax_in_the_loop(**activations):
    return keras.Sequential(
        [
            keras.Input((4, 3)),
            layers.LSTM(6, mask_bias=True, **activations),
            layers.Dense(3),
        ]
    )


def _gaps_between_strides():
    return keras.Sequential(
        [
            keras.Input((3, 3, 2)),
            layers.Conv2D(6, 1, activation="sigmoid"),
            layers.Conv2DTranspose(5, 1, strides=2, activation="relu"),
            layers.Conv2D(3, 1),
        ]
    )


def _given_states():
    x, h, c = keras.Input((4, 3)), keras.Input((5,)), keras.Input((5,))
    y = layers.LSTM(5)(x, [h, c])
    return keras.Model([x, h, c], layers.Dense(2)(y))


def _sum_of_one():
    x = keras.Input((4,))
    y = keras.layers.Add()([layers.Dense(5)(x)])
    return keras.Model(x, layers.Dense(2)(y))


def _nested_twice_of_equal_names():
    def part():
        return keras.Sequential(
            [keras.Input((4,)), layers.Dense(4, activation="tanh", name="same")]
        )

    x = keras.Input((4,))
    return keras.Model(x, layers.Dense(2)(part()(part()(x))))


@pytest.mark.filterwarnings(WHOLE)
@pytest.mark.parametrize(
    "build",
    [
        _padded,
        lambda: _softmax_in_the_loop(activation="softmax"),
        lambda: _softmax_in_the_loop(recurrent_activation="softmax"),
        _gaps_between_strides,
        _given_states,
        _sum_of_one,
        _nested_twice_of_equal_names,
    ],
)
def test_outputs_are_right_where_units_are_not_on_their_own(build):
    generator = np.random.default_rng(0)
    model = build()
    _random_values(model, generator)
    snip_tf.set_masks(
        model,
        [
            generator.random(mask.shape) > 0.8
            for mask in snip_tf.get_masks(model)
        ],
    )
    x = [_x(*tensor.shape[1:]) for tensor in model.inputs]
    if model.inputs[0].dtype == "int32":
        x = [np.array([[1, 2, 1, 0, 0, 0], [2, 1, 2, 2, 1, 0]])]
    x = x if len(x) > 1 else x[0]
    np.testing.assert_allclose(
        _output(snip_tf.compact(model), x), _output(model, x), atol=1e-5
    )


@pytest.mark.filterwarnings(WHOLE)
@pytest.mark.parametrize("kind", ["SimpleRNN", "LSTM", "GRU"])
def test_a_recurrent_unit_is_zero_only_if_it_is_at_every_call(kind):
    twin = keras.Sequential([keras.Input((4, 5)), getattr(layers, kind)(4)])
    one, other = keras.Input((4, 3)), keras.Input((4, 3))
    dead = layers.Dense(5, use_bias=False)
    outputs = [twin(layers.Dense(5)(one)), twin(dead(other))]
    model = keras.Model([one, other], keras.layers.Concatenate()(outputs))
    snip_tf.set_masks(
        model,
        [
            np.full(mask.shape, weight is not dead._kernel)
            for weight, mask in layers.masked_weights(model)
        ],
    )
    x = [_x(4, 3), _x(4, 3, seed=1)]
    np.testing.assert_allclose(
        _output(snip_tf.compact(model), x), _output(model, x), atol=1e-6
    )


def _functional(model):
    """Returns the layers of a Sequential model as a functional one."""
    inputs = outputs = keras.Input(model.input_shape[1:])
    for layer in model.layers:
        outputs = layer(outputs)
    return keras.Model(inputs, outputs)


@pytest.mark.parametrize(
    ("shape", "hidden"),
    [
        ((40,), [(layers.Dense, 30), (keras.layers.Dropout, 0.5)]),
        ((9, 30), [(layers.LSTM, 50)]),
        ((9, 30), [(layers.GRU, 50), (keras.layers.GaussianNoise, 0.5)]),
    ],
)
def test_a_functional_model_gets_as_small_as_a_sequential_one(shape, hidden):
    model = keras.Sequential(
        [keras.Input(shape), *(kind(size) for kind, size in hidden)]
        + [layers.Dense(2, mask_bias=True)]
    )
    _random_masks(model, 0.98, np.random.default_rng(0))
    small = snip_tf.compact(model)
    same = snip_tf.compact(_functional(model))
    assert same.count_params() == small.count_params()
    assert same.count_params() < 0.3 * model.count_params()
    # The smaller model is functional: nothing stops it here either.
    again = snip_tf.compact(small)
    assert again.count_params() <= small.count_params()
    x = _x(*shape)
    for compacted in (small, same, again):
        np.testing.assert_allclose(
            _output(compacted, x), _output(model, x), atol=1e-5
        )


def test_a_nested_model_takes_what_it_would_cast_itself():
    """200 + 200 is 400, but not in the eight bits of the outer input."""
    x = keras.Input((4,))
    inner = keras.Model(x, x + x)
    given = keras.Input((4,), dtype="uint8")
    outputs = layers.Dense(1, kernel_initializer="ones")(inner(given))
    model = keras.Model(given, outputs)
    values = np.full((1, 4), 200, "uint8")
    assert _output(snip_tf.compact(model), values) == [[1600]]


def test_a_nested_model_behind_a_number_is_unfolded():
    """Keras takes `x / 2` for sparse, which nested models do not take."""
    inner = keras.Sequential([keras.Input((6,)), layers.Dense(9)])
    x = keras.Input((6,))
    model = keras.Model(x, layers.Dense(2)(inner(x / 2 - 1)))
    _random_masks(model, 0.9, np.random.default_rng(1))
    small = snip_tf.compact(model)
    assert small.count_params() < model.count_params()
    np.testing.assert_allclose(
        _output(small, _x(6)), _output(model, _x(6)), atol=1e-6
    )


def _transfer_learning(options, inner_options):
    """Batch normalisation in a nested model behind an augmentation.

    Keras leaves `training=True` behind where an augmentation ran.
    """
    shape, inner = (4, 4, 3), keras.Input((4, 4, 5))
    y = keras.layers.BatchNormalization()(inner, **inner_options)
    core = keras.Model(inner, keras.layers.Dropout(0.5)(y))
    y = base = keras.Input(shape)
    y = core(keras.layers.Conv2D(5, 3, padding="same")(y))
    base = keras.Model(base, keras.layers.BatchNormalization()(y))
    images = keras.Input(shape)
    y = base(keras.layers.RandomFlip()(images), **options)
    y = keras.layers.GlobalAveragePooling2D()(y)
    return keras.Model(images, layers.Dense(3)(y))


@pytest.mark.filterwarnings(WHOLE)
@pytest.mark.parametrize(
    ("options", "inner_options"),
    [
        ({"training": False}, {}),
        ({"training": False}, {"training": True}),
        ({"training": False}, {"training": False}),
        ({"training": True}, {}),
    ],
)
def test_a_nested_model_stays_in_its_mode(options, inner_options):
    model = _transfer_learning(options, inner_options)
    _random_values(model, np.random.default_rng(0))
    small = snip_tf.compact(model)
    x = np.ones((32, 4, 4, 3)) * _x(1, 1, 3).repeat(8, 0)  # flips do nothing
    if options == {"training": False}:  # else there is dropout
        np.testing.assert_allclose(small(x), model(x), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(
        _output(small, x), _output(model, x), rtol=1e-5, atol=1e-5
    )
    assert _moved_by_a_call(small, x) == _moved_by_a_call(model, x)


def _moved_by_a_call(model, x):
    """Returns which statistics a plain call changes, in order."""
    before = model.get_weights()
    model(x)
    return [
        weight.name
        for weight, value in zip(model.weights, before, strict=True)
        if (keras.ops.convert_to_numpy(weight) != value).any()
    ]


@pytest.mark.filterwarnings(WHOLE)
def test_a_call_in_training_mode_stays_one():
    x = keras.Input((4,))
    y = layers.Dense(5)(x)
    y = keras.layers.BatchNormalization(momentum=0.9)(y, training=True)
    model = keras.Model(x, layers.Dense(2)(y))
    _random_values(model, np.random.default_rng(0))
    small = snip_tf.compact(model)
    np.testing.assert_allclose(small(_x(4)), model(_x(4)), atol=1e-5)


def _shifted(x):
    return tf.nn.relu(x) + 0.5


def test_functions_of_the_model_go_on_being_used():
    x = keras.Input((4, 4, 3))
    y = layers.Conv2D(6, 3, activation=_shifted, name="conv")(x)
    y = keras.layers.Lambda(lambda t: tf.reduce_mean(t, axis=[1, 2]))(y)
    y = keras.layers.Activation(lambda t: keras.ops.tanh(t), name="tanh")(y)
    relu = type(keras.activations.relu)(
        _shifted.__code__, globals(), "relu"
    )  # one's own of that name
    y = layers.Dense(5, activation=relu)(y)
    model = keras.Model(x, layers.Dense(2)(y))
    _random_masks(model, 0.5, np.random.default_rng(0))
    small = snip_tf.compact(model)
    assert small.get_layer("conv").activation is _shifted
    assert small.get_layer("conv") is not model.get_layer("conv")
    np.testing.assert_allclose(
        _output(small, _x(4, 4, 3)), _output(model, _x(4, 4, 3)), atol=1e-6
    )


def test_a_regularizer_that_is_a_function_goes_on_being_used():
    def free(weight):
        return 0.0

    try:
        keras.layers.Dense(5, kernel_regularizer=free).build((None, 4))
    except ValueError:
        pytest.skip("this Keras takes no function for a regularizer")
    model = keras.Sequential(
        [
            keras.Input((4,)),
            layers.Dense(5, kernel_regularizer=free, name="free"),
            layers.Dense(2),
        ]
    )
    _random_masks(model, 0.5, np.random.default_rng(0))
    small = snip_tf.compact(model)
    assert small.get_layer("free").kernel_regularizer is free
    np.testing.assert_allclose(
        _output(small, _x(4)), _output(model, _x(4)), atol=1e-6
    )


class _Own(keras.layers.Layer):
    """Without a config that says what it is made of."""

    def __init__(self, function, units=0, **options):
        super().__init__(**options)
        self._function, self._units = function, units

    def build(self, shape):
        if self._units:
            self.kernel = self.add_weight((shape[-1], self._units))

    def call(self, x):
        return self._function(x @ self.kernel if self._units else x)


def test_layers_without_a_config_are_used_again_if_they_have_no_weights():
    def build(units):
        x = keras.Input((4,))
        y = _Own(lambda t: t + 1, units, name="own")(layers.Dense(4)(x))
        return keras.Model(x, layers.Dense(2)(y))

    model = build(0)
    small = snip_tf.compact(model)
    np.testing.assert_allclose(_output(small, _x(4)), _output(model, _x(4)))
    with (
        pytest.warns(UserWarning, match="leaves these layers whole.*own"),
        pytest.raises(NotImplementedError, match="_Own"),
    ):
        snip_tf.compact(build(3))


@pytest.mark.filterwarnings(WHOLE)
def test_what_layers_hold_is_carried_over():
    """Whole layers of many weights, and what `adapt` left in layers."""
    x = keras.Input((3,), name="x")
    words = keras.Input((5,), dtype="string", name="words")
    scale, lookup = keras.layers.Normalization(), keras.layers.StringLookup()
    scale.adapt(np.arange(12.0).reshape(4, 3) ** 2)
    lookup.adapt(["a", "b", "b"])
    y = layers.Embedding(4, 6)(lookup(words))
    y = layers.MultiHeadAttention(2, 3)(y, y)
    y = keras.layers.Bidirectional(layers.LSTM(4))(y)
    y = keras.layers.Concatenate()([y, layers.Dense(4)(scale(x))])
    model = keras.Model({"x": x, "words": words}, layers.Dense(2)(y))
    _random_values(model, np.random.default_rng(0))
    _random_masks(model, 0.3, np.random.default_rng(0))
    given = {
        "x": tf.constant(_x(3)),
        "words": tf.constant([["a", "b", "c", "a", "b"]] * 4),
    }
    before = _output(model, given)
    small = snip_tf.compact(model)
    np.testing.assert_allclose(_output(small, given), before, atol=1e-5)
    # None of the weights that are trained is the model's own.
    for weight in small.trainable_weights:
        weight.assign(weight + 1)
    np.testing.assert_array_equal(_output(model, given), before)


@pytest.mark.filterwarnings(WHOLE)
def test_statistics_of_layers_inside_of_others_are_carried_over():
    scale = keras.layers.Normalization()
    scale.adapt(np.arange(12.0).reshape(4, 3) ** 2)
    model = keras.Sequential(
        [keras.Input((2, 3)), keras.layers.TimeDistributed(scale)]
    )
    model.add(layers.Dense(2))
    x = np.random.default_rng(0).normal(size=(4, 2, 3)).astype(np.float32)
    before = _output(model, x)
    np.testing.assert_array_equal(_output(snip_tf.compact(model), x), before)


def test_a_variable_that_the_graph_reads_is_not_trained_in_two_models():
    tokens = keras.Input((6,), dtype="int32")
    layer = keras.layers.Embedding(20, 8)
    tied = keras.ops.einsum("btd,vd->btv", layer(tokens), layer.embeddings)
    with pytest.raises(ValueError, match="no operation .* read a variable"):
        snip_tf.compact(keras.Model(tokens, tied), for_training=True)


@pytest.mark.parametrize("structure", [dict, list, tuple])
def test_models_of_several_inputs_are_unfolded(structure):
    def inputs():
        both = {name: keras.Input((3,), name=name) for name in "ba"}
        return both if structure is dict else structure(both.values())

    inside = inputs()
    halves = keras.tree.flatten(inside)
    hidden = layers.Dense(4)(keras.layers.Subtract()(halves))
    scale = keras.layers.Rescaling(2.0, name="scale")
    outer = inputs()
    nested = keras.Model(inside, scale(hidden))
    model = keras.Model(outer, layers.Dense(2)(nested(outer)))
    _random_values(model, np.random.default_rng(0))
    _random_masks(model, 0.3, np.random.default_rng(0))
    x = {"a": _x(3), "b": _x(3) ** 2}
    x = x if structure is dict else structure([x["b"], x["a"]])
    small = snip_tf.compact(model)
    assert "scale" in [layer.name for layer in small.layers]
    np.testing.assert_allclose(_output(small, x), _output(model, x), atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["MobileNetV2", "MobileNetV3Small"])
def test_mobile_networks_get_smaller(name):
    generator = np.random.default_rng(0)
    model = snip_tf.masked(
        getattr(keras.applications, name)(
            input_shape=(32, 32, 3), weights=None, classes=5
        )
    )
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
    _random_values(model, generator)
    masks = []
    for mask in snip_tf.get_masks(model):
        kept = generator.random(mask.shape) > 0.5
        channels = mask.shape[-2:] if mask.shape[-1] == 1 else mask.shape[-1:]
        masks.append(kept & (generator.random(channels) > 0.3))
    snip_tf.set_masks(model, masks)
    x = 100 * generator.normal(size=(16, 32, 32, 3)).astype(np.float32)
    model(x, training=True)  # so that numbers are of a size in all layers
    small = snip_tf.compact(model)
    expected = _output(model, x)
    assert np.ptp(expected, axis=0).max() > 1e-3
    np.testing.assert_allclose(_output(small, x), expected, atol=1e-4)
    assert small.count_params() < 0.7 * model.count_params()


@pytest.mark.filterwarnings(WHOLE)
def test_a_layer_with_lora_is_left_whole():
    model = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(6), keras.layers.Dense(2)]
    )
    for layer in model.layers:
        layer.kernel.assign(np.zeros(layer.kernel.shape))
        layer.enable_lora(2)
        layer.lora_kernel_b.assign(np.ones(layer.lora_kernel_b.shape))
    small = snip_tf.compact(model)
    assert np.abs(_output(model, _x(4))).max() > 0.01
    np.testing.assert_allclose(_output(small, _x(4)), _output(model, _x(4)))


@pytest.mark.filterwarnings(WHOLE)
@pytest.mark.filterwarnings("ignore:Layer .* was passed an input with a mask")
def test_padding_is_kept_behind_a_nested_model_and_a_cast():
    inputs = keras.Input((6,), dtype="int32")
    x = layers.Embedding(9, 8, mask_zero=True)(inputs)
    inner = keras.Input((None, 8))
    inner = keras.Model(inner, layers.LSTM(8, return_sequences=True)(inner))
    x = layers.LSTM(4)(inner(x))
    model = keras.Model(inputs, layers.Dense(2)(x))
    masks = [np.ones(mask.shape) for mask in snip_tf.get_masks(model)]
    masks[3][4:] = 0  # of the second LSTM's inputs
    snip_tf.set_masks(model, masks)
    x = np.array([[1, 2, 3, 0, 0, 0]])
    np.testing.assert_allclose(
        _output(snip_tf.compact(model), x), _output(model, x), atol=1e-7
    )

    half = keras.Input((5, 4), dtype="float16")
    inner = keras.Model(half, layers.LSTM(3)(half))
    model = keras.Sequential(
        [keras.Input((5, 4)), keras.layers.Masking(), inner, layers.Dense(2)]
    )
    _random_values(model, np.random.default_rng(0))
    x = _x(5, 4)
    x[:, 2:] = 0
    np.testing.assert_allclose(
        _output(snip_tf.compact(model), x), _output(model, x), atol=1e-3
    )


def test_a_sparse_input_stays_whole():
    model = keras.Sequential(
        [keras.Input((10,), sparse=True), layers.Dense(5), layers.Dense(2)]
    )
    _random_masks(model, 0.9, np.random.default_rng(0))
    x = tf.sparse.from_dense(np.eye(3, 10, dtype="float32"))
    np.testing.assert_allclose(
        _output(snip_tf.compact(model), x), _output(model, x), atol=1e-6
    )


def test_names_are_used_once_whatever_an_input_or_a_loaded_layer_has():
    x = keras.Input((12,), name="features")
    inner = keras.Sequential(
        [keras.Input((12,)), layers.Dense(6, name="features", mask_bias=True)]
    )
    taken = keras.ops.take(inner(x), np.arange(5), axis=1)
    # As in a model that was made smaller before.
    taken._keras_history.operation.name = "other_inputs"
    other = layers.Dense(4, name="other", mask_bias=True)(x)
    joined = keras.layers.Concatenate()([taken, other])
    model = keras.Model(x, layers.Dense(2, mask_bias=True)(joined))
    _random_masks(model, 0.8, np.random.default_rng(1))
    small = snip_tf.compact(model)
    names = [operation.name for operation in small.operations]
    assert len(set(names)) == len(names)
    expected = {"features", "features_2", "other_inputs", "other_inputs_2"}
    assert expected <= set(names)
    np.testing.assert_allclose(
        _output(small, _x(12)), _output(model, _x(12)), atol=1e-6
    )


def test_a_model_with_a_call_of_its_own_is_refused():
    class Doubled(keras.Sequential):
        def call(self, x, training=None, mask=None):
            return 2 * super().call(x, training=training, mask=mask)

    model = Doubled([keras.Input((3,)), layers.Dense(2)])
    with pytest.raises(ValueError, match="Sequential or functional.*Doubled"):
        snip_tf.compact(model)


@pytest.mark.filterwarnings(WHOLE)
def test_for_training_a_constrained_layer_is_left_whole():
    model = keras.Sequential(
        [
            keras.Input((4,)),
            layers.Dense(6, mask_bias=True, kernel_constraint="unit_norm"),
            layers.Dense(2, mask_bias=True),
        ]
    )
    _random_masks(model, 0.8, np.random.default_rng(0))
    assert _units(snip_tf.compact(model, for_training=True))[0] == (4, 6)


@keras.saving.register_keras_serializable("test_compaction")
class Units(keras.layers.Layer):
    """A layer whose config has other names than its constructor."""

    def __init__(self, number, activation=None, **options):
        super().__init__(**options)
        self.number = number
        self.activation = keras.activations.get(activation)

    def build(self, shape):
        self.w = self.add_weight(shape=(shape[-1], self.number), name="w")

    def call(self, x):
        return self.activation(x @ self.w)

    def get_config(self):
        activation = keras.activations.serialize(self.activation)
        own = {"count": self.number, "activation": activation}
        return {**super().get_config(), **own}

    @classmethod
    def from_config(cls, config):
        config = dict(config)
        return cls(config.pop("count"), **config)


@pytest.mark.filterwarnings(WHOLE)
def test_a_layer_is_made_again_by_its_own_from_config():
    model = keras.Sequential(
        [
            keras.Input((6,)),
            layers.Dense(
                5, kernel_initializer=lambda s, dtype: keras.ops.ones(s)
            ),
            keras.layers.Lambda(lambda x: 2 * x),
            Units(4, "relu"),
            layers.Dense(3),
        ]
    )
    snip_tf.prune(model, None, sparsity=0.6, criterion="random", seed=0)
    x = np.random.default_rng(0).normal(size=(BATCH, 6)).astype("float32")
    np.testing.assert_allclose(
        _output(snip_tf.compact(model), x), _output(model, x), atol=1e-5
    )
