"""Files and directories that are written whole or not at all."""

import contextlib
import os
import pathlib
import shutil
import tempfile


@contextlib.contextmanager
def replaced(path, *, keep=None, make_parents=True):
    """Gives a path to write at, and puts what is there in place at the end.

    An error inside of the block leaves what was at `path` before. So does a
    process that is killed, but for a hidden directory beside; one killed
    between the two renames of a directory leaves the earlier one in there.

    Args:
        path: The file or directory to write. A link is followed: what it leads
            to is replaced.
        keep: Where the file goes that was at `path`; by default it is lost.
        make_parents: Whether missing parents are made.

    Yields:
        A path of the same name on the same file system, where nothing is yet:
        write a file there, or make a directory.

    Raises:
        OSError: If nothing can be written beside `path`, or nothing was.
    """
    path = pathlib.Path(path).resolve()
    try:
        if make_parents:
            path.parent.mkdir(parents=True, exist_ok=True)
        beside = tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent)
    except OSError as error:
        raise type(error)(f"{path} must be writable ({error})") from error
    new = pathlib.Path(beside) / path.name
    old = pathlib.Path(beside) / "old" / path.name
    try:
        yield new
        _sync(new)  # before it may be read-only
        if path.exists():
            shutil.copymode(path, new)
        if not (path.is_dir() and new.is_dir()):
            if keep and path.exists():
                path.replace(keep)
            new.replace(path)
            return
        # No directory can be renamed onto one that holds anything.
        old.parent.mkdir()
        path.rename(old)
        try:
            new.rename(path)
        except BaseException:
            old.rename(path)
            raise
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _sync(path):
    """Waits until a file, or each file of a directory, is on the disk.

    A rename may reach it before the bytes of what was renamed.
    """
    inside = [p for p in path.rglob("*") if p.is_file()]
    for file in inside if path.is_dir() else [path]:
        with open(file, "r+b") as opened:
            os.fsync(opened.fileno())
