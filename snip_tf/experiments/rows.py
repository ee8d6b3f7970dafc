"""What an experiment is made of: rows of settings, each with its source."""

import dataclasses
import math

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
        settings = self.settings
        recipe, period = settings.recipe, settings.validate_every
        if steps is not None and steps != recipe.steps:
            recipe = recipe.scaled_to(steps)
            period = _period(steps, period)
        return dataclasses.replace(
            settings,
            seed=seed,
            recipe=recipe,
            validate_every=period,
            dataset=dataset or settings.dataset,
        )


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


def settings(
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


def named(model, sparsity=0.0, *, suffix="", paper="", authors=None, **options):
    """Returns a row that is named by its network, sparsity and suffix."""
    return Row(
        f"{model}-{sparsity:g}{suffix}",
        settings(model, sparsity, **options),
        paper=paper,
        authors=authors,
    )


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
