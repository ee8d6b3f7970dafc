"""The recorded runs of an experiment, those of all seeds taken together."""

import dataclasses
import math
import statistics

from snip_tf.experiments import paper, records, rows

NOT_RUN, FAILED = "not run", "failed"


@dataclasses.dataclass(frozen=True)
class Group:
    """Runs that differ in nothing but the seed.

    Attributes:
        run: One of them, with seed 0.
        lines: The lines of those that are finished, by seed.
        failed: How many more failed.
    """

    run: rows.Run
    lines: list[dict]
    failed: int

    @property
    def was_run(self):
        """Whether any run was made, if only to fail."""
        return bool(self.lines or self.failed)

    @property
    def nothing(self):
        """Why there is no number where no run is finished."""
        return FAILED if self.failed else NOT_RUN

    def mean(self, name="test_error"):
        """Returns the mean over the lines."""
        return statistics.fmean(line[name] for line in self.lines)

    def std(self, name="test_error"):
        """Returns the sample standard deviation; NaN of a single line."""
        values = [line[name] for line in self.lines]
        return statistics.stdev(values) if len(values) > 1 else math.nan


def groups(name, lines):
    """Returns what was run of an experiment, a list of `Group`s.

    Groups are in the order of the rows; of a row, first those on its own data,
    then those of the longest schedule. A row without a run is an empty group.

    Args:
        name: A name of `paper.EXPERIMENTS`.
        lines: What `records.read` returned.
    """
    known = paper.EXPERIMENTS[name].rows
    found = records.by_run(name, lines)
    missing = set(known) - {run.row for run in found}
    found |= {rows.Run(row, row.settings): None for row in missing}

    def place(run):
        steps, seed = run.settings.recipe.steps, run.settings.seed
        return known.index(run.row), run.departures, -steps, seed

    alike = {}
    for run in sorted(found, key=place):
        settings = dataclasses.replace(run.settings, seed=0)
        seedless = dataclasses.replace(run, settings=settings)
        alike.setdefault(seedless, []).append(found[run])
    return [
        Group(
            run,
            [line for line in own if line and "error" not in line],
            sum("error" in (line or ()) for line in own),
        )
        for run, own in alike.items()
    ]
