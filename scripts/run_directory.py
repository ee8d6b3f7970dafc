"""A directory per run: what was asked for, what came out, the model.

config.json   all settings, written when the run starts
model.keras   the network, written when it is done
result.json   settings, versions, errors, seconds; written last, so that a
              directory that has it holds a finished run
logs/         TensorBoard
"""

import importlib.metadata
import json
import os
import pathlib
import platform
import shutil
import subprocess

_PACKAGES = ("tensorflow", "keras", "numpy", "snip_tf")


def create(path, *, overwrite=False):
    """Returns an empty run directory.

    What an unfinished run left there is removed; a finished run only if told.

    Args:
        path: The directory; its parents are created too.
        overwrite: Whether a finished run may be replaced.

    Raises:
        FileExistsError: If it holds a finished run or anything that is no
            run.
        OSError: If it cannot be written.
    """
    path = pathlib.Path(path)
    if path.is_dir() and any(path.iterdir()):
        if not (path / "config.json").is_file():
            raise FileExistsError(
                "The run directory must be new, empty or hold an earlier run. "
                f"Received: {path}, which holds other files"
            )
        if (path / "result.json").exists() and not overwrite:
            raise FileExistsError(
                f"{path} already holds a finished run: choose another "
                "--run_dir, or pass --overwrite to replace it"
            )
        for name in ("result.json", "config.json", "model.keras"):
            (path / name).unlink(missing_ok=True)
        shutil.rmtree(path / "logs", ignore_errors=True)
    try:
        path.mkdir(parents=True, exist_ok=True)
        write_json(path / "config.json", {})
    except OSError as error:
        raise type(error)(
            f"The run directory must be writable. Received: {path} ({error})"
        ) from error
    return path


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


def surroundings():
    """Returns what a result depends on besides its settings."""
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        cwd=pathlib.Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    return {
        "versions": {
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in _PACKAGES},
        },
        "commit": commit.stdout.strip() or None,
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
    }


def _processor():
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.split(":")[1] for line in lines if "model name" in line]
    return names[0].strip() if names else platform.processor()
