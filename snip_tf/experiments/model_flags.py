"""The flags that name a saved network and its data, shared by scripts."""

import pathlib

from absl import app, flags

from snip_tf import data
from snip_tf.experiments import run_directory, runs

_RUN_DIR = flags.DEFINE_string("run_dir", None, "Directory of a finished run.")
_MODEL_FILE = flags.DEFINE_string("model_file", None, "A .keras file.")
_DATASET = flags.DEFINE_enum(
    "dataset", None, data.NAMES, "The data set; by default that of the run."
)
_DATA_DIR = flags.DEFINE_string("data_dir", None, "TFDS data directory.")


def load():
    """Returns the saved network, with masks, and its `data.Data`."""
    if bool(_RUN_DIR.value) == bool(_MODEL_FILE.value):
        raise app.UsageError("Give one of --run_dir and --model_file")
    if _RUN_DIR.value:
        directory = pathlib.Path(_RUN_DIR.value)
        config = run_directory.read_settings(directory)
        path = directory / "model.keras"
        dataset = _DATASET.value or config["dataset"]
        seed = config["seed"]
    else:
        path, dataset, seed = _MODEL_FILE.value, _DATASET.value, 0
        if dataset is None:
            raise app.UsageError("--model_file needs --dataset")
    model = runs.load_model(path)
    # The seed of the run: the same images standardise the test images.
    examples = data.load(dataset, data_dir=_DATA_DIR.value, seed=seed)
    runs.check_fits(model, examples)
    return model, examples
