"""A run that is killed over and over comes to the same to the bit."""

import random
import signal
import time

import pytest
from injecting import (
    Before,
    die_after,
    kill,
    outcome,
    start,
    train,
    undisturbed,
)

from snip_tf.experiments import checkpoints

pytestmark = pytest.mark.faults

# In the order in which a run comes to them.
_PHASES = [
    *((operation, "config.json") for operation in ("make", "open", "rename")),
    ("make", "checkpoint.npz"),
    ("open", "checkpoint.npz"),
    ("digest", "checkpoint.npz"),
    ("sync", "checkpoint.npz"),
    ("rename", "checkpoint.npz"),
    ("clear", "checkpoint.npz"),
    ("rename", "checkpoint-before.npz"),
    ("rename", "checkpoint.npz"),
    *((operation, "history.csv") for operation in ("make", "open", "rename")),
    ("make", "model.keras"),
    ("open", "model.keras"),
    ("sync", "model.keras"),
    ("rename", "model.keras"),
    ("clear", "model.keras"),
    *((operation, "result.json") for operation in ("make", "open", "rename")),
]
# At the file's opening: how many bytes of it are written.
_HALVES = {
    "config.json": 100,
    "checkpoint.npz": 1_000_000,
    "history.csv": 20,
    "model.keras": 1_000_000,
    "result.json": 500,
}


def test_killed_in_every_phase_of_saving(tmp_path):
    deaths = []
    for operation, file in _PHASES:
        faults = [Before(operation, file, kill)]
        if operation == "open":
            faults.append(Before(operation, file, die_after, (_HALVES[file],)))
        for fault in faults:
            done = checkpoints.steps_done(tmp_path / "run")
            status, output = train(tmp_path, fault)
            deaths.append(-status)
            assert -status in (signal.SIGKILL, signal.SIGXFSZ), output
            assert checkpoints.steps_done(tmp_path / "run") >= done
    assert deaths.count(signal.SIGKILL) >= 20
    assert checkpoints.steps_done(tmp_path / "run") == 200
    status, output = train(tmp_path)
    assert status == 0, output
    assert "Going on after 200 steps\n" in output
    assert outcome(tmp_path / "run") == undisturbed()


@pytest.mark.parametrize("seed", [0])
def test_killed_at_any_time(seed, tmp_path):
    """At random times, which grow, until it comes to its end."""
    chance, kills = random.Random(seed), 0
    while True:
        process, output = start(tmp_path, Before(), "--run_dir=run")
        process.join(chance.uniform(2, 4 + kills))
        if process.exitcode is not None:
            break
        process.kill()
        process.join()
        kills += 1
        time.sleep(0.1)
    assert process.exitcode == 0, output.read_text()
    assert kills
    assert outcome(tmp_path / "run") == undisturbed()
