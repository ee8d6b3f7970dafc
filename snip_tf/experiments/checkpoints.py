"""Checkpoints: all that a run needs to go on as if it had never stopped.

Batches are a pure function of the seed and the step. So these are the variables
of the model and its optimizer, the step, and what was seen until then.
"""

import csv
import dataclasses
import json
import time

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
    """

    step: int = 0
    seconds: float = 0.0
    history: dict = dataclasses.field(default_factory=dict)


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
        period, history = self._settings.validate_every, self._progress.history
        steps = range(period, self._progress.step + 1, period)
        with open(self._directory / HISTORY, "w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(("step", *history))
            writer.writerows(zip(steps, *history.values(), strict=True))


def save(path, model, progress):
    """Writes the state of a compiled model and its `Progress` to a file."""
    variables = map(keras.ops.convert_to_numpy, _variables(model))
    arrays = {f"variable_{i}": array for i, array in enumerate(variables)}
    state = json.dumps(vars(progress))
    with _atomic.replaced(path) as new:
        np.savez(new, progress=state, **arrays)


def restore(path, model):
    """Gives a compiled model the state that `save` wrote.

    Args:
        path: The file; need not exist.
        model: The model as it was before the first step.

    Returns:
        The `Progress`: of no steps if there is no such file.
    """
    if not path.exists():
        return Progress()
    model.optimizer.build(model.trainable_variables)
    with np.load(path) as saved:
        for index, variable in enumerate(_variables(model)):
            variable.assign(saved[f"variable_{index}"])
        return Progress(**json.loads(str(saved["progress"])))


def steps_done(path):
    """Returns the steps that a checkpoint has behind it, 0 without one."""
    if not path.exists():
        return 0
    with np.load(path) as saved:
        return json.loads(str(saved["progress"]))["step"]


def _variables(model):
    """Returns all variables that a step reads: seeds of dropout too."""
    return [*model.variables, *model.optimizer.variables]
