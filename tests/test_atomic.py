"""`replaced`: files and directories are written whole or not at all."""

import errno
import os
import pathlib
import signal
import subprocess
import sys

import pytest

from snip_tf import _atomic


def _write(path, kind, text):
    if kind == "directory":
        (path / "inside").mkdir(parents=True)
        path = path / "inside" / "file"
    path.write_text(text)


def _read(path):
    return (path / "inside" / "file" if path.is_dir() else path).read_text()


@pytest.fixture(params=["file", "directory"])
def kind(request):
    return request.param


@pytest.fixture
def path(tmp_path):
    """A path in a directory of its own, where a test sees what is left."""
    return tmp_path / "out.txt"


def test_what_is_written_is_in_place_after_the_block(kind, path):
    with _atomic.replaced(path) as new:
        _write(new, kind, "new")
        assert not path.exists()
    assert _read(path) == "new"
    assert os.listdir(path.parent) == ["out.txt"]


def test_an_earlier_one_is_replaced_and_nothing_of_it_stays(kind, path):
    _write(path, kind, "old")
    if kind == "directory":
        (path / "more").write_text("old")
    with _atomic.replaced(path) as new:
        _write(new, kind, "new")
        assert _read(path) == "old"
    assert _read(path) == "new"
    assert not (path / "more").exists()
    assert os.listdir(path.parent) == ["out.txt"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_leaves_what_was_there(error, kind, path):
    _write(path, kind, "old")
    with pytest.raises(error), _atomic.replaced(path) as new:
        _write(new, kind, "half")
        raise error
    assert _read(path) == "old"
    assert os.listdir(path.parent) == ["out.txt"]


def test_an_error_leaves_nothing_where_nothing_was(kind, path):
    with pytest.raises(ValueError), _atomic.replaced(path) as new:
        _write(new, kind, "half")
        raise ValueError
    assert os.listdir(path.parent) == []


def test_a_last_rename_that_fails_leaves_what_was_there(
    kind, path, monkeypatch
):
    _write(path, kind, "old")

    def failing(self, target):
        if target == path and self.parent.name != "old":
            raise KeyboardInterrupt
        return os.rename(self, target)

    monkeypatch.setattr(pathlib.Path, "rename", failing)
    monkeypatch.setattr(pathlib.Path, "replace", failing)
    with pytest.raises(KeyboardInterrupt), _atomic.replaced(path) as new:
        _write(new, kind, "new")
    assert _read(path) == "old"
    assert os.listdir(path.parent) == ["out.txt"]


def test_a_process_that_is_killed_leaves_what_was_there(kind, path):
    _write(path, kind, "old")
    code = f"""
import importlib.util, os, signal
spec = importlib.util.spec_from_file_location("atomic", {_atomic.__file__!r})
_atomic = importlib.util.module_from_spec(spec)  # without TensorFlow
spec.loader.exec_module(_atomic)
with _atomic.replaced({str(path)!r}) as new:
    if {kind!r} == "directory":
        new.mkdir()
        new = new / "file"
    new.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    ended = subprocess.run([sys.executable, "-c", code], check=False)
    assert ended.returncode == -signal.SIGKILL
    assert _read(path) == "old"
    others = set(os.listdir(path.parent)) - {"out.txt"}
    assert all(name.startswith(".out.txt-") for name in others)


def test_every_file_is_on_the_disk_before_it_is_renamed(
    kind, path, monkeypatch
):
    synced = []

    def fsync(descriptor):
        assert not path.exists()
        synced.append(os.fstat(descriptor).st_ino)

    monkeypatch.setattr(os, "fsync", fsync)
    with _atomic.replaced(path) as new:
        _write(new, kind, "new")
        if kind == "directory":
            (new / "another").write_text("new")
    files = [p for p in (path, *path.rglob("*")) if p.is_file()]
    assert sorted(synced) == sorted(file.stat().st_ino for file in files)


def test_the_path_to_write_at_has_the_same_name(path):
    with _atomic.replaced(path) as new:
        assert new.name == path.name
        new.write_text("")


def test_a_link_is_followed(kind, path, tmp_path):
    target = tmp_path / "target"
    _write(target, kind, "old")
    path.symlink_to(target)
    with _atomic.replaced(path) as new:
        _write(new, kind, "new")
    assert path.is_symlink()
    assert _read(target) == "new"


def test_missing_parents_are_made(tmp_path):
    path = tmp_path / "some" / "where" / "file"
    with _atomic.replaced(path) as new:
        new.write_text("new")
    assert path.read_text() == "new"


def test_files_have_the_permissions_of_any_new_file(kind, path, tmp_path):
    _write(tmp_path / "plain", kind, "")
    with _atomic.replaced(path) as new:
        _write(new, kind, "")
    assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_block_that_writes_nothing_is_an_error(path):
    _write(path, "file", "old")
    with pytest.raises(FileNotFoundError), _atomic.replaced(path):
        pass
    assert _read(path) == "old"


def test_a_directory_never_takes_the_place_of_a_file(path):
    _write(path, "file", "old")
    with pytest.raises(NotADirectoryError), _atomic.replaced(path) as new:
        _write(new, "directory", "new")
    assert _read(path) == "old"
    assert os.listdir(path.parent) == ["out.txt"]


def test_a_file_never_takes_the_place_of_a_directory(path):
    _write(path, "directory", "old")
    with pytest.raises(IsADirectoryError), _atomic.replaced(path) as new:
        _write(new, "file", "new")
    assert _read(path) == "old"
    assert os.listdir(path.parent) == ["out.txt"]


def test_a_place_that_cannot_be_written_is_named(path):
    path.write_text("")
    with pytest.raises(OSError, match="inside must be writable"):
        with _atomic.replaced(path / "inside") as new:
            new.write_text("")
    assert path.read_text() == ""


def test_a_full_disk_leaves_what_was_there(path, monkeypatch):
    _write(path, "file", "old")

    def full(_descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        with _atomic.replaced(path) as new:
            new.write_text("new")
    assert _read(path) == "old"
