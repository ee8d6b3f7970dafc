"""Backbones of KerasHub, which make their layers in code of their own."""

import subprocess
import sys

import keras
import numpy as np
import pytest
from conftest import CROSS_ENTROPY

import snip_tf
from snip_tf import layers

hub = pytest.importorskip("keras_hub", reason="keras-hub is not installed")

_RANDOM = np.random.default_rng(0)
_IMAGES = _RANDOM.normal(size=(8, 16, 16, 3)).astype("float32")
_TOKENS = {
    "token_ids": _RANDOM.integers(0, 50, (8, 12)),
    "segment_ids": np.zeros((8, 12), int),
    "padding_mask": np.ones((8, 12), int),
}


def bert():
    return hub.models.BertBackbone(
        vocabulary_size=50,
        num_layers=2,
        num_heads=2,
        hidden_dim=16,
        intermediate_dim=32,
        max_sequence_length=12,
    )


def resnet():
    return hub.models.ResNetBackbone(
        input_conv_filters=[64],
        input_conv_kernel_sizes=[3],
        stackwise_num_filters=[64, 64],
        stackwise_num_blocks=[1, 1],
        stackwise_num_strides=[1, 2],
        block_type="basic_block",
        image_shape=(16, 16, 3),
    )


def vit():
    return hub.models.ViTBackbone(
        image_shape=(16, 16, 3),
        patch_size=(4, 4),
        num_layers=2,
        num_heads=2,
        hidden_dim=16,
        mlp_dim=32,
    )


def features(backbone):
    """Returns a tensor (batch, features) of a backbone's outputs."""
    outputs = backbone.output
    if isinstance(outputs, dict):
        return outputs["pooled_output"]
    return keras.ops.mean(outputs, axis=list(range(1, len(outputs.shape) - 1)))


@pytest.mark.parametrize(
    ("build", "x", "kernels", "left"),
    [
        # A tied embedding and one of positions; the token of the class.
        (bert, _TOKENS, 14, 50 * 16 + 12 * 16),
        (resnet, _IMAGES, 6, 0),
        (vit, _IMAGES, 14, 16),
    ],
    ids=["BERT", "ResNet", "ViT"],
)
@pytest.mark.filterwarnings("ignore:The masks of these kernels")
@pytest.mark.filterwarnings("ignore:.* weights get no mask")
def test_a_backbone_from_mask_to_strip(build, x, kernels, left, tmp_path):
    backbone = build()
    model = keras.Model(
        backbone.input, keras.layers.Dense(3)(features(backbone))
    )
    expected = model.predict(x, verbose=0)
    snip_tf.masked(backbone)
    np.testing.assert_array_equal(model.predict(x, verbose=0), expected)
    assert snip_tf.summary(backbone).dense == left
    pairs = layers.masked_weights(backbone)
    assert len(pairs) == kernels
    of_kernels = {w.path for w in backbone.weights if w.name == "kernel"}
    assert of_kernels <= {weight.path for weight, _ in pairs}
    model.compile("adam", CROSS_ENTROPY)
    snip_tf.prune(model, x, np.arange(8) % 3, sparsity=0.9)
    total = sum(mask.size for mask in snip_tf.get_masks(model))
    assert snip_tf.summary(model).kept == snip_tf.kept_weights(total, 0.9)
    model.fit(x, np.arange(8) % 3, verbose=0)
    for weight, mask in pairs:
        assert not weight.numpy()[mask.numpy() == 0].any()
    expected = keras.Model(backbone.input, features(backbone))(x)
    backbone.save(tmp_path / "model.keras")
    backbone.save_weights(tmp_path / "model.weights.h5")
    inputs = x if isinstance(x, dict) else {"x": x}
    np.savez(tmp_path / "inputs.npz", **inputs)
    script = (
        "import sys, keras, numpy as np, snip_tf\n"
        f"sys.path.insert(0, {str(__file__).rpartition('/')[0]!r})\n"
        "import test_keras_hub\n"
        "x = dict(np.load('inputs.npz'))\n"
        "x = x.pop('x', x)\n"
        "loaded = keras.models.load_model('model.keras')\n"
        f"again = snip_tf.masked(test_keras_hub.{build.__name__}())\n"
        "again.load_weights('model.weights.h5')\n"
        "for name, model in (('loaded', loaded), ('again', again)):\n"
        "    features = test_keras_hub.features(model)\n"
        "    outputs = keras.Model(model.input, features)(x)\n"
        "    np.savez(name, outputs, *snip_tf.get_masks(model))\n"
    )
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True)
    for name in ("loaded", "again"):
        with np.load(tmp_path / f"{name}.npz") as file:
            outputs, *masks = file.values()
        np.testing.assert_allclose(outputs, expected, rtol=1e-5, atol=1e-6)
        for mask, (_, variable) in zip(masks, pairs, strict=True):
            np.testing.assert_array_equal(mask, variable)
    before = model.predict(x, verbose=0)
    snip_tf.strip(backbone)
    assert type(backbone) is type(build())
    np.testing.assert_allclose(
        model.predict(x, verbose=0), before, rtol=1e-6, atol=1e-6
    )


@pytest.mark.filterwarnings("ignore:.* weights get no mask")
def test_bert_is_pruned_by_degrees(kept_by_step):
    backbone = snip_tf.masked(bert())
    head = keras.layers.Dense(3)(features(backbone))
    model = keras.Model(backbone.input, head)
    model.compile("adam", CROSS_ENTROPY)
    schedule = snip_tf.schedules.cubic(0.0, 0.9, 0, 6)
    prune = snip_tf.PruneGradually(schedule=schedule, every=1)
    x, y = _TOKENS, np.arange(8) % 3
    model.fit(
        x, y, batch_size=2, epochs=2, callbacks=[prune, kept_by_step], verbose=0
    )
    total = sum(mask.size for mask in snip_tf.get_masks(model))
    expected = [snip_tf.kept_weights(total, schedule(s)) for s in range(8)]
    assert list(kept_by_step.of_step.values()) == expected
