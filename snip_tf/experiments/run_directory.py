"""A directory per run: what was asked for, what came out, the model.

config.json   all settings, written when the run starts
checkpoint/   the state of a run that is not done
model.keras   the network, written when it is done
result.json   settings, versions, errors, seconds; written last, so that a
              directory that has it holds a finished run
logs/         TensorBoard
"""

import contextlib
import functools
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import pathlib
import platform
import shutil
import subprocess

import keras

from snip_tf.experiments import checkpoints

try:
    import fcntl
except ImportError:  # not a Unix
    fcntl = None

# What tells config.json of a run from other programs' files of that name.
_MARK, _FORMAT = "snip_tf_run", 1
_DIRECTORIES = {checkpoints.DIRECTORY, "logs"}
_FILES = {
    checkpoints.BEST,
    "config.json",
    "config.json.part",
    "model.keras",
    "part-model.keras",
    "result.json",
    "result.json.part",
}
_CODE = ("snip_tf", "models", "scripts")
# The scripts that a run computes with.
_COMPUTING = ("checkpoints", "fitting", "runs", "worker")
_PACKAGES = ("tensorflow", "keras", "numpy", "snip_tf")


def check(path, *, overwrite=False, resume=False):
    """Refuses a directory that a run must not write to; changes nothing.

    Args:
        path: The directory.
        overwrite: Whether another run may be replaced.
        resume: Whether the run that was stopped there is to go on.

    Raises:
        FileExistsError: If it holds a finished run, another one that was
            stopped, or anything that is no run.
    """
    path = pathlib.Path(path)
    names = {entry.name for entry in path.iterdir()} if path.is_dir() else set()
    if names and not (names <= _FILES | _DIRECTORIES and _is_run(path)):
        raise FileExistsError(
            "The run directory must be new, empty or hold an earlier run and "
            f"nothing else. Received: {path}"
        )
    if "result.json" in names and not overwrite:
        raise FileExistsError(
            f"{path} already holds a finished run: choose another --run_dir, "
            "or pass --overwrite to replace it"
        )
    if checkpoints.steps_done(path) and not (overwrite or resume):
        raise FileExistsError(
            f"{path} holds another run, which was stopped: one of other "
            "settings or by other code. Choose another --run_dir, or pass "
            "--overwrite to replace it"
        )


def create(path, settings, *, overwrite=False, resume=False):
    """Makes a run directory that holds the settings and nothing else.

    What an earlier run left there is removed, unless it can go on.

    Args:
        path: The directory; its parents are made too.
        settings: What config.json is to hold, as JSON values.
        overwrite: See `check`.
        resume: See `check`.

    Returns:
        The path of the directory.

    Raises:
        FileExistsError: See `check`.
        OSError: If it cannot be written.
    """
    path = pathlib.Path(path)
    check(path, overwrite=overwrite, resume=resume)
    if resume and not (path / "result.json").exists():
        return path
    with _writing(path):
        path.mkdir(parents=True, exist_ok=True)
        # The result first: without it no directory is taken as finished. The
        # settings never: without them it is none of a run.
        for name in sorted(_FILES - {"config.json"}, reverse=True):
            (path / name).unlink(missing_ok=True)
        checkpoints.remove(path)
        shutil.rmtree(path / "logs", ignore_errors=True)
        write_json(path / "config.json", {_MARK: _FORMAT, **settings})
    return path


@contextlib.contextmanager
def _writing(path):
    try:
        yield
    except OSError as error:
        raise type(error)(
            f"The run directory must be writable. Received: {path} ({error})"
        ) from error


@contextlib.contextmanager
def held(path):
    """Makes a directory and holds it for this process.

    Raises:
        BlockingIOError: If another process holds it.
        OSError: If it cannot be made.
    """
    path = pathlib.Path(path)
    with _writing(path):
        path.mkdir(parents=True, exist_ok=True)
    if fcntl is None:
        yield
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BlockingIOError(
                "Runs side by side must have directories of their own "
                "(--run_dir, --runs_dir). Received: "
                f"{path}, in use by another process"
            ) from error
        yield
    finally:
        os.close(descriptor)


def read_settings(path):
    """Returns what config.json of a run directory holds.

    Raises:
        ValueError: If it is not the directory of a run.
    """
    path = pathlib.Path(path)
    if not _is_run(path):
        raise ValueError(
            f"--run_dir must be the directory of a run. Received: {path}"
        )
    settings = json.loads((path / "config.json").read_text(encoding="utf-8"))
    del settings[_MARK]
    return settings


def _is_run(path):
    try:
        text = (path / "config.json").read_text(encoding="utf-8")
        return _MARK in json.loads(text)
    except (OSError, ValueError, TypeError):
        return False


def write_json(path, value):
    """Writes one JSON object, whole or not at all."""
    beside = path.with_name(path.name + ".part")
    beside.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
    os.replace(beside, path)


def save_model(model, path):
    """Saves a model as a .keras file, whole or not at all."""
    path = pathlib.Path(path)
    beside = path.with_name("part-" + path.name)
    model.save(beside)
    os.replace(beside, path)


def surroundings(backend=None):
    """Returns what a result depends on besides its settings.

    Args:
        backend: The Keras backend; by default the one in use.
    """
    backend = backend or keras.backend.backend()
    packages = [*_PACKAGES, *(["jax"] if backend == "jax" else [])]
    return {
        "backend": backend,
        "versions": {
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in packages},
        },
        "commit": _commit(),
        "processor": _processor(),
        "cores": _cores(),
    }


@functools.cache  # that of the code that is running, whatever comes later
def code():
    """Returns a hash of the code that runs compute with, committed or not."""
    scripts = pathlib.Path(__file__).parent
    paths = [scripts / f"{name}.py" for name in _COMPUTING]
    for package in ("snip_tf", "snip_tf.models"):
        spec = importlib.util.find_spec(package)
        for place in spec.submodule_search_locations:
            paths += sorted(pathlib.Path(place).glob("*.py"))
    hashed = hashlib.sha256()
    for path in paths:
        hashed.update(hashlib.sha256(path.read_bytes()).digest())
    return hashed.hexdigest()


@functools.cache  # the same
def _commit():
    """Returns the commit of the code, None if that is not known.

    It ends with "-dirty" if the code was changed since; results do not count.
    """
    commit, changes = (
        _git("rev-parse", "--short", "HEAD"),
        _git("status", "--porcelain", "--untracked-files=no", "--", *_CODE),
    )
    if commit and changes:
        commit += "-dirty"
    return commit or None


def _git(*arguments):
    """Returns what git says of the repository of the scripts."""
    try:
        process = subprocess.run(
            ["git", *arguments],
            cwd=pathlib.Path(__file__).parents[2],
            capture_output=True,
            text=True,
            check=False,
        )
    except OSError:  # no git
        return ""
    return process.stdout.strip()


def _cores():
    """Returns the number of cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count()


def _processor():
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.split(":")[1] for line in lines if "model name" in line]
    return names[0].strip() if names else platform.processor()
