import signal
import types

import keras
import numpy as np
import pytest

from snip_tf.experiments import checkpoints, stopping

SETTINGS = types.SimpleNamespace(
    validate_every=10, recipe=types.SimpleNamespace(steps=30)
)


def train(model, batch):
    """Returns the loss of one step."""
    return float(model.train_on_batch(*batch))


def test_weights_optimizer_and_progress_come_back(
    tmp_path, small_model, small_batch
):
    small_model.compile("adam", small_model.loss)
    train(small_model, small_batch)
    progress = checkpoints.Progress(1, 2.5, {"loss": [0.5]}, [1 / 3])
    checkpoints.save(tmp_path, small_model, progress)
    expected = [train(small_model, small_batch) for _ in range(3)]

    small_model.compile("adam", small_model.loss)  # a new optimizer
    assert checkpoints.restore(tmp_path, small_model) == progress
    assert [train(small_model, small_batch) for _ in range(3)] == expected


def test_what_dropout_and_normalisation_have_come_to_comes_back(tmp_path):
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
    checkpoints.save(tmp_path, model, checkpoints.Progress())
    expected = [train(model, batch) for _ in range(3)]
    checkpoints.restore(tmp_path, model)
    assert [train(model, batch) for _ in range(3)] == expected


def test_the_last_two_are_kept(tmp_path, small_model):
    for step in (10, 20, 9_000):
        checkpoints.save(tmp_path, small_model, checkpoints.Progress(step))
    assert checkpoints.steps_done(tmp_path) == 9_000
    names = {checkpoints.FILE, checkpoints.EARLIER}
    assert {entry.name for entry in tmp_path.iterdir()} == names
    (tmp_path / checkpoints.FILE).unlink()
    assert checkpoints.steps_done(tmp_path) == 20


def test_whatever_byte_is_damaged_the_one_before_is_taken(
    tmp_path, small_model, small_batch, capsys
):
    """Bits and lengths all over the file; the weights are the earlier ones."""
    checkpoints.save(tmp_path, small_model, checkpoints.Progress(10))
    expected = small_model.get_weights()
    train(small_model, small_batch)
    checkpoints.save(tmp_path, small_model, checkpoints.Progress(20))
    file, earlier = (
        tmp_path / name for name in (checkpoints.FILE, checkpoints.EARLIER)
    )
    data = file.read_bytes()
    for place in {*range(0, len(data), 41), len(data) - 1}:
        flipped = data[place] ^ (1 << place % 8)
        file.write_bytes(data[:place] + bytes([flipped]) + data[place + 1 :])
        assert checkpoints.newest(tmp_path) == earlier, place
        file.write_bytes(data[:place])
        assert checkpoints.newest(tmp_path) == earlier, place
    assert checkpoints.steps_done(tmp_path) == 10
    assert checkpoints.restore(tmp_path, small_model).step == 10
    for one, other in zip(small_model.get_weights(), expected, strict=True):
        np.testing.assert_array_equal(one, other)
    line = (
        f"Going on after 10 steps: {checkpoints.FILE} is missing or damaged\n"
    )
    assert capsys.readouterr().out == line
    earlier.write_bytes(b"")
    with pytest.raises(ValueError, match=r"npz is damaged, .* --overwrite"):
        checkpoints.restore(tmp_path, small_model)


def test_one_of_another_optimizer_is_refused(tmp_path, small_model):
    checkpoints.save(tmp_path, small_model, checkpoints.Progress(10))
    small_model.compile("adam", small_model.loss)
    with pytest.raises(ValueError, match="only with the network and the opt"):
        checkpoints.restore(tmp_path, small_model)


def test_one_that_cannot_be_written_leaves_the_earlier(
    tmp_path, small_model, monkeypatch
):
    checkpoints.save(tmp_path, small_model, checkpoints.Progress(10))

    def write_half(file, **arrays):
        file.write_bytes(b"PK")
        raise OSError("No space left on device")

    monkeypatch.setattr(np, "savez", write_half)
    with pytest.raises(OSError, match="No space"):
        checkpoints.save(tmp_path, small_model, checkpoints.Progress(20))
    assert checkpoints.steps_done(tmp_path) == 10


def test_a_directory_that_is_gone_is_not_made_anew(tmp_path, small_model):
    with pytest.raises(FileNotFoundError, match="must be writable"):
        checkpoints.save(tmp_path / "gone", small_model, checkpoints.Progress())
    assert not (tmp_path / "gone").exists()


def test_without_one_a_run_starts_at_the_beginning(tmp_path, small_model):
    assert checkpoints.steps_done(tmp_path) == 0
    restored = checkpoints.restore(tmp_path, small_model)
    assert restored == checkpoints.Progress()


@pytest.fixture
def train_to(tmp_path, small_model):
    """A function that trains in name only, five steps at a time."""
    progress = checkpoints.Progress()
    callback = checkpoints.Checkpoints(tmp_path, progress, SETTINGS)
    callback.set_model(small_model)
    small_model.compile("sgd", "mse")

    def train_to(stop):
        for epoch in range(-(-stop // 10)):
            callback.on_epoch_begin(epoch)
            for step in range(5, min(11, stop - 10 * epoch + 1), 5):
                callback.on_train_batch_end(step - 1)
            if step == 10:
                logs = {"val_accuracy": np.float32(epoch)}
                callback.on_epoch_end(epoch, logs)
        return progress

    return train_to


@pytest.mark.parametrize(
    ("seconds", "stopped", "steps", "saved"),
    [
        (0, False, 5, 5),
        (0, False, 10, 10),
        (0, False, 25, 25),
        (1_000, False, 25, 0),
        (1_000, False, 30, 30),  # what comes then can be stopped too
        (0, True, 30, 0),  # the training diverged
    ],
)
def test_they_are_made_inside_of_periods_and_after_validations(
    seconds, stopped, steps, saved, tmp_path, train_to, small_model, monkeypatch
):
    monkeypatch.setattr(checkpoints, "SECONDS", seconds)
    small_model.stop_training = stopped
    progress = train_to(steps)
    assert progress.step == steps
    assert progress.history.get("val_accuracy", []) == list(range(steps // 10))
    assert progress.seconds > 0
    assert checkpoints.steps_done(tmp_path) == saved
    if steps >= 10:
        history = (tmp_path / checkpoints.HISTORY).read_text().splitlines()
        rows = [f"{10 * (n + 1)},{float(n)}" for n in range(steps // 10)]
        assert history == ["step,val_accuracy", *rows]


def test_a_signal_has_the_state_saved_and_the_process_ended(
    tmp_path, train_to, capfd
):
    stopping.listen()
    try:
        with pytest.raises(SystemExit) as ended, stopping.saved_first():
            signal.raise_signal(signal.SIGTERM)
            train_to(30)
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
    assert ended.value.code == 143
    assert checkpoints.steps_done(tmp_path) == 5
    assert capfd.readouterr().out == (
        "\nStopping once the state is saved\n\nSaved after 5 steps\n"
    )
