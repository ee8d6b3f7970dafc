import dataclasses
import json

import keras
import numpy as np
import pytest

from snip_tf import training
from snip_tf.experiments import checkpoints, fitting, run_directory, runs

RUN = {"settings": {"seed": 0}, "start": "af"}
SMALL = runs.Settings(
    model="lenet_300_100",
    dataset="mnist_5k",
    recipe=training.RECIPES["mnist_5k"].scaled_to(30),
    sparsity=0.95,
    validate_every=10,
)


class Stopped(Exception):
    pass


def train(model, batch):
    """Returns the loss of one step."""
    return float(model.train_on_batch(*batch))


@pytest.fixture
def place(tmp_path):
    """A directory with the best weights so far."""
    (tmp_path / checkpoints.BEST).write_text("the best")
    return tmp_path


def test_weights_optimizer_and_history_come_back(
    place, small_model, small_batch
):
    small_model.compile("adam", small_model.loss)
    train(small_model, small_batch)
    progress = checkpoints.Progress().after(1, 2.5, {"loss": np.float32(0.5)})
    checkpoints.save(small_model, place, RUN, progress)
    expected = [train(small_model, small_batch) for _ in range(3)]
    (place / checkpoints.BEST).write_text("a better one, later")

    small_model.compile("adam", small_model.loss)  # a new optimizer
    restored = checkpoints.restore(small_model, place)
    assert restored == checkpoints.Progress(1, 2.5, {"loss": [0.5]})
    assert [train(small_model, small_batch) for _ in range(3)] == expected
    assert (place / checkpoints.BEST).read_text() == "the best"


def test_only_the_latest_is_kept(place, small_model):
    for step in (10, 9_000):
        progress = checkpoints.Progress(step)
        checkpoints.save(small_model, place, RUN, progress)
    assert checkpoints.steps_done(place) == 9_000
    assert len(list((place / checkpoints.DIRECTORY).iterdir())) == 1


def test_without_one_a_run_starts_at_the_beginning(tmp_path, small_model):
    assert checkpoints.steps_done(tmp_path) == 0
    restored = checkpoints.restore(small_model, tmp_path)
    assert restored == checkpoints.Progress()


def test_one_that_was_not_finished_is_none(place, small_model):
    (place / checkpoints.DIRECTORY / "part").mkdir(parents=True)
    assert checkpoints.steps_done(place) == 0
    checkpoints.save(small_model, place, RUN, checkpoints.Progress(10))
    assert checkpoints.steps_done(place) == 10


def test_progress_adds_up():
    first = checkpoints.Progress(10, 1.0, {"loss": [3.0]})
    assert first.after(10, 2.0, {"loss": 1}) == checkpoints.Progress(
        20, 3.0, {"loss": [3.0, 1.0]}
    )


def test_one_fits_the_run_that_made_it(place, small_model):
    assert not checkpoints.fits(place, RUN)
    checkpoints.save(small_model, place, RUN, checkpoints.Progress(10))
    assert checkpoints.fits(place, RUN)
    assert checkpoints.fits(place, {"settings": {"seed": 0}})  # not built yet
    assert not checkpoints.fits(place, {**RUN, "start": "b0"})
    assert not checkpoints.fits(place, {**RUN, "settings": {"seed": 1}})
    assert not checkpoints.fits(place, {**RUN, "commit": None, "more": 1})


def test_a_damaged_one_fits_no_run(place, small_model):
    checkpoints.save(small_model, place, RUN, checkpoints.Progress(10))
    (progress,) = place.glob(f"{checkpoints.DIRECTORY}/*/progress.json")
    progress.write_text("")
    assert not checkpoints.fits(place, RUN)


def test_a_run_is_told_by_settings_start_and_code(small_model, monkeypatch):
    def told(settings=SMALL, model=small_model):
        return json.dumps(fitting.identity_of(settings, model))

    first = told()
    assert told(dataclasses.replace(SMALL, data_dir="elsewhere")) == first
    assert told(dataclasses.replace(SMALL, seed=1)) != first
    weight = small_model.weights[0]
    weight.assign(weight + 1e-6)
    assert told() != first
    weight.assign(weight - 1e-6)
    monkeypatch.setattr(run_directory, "_commit", lambda: "another")
    assert told() == first
    with monkeypatch.context() as patched:
        patched.setattr(run_directory, "code", lambda: "another")
        assert told() != first
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    assert told() != first


def test_the_best_validation_is_not_forgotten(tmp_path, small_model):
    path = tmp_path / checkpoints.BEST
    before = checkpoints.Progress(10, 1.0, {"val_accuracy": [0.5, 0.9, 0.7]})
    callback = fitting._keep_best(path, before)
    callback.set_model(small_model)
    callback.on_epoch_end(3, {"val_accuracy": 0.8})
    assert not path.exists()
    callback.on_epoch_end(4, {"val_accuracy": 0.95})
    assert path.exists()


def test_a_run_that_diverged_does_not_go_on(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints, "SECONDS", 0)
    monkeypatch.setattr(fitting, "logs", lambda directory: [])
    recipe = dataclasses.replace(SMALL.recipe, learning_rate=1e20)
    settings = dataclasses.replace(SMALL, recipe=recipe)
    with pytest.raises(ValueError, match="diverged before step 10"):
        runs.run(settings, tmp_path / "run")
    assert not (tmp_path / "run" / checkpoints.DIRECTORY).exists()


@pytest.mark.parametrize(
    ("seconds", "stopped", "steps", "saved"),
    [
        (0, False, 10, 10),
        (0, False, 20, 20),
        (0, False, 30, 20),  # done: there is nothing to go on with
        (1_000, False, 20, 0),
        (0, True, 20, 0),  # the training diverged
    ],
)
def test_they_are_made_between_validations(
    seconds, stopped, steps, saved, place, small_model, monkeypatch
):
    monkeypatch.setattr(checkpoints, "SECONDS", seconds)
    callback = checkpoints.Checkpoints(
        place, SMALL, RUN, checkpoints.Progress()
    )
    callback.set_model(small_model)
    small_model.compile("sgd", "mse")
    small_model.stop_training = stopped
    for epoch in range(steps // 10):
        callback.on_epoch_end(epoch, {"loss": epoch})
    assert callback.progress.step == steps
    assert callback.progress.history == {"loss": list(range(steps // 10))}
    assert callback.progress.seconds > 0
    assert checkpoints.steps_done(place) == saved


def test_a_run_that_was_stopped_goes_on_by_itself(
    tmp_path, monkeypatch, capsys
):
    class Stopping(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            raise Stopped

    monkeypatch.setattr(checkpoints, "SECONDS", 0)
    path = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(fitting, "logs", lambda directory: [Stopping()])
        for _ in range(2):
            with pytest.raises(Stopped):
                runs.run(SMALL, path)
    for other in (
        lambda: runs.run(dataclasses.replace(SMALL, seed=1), path),
        lambda: runs.prune_only(SMALL, path),
    ):
        with pytest.raises(FileExistsError, match="holds another run, which"):
            other()
    with run_directory.held(path):
        with pytest.raises(BlockingIOError, match="own .*/run, in use by anot"):
            runs.run(SMALL, path)
    assert checkpoints.steps_done(path) == 20
    monkeypatch.setattr(fitting, "logs", lambda directory: [])
    result = runs.run(SMALL, path, overwrite=True)  # of other runs
    assert "Going on after 20 steps" in capsys.readouterr().out
    assert len(result["train_cross_entropies"]) == 3
    assert sorted(entry.name for entry in path.iterdir()) == [
        "config.json",
        "model.keras",
        "result.json",
    ]
    whole = runs.run(SMALL, tmp_path / "whole")
    assert result["test_error"] == pytest.approx(whole["test_error"], abs=0.5)
