import pathlib

import keras
import pytest

from snip_tf.experiments import runner, worker


def job(directory="/scratch/a run/seed0", data_dir=None):
    return {"directory": directory, "settings": {"data_dir": data_dir}}


def test_an_error_is_one_line():
    error = ValueError("Graph execution error:\n\n  out of memory\n")
    assert worker.in_short(error, job()) == (
        "ValueError: Graph execution error: out of memory"
    )


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("/scratch/a run/seed0/part", "run_dir/part"),
        ("/scratch/a run/data/mnist", "data_dir/mnist"),
        (f"{pathlib.Path.cwd()}/results", "./results"),
        (f"{pathlib.Path.home()}/results", "~/results"),
        ("../relative", "../relative"),
        ("https://a.org/b/c", "https://a.org/b/c"),
    ],
)
def test_an_error_does_not_tell_where_it_happened(path, told):
    error = FileNotFoundError(2, "No such file or directory", path)
    this = job(data_dir="/scratch/a run/data")
    assert worker.in_short(error, this) == (
        f"FileNotFoundError: [Errno 2] No such file or directory: {told!r}"
    )


def test_a_long_error_keeps_its_beginning_and_its_end():
    text = worker.in_short(ValueError("begin" + 1_000 * "x" + "end"), job())
    assert text.startswith("ValueError: begin")
    assert text.endswith("end")
    assert len(text) < 510


def test_what_fails_under_tensorflow_fails_the_run_on_another_backend(
    tmp_path, monkeypatch
):
    """A process of its own scores, here on more images than there are."""
    (run,) = runner.plan(
        "figure_3", only="on-10000-", dataset="mnist_5k", seeds=1, steps=30
    )
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(RuntimeError) as caught:
        worker.result_of(worker.job_of(run, tmp_path))
    assert str(caught.value) == (
        "building under TensorFlow failed: ValueError: `size` must be at most "
        "3600, the number of training images. Received: size=10000"
    )
    assert not list(tmp_path.iterdir())
