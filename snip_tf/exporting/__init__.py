"""Pruned networks as files that run without snip_tf.

A mask that only multiplies saves nothing: here the zeros are baked in and,
where the format can, not stored.
"""

import pathlib

import keras

from snip_tf import _atomic, _checks, _keras, compaction, conversion
from snip_tf.compaction.graph import is_graph
from snip_tf.exporting import digests
from snip_tf.overriding import overridden

_SAVED_MODEL = ("saved_model.pb", "variables", "assets", "fingerprint.pb")
# What a directory of each format holds: always the first; the digests of all;
# and nothing else.
_FILES = {
    "saved_model": _SAVED_MODEL,
    "sparse_saved_model": _SAVED_MODEL,
    "litert": ("model.tflite",),
    "keras": ("model.keras",),
}
FORMATS = tuple(_FILES)


def export(
    model,
    directory,
    *,
    format="saved_model",
    compact=None,
    quantization=None,
    calibration_data=None,
    dense=False,
    overwrite=False,
):
    """Writes a pruned model in a format that needs no snip_tf to run.

    The model is left as it is. The directory is written whole or not at all:
    an export that fails or is interrupted leaves what was there before. In it
    is SHA256SUMS: `sha256sum --check SHA256SUMS` tells if a file was damaged.

        >>> model = snip_tf.models.build("lenet_300_100")
        >>> path = snip_tf.export(model, tempfile.mkdtemp(), format="keras")
        >>> type(keras.models.load_model(path).layers[-1]) is keras.layers.Dense
        True

    Args:
        model: A built Keras model of any kind, with masks or stripped.
        directory: The directory to make.
        format: One of FORMATS.

            * "saved_model": a TensorFlow SavedModel, zeros baked in.
            * "sparse_saved_model": the same, each weight stored in the
              smallest of three forms and made dense once, when it is loaded.
            * "litert": `model.tflite`, sparse weights stored sparsely.
            * "keras": `model.keras`, of plain Keras layers, not compiled.
        compact: Whether dead units are removed first, see `compact`. By
            default for "litert" of a Sequential or functional model only: the
            others then compute what the model does, number for number.
        quantization: For "litert": None, "float16" or "int8".
        calibration_data: For "int8": an array of typical inputs, or an
            iterable of batches of them, or of (x, y) pairs such as `fit` takes.
        dense: For "litert": whether zeros stay in the file, for runtimes that
            lack LiteRT's sparse weights or its DENSIFY op.
        overwrite: Whether an earlier export in the directory is replaced.

    Returns:
        The path to load: the directory of a SavedModel, else the file.

    Raises:
        ValueError: If the model is not built, or for an unknown format or
            quantization, options that do not go together, or calibration data
            that are not finite or of no use.
        FileExistsError: If the directory exists and `overwrite` is not set, or
            is no earlier export.
        OSError: If it cannot be written.
    """
    options = dict(
        quantization=quantization,
        calibration_data=calibration_data,
        dense=dense,
    )
    _check_options(model, format, options)
    if "://" in str(directory):  # which would be a directory of that name
        raise ValueError(
            "`directory` must be on a local disk. Received: "
            f"directory={directory}"
        )
    # A link is followed: what it leads to is replaced.
    with _checks.naming(directory=directory):
        directory = pathlib.Path(directory).resolve()
    _check_directory(directory, overwrite)
    if compact is None:
        compact = format == "litert" and is_graph(model)
    if compact:
        model = compaction.compact(model)
    with _atomic.replaced(directory) as part, conversion.stripped(model):
        _write(model, part, format, options)
        digests.write(part)
    is_file = len(_FILES[format]) == 1
    return directory / _FILES[format][0] if is_file else directory


def _write(model, directory, format, options):
    """Writes a model of plain Keras layers."""
    if _FILES[format] is _SAVED_MODEL:
        from snip_tf.exporting import saved_model

        sparse = format == "sparse_saved_model"
        saved_model.save(model, directory, sparse=sparse)
        return
    directory.mkdir()
    file = directory / _FILES[format][0]
    if format == "litert":
        from snip_tf.exporting import litert

        file.write_bytes(litert.convert(model, **options))
        return
    # Without loss and optimizer, which has two numbers a weight.
    compiled = [
        layer
        for layer in _keras.all_layers(model)
        if getattr(layer, "compiled", False)
    ]
    without_loss = overridden(compiled, "compiled", lambda *_: False)
    without_optimizer = overridden(compiled, "optimizer", lambda *_: None)
    with without_loss, without_optimizer:
        model.save(file)


def _check_options(model, format, options):
    _checks.check_one_of("format", format, FORMATS)
    if not (isinstance(model, keras.Model) and model.built):
        raise ValueError(
            f"`model` must be a built Keras model. Received: model={model!r}"
        )
    if format != "keras" and keras.backend.backend() != "tensorflow":
        raise ValueError(
            '`format` must be "keras" unless Keras\' backend is TensorFlow, '
            "where that file can be exported on. Received: "
            f"format={format!r}, backend={keras.backend.backend()}"
        )
    given = [k for k, v in options.items() if v is not None and v is not False]
    if given and format != "litert":
        raise ValueError(
            "`quantization`, `calibration_data` and `dense` go with "
            f'format="litert" only. Received: format={format!r} and '
            f"{', '.join(given)}"
        )


def _check_directory(directory, overwrite):
    """Refuses to replace what is no earlier export, or not to be replaced."""
    if not directory.exists():
        return
    if directory == pathlib.Path.cwd():  # its place is taken by another one
        raise ValueError(
            "`directory` must be another than the working directory. Received: "
            f"directory={str(directory)!r}"
        )
    inside = directory.iterdir() if directory.is_dir() else [directory]
    names = {path.name for path in inside}
    is_export = any(
        files[0] in names and names <= {*files, digests.NAME}
        for files in _FILES.values()
    )
    if names and not (is_export and overwrite):
        raise FileExistsError(
            f"`directory` must be new or empty, or with `overwrite` hold an "
            "earlier export and nothing else. Received: "
            f"directory={str(directory)!r}, overwrite={overwrite}"
        )
