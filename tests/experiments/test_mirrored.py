"""Runs on two replicas, against the same runs on one device."""

import functools
import json
import os
import re

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import FORKS, run_forked

from snip_tf import training
from snip_tf.experiments import checkpoints, mirrored, runs

_SETTINGS = runs.Settings(
    model="lenet_300_100",
    dataset="mnist_5k",
    recipe=training.RECIPES["mnist_5k"].scaled_to(20),
    sparsity=0.95,
    validate_every=10,
)


def two_devices(cluster=None):
    """Makes two devices of a CPU, before TensorFlow computes."""
    if cluster:
        task = {"type": "worker", "index": 0}
        os.environ["TF_CONFIG"] = json.dumps({"cluster": cluster, "task": task})
    (cpu,) = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(
        cpu, 2 * [tf.config.LogicalDeviceConfiguration()]
    )


class _Stop(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        if self.model.optimizer.iterations == 15:  # inside of a period
            raise InterruptedError


@pytest.mark.slow
def test_two_replicas_stopped_and_gone_on_train_as_one(tmp_path):
    process = FORKS.Process(target=run_on_two_and_one, args=(tmp_path,))
    process.start()
    process.join()
    assert process.exitcode == 0


def run_on_two_and_one(path):
    two_devices()
    checkpoints.SECONDS = 0
    with mirrored.scope("mirrored"):
        assert mirrored.replicas() == 2
        with pytest.raises(InterruptedError):
            runs.run(_SETTINGS, path / "two", callbacks=[_Stop()])
        assert checkpoints.steps_done(path / "two") == 15
    with pytest.raises(FileExistsError, match=r"replicas .there 2, here None"):
        runs.run(_SETTINGS, path / "two")
    with mirrored.scope("mirrored"):
        two = runs.run(_SETTINGS, path / "two")
    one = runs.run(_SETTINGS, path / "one")
    assert (two["replicas"], one["replicas"]) == (2, None)
    for name in ("kept_per_weight", "test_errors"):
        assert two[name] == one[name]
    for name in ("train_cross_entropies", "train_loss"):
        np.testing.assert_allclose(two[name], one[name], rtol=1e-5)
    for value, expected in zip(
        *(
            runs.load_model(path / n / "model.keras").weights
            for n in ("two", "one")
        ),
        strict=True,
    ):
        np.testing.assert_allclose(value, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("given", "cluster", "message"),
    [
        (
            "mirrored",
            None,
            r"a multiple of the number .* batch_size=25, replicas=2\n",
        ),
        (
            "mirrored",
            {"worker": ["a.org:1", "b.org:1"]},
            "several need --distribution=data_parallel, .* with 2 tasks",
        ),
        ("multi_worker", None, "should be one of <mirrored"),
    ],
)
def test_what_cannot_be_distributed_is_refused(
    given, cluster, message, tmp_path
):
    status, output = run_forked(
        "train.py",
        "--model=lenet_300_100",
        "--batch_size=25",
        f"--distribution={given}",
        cwd=tmp_path,
        before=functools.partial(two_devices, cluster),
    )
    assert status == 1, output
    assert re.search(message, output), output
    assert not list(tmp_path.iterdir())
