"""Checkpoints of a run: its whole state, so that what was stopped can go on.

Batches are a pure function of the seed and the step, so weights, optimiser and
step are all that a run needs to go on exactly as if it had never stopped.
"""

import dataclasses
import json
import os
import pathlib
import shutil
import time

import keras

BEST = "best.weights.h5"  # the weights of the best validation so far
DIRECTORY = "checkpoint"
SECONDS = 300  # at least, between two checkpoints
_LAST, _PROGRESS = "last.weights.h5", "progress.json"


@dataclasses.dataclass(frozen=True)
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

    def after(self, steps, seconds, logs):
        """Returns the progress after a period more, and what Keras reports."""
        return Progress(
            self.step + steps,
            self.seconds + seconds,
            {
                name: [*self.history.get(name, ()), float(value)]
                for name, value in logs.items()
            },
        )


class Checkpoints(keras.callbacks.Callback):
    """Follows the progress of a run, and now and then saves its state.

    That is after the first validation more than SECONDS later.

    Args:
        directory: The directory of the run, which holds BEST.
        settings: The `runs.Settings`.
        identity: See `save`.
        progress: The `Progress` before.
    """

    def __init__(self, directory, settings, identity, progress):
        super().__init__()
        self.progress = progress
        self._directory, self._settings = directory, settings
        self._identity = identity
        self._since = self._saved = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        """Ends a period."""
        now = time.perf_counter()
        self.progress = self.progress.after(
            self._settings.validate_every, now - self._since, logs
        )
        # Stopped, training has diverged.
        due = now - self._saved >= SECONDS and not self.model.stop_training
        if due and self.progress.step < self._settings.recipe.steps:
            save(self.model, self._directory, self._identity, self.progress)
            self._saved = time.perf_counter()
        self._since = time.perf_counter()


def save(model, directory, identity, progress):
    """Writes the state of a run into its directory, whole or not at all.

    Args:
        model: The compiled model, its optimizer's state included.
        directory: The directory, which holds BEST.
        identity: What tells the run from others: a dict of JSON values.
        progress: Its `Progress`.
    """
    place = pathlib.Path(directory) / DIRECTORY
    part = place / "part"
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    model.save_weights(part / _LAST)
    shutil.copy(directory / BEST, part / BEST)
    state = {**dataclasses.asdict(progress), "identity": identity}
    (part / _PROGRESS).write_text(json.dumps(state), encoding="utf-8")
    for name in (_LAST, BEST, _PROGRESS):
        with open(part / name, "rb") as file:
            os.fsync(file.fileno())
    earlier = _saved(directory)
    part.rename(place / f"{progress.step:09}")
    for path in earlier:
        shutil.rmtree(path)


def fits(directory, identity):
    """Returns whether a directory has a checkpoint that a run can go on from.

    Args:
        directory: The directory of the run.
        identity: As in `save`; what it lacks is not compared.
    """
    saved = _saved(directory)
    if not saved:
        return False
    theirs = _state(saved[-1]).get("identity", {})
    return all(theirs.get(key) == value for key, value in identity.items())


def restore(model, directory):
    """Gives a compiled model the state of the latest checkpoint.

    Args:
        model: The model of the run, as it was before the first step.
        directory: The directory of the run.

    Returns:
        The `Progress`; one of no steps if there is no checkpoint.
    """
    saved = _saved(directory)
    if not saved:
        return Progress()
    state = _state(saved[-1])
    del state["identity"]
    model.optimizer.build(model.trainable_variables)
    model.load_weights(saved[-1] / _LAST)
    shutil.copy(saved[-1] / BEST, directory / BEST)
    return Progress(**state)


def steps_done(directory):
    """Returns the steps that the latest checkpoint has behind it."""
    saved = _saved(directory)
    return int(saved[-1].name) if saved else 0


def remove(directory):
    """Removes the checkpoints of a run."""
    place = pathlib.Path(directory) / DIRECTORY
    if place.exists():
        shutil.rmtree(place)


def _saved(directory):
    """Returns the whole checkpoints of a directory, the latest last."""
    place = pathlib.Path(directory) / DIRECTORY
    return sorted(path for path in place.glob("*") if path.name.isdigit())


def _state(path):
    """Returns the progress of a checkpoint and whose it is; {} if damaged."""
    try:
        return json.loads((path / _PROGRESS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
