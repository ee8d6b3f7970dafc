"""The methods of Table 1 as rows of a table: what each is given in a run."""

import ast
import dataclasses
import typing

import keras
import numpy as np

from snip_tf import data as data_module
from snip_tf import layers, methods, training
from snip_tf._checks import whole
from snip_tf.masks import keep_top


@dataclasses.dataclass(frozen=True)
class Method:
    """How a run is done by a method.

    Attributes:
        by: What does it, of `snip_tf.methods`.
        options: A function of a `Stage` that returns the options of `by` which
            depend on the run; what is given by hand comes before.
        takes_sparsity: Whether the sparsity is given, or is what comes out.
        pretrains: Whether it needs a trained network.
        recipe: What its recipe has of its own.
        resumes: Whether all of its state is in the model and the optimizer: a
            run that was stopped then goes on there, else after the pretraining.
        images: How many images it looks at when it prunes, by default.
        rate: What the learning rate of the run is multiplied by: retraining is
            at a tenth (Han et al. 2015).
    """

    by: typing.Callable
    options: typing.Callable
    takes_sparsity: bool = True
    pretrains: bool = True
    recipe: dict = dataclasses.field(default_factory=dict)
    resumes: bool = False
    images: int | None = None
    rate: float = 0.1


@dataclasses.dataclass(frozen=True)
class Stage:
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
    rounds = whole("rounds", options_of(stage.settings).get("rounds", 3), 1)
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
            np.concatenate(
                [
                    keras.ops.convert_to_numpy(w).ravel()
                    for w, _ in o.masked_weights()
                ]
            )
        )
        for o in owners
    ]
    masks = keep_top(sizes, stage.settings.sparsity)
    return {
        owner.name: float(1 - max(mask.sum(), 1) / mask.size)
        for owner, mask in zip(owners, masks, strict=True)
    }


_ADAM = {"optimizer": "adam", "l2": 0.0}
METHODS = {
    "snip": None,  # prunes before training: `runs.build_and_prune`
    "lwc": Method(methods.LWC, _in_rounds, resumes=True),
    "obd": Method(
        methods.OBD,
        lambda stage: {
            **dict(zip("xy", stage.images, strict=True)),
            **_in_rounds(stage),
        },
        resumes=True,
        images=300,
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
    ),
}
# Options of every method, besides its own.
OF_ALL = ("pretraining", "learning_rate")


def parsed(settings):
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
    given = parsed(settings)
    return {name: given[name] for name in given if name not in OF_ALL}
