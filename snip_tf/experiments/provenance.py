"""What the numbers of a run depend on besides its settings."""

import dataclasses
import functools
import hashlib
import importlib
import importlib.metadata
import itertools
import json
import pathlib
import platform
import re
import subprocess

import keras
import numpy as np

import snip_tf
from snip_tf import models
from snip_tf.experiments import distributed, mirrored, processes

# Raise it when a change to the code makes a run compute other numbers: runs
# that were stopped before then do not go on.
ARITHMETIC = 1

_PACKAGES = ("tensorflow", "keras", "numpy", "snip_tf")
_CODE = ("snip_tf", "models", "scripts")
# Settings that say where something is: they change no number.
_PLACES = ("data_dir", "pruned_model")


def surroundings(backend=None):
    """Returns what a result depends on besides its settings, as JSON values.

    Args:
        backend: The Keras backend; by default the one in use.
    """
    backend = backend or keras.backend.backend()
    packages = dict.fromkeys((*_PACKAGES, backend))
    count, replicas = distributed.place()[1], mirrored.replicas()
    return {
        "backend": backend,
        "versions": {
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in packages},
        },
        "arithmetic": ARITHMETIC,
        "commit": _commit(),
        "processor": _accelerator(backend) or _processor(),
        "cores": len(processes.usable_cores()),
        # One is not told from runs that were recorded before.
        "replicas": replicas if replicas > 1 else None,
        "processes": count if count > 1 else None,
    }


def identity(settings, model=None, backend=None, data=None):
    """Returns what must be equal for one run to go on with another's weights.

    The commit is not part of it: see ARITHMETIC.

    Args:
        settings: The `Settings`.
        model: The network before the first step, if there is one yet.
        backend: The Keras backend; by default the one in use.
        data: The `data.Data`, if they are loaded yet.

    Returns:
        A dict of JSON values.
    """
    around = surroundings(backend)
    values = dataclasses.asdict(settings) | {
        name: around[name]
        for name in ("backend", "versions", "arithmetic", "replicas")
    }
    for place in _PLACES:
        del values[place]
    if model is not None:
        values["start_weights"] = digest(model.weights)
    if data is not None:
        splits = data.train, data.validation, data.test
        arrays = [(split.images, split.labels) for split in splits]
        values["data"] = digest(itertools.chain(*arrays))
    return json.loads(json.dumps(values))


def digest(arrays):
    """Returns 64 bits of the SHA-256 of arrays one after the other."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.ascontiguousarray(array))
    return digest.hexdigest()[:16]


def differences(here, there):
    """Returns in what two identities differ, a phrase for each value.

    What `here` does not have is not compared.
    """
    found = []
    for name, value in here.items():
        other = there.get(name)
        if isinstance(value, dict) and isinstance(other, dict):
            inner = differences(value, other)
            found += [f"{name}.{phrase}" for phrase in inner]
        elif value != other:
            found.append(f"{name} (there {other}, here {value})")
    return found


def check_same(identity):
    """Raises a ValueError unless all processes of a training have the same.

    No process passes before all have come here.

    Args:
        identity: A dict of JSON values. The code is compared besides.
    """
    if distributed.place()[1] == 1:
        return
    own = identity | {"code": _code()}
    for number, other in enumerate(distributed.from_all(own)):
        if apart := differences(own, other):
            raise ValueError(
                "All processes of a training must have the same code, "
                "settings, data and weights. Received: "
                f"{', '.join(apart)}, there: process {number}"
            )


@functools.cache  # of the code that is running, whatever comes later
def _code():
    """Returns a digest of the source files of the library and its networks."""
    # Installed, the networks are in the library's directory, else beside it.
    files = {
        file
        for package in (snip_tf, models)
        for file in pathlib.Path(package.__file__).parent.rglob("*.py")
    }
    ordered = sorted(files, key=lambda file: file.parts[-2:])
    return digest(np.frombuffer(one.read_bytes(), np.uint8) for one in ordered)


@functools.cache  # of the code that is running, whatever comes later
def _commit():
    """Returns the commit of the code, None if that is not known.

    It ends with "-dirty" if the code was changed since; results do not count.
    """
    root = pathlib.Path(__file__).resolve().parents[2]
    git = ["git", "-C", root]
    ask = functools.partial(subprocess.run, capture_output=True, text=True)
    try:
        top = ask([*git, "rev-parse", "--show-toplevel"]).stdout.strip()
        if pathlib.Path(top) != root:  # installed inside another repository
            return None
        commit = ask([*git, "rev-parse", "--short", "HEAD"]).stdout.strip()
        changes = ask([*git, "diff", "--quiet", "HEAD", "--", *_CODE])
    except OSError:  # no git
        return None
    dirty = "-dirty" if changes.returncode else ""
    return commit + dirty if commit else None


def _accelerator(backend):
    """Returns the name of the first GPU or TPU in use, None without one."""
    if backend != keras.backend.backend():
        return None  # a run that is only planned here
    used = importlib.import_module(backend)
    if backend == "jax":
        device = used.local_devices()[0]
        return None if device.platform == "cpu" else device.device_kind
    if backend == "torch":
        available = used.cuda.is_available()
        return used.cuda.get_device_name() if available else None
    gpus = used.config.list_physical_devices("GPU")
    details = map(used.config.experimental.get_device_details, gpus)
    return next(details, {}).get("device_name")


def _processor():
    """Returns the name of the CPU."""
    file = pathlib.Path("/proc/cpuinfo")
    text = file.read_text() if file.exists() else ""
    name = re.search("model name.*: (.*)", text)
    return name[1] if name else platform.processor()
