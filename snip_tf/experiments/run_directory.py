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
import re
import shutil

from snip_tf import _atomic
from snip_tf.experiments import checkpoints, provenance

try:
    import fcntl
except ImportError:  # not a Unix
    fcntl = None

CONFIG, MODEL, RESULT = "config.json", "model.keras", "result.json"

# What tells config.json of a run from other programs' files of that name.
_MARK, _FORMAT = "snip_tf_run", 1
# What a run writes, and what stays of a file if it is killed meanwhile.
_OWN = re.compile(
    r"history\.csv|logs"  # logs of TensorBoard, earlier
    r"|\.?(config\.json|checkpoint\.npz|model\.keras|result\.json)(-.*)?"
)


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
            stopped, or anything that is no run.
    """
    path = pathlib.Path(path)
    names = os.listdir(path) if path.is_dir() else []
    config = _config(path)
    if names and not (config and all(map(_OWN.fullmatch, names))):
        raise FileExistsError(
            "The run directory must be new, empty or hold an earlier run and "
            f"nothing else. Received: {path}"
        )
    if RESULT in names:
        if overwrite:
            return False
        raise FileExistsError(
            f"{path} already holds a finished run: choose another --run_dir, "
            "or pass --overwrite to replace it"
        )
    steps = checkpoints.steps_done(path / checkpoints.FILE)
    if not steps:
        return False
    apart = provenance.differences(identity, config)
    if apart and not overwrite:
        raise FileExistsError(
            f"{path} holds another run, stopped after {steps:,} steps. It "
            f"differs in {', '.join(apart)}. Choose another --run_dir, or pass "
            "--overwrite to replace it"
        )
    return not apart


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
        # The result first: without it no directory is taken as finished. The
        # settings never: without them it is none of a run.
        for name in sorted(os.listdir(path), key=lambda name: name != RESULT):
            if name != CONFIG and (name.startswith(".") or not goes_on):
                _remove(path / name)
        if not goes_on:
            config = {_MARK: _FORMAT, **settings, **identity}
            write_json(path / CONFIG, config)
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
    descriptor = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise BlockingIOError(
            "Runs side by side must have directories of their own (--run_dir, "
            f"--runs_dir). Received: {path}, in use by another process"
        ) from error
    try:
        yield
    finally:
        os.close(descriptor)


def _remove(path):
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()


def read_config(path):
    """Returns what config.json of a run directory holds.

    Raises:
        ValueError: If it is not the directory of a run.
    """
    config = _config(pathlib.Path(path))
    if not config:
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
