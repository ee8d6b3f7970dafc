import dataclasses
import json
import os
import pathlib
import subprocess
import sys

import pytest

from snip_tf.experiments import job, paper

_DIRECTORY = pathlib.Path("/scratch/a run/seed0")


def test_an_error_is_one_line():
    error = ValueError("Graph execution error:\n\n  out of memory\n")
    assert job.in_short(error, _DIRECTORY) == (
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
    data_dir = "/scratch/a run/data"
    assert job.in_short(error, _DIRECTORY, data_dir) == (
        f"FileNotFoundError: [Errno 2] No such file or directory: {told!r}"
    )


def test_a_long_error_keeps_its_beginning_and_its_end():
    text = job.in_short(ValueError("begin" + 1_000 * "x" + "end"), _DIRECTORY)
    assert text.startswith("ValueError: begin")
    assert text.endswith("end")
    assert len(text) < 510


def run_of(name, **options):
    (run,) = paper.EXPERIMENTS[name].runs(
        dataset="mnist_5k", seeds=1, steps=30, **options
    )
    return run


def test_a_finished_run_is_not_done_again(tmp_path):
    """Its process was killed between its last line and its reply."""
    run = run_of("table_1", only="300_100-0.95")
    this = job.job_of(run)
    first = job.result_of(this, tmp_path)
    file = tmp_path / "run" / "result.json"
    written = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps({**written, "test_error": 12.5}))
    again = job.result_of(this, tmp_path)
    assert first["test_error"] != again["test_error"] == 12.5
    # A row that has changed since is another run.
    other = dataclasses.replace(run.settings, score_batch_size=50)
    this = job.job_of(dataclasses.replace(run, settings=other))
    assert job.result_of(this, tmp_path)["test_error"] != 12.5


def test_what_fails_is_told_with_its_surroundings(tmp_path):
    """There are not 10,000 images to score on."""
    run = run_of("figure_3", only="on-10000-")
    text = json.dumps(job.job_of(run))
    (tmp_path / "job.json").write_text(text, encoding="utf-8")
    read, write = os.pipe()  # an input that does not end
    process = subprocess.run(
        [sys.executable, "-m", "snip_tf.experiments.job", tmp_path],
        stdin=read,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(read)
    os.close(write)
    assert process.returncode == 0
    assert "Traceback" in process.stderr  # for the log
    reply = json.loads((tmp_path / "reply.json").read_text(encoding="utf-8"))
    assert reply["error"] == (
        "ValueError: `size` must be at most 3600, the number of training "
        "images. Received: size=10000"
    )
    assert reply["surroundings"]["backend"] == "tensorflow"
    assert not (tmp_path / "run").exists()
