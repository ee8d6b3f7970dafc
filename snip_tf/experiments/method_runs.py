"""How runs are done by the methods that Table 1 compares SNIP with.

SNIP prunes, then trains. Most others prune a network that was trained before,
which is a run of its own inside of the run directory. What follows, pruning and
retraining, has what is left of the steps: a budget counts them all.
"""

import contextlib
import dataclasses
import inspect

import keras

from snip_tf import stepwise
from snip_tf._checks import check_one_of, naming
from snip_tf.experiments import estimates
from snip_tf.experiments.method_table import (
    METHODS,
    OF_ALL,
    Stage,
    options_of,
    parsed,
)

# Settings of SNIP alone, and how they are without it.
_OF_SNIP = {"criterion": "snip", "reinit": False, "train_initializer": None}
_OF_SNIP["score_label"] = None
# What of a method's own is no number that is set by hand.
_GIVEN = ("model", "x", "y", "examples", "seed", "batch_size", "options")


def check(settings):
    """Raises a ValueError for a method, or options, that are not there."""
    name, steps = settings.method, settings.recipe.steps
    check_one_of("method", name, METHODS)
    method, options = METHODS[name], parsed(settings)
    known = ", ".join(option_names(name))
    if unknown := set(options) - set(option_names(name)):
        raise ValueError(
            f"`method_options` of {name} must be of {known or 'none'}. "
            f"Received: {', '.join(sorted(unknown))}"
        )
    if method is None:
        return
    for other, default in _OF_SNIP.items():
        if getattr(settings, other) != default:
            raise ValueError(
                f"`{other}` is not for {name}. Received: "
                f"{other}={getattr(settings, other)}"
            )
    given = [settings.sparsity or None, options.get("sparsity")]
    if sum(one is not None for one in given) != method.takes_sparsity:
        rule = "be given once" if method.takes_sparsity else "be what comes out"
        raise ValueError(
            f"`sparsity` must {rule} with {name}. Received: {given}"
        )
    with naming(method_options=settings.method_options):
        first = pretraining_steps(settings)
    if not method.pretrains <= first < steps:
        raise ValueError(
            "`pretraining` must be a part of the steps, and of one at least "
            f"where a method prunes a trained network. Received: {first} of "
            f"{steps} steps for {name}"
        )


def option_names(name):
    """Returns the options of a method."""
    if METHODS[name] is None:
        return []
    own = inspect.signature(METHODS[name].by).parameters
    names = dict.fromkeys([*own, *OF_ALL])
    return [name for name in names if name not in _GIVEN]


def pretraining_steps(settings):
    """Returns how many of the steps train the dense network.

    They are the part "pretraining" of all, by default half; none with SNIP, or
    where a method prunes what it trains.
    """
    method = METHODS[settings.method]
    part = 0.5 if method and method.pretrains else 0.0
    part = parsed(settings).get("pretraining", part)
    return round(part * settings.recipe.steps)


def period_of(steps, wanted):
    """Returns a spacing of validations that divides steps.

    It is the nearest below the one that is wanted, if that is no tenth of it;
    else there is one, at the end.
    """
    most = min(wanted, steps)
    found = estimates.largest_divisor(steps, most)
    return found if 10 * found > most else steps


def pretraining(settings):
    """Returns the `Settings` of the pretraining."""
    recipe = settings.recipe.scaled_to(pretraining_steps(settings))
    return _of_part(settings, recipe, sparsity=0.0)


def after_pretraining(settings):
    """Returns the `Settings` of the training that comes after it."""
    method = METHODS[settings.method]
    if method is None:
        return settings
    steps = settings.recipe.steps - pretraining_steps(settings)
    recipe = settings.recipe.scaled_to(steps)
    own = {"learning_rate": method.rate * recipe.learning_rate}
    own |= method.recipe
    rate = parsed(settings).get("learning_rate", own["learning_rate"])
    own["learning_rate"] = rate
    return _of_part(settings, dataclasses.replace(recipe, **own))


def _of_part(settings, recipe, **changes):
    return dataclasses.replace(
        settings,
        recipe=recipe,
        validate_every=period_of(recipe.steps, settings.validate_every),
        method="snip",
        method_options=(),
        **changes,
    )


def prepared(settings, model, data):
    """Returns a block that yields callbacks; after it the network is pruned.

    Args:
        settings: The `Settings` of the run.
        model: The network; when the block begins it must be trained.
        data: The `data.Data`.

    Raises:
        ValueError: For options that do not fit: now, not after training.
    """
    method = METHODS[settings.method]
    if method is None:
        return contextlib.nullcontext([])
    recipe = after_pretraining(settings).recipe
    stage, own = Stage(settings, recipe, model, data), options_of(settings)
    if isinstance(own.get("sparsity"), dict):
        stepwise.groups(model, own["sparsity"])

    def make():
        return method.by(**{**method.options(stage), **own})

    if inspect.isfunction(method.by):  # L-OBS prunes when it is called
        return _called_first(make)
    made = make()
    if isinstance(made, contextlib.AbstractContextManager):
        return _in_list(made)
    return contextlib.nullcontext([made])


@contextlib.contextmanager
def _called_first(function):
    function()
    yield []


@contextlib.contextmanager
def _in_list(block):
    with block:
        yield [block]


def numbers_by_hand(settings):
    """Returns how many numbers somebody chose for the method.

    Those of its options, defaults included, how long it trains before, at what
    rate after, and how many images it looks at: that alone with SNIP. The
    sparsity in all does not count.
    """
    method = METHODS[settings.method]
    if method is None:
        return 1
    own = inspect.signature(method.by).parameters
    values = {name: parameter.default for name, parameter in own.items()}
    values |= options_of(settings)
    if not isinstance(values.get("sparsity"), dict):
        values.pop("sparsity", None)
    chosen = [
        1 if value is inspect.Parameter.empty else value
        for name, value in values.items()
        if name not in (*_GIVEN, *OF_ALL)
    ]
    others = method.pretrains + bool(method.images) + 1
    return len(keras.tree.flatten(chosen)) + others
