"""A network exported, checked and measured beside the dense one."""

import itertools
import pathlib
import tempfile

import keras
import numpy as np
import tensorflow as tf

import snip_tf
from snip_tf import data, tables
from snip_tf.experiments import timing
from snip_tf.exporting import digests, litert

TOLERANCE = 1e-4  # of a logit; float32 rounding stays well below it
_CALIBRATION_IMAGES = 300


def export_and_compare(
    model,
    examples,
    directory,
    *,
    format,
    compact,
    quantization,
    test_images,
    batch_size,
    rounds,
    overwrite,
):
    """Exports a network into a directory, each format into one of its own.

    Args:
        model: The masked network.
        examples: The `data.Data` that it was trained on.
        directory: The path of the directory.
        format: Names of `exporting.FORMATS`.
        compact: Whether dead units go; None is of litert alone.
        quantization: Of litert; see `snip_tf.export`.
        test_images: How many test images to check on; None is all.
        batch_size: The sizes of the batches that are timed.
        rounds: In how many rounds times are taken.
        overwrite: Whether earlier exports are replaced.

    Returns:
        What `compare` returns.

    Raises:
        FileExistsError: If a directory of a format holds an export that is not
            to be replaced, or anything else.
        ValueError: If there are fewer images than in a batch, or an export
            gives other outputs than the network.
    """
    images, labels = _evenly_chosen(examples, test_images, max(batch_size))
    quantized = {"quantization": quantization}
    if quantization == "int8":
        size = min(_CALIBRATION_IMAGES, len(examples.train.labels))
        typical, _ = data.scoring_batch(examples, size=size, seed=0)
        quantized["calibration_data"] = typical

    def export(model, name, directory):
        return snip_tf.export(
            model,
            directory / name,
            format=name,
            compact=compact,
            overwrite=overwrite,
            **(quantized if name == "litert" else {}),
        )

    paths = {
        (name, "pruned"): export(model, name, directory) for name in set(format)
    }
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        paths["keras", "masked"] = scratch / "masked" / "model.keras"
        paths["keras", "masked"].parent.mkdir()
        model.save(paths["keras", "masked"])
        digests.write(paths["keras", "masked"].parent)
        dense = keras.models.clone_model(model)  # masks of ones, a fresh draw
        for name in {"keras", *map(_engine, format)}:
            paths[name, "dense"] = export(dense, name, scratch)
        return compare(
            paths,
            images,
            labels,
            batch_sizes=batch_size,
            rounds=rounds,
            quantized=bool(quantization),
        )


def compare(paths, images, labels, *, batch_sizes, rounds, quantized=False):
    """Checks and measures networks.

    Args:
        paths: What `snip_tf.export` returned, by (format, network): the
            ("keras", "masked") network, in each engine the "dense" one, and
            "pruned" ones, which must give the logits of the masked one within
            TOLERANCE, and its test error.
        images: Standardised test images.
        labels: Their labels.
        batch_sizes: The sizes of the batches that are timed.
        rounds: In how many rounds times are taken.
        quantized: Whether LiteRT's outputs may be others.

    Returns:
        A list of a dict for each network, by engine.

    Raises:
        ValueError: If a network differs from the masked one.
    """
    keys = sorted(paths)
    loaded = {key: load(paths[key], key[0]) for key in keys}
    expected = _logits(loaded["keras", "masked"], images)
    rows = []
    for key in keys:
        size = _size_of(paths[key])
        row = {"format": key[0], "network": key[1], "bytes": size}
        if row["network"] != "dense":  # which is not trained
            logits = _logits(loaded[key], images)
            row["difference"] = float(np.abs(logits - expected).max())
            row["test_error"] = _error(logits, labels)
            if not (quantized and row["format"] == "litert"):
                _check(row, _error(expected, labels))
        rows.append(row)
    for size in batch_sizes:
        times = {}  # those of one engine are taken in turns
        for _, turns in itertools.groupby(keys, lambda key: _engine(key[0])):
            runs = {key: loaded[key](images[:size]) for key in turns}
            times |= timing.in_turns(runs, rounds=rounds)
        for row, key in zip(rows, keys, strict=True):
            median, dense = times[key][1], times[_engine(key[0]), "dense"][1]
            row[f"milliseconds_{size}"] = 1e3 * median
            row[f"ratio_{size}"] = median / dense
    return rows


def table(rows, batch_sizes):
    """Returns what `compare` found as a table."""
    cells = [["format", "network", "bytes", "difference", "test error"]]
    for size in batch_sizes:
        cells[0] += [f"batch {size}", "ratio"]
    for row in rows:
        line = [row["format"], row["network"], f"{row['bytes']:,}", "", ""]
        if row["network"] != "dense":
            line[-2:] = f"{row['difference']:.1e}", f"{row['test_error']:.2f}%"
        for size in batch_sizes:
            line.append(f"{row[f'milliseconds_{size}']:.3f} ms")
            line.append(f"{row[f'ratio_{size}']:.2f}")
        cells.append(line)
    return tables.aligned(cells, text_columns=2)


def load(path, format):
    """Returns a network as its engine runs it.

    Args:
        path: What `snip_tf.export` returned.
        format: One of `exporting.FORMATS`.

    Returns:
        A function that takes images and returns one without arguments, which
        computes their logits. LiteRT computes on one thread.

    Raises:
        ValueError: If a file is not as it was written.
    """
    digests.check(path if path.is_dir() else path.parent)
    if format == "litert":
        return _load_litert(path)
    if format == "keras":
        model = keras.models.load_model(path, compile=False, safe_mode=True)
        images = tf.TensorSpec(model.input_shape, tf.float32)
        call = tf.function(model, input_signature=[images])  # traced once
        return lambda images: lambda: call(images).numpy()
    model = tf.saved_model.load(path)
    serve = model.signatures["serving_default"]
    (name,) = serve.structured_input_signature[1]

    # The default argument keeps the variables, which the signature does not.
    def logits(images, _model=model):
        (outputs,) = serve(**{name: tf.constant(images)}).values()
        return outputs.numpy()

    return lambda images: lambda: logits(images)


def _load_litert(path):
    interpreter = litert.interpreter(path.read_bytes(), threads=1)
    (inputs,) = interpreter.get_input_details()
    (outputs,) = interpreter.get_output_details()

    def logits():
        interpreter.invoke()
        return interpreter.get_tensor(outputs["index"])

    def prepared(images):
        interpreter.resize_tensor_input(inputs["index"], images.shape)
        interpreter.allocate_tensors()
        interpreter.set_tensor(inputs["index"], images)
        return logits

    return prepared


def _engine(format):
    """Returns what runs a format; the SavedModels have one in common."""
    return format.removeprefix("sparse_")


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


def _size_of(path):
    files = [path] if path.is_file() else path.rglob("*")
    return sum(
        file.stat().st_size
        for file in files
        if file.is_file() and file.name != digests.NAME
    )


def _logits(prepared, images):
    batches = np.split(images, range(100, len(images), 100))
    return np.concatenate([prepared(batch)() for batch in batches])


def _error(logits, labels):
    return 100 * float(np.mean(logits.argmax(axis=1) != labels))


def _check(row, error):
    """Refuses a network with other outputs than the masked one."""
    # NaN is not within it either.
    if not row["difference"] <= TOLERANCE or row["test_error"] != error:
        raise ValueError(
            f"The {row['format']} export must give the masked network's logits "
            f"within {TOLERANCE:g} and its test error, {error:.2f}%. Received: "
            f"logits that differ by {row['difference']:.2g}, a test error of "
            f"{row['test_error']:.2f}%"
        )
