"""Runs on a Ray cluster: two nodes of a CPU each, all on this machine."""

import pathlib
import signal
import socket
import subprocess
import sys
import time

import pytest
from conftest import SCRIPTS, run_script

from snip_tf.experiments import processes, ray_jobs, records

_FLAGS = (
    "--experiment=table_1",
    "--dataset=mnist_5k",
    "--only=lenet_300_100-0(.95)?-seed",
    "--steps=10000",  # long enough to be stopped
    "--seeds=1",
    "--results_dir=results",
)
_MEASURED = ("test_error", "train_loss", "kept_per_weight")


@pytest.fixture
def cluster():
    pytest.importorskip("ray", reason="needs Ray: pip install 'snip_tf[ray]'")
    from ray.cluster_utils import Cluster

    nodes = Cluster()
    for _ in range(2):
        nodes.last = nodes.add_node(num_cpus=1)
    yield nodes
    nodes.shutdown()


def lines_of(place):
    """Returns what is recorded of each run."""
    lines = records.read(place / "results" / "table_1.jsonl")
    assert not [line for line in lines if "error" in line]
    return {
        line["row"]: {name: line[name] for name in _MEASURED} for line in lines
    }


def start(cluster, place):
    """Starts the experiment on a cluster; returns its process."""
    place.mkdir()
    flags = (*_FLAGS, "--executor=ray", f"--ray_address={cluster.address}")
    with open(place / "output.txt", "w") as output:
        return subprocess.Popen(
            [sys.executable, SCRIPTS / "reproduce.py", *flags],
            cwd=place,
            stdout=output,
        )


def jobs_of(place):
    """Returns the numbers of the processes that do its runs."""
    found = set()
    for file in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = file.read_bytes().decode().split("\0")
        except OSError:  # it has ended
            continue
        if "snip_tf.experiments.job" in words and f"{place}/" in words[-2]:
            found.add(int(file.parent.name))
    return found


def are_training(place):
    """Returns whether both runs have begun to."""
    return len(list(place.glob("runs/table_1/*/run/config.json"))) == 2


@pytest.mark.slow
def test_a_lost_worker_s_run_is_done_again_and_all_are_as_here(
    cluster, tmp_path
):
    place, seen, lost = tmp_path / "ray", set(), False
    driver = start(cluster, place)
    while driver.poll() is None:
        seen |= jobs_of(place)
        if are_training(place) and not lost:
            cluster.remove_node(cluster.last, allow_graceful=False)
            lost = True
        time.sleep(0.1)
    output = (place / "output.txt").read_text()
    assert driver.returncode == 0, output
    assert "[2/2]" in output
    assert len(seen) == 3  # of two runs
    assert not list((place / "runs/table_1").iterdir())
    (tmp_path / "here").mkdir()
    status, output = run_script(
        "reproduce.py", *_FLAGS, "--workers=2", cwd=tmp_path / "here"
    )
    assert status == 0, output
    assert lines_of(place) == lines_of(tmp_path / "here")


@pytest.mark.slow
def test_who_stops_it_has_its_runs_saved(cluster, tmp_path):
    place = tmp_path / "ray"
    driver = start(cluster, place)
    while not are_training(place):
        assert driver.poll() is None
        time.sleep(0.1)
    time.sleep(2)  # for the first steps
    driver.send_signal(signal.SIGTERM)
    assert driver.wait() == 143
    assert jobs_of(place) == set()
    assert len(list(place.glob("runs/table_1/*/run/checkpoint.npz"))) == 2


@pytest.mark.slow
def test_who_does_not_answer_is_named_within_a_minute():
    pytest.importorskip("ray", reason="needs Ray: pip install 'snip_tf[ray]'")
    start = time.monotonic()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(ConnectionError, match=f"{address} .no answer"):
            ray_jobs.connect(address)
    assert time.monotonic() - start < 60


def test_without_ray_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ImportError, match=r"pip install 'snip_tf\[ray\]'"):
        ray_jobs.connect("auto")


@pytest.mark.parametrize("mark", ["driver's", "of another machine"])
def test_a_worker_uses_the_job_s_directory_only_if_it_sees_it(
    mark, tmp_path, monkeypatch
):
    code = "import pathlib, sys; place = pathlib.Path(sys.argv[1]);"
    code += "(place / 'reply.json').write_text('{}'); print('done')"
    monkeypatch.setattr(processes, "_COMMAND", [sys.executable, "-c", code])
    (tmp_path / "driver.txt").write_text("driver's", encoding="utf-8")
    job = {"backend": "tensorflow"}
    assert ray_jobs._done(job, tmp_path, mark, {}) == ({}, b"done\n")
    assert (tmp_path / "reply.json").exists() == (mark == "driver's")
