"""What tells a run from others, and what it was made with."""

import dataclasses
import importlib.util
import json
import pathlib
import shutil
import subprocess

import keras
import pytest
import tensorflow as tf

from snip_tf import training
from snip_tf.experiments import provenance, settings

SMALL = settings.Settings(
    model="lenet_300_100",
    dataset="mnist_5k",
    recipe=training.RECIPES["mnist_5k"].scaled_to(30),
    sparsity=0.95,
    validate_every=10,
)


def test_a_run_is_told_by_settings_start_versions_and_arithmetic(
    small_model, monkeypatch
):
    def told(settings=SMALL, model=small_model):
        return provenance.identity(settings, model)

    first = told()
    assert json.loads(json.dumps(first)) == first
    for place in ({"data_dir": "elsewhere"}, {"pruned_model": "a.keras"}):
        assert told(dataclasses.replace(SMALL, **place)) == first
    assert told(dataclasses.replace(SMALL, seed=1)) != first
    assert told(model=None).items() <= first.items()
    weight = small_model.weights[0]
    weight.assign(weight + 1e-6)
    assert told() != first
    weight.assign(weight - 1e-6)
    monkeypatch.setattr(provenance, "_commit", lambda: "another")
    assert told() == first
    with monkeypatch.context() as patched:
        patched.setattr(provenance, "ARITHMETIC", 0)
        assert told() != first
    with monkeypatch.context() as patched:
        patched.setattr(provenance.platform, "python_version", lambda: "3.0.0")
        assert told() != first
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    assert told() != first


def test_a_gpu_is_named_in_the_place_of_the_cpu(monkeypatch):
    cpu = provenance.surroundings()["processor"]
    config = tf.config
    monkeypatch.setattr(config, "list_physical_devices", lambda kind: [kind])
    details = {"GPU": {"device_name": "a card"}}
    monkeypatch.setattr(
        config.experimental, "get_device_details", details.__getitem__
    )
    assert provenance.surroundings()["processor"] == "a card"
    assert provenance.surroundings("jax")["processor"] == cpu  # not in use


def test_a_comment_in_the_code_ends_no_run(tmp_path):
    """Of a copy of the library, in which every file gets one more."""
    root = pathlib.Path(provenance.__file__).parents[2]
    for package in ("snip_tf", "models"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(root / package, tmp_path / package, ignore=ignored)
    files = [*tmp_path.rglob("*.py")]
    assert len(files) > 40
    for file in files:
        file.write_text(file.read_text() + "# a comment\n")
    copy = load(tmp_path / "snip_tf" / "experiments" / "provenance.py")
    assert copy.identity(SMALL) == provenance.identity(SMALL)


def test_differences_are_named_with_both_values():
    here = {"seed": 1, "recipe": {"steps": 40, "l2": 0.0}, "backend": "jax"}
    there = {"seed": 0, "recipe": {"steps": 30, "l2": 0.0}, "start": "af"}
    assert provenance.differences(here, there) == [
        "seed (there 0, here 1)",
        "recipe.steps (there 30, here 40)",
        "backend (there None, here jax)",
    ]
    assert not provenance.differences({"seed": 0}, there)


def test_surroundings_name_versions_and_cores():
    surroundings = provenance.surroundings()
    assert set(surroundings["versions"]) >= {"tensorflow", "keras", "snip_tf"}
    assert surroundings["arithmetic"] == provenance.ARITHMETIC
    assert surroundings["cores"] >= 1


def load(path):
    """Returns the module of a file, as another than that of the library."""
    spec = importlib.util.spec_from_file_location("another", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_commit_is_that_of_the_code_as_it_was_first_asked_for(tmp_path):
    if not shutil.which("git"):
        pytest.skip("needs git")

    def git(*arguments):
        who = ("-c", "user.name=nobody", "-c", "user.email=no@body")
        process = subprocess.run(
            ["git", *who, *arguments],
            cwd=tmp_path,
            check=True,
            capture_output=True,
            text=True,
        )
        return process.stdout.strip()

    code = tmp_path / "snip_tf" / "experiments" / "provenance.py"
    code.parent.mkdir(parents=True)
    shutil.copy(provenance.__file__, code)
    (tmp_path / "results").mkdir()
    result = tmp_path / "results" / "lines.jsonl"
    result.write_text("one\n")
    git("init")
    git("add", ".")
    git("commit", "--message=Begin")

    clean = git("rev-parse", "--short", "HEAD")
    result.write_text("two\n")
    before = load(code)
    assert before.surroundings()["commit"] == clean
    code.write_text(code.read_text() + "# changed\n")
    assert load(code).surroundings()["commit"] == f"{clean}-dirty"
    git("commit", "--all", "--message=Change")
    assert load(code).surroundings()["commit"] == git(
        "rev-parse", "--short", "HEAD"
    )
    assert before.surroundings()["commit"] == clean
    installed = tmp_path / "lib" / "snip_tf" / "experiments" / code.name
    installed.parent.mkdir(parents=True)
    shutil.copy(code, installed)
    assert load(installed).surroundings()["commit"] is None


def test_the_backend_is_told_with_its_version():
    assert provenance.surroundings()["backend"] == "tensorflow"
    assert "jax" not in provenance.surroundings()["versions"]
    pytest.importorskip("jax")
    jax = provenance.surroundings("jax")
    assert jax["backend"] == "jax"
    assert jax["versions"]["jax"]


def test_without_git_there_is_no_commit(monkeypatch):
    provenance._commit.cache_clear()
    monkeypatch.setenv("PATH", "")
    assert provenance.surroundings()["commit"] is None
