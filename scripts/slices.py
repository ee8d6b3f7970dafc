"""Training in slices: the whole state of a run, from one process to the next.

Batches are a pure function of the seed and the step, so weights, optimiser and
step are all that a run needs to go on exactly as if it had never stopped.
"""

import dataclasses
import json
import pathlib
import shutil

BEST = "best.weights.h5"  # the weights of the best validation so far


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

    def after(self, step, seconds, history):
        """Returns the progress after one more slice, which ends at a step."""
        return Progress(
            step,
            self.seconds + seconds,
            {
                name: [*self.history.get(name, ()), *map(float, values)]
                for name, values in history.items()
            },
        )


def end(start, steps, period, slice_steps):
    """Returns the step at which a slice ends: after whole periods.

    Raises:
        ValueError: If a slice is shorter than a period.
    """
    if slice_steps is None:
        return steps
    if slice_steps < period:
        raise ValueError(
            "A slice must hold at least one period between two validations, "
            f"here {period} steps. Received: slice_steps={slice_steps}"
        )
    return min(start + slice_steps // period * period, steps)


def save(model, directory, settings, progress):
    """Writes the state of a run into its directory, whole or not at all.

    Args:
        model: The compiled model, its optimizer's state included.
        directory: The directory, which holds BEST.
        settings: The dataclass of all that determines the run.
        progress: Its `Progress`.
    """
    part = directory / "part"
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir()
    model.save_weights(part / "last.weights.h5")
    shutil.copy(directory / BEST, part / BEST)
    state = {**dataclasses.asdict(progress), "settings": _plain(settings)}
    (part / "progress.json").write_text(json.dumps(state), encoding="utf-8")
    earlier = _saved(directory)
    part.rename(directory / f"slice-{progress.step:09}")
    for path in earlier:
        shutil.rmtree(path)


def restore(model, directory, settings):
    """Gives a compiled model the state that the latest slice left.

    Args:
        model: The model of the run, as it was before the first step.
        directory: The directory of the run.
        settings: The dataclass of all that determines the run.

    Returns:
        The `Progress`; one of no steps if there is no earlier slice.

    Raises:
        ValueError: If what is there is a slice of another run.
    """
    saved = _saved(directory)
    if not saved:
        return Progress()
    latest = saved[-1]
    state = json.loads((latest / "progress.json").read_text(encoding="utf-8"))
    if state.pop("settings") != _plain(settings):
        raise ValueError(
            "A slice must go on with the settings it stopped with; remove the "
            f"directory to start anew. Received: others in {latest}"
        )
    model.optimizer.build(model.trainable_variables)
    model.load_weights(latest / "last.weights.h5")
    shutil.copy(latest / BEST, directory / BEST)
    return Progress(**state)


def steps_done(directory):
    """Returns how many steps the slices in a directory have come to."""
    saved = _saved(directory)
    return int(saved[-1].name.removeprefix("slice-")) if saved else 0


def _saved(directory):
    """Returns the directories of the slices, the latest last."""
    return sorted(pathlib.Path(directory).glob("slice-*"))


def _plain(settings):
    """Returns settings as JSON has them, but for where the data lie."""
    values = dataclasses.asdict(settings)
    values.pop("data_dir", None)
    return json.loads(json.dumps(values))
