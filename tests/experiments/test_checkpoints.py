import types

import keras
import numpy as np
import pytest

from snip_tf.experiments import checkpoints

SETTINGS = types.SimpleNamespace(
    validate_every=10, recipe=types.SimpleNamespace(steps=30)
)


def train(model, batch):
    """Returns the loss of one step."""
    return float(model.train_on_batch(*batch))


@pytest.fixture
def path(tmp_path):
    return tmp_path / checkpoints.FILE


def test_weights_optimizer_and_progress_come_back(
    path, small_model, small_batch
):
    small_model.compile("adam", small_model.loss)
    train(small_model, small_batch)
    progress = checkpoints.Progress(1, 2.5, {"loss": [0.5]})
    checkpoints.save(path, small_model, progress)
    expected = [train(small_model, small_batch) for _ in range(3)]

    small_model.compile("adam", small_model.loss)  # a new optimizer
    assert checkpoints.restore(path, small_model) == progress
    assert [train(small_model, small_batch) for _ in range(3)] == expected


def test_what_dropout_and_normalisation_have_come_to_comes_back(path):
    x = np.random.default_rng(0).normal(size=(8, 4)).astype(np.float32)
    model = keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.BatchNormalization(),
            keras.layers.Dropout(0.5),
            keras.layers.Dense(3),
        ]
    )
    model.compile("sgd", "mse")
    batch = x, np.ones((8, 3), np.float32)
    train(model, batch)
    checkpoints.save(path, model, checkpoints.Progress())
    expected = [train(model, batch) for _ in range(3)]
    checkpoints.restore(path, model)
    assert [train(model, batch) for _ in range(3)] == expected


def test_a_later_one_takes_the_place_of_an_earlier(path, small_model):
    for step in (10, 9_000):
        checkpoints.save(path, small_model, checkpoints.Progress(step))
    assert checkpoints.steps_done(path) == 9_000
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_one_that_cannot_be_written_leaves_the_earlier(
    path, small_model, monkeypatch
):
    checkpoints.save(path, small_model, checkpoints.Progress(10))

    def write_half(file, **arrays):
        file.write_bytes(b"PK")
        raise OSError("No space left on device")

    monkeypatch.setattr(np, "savez", write_half)
    with pytest.raises(OSError, match="No space"):
        checkpoints.save(path, small_model, checkpoints.Progress(20))
    assert checkpoints.steps_done(path) == 10


def test_without_one_a_run_starts_at_the_beginning(path, small_model):
    assert checkpoints.steps_done(path) == 0
    restored = checkpoints.restore(path, small_model)
    assert restored == checkpoints.Progress()


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
    seconds, stopped, steps, saved, path, small_model, monkeypatch
):
    monkeypatch.setattr(checkpoints, "SECONDS", seconds)
    progress = checkpoints.Progress()
    callback = checkpoints.Checkpoints(path.parent, progress, SETTINGS)
    callback.set_model(small_model)
    small_model.compile("sgd", "mse")
    small_model.stop_training = stopped
    for epoch in range(steps // 10):
        callback.on_epoch_end(epoch, {"val_accuracy": np.float32(epoch)})
    assert progress.step == steps
    assert progress.history == {"val_accuracy": list(range(steps // 10))}
    assert progress.seconds > 0
    history = (path.parent / checkpoints.HISTORY).read_text().splitlines()
    rows = [f"{10 * (n + 1)},{float(n)}" for n in range(steps // 10)]
    assert history == ["step,val_accuracy", *rows]
    assert checkpoints.steps_done(path) == saved
