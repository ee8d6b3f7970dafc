import os
import pickle

import numpy as np
import pytest

import snip_tf


def test_arrays_and_settings_come_back(tmp_path, small_model, small_batch):
    scores = snip_tf.sensitivity(small_model, *small_batch)
    path = tmp_path / "scores.npz"
    snip_tf.save_arrays(path, scores, model="small", sparsity=0.9, seed=3)
    loaded, settings = snip_tf.load_arrays(path)
    assert settings == {"model": "small", "sparsity": 0.9, "seed": 3}
    for array, score in zip(loaded, scores, strict=True):
        np.testing.assert_array_equal(array, score)


def test_more_than_ten_arrays_keep_their_order(tmp_path):
    arrays = [np.full((i + 1,), i) for i in range(12)]
    snip_tf.save_arrays(tmp_path / "masks.npz", arrays)
    loaded, _ = snip_tf.load_arrays(tmp_path / "masks.npz")
    assert [len(array) for array in loaded] == list(range(1, 13))


def test_saved_masks_fit_a_new_model(tmp_path, batch):
    model = snip_tf.models.build("lenet_300_100")
    model.compile(loss="sparse_categorical_crossentropy")
    masks = snip_tf.prune(model, *batch, sparsity=0.9)
    snip_tf.save_arrays(tmp_path / "masks.npz", masks)
    other = snip_tf.models.build("lenet_300_100")
    snip_tf.set_masks(other, snip_tf.load_arrays(tmp_path / "masks.npz")[0])
    assert snip_tf.summary(other) == snip_tf.summary(model)


def test_other_endings_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r'end in "\.npz".*masks\.h5'):
        snip_tf.save_arrays(tmp_path / "masks.h5", [])
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "content", [b"", b"PK no archive", pickle.dumps({"a": 1})]
)
def test_foreign_files_are_refused(content, tmp_path):
    path = tmp_path / "foreign.npz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="that `save_arrays` wrote.*foreign"):
        snip_tf.load_arrays(path)


def test_pickles_in_an_archive_are_never_loaded(tmp_path):
    path = tmp_path / "evil.npz"
    np.savez(path, array_0=np.array([object()]), settings="{}")
    with pytest.raises(ValueError, match="that `save_arrays` wrote"):
        snip_tf.load_arrays(path)


def test_a_missing_file_is_said_to_be_missing(tmp_path):
    with pytest.raises(FileNotFoundError):
        snip_tf.load_arrays(tmp_path / "none.npz")
