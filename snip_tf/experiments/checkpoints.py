"""Checkpoints: all that a run needs to go on as if it had never stopped.

Batches are a pure function of the seed and the step. So these are the variables
of the model and its optimizer, the step, and what was seen until then. The last
two are kept, each with a digest of all its bytes: a damaged one is not used.
"""

import csv
import dataclasses
import hashlib
import json
import time

import keras
import numpy as np

from snip_tf import _atomic
from snip_tf.experiments import stopping

FILE, EARLIER = "checkpoint.npz", "checkpoint-before.npz"
HISTORY = "history.csv"
SECONDS = 300  # at least, between two checkpoints
_DIGEST_BYTES = 32  # of SHA-256, behind the archive


@dataclasses.dataclass
class Progress:
    """How far a run has come.

    Attributes:
        step: The steps that are trained.
        seconds: The time they took.
        history: What Keras reported of each period, as lists by name.
        metrics: The running metrics of a period that is not over: numbers.
    """

    step: int = 0
    seconds: float = 0.0
    history: dict = dataclasses.field(default_factory=dict)
    metrics: list = dataclasses.field(default_factory=list)


class Checkpoints(keras.callbacks.Callback):
    """Writes what each period brought, and now and then saves the state.

    That is SECONDS after the last time, after the last step, and when the
    process is to end, which it then does.

    Args:
        directory: Where HISTORY and FILE go.
        progress: The `Progress` so far. It is brought up to date.
        settings: The `Settings` of the run.
        saves: Whether the state is saved at all.
    """

    def __init__(self, directory, progress, settings, *, saves=True):
        super().__init__()
        self._directory, self._settings = directory, settings
        self._saves = saves
        self._progress = progress
        self._since = self._saved = time.perf_counter()

    def on_epoch_begin(self, epoch, logs=None):
        """Begins a period, or goes on with one: Keras has reset its metrics."""
        self._begin = self._progress.step
        if metrics := self._progress.metrics:
            variables = self.model.metrics_variables
            for variable, value in zip(variables, metrics, strict=True):
                variable.assign(value)
            self._progress.metrics = []

    def on_train_batch_end(self, batch, logs=None):
        """Notes a step, or the last of those that Keras runs at a time."""
        step = self._begin + batch + 1
        # At the end of a period, its validation comes first.
        if step % self._settings.validate_every:
            self._advance_to(step)
            self._save_if_due(in_period=True)

    def on_epoch_end(self, epoch, logs=None):
        """Ends a period."""
        progress = self._progress
        self._advance_to((epoch + 1) * self._settings.validate_every)
        for name, value in logs.items():
            progress.history.setdefault(name, []).append(float(value))
        self._write_history()
        self._save_if_due()

    def _advance_to(self, step):
        now = time.perf_counter()
        self._progress.step = step
        self._progress.seconds += now - self._since
        self._since = now

    def _save_if_due(self, in_period=False):
        waited = self._since - self._saved >= SECONDS
        done = self._progress.step == self._settings.recipe.steps
        if not (self._saves and (waited or done or stopping.asked())):
            return
        if self.model.stop_training:  # by Keras: it has diverged
            return
        metrics = self.model.metrics_variables if in_period else []
        arrays = map(keras.ops.convert_to_numpy, metrics)
        self._progress.metrics = [float(array) for array in arrays]
        save(self._directory, self.model, self._progress)
        self._progress.metrics = []
        self._since = self._saved = time.perf_counter()
        if stopping.asked():
            print(f"\nSaved after {self._progress.step:,} steps", flush=True)
            stopping.end()

    def _write_history(self):
        """Writes all periods: those after a checkpoint may come again."""
        period, history = self._settings.validate_every, self._progress.history
        steps = range(period, self._progress.step + 1, period)
        path = self._directory / HISTORY
        with _atomic.replaced(path, make_parents=False) as new:
            with open(new, "w", newline="") as file:
                writer = csv.writer(file)
                writer.writerow(("step", *history))
                writer.writerows(zip(steps, *history.values(), strict=True))


def save(directory, model, progress):
    """Writes the state of a compiled model and its `Progress` to a directory.

    The checkpoint that was there becomes the one before.
    """
    variables = map(keras.ops.convert_to_numpy, _variables(model))
    arrays = {f"variable_{i}": array for i, array in enumerate(variables)}
    path, earlier = directory / FILE, directory / EARLIER
    with _atomic.replaced(path, keep=earlier, make_parents=False) as new:
        np.savez(new, progress=json.dumps(vars(progress)), **arrays)
        digest = hashlib.sha256(new.read_bytes()).digest()
        with open(new, "ab") as file:  # behind an archive it disturbs nobody
            file.write(digest)


def newest(directory):
    """Returns the newest checkpoint of a directory that is whole, or None.

    Raises:
        ValueError: If there are only damaged ones.
    """
    paths = [directory / name for name in (FILE, EARLIER)]
    there = [path for path in paths if path.exists()]
    whole = next(filter(is_whole, there), None)
    if there and not whole:
        raise ValueError(
            f"{there[0]} is damaged, and there is no other checkpoint: pass "
            "--overwrite to begin the run anew"
        )
    return whole


def is_whole(path):
    """Returns whether a file ends in the digest of all bytes before."""
    if not path.exists():
        return False
    data = memoryview(path.read_bytes())
    end = max(len(data) - _DIGEST_BYTES, 0)
    return hashlib.sha256(data[:end]).digest() == data[end:]


def restore(directory, model):
    """Gives a compiled model the state that `save` wrote.

    Args:
        directory: Where it was saved.
        model: The model as it was before the first step.

    Returns:
        The `Progress`: of no steps if there is no checkpoint.

    Raises:
        ValueError: If all checkpoints are damaged, or of another model.
    """
    path = newest(directory)
    if path is None:
        return Progress()
    model.optimizer.build(model.trainable_variables)
    with np.load(path) as saved:
        progress = _progress(saved)
        arrays = [saved[name] for name in saved.files if name != "progress"]
    try:
        for variable, array in zip(_variables(model), arrays, strict=True):
            variable.assign(array)
    except ValueError as error:
        raise ValueError(
            "A run can go on only with the network and the optimizer of its "
            f"checkpoint ({error})"
        ) from error
    lost = "" if path.name == FILE else f": {FILE} is missing or damaged"
    print(f"Going on after {progress.step:,} steps{lost}", flush=True)
    return progress


def steps_done(directory):
    """Returns the steps that a run has behind it, 0 without a checkpoint."""
    path = newest(directory)
    if path is None:
        return 0
    with np.load(path) as saved:
        return _progress(saved).step


def remove(directory):
    """Removes the checkpoints of a run that is over."""
    for name in (FILE, EARLIER):
        (directory / name).unlink(missing_ok=True)


def _progress(saved):
    known = json.loads(str(saved["progress"]))
    names = {field.name for field in dataclasses.fields(Progress)}
    return Progress(**{k: v for k, v in known.items() if k in names})


def _variables(model):
    """Returns all variables that a step reads: seeds of dropout too."""
    return [*model.variables, *model.optimizer.variables]
