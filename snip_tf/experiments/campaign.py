"""The runs of an experiment: which are missing, how long they take, doing them.

What another experiment has run is taken over, what was stopped goes on.
"""

import contextlib
import dataclasses
import pathlib
import shutil

from snip_tf import data, tables
from snip_tf.experiments import (
    estimates,
    job,
    processes,
    records,
    rows,
    run_directory,
    runs,
)


@dataclasses.dataclass(frozen=True)
class Campaign:
    """The runs to do, and where and how.

    Attributes:
        name: A name of `paper.EXPERIMENTS`.
        runs: Of its `rows.Run`s, those to do.
        path: The file of the lines.
        runs_dir: Where runs are kept until they are done.
        data_dir: A TFDS data directory.
        retry_failed: Whether runs that failed are to do.
        workers: The number of processes.
        lines: What is recorded, of any experiments.
    """

    name: str
    runs: list[rows.Run]
    path: pathlib.Path
    runs_dir: pathlib.Path
    data_dir: str | None = None
    retry_failed: bool = False
    workers: int = 1
    lines: list[dict] = dataclasses.field(default_factory=list)

    def missing(self):
        """Returns the runs that are to do."""
        found = self._found()
        return [
            run
            for run in self.runs
            if run not in found or (self.retry_failed and "error" in found[run])
        ]

    def failures(self):
        """Returns the recorded errors of the runs, by name."""
        found = self._found()
        return {
            run.name: found[run]["error"]
            for run in self.runs
            if "error" in found.get(run, ())
        }

    def listing(self):
        """Returns the runs as a table, and about how long they take."""
        found, seconds = self._found(), self._seconds(self.missing())
        table = [("run", "state", "schedule", "estimate")]
        for run in self.runs:
            steps = self._steps_done(run)
            state = f"{steps:,} steps done" if steps else "missing"
            if run in found:
                state = "failed" if "error" in found[run] else "done"
            left = estimates.clock(seconds[run]) if run in seconds else ""
            table.append((run.name, state, run.schedule, left))
        workers = max(1, min(self.workers, len(seconds)))
        total = estimates.clock(sum(seconds.values()) / workers)
        return (
            f"{tables.aligned(table, text_columns=3)}\n"
            f"{len(seconds)} of {len(self.runs)} runs to do, about {total} "
            f"with {workers} workers"
        )

    def execute(self):
        """Does what is missing; each run is recorded as soon as it is done.

        Returns:
            How the processes of runs ended that were killed, by name. Of those
            nothing is recorded, so that they are done the next time.

        Raises:
            BlockingIOError: If another process has this experiment in hand.
        """
        # Missing data are one error now, and are downloaded once.
        for dataset in {run.settings.dataset for run in self.missing()}:
            data.load(dataset, data_dir=self.data_dir)
        with run_directory.locked(self.runs_dir / self.name):
            own, found = records.read(self.path), self._found()
            for line in found.values():
                if line not in own:
                    records.append(self.path, line)
            for run in self.runs:
                if run in found and "error" not in found[run]:
                    self._clear(run)  # killed before it could be
            return self._execute(self.missing())

    def _execute(self, to_do):
        jobs = [
            (job.job_of(run, data_dir=self.data_dir), self._directory(run))
            for run in to_do
        ]
        seconds, lost, taken, due = self._seconds(to_do), {}, 0.0, 0.0
        replies = processes.replies(jobs, workers=self.workers)
        with contextlib.closing(replies):
            for count, (index, reply) in enumerate(replies, 1):
                run = to_do[index]
                self._record(run, reply)
                if "lost" in reply:
                    lost[run.name] = reply["lost"]
                # The pace so far tells how long the others take.
                taken, due = taken + reply["seconds"], due + seconds.pop(run)
                left = sum(seconds.values()) * taken / due / self.workers
                place = f"{count}/{len(jobs)}, {estimates.clock(left)} left"
                words = f"[{place}] {run.name}: {_outcome(run, reply)}"
                print(words, flush=True)
        return lost

    def _record(self, run, reply):
        """Writes the line of a run that has come to an end."""
        result = reply.get("result")
        if "error" in reply:
            result = {"error": reply["error"], **reply["surroundings"]}
        if result:
            line = records.line_of(self.name, run, result)
            records.append(self.path, line)
        can_go_on = "lost" in reply or self._steps_done(run)
        if "result" in reply or not can_go_on:
            self._clear(run)

    def _found(self):
        """Returns the line of each run; its own comes before that of others."""
        taken_over = records.taken_over(self.name, self.runs, self.lines)
        own = records.read(self.path)
        return records.by_run(self.name, taken_over + own)

    def _seconds(self, to_do):
        """Returns about how long the rest of each run takes."""
        measured = estimates.step_seconds(self.lines)
        return {
            run: estimates.run_seconds(
                run,
                measured,
                steps=run.settings.recipe.steps - self._steps_done(run),
            )
            for run in to_do
        }

    def _steps_done(self, run):
        """Returns the steps that a run can go on after."""
        path = self._directory(run) / "run"
        identity = runs.identity(run.settings, backend=run.backend)
        goes_on = run_directory.check(path, identity, overwrite=True)
        return runs.steps_done(path) if goes_on else 0

    def _directory(self, run):
        """Returns the directory of the files of a run until it is done."""
        settings = run.settings
        parts = (
            run.row.name,
            settings.dataset,
            f"{settings.recipe.steps}",
            run.backend,
            f"seed{settings.seed}",
        )
        return self.runs_dir / self.name / "-".join(parts)

    def _clear(self, run):
        shutil.rmtree(self._directory(run), ignore_errors=True)


def _outcome(run, reply):
    """Returns in words how a run ended."""
    if "error" in reply:
        return f"failed: {reply['error']}"
    if "lost" in reply:
        return f"failed: {reply['lost']}\n{reply['log']}"
    if run.row.sparsities:
        return "scored"
    error = reply["result"]["test_error"]
    return f"test error {error:.2f}% ({run.schedule})"
