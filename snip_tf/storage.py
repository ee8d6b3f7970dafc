"""Scores and masks in files, with the settings that made them."""

import json
import os
import pathlib

import numpy as np


def save_arrays(path, arrays, **settings):
    """Writes scores or masks to an .npz file, whole or not at all.

    Args:
        path: The file; its name ends in ".npz".
        arrays: A sequence of numpy arrays, such as `sensitivity`, `keep_top`
            and `get_masks` return.
        **settings: What to keep with them, as JSON: model, sparsity, seed...

    Raises:
        ValueError: If the name does not end in ".npz".
    """
    path = pathlib.Path(path)
    if path.suffix != ".npz":
        raise ValueError(f'`path` must end in ".npz". Received: path={path}')
    named = {f"array_{i}": array for i, array in enumerate(arrays)}
    beside = path.with_name(path.name + ".part")
    with open(beside, "wb") as file:
        np.savez_compressed(file, settings=json.dumps(settings), **named)
    os.replace(beside, path)


def load_arrays(path):
    """Returns the arrays and the settings that `save_arrays` wrote.

    Args:
        path: The .npz file. It is only read as numbers and text; code in it is
            never run.

    Returns:
        A list of numpy arrays, and a dict.

    Raises:
        ValueError: If the file is not one of `save_arrays`.
        FileNotFoundError: If there is no such file.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            names = [f"array_{i}" for i in range(len(file.files) - 1)]
            arrays = [file[name] for name in names]
            return arrays, json.loads(str(file["settings"]))
    except FileNotFoundError:
        raise
    except Exception as error:  # zipfile and numpy raise many types
        raise ValueError(
            "`path` must be a file that `save_arrays` wrote. "
            f"Received: {path} ({type(error).__name__}: {error})"
        ) from error
