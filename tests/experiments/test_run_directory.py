import contextlib
import hashlib
import os

import keras
import numpy as np
import pytest

import snip_tf
from snip_tf.experiments import run_directory

ME = {"seed": 3, "recipe": {"steps": 30}}


def create(path, identity=ME, **options):
    """Opens and leaves the directory of a run."""
    with run_directory.opened(path, {}, identity, **options) as directory:
        return directory


@pytest.fixture
def finished(tmp_path):
    """The directory of a finished run."""
    directory = create(tmp_path / "run")
    run_directory.write_json(directory / "result.json", {"test_error": 1.5})
    (directory / "model.keras").write_text("a model")
    return directory


@pytest.fixture
def stopped(tmp_path, monkeypatch):
    """The directory of a run that was stopped."""
    directory = create(tmp_path / "run")
    digest = hashlib.sha256(b"its state").digest()
    (directory / "checkpoint.npz").write_bytes(b"its state" + digest)
    (directory / "history.csv").write_text("step")
    monkeypatch.setattr(run_directory.checkpoints, "steps_done", steps_done)
    return directory


def steps_done(directory):
    return 10 if (directory / "checkpoint.npz").exists() else 0


def test_a_new_directory_is_made_with_its_parents(tmp_path):
    directory = create(tmp_path / "a" / "b")
    assert os.listdir(directory) == ["config.json"]


def test_a_finished_run_is_never_overwritten_unasked(finished):
    before = sorted(os.listdir(finished))
    with pytest.raises(FileExistsError, match="finished run.*--overwrite"):
        create(finished)
    assert sorted(os.listdir(finished)) == before


def test_overwrite_clears_a_finished_run(finished):
    create(finished, overwrite=True)
    assert os.listdir(finished) == ["config.json"]


def test_what_was_killed_before_it_had_a_config_is_begun_anew(tmp_path):
    (tmp_path / ".config.json-x1y2").mkdir()
    create(tmp_path)
    assert os.listdir(tmp_path) == ["config.json"]


def test_an_unfinished_run_is_replaced(finished):
    (finished / "result.json").unlink()
    (finished / ".model.keras-x1y2").mkdir()  # killed while it was written
    create(finished)
    assert os.listdir(finished) == ["config.json"]


@pytest.mark.parametrize("overwrite", [False, True])
def test_the_same_run_goes_on(overwrite, stopped):
    before = sorted(os.listdir(stopped))
    (stopped / ".checkpoint.npz-x1y2").mkdir()  # killed while it was written
    assert run_directory.check(stopped, ME, overwrite=overwrite)
    create(stopped, ME, overwrite=overwrite)
    assert sorted(os.listdir(stopped)) == before


def test_another_run_replaces_one_that_was_stopped_only_if_asked_to(stopped):
    other = {**ME, "recipe": {"steps": 40}}
    message = r"stopped after 10 .*recipe.steps \(there 30, here 40\)"
    with pytest.raises(FileExistsError, match=message):
        create(stopped, other)
    assert (stopped / "checkpoint.npz").exists()
    create(stopped, other, overwrite=True)
    assert os.listdir(stopped) == ["config.json"]
    assert run_directory.read_config(stopped)["recipe"] == {"steps": 40}


@pytest.mark.parametrize("overwrite", [False, True])
def test_other_peoples_files_are_left_alone(overwrite, tmp_path):
    (tmp_path / "thesis.tex").write_text("...")
    with pytest.raises(FileExistsError, match="an earlier run. Received"):
        create(tmp_path, overwrite=overwrite)
    assert os.listdir(tmp_path) == ["thesis.tex"]


def test_another_process_has_to_stay_out(tmp_path):
    pytest.importorskip("fcntl")
    path = tmp_path / "a" / "run"
    with run_directory.locked(path):
        with pytest.raises(
            BlockingIOError, match=r"--runs_dir\). .*/a/run, in"
        ):
            with run_directory.locked(path):
                pass
    with contextlib.suppress(InterruptedError), run_directory.locked(path):
        raise InterruptedError
    with run_directory.locked(path):  # free again
        pass


@pytest.mark.parametrize("name", ["file", "file/run"])
def test_a_path_that_is_or_goes_through_a_file_is_refused(name, tmp_path):
    (tmp_path / "file").write_text("text")
    with pytest.raises(OSError, match=f"{name}"):
        create(tmp_path / name)
    assert (tmp_path / "file").read_text() == "text"


def test_a_model_that_cannot_be_saved_leaves_the_old_one(tmp_path, monkeypatch):
    path = tmp_path / "model.keras"
    path.write_text("old")
    model = snip_tf.models.build("lenet_300_100")

    def full(_descriptor):
        raise OSError("No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        run_directory.save_model(model, path)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["model.keras"]


def test_a_saved_model_is_what_keras_saves(tmp_path):
    model = snip_tf.models.build("lenet_300_100")
    run_directory.save_model(model, tmp_path / "model.keras")
    saved = keras.models.load_model(tmp_path / "model.keras")
    for one, other in zip(
        saved.get_weights(), model.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("place", "needed", "message"),
    [
        ("file/run", 0, "run must be writable .*Not a directory"),
        ("/proc/1/run", 0, "run must be writable"),
        ("new/run", 2**60, "No space left: 1,152,921,504,606,846,976 bytes ne"),
    ],
)
def test_a_place_where_no_run_can_be_is_found_out(
    place, needed, message, tmp_path
):
    (tmp_path / "file").write_text("")
    run_directory.check_place(tmp_path / "new" / "run", 1_000)
    with pytest.raises(OSError, match=message):
        run_directory.check_place(tmp_path / place, needed)
    assert os.listdir(tmp_path) == ["file"]


def test_the_result_of_the_same_run_is_found(finished):
    assert run_directory.finished(finished, ME) == {"test_error": 1.5}
    assert run_directory.finished(finished, {**ME, "seed": 4}) is None
    assert run_directory.finished(finished.parent, ME) is None
    (finished / "result.json").write_text("")
    assert run_directory.finished(finished, ME) is None
    with pytest.raises(FileExistsError, match="result.json is damaged.*--over"):
        create(finished)


@pytest.mark.parametrize("text", ["", '{"snip_tf_run": 1, "se', "\0\0"])
def test_a_damaged_config_beside_a_checkpoint_is_told(text, stopped):
    (stopped / "config.json").write_text(text)
    before = sorted(os.listdir(stopped))
    with pytest.raises(FileExistsError, match="config.json is damaged: --ov"):
        create(stopped)
    assert sorted(os.listdir(stopped)) == before
    create(stopped, overwrite=True)
    assert os.listdir(stopped) == ["config.json"]


def test_checkpoints_that_are_damaged_are_replaced_only_if_asked_to(
    stopped, monkeypatch
):
    monkeypatch.undo()
    (stopped / "checkpoint.npz").write_bytes(b"its")
    with pytest.raises(ValueError, match="checkpoint.npz is damaged"):
        create(stopped)
    assert (stopped / "checkpoint.npz").exists()
    create(stopped, overwrite=True)
    assert os.listdir(stopped) == ["config.json"]


def test_another_run_goes_on_if_asked_to_and_what_differs_is_noted(stopped):
    for steps in (40, 50):
        other = {**ME, "recipe": {"steps": steps}}
        assert run_directory.check(stopped, other, resume_anyway=True)
        create(stopped, other, resume_anyway=True)
        create(stopped, other)  # and is the same run from then on
    config = run_directory.read_config(stopped)
    assert config["recipe"] == {"steps": 50}
    assert config["resumed_anyway"] == [
        "recipe.steps (there 30, here 40)",
        "recipe.steps (there 40, here 50)",
    ]


@pytest.mark.parametrize("overwrite", [False, True])
def test_another_programs_config_is_no_run(overwrite, tmp_path):
    """As in the directory of another library's model."""
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    (tmp_path / "logs").mkdir()
    (tmp_path / "checkpoint.npz").write_text("of theirs")
    with pytest.raises(FileExistsError, match="an earlier run. Received"):
        create(tmp_path, overwrite=overwrite)
    config = (tmp_path / "config.json").read_text()
    assert config == '{"model_type": "bert"}'
    assert (tmp_path / "logs").is_dir()


def test_other_files_beside_a_run_stay(finished):
    (finished / "notes.txt").write_text("the best one so far")
    create(finished, overwrite=True)
    assert sorted(os.listdir(finished)) == ["config.json", "notes.txt"]


def test_other_directories_have_no_settings(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ValueError, match="must be the directory of a run"):
        run_directory.read_config(tmp_path)
