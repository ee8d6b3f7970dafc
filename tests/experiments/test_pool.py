import json
import os
import time

import pytest

from snip_tf.experiments import pool

# Answers without TensorFlow, and does what its jobs ask for.
_WORKER = """
import json, os, sys, time
jobs = 0
for line in sys.stdin:
    job = json.loads(line)
    jobs += 1
    print(json.dumps({"steps": 1}), flush=True)
    if "die" in job:
        print("the last words", file=sys.stderr, flush=True)
        os.kill(os.getpid(), job["die"])
    time.sleep(job.get("sleep", 0))
    cores = getattr(os, "sched_getaffinity", lambda pid: [0])(0)
    result = {
        "pid": os.getpid(),
        "jobs": jobs,
        "cores": sorted(cores),
        "backend": os.environ["KERAS_BACKEND"],
    }
    print(json.dumps({"result": result}), flush=True)
"""


@pytest.fixture(autouse=True)
def _fast_worker(tmp_path, monkeypatch):
    script = tmp_path / "fake_worker.py"
    script.write_text(_WORKER, encoding="utf-8")
    monkeypatch.setattr(pool, "_WORKER", script)


def ends_of(jobs, tmp_path, **options):
    """Returns the last message of each job."""
    options = {"workers": 1, "backend": "jax", "directory": tmp_path, **options}
    ends = {}
    for index, message in pool.replies(jobs, **options):
        if "steps" not in message:
            assert index not in ends
            ends[index] = message
    return [ends[index] for index in range(len(jobs))]


def test_each_job_is_done_once_in_a_process_that_is_kept(tmp_path):
    results = [end["result"] for end in ends_of([{}, {}, {}], tmp_path)]
    assert [result["jobs"] for result in results] == [1, 2, 3]
    assert len({result["pid"] for result in results}) == 1
    assert {result["backend"] for result in results} == {"jax"}


def test_no_jobs_need_no_process(tmp_path):
    assert ends_of([], tmp_path) == []


def test_workers_share_the_cores(tmp_path):
    cores = pool.usable_cores()
    if len(cores) < 2 or not hasattr(os, "sched_setaffinity"):
        pytest.skip("one core, or processes cannot be pinned")
    jobs = [{"sleep": 0.5}] * 2
    results = [end["result"] for end in ends_of(jobs, tmp_path, workers=2)]
    first, second = (result["cores"] for result in results)
    assert not set(first) & set(second)
    assert sorted(first + second) == cores
    assert pool.usable_cores() == cores  # our own are left alone


def test_where_nothing_can_be_pinned_threads_are_bounded(monkeypatch):
    monkeypatch.delattr(os, "sched_setaffinity", raising=False)
    variables = pool.settings_for(3, "tensorflow")
    assert variables["KERAS_BACKEND"] == "tensorflow"
    assert variables["TF_NUM_INTRAOP_THREADS"] == "3"


def test_a_worker_that_dies_takes_one_job_with_it(tmp_path):
    before, lost, after = ends_of([{}, {"die": 9}, {}], tmp_path)
    assert lost["lost"] == "its process ended with status -9"
    assert lost["log"].endswith("the last words\n")
    assert after["result"]["jobs"] == 1
    assert after["result"]["pid"] != before["result"]["pid"]


def test_a_process_is_replaced_before_it_has_grown(tmp_path, monkeypatch):
    monkeypatch.setattr(pool, "_JOBS_A_PROCESS", 2)
    ends = ends_of([{}] * 5, tmp_path)
    assert [end["result"]["jobs"] for end in ends] == [1, 2, 1, 2, 1]


def test_who_stops_listening_stops_the_workers(tmp_path):
    options = {"workers": 1, "backend": "jax", "directory": tmp_path}
    replies = pool.replies([{}, {"sleep": 600}, {}], **options)
    messages = [next(replies)[1] for _ in range(3)]
    pid = messages[1]["result"]["pid"]
    start = time.monotonic()
    replies.close()
    assert time.monotonic() - start < 60
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_jobs_are_lines_of_json(tmp_path, monkeypatch):
    script = tmp_path / "echo.py"
    script.write_text(
        "import json, sys\n"
        "for line in sys.stdin:\n"
        "    print(json.dumps({'result': json.loads(line)}), flush=True)\n",
        encoding="utf-8",
    )
    monkeypatch.setattr(pool, "_WORKER", script)
    job = {"text": "two\nlines", "number": 0.1}
    assert ends_of([job], tmp_path) == [{"result": json.loads(json.dumps(job))}]


def test_workers_that_cannot_start_lose_every_job(tmp_path):
    ends = ends_of([{}, {}, {}], tmp_path / "not there")
    assert len(ends) == 3
    for end in ends:
        assert "did not start: [Errno 2] No such file" in end["lost"]
