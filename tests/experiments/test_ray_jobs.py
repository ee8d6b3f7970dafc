"""Runs on a Ray cluster of two nodes of this machine."""

import re
import signal
import subprocess
import sys
import time

import pytest
from conftest import SCRIPTS, run_forked, run_script

from snip_tf.experiments import records

_FLAGS = (
    "--experiment=table_1",
    "--dataset=mnist_5k",
    "--only=lenet_300_100-0.9[05]*-seed",
    "--seeds=1",
    "--results_dir=results",
)


@pytest.fixture(scope="module")
def cluster():
    """Two nodes of one CPU each: a run on each at a time."""
    pytest.importorskip("ray", reason="needs Ray: pip install 'snip_tf[ray]'")
    from ray.cluster_utils import Cluster

    nodes = Cluster()
    nodes.add_node(num_cpus=1)
    nodes.removable = nodes.add_node(num_cpus=1)
    yield nodes
    nodes.shutdown()


def test_x(cluster, tmp_path):
    status, output = run_script("reproduce.py", *_FLAGS, "--executor=ray", f"--ray_address={cluster.address}", "--steps=30", cwd=tmp_path)
    print(output)
    assert status==0
