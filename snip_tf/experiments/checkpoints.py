"""Checkpoints: all that a run needs to go on as if it had never stopped.

Batches are a pure function of the seed and the step. So these are the variables
of the model and its optimizer, the step, and what was seen until then.
"""

import dataclasses
import json
import time
import zipfile

import keras
import numpy as np

from snip_tf import _atomic

FILE = "checkpoint.npz"
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
    """Follows a run period by period, and now and then saves its state.

    That is after the first validation more than SECONDS later.

    Args:
        path: The file to save to.
        progress: The `Progress` so far. It is brought up to date.
        settings: The `Settings` of the run.
    """

    def __init__(self, path, progress, settings):
        super().__init__()
        self._path, self._progress, self._settings = path, progress, settings
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
        # Stopped by itself, it has diverged.
        due = now - self._saved >= SECONDS and not self.model.stop_training
        if due and progress.step < self._settings.recipe.steps:
            save(self._path, self.model, progress)
            self._saved = time.perf_counter()
        self._since = time.perf_counter()


def save(path, model, progress):
    """Writes the state of a run to a file, whole or not at all.

    Args:
        path: The file.
        model: The compiled model.
        progress: Its `Progress`.
    """
    state = dataclasses.asdict(progress)
    arrays = {
        "variable": map(keras.ops.convert_to_numpy, _variables(model)),
        "best": state.pop("best"),
    }
    named = {
        f"{name}_{index}": array
        for name, values in arrays.items()
        for index, array in enumerate(values)
    }
    with _atomic.replaced(path) as new:
        np.savez(new, progress=json.dumps(state), **named)


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
    try:
        with np.load(path) as saved:
            for index, variable in enumerate(_variables(model)):
                variable.assign(saved[f"variable_{index}"])
            count = sum(name.startswith("best_") for name in saved.files)
            best = [saved[f"best_{index}"] for index in range(count)]
            return Progress(**json.loads(str(saved["progress"])), best=best)
    except (zipfile.BadZipFile, EOFError, KeyError) as error:
        raise ValueError(
            "The checkpoint must be whole; without it the run begins anew. "
            f"Received: {path} ({type(error).__name__}: {error})"
        ) from error


def steps_done(path):
    """Returns the steps that a checkpoint has behind it, 0 without one."""
    try:
        with np.load(path) as saved:
            return json.loads(str(saved["progress"]))["step"]
    except (OSError, ValueError, zipfile.BadZipFile, EOFError, KeyError):
        return 0


def _variables(model):
    """Returns all variables that a step reads: seeds of dropout too."""
    return [*model.variables, *model.optimizer.variables]
