"""A network exported, and its exports compared with it."""

import functools
import pathlib
import shutil
import tempfile

import keras
import numpy as np

import snip_tf
from snip_tf import data, exporting
from snip_tf.experiments import (
    comparison,
    engines,
    provenance,
    run_directory,
)
from snip_tf.exporting import litert

_REPORT = "export.json"
_CALIBRATION_IMAGES = 300


def check(directory, *, overwrite):
    """Refuses a directory that must not be exported into.

    Raises:
        ValueError: If Keras runs on another backend than TensorFlow.
        FileExistsError: If the directory holds anything else than exports, or
            exports that are not to be replaced.
    """
    if keras.backend.backend() != "tensorflow":
        raise ValueError(
            "This needs Keras' TensorFlow backend. "
            f"Received: KERAS_BACKEND={keras.backend.backend()}"
        )
    names = {entry.name for entry in directory.glob("*")}
    if directory.is_file() or names - {*exporting.FORMATS, _REPORT}:
        raise FileExistsError(
            "--export_dir must be new, empty or hold earlier exports and "
            f"nothing else. Received: {directory}"
        )
    if names and not overwrite:
        raise FileExistsError(
            f"{directory} already holds exports: choose another --export_dir, "
            "or pass --overwrite to replace them"
        )


def export_and_compare(
    model,
    examples,
    directory,
    *,
    format,
    compact=None,
    quantization=None,
    threads=1,
    test_images=None,
    batch_size=(1, 100),
    rounds=51,
):
    """Exports a network into a directory, each format into one of its own.

    Args:
        model: The masked network.
        examples: The `data.Data` that it was trained on.
        directory: The directory; what `check` allows is replaced.
        format: Names of `exporting.FORMATS`.
        compact: Whether dead units go; by default of litert alone.
        quantization: Of litert; see `snip_tf.export`.
        threads: Of LiteRT.
        test_images: How many test images to check on; by default all.
        batch_size: The sizes of the batches that are timed.
        rounds: In how many rounds times are taken.

    Returns:
        The tables of `comparison`, as a text. The report in the directory,
        written last, has their numbers.

    Raises:
        ValueError: If there are fewer images than in a batch, or an export
            gives other outputs than the network.
    """
    images, labels = _evenly_chosen(examples, test_images, max(batch_size))
    formats = tuple(dict.fromkeys(format))
    export = functools.partial(
        _export, _options(examples, compact, quantization), threads
    )
    # An old report must not describe the new files.
    (directory / _REPORT).unlink(missing_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        masked = scratch / "masked.keras"
        run_directory.save_model(model, masked)
        loaded = engines.load(masked, "keras")
        cases = [comparison.Case("keras", "masked", masked, model, loaded)]
        dense = keras.models.clone_model(model)  # masks of ones, a fresh draw
        for name in {"keras", *(f.removeprefix("sparse_") for f in formats)}:
            cases.append(export(dense, name, scratch / "dense", "dense"))
        for name in formats:
            cases.append(export(model, name, directory, "pruned"))
        rows = comparison.compare(
            cases, images, labels, batch_sizes=batch_size, rounds=rounds
        )
    for name in set(exporting.FORMATS) - set(formats):
        shutil.rmtree(directory / name, ignore_errors=True)
    report = {
        "model": model.name,
        "dataset": examples.name,
        "sparsity": snip_tf.model_sparsity(model),
        "quantization": quantization,
        "rounds": rounds,
        "litert_threads": threads,
        "networks": rows,
        **provenance.surroundings(),
    }
    run_directory.write_json(directory / _REPORT, report)
    return _text(rows, batch_size, directory)


def _text(rows, batch_sizes, directory):
    parts = [
        comparison.table_of_sizes(rows),
        comparison.table_of_times(rows, batch_sizes),
    ]
    path = directory / "litert" / "model.tflite"
    if path.exists():
        parts.append(str(litert.stored_weights(path.read_bytes())))
    return "\n\n".join(parts)


def _evenly_chosen(examples, size, least):
    """Returns standardised test images and their labels."""
    available = len(examples.test.labels)
    size = min(size or available, available)
    if least > size:
        raise ValueError(
            "--batch_size must be at most the number of test images, "
            f"{size}. Received: {least}"
        )
    # Of all classes: some data sets are stored by class.
    chosen = np.linspace(0, available - 1, size).astype(int)
    test = data.take(examples.test, chosen)
    images = data.standardise(test.images, examples.mean, examples.std)
    return images.numpy(), test.labels


def _options(examples, compact, quantization):
    """Returns the options of `snip_tf.export` by format."""
    options = {name: {"compact": bool(compact)} for name in exporting.FORMATS}
    options["litert"] = {
        "compact": compact is None or compact,
        "quantization": quantization,
    }
    if quantization == "int8":
        size = min(_CALIBRATION_IMAGES, len(examples.train.labels))
        images, _ = data.scoring_batch(examples, size=size, seed=0)
        options["litert"]["calibration_data"] = images
    return options


def _export(options, threads, model, name, directory, network):
    """Writes a network in a format and loads it back, as a `Case`."""
    options = options[name]
    path = snip_tf.export(
        model, directory / name, format=name, overwrite=True, **options
    )
    if options["compact"]:
        model = snip_tf.compact(model)
    loaded = engines.load(path, name, threads=threads)
    quantized = options.get("quantization") is not None
    return comparison.Case(name, network, path, model, loaded, quantized)
