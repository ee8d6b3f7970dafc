import json
import os
import sys
import time

import pytest

from snip_tf.experiments import processes

# Replies without TensorFlow, and does what its job asks for.
_FAKE = """
import json, os, pathlib, sys, threading, time
def end_with_parent():
    sys.stdin.buffer.read()
    os._exit(1)
threading.Thread(target=end_with_parent, daemon=True).start()
directory = pathlib.Path(sys.argv[1])
job = json.loads((directory / "job.json").read_text())
(directory / "pid").write_text(str(os.getpid()))
print("the last words", file=sys.stderr, flush=True)
if "die" in job:
    os.kill(os.getpid(), job["die"])
time.sleep(job.get("sleep", 0))
cores = getattr(os, "sched_getaffinity", lambda pid: [0])(0)
reply = {
    "job": job,
    "cores": sorted(cores),
    "backend": os.environ["KERAS_BACKEND"],
    "threads": os.environ["TF_NUM_INTRAOP_THREADS"],
}
if "error" in job:
    reply = {"error": job["error"]}
(directory / "reply.json").write_text(json.dumps(reply))
"""


@pytest.fixture(autouse=True)
def _fast(tmp_path, monkeypatch):
    script = tmp_path / "fake.py"
    script.write_text(_FAKE, encoding="utf-8")
    monkeypatch.setattr(processes, "_COMMAND", [sys.executable, script])


def replies_to(jobs, tmp_path, *, workers=1):
    """Returns the reply to each job."""
    jobs = [{"backend": "tensorflow", **job} for job in jobs]
    placed = [(job, tmp_path / f"job{i}") for i, job in enumerate(jobs)]
    found = {}
    for index, reply in processes.replies(placed, workers=workers):
        assert index not in found
        found[index] = reply
    return [found[index] for index in range(len(jobs))]


def test_no_jobs_need_no_process(tmp_path):
    assert replies_to([], tmp_path) == []


def test_jobs_and_replies_are_json(tmp_path):
    job = {"text": "two\nlines", "number": 0.1, "ä": None}
    (reply,) = replies_to([job], tmp_path)
    assert reply["job"] == {"backend": "tensorflow", **job}


def test_workers_share_the_cores(tmp_path):
    cores = processes.usable_cores()
    if len(cores) < 2 or not hasattr(os, "sched_setaffinity"):
        pytest.skip("one core, or processes cannot be pinned")
    jobs = [{"sleep": 0.5}] * 2
    results = replies_to(jobs, tmp_path, workers=2)
    first, second = (result["cores"] for result in results)
    assert not set(first) & set(second)
    assert sorted(first + second) == cores
    assert processes.usable_cores() == cores  # our own are left alone


def test_threads_are_bounded_where_nothing_can_be_pinned(tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "usable_cores", lambda: list(range(6)))
    monkeypatch.delattr(os, "sched_setaffinity", raising=False)
    for reply in replies_to([{}, {}], tmp_path, workers=2):
        assert reply["threads"] == "3"


def test_a_process_that_dies_takes_one_job_with_it(tmp_path):
    before, lost, after = replies_to([{}, {"die": 9}, {}], tmp_path)
    assert lost["lost"] == "its process ended with status -9"
    log = (tmp_path / "job1" / "log.txt").read_text()
    assert log.endswith("the last words\n")
    assert before["job"] == after["job"]


def test_an_earlier_reply_is_not_taken_for_that_of_one_who_died(tmp_path):
    replies_to([{}], tmp_path)
    (lost,) = replies_to([{"die": 9}], tmp_path)
    assert "lost" in lost


def test_a_job_has_the_backend_that_it_asks_for(tmp_path):
    for backend in ("tensorflow", "jax"):
        (result,) = replies_to([{"backend": backend}], tmp_path)
        assert result["backend"] == backend


def test_who_stops_listening_ends_the_processes(tmp_path):
    jobs = [
        ({"backend": "tensorflow", **job}, tmp_path / f"job{i}")
        for i, job in enumerate([{}, {"sleep": 600}, {}])
    ]
    replies = processes.replies(jobs, workers=1)
    assert next(replies)[0] == 0
    pid = tmp_path / "job1" / "pid"
    while not (pid.exists() and pid.read_text()):
        time.sleep(0.01)
    start = time.monotonic()
    replies.close()
    assert time.monotonic() - start < 60
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)
    assert not (tmp_path / "job2").exists()


def test_the_job_is_what_the_directory_holds(tmp_path):
    replies_to([{"number": 3}], tmp_path)
    written = json.loads((tmp_path / "job0" / "job.json").read_text())
    assert written == {"backend": "tensorflow", "number": 3}
