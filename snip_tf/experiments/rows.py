"""What the paper's experiments are made of: rows, and the runs of a row."""

import dataclasses
import math
import re

from snip_tf import training
from snip_tf.experiments import runs

# The spacing of validations; a shorter schedule has a divisor of it.
_PERIOD = 1_000


@dataclasses.dataclass(frozen=True)
class Row:
    """One row of a table, or one point, curve or column of a figure."""

    name: str  # unique within the experiment
    settings: runs.Settings  # with seed 0
    paper: str = ""  # the printed error in percent, "1.6" or "1.90 ± 0.09"
    authors: float | None = None  # the error of the authors' released code
    parameters: str = ""  # the number of weights as Table 2 prints it
    # If given, nothing is trained: the weights are scored once and the first
    # layer's masks at these sparsities are recorded.
    sparsities: tuple[float, ...] = ()
    seeds: int | None = None  # by default the experiment's
    # Whether the first layer's mask and the mean of the images are recorded.
    pictures: bool = False

    @property
    def paper_error(self):
        """The error that the paper prints, as a number or None."""
        return float(self.paper.partition("±")[0]) if self.paper else None

    def at(self, *, seed=0, steps=None, dataset=None):
        """Returns the settings with another seed, schedule or data set."""
        own = self.settings
        steps = steps or own.recipe.steps
        return dataclasses.replace(
            own,
            seed=seed,
            recipe=own.recipe.scaled_to(steps),
            validate_every=math.gcd(steps, own.validate_every),
            dataset=dataset or own.dataset,
        )


@dataclasses.dataclass(frozen=True)
class Run:
    """One training, or one scoring where the row says so."""

    row: Row
    settings: runs.Settings
    backend: str = "tensorflow"  # of Keras

    @property
    def name(self):
        """What it is called in reports, unique within an experiment."""
        return _name_of(self.row, self.settings.seed)

    @property
    def is_on_own_data(self):
        """Whether it is on the data set that its row names."""
        return self.settings.dataset == self.row.settings.dataset

    @property
    def departures(self):
        """The data set and the backend, where they are not its row's."""
        datasets = [] if self.is_on_own_data else [self.settings.dataset]
        return datasets + [self.backend] * (self.backend != "tensorflow")

    @property
    def is_shortened(self):
        """Whether it trains for fewer iterations than the full recipe."""
        full = training.RECIPES[self.settings.dataset].steps
        return not self.row.sparsities and self.settings.recipe.steps < full

    @property
    def schedule(self):
        """How it trains, in words; what is shortened says so."""
        words = f"{self.settings.recipe.steps:,} steps"
        if self.is_shortened:
            full = training.RECIPES[self.settings.dataset].steps
            words = f"shortened: {words.replace(' ', f' of {full:,} ')}"
        if self.row.sparsities:
            words = "no steps"
        return ", ".join([words, *self.departures])


@dataclasses.dataclass(frozen=True)
class Experiment:
    """A figure or table of the paper."""

    title: str
    source: str
    seeds: int  # where a row does not say; the paper mostly runs 20
    rows: tuple[Row, ...]
    note: str  # what the reader must know of our version

    def runs(
        self,
        *,
        seeds=None,
        steps=None,
        dataset="mnist",
        backend="tensorflow",
        only="",
    ):
        """Returns its `Run`s, all of a seed together.

        By default they have the numbers of seeds and the steps of its rows;
        `dataset` takes the place of MNIST, `only` is searched in their names.

        Raises:
            ValueError: If that leaves no run, or if validating would take
                longer than training.
        """
        planned = []
        counts = {r: seeds or r.seeds or self.seeds for r in self.rows}
        for seed in range(max(counts.values())):
            for row in [row for row in self.rows if seed < counts[row]]:
                planned.append((_name_of(row, seed), row, seed))
        try:
            named = [each for each in planned if re.search(only, each[0])]
        except re.error:
            named = []
        if not named:
            raise ValueError(
                "--only must be a regular expression that is found in the name "
                f"of a run, such as {planned[0][0]}. Received: {only}"
            )
        chosen = []
        for _, row, seed in named:
            other = dataset if row.settings.dataset == "mnist" else None
            settings = row.at(seed=seed, steps=steps, dataset=other)
            chosen.append(Run(row, settings, backend))
        least = min(steps or _PERIOD, _PERIOD) // 10
        if min(run.settings.validate_every for run in chosen) < least:
            raise ValueError(
                f"`steps` must share a divisor of at least {least} with "
                f"{_PERIOD}, the spacing of validations. Received: {steps}"
            )
        return chosen


def _name_of(row, seed):
    return f"{row.name}-seed{seed}"


def row_of(
    model,
    sparsity=0.0,
    paper="",
    authors=None,
    *,
    name=None,
    variant="",
    dataset="mnist",
    recipe=None,
    settings=(),
    **more,
):
    """Returns a `Row`, by default named by network, sparsity and variant."""
    recipe = recipe or training.RECIPES[dataset]
    given = {"score_batch_size": recipe.batch_size, "validate_every": _PERIOD}
    given |= dict(settings)
    settings = runs.Settings(model, dataset, recipe, sparsity, **given)
    name = name or "-".join(filter(None, (model, f"{sparsity:g}", variant)))
    return Row(name, settings, paper, authors, **more)
