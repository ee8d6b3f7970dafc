"""What tells that an exported file was damaged."""

import collections
import os
import subprocess

import conftest
import keras
import numpy as np
import pytest
import tensorflow as tf
from litert_reader import outputs

import snip_tf
from snip_tf import exporting
from snip_tf.experiments import exports
from snip_tf.exporting import digests


@pytest.fixture
def model():
    """LeNet-300-100, pruned to 5%."""
    model = snip_tf.models.build("lenet_300_100")
    scores = snip_tf.scores.random(model, seed=0)
    snip_tf.set_masks(model, snip_tf.keep_top(scores, 0.95))
    return model


def _change_a_byte(file, place=-1, change=1):
    content = bytearray(file.read_bytes())
    content[place] ^= change
    file.write_bytes(content)


@pytest.mark.parametrize("format", exporting.FORMATS)
def test_every_file_of_an_export_has_its_digest(format, model, tmp_path):
    path = snip_tf.export(model, tmp_path / "out", format=format)

    def is_whole():
        command = ["sha256sum", "--check", "--strict", digests.NAME]
        return not subprocess.run(command, cwd=tmp_path / "out").returncode

    assert is_whole()
    exports.load(path, format)
    files = [file for file in (tmp_path / "out").rglob("*") if file.is_file()]
    for file in set(files) - {tmp_path / "out" / digests.NAME}:
        _change_a_byte(file)
        assert not is_whole()
        message = f"must be as SHA256SUMS says.* differ: .*{file.name}$"
        with pytest.raises(ValueError, match=message):
            exports.load(path, format)
        _change_a_byte(file)
    exports.load(path, format)


def test_missing_and_new_files_are_refused(model, tmp_path):
    path = snip_tf.export(model, tmp_path / "out")
    (path / "variables" / "more").write_text("")
    with pytest.raises(ValueError, match="differ: variables/more$"):
        digests.check(path)
    (path / "variables" / "more").unlink()
    digests.check(path)
    (path / "fingerprint.pb").unlink()
    with pytest.raises(ValueError, match="differ: fingerprint.pb$"):
        digests.check(path)
    (path / digests.NAME).unlink()
    with pytest.raises(FileNotFoundError, match="SHA256SUMS"):
        digests.check(path)


@pytest.mark.slow
@pytest.mark.parametrize("format", [*exporting.FORMATS, "npz"])
def test_what_each_format_notices_by_itself(format, model, tmp_path, capsys):
    """Of 300 files with a byte changed; digests notice all of them."""
    if format == "npz":
        path = tmp_path / "masks.npz"
        np.savez(path, *snip_tf.get_masks(model))
    else:
        path = snip_tf.export(model, tmp_path / "out", format=format)
    np.save(tmp_path / "expected.npy", _outputs(path))
    files = [path] if path.is_file() else list(path.rglob("*"))
    sizes = {
        file: file.stat().st_size
        for file in files
        if file.is_file() and file.name != digests.NAME
    }
    ends = np.cumsum(list(sizes.values()))
    generator = np.random.default_rng(0)
    damages = []
    for place in generator.integers(0, ends[-1], 300):
        index = np.searchsorted(ends, place, side="right")
        damage = int(place - ends[index]), int(generator.integers(1, 256))
        damages.append((list(sizes)[index], *damage))
    found = []
    while len(found) < len(damages):  # a crash ends the process
        log = tmp_path / "log"
        log.write_text("")
        arguments = path, damages[len(found) :], tmp_path / "expected.npy", log
        process = conftest.FORKS.Process(target=_load_each, args=arguments)
        process.start()
        process.join()
        found += log.read_text().split()
        if process.exitcode:
            file, place, change = damages[len(found)]
            _change_a_byte(file, place, change)  # as it was
            found.append("crashed")
    counts = collections.Counter(found)
    with capsys.disabled():
        print(f"\n{format}: {dict(counts)}")
    assert counts["refused"] > 0 or format == "litert"
    if format != "litert":
        assert not counts["other"] + counts["crashed"]


def _load_each(path, damages, expected, log):
    """Writes down what becomes of each damage, undone afterwards."""
    expected = np.load(expected)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    for damage in damages:
        _change_a_byte(*damage)
        try:
            same = np.allclose(_outputs(path), expected, atol=1e-6)
            word = "same" if same else "other"
        except Exception:
            word = "refused"
        _change_a_byte(*damage)
        with log.open("a") as file:
            file.write(f"{word}\n")


def _outputs(path):
    x = np.random.default_rng(1).normal(size=(16, 28, 28, 1))
    x = x.astype(np.float32)
    if path.is_dir():
        loaded = tf.saved_model.load(path)
        return loaded.serve(x).numpy()
    if path.suffix == ".keras":
        return np.array(keras.models.load_model(path)(x))
    if path.suffix == ".npz":
        with np.load(path) as masks:
            return np.concatenate([masks[name].ravel() for name in masks])
    return outputs(path.read_bytes(), x)
