"""A directory per run: what was asked for, what came out, the model.

config.json      what tells the run from others, written when it starts
checkpoint.npz   the state of a run that is not done; checkpoint-before.npz is
                 the one before
history.csv      losses and accuracies at each validation
model.keras      the network, written when it is done
result.json      settings, versions, errors, seconds; written last, so that a
                 directory that has it holds a finished run
"""

import contextlib
import errno
import json
import os
import pathlib
import shutil
import tempfile

from snip_tf import _atomic, _keras
from snip_tf.experiments import checkpoints, distributed, provenance

try:
    import fcntl
except ImportError:  # on Windows, where nothing is held
    fcntl = None

CONFIG, MODEL, RESULT = "config.json", "model.keras", "result.json"
ANYWAY = "resumed_anyway"  # in both, where a run went on as another: why not

# What tells config.json of a run from other programs' files of that name.
_MARK = "snip_tf_run"
# Without the result no directory counts as finished: it is removed first.
_CHECKPOINTS = (checkpoints.FILE, checkpoints.EARLIER)
_LEFT_BEHIND = (RESULT, MODEL, *_CHECKPOINTS, checkpoints.HISTORY)


def finished(path, identity):
    """Returns the result of the same run, None if it is not done."""
    path = pathlib.Path(path)
    config, result = _config(path), _json(path / RESULT)
    same = config and not provenance.differences(identity, config)
    return result if same else None


def check(path, identity, *, overwrite=False, resume_anyway=False):
    """Refuses a directory that a run must not write to; changes nothing.

    Args:
        path: The directory; need not exist.
        identity: What `provenance.identity` returned.
        overwrite: Whether another run may be replaced.
        resume_anyway: Whether another one that was stopped goes on as this.

    Returns:
        Whether the run goes on that was stopped there.

    Raises:
        FileExistsError: If it holds a finished run, another one that was
            stopped, or anything but a run.
        ValueError: If what is to go on is damaged.
    """
    path = pathlib.Path(path)
    config = _config(path)
    begun = [p for p in path.glob("*") if f".{CONFIG}-" not in p.name]
    if config is None and begun:
        # Of another program's files none is so.
        ours = any(checkpoints.is_whole(path / name) for name in _CHECKPOINTS)
        if ours and overwrite:
            return False
        damage = f"{path / CONFIG} is damaged: --overwrite begins anew. "
        raise FileExistsError(
            f"{damage if ours else ''}The run directory must be new, empty or "
            f"hold an earlier run. Received: {path}"
        )
    apart = provenance.differences(identity, config or identity)
    differs = f"It differs in {', '.join(apart)}." if apart else "It is this."
    if (path / RESULT).exists():
        if overwrite:
            return False
        if _json(path / RESULT) is None:
            differs = f"Its {RESULT} is damaged."
        raise FileExistsError(
            f"{path} already holds a finished run. {differs} Choose another "
            "--run_dir, or pass --overwrite to replace it"
        )
    try:
        steps = checkpoints.steps_done(path)
    except ValueError:
        if overwrite:
            return False
        raise
    if steps and apart and not (overwrite or resume_anyway):
        raise FileExistsError(
            f"{path} holds another run, stopped after {steps:,} steps. "
            f"{differs} Choose another --run_dir, or pass --overwrite to "
            "replace it, --resume_anyway to go on with it"
        )
    return bool(steps) and (resume_anyway or not apart)


def check_place(path, needed=0):
    """Raises an OSError if a path is not writable, or lacks so many bytes."""
    path = pathlib.Path(path).absolute()
    existing = next(p for p in (path, *path.parents) if p.exists())
    try:
        tempfile.TemporaryFile(dir=existing).close()
    except OSError as error:
        raise type(error)(f"{path} must be writable ({error})") from error
    free = shutil.disk_usage(existing).free
    free += sum(file.stat().st_size for file in path.glob("*.*"))
    if free < needed:
        text = f"No space left: {needed:,} bytes needed, {free:,} free"
        raise OSError(errno.ENOSPC, text, os.fspath(path))


@contextlib.contextmanager
def opened(path, settings, identity, *, overwrite=False, resume_anyway=False):
    """Makes a run directory, ready for a run, and holds it for this process.

    What an earlier run left there is removed, unless it can go on. Of several
    processes of a run the first has it, and others get copies of checkpoints
    in a directory of their own, which goes with them.

    Args:
        path: The directory; its parents are made too.
        settings: The settings, as JSON values.
        identity: See `check`.
        overwrite: See `check`.
        resume_anyway: See `check`. What differs is noted in config.json.

    Yields:
        The path of the directory.

    Raises:
        FileExistsError: See `check`.
        BlockingIOError: If another process holds it.
        OSError: If it cannot be written.
    """
    path = pathlib.Path(path)
    if distributed.place()[0]:
        with tempfile.TemporaryDirectory() as own:
            distributed.wait_for_all(CONFIG)
            if not (path / CONFIG).exists():
                raise ValueError(
                    "--run_dir must be on a disc that all processes see. "
                    f"Received: {path}, which is process 0's alone"
                )
            for name in (CONFIG, *_CHECKPOINTS):
                if (path / name).exists():
                    shutil.copy(path / name, own)
            yield pathlib.Path(own)
        return
    with locked(path):
        goes_on = check(
            path, identity, overwrite=overwrite, resume_anyway=resume_anyway
        )
        for name in (CONFIG, *_LEFT_BEHIND):
            for half_written in path.glob(f".{name}-*"):
                shutil.rmtree(half_written)
        config = {_MARK: 1, **settings, **identity}
        there = _config(path) if goes_on else {}
        if not goes_on:
            for name in _LEFT_BEHIND:
                (path / name).unlink(missing_ok=True)
            write_json(path / CONFIG, config)
        elif apart := provenance.differences(identity, there):
            config[ANYWAY] = [*there.get(ANYWAY, []), *apart]
            write_json(path / CONFIG, config)
        distributed.wait_for_all(CONFIG)
        try:
            yield path
        except ValueError:  # it cannot go on as this
            if goes_on:
                write_json(path / CONFIG, there)
            raise


@contextlib.contextmanager
def locked(path, *, wait=False):
    """Makes a directory and holds it for this process.

    Raises:
        BlockingIOError: If another process holds it and this one cannot wait.
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
            at_once = 0 if wait else fcntl.LOCK_NB
            fcntl.flock(descriptor, fcntl.LOCK_EX | at_once)
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
    config = _json(path / CONFIG)
    return config if isinstance(config, dict) and _MARK in config else None


def _json(path):
    """Returns what a file of JSON holds, None if it is missing or damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def write_json(path, value):
    """Writes one JSON object, whole or not at all."""
    with _atomic.replaced(path, make_parents=False) as new:
        new.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def save_model(model, path):
    """Saves a model as a .keras file, whole or not at all."""
    with _atomic.replaced(path, make_parents=False) as new:
        new.write_bytes(_keras.as_file(model))
