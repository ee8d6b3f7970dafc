"""Two processes that train one network on JAX, against one process."""

import csv
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
from conftest import SCRIPTS, missing, run_forked

_TRAIN = (
    SCRIPTS / "train.py",
    "--model=lenet_300_100",
    "--dataset=mnist_5k",
    "--sparsity=0.95",
    "--steps=400",
    "--validate_every=100",
)
_DISTRIBUTION = "--distribution=data_parallel"
_ON_JAX = {"KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"}


def start(*command, cwd, **environment):
    """Returns a process on JAX."""
    return subprocess.Popen(
        [sys.executable, *command],
        cwd=cwd,
        env={**os.environ, **_ON_JAX, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def _free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _told(number, port):
    """Returns the environment of one of two processes."""
    return {
        "KERAS_DISTRIBUTION_JOB_ADDRESSES": f"127.0.0.1:{port}",
        "KERAS_DISTRIBUTION_NUM_PROCESSES": "2",
        "KERAS_DISTRIBUTION_PROCESS_ID": str(number),
    }


def start_all(*commands, cwd):
    """Returns two processes that know of each other.

    Args:
        *commands: Of each a command and what its environment has besides.
        cwd: Where they run.
    """
    port = _free_port()
    return [
        start(*command, cwd=cwd, **_told(number, port), **environment)
        for number, (command, environment) in enumerate(commands)
    ]


def start_two(*command, cwd):
    """Returns two processes with the same command."""
    return start_all((command, {}), (command, {}), cwd=cwd)


def wait_for_period(process):
    """Returns when a process says that it ended the first period."""
    printed = ""
    while "Epoch 2" not in printed:
        printed = process.stdout.readline()
        assert printed, "it ended"


def ends_of(processes, seconds=600):
    """Returns the statuses and the last words of processes."""
    printed = [process.communicate(timeout=seconds)[0] for process in processes]
    return [process.returncode for process in processes], printed


def history(directory):
    """Returns the columns of history.csv of a run."""
    with open(directory / "history.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    return {name: [float(row[name]) for row in rows] for name in rows[0]}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A directory in which two processes trained, and one."""
    place = tmp_path_factory.mktemp("distributed")
    two = start_two(*_TRAIN, _DISTRIBUTION, "--run_dir=two", cwd=place)
    statuses, printed = ends_of(two)
    assert statuses == [0, 0], printed
    one = start(*_TRAIN, "--run_dir=one", cwd=place)
    assert ends_of([one])[0] == [0]
    return place


@pytest.mark.slow
def test_two_processes_train_as_one(place):
    one, two = history(place / "one"), history(place / "two")
    for name in one:
        np.testing.assert_allclose(two[name], one[name], rtol=1e-4)
    kept = [
        json.loads((place / name / "result.json").read_text())[
            "kept_per_weight"
        ]
        for name in ("one", "two")
    ]
    assert kept[0] == kept[1]


@pytest.mark.slow
def test_process_0_alone_writes(place):
    assert sorted(os.listdir(place)) == ["one", "two"]
    assert sorted(os.listdir(place / "two")) == sorted(
        os.listdir(place / "one")
    )


@pytest.mark.slow
def test_what_was_stopped_goes_on_exactly(place):
    processes = start_two(*_TRAIN, _DISTRIBUTION, "--run_dir=cut", cwd=place)
    wait_for_period(processes[0])
    processes[0].send_signal(signal.SIGTERM)
    (saved, ended), printed = ends_of(processes, seconds=60)
    assert saved == 143, printed[0]
    assert ended not in (0, 143), printed[1]
    assert (place / "cut/checkpoint.npz").exists()
    again = start_two(*_TRAIN, _DISTRIBUTION, "--run_dir=cut", cwd=place)
    statuses, printed = ends_of(again)
    assert statuses == [0, 0], printed
    assert all("Going on after" in text for text in printed)
    assert history(place / "cut") == history(place / "two")


@pytest.mark.slow
def test_a_dead_process_ends_the_others(place):
    processes = start_two(*_TRAIN, _DISTRIBUTION, "--run_dir=dead", cwd=place)
    wait_for_period(processes[0])
    processes[1].kill()
    start = time.monotonic()
    (status, _), (printed, _) = ends_of(processes, seconds=60)
    assert time.monotonic() - start < 60
    assert status == 1
    assert "error: Another process of this training has ended: st" in printed


@pytest.mark.slow
def test_a_batch_that_does_not_divide_is_refused(place):
    odd = (*_TRAIN, _DISTRIBUTION, "--run_dir=odd", "--batch_size=25")
    statuses, printed = ends_of(start_two(*odd, cwd=place))
    assert statuses == [1, 1]
    for text in printed:
        assert "a batch of 25 for 2 devices of 2 processes" in text


def _other_code(place):
    """Returns what process 1 runs instead: a changed copy of the library."""
    shutil.copytree(SCRIPTS.parent / "snip_tf", place / "snip_tf")
    shutil.copytree(SCRIPTS.parent / "models", place / "snip_tf/models")
    with open(place / "snip_tf/masks.py", "a") as file:
        file.write("# changed\n")
    return _TRAIN, {"PYTHONPATH": str(place)}


def _other_data(place):
    train = f"""
import runpy, sys
from snip_tf.experiments import runs
load = runs.load_data
def changed(settings):
    data = load(settings)
    data.test.labels[0] = 9 - data.test.labels[0]
    return data
runs.load_data = changed
sys.argv.pop(0)
sys.path.insert(0, {str(SCRIPTS)!r})
runpy.run_path(sys.argv[0], run_name="__main__")
"""
    return ("-c", train, *_TRAIN), {}


def _other_settings(place):
    return (*_TRAIN, "--seed=1"), {}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("other", "field"),
    [(_other_code, "code"), (_other_data, "data"), (_other_settings, "seed")],
)
def test_what_differs_between_processes_is_named(tmp_path, other, field):
    theirs, environment = other(tmp_path)
    last = (_DISTRIBUTION, "--run_dir=run")
    processes = start_all(
        ((*_TRAIN, *last), {}), ((*theirs, *last), environment), cwd=tmp_path
    )
    statuses, printed = ends_of(processes)
    assert statuses == [1, 1], printed
    for number, text in enumerate(printed):
        assert "must have the same code, settings, data and weights" in text
        assert f"Received: {field} (there " in text
        assert f"there: process {1 - number}" in text
    assert not (tmp_path / "run").exists()


_ALONE = """
from snip_tf.experiments import distributed
distributed._PATIENCE = 40
with distributed.joined("data_parallel"):
    print("not alone")
"""


@pytest.mark.slow
@pytest.mark.parametrize("number", [0, 1])
def test_a_process_that_stays_alone_says_so(tmp_path, number):
    began, port = time.monotonic(), _free_port()
    alone = start("-c", _ALONE, cwd=tmp_path, **_told(number, port))
    (status,), (printed,) = ends_of([alone])
    assert time.monotonic() - began < 60
    assert status == 1
    received = f"JOB_ADDRESSES=127.0.0.1:{port}, NUM_PROCESSES=2"
    received = f"{received}, PROCESS_ID={number}\n"
    waiting, error = printed.splitlines(keepends=True)[-2:]
    assert waiting.startswith("Waiting: --distribution=data_parallel needs all")
    assert error.startswith("error: --distribution=data_parallel needs all ")
    assert waiting.endswith(f"DISTRIBUTION_... names. Received: {received}")
    assert error.endswith(f"DISTRIBUTION_... names. Received: {received}")


@pytest.mark.slow
def test_an_impossible_number_is_refused(tmp_path):
    lost = start(*_TRAIN, _DISTRIBUTION, cwd=tmp_path, **_told(2, _free_port()))
    (status,), (printed,) = ends_of([lost])
    assert status == 1
    assert "PROCESS_ID=2 (process_id and num_processes must be" in printed


def _begin(backend, count, *command, cwd):
    """Returns so many processes of a command on a backend."""
    if count == 2:
        return start_two(*command, _DISTRIBUTION, cwd=cwd)
    return [start(*command, cwd=cwd, KERAS_BACKEND=backend)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("before", "after"),
    [
        (("jax", 2), ("jax", 1)),
        (("tensorflow", 1), ("jax", 2)),
        (("jax", 2), ("tensorflow", 1)),
        pytest.param(("tensorflow", 1), ("torch", 1), marks=missing("torch")),
        pytest.param(("torch", 1), ("jax", 1), marks=missing("torch")),
    ],
    ids=lambda place: "-".join(map(str, place)),
)
def test_what_was_stopped_goes_on_elsewhere(tmp_path, before, after):
    command = (*_TRAIN, "--run_dir=run")
    processes = _begin(*before, *command, cwd=tmp_path)
    wait_for_period(processes[0])
    processes[0].send_signal(signal.SIGTERM)
    assert ends_of(processes)[0][0] == 143
    noted = None
    if before[0] != after[0]:
        noted = f"backend (there {before[0]}, here {after[0]})"
        statuses, printed = ends_of(_begin(*after, *command, cwd=tmp_path))
        assert statuses[0] == 1
        assert noted in printed[0]
        command += ("--resume_anyway",)
    statuses, printed = ends_of(_begin(*after, *command, cwd=tmp_path))
    assert not any(statuses), printed
    assert all("Going on after" in text for text in printed)
    result = json.loads((tmp_path / "run/result.json").read_text())
    # The first weights too: a backend draws its own from a seed.
    assert result.get("resumed_anyway", [None])[0] == noted
    assert result["sparsity_reached"] == pytest.approx(0.95, abs=1e-5)
    losses = history(tmp_path / "run")["loss"]
    assert losses == sorted(losses, reverse=True)
    assert len(losses) == 4


def test_on_another_backend_it_is_refused(tmp_path):
    status, printed = run_forked(
        "train.py", "--model=lstm_s", _DISTRIBUTION, cwd=tmp_path
    )
    assert status == 1
    assert "needs KERAS_BACKEND=jax" in printed
    assert printed.endswith("Received: backend=tensorflow\n")


_MODEL_PARALLEL = """
import keras, numpy as np, snip_tf
from snip_tf import layers

mesh = keras.distribution.DeviceMesh((1, 2), ["batch", "model"])
layouts = keras.distribution.LayoutMap(mesh)
layouts[".*/fc1/kernel"] = (None, "model")
layouts[".*/fc2/kernel"] = ("model", None)
parallel = keras.distribution.ModelParallel(
    layout_map=layouts, batch_dim_name="batch"
)
x = np.random.default_rng(0).normal(size=(20, 28, 28, 1))
y = np.arange(20) % 10
loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)

def pruned():
    keras.utils.set_random_seed(0)
    model = snip_tf.models.build("lenet_300_100")
    snip_tf.prune(model, x, y, sparsity=0.95, loss=loss)
    model.compile("sgd", loss)
    return layers.masked_weights(model), model

expected, whole = pruned()
with parallel.scope():
    found, sharded = pruned()
    for weight, mask in found:
        assert mask.value.sharding == weight.value.sharding
    assert tuple(found[0][1].value.sharding.spec) == (None, "model")
    assert tuple(found[2][1].value.sharding.spec) == ("model", None)
    sharded.fit(x, y, batch_size=10, shuffle=False, verbose=0)
whole.fit(x, y, batch_size=10, shuffle=False, verbose=0)
for (weight, mask), (w, m) in zip(found, expected, strict=True):
    np.testing.assert_array_equal(mask, m)
    np.testing.assert_allclose(weight, w, rtol=1e-4, atol=1e-6)
    assert not np.asarray(weight)[np.asarray(mask) == 0].any()
"""


@pytest.mark.slow
def test_a_mask_is_sharded_as_its_kernel(tmp_path):
    two = "--xla_force_host_platform_device_count=2"
    process = start("-c", _MODEL_PARALLEL, cwd=tmp_path, XLA_FLAGS=two)
    (status,), (printed,) = ends_of([process])
    assert status == 0, printed
