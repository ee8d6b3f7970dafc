"""How runs are done by the methods that Table 1 compares SNIP with.

SNIP prunes, then trains. Most others prune a network that was trained before,
which is a run of its own inside of the run directory. What follows, pruning and
retraining, has what is left of the steps: a budget counts them all.
"""

import ast
import contextlib
import dataclasses
import inspect
import math
import typing

import keras
import numpy as np

from snip_tf import data as data_module
from snip_tf import layers, methods, training
from snip_tf._checks import check_one_of, naming
from snip_tf.masks import keep_top


@dataclasses.dataclass(frozen=True)
class Method:
    """How a run is done by a method.

    Attributes:
        by: What does it, of `snip_tf.methods`.
        options: A function of a `_Stage` that returns the options of `by` which
            depend on the run; what is given by hand comes before.
        takes_sparsity: Whether the sparsity is given, or is what comes out.
        pretrains: Whether it needs a trained network.
        recipe: What its recipe has of its own.
        resumes: Whether all of its state is in the model and the optimizer: a
            run that was stopped then goes on there, else after the pretraining.
        images: How many images it looks at when it prunes, by default.
        rate: What the learning rate of the run is multiplied by: retraining is
            at a tenth (Han et al. 2015).
        changes_loss: Whether what is minimised is another loss.
        prunings: How often weights are removed, in words.
        epsilon: Adam's, if not that of Keras.
    """

    by: typing.Callable
    options: typing.Callable
    takes_sparsity: bool = True
    pretrains: bool = True
    recipe: dict = dataclasses.field(default_factory=dict)
    resumes: bool = False
    images: int | None = None
    rate: float = 0.1
    changes_loss: bool = False
    prunings: str = "1"
    epsilon: float | None = None


@dataclasses.dataclass(frozen=True)
class _Stage:
    """What comes after the pretraining."""

    settings: typing.Any  # of the run
    recipe: training.Recipe  # of this part of it
    model: keras.Model
    data: data_module.Data

    @property
    def steps(self):
        """The number of its steps."""
        return self.recipe.steps

    @property
    def examples(self):
        """The number of the training images."""
        return len(self.data.train.labels)

    @property
    def images(self):
        """The images and labels that it looks at."""
        size, seed = self.settings.score_batch_size, self.settings.seed
        return data_module.scoring_batch(self.data, size=size, seed=seed)


def _in_rounds(stage):
    """Returns the options of rounds, all of them in the first half."""
    rounds = options_of(stage.settings).get("rounds", 3)
    every = max(1, stage.steps // (2 * rounds))
    return {"sparsity": stage.settings.sparsity, "begin": 0, "every": every}


def _as_often(recipe):
    """Returns the options of LC that do in fewer steps what the authors' do.

    They compress 40 times in 192,700 steps at a rate of 0.1, mu being 9e-5 at
    first: the weights are drawn as far.
    """
    mu = 9e-5 * (192_700 / recipe.steps) * (0.1 / recipe.learning_rate)
    return {"every": max(1, recipe.steps // 40), "mu": mu}


def _by_layer(stage):
    """Returns the sparsity of each layer, for L-OBS.

    Each keeps as many weights as it has among the largest of the network.
    """
    owners = layers.masked_layers(stage.model)
    sizes = [
        np.abs(
            np.concatenate([w.numpy().ravel() for w, _ in o.masked_weights()])
        )
        for o in owners
    ]
    masks = keep_top(sizes, stage.settings.sparsity)
    return {
        owner.name: float(1 - max(mask.sum(), 1) / mask.size)
        for owner, mask in zip(owners, masks, strict=True)
    }


_ADAM = {"optimizer": "adam", "l2": 0.0, "drops": ()}
METHODS = {
    "snip": None,  # prunes before training: `runs.build_and_prune`
    "lwc": Method(methods.LWC, _in_rounds, resumes=True, prunings="3 rounds"),
    "obd": Method(
        methods.OBD,
        lambda stage: {
            **dict(zip("xy", stage.images, strict=True)),
            **_in_rounds(stage),
        },
        resumes=True,
        images=300,
        prunings="3 rounds",
    ),
    "l_obs": Method(
        methods.prune_by_l_obs,
        lambda stage: {
            "model": stage.model,
            "x": stage.images[0],
            "sparsity": _by_layer(stage),
        },
        resumes=True,
        images=3_000,
    ),
    "dns": Method(
        methods.DNS,
        lambda stage: {
            "model": stage.model,
            "c": 1.0,
            # Of the authors' iterations about as large a part.
            "stop": stage.steps * 4 // 5,
            "seed": stage.settings.seed,
        },
        takes_sparsity=False,
        prunings="many",
    ),
    "lc": Method(
        methods.LC,
        lambda stage: {
            "model": stage.model,
            "sparsity": stage.settings.sparsity,
            **_as_often(stage.recipe),
        },
        rate=1.0,
        recipe={"drops": ()},
        changes_loss=True,
        prunings="41",
    ),
    "svd": Method(
        methods.SVD,
        lambda stage: {
            "model": stage.model,
            "examples": stage.examples,
            # Epochs 5 to 20 of the authors' 201.
            "warm_up": (stage.steps // 40, max(stage.steps // 10, 1)),
        },
        takes_sparsity=False,
        pretrains=False,
        recipe={**_ADAM, "learning_rate": 1e-3},
        changes_loss=True,
        prunings="soft",
        # Keras' is large beside gradients over the number of examples.
        epsilon=1e-12,
    ),
    "sws": Method(
        methods.SWS,
        lambda stage: {
            "model": stage.model,
            "examples": stage.examples,
            "learning_rate": stage.recipe.learning_rate,
        },
        takes_sparsity=False,
        recipe={**_ADAM, "learning_rate": 5e-4},
        changes_loss=True,
        prunings="soft",
    ),
}
# Options of every method, besides its own.
_OF_ALL = ("pretraining", "learning_rate")
# What of a method's own is no number that is set by hand.
_GIVEN = ("model", "x", "y", "examples", "seed", "batch_size", "options")


def check(settings):
    """Raises a ValueError for a method, or options, that are not there."""
    name, steps = settings.method, settings.recipe.steps
    check_one_of("method", name, METHODS)
    method, options = METHODS[name], _parsed(settings)
    known = ", ".join(option_names(name))
    if unknown := set(options) - set(option_names(name)):
        raise ValueError(
            f"`method_options` of {name} must be of {known or 'none'}. "
            f"Received: {', '.join(sorted(unknown))}"
        )
    if method is None:
        return
    if (settings.criterion, settings.reinit) != ("snip", False):
        raise ValueError(
            f"`criterion` and `reinit` are not for {name}. Received: "
            f"criterion={settings.criterion}, reinit={settings.reinit}"
        )
    given = settings.sparsity or options.get("sparsity", 0)
    if bool(given) != method.takes_sparsity:
        rule = "be given" if method.takes_sparsity else "be what comes out"
        raise ValueError(
            f"`sparsity` must {rule} with {name}. Received: sparsity={given}"
        )
    with naming(method_options=settings.method_options):
        first = pretraining_steps(settings)
    if not method.pretrains <= first < steps:
        raise ValueError(
            "`pretraining` must be a part of the steps, and of one at least "
            f"where a method prunes a trained network. Received: {first} of "
            f"{steps} steps for {name}"
        )


def _parsed(settings):
    """Returns the values of `method_options`, by name."""
    found = {}
    for text in settings.method_options:
        name, _, value = text.partition("=")
        try:
            found[name] = ast.literal_eval(value)
        except (SyntaxError, ValueError) as error:
            raise ValueError(
                "`method_options` must be name=value, the value as in Python. "
                f"Received: {text}"
            ) from error
    return found


def options_of(settings):
    """Returns what was given of the method's own options."""
    given = _parsed(settings)
    return {name: given[name] for name in given if name not in _OF_ALL}


def option_names(name):
    """Returns the options of a method."""
    if METHODS[name] is None:
        return []
    own = inspect.signature(METHODS[name].by).parameters
    names = dict.fromkeys([*own, *_OF_ALL])
    return [name for name in names if name not in _GIVEN]


def pretraining_steps(settings):
    """Returns how many of the steps train the dense network.

    They are the part "pretraining" of all, by default half; none with SNIP, or
    where a method prunes what it trains.
    """
    method = METHODS[settings.method]
    part = 0.5 if method and method.pretrains else 0.0
    part = _parsed(settings).get("pretraining", part)
    return round(part * settings.recipe.steps)


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
    given = {
        name: value
        for name, value in _parsed(settings).items()
        if name == "learning_rate"
    }
    recipe = dataclasses.replace(recipe, **{**own, **method.recipe, **given})
    return _of_part(settings, recipe)


def _of_part(settings, recipe, **changes):
    return dataclasses.replace(
        settings,
        recipe=recipe,
        validate_every=math.gcd(recipe.steps, settings.validate_every),
        method="snip",
        method_options=(),
        **changes,
    )


@contextlib.contextmanager
def applied(settings, model, data):
    """Yields callbacks to train with; at the end of the block it is pruned.

    Args:
        settings: The `Settings` of the run.
        model: The network, trained if the method wants it so.
        data: The `data.Data`.
    """
    method = METHODS[settings.method]
    if method is None:
        yield []
        return
    recipe = after_pretraining(settings).recipe
    options = method.options(_Stage(settings, recipe, model, data))
    made = method.by(**{**options, **options_of(settings)})
    if isinstance(made, contextlib.AbstractContextManager):
        with made:
            yield [made, _Epsilon(method.epsilon)]
    elif isinstance(made, keras.callbacks.Callback):
        yield [made]
    else:  # masks: it is pruned
        yield []


class _Epsilon(keras.callbacks.Callback):
    """Sets that of an optimizer, if there is one to set."""

    def __init__(self, value):
        super().__init__()
        self._value = value

    def on_train_begin(self, logs=None):
        """Sets it before the step is traced."""
        if self._value is not None:
            self.model.optimizer.epsilon = self._value


def numbers_by_hand(settings):
    """Returns how many numbers somebody chose for the method.

    Those of its options, defaults included, how long it trains before and at
    what rate after; not the sparsity.
    """
    method = METHODS[settings.method]
    if method is None:
        return 0
    own = inspect.signature(method.by).parameters
    values = {name: parameter.default for name, parameter in own.items()}
    values |= options_of(settings)
    chosen = [
        1 if value is inspect.Parameter.empty else value
        for name, value in values.items()
        if name not in (*_GIVEN, *_OF_ALL, "sparsity")
    ]
    return len(keras.tree.flatten(chosen)) + method.pretrains + 1
