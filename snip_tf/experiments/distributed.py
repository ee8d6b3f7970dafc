"""One training by several processes, in data parallel: JAX' and Keras' own.

All processes are given the same command, and compute the same: each scores the
whole batch, and so has the masks that one process would have. Of each batch to
train or to test on, a process reads its share. Process 0 alone writes.
"""

import contextlib
import json
import os
import signal
import sys
import threading
import traceback

import keras
import numpy as np

from snip_tf.experiments import program, stopping

# The seconds after which a process that waits for others says so, and ends:
# before JAX does.
_SILENCE, _PATIENCE = 30, 280


@contextlib.contextmanager
def joined(distribution):
    """Makes this process one of those that KERAS_DISTRIBUTION_... name.

    Whatever ends one of them, a signal to process 0 too, ends them all: the
    others would wait for it. What was saved goes on when all begin again.

    Args:
        distribution: "data_parallel"; else nothing is done.

    Raises:
        ValueError: On another backend than JAX, or if not all processes come.
    """
    if distribution != "data_parallel":
        yield
        return
    if keras.backend.backend() != "jax":
        raise ValueError(
            "--distribution=data_parallel needs KERAS_BACKEND=jax: Keras' "
            "`fit` fails under TensorFlow's MultiWorkerMirroredStrategy. "
            f"Received: backend={keras.backend.backend()}"
        )
    try:
        _meet()
        keras.distribution.set_distribution(
            keras.distribution.DataParallel(auto_shard_dataset=False)
        )
        stopping.listen()  # again: JAX has taken SIGTERM
        if place()[0]:  # process 0 saves first, and its end is that of all
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, signal.SIG_IGN)
        yield
    except BaseException as error:
        # At once: on its way out JAX would wait for the others.
        status = error.code if isinstance(error, SystemExit) else 1
        if not isinstance(error, SystemExit):
            _report(error)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status if isinstance(status, int) else 1)


def _meet():
    """Returns when all processes are there, or ends this one."""
    told = "KERAS_DISTRIBUTION_"
    names = ("JOB_ADDRESSES", "NUM_PROCESSES", "PROCESS_ID")
    values = [f"{name}={os.environ.get(told + name)}" for name in names]
    needs = (
        f"--distribution=data_parallel needs all processes that {told}... "
        f"names. Received: {', '.join(values)}"
    )

    def give_up():
        print(f"error: {needs}", file=sys.stderr, flush=True)
        os._exit(1)  # JAX would abort

    waiting = f"Waiting: {needs}"
    timers = (
        threading.Timer(_SILENCE, print, [waiting], {"flush": True}),
        threading.Timer(_PATIENCE, give_up),
    )
    for timer in timers:
        timer.start()
    try:
        keras.distribution.initialize()
    except (RuntimeError, ValueError, IndexError) as error:
        raise ValueError(f"{needs} ({error})") from error
    finally:
        for timer in timers:
            timer.cancel()


def _report(error):
    """Prints what `program.run` would, and of a lost process what to do."""
    import jax

    is_full = "RESOURCE_EXHAUSTED" in str(error)
    if isinstance(error, jax.errors.JaxRuntimeError) and not is_full:
        error = (
            "Another process of this training has ended: "
            "start all of them again, and it goes on from its last checkpoint "
            f"({error})"
        )
    elif not isinstance(error, program.EXPECTED):
        traceback.print_exception(error)
    print(f"error: {error}", file=sys.stderr)


def place():
    """Returns the number of this process, and how many there are."""
    if keras.distribution.distribution() is None:
        return 0, 1
    import jax

    return jax.process_index(), jax.process_count()


def share(batches, *sizes):
    """Returns batches, of each only what this process reads.

    Args:
        batches: A `tf.data.Dataset` of tuples.
        *sizes: The sizes that the batches have.

    Raises:
        ValueError: If a batch does not divide.
    """
    index, count = place()
    if count == 1:
        return batches
    devices = keras.distribution.get_device_count()
    for size in sizes:
        if size % devices:
            raise ValueError(
                "Each batch must divide among the devices of all processes. "
                f"Received: a batch of {size} for {devices} devices of "
                f"{count} processes"
            )

    import tensorflow as tf

    def own(*batch):
        size = tf.shape(batch[0])[0] // count
        return tuple(part[index * size : (index + 1) * size] for part in batch)

    return batches.map(own)


def from_all(value):
    """Returns the JSON values that all processes call this with, by number.

    No process passes before all have come here; they must be several.
    """
    from jax.experimental import multihost_utils

    own = json.dumps(value).encode()
    longest = int(np.max(multihost_utils.process_allgather(len(own))))
    padded = np.frombuffer(own.ljust(longest), np.uint8)
    found = multihost_utils.process_allgather(padded)
    return [json.loads(one.tobytes()) for one in found]


def wait_for_all(what):
    """Waits until all processes have come to a point of this name."""
    if place()[1] > 1:
        from jax.experimental import multihost_utils

        multihost_utils.sync_global_devices(what)
