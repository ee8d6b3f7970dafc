"""What must not move from version to version: masks, counts and files."""

import pathlib

import keras
import numpy as np
import pytest
from conftest import CROSS_ENTROPY

import snip_tf

_FILES = pathlib.Path(__file__).parent / "files"


@pytest.mark.parametrize(
    ("name", "sparsity"), [("lenet_300_100", 0.95), ("lenet_5_caffe", 0.98)]
)
@pytest.mark.parametrize("seed", [0, 1])
def test_the_lenets_keep_the_weights_that_they_kept(name, sparsity, seed):
    """On other processors a score at the boundary may round another way."""
    data = snip_tf.data.load("mnist_5k")
    keras.utils.set_random_seed(seed)
    model = snip_tf.models.build(name)
    batch = snip_tf.data.scoring_batch(data, size=100, seed=seed)
    masks = snip_tf.prune(model, *batch, sparsity=sparsity, loss=CROSS_ENTROPY)
    kept = np.concatenate([mask.ravel() for mask in masks]) == 1
    with np.load(_FILES / "lenet_masks.npz") as file:
        before = np.unpackbits(file[f"{name}_{seed}"])[: kept.size] == 1
    assert kept.sum() == before.sum()
    assert np.count_nonzero(kept != before) <= 4


def test_a_file_of_version_0_1_loads():
    """Of all kinds of layers, pruned at random and trained for a step."""
    with np.load(_FILES / "saved_before.npz") as file:
        arrays = dict(file)
    model = keras.models.load_model(_FILES / "saved_before.keras")
    masks = snip_tf.get_masks(model)
    assert sum(name.startswith("mask_") for name in arrays) == len(masks) == 22
    for index, mask in enumerate(masks):
        np.testing.assert_array_equal(mask, arrays[f"mask_{index}"])
    x = [arrays["x"], arrays["t"]]
    outputs = model.predict(x, verbose=0)
    np.testing.assert_allclose(outputs, arrays["y"], rtol=1e-5, atol=1e-6)
    model.fit(x, np.zeros((4, 3)), verbose=0)
    np.testing.assert_allclose(
        snip_tf.strip(model).predict(x, verbose=0),
        model.predict(x, verbose=0),
        rtol=1e-5,
    )


@pytest.mark.parametrize("name", snip_tf.__all__)
def test_every_public_name_is_there_and_has_a_docstring(name):
    assert name in dir(snip_tf)
    assert getattr(snip_tf, name).__doc__.strip()
