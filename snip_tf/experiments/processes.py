"""Jobs, each done by a process of its own on its share of the cores."""

import concurrent.futures
import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
import time

_COMMAND = [sys.executable, "-m", "snip_tf.experiments.job"]
# They bound what is used where processes cannot be pinned to cores.
_THREADS = (
    "TF_NUM_INTRAOP_THREADS",
    "TF_NUM_INTEROP_THREADS",
    "OMP_NUM_THREADS",
)
_LOG_TAIL = 2_000  # characters
_this_thread = threading.local()


def usable_cores():
    """Returns the numbers of the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def replies(jobs, *, workers):
    """Yields what came of jobs, as they end.

    Close it to stop: their processes end then. They also end if this process
    is killed.

    Args:
        jobs: A list of jobs (see `job.job_of`), each with the path of a
            directory for its files.
        workers: How many run at a time, at most as many as there are cores,
            which they share.

    Yields:
        The index of a job and a dict: its "result"; or the "error" it raised
        and its "surroundings"; or, if its process died, how, and the end of
        its log: "lost" and "log". In each the "seconds" it took.
    """
    cores, shares = usable_cores(), queue.SimpleQueue()
    for number in range(workers):
        shares.put(cores[number::workers])
    # The standard input of all processes; it ends when we close `open_end`.
    their_end, open_end = os.pipe()
    executor = concurrent.futures.ThreadPoolExecutor(
        workers, initializer=_pin, initargs=(shares,)
    )
    try:
        futures = {
            executor.submit(_reply, *job, their_end): index
            for index, job in enumerate(jobs)
        }
        for future in concurrent.futures.as_completed(futures):
            yield futures[future], future.result()
    finally:
        os.close(open_end)
        executor.shutdown(cancel_futures=True)
        os.close(their_end)


def _pin(shares):
    """Pins this thread, and so its child processes, to a share of the cores."""
    _this_thread.cores = shares.get()
    if hasattr(os, "sched_setaffinity"):
        with contextlib.suppress(OSError):  # cores may have been taken away
            os.sched_setaffinity(0, _this_thread.cores)


def _reply(job, directory, their_end):
    """Returns the reply to a job; see `replies`."""
    start = time.monotonic()
    try:
        reply = _done(job, directory, their_end)
    except OSError as error:  # no process, or no room for its files
        reply = {"lost": f"its process did not start: {error}", "log": ""}
    return {**reply, "seconds": time.monotonic() - start}


def _done(job, directory, their_end):
    directory.mkdir(parents=True, exist_ok=True)
    threads = str(len(_this_thread.cores))
    answer, log = directory / "reply.json", directory / "log.txt"
    # Other backends train what was pruned under TensorFlow.
    for backend in dict.fromkeys(("tensorflow", job["backend"])):
        (directory / "job.json").write_text(json.dumps(job), encoding="utf-8")
        answer.unlink(missing_ok=True)
        with open(log, "ab") as file:
            status = subprocess.call(
                [*_COMMAND, directory],
                stdin=their_end,
                stdout=file,
                stderr=file,
                env={
                    **os.environ,
                    "KERAS_BACKEND": backend,
                    **dict.fromkeys(_THREADS, threads),
                },
                start_new_session=True,  # Ctrl-C is not its business
            )
        if not answer.exists():
            tail = log.read_text(encoding="utf-8", errors="replace")
            return {
                "lost": f"its process ended with status {status}",
                "log": tail[-_LOG_TAIL:],
            }
        reply = json.loads(answer.read_text(encoding="utf-8"))
        if "error" in reply:
            break
        job = {**job, "pruned": reply["result"]}
    return reply
