import json
import os
import pathlib
import subprocess
import sys

import pytest

from snip_tf.experiments import job, paper, runs


def test_an_error_is_one_line():
    error = ValueError("Graph execution error:\n\n  out of memory\n")
    assert job.in_short(error) == (
        "ValueError: Graph execution error: out of memory"
    )


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("/scratch/seed0/part", "part"),
        (f"{pathlib.Path.home()}/results", "results"),
        ("../relative", "../relative"),
        ("https://a.org/b/c", "https://a.org/b/c"),
    ],
)
def test_an_error_does_not_tell_where_it_happened(path, told):
    error = FileNotFoundError(2, "No such file or directory", path)
    assert job.in_short(error) == (
        f"FileNotFoundError: [Errno 2] No such file or directory: {told!r}"
    )


def test_a_long_error_keeps_its_beginning():
    text = job.in_short(ValueError("begin" + 1_000 * "x" + "end"))
    assert text.startswith("ValueError: begin")
    assert len(text) == 500


def run_of(name, **options):
    (run,) = paper.EXPERIMENTS[name].runs(
        dataset="mnist_5k", seeds=1, steps=30, **options
    )
    return run


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
        "images of that `label`. Received: size=10000, label=None"
    )
    assert reply["backend"] == "tensorflow"
    assert not (tmp_path / "run").exists()


def test_a_run_that_is_finished_is_not_done_again(tmp_path, monkeypatch):
    """As after a process that ended before its reply."""
    todo = job.job_of(run_of("table_1", only="100-0.95-seed"))
    done = job.result_of(todo, tmp_path)
    monkeypatch.setattr(runs, "load_data", None)
    again = job.result_of(todo, tmp_path)
    assert again["test_error"] == done["test_error"]
