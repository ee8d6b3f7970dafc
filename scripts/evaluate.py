"""Evaluates a saved network: its test error and what is left of it.

python scripts/evaluate.py --run_dir=runs/lenet_300_100-mnist-0.95-seed0
python scripts/evaluate.py --model_file=model.keras --dataset=mnist
"""

import pathlib

from absl import app, flags

import experiment
import program
import run_directory
import snip_tf
from snip_tf import data, training

_RUN_DIR = flags.DEFINE_string("run_dir", None, "Directory of a finished run.")
_MODEL_FILE = flags.DEFINE_string("model_file", None, "A .keras file.")
_DATASET = flags.DEFINE_enum(
    "dataset", None, data.NAMES, "The data set; by default that of the run."
)
_DATA_DIR = flags.DEFINE_string("data_dir", None, "TFDS data directory.")


def main():
    """Runs the script."""
    if (_RUN_DIR.value is None) == (_MODEL_FILE.value is None):
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
    model = experiment.load_model(path)
    # The seed of the run: the same images standardise the test images.
    examples = data.load(dataset, data_dir=_DATA_DIR.value, seed=seed)
    experiment.check_fits(model, examples)
    training.compile_model(model, training.RECIPES[dataset])
    error = training.error_of(model, data.evaluation_batches(examples, "test"))
    print(snip_tf.summary(model))
    print(f"Test error on {dataset}: {error:.2f}%")


if __name__ == "__main__":
    program.run(main)
