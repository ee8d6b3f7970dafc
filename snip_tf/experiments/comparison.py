"""Exported networks beside each other: size, accuracy, speed."""

import dataclasses
import gzip
import itertools
import pathlib

import keras
import numpy as np

import snip_tf
from snip_tf import tables, training
from snip_tf.experiments import engines, timing

TOLERANCE = 1e-4  # of a logit; float32 rounding stays well below it


@dataclasses.dataclass(frozen=True)
class Case:
    """One network in the files of one format, loaded.

    Attributes:
        format: One of `exporting.FORMATS`.
        network: "dense", "masked" or "pruned".
        path: The file, or the directory of a SavedModel.
        model: The Keras model that has the kernels of the files.
        loaded: What `engines.load` returned.
        quantized: Whether its outputs may be others than the model's.
    """

    format: str
    network: str
    path: pathlib.Path
    model: keras.Model
    loaded: engines.Loaded
    quantized: bool = False

    @property
    def engine(self):
        """What runs it; the two kinds of SavedModel have one in common."""
        return self.format.removeprefix("sparse_")


def compare(cases, images, labels, *, batch_sizes, rounds):
    """Checks and measures networks.

    Args:
        cases: `Case`s: the masked network, the dense one in each engine, and
            others, which must give the logits of the masked one within
            TOLERANCE, and its test error, unless they are quantised.
        images: Standardised test images.
        labels: Their labels.
        batch_sizes: The sizes of the batches that are timed.
        rounds: In how many rounds times are taken.

    Returns:
        A list of a dict for each network, by engine. Their values are JSON's.

    Raises:
        ValueError: If a network differs from the masked one.
    """
    cases = sorted(cases, key=lambda c: (c.engine, c.format, c.network))
    (masked,) = (case for case in cases if case.network == "masked")
    expected = _logits(masked, images)
    rows = [
        _size_of(case) | _accuracy_of(case, images, labels, expected)
        for case in cases
    ]
    for size in batch_sizes:
        times = _times(cases, images[:size], rounds)
        dense = {
            case.engine: times[case.format, case.network]
            for case in cases
            if case.network == "dense"
        }
        for case, row in zip(cases, rows, strict=True):
            low, median, high = times[case.format, case.network].tolist()
            row[f"milliseconds_{size}"] = 1e3 * median
            row[f"milliseconds_{size}_p10_p90"] = [1e3 * low, 1e3 * high]
            row[f"ratio_{size}"] = median / dense[case.engine].tolist()[1]
    return rows


def _size_of(case):
    files = [path for path in case.path.rglob("*") if path.is_file()]
    contents = [path.read_bytes() for path in files or [case.path]]
    count = snip_tf.flops(case.model)
    return {
        "format": case.format,
        "network": case.network,
        "bytes": sum(map(len, contents)),
        "gzip_bytes": sum(len(gzip.compress(each)) for each in contents),
        "numbers": case.loaded.numbers,
        "multiply_adds": count.dense,
        "nonzero_multiply_adds": count.effective,
    }


def _logits(case, images):
    batches = np.split(images, range(100, len(images), 100))
    return np.concatenate([case.loaded.logits(batch) for batch in batches])


def _accuracy_of(case, images, labels, expected):
    """Returns the largest difference from the masked network, and the error.

    The dense network is not trained: it has neither.
    """
    if case.network == "dense":
        return {"difference": None, "test_error": None}
    logits = _logits(case, images)
    difference = float(np.abs(logits - expected).max())
    error, expected_error = (
        training.error_percentage(float(np.mean(each.argmax(axis=1) == labels)))
        for each in (logits, expected)
    )
    same = difference <= TOLERANCE and error == expected_error
    if not (same or case.quantized):
        raise ValueError(
            f"The {case.format} export must give the masked network's logits, "
            f"within {TOLERANCE:g}, and its test error, {expected_error:.2f}%. "
            f"Received: {case.path}, whose logits differ by {difference:.2g}, "
            f"test error {error:.2f}%"
        )
    return {"difference": difference, "test_error": error}


def _times(cases, batch, rounds):
    """Returns the times of a batch, those of one engine taken in turns."""
    times = {}
    for _, group in itertools.groupby(cases, key=lambda case: case.engine):
        runs = {
            (case.format, case.network): case.loaded.prepared(batch)
            for case in group
        }
        times |= timing.in_turns(runs, rounds=rounds)
    return times


def table_of_sizes(rows):
    """Returns what `compare` found of files and kernels as a table."""
    columns = {
        "bytes": "bytes",
        "gzip": "gzip_bytes",
        "numbers": "numbers",
        "multiply-adds": "multiply_adds",
        "nonzero": "nonzero_multiply_adds",
    }
    cells = [("format", "network", *columns)]
    for row in rows:
        numbers = (f"{row[column]:,}" for column in columns.values())
        cells.append((row["format"], row["network"], *numbers))
    return tables.aligned(cells, text_columns=2)


def table_of_times(rows, batch_sizes):
    """Returns what `compare` found of accuracy and speed as a table."""
    cells = [["format", "network", "difference", "test error"]]
    for size in batch_sizes:
        cells[0] += [f"batch {size}", "ratio"]
    for row in rows:
        accuracy = ("", "")
        if row["network"] != "dense":
            accuracy = (f"{row['difference']:.1e}", f"{row['test_error']:.2f}%")
        cells.append([row["format"], row["network"], *accuracy])
        for size in batch_sizes:
            milliseconds = row[f"milliseconds_{size}"]
            cells[-1] += [
                f"{milliseconds:.3f} ms",
                f"{row[f'ratio_{size}']:.2f}",
            ]
    return tables.aligned(cells, text_columns=2)
