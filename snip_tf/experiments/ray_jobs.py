"""Jobs, each done by a worker of a Ray cluster, as `processes` does them here.

Ray places them, one CPU or GPU each, and does again what was lost with its
worker. Workers need snip_tf and the data sets, and no file of this machine: a
reply comes back with the log. Where they see the job's directory, on a shared
disc, they work in it, and what is done again goes on from its last checkpoint;
elsewhere it begins anew, in a directory of the worker's own.
"""

import concurrent.futures
import contextlib
import os
import pathlib
import subprocess
import sys
import tempfile
import time
import uuid

from snip_tf.experiments import processes, run_directory, stopping

_RETRIES = 3  # of a job, with other workers
_ANSWERING = 40  # seconds in which a cluster must
_SAVING = 90  # seconds in which who is stopped does: `job` takes 60 at most
_MARK = "driver.txt"
_TRY = "import ray, sys; ray.init(sys.argv[1], logging_level='error')"


def connect(address):
    """Connects to a cluster; returns how many jobs it does at a time.

    Args:
        address: "host:port" of its head, or "auto" for one on this machine.

    Raises:
        ImportError: If Ray is not installed.
        ConnectionError: If no cluster answers.
    """
    try:
        import ray
    except ImportError as error:
        text = "--executor=ray needs Ray: pip install 'snip_tf[ray]'"
        raise ImportError(text) from error
    # In another process first: where nobody answers, Ray waits without end.
    command = [sys.executable, "-c", _TRY, address]
    try:
        tried = subprocess.run(
            command, stderr=subprocess.PIPE, timeout=_ANSWERING
        )
        said = tried.stderr.decode().splitlines() or ["it ended"]
        failure = tried.returncode and said[-1]
    except subprocess.TimeoutExpired:
        failure = f"no answer in {_ANSWERING} seconds"
    if failure:
        raise ConnectionError(
            "--ray_address must be the host:port of a Ray cluster that is up, "
            f"or auto. Received: {address} ({failure})"
        )
    ray.init(address, log_to_driver=False, logging_level="warning")
    stopping.listen()  # again: Ray has taken SIGTERM for itself
    return int(ray.cluster_resources().get(_unit(), 1))


def replies(jobs, *, workers):
    """Yields what `processes.replies` does; `workers` is what `connect` found.

    The log of each is then in the job's directory, whoever worked where.
    """
    import ray

    needed = {"num_cpus": 1, "num_gpus": int(_unit() == "GPU")}
    do = ray.remote(max_retries=_RETRIES, **needed)(_done)
    # TensorFlow's switches, and where TFDS has its data.
    switches = {k: v for k, v in os.environ.items() if k.startswith("TF")}
    if place := switches.get("TFDS_DATA_DIR"):
        switches["TFDS_DATA_DIR"] = os.path.abspath(place)
    pending = {}
    for index, (job, directory) in enumerate(jobs):
        directory.mkdir(parents=True, exist_ok=True)
        mark = uuid.uuid4().hex  # a path can be there and be another machine's
        (directory / _MARK).write_text(mark, encoding="utf-8")
        task = do.remote(job, directory.absolute(), mark, switches)
        pending[task] = index
    try:
        while pending:
            (task,), _ = ray.wait([*pending])
            index = pending.pop(task)
            try:
                reply, log = ray.get(task)
                (jobs[index][1] / "log.txt").write_bytes(log)
            except ray.exceptions.RayError as error:
                reply = {"lost": f"{error}".splitlines()[-1]}
            yield index, reply
    except SystemExit:  # by a signal, whose number Ray loses
        stopping.end()
    finally:
        for task in pending:
            ray.cancel(task)
        if pending:  # they save
            ray.wait([*pending], num_returns=len(pending), timeout=_SAVING)
        ray.shutdown()


def _unit():
    """Returns what a job takes one of: a GPU where the cluster has any."""
    import ray

    return "GPU" if ray.cluster_resources().get("GPU") else "CPU"


def _done(job, directory, mark, switches):
    """Does a job on a worker; returns the reply and the bytes of the log."""
    os.environ.update(switches)
    with tempfile.TemporaryDirectory() as own:
        place = directory if _sees(directory, mark) else pathlib.Path(own)
        their_end, open_end = os.pipe()
        with concurrent.futures.ThreadPoolExecutor(1) as executor:
            reply = executor.submit(
                processes.reply_to, job, place, "1", their_end
            )
            try:
                while not reply.done():  # a wait is deaf to `ray.cancel`
                    time.sleep(0.5)
            finally:
                os.close(open_end)
        os.close(their_end)
        return reply.result(), (place / "log.txt").read_bytes()


def _sees(directory, mark):
    """Returns whether a directory is the driver's, once it is free.

    Of a worker that is lost, the process in there saves first.
    """
    try:
        if (directory / _MARK).read_text(encoding="utf-8") != mark:
            return False
    except OSError:  # not there, or not to be read
        return False
    for _ in range(_SAVING):
        with contextlib.suppress(BlockingIOError):
            with run_directory.locked(directory / "run"):
                break
        time.sleep(1)
    return True
