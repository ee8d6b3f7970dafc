"""Takes networks of keras.applications from `masked` through `strip`.

    python scripts/check_applications.py

Each network starts from random weights, for 10 classes, at the smallest input
that it allows. Checked on a random batch:

masked     every output is that of the stock network
pruned     `snip_tf.prune` keeps exactly kappa weights
trained    one step of SGD moves kept weights and leaves removed ones at zero
loaded     saved as .keras and loaded: the same weights, masks and outputs
stripped   plain Keras layers again, with the outputs of the trained network

Prints one line a network, with the largest difference of an output for
`masked`, `loaded` and `stripped`, relative to the largest output. More than
1e-5 is a failure. Exit status 1 if any network failed.
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

import program
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
TOLERANCE = 1e-5

_NETWORKS = flags.DEFINE_list(
    "networks", [*NETWORKS, TRANSFORMER], "The networks to check."
)
_SPARSITY = flags.DEFINE_float(
    "sparsity", 0.95, "The fraction of the weights to remove, in [0, 1)."
)


@dataclasses.dataclass(frozen=True)
class Report:
    """What `check` counted and measured; differences as `difference` does."""

    weights: int
    kept: int
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
    snip_tf.kept_weights(1_000_000, _SPARSITY.value)  # refuses a wrong one
    print(
        f"{'network':18}{'weights':>12}{'kept':>12}"
        f"{'masked':>10}{'loaded':>10}{'stripped':>10}{'seconds':>9}"
    )
    failed = [name for name in _NETWORKS.value if not _passes(name)]
    if failed:
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
        f"{name:18}{report.weights:12,}{report.kept:12,}"
        f"{report.masked:10.1e}{report.loaded:10.1e}{report.stripped:10.1e}"
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
        x = generator.uniform(0, 255, size=(BATCH_SIZE, size, size, 3))
        x = getattr(keras.applications, module).preprocess_input(x)
        x = x.astype("float32")
    _make_vectors_differ(model, generator)
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


def _make_vectors_differ(model, generator):
    """Moves biases, scales, means and variances from their equal zeros or ones.

    Else two that change places would go unnoticed, and so would most of
    ConvNeXt, whose blocks count a millionth at first.
    """
    for layer in model.layers:
        for weight in layer.weights:
            if len(weight.shape) == 1:
                change = generator.uniform(0, 0.1, size=weight.shape)
                weight.assign_add(change)
        if isinstance(layer, keras.layers.Normalization):
            layer.finalize_state()  # as `adapt` does


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
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    pruned = snip_tf.masked(model, mask_bias=True)
    masked = difference(pruned, model, x)

    with warnings.catch_warnings():
        # At 95% small layers may lose all their weights.
        warnings.filterwarnings("ignore", "The mask of .* removes every")
        snip_tf.prune(pruned, x, y, sparsity=sparsity, loss=loss)
    masks = snip_tf.get_masks(pruned)
    weights = sum(mask.size for mask in masks)
    kept = sum(np.count_nonzero(mask) for mask in masks)
    kappa = snip_tf.kept_weights(weights, sparsity)
    _require(kept == kappa, f"{kept} weights were kept, not {kappa}")

    before = _stored(pruned)
    pruned.compile(keras.optimizers.SGD(0.01, momentum=0.9), loss)
    pruned.train_on_batch(x, y)
    after = _stored(pruned)
    for value, mask in zip(after, masks, strict=True):
        _require(not value[mask == 0].any(), "removed weights are not zero")
    moved = any(map(np.any, map(np.subtract, after, before)))
    _require(moved, "the training step moved no weight")

    with tempfile.TemporaryDirectory() as directory:
        path = pathlib.Path(directory) / "pruned.keras"
        pruned.save(path)
        loaded = keras.models.load_model(path)
    for one, other in zip(loaded.weights, pruned.weights, strict=True):
        same = np.array_equal(one.numpy(), other.numpy())
        _require(same, f"{other.path} was loaded otherwise than saved")
    return Report(
        weights=weights,
        kept=kept,
        masked=masked,
        loaded=difference(loaded, pruned, x),
        stripped=difference(snip_tf.strip(loaded), pruned, x),
    )


def difference(model, expected, x):
    """Returns the largest difference of outputs over the largest output.

    Raises:
        AssertionError: If it is more than `TOLERANCE`, or if outputs are not
            finite or the same for every input: they would show nothing.
    """
    expected = expected(x).numpy()
    _require(np.isfinite(expected).all(), "outputs are not finite")
    _require(np.ptp(expected, axis=0).any(), "outputs are the same for every x")
    largest = np.abs(expected).max()
    result = float(np.abs(model(x).numpy() - expected).max() / largest)
    _require(result <= TOLERANCE, f"outputs differ by {result:.1e}")
    return result


def _stored(model):
    return [weight.numpy() for weight, _ in layers.masked_weights(model)]


def _require(holds, otherwise):
    """Raises what does not hold; unlike `assert` under `python -O` too."""
    if not holds:
        raise AssertionError(otherwise)


if __name__ == "__main__":
    program.run(main)
