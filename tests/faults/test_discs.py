"""A full disc costs nothing but the time until it has room again."""

import os
import re

import keras
import pytest
from conftest import FORKS, run_forked
from injecting import (
    Before,
    disc,
    error_of,
    fill,
    outcome,
    train,
    undisturbed,
)

import snip_tf
from snip_tf.experiments import checkpoints, records, run_directory

pytestmark = pytest.mark.faults
_MIB = 2**20


@pytest.mark.parametrize("left", [0, 2**16, _MIB, 3 * _MIB])
def test_each_file_is_written_whole_or_stays_as_it_was(left, tmp_path):
    with disc(tmp_path / "disc", 20 * _MIB) as path:
        # In a process of its own, which might not survive it.
        process = FORKS.Process(target=_write_all, args=(path, left))
        process.start()
        process.join()
        assert process.exitcode == 0


def _write_all(path, left):
    model = snip_tf.models.build("lenet_300_100")
    model.compile("sgd", keras.losses.MeanSquaredError())
    progress = checkpoints.Progress(history={"loss": [0.5]})
    line = {"settings": "x" * 100_000}
    writers = {
        "checkpoint": lambda: checkpoints.save(path, model, progress),
        "model": lambda: run_directory.save_model(model, path / "model.keras"),
        "lines": lambda: records.append(path / "lines.jsonl", line),
        "result": lambda: run_directory.write_json(path / "result.json", line),
    }
    for write in writers.values():
        write()
    fill(path, left)
    before, failed = _contents(path), set()
    for name, write in writers.items():
        try:
            write()
        except OSError as error:
            assert "No space left on device" in str(error)
            failed.add(name)
            assert _contents(path) == before
        else:
            before = _contents(path)
    assert ("checkpoint" in failed) == (left < 3 * _MIB), failed
    assert ("result" in failed) == (left < 10**5), failed


def _contents(path):
    return {
        file.name: file.read_bytes()
        for file in path.iterdir()
        if file.name != "filler"
    }


# Where the disc is full all at once, in the order of a run; the bytes left.
_FULL = [
    ("config.json", 0),
    ("checkpoint.npz", 0),
    ("checkpoint.npz", _MIB),
    ("history.csv", 0),
    ("model.keras", 0),
    ("model.keras", _MIB),
    ("result.json", 0),
]


def test_a_run_ends_with_one_line_and_goes_on_once_there_is_room(tmp_path):
    with disc(tmp_path / "disc", 40 * _MIB) as path:
        for file, left in _FULL:
            done = checkpoints.steps_done(path / "run")
            fault = Before("make", file, fill, (path, left))
            status, output = train(path, fault)
            assert status == 1, output
            assert "No space left" in error_of(output)
            assert checkpoints.steps_done(path / "run") >= done
            (path / "filler").unlink()
        status, output = train(path)
        assert status == 0, output
        assert outcome(path / "run") == undisturbed()


def test_a_run_of_an_experiment_does_not_fail_for_a_full_disc(tmp_path):
    flags = (
        "--experiment=figure_3",
        "--dataset=mnist_5k",
        "--steps=30",
        "--seeds=1",
        "--only=scored-on-1-",
        f"--results_dir={tmp_path}",
        f"--runs_dir={tmp_path / 'disc'}",
    )
    lines = tmp_path / "figure_3.jsonl"
    (tmp_path / "cwd").mkdir()
    with disc(tmp_path / "disc", _MIB):
        status, output = run_forked(
            "reproduce.py", *flags, cwd=tmp_path / "cwd"
        )
    assert status == 1, output
    assert "failed: its process ended with status 1, see" in output
    assert not lines.exists()


@pytest.mark.parametrize(
    ("size", "options", "message"),
    [
        (20 * _MIB, ["ro"], "disc/run must be writable .*Read-only"),
        (_MIB, [], "No space left: [0-9,]+ bytes needed, [0-9,]+ free"),
    ],
)
def test_a_disc_that_is_too_small_is_found_out_first(
    size, options, message, tmp_path
):
    with disc(tmp_path / "disc", size, *options) as path:
        (tmp_path / "cwd").mkdir()
        status, output = train(
            tmp_path / "cwd", Before(), f"--run_dir={path / 'run'}"
        )
        assert status == 1, output
        assert os.listdir(path) == []
    assert re.search(message, error_of(output))
