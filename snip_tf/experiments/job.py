"""The process that does one run of an experiment.

    python -m snip_tf.experiments.job DIRECTORY

`processes` starts it. It reads DIRECTORY/job.json, writes DIRECTORY/reply.json
when it is done. When its standard input ends, it saves what it trains and ends
too: so it outlives the process that started it by a minute at most.
"""

import dataclasses
import json
import os
import pathlib
import re
import signal
import sys
import threading
import time
import traceback

import keras

import snip_tf
from snip_tf.experiments import (
    provenance,
    records,
    run_directory,
    runs,
    stopping,
)

_PATIENCE = 60  # seconds to save in


def job_of(run):
    """Returns the job of a `rows.Run`, as JSON values."""
    return {
        "backend": run.backend,
        "settings": dataclasses.asdict(run.settings),
        "sparsities": run.row.sparsities,
        "pictures": run.row.pictures,
    }


def result_of(job, directory):
    """Does a job in a directory; returns what is recorded of it."""
    settings = records.settings_of(job["settings"])
    if job["sparsities"]:
        return _scored(settings, job["sparsities"])
    path = directory / "run"
    result = run_directory.finished(path, provenance.identity(settings))
    result = result or runs.run(settings, path, overwrite=True)
    if job["pictures"]:
        result |= _pictures(settings, path / run_directory.MODEL)
    return result


def _scored(settings, sparsities):
    """Returns the first layer's connections at each sparsity."""
    data = runs.load_data(settings)
    model = runs.build(settings, data)
    start = time.perf_counter()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    batch = runs.scoring_batch(settings, data)
    scores = snip_tf.sensitivity(model, *batch, loss=loss)
    masks = {f"{s:g}": snip_tf.keep_top(scores, s) for s in sparsities}
    return {
        "weights": sum(score.size for score in scores),
        "kept": {
            key: int(sum(mask.sum() for mask in own))
            for key, own in masks.items()
        },
        "kept_per_pixel": {
            key: _kept_per_pixel(own) for key, own in masks.items()
        },
        "prune_seconds": time.perf_counter() - start,
        **provenance.surroundings(),
    }


def _pictures(settings, file):
    """Returns what a saved network keeps, and the mean of what it scored."""
    masks = snip_tf.get_masks(runs.load_model(file))
    data = runs.load_data(settings)
    images, _ = runs.scoring_batch(settings, data)
    pixels = 255 * (images.mean(axis=0) * data.std + data.mean)
    return {
        "kept_per_pixel": {f"{settings.sparsity:g}": _kept_per_pixel(masks)},
        "mean_image": pixels.round().astype(int).ravel().tolist(),
    }


def _kept_per_pixel(masks):
    """Returns how many connections every input keeps, as a list."""
    return masks[0].sum(axis=1).astype(int).tolist()


def in_short(error):
    """Returns an error in one line, of absolute paths only the last part."""
    text = " ".join(f"{type(error).__name__}: {error}".split())
    text = re.sub(r"(?<![\w:/.~])/(?:[^/\s'\"]+/)+", "", text)
    return text[:500]  # TensorFlow's can be pages, which are in the log


def _end_with_parent():
    """Waits for the end of the standard input, then ends the process."""
    os.read(sys.stdin.fileno(), 1)
    while True:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(_PATIENCE)


def main(directory):
    """Does the job of a directory; replies a result, or an "error"."""
    stopping.listen()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    job = json.loads((directory / "job.json").read_text(encoding="utf-8"))
    # The commit is that of this code, whatever comes later.
    surroundings = provenance.surroundings(job["backend"])
    try:
        reply = result_of(job, directory)
    except OSError:  # a full disc is not the run's fault: it goes on later
        raise
    except Exception as error:  # the other runs go on
        traceback.print_exc()
        reply = {"error": in_short(error), **surroundings}
    run_directory.write_json(directory / "reply.json", reply)


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
