"""What changes no number of a run does not end it."""

import os
import shutil
import subprocess
import sys

import pytest
from conftest import SCRIPTS
from injecting import FLAGS

pytestmark = pytest.mark.faults

# Of a process that is stopped after its first checkpoint, then goes on.
_STOPPING = """
import os, runpy, sys
import snip_tf
from snip_tf.experiments import checkpoints
assert snip_tf.__file__.startswith(os.getcwd()), snip_tf.__file__
save = checkpoints.save
def save_and_die(*arguments):
    save(*arguments)
    os._exit(9)
checkpoints.save, checkpoints.SECONDS = save_and_die, 0
sys.path.insert(0, "scripts")
runpy.run_path("scripts/train.py", run_name="__main__")
"""


def test_a_comment_in_every_file_ends_no_run(tmp_path):
    root = SCRIPTS.parent
    for name, target in (
        ("snip_tf", "snip_tf"),
        ("models", "snip_tf/models"),
        ("scripts", "scripts"),
    ):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(root / name, tmp_path / target, ignore=ignored)
    flags = (*FLAGS, "--run_dir=run")

    def run(*command):
        process = subprocess.run(
            [sys.executable, *command, *flags],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(tmp_path)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        return process.returncode, process.stdout

    status, output = run("-c", _STOPPING)
    assert status == 9, output
    files = [*tmp_path.rglob("*.py")]
    assert len(files) > 60
    for file in files:
        text = file.read_text()
        file.write_text(f"# first\n{text}# last\n")
    status, output = run("scripts/train.py")
    assert status == 0, output
    assert "Going on after 50 steps" in output
