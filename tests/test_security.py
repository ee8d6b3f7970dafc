"""What SECURITY.md promises: files are data, and no code in them runs."""

import ast
import contextlib
import hashlib
import json
import os
import pathlib
import tempfile
import zipfile

import keras
import numpy as np
import pytest

import snip_tf
from snip_tf.experiments import checkpoints, exports, runs
from snip_tf.exporting import digests

_ROOT = pathlib.Path(__file__).parents[1]
_SOURCES = [
    path
    for directory in ("snip_tf", "models", "scripts")
    for path in sorted((_ROOT / directory).rglob("*.py"))
]
_RUNS_CODE = {"pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib"}


@keras.saving.register_keras_serializable("test_security")
class Block(keras.layers.Layer):
    """Other people's code, masked in place: it is saved as a `Rebuilt`."""

    def __init__(self, **options):
        super().__init__(**options)
        self.inner = keras.layers.Dense(3)

    def build(self, shape):
        self.inner.build(shape)

    def call(self, x):
        return self.inner(x)


@pytest.fixture
def path(tmp_path):
    """The .keras file of a masked model, in a directory of its own."""
    model = keras.Sequential([keras.Input((4,)), Block(name="block")])
    file = tmp_path / "given" / "model.keras"
    file.parent.mkdir()
    snip_tf.masked(model).save(file)
    runs.load_model(file)
    return file


def _rewrite(path, change=lambda config: None, more=()):
    """Changes the config in a .keras file in place, and adds members."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(members["config.json"])
    change(config)
    members["config.json"] = json.dumps(config)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in [*members.items(), *more]:
            archive.writestr(name, content)
    (path.parent / digests.NAME).unlink(missing_ok=True)
    digests.write(path.parent)


def test_no_source_reads_what_runs_code():
    for path in _SOURCES:
        tree = ast.parse(path.read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.Import | ast.ImportFrom):
                module = getattr(node, "module", None) or ""
                names = {module, *(alias.name for alias in node.names)}
                roots = {name.split(".")[0] for name in names}
                assert not roots & _RUNS_CODE, path
            if not isinstance(node, ast.Call):
                continue
            called = ast.unparse(node.func)
            options = {
                option.arg: ast.unparse(option.value)
                for option in node.keywords
            }
            assert called not in ("eval", "exec", "os.system"), path
            assert "shell" not in options, path
            assert "allow_pickle" not in options, path
            assert options.get("safe_mode", "True") == "True", path


def test_a_checkpoint_with_a_pickle_is_refused(tmp_path):
    class Payload:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    file = tmp_path / "checkpoint.npz"
    payload = np.array([Payload()], dtype=object)
    np.savez(file, progress=payload, variable_0=payload)
    with file.open("ab") as end:  # whole, as far as its digest says
        end.write(hashlib.sha256(file.read_bytes()).digest())
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    for read in (
        lambda: checkpoints.steps_done(tmp_path),
        lambda: checkpoints.restore(tmp_path, model),
    ):
        with pytest.raises(ValueError, match="allow_pickle=False"):
            read()
    assert not (tmp_path / "ran").exists()
    np.load(file, allow_pickle=True)["progress"]  # it would have run
    assert (tmp_path / "ran").exists()


def _lambda(ran):
    """Returns the config of a layer that makes a directory where it runs."""
    layer = keras.layers.Lambda(
        lambda x, ran: [x, __import__("os").makedirs(ran, exist_ok=True)][0],
        arguments={"ran": str(ran)},
    )
    return keras.saving.serialize_keras_object(layer)


@pytest.mark.parametrize("inside", [False, True])
def test_code_in_a_model_file_never_runs(inside, path, tmp_path):
    ran = tmp_path / "ran"

    def change(config):
        place = config["config"]["layers"][-1]
        place = place["config"]["layer"] if inside else place
        name = "test_security>Block" if inside else "snip_tf>Rebuilt"
        assert place["registered_name"] == name
        place.update(_lambda(ran))

    _rewrite(path, change)
    for load in (
        runs.load_model,
        lambda path: exports.load(path, "keras"),
        keras.models.load_model,
    ):
        with pytest.raises(ValueError, match="(?s)Lambda.*safe_mode"):
            load(path)
    assert not ran.exists()
    with contextlib.suppress(Exception):  # its weights are those of others
        keras.models.load_model(path, safe_mode=False)
    assert ran.exists()


@pytest.mark.filterwarnings("ignore:Skipping invalid path")  # as it should
def test_a_model_file_writes_nothing_outside(path, tmp_path, monkeypatch):
    scratch = tmp_path / "scratch" / "of" / "keras"
    scratch.mkdir(parents=True)
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    monkeypatch.chdir(scratch)
    names = [
        *("../escaped", "../../escaped", "assets/../../escaped"),
        *("assets/../../../escaped", str(tmp_path / "escaped")),
    ]
    _rewrite(path, more=[(name, "outside") for name in names])
    before = sorted(tmp_path.rglob("*"))
    for load in (runs.load_model, lambda path: exports.load(path, "keras")):
        load(path)
    assert sorted(tmp_path.rglob("*")) == before
