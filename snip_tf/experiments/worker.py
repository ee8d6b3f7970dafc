"""The process that runs of an experiment are done in, one after another.

`pool` starts it. It reads jobs from its standard input and writes replies to
its standard output, a line of JSON each, and ends when its input does: also if
the process that started it was killed.
"""

import contextlib
import dataclasses
import functools
import gc
import json
import os
import pathlib
import queue
import signal
import subprocess
import sys
import threading
import time
import traceback

import keras

import snip_tf
from snip_tf.experiments import fitting, records, run_directory, runs

_PRUNED = "pruned.keras"
_LONGEST_ERROR = 500  # characters; TensorFlow's can be pages


def job_of(run, directory, *, data_dir=None):
    """Returns the job of a run, as JSON values.

    Args:
        run: A `records.Run`.
        directory: Where its files go; need not exist.
        data_dir: A TFDS data directory.
    """
    settings = dataclasses.replace(run.settings, data_dir=data_dir)
    return {
        "settings": dataclasses.asdict(settings),
        "sparsities": run.row.sparsities,
        "pictures": run.row.pictures,
        "directory": str(directory),
    }


def result_of(job, callbacks=()):
    """Does one job; what was done before in this process changes no number.

    Args:
        job: What `job_of` returned.
        callbacks: Keras callbacks to train with.

    Returns:
        What belongs into the line of the run besides its settings.
    """
    keras.backend.clear_session()
    gc.collect()  # the network of the job before
    settings = records.settings_of(job["settings"])
    data = _data(settings.dataset, settings.data_dir, settings.seed)
    if job["sparsities"]:
        result = _scored(settings, data, job["sparsities"])
    else:
        result = _trained(job, settings, data, callbacks)
    return {**result, **run_directory.surroundings()}


@functools.lru_cache(maxsize=1)
def _data(dataset, data_dir, seed):
    """Returns the data of a run; runs of the same seed follow each other."""
    return snip_tf.data.load(dataset, data_dir=data_dir, seed=seed)


def _scored(settings, data, sparsities):
    """Returns the first layer's connections at each sparsity."""
    model = runs.build(settings, data)
    start = time.perf_counter()
    scores = runs.CRITERIA[settings.criterion](
        model,
        *runs.scoring_batch(settings, data),
        **runs.criterion_options(settings),
    )
    kept, pictures = {}, {}
    for sparsity in sparsities:
        masks = snip_tf.keep_top(scores, sparsity)
        kept[f"{sparsity:g}"] = int(sum(mask.sum() for mask in masks))
        pictures[f"{sparsity:g}"] = _kept_per_pixel(masks)
    return {
        "weights": sum(score.size for score in scores),
        "kept": kept,
        "kept_per_pixel": pictures,
        "prune_seconds": time.perf_counter() - start,
    }


def _trained(job, settings, data, callbacks):
    directory = pathlib.Path(job["directory"])
    directory.mkdir(parents=True, exist_ok=True)
    model, seconds = _network(job, settings, data, directory)
    result = {**runs.kept(model), "prune_seconds": seconds}
    if job["pictures"]:
        masks = snip_tf.get_masks(model)
        pictures = {f"{settings.sparsity:g}": _kept_per_pixel(masks)}
        result["kept_per_pixel"] = pictures
        result["mean_image"] = _mean_image(settings, data)
    return result | fitting.train_and_evaluate(
        settings, model, data, directory, callbacks=callbacks
    )


def _network(job, settings, data, directory):
    """Returns the network, pruned under TensorFlow, and the seconds it took."""
    if keras.backend.backend() == "tensorflow":
        return runs.build_and_prune(settings, data)
    done = subprocess.run(
        [sys.executable, __file__, "build"],
        input=json.dumps(job),
        env={**os.environ, "KERAS_BACKEND": "tensorflow"},
        stdout=subprocess.PIPE,
        text=True,
    )
    reply = {"error": f"its process ended with status {done.returncode}"}
    if not done.returncode:
        reply = json.loads(done.stdout.splitlines()[-1])
    if "error" in reply:
        raise RuntimeError(
            f"building under TensorFlow failed: {reply['error']}"
        )
    model = runs.load_model(directory / _PRUNED)
    return model, reply["seconds"]


def _build():
    """Saves the network of the job that is the standard input."""
    job = json.load(sys.stdin)
    settings = records.settings_of(job["settings"])
    try:
        data = runs.load_data(settings)
        model, seconds = runs.build_and_prune(settings, data)
        path = pathlib.Path(job["directory"]) / _PRUNED
        run_directory.save_model(model, path)
    except Exception as error:  # told by the run that it is built for
        print(json.dumps({"error": in_short(error, job)}))
    else:
        print(json.dumps({"seconds": seconds}))


def _kept_per_pixel(masks):
    """Returns how many connections every input keeps, as a list."""
    return masks[0].sum(axis=1).astype(int).tolist()


def _mean_image(settings, data):
    """Returns the mean of the images scored on, its pixels from 0 to 255."""
    images, _ = runs.scoring_batch(settings, data)
    pixels = 255 * (images.mean(axis=0) * data.std + data.mean)
    return pixels.round().astype(int).ravel().tolist()


def _reply(job, send):
    """Does a job and sends what came of it."""
    period = job["settings"]["validate_every"]
    progress = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: send({"steps": period})
    )
    try:
        result = result_of(job, [progress])
    except Exception as error:  # the others go on
        send(
            {
                "error": in_short(error, job),
                "traceback": traceback.format_exc(),
                "surroundings": run_directory.surroundings(),
            }
        )
    else:
        send({"result": result})


def in_short(error, job):
    """Returns an error in one line, without the places it happened at."""
    text = " ".join(f"{type(error).__name__}: {error}".split())
    places = {
        job["directory"]: "run_dir",
        os.environ.get("TFDS_DATA_DIR"): "data_dir",
        job["settings"]["data_dir"]: "data_dir",
        str(pathlib.Path.cwd()): ".",
        str(pathlib.Path(__file__).parents[2]): ".",
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


def _listen(jobs):
    """Passes the jobs on; when there are no more, there is no more to do.

    Neither is there for a process that builds: it leads their group.
    """
    for line in sys.stdin:
        jobs.put(json.loads(line))
    with contextlib.suppress(AttributeError, ProcessLookupError):
        os.killpg(os.getpid(), signal.SIGKILL)
    os._exit(0)


def main():
    """Runs the process."""
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what is printed

    def send(message):
        print(json.dumps(message), file=replies, flush=True)

    # The commit and the code, before there can be others.
    run_directory.surroundings()
    run_directory.code()
    jobs = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(jobs,), daemon=True).start()
    while True:
        _reply(jobs.get(), send)


if __name__ == "__main__":
    if sys.argv[1:] == ["build"]:
        _build()
    else:
        main()
