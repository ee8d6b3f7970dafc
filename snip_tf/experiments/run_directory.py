"""A directory per run: what was asked for, what came out, the model.

config.json      what tells the run from others, written when it starts
checkpoint.npz   the state of a run that is not done
history.csv      losses and accuracies at each validation
model.keras      the network, written when it is done
result.json      settings, versions, errors, seconds; written last, so that a
                 directory that has it holds a finished run
"""

import contextlib
import json
import os
import pathlib
import shutil

from snip_tf import _atomic
from snip_tf.experiments import checkpoints, provenance

try:
    import fcntl
except ImportError:  # on Windows, where nothing is held
    fcntl = None

CONFIG, MODEL, RESULT = "config.json", "model.keras", "result.json"

# What tells config.json of a run from other programs' files of that name.
_MARK = "snip_tf_run"
# Without the result no directory counts as finished: it is removed first.
_LEFT_BEHIND = (RESULT, MODEL, checkpoints.FILE, checkpoints.HISTORY)


def check(path, identity, *, overwrite=False):
    """Refuses a directory that a run must not write to; changes nothing.

    Args:
        path: The directory; need not exist.
        identity: What `provenance.identity` returned.
        overwrite: Whether another run may be replaced.

    Returns:
        Whether the run goes on that was stopped there.

    Raises:
        FileExistsError: If it holds a finished run, another one that was
            stopped, or anything but a run.
    """
    path = pathlib.Path(path)
    config = _config(path)
    if config is None and path.is_dir() and os.listdir(path):
        raise FileExistsError(
            "The run directory must be new, empty or hold an earlier run. "
            f"Received: {path}"
        )
    if (path / RESULT).exists():
        if overwrite:
            return False
        raise FileExistsError(
            f"{path} already holds a finished run: choose another --run_dir, "
            "or pass --overwrite to replace it"
        )
    steps = checkpoints.steps_done(path / checkpoints.FILE)
    apart = provenance.differences(identity, config) if steps else []
    if apart and not overwrite:
        raise FileExistsError(
            f"{path} holds another run, stopped after {steps:,} steps. It "
            f"differs in {', '.join(apart)}. Choose another --run_dir, or pass "
            "--overwrite to replace it"
        )
    return bool(steps) and not apart


@contextlib.contextmanager
def opened(path, settings, identity, *, overwrite=False):
    """Makes a run directory, ready for a run, and holds it for this process.

    What an earlier run left there is removed, unless it can go on.

    Args:
        path: The directory; its parents are made too.
        settings: The settings, as JSON values.
        identity: See `check`.
        overwrite: See `check`.

    Yields:
        The path of the directory.

    Raises:
        FileExistsError: See `check`.
        BlockingIOError: If another process holds it.
        OSError: If it cannot be written.
    """
    path = pathlib.Path(path)
    with locked(path):
        goes_on = check(path, identity, overwrite=overwrite)
        for name in (CONFIG, *_LEFT_BEHIND):
            for half_written in path.glob(f".{name}-*"):
                shutil.rmtree(half_written)
        if not goes_on:
            for name in _LEFT_BEHIND:
                (path / name).unlink(missing_ok=True)
            write_json(path / CONFIG, {_MARK: 1, **settings, **identity})
        yield path


@contextlib.contextmanager
def locked(path):
    """Makes a directory and holds it for this process.

    Raises:
        BlockingIOError: If another process holds it.
        OSError: If it cannot be made.
    """
    pathlib.Path(path).mkdir(parents=True, exist_ok=True)
    if fcntl is None:
        yield
        return
    with contextlib.ExitStack() as stack:
        descriptor = os.open(path, os.O_RDONLY)
        stack.callback(os.close, descriptor)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BlockingIOError(
                "Runs side by side must have directories of their own "
                f"(--run_dir, --runs_dir). Received: {path}, in use by another "
                "process"
            ) from error
        yield


def read_config(path):
    """Returns what config.json of a run directory holds.

    Raises:
        ValueError: If it is not the directory of a run.
    """
    config = _config(pathlib.Path(path))
    if config is None:
        raise ValueError(
            f"--run_dir must be the directory of a run. Received: {path}"
        )
    return config


def _config(path):
    """Returns what config.json of a run holds, None if it is not of a run."""
    try:
        config = json.loads((path / CONFIG).read_text(encoding="utf-8"))
        return config if _MARK in config else None
    except (OSError, ValueError, TypeError):
        return None


def write_json(path, value):
    """Writes one JSON object, whole or not at all."""
    with _atomic.replaced(path) as new:
        new.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def save_model(model, path):
    """Saves a model as a .keras file, whole or not at all."""
    with _atomic.replaced(path) as new:
        model.save(new)
