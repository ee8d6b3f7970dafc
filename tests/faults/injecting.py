"""Runs that something happens to, at the operation on a file that a test names.

Python tells its audit hooks of each operation on a file before it does it. So
nothing of the library is replaced.
"""

import contextlib
import dataclasses
import functools
import json
import os
import pathlib
import resource
import signal
import subprocess
import sys
import tempfile
import time

import keras
import numpy as np
import pytest
from conftest import run_forked, start_forked

from snip_tf.experiments import checkpoints

# Checkpoints after 50, 100, 150 and 200 steps, two of them inside of a period.
FLAGS = (
    "--model=lenet_300_100",
    "--dataset=mnist_5k",
    "--sparsity=0.95",
    "--steps=200",
    "--validate_every=100",
)


@dataclasses.dataclass(frozen=True)
class Before:
    """What a process does before it runs a script.

    Attributes:
        operation: The operation before which it acts, of `_operation`; or
            "step", when Keras next looks at its callbacks; None for never.
        file: The name of the file of the operation.
        act: What it then does, once: a function, with the arguments.
        arguments: See `act`.
        seconds: Between two checkpoints.
    """

    operation: str | None = None
    file: str | None = None
    act: object = None
    arguments: tuple = ()
    seconds: float = 0

    def __call__(self):
        # Sums are exact to the bit on one core.
        cores = sorted(os.sched_getaffinity(0))
        worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:])
        os.sched_setaffinity(0, [cores[worker % len(cores)]])
        checkpoints.SECONDS = self.seconds
        pending = [self]

        def happen(*found):
            if self.act and pending and found == (self.operation, self.file):
                pending.pop()
                self.act(*self.arguments)

        class Looking(checkpoints.Checkpoints):
            def on_train_batch_end(self, batch, logs=None):
                happen("step", None)
                super().on_train_batch_end(batch, logs)

        checkpoints.Checkpoints = Looking
        sys.addaudithook(lambda event, args: happen(*_operation(event, args)))


def _operation(event, args):
    """Returns what an audit event does to which file of a run directory."""
    path = next((a for a in args if isinstance(a, str | os.PathLike)), "")
    path = pathlib.Path(path)
    beside = path.name.startswith(".") and path.name[1:].rpartition("-")[0]
    match event, *args:
        case "os.mkdir", *_ if beside:
            return "make", beside
        case "shutil.rmtree", *_ if beside:
            return "clear", beside
        case "open", _, str(mode), _ if path.parent.name[:1] == ".":
            kind = {"r+": "sync", "a": "digest"}.get(mode, "open")
            return kind, path.name
        case "os.rename", _, target, *_:
            return "rename", pathlib.Path(target).name
        case "os.remove", *_:
            return "remove", path.name
    return None, None


def kill():
    os.kill(os.getpid(), signal.SIGKILL)


def die_after(size):
    """Has the process die as soon as a file is longer: in the midst of it."""
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def fill(directory, left):
    """Leaves so many bytes of a disc."""
    found = os.statvfs(directory)
    size = found.f_bavail * found.f_bsize - left
    (directory / "filler").write_bytes(bytes(max(size, 0)))


def wait_for(condition):
    deadline = time.monotonic() + 180
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.05)


def wait_for_file(path):
    wait_for(path.exists)


def train(cwd, before=Before(seconds=1e9), *flags):
    """Returns exit status and output of a run in the directory "run"."""
    return run_forked(
        "train.py", *FLAGS, "--run_dir=run", *flags, cwd=cwd, before=before
    )


def start(cwd, before, *flags):
    """Returns the process of such a run, and the file of its output."""
    return start_forked("train.py", *FLAGS, *flags, cwd=cwd, before=before)


def error_of(output):
    """Returns the one line of an error, which is all that is said of it."""
    assert "Traceback" not in output, output
    lines = [x for x in output.splitlines() if x.startswith("error: ")]
    assert len(lines) == 1, output
    return lines[0]


def outcome(directory):
    """Returns what a finished run came to, but seconds and the commit."""
    result = json.loads((directory / "result.json").read_text())
    model = keras.models.load_model(directory / "model.keras", compile=False)
    return {
        "history": (directory / "history.csv").read_text(),
        "weights": [np.asarray(w).tobytes() for w in model.weights],
        **{k: v for k, v in result.items() if "seconds" not in k},
        "commit": None,
    }


@functools.cache
def undisturbed():
    """Returns the outcome of a run that nothing happened to."""
    with tempfile.TemporaryDirectory() as place:
        status, output = train(pathlib.Path(place))
        assert status == 0, output
        return outcome(pathlib.Path(place) / "run")


@contextlib.contextmanager
def disc(path, size, *options):
    """Mounts a disc of so many bytes at a new path."""
    path.mkdir()
    options = ",".join((f"size={size}", *options))
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", path]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"cannot mount a disc: {error}")
    try:
        yield path
    finally:
        subprocess.run(["umount", path], check=True)
