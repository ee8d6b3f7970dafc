"""What happens to the directory of a run, and who else is there."""

import os
import re
import shutil

import pytest
from injecting import (
    Before,
    error_of,
    kill,
    outcome,
    start,
    train,
    undisturbed,
    wait_for_file,
)

from snip_tf.experiments import checkpoints

pytestmark = pytest.mark.faults


def test_two_processes_are_told_apart(tmp_path):
    place, other = tmp_path / "one", tmp_path / "other"
    place.mkdir()
    other.mkdir()
    go = tmp_path / "go"
    fault = Before("make", "history.csv", wait_for_file, (go,))
    process, output = start(place, fault, f"--run_dir={place / 'run'}")
    wait_for_file(place / "run" / checkpoints.FILE)
    status, text = train(other, Before(), f"--run_dir={place / 'run'}")
    assert status == 1, text
    assert "Runs side by side must have directories of" in error_of(text)
    go.touch()
    process.join()
    assert process.exitcode == 0, output.read_text()
    assert outcome(place / "run") == undisturbed()


@pytest.mark.parametrize(
    "when", [("step", None), ("make", "history.csv"), ("make", "model.keras")]
)
def test_a_directory_that_is_deleted_is_not_made_anew(when, tmp_path):
    fault = Before(*when, shutil.rmtree, (tmp_path / "run",))
    status, output = train(tmp_path, fault)
    assert status == 1, output
    assert "/run/" in error_of(output)
    assert not os.listdir(tmp_path)


def test_damage_costs_no_more_than_it_has_to(tmp_path):
    """The newest checkpoint, both, what is done; then all is done again."""
    run = tmp_path / "run"
    status, output = train(tmp_path, Before("make", "model.keras", kill))
    assert (status, checkpoints.steps_done(run)) == (-9, 200), output
    cut_in_half(run / checkpoints.FILE)
    status, output = train(tmp_path, Before("make", "model.keras", kill))
    assert status == -9
    assert "after 150 steps: checkpoint.npz is missing or damaged" in output
    config = (run / "config.json").read_text()
    (run / "config.json").write_text("")
    refused(tmp_path, "config.json is damaged")
    (run / "config.json").write_text(config)
    for name in (checkpoints.FILE, checkpoints.EARLIER):
        cut_in_half(run / name)
    refused(tmp_path, "checkpoint.npz is damaged")
    status, output = train(tmp_path, Before(), "--overwrite")
    assert status == 0, output
    assert outcome(run) == undisturbed()
    cut_in_half(run / "result.json")
    refused(tmp_path, "result.json is damaged")


def refused(place, text):
    status, output = train(place)
    assert status == 1, output
    assert re.search(f"{text}.*--overwrite", error_of(output))


def cut_in_half(path):
    os.truncate(path, path.stat().st_size // 2)
