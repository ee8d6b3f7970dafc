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
        return _number(self.paper.partition("±")[0])

    @property
    def paper_std(self):
        """The standard deviation that the paper prints, or None."""
        return _number(self.paper.partition("±")[2])

    def at(self, *, seed=0, steps=None, dataset=None):
        """Returns the settings with another seed, schedule or data set."""
        recipe, period = self.settings.recipe, self.settings.validate_every
        if steps is not None and steps != recipe.steps:
            recipe = recipe.scaled_to(steps)
            period = _period(steps, period)
        return dataclasses.replace(
            self.settings,
            seed=seed,
            recipe=recipe,
            validate_every=period,
            dataset=dataset or self.settings.dataset,
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
    def is_shortened(self):
        """Whether it trains for fewer iterations than the full recipe."""
        full = training.RECIPES[self.settings.dataset].steps
        return not self.row.sparsities and self.settings.recipe.steps < full

    @property
    def schedule(self):
        """How long it trains, in words; what is shortened says so."""
        steps = f"{self.settings.recipe.steps:,}"
        if self.row.sparsities:
            return "no steps"
        if not self.is_shortened:
            return f"{steps} steps"
        full = training.RECIPES[self.settings.dataset].steps
        return f"shortened: {steps} of {full:,} steps"


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
    note: str = ""

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
            ValueError: If that leaves no run.
        """
        planned = []
        for seed in range(seeds or self.seeds):
            for row in self.rows:
                other = dataset if row.settings.dataset == "mnist" else None
                settings = row.at(seed=seed, steps=steps, dataset=other)
                planned.append(Run(row, settings, backend))
        try:
            chosen = [run for run in planned if re.search(only, run.name)]
        except re.error as error:
            raise ValueError(
                "--only must be a regular expression. "
                f"Received: {only} ({error})"
            ) from error
        if not chosen:
            raise ValueError(
                "--only must be found in the name of a run, such as "
                f"{planned[0].name}. Received: {only}"
            )
        return chosen


def run_settings(
    model, sparsity=0.0, *, dataset="mnist", recipe=None, period=_PERIOD, **more
):
    """Returns settings whose batches and validations fit their recipe."""
    recipe = recipe or training.RECIPES[dataset]
    return runs.Settings(
        model=model,
        dataset=dataset,
        recipe=recipe,
        sparsity=sparsity,
        validate_every=_period(recipe.steps, period),
        **{"score_batch_size": recipe.batch_size, **more},
    )


def named_row(model, sparsity, paper="", authors=None, *, suffix="", **options):
    """Returns a `Row` that is named by its network, sparsity and suffix."""
    settings = run_settings(model, sparsity, **options)
    name = f"{model}-{sparsity:g}{suffix}"
    return Row(name, settings, paper=paper, authors=authors)


def _period(steps, longest):
    """Returns the spacing of validations, a divisor of the steps.

    Raises:
        ValueError: If it is so short that validating would take longer than
            training.
    """
    period = math.gcd(steps, longest)
    least = min(steps, longest) // 10
    if period < least:
        raise ValueError(
            f"The number of steps must share a divisor of at least {least} "
            f"with {longest}, the spacing of validations. Received: {steps}"
        )
    return period


def _number(text):
    return float(text) if text else None
