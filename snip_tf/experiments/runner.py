"""The runs of an experiment: planned, listed, and done by a pool of workers."""

import contextlib
import dataclasses
import pathlib
import re
import shutil
import tempfile

from absl import logging

from snip_tf import data, tables
from snip_tf.experiments import (
    checkpoints,
    estimates,
    fitting,
    paper,
    pool,
    progress,
    records,
    run_directory,
    worker,
)


def plan(
    name,
    *,
    seeds=None,
    steps=None,
    dataset="mnist",
    backend="tensorflow",
    only="",
):
    """Returns the `records.Run`s of an experiment, all of a seed together.

    Args:
        name: A name of `paper.EXPERIMENTS`.
        seeds: The number of seeds; by default the experiment's.
        steps: The iterations of each run; by default those of its row.
        dataset: What takes the place of MNIST.
        backend: The Keras backend to train on.
        only: A regular expression that must be found in a run's name.

    Raises:
        ValueError: If that leaves no run.
    """
    experiment = paper.EXPERIMENTS[name]
    runs = [
        records.Run(
            row,
            row.at(
                seed=seed,
                steps=steps,
                dataset=dataset if row.settings.dataset == "mnist" else None,
            ),
            backend,
        )
        for seed in range(seeds or experiment.seeds)
        for row in experiment.rows
    ]
    try:
        chosen = [run for run in runs if re.search(only, run.name)]
    except re.error as error:
        raise ValueError(
            f"--only must be a regular expression. Received: {only} ({error})"
        ) from error
    if not chosen:
        raise ValueError(
            "--only must be found in the name of a run, such as "
            f"{runs[0].name}. Received: {only}"
        )
    return chosen


@dataclasses.dataclass(frozen=True)
class Campaign:
    """The runs to do, and where and how.

    Attributes:
        name: A name of `paper.EXPERIMENTS`.
        runs: What `plan` returned.
        path: The file of the lines.
        runs_dir: Where runs are kept until they are done.
        data_dir: A TFDS data directory.
        retry_failed: Whether runs that failed are to do.
        workers: The number of processes.
        measured: What `estimates.step_seconds` returned.
        others: What `records.of_others` returned: runs that need not be done
            again.
    """

    name: str
    runs: list[records.Run]
    path: pathlib.Path
    runs_dir: pathlib.Path
    data_dir: str | None = None
    retry_failed: bool = False
    workers: int = 1
    measured: dict = dataclasses.field(default_factory=dict)
    others: dict = dataclasses.field(default_factory=dict)

    def state(self, run, found):
        """Returns "done", "failed", "missing" or the steps it has come to."""
        if run.key in found:
            return "failed" if "error" in found[run.key][1] else "done"
        steps = checkpoints.steps_done(self._directory(run))
        if not steps:
            return "missing"
        lost = "" if self._steps_done(run) else ", by other code: begins anew"
        return f"{steps:,} steps done{lost}"

    def missing(self):
        """Returns the runs that are to do."""
        found = self._found()
        settled = ("done",) if self.retry_failed else ("done", "failed")
        return [
            run for run in self.runs if self.state(run, found) not in settled
        ]

    def failures(self):
        """Returns the recorded errors of the runs, by name."""
        found = self._found()
        return {
            run.name: found[run.key][1]["error"]
            for run in self.runs
            if self.state(run, found) == "failed"
        }

    def listing(self):
        """Returns the runs as a table, and about how long they take."""
        found, to_do = self._found(), self.missing()
        rows = [("run", "state", "schedule", "estimate")]
        for run in self.runs:
            seconds = self._seconds(run) if run in to_do else 0
            rows.append(
                (
                    run.name,
                    self.state(run, found),
                    run.schedule,
                    estimates.clock(seconds) if seconds else "",
                )
            )
        workers = max(1, min(self.workers, len(to_do)))
        seconds = sum(self._seconds(run) for run in to_do) / workers
        return (
            f"{tables.aligned(rows, text_columns=3)}\n"
            f"{len(to_do)} of {len(self.runs)} runs to do, about "
            f"{estimates.clock(seconds)} with {workers} workers"
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
        with run_directory.held(self.runs_dir / self.name):
            to_do = self.missing()
            own = records.read(self.path)
            found = self._found()
            for _, line in found.values():
                if line not in own:
                    records.append(self.path, line)
            for run in self.runs:
                if self.state(run, found) == "done":
                    self._clear(run)  # killed before it could be
            if not to_do:
                return {}
            with tempfile.TemporaryDirectory(prefix="snip_tf-") as logs:
                return self._execute(to_do, logs)

    def _execute(self, to_do, logs):
        jobs = [
            worker.job_of(run, self._directory(run), data_dir=self.data_dir)
            for run in to_do
        ]
        lost = {}
        steps = [self._steps(run) for run in to_do]
        seconds = [self._seconds(run) for run in to_do]
        bar = progress.Bar(seconds)
        replies = pool.replies(
            jobs,
            workers=self.workers,
            backend=to_do[0].backend,
            directory=logs,
        )
        with contextlib.closing(replies), bar.shown:
            for index, message in replies:
                run = to_do[index]
                if "steps" in message:
                    part = message["steps"] / steps[index]
                    bar.advance(index, part * seconds[index])
                    continue
                if "lost" in message:
                    lost[run.name] = message["lost"]
                self._record(run, message)
                words = progress.in_words(message, run)
                bar.end(index, f"{run.name}: {words}")
        return lost

    def _record(self, run, message):
        """Writes the line of a run that has come to an end."""
        result = message.get("result")
        if "error" in message:
            logging.debug("%s", message["traceback"])
            result = {"error": message["error"], **message["surroundings"]}
        if result:
            line = records.line_of(self.name, run, result)
            records.append(self.path, line)
        done = "result" in message
        if done or not checkpoints.steps_done(self._directory(run)):
            self._clear(run)

    def _clear(self, run):
        shutil.rmtree(self._directory(run), ignore_errors=True)

    def _found(self):
        """Returns the line of each run; its own comes before that of others."""
        made = [
            (run, self.others.get((run.settings, run.backend)))
            for run in self.runs
        ]
        lines = [
            records.taken_over(self.name, run, line)
            for run, line in made
            if line and records.can_be_taken_over(run, line)
        ]
        return records.by_run(self.name, lines + records.read(self.path))

    def _seconds(self, run):
        """Returns about how long the rest of a run takes."""
        steps = self._steps(run)
        return estimates.run_seconds(run, self.measured, steps=steps)

    def _steps(self, run):
        """Returns how many steps of a run are left."""
        return run.settings.recipe.steps - self._steps_done(run)

    def _steps_done(self, run):
        """Returns the steps that a run can go on after."""
        directory = self._directory(run)
        steps = checkpoints.steps_done(directory)
        if not steps:
            return 0
        identity = fitting.identity_of(run.settings, backend=run.backend)
        return steps if checkpoints.fits(directory, identity) else 0

    def _directory(self, run):
        """Returns the directory of a run until it is done."""
        settings = run.settings
        parts = (
            run.row.name,
            settings.dataset,
            f"{settings.recipe.steps}",
            run.backend,
            f"seed{settings.seed}",
        )
        return self.runs_dir / self.name / "-".join(parts)
