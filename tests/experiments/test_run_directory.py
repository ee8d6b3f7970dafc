import importlib.util
import json
import os
import pathlib
import shutil
import subprocess

import pytest

import snip_tf
from snip_tf.experiments import run_directory


@pytest.fixture
def finished(tmp_path):
    """The directory of a finished run."""
    directory = run_directory.create(tmp_path / "run", {"seed": 3})
    run_directory.write_json(directory / "result.json", {"test_error": 1.5})
    (directory / "model.keras").write_text("a model")
    (directory / "logs").mkdir()
    return directory


def test_a_new_directory_is_made_with_its_parents(tmp_path):
    directory = run_directory.create(tmp_path / "a" / "b", {})
    assert os.listdir(directory) == ["config.json"]


def test_a_finished_run_is_never_overwritten_unasked(finished):
    before = sorted(os.listdir(finished))
    with pytest.raises(FileExistsError, match="finished run.*--overwrite"):
        run_directory.create(finished, {})
    assert sorted(os.listdir(finished)) == before


def test_overwrite_clears_a_finished_run(finished):
    run_directory.create(finished, {}, overwrite=True)
    assert os.listdir(finished) == ["config.json"]


def test_an_unfinished_run_is_replaced(finished):
    (finished / "result.json").unlink()
    run_directory.create(finished, {})
    assert os.listdir(finished) == ["config.json"]


@pytest.mark.parametrize("overwrite", [False, True])
def test_other_peoples_files_are_left_alone(overwrite, tmp_path):
    (tmp_path / "thesis.tex").write_text("...")
    with pytest.raises(FileExistsError, match="an earlier run and nothing"):
        run_directory.create(tmp_path, {}, overwrite=overwrite)
    assert os.listdir(tmp_path) == ["thesis.tex"]


def test_another_process_has_to_stay_out(tmp_path):
    pytest.importorskip("fcntl")
    path = tmp_path / "a" / "run"
    with run_directory.held(path):
        with pytest.raises(
            BlockingIOError, match=r"--runs_dir\). .*/a/run, in"
        ):
            with run_directory.held(path):
                pass
    with run_directory.held(path):  # free again
        pass
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="must be writable. Received: .*file/run"):
        with run_directory.held(tmp_path / "file" / "run"):
            pass


def test_a_path_below_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="must be writable. Received: .*file/run"):
        run_directory.create(tmp_path / "file" / "run", {})


def test_a_path_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("text")
    with pytest.raises(OSError, match="must be writable. Received: .*file"):
        run_directory.create(tmp_path / "file", {})
    assert (tmp_path / "file").read_text() == "text"


def test_json_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "result.json"
    run_directory.write_json(path, {"errors": [1.5]})

    def write_half(path, text, **options):
        with open(path, "w") as file:
            file.write(text[: len(text) // 2])
        raise OSError("No space left on device")

    monkeypatch.setattr(pathlib.Path, "write_text", write_half)
    with pytest.raises(OSError, match="No space"):
        run_directory.write_json(path, {"errors": [2.5]})
    assert json.loads(path.read_text()) == {"errors": [1.5]}


def test_a_model_that_cannot_be_saved_leaves_the_old_one(tmp_path, monkeypatch):
    path = tmp_path / "model.keras"
    path.write_text("old")
    model = snip_tf.models.build("lenet_300_100")

    def fail(beside):
        beside.write_text("half")
        raise OSError("No space left on device")

    monkeypatch.setattr(model, "save", fail)
    with pytest.raises(OSError, match="No space"):
        run_directory.save_model(model, path)
    assert path.read_text() == "old"


def test_surroundings_name_versions_and_cores():
    surroundings = run_directory.surroundings()
    assert set(surroundings["versions"]) >= {"tensorflow", "keras", "snip_tf"}
    assert surroundings["cores"] >= 1


@pytest.mark.parametrize("overwrite", [False, True])
def test_another_programs_config_is_no_run(overwrite, tmp_path):
    """As in the directory of another library's model."""
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    (tmp_path / "logs").mkdir()
    with pytest.raises(FileExistsError, match="an earlier run and nothing"):
        run_directory.create(tmp_path, {}, overwrite=overwrite)
    config = (tmp_path / "config.json").read_text()
    assert config == '{"model_type": "bert"}'
    assert (tmp_path / "logs").is_dir()


def test_a_run_with_other_files_beside_it_is_left_alone(finished):
    (finished / "notes.txt").write_text("the best one so far")
    with pytest.raises(FileExistsError, match="an earlier run and nothing"):
        run_directory.create(finished, {}, overwrite=True)
    assert (finished / "result.json").exists()


def test_settings_come_back(finished):
    assert run_directory.read_settings(finished) == {"seed": 3}


def test_other_directories_have_no_settings(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ValueError, match="must be the directory of a run"):
        run_directory.read_settings(tmp_path)


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

    code = tmp_path / "scripts" / "run_directory.py"
    code.parent.mkdir()
    shutil.copy(run_directory.__file__, code)
    (tmp_path / "results").mkdir()
    result = tmp_path / "results" / "lines.jsonl"
    result.write_text("one\n")
    git("init")
    git("add", ".")
    git("commit", "--message=Begin")

    def load():
        spec = importlib.util.spec_from_file_location("another", code)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    clean = git("rev-parse", "--short", "HEAD")
    result.write_text("two\n")
    before = load()
    assert before.surroundings()["commit"] == clean
    code.write_text(code.read_text() + "# changed\n")
    assert load().surroundings()["commit"] == f"{clean}-dirty"
    git("commit", "--all", "--message=Change")
    assert load().surroundings()["commit"] == git(
        "rev-parse", "--short", "HEAD"
    )
    assert before.surroundings()["commit"] == clean


def test_the_code_is_known_by_what_stands_in_it(tmp_path):
    """Of the scripts beside it and the package, committed or not."""

    def code_of(text, demo=""):
        shutil.copy(run_directory.__file__, tmp_path)
        for name in run_directory._COMPUTING:
            (tmp_path / f"{name}.py").write_text(text)
        (tmp_path / "demo.py").write_text(demo)
        spec = importlib.util.spec_from_file_location(
            "another", tmp_path / "run_directory.py"
        )
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module.code()

    assert code_of("momentum = 0.9") == code_of("momentum = 0.9")
    assert code_of("momentum = 0.9") != code_of("momentum = 0.0")
    # What no run computes with does not end one.
    assert code_of("momentum = 0.9") == code_of("momentum = 0.9", "title = 1")


def test_the_backend_is_told_with_its_version():
    assert run_directory.surroundings()["backend"] == "tensorflow"
    assert "jax" not in run_directory.surroundings()["versions"]
    pytest.importorskip("jax")
    jax = run_directory.surroundings("jax")
    assert jax["backend"] == "jax"
    assert jax["versions"]["jax"]


def test_without_git_there_is_no_commit(monkeypatch):
    run_directory._commit.cache_clear()
    monkeypatch.setenv("PATH", "")
    assert run_directory.surroundings()["commit"] is None
