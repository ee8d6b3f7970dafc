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
    """One row of a table, or one point, curve or column of a figure.

    Attributes:
        name: Its name, unique within the experiment.
        settings: How it is run, with seed 0.
        paper: The test error in percent as the paper prints it, "1.6" or with
            its standard deviation "1.90 ± 0.09"; "" where it prints none.
        authors: The test error of the authors' released code, in percent.
        parameters: The number of weights as Table 2 prints it.
        sparsities: If given, nothing is trained: the weights are scored once
            and the first layer's masks at these sparsities are recorded.
        pictures: Whether the first layer's mask and the mean of the images
            scored on are recorded.
    """

    name: str
    settings: runs.Settings
    paper: str = ""
    authors: float | None = None
    parameters: str = ""
    sparsities: tuple[float, ...] = ()
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
    """One training, or one scoring where the row says so.

    Attributes:
        row: The `Row` it belongs to.
        settings: Its `runs.Settings`; its `data_dir` is None.
        backend: The Keras backend it is trained on.
    """

    row: Row
    settings: runs.Settings
    backend: str = "tensorflow"

    @property
    def name(self):
        """What it is called in reports, unique within an experiment."""
        return f"{self.row.name}-seed{self.settings.seed}"

    @property
    def is_on_own_data(self):
        """Whether it is on the data set that its row names."""
        return self.settings.dataset == self.row.settings.dataset

    @property
    def departures(self):
        """The data set and the backend, where they are not its row's."""
        backends = [] if self.backend == "tensorflow" else [self.backend]
        datasets = [] if self.is_on_own_data else [self.settings.dataset]
        return datasets + backends

    @property
    def full_steps(self):
        """How many iterations the full recipe of its data set has."""
        return training.RECIPES[self.settings.dataset].steps

    @property
    def is_shortened(self):
        """Whether it trains for fewer iterations than the full recipe."""
        steps = self.settings.recipe.steps
        return not self.row.sparsities and steps < self.full_steps

    @property
    def schedule(self):
        """How it trains, in words; what is shortened says so."""
        steps = f"{self.settings.recipe.steps:,}"
        words = f"{steps} steps"
        if self.is_shortened:
            words = f"shortened: {steps} of {self.full_steps:,} steps"
        if self.row.sparsities:
            words = "no steps"
        return ", ".join([words, *self.departures])


@dataclasses.dataclass(frozen=True)
class Experiment:
    """A figure or table of the paper.

    Attributes:
        title: What it shows.
        source: Where it stands in the paper.
        seeds: How many seeds are run by default; the paper mostly runs 20.
        rows: The `Row`s.
        note: What the reader must know of our version.
    """

    title: str
    source: str
    seeds: int
    rows: tuple[Row, ...]
    note: str

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

        Args:
            seeds: The number of seeds; by default the experiment's.
            steps: The iterations of each run; by default those of its row.
            dataset: What takes the place of MNIST.
            backend: The Keras backend to train on.
            only: A regular expression that must be found in a run's name.

        Raises:
            ValueError: If that leaves no run, or if validating would take
                longer than training.
        """
        planned = []
        for seed in range(seeds or self.seeds):
            for row in self.rows:
                other = dataset if row.settings.dataset == "mnist" else None
                settings = row.at(seed=seed, steps=steps, dataset=other)
                planned.append(Run(row, settings, backend))
        try:
            chosen = [run for run in planned if re.search(only, run.name)]
        except re.error:
            chosen = []
        if not chosen:
            raise ValueError(
                "--only must be a regular expression that is found in the name "
                f"of a run, such as {planned[0].name}. Received: {only}"
            )
        least = min(steps or _PERIOD, _PERIOD) // 10
        if min(run.settings.validate_every for run in chosen) < least:
            raise ValueError(
                f"`steps` must share a divisor of at least {least} with "
                f"{_PERIOD}, the spacing of validations. Received: {steps}"
            )
        return chosen


def row_of(
    model,
    sparsity=0.0,
    paper="",
    authors=None,
    *,
    name=None,
    dataset="mnist",
    recipe=None,
    settings=(),
    **more,
):
    """Returns a `Row`, by default named by its network and sparsity."""
    recipe = recipe or training.RECIPES[dataset]
    given = {"score_batch_size": recipe.batch_size, "validate_every": _PERIOD}
    given |= dict(settings)
    settings = runs.Settings(model, dataset, recipe, sparsity, **given)
    name = name or f"{model}-{sparsity:g}"
    return Row(name, settings, paper, authors, **more)
