"""Two processes that train one network on JAX, against one process."""

import csv
import json
import os
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
from conftest import SCRIPTS, run_forked

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


def start_two(*command, cwd):
    """Returns two processes that know of each other."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    return [
        start(
            *command,
            cwd=cwd,
            KERAS_DISTRIBUTION_JOB_ADDRESSES=f"127.0.0.1:{port}",
            KERAS_DISTRIBUTION_NUM_PROCESSES="2",
            KERAS_DISTRIBUTION_PROCESS_ID=str(number),
        )
        for number in range(2)
    ]


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


_DIFFERENT = """
from snip_tf.experiments import distributed
with distributed.joined("data_parallel"):
    distributed.check_same("00" * 8)
    distributed.check_same(f"{distributed.place()[0]:016x}")
"""


@pytest.mark.slow
def test_processes_with_different_masks_do_not_begin(place):
    statuses, printed = ends_of(start_two("-c", _DIFFERENT, cwd=place))
    assert statuses == [1, 1], printed
    for text in printed:
        assert "error: All processes must begin with the same weights" in text


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
