"""The scripts as a person runs them: other processes, exit codes, files."""

import json
import os
import re

import keras
import numpy as np
import pytest
from conftest import run_forked, run_script

import snip_tf

_RUN = ("--dataset=mnist_5k", "--steps=40", "--validate_every=20")
_RUN += ("--validation_fraction=0",)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A directory in which LeNet-300-100 was pruned, and then trained."""
    place = tmp_path_factory.mktemp("scripts")
    status, output = run_script(
        "prune.py",
        "--model=lenet_300_100",
        "--sparsity=0.95",
        "--run_dir=pruned",
        "--dataset=mnist_5k",
        cwd=place,
    )
    assert status == 0, output
    status, output = run_script(
        "train.py",
        "--pruned_model=pruned/model.keras",
        "--run_dir=trained",
        *_RUN,
        cwd=place,
    )
    assert status == 0, output
    return place


def result_of(directory):
    return json.loads((directory / "result.json").read_text())


def test_a_backend_that_is_not_installed_is_refused(tmp_path):
    status, output = run_script("train.py", cwd=tmp_path, KERAS_BACKEND="mxnet")
    assert status == 1
    assert output.startswith("error: Keras' backend must be tensorflow, jax")
    assert output.endswith("'snip_tf[torch]'. Received: mxnet\n")


def test_prune_writes_a_network_with_exactly_kappa_weights(place):
    model = keras.models.load_model(place / "pruned" / "model.keras")
    assert snip_tf.summary(model).kept == 13_331
    assert result_of(place / "pruned")["kept"] == 13_331


def test_training_goes_on_from_the_pruned_model(place):
    pruned = keras.models.load_model(place / "pruned" / "model.keras")
    trained = keras.models.load_model(place / "trained" / "model.keras")
    for before, after in zip(
        snip_tf.get_masks(pruned), snip_tf.get_masks(trained), strict=True
    ):
        np.testing.assert_array_equal(after, before)
    kernel = trained.layers[1]._kernel.numpy()
    mask = snip_tf.get_masks(trained)[0]
    np.testing.assert_array_equal(kernel[mask == 0], 0)
    assert np.abs(kernel - pruned.layers[1]._kernel.numpy()).max() > 0


def test_a_run_directory_holds_settings_history_model_and_result(place):
    assert sorted(os.listdir(place / "trained")) == [
        "config.json",
        "history.csv",
        "model.keras",
        "result.json",
    ]
    result = result_of(place / "trained")
    config = json.loads((place / "trained" / "config.json").read_text())
    assert config.pop("snip_tf_run") == 1
    for name in ("start_weights", "data"):
        assert len(config.pop(name)) == 16
    assert config.pop("only_pruned") is None
    assert config == {name: result[name] for name in config}
    assert result["backend"] == "tensorflow"
    assert config["pruned_model"] == "pruned/model.keras"
    assert config["kernel_initializer"] is None  # it was not built here
    assert config["recipe"]["steps"] == 40
    assert config["recipe"]["drops"] == [17, 33]
    assert result["weights"] == 266_610
    assert 0 < result["test_error"] < 40
    assert result["train_seconds"] > 0


def test_evaluate_finds_the_error_that_training_reported(place):
    status, output = run_script("evaluate.py", "--run_dir=trained", cwd=place)
    assert status == 0, output
    error = result_of(place / "trained")["test_error"]
    assert f"Test error on mnist_5k: {error:.2f}%" in output
    assert re.search(r"^total +13,331 +266,610 +95.00%", output, re.MULTILINE)


def test_the_same_seed_gives_the_same_run(place):
    flags = ("--model=lenet_300_100", "--sparsity=0.95", *_RUN)
    results = []
    for name in ("first", "second"):
        status, output = run_script(
            "train.py", *flags, f"--run_dir={name}", cwd=place
        )
        assert status == 0, output
        results.append(result_of(place / name))
    assert results[0]["kept_per_weight"] == results[1]["kept_per_weight"]
    assert results[0]["train_loss"] == pytest.approx(
        results[1]["train_loss"], rel=1e-4
    )


@pytest.mark.parametrize(
    ("script", "flags", "message"),
    [
        (
            "train.py",
            ["--model=lenet_300", "--sparsity=0.9"],
            "value should be one of <lenet_300_100|lenet_5_caffe",
        ),
        ("train.py", ["--sparsity=0.9"], "--model must be given: one of lenet"),
        (
            "train.py",
            ["--model=lenet_300_100", "--sparsty=0.9"],
            "Unknown command line flag 'sparsty'. Did you mean: sparsity",
        ),
        (
            "train.py",
            ["--pruned_model=good.keras", "--sparsity=0.9", "--reinit"],
            "--pruned_model brings .* contradicts --reinit, --sparsity",
        ),
        (
            "train.py",
            ["--pruned_model=foreign.keras"],
            "must be a .keras file of a network with masks.*foreign.keras",
        ),
        (
            "prune.py",
            [
                "--model=lenet_300_100",
                "--dataset=mnist_5k",
                "--sparsity=0.9",
                "--run_dir=file/run",
            ],
            "error: .*file/run must be writable .*Not a directory",
        ),
        (
            "prune.py",
            ["--model=lenet_300_100", "--sparsity=0.9", "--data_dir=nowhere"],
            "existing directory. Received: 'nowhere'",
        ),
        (
            "prune.py",
            ["--model=lenet_300_100", "--sparsity=0.9", "--steps=7"],
            "Unknown command line flag .steps",
        ),
        (
            "train.py",
            [
                *("--model=lenet_300_100", "--method=dns"),
                "--score_batch_size=7",
            ],
            "looks at no batch, which contradicts --score_batch_size",
        ),
        (
            "train.py",
            ["--model=lenet_300_100", "--resume_anyway", "--overwrite"],
            "--resume_anyway replaces nothing, which contradicts --overwrite",
        ),
        (
            "evaluate.py",
            [],
            "Exactly one of .run_dir, model_file",
        ),
        ("evaluate.py", ["--run_dir=."], "must be the directory of a run"),
        (
            "evaluate.py",
            ["--run_dir=~/none"],
            rf"of a run\b.* {os.path.expanduser('~/none')}\b",
        ),
        (
            "benchmark.py",
            ["--what=speed"],
            "speed.*: must be of step, methods, prune",
        ),
    ],
)
def test_bad_input_ends_with_one_clear_line(script, flags, message, tmp_path):
    (tmp_path / "foreign.keras").write_text("not a zip file")
    snip_tf.models.build("lenet_300_100").save(tmp_path / "good.keras")
    (tmp_path / "file").write_text("")
    before = sorted(tmp_path.iterdir())
    status, output = run_forked(script, *flags, cwd=tmp_path)
    assert status == 1, output
    assert re.search(message, output), output
    assert "Traceback" not in output
    assert sorted(tmp_path.iterdir()) == before  # nothing half-written


def test_a_finished_run_is_not_done_again_and_another_is_refused(place):
    """So `until train.py ...; do :; done` comes to its end."""
    flags = (
        "--pruned_model=pruned/model.keras",
        "--run_dir=trained",
        "--validation_fraction=0",
        *_RUN,
    )
    before = result_of(place / "trained")
    status, output = run_forked("train.py", *flags, cwd=place)
    assert status == 0, output
    assert "trained holds this run, which is finished\n" in output
    assert result_of(place / "trained") == before
    status, output = run_forked("train.py", *flags, "--seed=1", cwd=place)
    assert status == 1, output
    assert "already holds a finished run" in output
