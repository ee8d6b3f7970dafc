"""The paper's training recipe, as numbers and as a compiled model.

Lee et al. 2019, section 5: SGD with momentum 0.9, the learning rate divided by
ten at fixed steps, weight decay as L2 in the loss. Uses Keras alone, on any of
its backends.
"""

import dataclasses

import keras

from snip_tf._checks import check_number, check_one_of, naming, whole

OPTIMIZERS = ("sgd", "adam")


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How a network is trained, pruned or not.

    Attributes:
        steps: The number of iterations, that is batches.
        batch_size: Examples a batch.
        learning_rate: The initial learning rate.
        drops: The steps after which, and one more as TensorFlow counts, the
            learning rate is multiplied by `decay`; ascending.
        decay: See `drops`.
        optimizer: One of OPTIMIZERS. Adam has no momentum argument.
        momentum: Of SGD; never Nesterov's.
        l2: The factor of the sum of squared weights in the loss. The
            paper's weight decay of 5e-4 is 2.5e-4 here: the authors' code adds
            5e-4 times half the sum of squares.
    """

    steps: int
    batch_size: int
    learning_rate: float = 0.1
    drops: tuple[int, ...] = ()
    decay: float = 0.1
    optimizer: str = "sgd"
    momentum: float = 0.9
    l2: float = 2.5e-4

    def __post_init__(self):
        own = vars(self)  # it is frozen; numpy's numbers become Python's
        for name in ("steps", "batch_size"):
            own[name] = whole(name, own[name], 1)
        with naming(drops=self.drops):
            own["drops"] = tuple(whole("drops", drop) for drop in self.drops)
        for name in ("learning_rate", "decay", "l2"):
            check_number(name, own[name])
        check_number("momentum", self.momentum, 1)
        check_one_of("optimizer", self.optimizer, OPTIMIZERS)
        edges = (0, *self.drops, self.steps)
        if list(edges) != sorted(set(edges)):
            raise ValueError(
                "`drops` must be ascending steps between 0 and `steps`. "
                f"Received: drops={self.drops}, steps={self.steps}"
            )

    def scaled_to(self, steps):
        """Returns the recipe with other steps, its drops in proportion."""
        steps = whole("steps", steps, 1)
        drops = {round(drop * steps / self.steps) for drop in self.drops}
        drops = tuple(sorted(drops - {0, steps}))
        return dataclasses.replace(self, steps=steps, drops=drops)


# The paper gives the batch and the spacing of the drops, not the total.
_MNIST = Recipe(steps=60_000, batch_size=100, drops=(25_000, 50_000))
_CIFAR = Recipe(steps=90_000, batch_size=128, drops=(30_000, 60_000))
RECIPES = {
    "mnist": _MNIST,
    "fashion_mnist": _MNIST,
    "mnist_5k": _MNIST.scaled_to(3_000),
    "cifar10": _CIFAR,
    "cifar100": _CIFAR,
}


def compile_model(model, recipe, *, steps_per_execution=1, metrics=()):
    """Compiles a model of logits and integer labels, with its L2.

    The L2 falls on all trainable weights but those of normalisation layers, in
    the place of the regularizers that they have.

    Args:
        model: A built Keras model, masked or plain, whose outputs are logits.
        recipe: A `Recipe`.
        steps_per_execution: How many steps Keras runs between two looks at the
            callbacks. On a small network one step at a time spends half of the
            time outside the network.
        metrics: Keras metrics to report besides the accuracy.

    Raises:
        ValueError: If the model is not built, or another argument is wrong.
    """
    steps_per_execution = whole("steps_per_execution", steps_per_execution, 1)
    if not (getattr(model, "built", False) and isinstance(recipe, Recipe)):
        raise ValueError(
            "`model` must be a built Keras model, and `recipe` a `Recipe`. "
            f"Received: model={model!r}, recipe={recipe!r}"
        )
    regularizer = keras.regularizers.L2(recipe.l2) if recipe.l2 else None
    for weight in model.trainable_weights:
        of_method = getattr(weight.regularizer, "of_method", False)
        if weight.name not in ("gamma", "beta") and not of_method:
            weight.regularizer = regularizer
    learning_rate = recipe.learning_rate
    if recipe.drops:
        factors = [recipe.decay**drop for drop in range(len(recipe.drops) + 1)]
        learning_rate = keras.optimizers.schedules.PiecewiseConstantDecay(
            list(recipe.drops), [learning_rate * factor for factor in factors]
        )
    if recipe.optimizer == "sgd":
        optimizer = keras.optimizers.SGD(
            learning_rate, momentum=recipe.momentum
        )
    else:
        optimizer = keras.optimizers.Adam(learning_rate)
    model.compile(
        optimizer=optimizer,
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy", *metrics],
        steps_per_execution=steps_per_execution,
        # XLA made the LeNets and VGG slower on CPUs; JAX has nothing else.
        jit_compile=keras.backend.backend() == "jax",
    )
