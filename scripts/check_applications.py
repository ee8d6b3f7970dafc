"""Takes networks of keras.applications from `masked` through `strip`.

    python scripts/check_applications.py

Each network starts from random weights, for 10 classes, at the smallest input
that it allows. Checked on a random batch:

masked     every output is that of the stock network
pruned     `snip_tf.prune` keeps exactly kappa weights
trained    one step of SGD moves kept weights and leaves removed ones at zero
loaded     saved as .keras and loaded: the same weights, masks and outputs
stripped   plain Keras layers again, with the weights and outputs of the
           trained network

Prints one line a network: the kernels that keep no weight if it is scored in
inference mode, the same after a warm-up, or in training mode, which is what the
rest is done with; and for `masked`, `loaded` and `stripped` the largest
difference of an output, relative to the largest output. More than 1e-5 is a
failure. Exit status 1 if any failed.
"""

import dataclasses
import pathlib
import sys
import tempfile
import time
import warnings

import environment  # noqa: F401
import keras
import numpy as np
from absl import flags

import snip_tf
from snip_tf import layers, pruning
from snip_tf.experiments import program

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
TOLERANCE = 1e-5

# How to score: batch normalisation has seen no data yet.
MODES = ({}, {"warm_up": True}, {"training": True})

_NETWORKS = flags.DEFINE_list(
    "networks", [*NETWORKS, TRANSFORMER], "The networks to check."
)
_SPARSITY = flags.DEFINE_float(
    "sparsity", 0.95, "The fraction of the weights to remove, in [0, 1)."
)


@dataclasses.dataclass(frozen=True)
class Report:
    """What `check` counted, and the differences that it measured.

    Args:
        weights: Weights with a mask, biases included.
        kept: How many of them are left.
        empty: Kernels with none left, by each of MODES.
        masked: Largest difference of an output to the stock network, relative
            to the largest output; `loaded` and `stripped` to the trained one.
    """

    weights: int
    kept: int
    empty: tuple[int, ...]
    masked: float
    loaded: float
    stripped: float


def main():
    """Runs the script."""
    known = [*NETWORKS, TRANSFORMER]
    for name in _NETWORKS.value:
        if name not in known:
            raise ValueError(
                f"--networks must be of {', '.join(known)}. Received: {name}"
            )
    pruning.check_sparsity(_SPARSITY.value)
    print(
        f"{'network':18}{'weights':>12}{'kept':>11}{'empty':>10}"
        f"{'masked':>10}{'loaded':>10}{'stripped':>10}{'seconds':>9}"
    )
    if not all([_passes(name) for name in _NETWORKS.value]):
        sys.exit(1)


def _passes(name):
    """Prints the line of one network; returns whether it passed."""
    start = time.perf_counter()
    try:
        keras.utils.set_random_seed(0)
        report = check(*build(name), sparsity=_SPARSITY.value)
    except Exception as error:  # whatever a layer raises; the rest goes on
        print(f"{name:18}{type(error).__name__}: {error}", flush=True)
        return False
    finally:
        keras.backend.clear_session()
    print(
        f"{name:18}{report.weights:12,}{report.kept:11,}"
        f"{'/'.join(map(str, report.empty)):>10}{report.masked:10.1e}"
        f"{report.loaded:10.1e}{report.stripped:10.1e}"
        f"{time.perf_counter() - start:9.1f}",
        flush=True,
    )
    return True


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


def check(model, x, *, sparsity):
    """Takes a network from `masked` through `strip`.

    Args:
        model: A stock Keras model that ends in logits of `CLASSES` classes.
        x: A batch of inputs.
        sparsity: The fraction of the weights to remove, in [0, 1).

    Returns:
        A `Report`.

    Raises:
        AssertionError: If a promise of the library does not hold.
    """
    y = np.random.default_rng(1).integers(CLASSES, size=len(x))
    outputs = model(x).numpy()
    spread = np.ptp(outputs, axis=0).max() / np.abs(outputs).max()
    _require(spread > 0.01, "the outputs hardly depend on the inputs")
    pruned = snip_tf.masked(model, mask_bias=True)
    masked = _difference(pruned(x).numpy(), outputs)
    empty = tuple(_empty(pruned, x, y, sparsity, mode) for mode in MODES)
    _prune_and_train(pruned, x, y, sparsity)
    loaded = _saved_and_loaded(pruned)
    stripped = snip_tf.strip(loaded)
    _require_stock_layers_of(stripped, model, pruned)
    outputs = pruned(x).numpy()
    masks = snip_tf.get_masks(pruned)
    return Report(
        weights=sum(mask.size for mask in masks),
        kept=sum(np.count_nonzero(mask) for mask in masks),
        empty=empty,
        masked=masked,
        loaded=_difference(loaded(x).numpy(), outputs),
        stripped=_difference(stripped(x).numpy(), outputs),
    )


def _empty(model, x, y, sparsity, mode):
    """Returns how many kernels keep no weight if scored in a mode."""
    scores = snip_tf.sensitivity(model, x, y, loss=_loss(), **mode)
    pairs = layers.masked_weights(model)
    return sum(
        weight.name != "bias" and not mask.any()
        for (weight, _), mask in zip(
            pairs, snip_tf.keep_top(scores, sparsity), strict=True
        )
    )


def _loss():
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def _prune_and_train(model, x, y, sparsity):
    """Prunes, checks kappa, takes one step, checks the removed weights."""
    loss = _loss()
    with warnings.catch_warnings():
        # At 95% small layers may lose all their weights: the report has it.
        warnings.filterwarnings("ignore", "The mask of .* removes every")
        # In training mode, as signals fade in the other: batch normalisation
        # does not yet adapt to weights that are missing.
        snip_tf.prune(model, x, y, sparsity=sparsity, loss=loss, training=True)
    pairs = layers.masked_weights(model)
    masks = [mask.numpy() for _, mask in pairs]
    kept = sum(np.count_nonzero(mask) for mask in masks)
    kappa = snip_tf.kept_weights(sum(mask.size for mask in masks), sparsity)
    _require(kept == kappa, f"{kept} weights were kept, not {kappa}")

    before = [weight.numpy() for weight, _ in pairs]
    model.compile(keras.optimizers.SGD(0.01, momentum=0.9), loss)
    model.train_on_batch(x, y)
    after = [weight.numpy() for weight, _ in pairs]
    for value, mask in zip(after, masks, strict=True):
        _require(not value[mask == 0].any(), "removed weights are not zero")
    moved = any(map(np.any, map(np.subtract, after, before)))
    _require(moved, "the training step moved no weight")


def _saved_and_loaded(model):
    """Returns the model from a .keras file, its weights checked."""
    with tempfile.TemporaryDirectory() as directory:
        path = pathlib.Path(directory) / "pruned.keras"
        model.save(path)
        loaded = keras.models.load_model(path)
    _require_equal(loaded.weights, model.weights)
    return loaded


def _require_stock_layers_of(stripped, stock, pruned):
    """Raises unless it has the layers of one and the weights of the other."""
    found = [type(layer) for layer in stripped.layers]
    expected = [type(layer) for layer in stock.layers]
    _require(found == expected, "the stripped layers are not the stock ones")
    _require_equal(stripped.weights, layers.weights_without_masks(pruned))


def _difference(outputs, expected):
    """Returns the largest difference over the largest expected output."""
    _require(np.isfinite(expected).all(), "outputs are not finite")
    result = float(np.abs(outputs - expected).max() / np.abs(expected).max())
    _require(result <= TOLERANCE, f"outputs differ by {result:.1e}")
    return result


def _require_equal(weights, expected):
    """Raises an AssertionError unless all weights are equal, bit by bit."""
    for one, other in zip(weights, expected, strict=True):
        same = np.array_equal(one.numpy(), other.numpy())
        _require(same, f"{one.path} is not what it was")


def _require(holds, otherwise):
    """Raises what does not hold; unlike `assert` under `python -O` too."""
    if not holds:
        raise AssertionError(otherwise)


if __name__ == "__main__":
    program.run(main)
