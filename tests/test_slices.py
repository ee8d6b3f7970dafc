import dataclasses

import numpy as np
import pytest

import slices


@dataclasses.dataclass(frozen=True)
class _Settings:
    seed: int = 0
    data_dir: str | None = None


def train(model, batch):
    """Returns the loss of one step."""
    return float(model.train_on_batch(*batch))


@pytest.fixture
def place(tmp_path):
    """A directory with the best weights so far."""
    (tmp_path / slices.BEST).write_text("the best")
    return tmp_path


@pytest.mark.parametrize(
    ("start", "slice_steps", "end"),
    [(0, None, 100), (0, 20, 20), (20, 35, 50), (90, 20, 100), (0, 999, 100)],
)
def test_a_slice_ends_with_a_period(start, slice_steps, end):
    assert slices.end(start, 100, 10, slice_steps) == end


def test_a_slice_shorter_than_a_period_is_refused():
    with pytest.raises(ValueError, match="here 10 steps. Received: slice.*=9"):
        slices.end(0, 100, 10, 9)


def test_weights_optimizer_and_history_come_back(
    place, small_model, small_batch
):
    small_model.compile("adam", small_model.loss)
    train(small_model, small_batch)
    progress = slices.Progress().after(1, 2.5, {"loss": [np.float32(0.5)]})
    slices.save(small_model, place, _Settings(), progress)
    expected = [train(small_model, small_batch) for _ in range(3)]
    (place / slices.BEST).write_text("a better one, in a slice that was cut")

    small_model.compile("adam", small_model.loss)  # a new optimizer
    restored = slices.restore(small_model, place, _Settings())
    assert restored == slices.Progress(1, 2.5, {"loss": [0.5]})
    assert [train(small_model, small_batch) for _ in range(3)] == expected
    assert (place / slices.BEST).read_text() == "the best"


def test_only_the_latest_slice_is_kept(place, small_model):
    for step in (10, 9_000):
        progress = slices.Progress(step)
        slices.save(small_model, place, _Settings(), progress)
    assert slices.steps_done(place) == 9_000
    assert len(list(place.glob("slice-*"))) == 1


def test_without_a_slice_a_run_starts_at_the_beginning(tmp_path, small_model):
    assert slices.steps_done(tmp_path) == 0
    restored = slices.restore(small_model, tmp_path, _Settings())
    assert restored == slices.Progress()


def test_a_slice_that_was_not_finished_is_none(place, small_model):
    (place / "part").mkdir()
    assert slices.steps_done(place) == 0
    slices.save(small_model, place, _Settings(), slices.Progress(10))
    assert slices.steps_done(place) == 10


def test_histories_are_joined():
    first = slices.Progress().after(2, 1.0, {"loss": [3, 2]})
    assert first.after(3, 1.0, {"loss": [1]}) == slices.Progress(
        3, 2.0, {"loss": [3.0, 2.0, 1.0]}
    )


def test_a_slice_of_other_settings_is_refused(place, small_model):
    slices.save(small_model, place, _Settings(data_dir="a"), slices.Progress(1))
    slices.restore(small_model, place, _Settings(data_dir="b"))
    with pytest.raises(ValueError, match="settings it stopped with"):
        slices.restore(small_model, place, _Settings(seed=1))
