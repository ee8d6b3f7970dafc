"""SIGTERM and Ctrl-C save what is trained, and what goes on is exact."""

import os
import signal
import subprocess
import sys
import time

import pytest
from conftest import SCRIPTS
from injecting import Before, outcome, train, undisturbed, wait_for

from snip_tf.experiments import checkpoints

pytestmark = pytest.mark.faults

# When a signal comes, the steps that are saved then, what is printed.
_TIMES = [
    (("make", "config.json"), 0, "Stopped."),
    (("step", None), 50, "Saved after 50 steps"),
    (("step", None), 100, "Saved after 100 steps"),  # and validated
    (("step", None), 150, "Saved after 150 steps"),
    (("make", "model.keras"), 200, "Stopped."),
]


def send(number):
    os.kill(os.getpid(), number)


def test_a_run_is_saved_wherever_a_signal_comes(tmp_path):
    for number, status in ((signal.SIGTERM, 143), (signal.SIGINT, 130)):
        place = tmp_path / number.name
        place.mkdir()
        for when, steps, text in _TIMES:
            fault = Before(*when, send, (number,), seconds=1e9)
            ended, output = train(place, fault)
            assert (ended, text in output) == (status, True), output
            assert "Traceback" not in output
            assert checkpoints.steps_done(place / "run") == steps
        status, output = train(place)
        assert status == 0, output
        assert outcome(place / "run") == undisturbed()


@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="needs /proc")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_the_runs_of_a_runner_are_saved_before_they_end(number, tmp_path):
    """By themselves, if the runner is killed."""
    process = subprocess.Popen(
        [sys.executable, SCRIPTS / "reproduce.py"]
        + ["--experiment=table_1", "--dataset=mnist_5k", "--only=300_100-0-"]
        + ["--results_dir=."],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    directory = tmp_path / "runs/table_1"
    directory /= "lenet_300_100-0-mnist_5k-60000-tensorflow-seed0"
    wait_for(lambda: "Epoch 1" in read(directory / "log.txt"))
    time.sleep(2)
    process.send_signal(number)
    output, _ = process.communicate()
    assert process.returncode == (143 if number == signal.SIGTERM else -9)
    if number == signal.SIGTERM:
        assert "Stopped." in output
    wait_for(lambda: "Saved after" in read(directory / "log.txt"))
    assert checkpoints.steps_done(directory / "run") > 0
    assert not list(tmp_path.glob("*.jsonl"))  # nothing failed


def read(path):
    return path.read_text() if path.exists() else ""
