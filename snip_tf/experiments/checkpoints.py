"""Checkpoints: all that a run needs to go on as if it had never stopped.

Batches are a pure function of the seed and the step. So these are the variables
of the model and its optimizer, the step, and what was seen until then.
"""

import contextlib
import csv
import dataclasses
import json
import time
import zipfile

import keras
import numpy as np

from snip_tf import _atomic

FILE, HISTORY = "checkpoint.npz", "history.csv"
SECONDS = 300  # at least, between two checkpoints


@dataclasses.dataclass
class Progress:
    """How far a run has come.

    Attributes:
        step: The steps that are trained.
        seconds: The time they took.
        history: What Keras reported of each period, as lists by name.
        best: The weights of the first best validation, as arrays.
    """

    step: int = 0
    seconds: float = 0.0
    history: dict = dataclasses.field(default_factory=dict)
    best: list = dataclasses.field(default_factory=list)


class Checkpoints(keras.callbacks.Callback):
    """Writes what each period brought, and now and then saves the state.

    That is after the first validation more than SECONDS later.

    Args:
        directory: Where HISTORY and FILE go.
        progress: The `Progress` so far. It is brought up to date.
        settings: The `Settings` of the run.
    """

    def __init__(self, directory, progress, settings):
        super().__init__()
        self._directory, self._settings = directory, settings
        self._progress = progress
        self._since = self._saved = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        """Ends a period."""
        now, progress = time.perf_counter(), self._progress
        progress.step += self._settings.validate_every
        progress.seconds += now - self._since
        earlier = progress.history.get("val_accuracy", [])
        if all(logs["val_accuracy"] > accuracy for accuracy in earlier):
            progress.best = self.model.get_weights()
        for name, value in logs.items():
            progress.history.setdefault(name, []).append(float(value))
        self._write_history()
        # Stopped by itself, it has diverged.
        due = now - self._saved >= SECONDS and not self.model.stop_training
        if due and progress.step < self._settings.recipe.steps:
            save(self._directory / FILE, self.model, progress)
            self._saved = time.perf_counter()
        self._since = time.perf_counter()

    def _write_history(self):
        """Writes all periods: those after a checkpoint may come again."""
        names, values = zip(*self._progress.history.items(), strict=True)
        rows = [
            ((number + 1) * self._settings.validate_every, *row)
            for number, row in enumerate(zip(*values, strict=True))
        ]
        with open(self._directory / HISTORY, "w", newline="") as file:
            csv.writer(file).writerows([("step", *names), *rows])


def save(path, model, progress):
    """Writes the state of a run to a file, whole or not at all.

    Args:
        path: The file.
        model: The compiled model.
        progress: Its `Progress`.
    """
    arrays = {
        f"variable_{index}": keras.ops.convert_to_numpy(variable)
        for index, variable in enumerate(_variables(model))
    }
    arrays |= {f"best_{i}": weight for i, weight in enumerate(progress.best)}
    state = {
        name: getattr(progress, name) for name in ("step", "seconds", "history")
    }
    with _atomic.replaced(path) as new:
        np.savez(new, progress=json.dumps(state), **arrays)


def restore(path, model):
    """Gives a compiled model the state that `save` wrote.

    Args:
        path: The file; need not exist.
        model: The model as it was before the first step.

    Returns:
        The `Progress`: of no steps if there is no such file.

    Raises:
        ValueError: If the file is damaged.
    """
    if not path.exists():
        return Progress()
    model.optimizer.build(model.trainable_variables)
    with _read(path) as saved:
        for index, variable in enumerate(_variables(model)):
            variable.assign(saved[f"variable_{index}"])
        count = sum(name.startswith("best_") for name in saved.files)
        best = [saved[f"best_{index}"] for index in range(count)]
        return Progress(**json.loads(str(saved["progress"])), best=best)


def steps_done(path):
    """Returns the steps that a checkpoint has behind it, 0 without one."""
    try:
        with _read(path) as saved:
            return json.loads(str(saved["progress"]))["step"]
    except (OSError, ValueError):
        return 0


@contextlib.contextmanager
def _read(path):
    """Opens a checkpoint; refuses one that is damaged."""
    try:
        with open(path, "rb") as file, np.load(file) as saved:
            yield saved
    except (zipfile.BadZipFile, EOFError, KeyError, ValueError) as error:
        raise ValueError(
            "The checkpoint must be whole; without it the run begins anew. "
            f"Received: {path} ({type(error).__name__}: {error})"
        ) from error


def _variables(model):
    """Returns all variables that a step reads: seeds of dropout too."""
    return [*model.variables, *model.optimizer.variables]
