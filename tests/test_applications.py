"""Networks of keras.applications from `masked` through `strip`.

Each starts from random weights, for 10 classes, at the smallest input that it
allows. Checked on a random batch:

masked     every output is that of the stock network
pruned     `snip_tf.prune` keeps exactly kappa weights
trained    one step of SGD moves kept weights and leaves removed ones at zero
loaded     saved as .keras and loaded: the same weights, masks and outputs
stripped   stock layers again, with the weights and outputs of the trained one
"""

import warnings

import keras
import numpy as np
import pytest

import snip_tf
from snip_tf import layers

# The module of keras.applications, whose `preprocess_input` the images need,
# and the smallest height and width.
NETWORKS = {
    "ResNet50V2": ("resnet_v2", 32),
    "MobileNetV2": ("mobilenet_v2", 32),
    "MobileNetV3Small": ("mobilenet_v3", 32),
    "EfficientNetB0": ("efficientnet", 32),
    "EfficientNetV2B0": ("efficientnet_v2", 32),
    "DenseNet121": ("densenet", 32),
    "ConvNeXtTiny": ("convnext", 32),
    "NASNetMobile": ("nasnet", 32),
    "Xception": ("xception", 71),
    "InceptionV3": ("inception_v3", 75),
    "InceptionResNetV2": ("inception_resnet_v2", 75),
    "VGG16": ("vgg16", 32),
}
TRANSFORMER = "transformer"
CLASSES = 10
BATCH_SIZE = 8
SPARSITY = 0.95
TOLERANCE = 1e-5  # relative to the largest output
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)

# Weights and kappa, as counted by hand.
_COUNTS = {
    TRANSFORMER: (3_130, 157),
    "MobileNetV3Small": (1_515_994, 75_800),
    "EfficientNetB0": (3_978_342, 198_917),
    "ResNet50V2": (23_494_410, 1_174_721),
}


@pytest.mark.parametrize(
    "name",
    [
        TRANSFORMER,
        *(pytest.param(name, marks=pytest.mark.slow) for name in NETWORKS),
    ],
)
def test_a_network_of_others_goes_from_masks_to_stock_layers(name, tmp_path):
    counts = check(name, tmp_path)
    assert counts == _COUNTS.get(name, counts)


def check(name, directory):
    """Takes a network from `masked` through `strip`; returns its counts."""
    keras.utils.set_random_seed(0)
    model, x = build(name)
    y = np.random.default_rng(1).integers(CLASSES, size=len(x))
    outputs, stock_types = model(x).numpy(), [type(x) for x in model.layers]
    spread = np.ptp(outputs, axis=0).max() / np.abs(outputs).max()
    assert spread > 0.01  # or the rest shows nothing
    snip_tf.masked(model, mask_bias=True)
    assert_computes(model, x, outputs)
    counts = prune_and_train(model, x, y)
    outputs = model(x).numpy()
    masks = {id(mask) for _, mask in layers.masked_weights(model)}
    weights = [one for one in model.weights if id(one) not in masks]
    model.save(directory / "pruned.keras")
    loaded = keras.models.load_model(directory / "pruned.keras")
    assert_equal(loaded.weights, model.weights)
    assert_computes(loaded, x, outputs)
    stripped = snip_tf.strip(loaded)
    assert [type(layer) for layer in stripped.layers] == stock_types
    assert_equal(stripped.weights, weights)
    assert_computes(stripped, x, outputs)
    keras.backend.clear_session()
    return counts


def assert_computes(model, x, expected):
    assert np.isfinite(expected).all()
    tolerance = TOLERANCE * np.abs(expected).max()
    np.testing.assert_allclose(model(x), expected, rtol=0, atol=tolerance)


def prune_and_train(model, x, y):
    """Returns the number of weights and kappa; takes one step."""
    with warnings.catch_warnings():
        # At 95% small layers lose all their weights.
        warnings.simplefilter("ignore", UserWarning)
        # In training mode, as signals fade in the other: batch normalisation
        # does not yet adapt to weights that are missing.
        snip_tf.prune(model, x, y, sparsity=SPARSITY, loss=LOSS, training=True)
    pairs = layers.masked_weights(model)
    masks = [mask.numpy() for _, mask in pairs]
    total = sum(mask.size for mask in masks)
    kept = sum(np.count_nonzero(mask) for mask in masks)
    assert kept == snip_tf.kept_weights(total, SPARSITY)
    before = [weight.numpy() for weight, _ in pairs]
    model.compile(keras.optimizers.SGD(0.01, momentum=0.9), LOSS)
    model.train_on_batch(x, y)
    after = [weight.numpy() for weight, _ in pairs]
    for value, mask in zip(after, masks, strict=True):
        np.testing.assert_array_equal(value[mask == 0], 0)
    assert any(map(np.any, map(np.subtract, after, before)))
    return total, kept


def assert_equal(weights, expected):
    for one, other in zip(weights, expected, strict=True):
        np.testing.assert_array_equal(one.numpy(), other.numpy(), one.path)


def build(name):
    """Returns an untrained network that ends in logits, and its inputs.

    Args:
        name: One of `NETWORKS`, or `TRANSFORMER`.
    """
    generator = np.random.default_rng(0)
    if name == TRANSFORMER:
        model = transformer()
        x = generator.integers(50, size=(BATCH_SIZE, 12))
    else:
        module, size = NETWORKS[name]
        model = getattr(keras.applications, name)(
            weights=None,
            input_shape=(size, size, 3),
            classes=CLASSES,
            classifier_activation=None,
        )
        # Noise, and each image of its own colour: averages over an image,
        # which these networks end in, are else all the same.
        x = generator.uniform(0, 255, size=(BATCH_SIZE, 1, 1, 3))
        x = x * generator.uniform(size=(BATCH_SIZE, size, size, 3))
        x = getattr(keras.applications, module).preprocess_input(x)
        x = x.astype("float32")
    _bring_to_life(model, x, generator)
    return model, x


def transformer():
    """Returns one block of a transformer encoder over 12 of 50 tokens."""
    tokens = keras.Input((12,), dtype="int32")
    x = keras.layers.Embedding(50, 16, mask_zero=True)(tokens)
    attended = keras.layers.MultiHeadAttention(num_heads=2, key_dim=8)(x, x)
    x = keras.layers.LayerNormalization()(keras.layers.add([x, attended]))
    hidden = keras.layers.Dense(32, activation="gelu")(x)
    hidden = keras.layers.Dense(16)(hidden)
    x = keras.layers.LayerNormalization()(keras.layers.add([x, hidden]))
    x = keras.layers.GlobalAveragePooling1D()(x)
    return keras.Model(tokens, keras.layers.Dense(CLASSES)(x))


def _bring_to_life(model, x, generator):
    """Gives vectors random values, and batch normalisation its statistics.

    As Keras initialises them, two vectors that change places go unnoticed,
    ConvNeXt's blocks count a millionth, and the outputs of most networks with
    batch normalisation are the same for every input.
    """
    for layer in model.layers:
        for weight in layer.weights:
            if len(weight.shape) == 1:
                change = generator.uniform(0, 0.1, size=weight.shape)
                weight.assign_add(change)
        if isinstance(layer, keras.layers.Normalization):
            layer.finalize_state()  # as `adapt` does
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0  # its statistics are those of the last batch
    model(x, training=True)
