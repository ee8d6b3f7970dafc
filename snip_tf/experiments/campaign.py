"""The runs of an experiment: which are missing, how long they take, doing them.

What another experiment has run is taken over, what was stopped goes on.
"""

import contextlib
import dataclasses
import pathlib
import shutil
from collections.abc import Callable

from snip_tf import data, tables
from snip_tf.experiments import (
    checkpoints,
    estimates,
    job,
    paper,
    processes,
    provenance,
    records,
    rows,
    run_directory,
)


@dataclasses.dataclass(frozen=True)
class Campaign:
    """The runs to do, and where and how."""

    name: str  # of `paper.EXPERIMENTS`
    runs: list[rows.Run]  # of it, those to do
    results: pathlib.Path  # the directory of NAME.jsonl of each experiment
    runs_dir: pathlib.Path  # where runs are kept until they are done
    workers: int = 1  # how many runs at a time
    replies: Callable = processes.replies  # does jobs, as this one

    @property
    def path(self):
        """The file of the lines."""
        return self.results / f"{self.name}.jsonl"

    def found(self):
        """Returns the line of each run; its own comes before that of others."""
        taken = records.taken_over(self.name, self.runs, self._lines())
        return taken | records.by_run(self.name, records.read(self.path))

    def missing(self):
        """Returns the runs that have no line yet, not even of a failure."""
        found = self.found()
        return [run for run in self.runs if run not in found]

    def listing(self):
        """Returns the runs as a table, and about how long they take."""
        found, lines, seconds = self.found(), self._lines(), []
        table = [("run", "state", "schedule", "estimate")]
        for run in self.runs:
            state, left = "done", ""
            if run not in found:
                steps = self._steps_done(run)
                state = f"{steps:,} steps done" if steps else "missing"
                seconds.append(estimates.run_seconds(run, lines, done=steps))
                left = estimates.clock(seconds[-1])
            elif "error" in found[run]:
                state = "failed"
            table.append((run.name, state, run.schedule, left))
        workers = max(1, min(self.workers, len(seconds)))
        total = estimates.clock(sum(seconds) / workers)
        return (
            f"{tables.aligned(table, text_columns=3)}\n"
            f"{len(seconds)} of {len(self.runs)} runs to do, about {total} "
            f"with {workers} workers"
        )

    def execute(self):
        """Does what is missing; each run is recorded as soon as it is done.

        Returns the number of runs without a result. Of one whose process was
        killed nothing is recorded, so that it goes on the next time.

        Raises:
            BlockingIOError: If another process has this experiment in hand.
            OSError: If nothing can be written where the results belong.
            ValueError: If the runs would be there.
        """
        place = self.runs_dir / self.name
        if self.results.resolve() == place.resolve():
            raise ValueError(
                f"--results_dir must be another directory than {place}, where "
                f"the runs are. Received: {self.results}"
            )
        run_directory.check_place(self.results)
        # Missing data are one error now, and are downloaded once.
        for dataset in {run.settings.dataset for run in self.missing()}:
            data.load(dataset)
        with run_directory.locked(place):
            own = records.read(self.path)
            for line in self.found().values():
                if line not in own:
                    records.append(self.path, line)
            self._execute(self.missing())
        found = self.found()
        return sum(r not in found or "error" in found[r] for r in self.runs)

    def _execute(self, to_do):
        jobs = [(job.job_of(run), self._directory(run)) for run in to_do]
        replies = self.replies(jobs, workers=self.workers)
        with contextlib.closing(replies):
            for count, (index, reply) in enumerate(replies, 1):
                run = to_do[index]
                failure = reply.get("lost") or reply.get("error")
                if "lost" not in reply:
                    line = records.line_of(self.name, run, reply)
                    records.append(self.path, line)
                if not failure:
                    shutil.rmtree(self._directory(run))
                log = self._directory(run) / "log.txt"
                outcome = f"failed: {failure}, see {log}" if failure else "done"
                place = f"[{count}/{len(jobs)}] {run.name} ({run.schedule})"
                print(f"{place}: {outcome}", flush=True)

    def _lines(self):
        """Returns what is recorded of all experiments."""
        paths = [self.results / f"{name}.jsonl" for name in paper.EXPERIMENTS]
        return [line for path in paths for line in records.read(path)]

    def _steps_done(self, run):
        """Returns the steps that a run can go on after."""
        path = self._directory(run) / "run"
        identity = provenance.identity(run.settings, backend=run.backend)
        goes_on = run_directory.check(path, identity, overwrite=True)
        return checkpoints.steps_done(path) if goes_on else 0

    def _directory(self, run):
        """Returns the directory of the files of a run until it is done."""
        own = run.settings
        schedule = f"{own.dataset}-{own.recipe.steps}-{run.backend}"
        name = f"{run.row.name}-{schedule}-seed{own.seed}"
        return self.runs_dir / self.name / name
