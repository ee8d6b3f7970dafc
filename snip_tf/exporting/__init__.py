"""Pruned networks as files that run without snip_tf.

A mask that only multiplies saves nothing: here the zeros are baked in and,
where the format can, not stored.
"""

import contextlib
import pathlib
import shutil
import tempfile

from snip_tf import compaction, conversion, layers

# What an export directory of each format holds, at least.
_MARKS = {
    "saved_model": "saved_model.pb",
    "sparse_saved_model": "saved_model.pb",
    "litert": "model.tflite",
    "keras": "model.keras",
}
FORMATS = tuple(_MARKS)
# All that the directory of a SavedModel may hold.
_SAVED_MODEL = {"assets", "fingerprint.pb", "saved_model.pb", "variables"}


def export(
    model,
    directory,
    *,
    format="saved_model",
    compact=None,
    quantization=None,
    calibration_data=None,
    overwrite=False,
):
    """Writes a pruned model in a format that needs no snip_tf to run.

    The directory is written whole or not at all: an export that fails or is
    interrupted leaves what was there before; one that is killed between its
    last two renames leaves it in a hidden directory beside.

    Args:
        model: A built Keras model with masks.
        directory: The directory to make.
        format: One of FORMATS.

            * "saved_model": a TensorFlow SavedModel, zeros baked in.
            * "sparse_saved_model": the same, each weight stored in the
              smallest of three forms and made dense once, when it is loaded.
            * "litert": `model.tflite`, sparse weights stored sparsely.
            * "keras": `model.keras`, of plain Keras layers.
        compact: Whether dead units are removed first, see `compact`. By
            default for "litert" only: the others then compute what the model
            does, number for number.
        quantization: For "litert": None, "float16" or "int8".
        calibration_data: For "int8": an array of typical inputs, or an
            iterable of batches of them.
        overwrite: Whether an earlier export in the directory is replaced.

    Returns:
        The path to load: the directory of a SavedModel, else the file.

    Raises:
        ValueError: If the model has no masks or is not built, or for an
            unknown format or quantization or options that do not go together.
        FileExistsError: If the directory exists and `overwrite` is not set, or
            is no earlier export.
        OSError: If it cannot be written.
    """
    _check_options(model, format, quantization, calibration_data)
    # A link is followed: what it leads to is replaced.
    directory = pathlib.Path(directory).resolve()
    with _replacing(directory, overwrite) as part:
        if format == "litert" if compact is None else compact:
            model = compaction.compact(model)
        plain = conversion.strip(model)
        if _MARKS[format] == "saved_model.pb":
            from snip_tf.exporting import sparse_saving

            sparse = format == "sparse_saved_model"
            sparse_saving.save(plain, part, sparse=sparse)
        elif format == "litert":
            from snip_tf.exporting import litert

            flatbuffer = litert.convert(
                plain,
                quantization=quantization,
                calibration_data=calibration_data,
            )
            part.mkdir()
            (part / _MARKS[format]).write_bytes(flatbuffer)
        else:
            part.mkdir()
            plain.save(part / _MARKS[format])
    if _MARKS[format] == "saved_model.pb":
        return directory
    return directory / _MARKS[format]


def _check_options(model, format, quantization, calibration_data):
    if format not in FORMATS:
        raise ValueError(
            f"`format` must be one of {', '.join(FORMATS)}. "
            f"Received: format={format!r}"
        )
    layers.masked_layers(model)
    if format == "litert":
        from snip_tf.exporting import litert

        litert.check_options(model, quantization, calibration_data)
    elif quantization is not None or calibration_data is not None:
        raise ValueError(
            '`quantization` and `calibration_data` go with format="litert" '
            f"only. Received: format={format!r}, quantization={quantization!r}"
        )


@contextlib.contextmanager
def _replacing(directory, overwrite):
    """Gives a path to write a directory at, then puts it in its place."""
    if directory.exists() and not directory.is_dir():
        raise FileExistsError(
            f"`directory` must not be a file. Received: {directory}"
        )
    exists = directory.is_dir()
    names = {entry.name for entry in directory.iterdir()} if exists else set()
    if names and not _is_export(names):
        raise FileExistsError(
            "`directory` must be new, empty or hold an earlier export and "
            f"nothing else. Received: {directory}"
        )
    if names and not overwrite:
        raise FileExistsError(
            f"{directory} already holds an export: choose another directory, "
            "or overwrite it (overwrite=True, --overwrite)"
        )
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        # Beside the directory, as a rename must not cross file systems.
        beside = tempfile.mkdtemp(
            prefix=f".{directory.name}-", dir=directory.parent
        )
    except OSError as error:
        raise type(error)(
            f"`directory` must be writable. Received: {directory} ({error})"
        ) from error
    try:
        part = pathlib.Path(beside) / "new"
        yield part
        old = pathlib.Path(beside) / "old"
        if exists:
            directory.rename(old)
        try:
            part.rename(directory)
        except BaseException:
            if exists:
                old.rename(directory)
            raise
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _is_export(names):
    """Returns whether a directory of these names holds an export alone."""
    if "saved_model.pb" in names:
        return names <= _SAVED_MODEL
    return names in ({"model.tflite"}, {"model.keras"})
