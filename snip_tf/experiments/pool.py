"""Worker processes, each on cores of its own, and the jobs they share."""

import contextlib
import json
import os
import pathlib
import queue
import signal
import subprocess
import sys
import threading

# Among the scripts: what it imports is found beside it.
_WORKER = pathlib.Path(__file__).with_name("worker.py")
# TensorFlow keeps some 10 MB of each training: its traced functions.
_JOBS_A_PROCESS = 25
_LOG_TAIL = 2_000  # characters


def usable_cores():
    """Returns the numbers of the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def replies(jobs, *, workers, backend, directory):
    """Yields what workers say of their jobs, as it comes.

    Close it to stop them: they are killed then.

    Args:
        jobs: A sequence of what `worker.job_of` returns.
        workers: The number of processes. They share the cores: as many as
            there are cores have one each.
        backend: Their Keras backend.
        directory: An existing directory for their logs.

    Yields:
        The index of a job and a dict: "steps" trained since the last;
        or, at its end, its "result"; or the "error" it raised, its
        "traceback" and the "surroundings"; or, if its process died, how, and
        the end of its log: "lost" and "log".
    """
    shared = _Shared(jobs)
    cores = usable_cores()
    threads = [
        threading.Thread(
            target=_serve,
            args=(
                shared,
                cores[number::workers],
                backend,
                pathlib.Path(directory) / f"worker-{number}.log",
            ),
            daemon=True,
        )
        for number in range(min(workers, len(jobs)))
    ]
    for thread in threads:
        thread.start()
    try:
        left = len(jobs)
        while left:
            index, message = shared.done.get()
            yield index, message
            left -= "steps" not in message
    finally:
        shared.stop()
        for thread in threads:
            thread.join()


class _Shared:
    """What the threads of the workers share."""

    def __init__(self, jobs):
        self.todo, self.done = queue.SimpleQueue(), queue.SimpleQueue()
        for indexed in enumerate(jobs):
            self.todo.put(indexed)
        self._lock = threading.Lock()
        self._running, self._stopped = set(), False

    def start(self, *arguments, **options):
        """Starts a process, None once all is stopped."""
        with self._lock:
            if self._stopped:
                return None
            process = subprocess.Popen(*arguments, **options)
            self._running.add(process)
            return process

    def end(self, process):
        """Ends a process that has no more to do, if there is one."""
        if process is None:
            return
        with contextlib.suppress(OSError):  # it may have died before
            process.stdin.close()
        process.wait()
        process.stdout.close()
        with self._lock:
            self._running.discard(process)

    def stop(self):
        """Kills what runs, and lets no more start."""
        with self._lock:
            self._stopped = True
            for process in self._running:
                _kill(process)


def _serve(shared, cores, backend, log):
    """Does jobs until there are no more, in a process that is kept."""
    if hasattr(os, "sched_setaffinity"):
        # Of this thread, and of its children; cores may have been taken away.
        with contextlib.suppress(OSError):
            os.sched_setaffinity(0, cores)
    process, jobs = None, 0
    while True:
        try:
            index, job = shared.todo.get_nowait()
        except queue.Empty:
            break
        if process is None or jobs % _JOBS_A_PROCESS == 0:
            shared.end(process)
            try:
                process = _start(shared, len(cores), backend, log)
            except OSError as error:  # no process, or no file for its log
                process = None
                lost = f"its process did not start: {error}"
                shared.done.put((index, {"lost": lost, "log": ""}))
                continue
        if process is None:
            return
        jobs += 1
        for message in _ask(process, job):
            if "lost" in message:
                message["log"] = _tail(log)
                shared.end(process)
                process = None
            shared.done.put((index, message))
    shared.end(process)


def _start(shared, cores, backend, log):
    with open(log, "ab") as file:
        return shared.start(
            [sys.executable, _WORKER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=file,
            text=True,
            env={**os.environ, **settings_for(cores, backend)},
            # Ctrl-C is the business of who started it. It leads a group.
            start_new_session=True,
        )


def _tail(log):
    """Returns the end of a log, if it is still there."""
    with contextlib.suppress(OSError):
        return log.read_text(errors="replace")[-_LOG_TAIL:]
    return ""


def _kill(process):
    """Kills a process, and what it has started."""
    if hasattr(os, "killpg"):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()


def settings_for(cores, backend):
    """Returns the environment variables of a worker.

    Where processes cannot be pinned to cores, the numbers of threads bound
    what they use.
    """
    variables = {"KERAS_BACKEND": backend}
    if not hasattr(os, "sched_setaffinity"):
        for name in (
            "TF_NUM_INTRAOP_THREADS",
            "TF_NUM_INTEROP_THREADS",
            "OMP_NUM_THREADS",
        ):
            variables[name] = str(cores)
    return variables


def _ask(process, job):
    """Yields the messages of a worker about a job; the last is its end."""
    try:
        process.stdin.write(json.dumps(job) + "\n")
        process.stdin.flush()
        for line in process.stdout:
            message = json.loads(line)
            yield message
            if "steps" not in message:
                return
    except (OSError, ValueError):
        pass  # it died, perhaps in the middle of a line
    _kill(process)
    yield {"lost": f"its process ended with status {process.wait()}"}
