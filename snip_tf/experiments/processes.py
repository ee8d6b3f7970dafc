"""Jobs, each done by a process of its own on its share of the cores."""

import concurrent.futures
import json
import os
import queue
import subprocess
import sys

_COMMAND = [sys.executable, "-m", "snip_tf.experiments.job"]


def usable_cores():
    """Returns the numbers of the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def replies(jobs, *, workers):
    """Yields what came of jobs, as they end.

    Close it to stop: their processes save what they train and end then, as when
    this one is killed.

    Args:
        jobs: A list of jobs (see `job.job_of`), each with the path of a
            directory for its files.
        workers: How many run at a time and share the cores, at most one each.

    Yields:
        The index of a job and a dict: what `job.main` replied or, if its
        process died, how: "lost".
    """
    workers = max(1, min(workers, len(jobs)))
    cores, shares = usable_cores(), queue.SimpleQueue()
    for number in range(workers):
        shares.put(cores[number::workers])
    # The standard input of all processes; it ends when we close `open_end`.
    their_end, open_end = os.pipe()

    def reply(job, directory):
        share = shares.get()
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, share)  # this thread and its children
        try:
            return reply_to(job, directory, f"{len(share)}", their_end)
        finally:
            shares.put(share)

    executor = concurrent.futures.ThreadPoolExecutor(workers)
    try:
        futures = {
            executor.submit(reply, *job): index
            for index, job in enumerate(jobs)
        }
        for future in concurrent.futures.as_completed(futures):
            yield futures[future], future.result()
    finally:
        executor.shutdown(wait=False, cancel_futures=True)  # none begins now
        os.close(open_end)
        executor.shutdown()
        os.close(their_end)


def reply_to(job, directory, threads, their_end):
    """Returns the reply to one job; its process ends with `their_end`."""
    directory.mkdir(parents=True, exist_ok=True)
    answer = directory / "reply.json"
    (directory / "job.json").write_text(json.dumps(job), encoding="utf-8")
    answer.unlink(missing_ok=True)
    # The threads bound what is used where processes cannot be pinned.
    environment = os.environ | {
        "KERAS_BACKEND": job["backend"],
        "TF_NUM_INTRAOP_THREADS": threads,
        "TF_NUM_INTEROP_THREADS": threads,
        "OMP_NUM_THREADS": threads,
    }
    with open(directory / "log.txt", "ab") as file:
        status = subprocess.call(
            [*_COMMAND, directory],
            stdin=their_end,
            stdout=file,
            stderr=file,
            env=environment,
            start_new_session=True,  # Ctrl-C is not its business
        )
    if not answer.exists():
        return {"lost": f"its process ended with status {status}"}
    return json.loads(answer.read_text(encoding="utf-8"))
