"""The networks have the paper's sizes, and train as pruned networks do."""

import keras
import numpy as np
import pytest

import snip_tf
from snip_tf import layers, models

# Table 2 of Lee et al. 2019 to the last digit: weights, sparsity, kept. The
# LeNets, which the paper lists at several sparsities, at the one of its text.
_COUNTS = {
    "lenet_300_100": (266_610, 0.95, 13_331),
    "lenet_5_caffe": (431_080, 0.98, 8_622),
    "alexnet_s": (5_070_218, 0.90, 507_022),
    "alexnet_b": (8_490_378, 0.90, 849_038),
    "vgg_c": (10_526_538, 0.95, 526_327),
    "vgg_d": (15_245_130, 0.95, 762_257),
    "vgg_like": (14_982_474, 0.97, 449_474),
    "wrn_16_8": (10_958_666, 0.95, 547_933),
    "wrn_16_10": (17_113_258, 0.95, 855_663),
    "wrn_22_8": (17_153_610, 0.95, 857_681),
    "lstm_s": (136_970, 0.95, 6_849),
    "lstm_b": (536_074, 0.95, 26_804),
    "gru_s": (103_946, 0.95, 5_197),
    "gru_b": (404_490, 0.95, 20_225),
}
# The same code with other numbers as a network that is not slow.
_BIG = ("alexnet_b", "vgg_c", "vgg_like", "wrn_16_10", "wrn_22_8")
_FAMILIES = (
    "lenet_5_caffe",
    "alexnet_s",
    "vgg_c",
    "wrn_16_8",
    "lstm_s",
    "gru_s",
)


def marked(names, mark, which):
    """Returns the names as parameters, some of them marked."""
    return [
        pytest.param(name, marks=mark if name in which else ())
        for name in names
    ]


@pytest.fixture(scope="module", params=models.NAMES)
def network(request):
    """Each network once, only to be looked at."""
    return models.build(request.param)


def images_for(network, count):
    images = np.random.default_rng(0).normal(
        size=(count, *network.input_shape[1:])
    )
    return images.astype(np.float32)


def prune_half(network):
    """Masks every second weight, and moves what starts at zero or one."""
    random = np.random.default_rng(0)
    for weight in network.weights:
        if weight.trainable:
            noise = random.uniform(-0.1, 0.1, size=weight.shape)
            weight.assign_add(noise.astype(np.float32))
    masks = [np.arange(mask.size) % 2 for mask in snip_tf.get_masks(network)]
    shapes = [mask.shape for mask in snip_tf.get_masks(network)]
    snip_tf.set_masks(
        network,
        [
            mask.reshape(shape)
            for mask, shape in zip(masks, shapes, strict=True)
        ],
    )


def test_the_table_lists_every_network():
    assert models.NAMES == tuple(_COUNTS)


def test_weights_are_those_of_the_paper(network):
    weights, sparsity, kept = _COUNTS[network.name]
    assert sum(mask.size for mask in snip_tf.get_masks(network)) == weights
    assert snip_tf.kept_weights(weights, sparsity) == kept


def test_every_kernel_and_bias_has_a_mask_and_nothing_else(network):
    masked = {id(weight) for weight, _ in layers.masked_weights(network)}
    for weight in network.trainable_weights:
        assert (id(weight) in masked) == (weight.name not in ("gamma", "beta"))


def test_outputs_are_ten_logits(network):
    assert network.output_shape == (None, 10)
    assert isinstance(network.layers[-1], layers.Dense)
    assert network.layers[-1].activation is keras.activations.linear


def test_biases_start_at_zero_but_those_of_the_gru_s_gates(network):
    for weight, _ in layers.masked_weights(network):
        gates = weight.path.endswith("gru_cell/bias")
        assert np.any(weight) == (weight.name != "bias" or gates), weight.path


def test_no_two_weights_share_their_draw(network):
    starts = [
        tuple(np.ravel(weight)[:4])
        for weight, _ in layers.masked_weights(network)
        if weight.name != "bias"
    ]
    assert len(set(starts)) == len(starts)


def test_batch_normalisation_is_as_in_the_paper_s_code(network):
    found = [
        layer
        for layer in network.layers
        if isinstance(layer, keras.layers.BatchNormalization)
    ]
    assert bool(found) == network.name.startswith(("alexnet", "vgg", "wrn"))
    assert {(layer.momentum, layer.epsilon) for layer in found} <= {
        (0.99, 1e-3)
    }


@pytest.mark.parametrize("name", _FAMILIES)
def test_other_images_and_classes(name):
    network = models.build(name, input_shape=(36, 40, 2), classes=7)
    assert network.input_shape == (None, 36, 40, 2)
    assert network(images_for(network, 2)).shape == (2, 7)


@pytest.mark.parametrize("name", _FAMILIES)
def test_initialisers_are_options(name):
    network = models.build(
        name,
        kernel_initializer=keras.initializers.Constant(0.25),
        bias_initializer=keras.initializers.RandomNormal(),
    )
    biases = []
    for weight, _ in layers.masked_weights(network):
        if weight.name == "bias":
            biases.append(tuple(np.ravel(weight)[:4]))
        else:
            assert np.all(np.asarray(weight) == 0.25), weight.path
    assert len(set(biases)) == len(biases)


@pytest.mark.parametrize(
    ("name", "option", "layer", "bigger"),
    [
        ("alexnet_s", {"width": 2048}, "fc2", "alexnet_b"),
        ("lstm_s", {"units": 256}, "recurrent", "lstm_b"),
        ("gru_s", {"units": 256}, "recurrent", "gru_b"),
    ],
)
def test_the_width_is_an_option(name, option, layer, bigger):
    network = models.build(name, **option)
    assert network.get_layer(layer).units == next(iter(option.values()))
    weights = sum(mask.size for mask in snip_tf.get_masks(network))
    assert weights == _COUNTS[bigger][0]


@pytest.mark.parametrize(
    ("name", "hidden", "last"),
    [
        ("lenet_300_100", ["fc1", "fc2"], "fc3"),
        ("lenet_5_caffe", ["conv1", "conv2", "fc1"], "fc2"),
    ],
)
def test_a_lenet_can_be_normalised_which_changes_no_count(name, hidden, last):
    plain, network = models.build(name), models.build(name, batch_norm=True)
    assert snip_tf.summary(network).weights == _COUNTS[name][0]
    names = [layer.name for layer in network.layers]
    for layer in hidden:
        place = names.index(layer)
        after = names[place + 1 : place + 3]
        assert after == [f"{layer}_bn", f"{layer}_act"]
    assert names[-1] == last
    for layer in (*hidden, last):
        weights = network.get_layer(layer).get_weights()
        plain.get_layer(layer).set_weights(weights)
    images = images_for(network, 2)
    # Fresh statistics are a mean of 0, a variance of 1, and the epsilon.
    scale = 1.001 ** (-len(hidden) / 2)
    np.testing.assert_allclose(
        network(images), scale * plain(images), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("batch_norm", [False, True])
def test_lenet_5_can_have_an_activation_after_its_convolutions(batch_norm):
    network = models.build(
        "lenet_5_caffe", batch_norm=batch_norm, conv_activation="relu"
    )
    last = "conv2_act" if batch_norm else "conv2"
    inner = keras.Model(network.inputs[0], network.get_layer(last).output)
    assert np.min(inner(images_for(network, 2))) == 0


def test_an_unknown_name_is_refused_with_the_names():
    with pytest.raises(ValueError, match="lenet_300_100.*gru_b.*'lenet'"):
        models.build("lenet")


@pytest.mark.parametrize("name", _FAMILIES)
def test_a_misspelt_option_is_refused(name):
    with pytest.raises(ValueError, match="`kernel_initialiser` must"):
        models.build(name, kernel_initialiser="zeros")


@pytest.mark.parametrize("name", marked(models.NAMES, pytest.mark.slow, _BIG))
def test_a_training_step_leaves_removed_weights_at_zero(name):
    keras.utils.set_random_seed(0)
    network = models.build(name)
    network.compile(
        # Momentum and decay are what moves removed weights elsewhere.
        optimizer=keras.optimizers.SGD(0.1, momentum=0.9, weight_decay=1e-3),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        run_eagerly=True,
    )
    images, labels = images_for(network, 2), np.array([3, 7])
    weights, sparsity, kept = _COUNTS[name]
    snip_tf.prune(network, images, labels, sparsity=sparsity)
    before = [np.array(weight) for weight, _ in layers.masked_weights(network)]
    network.train_on_batch(images, labels)

    pairs = layers.masked_weights(network)
    assert sum(np.count_nonzero(mask) for _, mask in pairs) == kept
    for weight, mask in pairs:
        assert not np.any(np.asarray(weight)[np.asarray(mask) == 0])
    after = [np.array(weight) for weight, _ in pairs]
    assert any(map(np.any, map(np.subtract, before, after)))


@pytest.mark.parametrize("name", _FAMILIES)
def test_saved_and_loaded_it_gives_the_same_outputs(name, tmp_path):
    network = models.build(name)
    prune_half(network)
    network.save(tmp_path / "network.keras")
    loaded = keras.saving.load_model(tmp_path / "network.keras")
    images = images_for(network, 2)
    np.testing.assert_array_equal(loaded(images), network(images))
    for mask, expected in zip(
        snip_tf.get_masks(loaded), snip_tf.get_masks(network), strict=True
    ):
        np.testing.assert_array_equal(mask, expected)


@pytest.mark.parametrize("name", _FAMILIES)
def test_stripped_it_gives_the_same_outputs(name):
    network = models.build(name)
    prune_half(network)
    plain = snip_tf.strip(network)
    images = images_for(network, 2)
    np.testing.assert_allclose(
        plain(images), network(images), rtol=1e-5, atol=1e-5
    )
    for layer in plain._flatten_layers():
        assert type(layer).__module__.startswith("keras.")


def test_alexnet_halves_the_image_five_times():
    network = models.build("alexnet_s")
    sizes = [network.get_layer(f"conv{i}").output.shape[1] for i in range(1, 6)]
    assert sizes == [16, 8, 4, 2, 1]


def test_vgg_c_ends_its_last_three_stages_in_1x1_convolutions():
    network = models.build("vgg_c")
    small = [
        layer.name
        for layer in network.layers
        if getattr(layer, "kernel_size", None) == (1, 1)
    ]
    assert small == ["conv3_3", "conv4_3", "conv5_3"]


def test_wrn_projects_the_activated_input_where_the_width_changes():
    network = models.build("wrn_16_8")
    shortcuts = {
        layer.name: layer.input
        for layer in network.layers
        if layer.name.endswith("_shortcut")
    }
    assert list(shortcuts) == [
        f"group{group}_block1_shortcut" for group in (1, 2, 3)
    ]
    for group in (1, 2, 3):
        activated = network.get_layer(f"group{group}_block1_relu").output
        assert shortcuts[f"group{group}_block1_shortcut"] is activated
        # Elsewhere what is added is the block's input itself.
        before = network.get_layer(f"group{group}_block1_add").output
        assert network.get_layer(f"group{group}_block2_add").input[0] is before


def test_the_recurrent_networks_read_rows():
    network = models.build("lstm_s", input_shape=(2, 3, 2))
    rows = network.get_layer("rows")(np.arange(12.0).reshape(1, 2, 3, 2))
    np.testing.assert_array_equal(rows, np.arange(12.0).reshape(1, 2, 6))


def test_a_gru_s_gates_start_open_with_any_initializer():
    def bias(**options):
        network = models.build("gru_s", units=2, **options)
        return np.asarray(
            layers.masked_weights(network.get_layer("recurrent"))[-1][0]
        )

    gates = [[1, 1, 1, 1, 0, 0], [0, 0, 0, 0, 0, 0]]
    np.testing.assert_array_equal(bias(), gates)
    drawn = keras.initializers.RandomNormal(seed=3)
    expected = drawn((2, 6)) + np.array(gates, np.float32)
    np.testing.assert_array_equal(bias(bias_initializer=drawn), expected)


def test_the_two_bias_lstm_refuses_a_forget_bias():
    with pytest.raises(ValueError, match="Received: unit_forget_bias=True"):
        models.rnn.TwoBiasLSTM(4, unit_forget_bias=True)


def test_both_biases_of_the_lstm_are_masked_and_added_to_the_constant():
    network = models.build("lstm_s", units=1, bias_initializer="ones")
    cell = network.get_layer("recurrent").cell
    masks = snip_tf.get_masks(network)
    assert masks[3].shape == (2, 4)
    masks[3][:] = [[1, 1, 0, 0], [1, 0, 1, 0]]
    snip_tf.set_masks(network, masks)
    np.testing.assert_array_equal(cell.bias, [2, 1 + 1, 1, 0])


def test_the_lstm_is_keras_lstm_with_the_sum_of_its_biases_and_one():
    network = models.build("lstm_s")
    prune_half(network)
    masked = network.get_layer("recurrent")
    stock = keras.layers.LSTM(128)
    sequences = np.random.default_rng(1).normal(size=(3, 28, 128))
    sequences = sequences.astype(np.float32)
    stock.build(sequences.shape)
    kernel, recurrent_kernel, biases = (
        np.asarray(weight) for weight, _ in masked.cell.masked_weights()
    )
    assert biases.shape == (2, 512)
    bias = biases.sum(axis=0)
    bias[128:256] += 1  # Keras' order of gates: input, forget, cell, output
    stock.set_weights([kernel, recurrent_kernel, bias])
    np.testing.assert_allclose(
        masked(sequences), stock(sequences), rtol=1e-5, atol=1e-6
    )
