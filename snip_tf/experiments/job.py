"""The process that does one run of an experiment.

    python -m snip_tf.experiments.job DIRECTORY

`processes` starts it. It reads DIRECTORY/job.json, writes DIRECTORY/reply.json
when it is done, and ends early when its standard input does: so it never
outlives the process that started it.
"""

import dataclasses
import json
import os
import pathlib
import sys
import threading
import time
import traceback

import keras

import snip_tf
from snip_tf import _atomic
from snip_tf.experiments import records, runs

_LONGEST_ERROR = 500  # characters; TensorFlow's can be pages


def job_of(run, *, data_dir=None):
    """Returns the job of a `rows.Run` and a TFDS directory, as JSON values."""
    settings = dataclasses.replace(run.settings, data_dir=data_dir)
    return {
        "backend": run.backend,
        "settings": dataclasses.asdict(settings),
        "sparsities": run.row.sparsities,
        "pictures": run.row.pictures,
    }


def result_of(job, directory):
    """Does a job.

    Networks are built and pruned under TensorFlow in any case. A job for
    another backend is done in two processes: the first prunes.

    Args:
        job: What `job_of` returned; what the first process returned is its
            "pruned" in the second.
        directory: The path of an existing directory for its files.

    Returns:
        What belongs into the line of the run besides its settings.
    """
    settings = records.settings_of(job["settings"])
    if job["sparsities"]:
        return _scored(settings, job["sparsities"])
    file = directory / "pruned.keras"
    if "pruned" in job:
        model, pruned = runs.load_model(file), job["pruned"]
    else:
        model, pruned = _pruned(settings, job["pictures"])
        if job["backend"] != keras.backend.backend():
            model.save(file)
            return pruned
    # It may have been killed after its end: what it found is kept.
    found = _finished(directory / "run", settings) or runs.run(
        settings, directory / "run", overwrite=True, model=model
    )
    return found | pruned


def _finished(path, settings):
    """Returns the result of a run that is done, else None."""
    try:
        result = json.loads((path / "result.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return result if records.settings_of(result) == settings else None


def _scored(settings, sparsities):
    """Returns the first layer's connections at each sparsity."""
    data = runs.load_data(settings)
    model = runs.build(settings, data)
    start = time.perf_counter()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    batch = runs.scoring_batch(settings, data)
    scores = snip_tf.sensitivity(model, *batch, loss=loss)
    kept, per_pixel = {}, {}
    for sparsity in sparsities:
        masks = snip_tf.keep_top(scores, sparsity)
        kept[f"{sparsity:g}"] = int(sum(mask.sum() for mask in masks))
        per_pixel[f"{sparsity:g}"] = _kept_per_pixel(masks)
    return {
        "weights": sum(score.size for score in scores),
        "kept": kept,
        "kept_per_pixel": per_pixel,
        "prune_seconds": time.perf_counter() - start,
        **runs.surroundings(),
    }


def _pruned(settings, pictures):
    """Returns a pruned network, and what is recorded of its pruning."""
    data = runs.load_data(settings)
    model, seconds = runs.build_and_prune(settings, data)
    result = {"prune_seconds": seconds}
    if pictures:
        kept = _kept_per_pixel(snip_tf.get_masks(model))
        result["kept_per_pixel"] = {f"{settings.sparsity:g}": kept}
        result["mean_image"] = _mean_image(settings, data)
    return model, result


def _kept_per_pixel(masks):
    """Returns how many connections every input keeps, as a list."""
    return masks[0].sum(axis=1).astype(int).tolist()


def _mean_image(settings, data):
    """Returns the mean of the images scored on, its pixels from 0 to 255."""
    images, _ = runs.scoring_batch(settings, data)
    pixels = 255 * (images.mean(axis=0) * data.std + data.mean)
    return pixels.round().astype(int).ravel().tolist()


def in_short(error, directory, data_dir=None):
    """Returns an error in one line, without the places it happened at."""
    text = " ".join(f"{type(error).__name__}: {error}".split())
    places = {
        str(directory): "run_dir",
        os.environ.get("TFDS_DATA_DIR"): "data_dir",
        data_dir: "data_dir",
        str(pathlib.Path.cwd()): ".",
        str(pathlib.Path(snip_tf.__file__).parents[1]): ".",
        str(pathlib.Path.home()): "~",
    }
    # The longest first: one can lie in another.
    for place in sorted(filter(None, places), key=len, reverse=True):
        if len(place) > 1:
            text = text.replace(place, places[place])
    if len(text) > _LONGEST_ERROR:
        half = _LONGEST_ERROR // 2
        text = f"{text[:half]} ... {text[-half:]}"
    return text


def _end_with_parent():
    """Waits for the end of the standard input, then ends the process."""
    while os.read(sys.stdin.fileno(), 1):
        pass
    os._exit(1)


def main(directory):
    """Does the job of a directory, and replies."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    job = json.loads((directory / "job.json").read_text(encoding="utf-8"))
    # The commit is that of this code, whatever comes later.
    surroundings = runs.surroundings(job["backend"])
    try:
        reply = {"result": result_of(job, directory)}
    except Exception as error:  # the other runs go on
        traceback.print_exc()
        data_dir = job["settings"]["data_dir"]
        text = in_short(error, directory, data_dir)
        reply = {"error": text, "surroundings": surroundings}
    with _atomic.replaced(directory / "reply.json") as new:
        new.write_text(json.dumps(reply), encoding="utf-8")


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
