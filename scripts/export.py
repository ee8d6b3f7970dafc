"""Exports a pruned network, checks what it wrote and measures it.

    python scripts/export.py --run_dir=runs/lenet_300_100-mnist-0.95-seed0 \
        --format=sparse_saved_model,litert --export_dir=out
    python scripts/export.py --model_file=model.keras --dataset=mnist \
        --format=litert --quantization=int8 --export_dir=out

Each format goes into a directory of its own below --export_dir, is loaded back
by its own engine (`tf.saved_model.load`, LiteRT's interpreter,
`keras.models.load_model`) and has to give the masked network's logits, within
1e-4, and test error; only what is quantised may differ. Two tables follow, with
the same network dense (a fresh draw, no weight removed) in each engine:

numbers        how many weights and masks the files have a number for; LiteRT
               leaves out biases of zero
gzip           the sum of the files, each compressed by itself
multiply-adds  of one example, by whole kernels; "nonzero" without their zeros
difference     the largest of a test image's logit from the masked network
batch 1, 100   median milliseconds, and the ratio to those of the dense network;
               the networks of one engine take turns. Of LiteRT it is the
               interpreter's `invoke` alone, without copies from and to Python

export.json in --export_dir has the same numbers and is written last.
"""

import pathlib
import shutil
import tempfile

import environment  # noqa: F401

import keras
import numpy as np
from absl import app, flags

import snip_tf
from snip_tf import data, exporting
from snip_tf.data import sources
from snip_tf.experiments import (
    comparison,
    engines,
    model_flags,
    program,
    run_directory,
)
from snip_tf.exporting import litert

_REPORT = "export.json"
_CALIBRATION_IMAGES = 300

flags.adopt_module_key_flags(model_flags)  # for --help
_FORMAT = flags.DEFINE_list(
    "format", ["sparse_saved_model"], f"Of {', '.join(exporting.FORMATS)}."
)
_EXPORT_DIR = flags.DEFINE_string("export_dir", None, "Where to write.")
_COMPACT = flags.DEFINE_bool(
    "compact", None, "Remove dead units first; by default for litert only."
)
_QUANTIZATION = flags.DEFINE_enum(
    "quantization",
    None,
    litert.QUANTIZATIONS,
    "Of litert; the dense network is then quantised too.",
)
_OVERWRITE = flags.DEFINE_bool(
    "overwrite", False, "Replace earlier exports in --export_dir."
)
_ROUNDS = flags.DEFINE_integer(
    "rounds", 51, "Rounds in which times are taken.", lower_bound=1
)
_BATCH_SIZES = flags.DEFINE_multi_integer(
    "batch_size", [1, 100], "Sizes of the batches to time.", lower_bound=1
)
_THREADS = flags.DEFINE_integer(
    "threads", 1, "Threads of LiteRT.", lower_bound=1
)
_TEST_IMAGES = flags.DEFINE_integer(
    "test_images",
    None,
    "How many test images to check on; by default all.",
    lower_bound=1,
)


def main():
    """Runs the script."""
    if keras.backend.backend() != "tensorflow":
        raise ValueError(
            "This needs Keras' TensorFlow backend. "
            f"Received: KERAS_BACKEND={keras.backend.backend()}"
        )
    formats = _checked_formats()
    directory = _checked_directory()
    model, examples = model_flags.load()
    images, labels = _test_images(examples)
    options = {"quantization": _QUANTIZATION.value}
    if _QUANTIZATION.value == "int8":
        size = min(_CALIBRATION_IMAGES, len(examples.train.labels))
        calibrating, _ = data.scoring_batch(examples, size=size, seed=0)
        options["calibration_data"] = calibrating
    # None is that of what is written from here on.
    (directory / _REPORT).unlink(missing_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        cases = [
            *_references(model, formats, pathlib.Path(scratch), options),
            *(_export(model, name, directory, options) for name in formats),
        ]
        rows = comparison.compare(
            cases,
            images,
            labels,
            batch_sizes=_BATCH_SIZES.value,
            rounds=_ROUNDS.value,
        )
    print(comparison.table_of_sizes(rows))
    print(f"\n{comparison.table_of_times(rows, _BATCH_SIZES.value)}")
    if "litert" in formats:
        path = directory / "litert" / "model.tflite"
        print(f"\n{litert.stored_weights(path.read_bytes())}")
    for name in set(exporting.FORMATS) - set(formats):
        shutil.rmtree(directory / name, ignore_errors=True)
    _write_report(directory, model, examples, rows)
    print(f"\nWrote {directory}")


def _checked_formats():
    formats = tuple(dict.fromkeys(_FORMAT.value))
    for name in formats:
        if name not in exporting.FORMATS:
            raise ValueError(
                f"--format must be of {', '.join(exporting.FORMATS)}. "
                f"Received: {name}"
            )
    if _QUANTIZATION.value and "litert" not in formats:
        raise app.UsageError("--quantization needs --format=litert")
    return formats


def _checked_directory():
    """Returns --export_dir; refuses one that must not be written to."""
    if not _EXPORT_DIR.value:
        raise app.UsageError("--export_dir must be given")
    directory = pathlib.Path(_EXPORT_DIR.value)
    names = {entry.name for entry in directory.glob("*")}
    if directory.is_file() or names - {*exporting.FORMATS, _REPORT}:
        raise FileExistsError(
            "--export_dir must be new, empty or hold earlier exports and "
            f"nothing else. Received: {directory}"
        )
    if names and not _OVERWRITE.value:
        raise FileExistsError(
            f"{directory} already holds exports: choose another --export_dir, "
            "or pass --overwrite to replace them"
        )
    return directory


def _references(model, formats, scratch, options):
    """Returns the dense network in each engine, and the masked network."""
    dense = keras.models.clone_model(model)  # masks of ones, a fresh draw
    engine_formats = {name.removeprefix("sparse_") for name in formats}
    cases = [
        _export(dense, name, scratch / "dense", options, network="dense")
        for name in sorted({"keras", *engine_formats})
    ]
    path = scratch / "masked.keras"
    run_directory.save_model(model, path)
    loaded = engines.load(path, "keras")
    return [*cases, comparison.Case("keras", "masked", path, model, loaded)]


def _export(model, name, directory, options, network="pruned"):
    """Writes a network in a format and loads it back, as a `Case`."""
    compact = _COMPACT.value
    if compact is None:
        compact = name == "litert"
    path = snip_tf.export(
        model,
        directory / name,
        format=name,
        compact=compact,
        overwrite=True,  # as `_checked_directory` allows
        **(options if name == "litert" else {}),
    )
    if compact:
        model = snip_tf.compact(model)
    loaded = engines.load(path, name, threads=_THREADS.value)
    quantized = name == "litert" and _QUANTIZATION.value is not None
    return comparison.Case(name, network, path, model, loaded, quantized)


def _test_images(examples):
    """Returns standardised test images, evenly chosen, and their labels."""
    available = len(examples.test.labels)
    size = min(_TEST_IMAGES.value or available, available)
    largest = max(_BATCH_SIZES.value)
    if largest > size:
        raise ValueError(
            "--batch_size must be at most the number of test images, "
            f"{size}. Received: {largest}"
        )
    # Of all classes: some data sets are stored by class.
    chosen = np.linspace(0, available - 1, size).astype(int)
    test = sources.take(examples.test, chosen)
    images = data.standardise(test.images, examples.mean, examples.std)
    return images.numpy(), test.labels


def _write_report(directory, model, examples, rows):
    run_directory.write_json(
        directory / _REPORT,
        {
            "model": model.name,
            "dataset": examples.name,
            "sparsity": snip_tf.model_sparsity(model),
            "quantization": _QUANTIZATION.value,
            "rounds": _ROUNDS.value,
            "litert_threads": _THREADS.value,
            "networks": rows,
            **run_directory.surroundings(),
        },
    )


if __name__ == "__main__":
    program.run(main)
