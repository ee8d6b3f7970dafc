"""The flags of a run, shared by the scripts that start one."""

import dataclasses

from absl import app, flags

import snip_tf
from snip_tf import data, models, training
from snip_tf.experiments import program, runs

_MODEL = flags.DEFINE_enum("model", None, models.NAMES, "The network.")
_DATASET = flags.DEFINE_enum("dataset", "mnist", data.NAMES, "The data set.")
_DATA_DIR = flags.DEFINE_string(
    "data_dir",
    None,
    "TFDS data directory to read; by default TFDS_DATA_DIR, else TFDS' own "
    "directory, into which TFDS downloads.",
)
_SPARSITY = flags.DEFINE_float(
    "sparsity", 0.0, "The fraction of weights to remove, in [0, 1)."
)
_SEED = flags.DEFINE_integer(
    "seed",
    0,
    "Fixes the validation split, the draw, the scoring batch and the order.",
    lower_bound=0,
)
_SCORE_BATCH_SIZE = flags.DEFINE_integer(
    "score_batch_size",
    None,
    "Training images to score on; by default one training batch.",
    lower_bound=1,
)
_REINIT = flags.DEFINE_bool(
    "reinit", False, "Draw the kept weights anew after scoring."
)
_CRITERION = flags.DEFINE_enum(
    "criterion",
    "snip",
    runs.CRITERIA,
    "What weights are scored by; the others are controls.",
)
_KERNEL_INITIALIZER = flags.DEFINE_string(
    "kernel_initializer",
    "lecun",
    "Initialiser of the kernels: rn, tn, vs_x, vs_h (Table 3), lecun, or any "
    "of Keras by its name.",
)
_TRAIN_INITIALIZER = flags.DEFINE_string(
    "train_initializer",
    None,
    "Initialiser from which the kept kernels are drawn anew after scoring.",
)
_BIAS_INITIALIZER = flags.DEFINE_string(
    "bias_initializer", "zeros", "Keras initialiser of the biases."
)
_RUN_DIR = flags.DEFINE_string(
    "run_dir", None, "Directory of the run; by default one under runs/."
)
_OVERWRITE = flags.DEFINE_bool(
    "overwrite",
    False,
    "Replace a finished run in the run directory, or another one that was "
    "stopped. The same goes on.",
)

# The recipe; what is not given comes from the data set's.
_RECIPE = {
    "steps": flags.DEFINE_integer(
        "steps",
        None,
        "Iterations. Unless --drops is given they move in proportion.",
        lower_bound=1,
    ),
    "batch_size": flags.DEFINE_integer(
        "batch_size", None, "Examples an iteration.", lower_bound=1
    ),
    "learning_rate": flags.DEFINE_float(
        "learning_rate", None, "Initial learning rate.", lower_bound=0.0
    ),
    "drops": flags.DEFINE_list(
        "drops", None, "Steps at which the learning rate drops, ascending."
    ),
    "decay": flags.DEFINE_float(
        "decay", None, "Factor of the learning rate at a drop."
    ),
    "optimizer": flags.DEFINE_enum(
        "optimizer", None, training.OPTIMIZERS, "The optimiser."
    ),
    "momentum": flags.DEFINE_float("momentum", None, "Momentum of SGD."),
    "l2": flags.DEFINE_float(
        "l2",
        None,
        "Factor of the sum of squared weights in the loss.",
        lower_bound=0.0,
    ),
}
_VALIDATE_EVERY = flags.DEFINE_integer(
    "validate_every",
    None,
    "Steps between two validations; must divide --steps. By default 1000, or "
    "all if that does not divide them.",
    lower_bound=1,
)


# What only the building and pruning of a network needs.
_BUILDING = (
    "score_batch_size",
    "criterion",
    "reinit",
    "kernel_initializer",
    "train_initializer",
    "bias_initializer",
)


def run_dir(settings, prefix=""):
    """Returns the run directory, by default one named by the settings."""
    name = (
        f"{prefix}{settings.model}-{settings.dataset}-{settings.sparsity:.6g}"
        f"-seed{settings.seed}"
    )
    return _RUN_DIR.value or f"runs/{name}"


def overwrite():
    """Returns --overwrite."""
    return _OVERWRITE.value


def settings_of(model, path):
    """Returns the `Settings` of training a network as it was loaded."""
    program.refuse(
        ("model", "sparsity", *_BUILDING),
        "--pruned_model brings its own network and masks",
    )
    return dataclasses.replace(
        _settings(model.name),
        sparsity=snip_tf.model_sparsity(model),
        pruned_model=path,
        **dict.fromkeys(_BUILDING),
    )


def settings():
    """Returns the `Settings` that the flags ask for."""
    if _MODEL.value is None:
        raise app.UsageError(
            f"--model must be given: one of {', '.join(models.NAMES)}"
        )
    if not _SPARSITY.value:
        program.refuse(
            ("score_batch_size", "criterion", "reinit", "train_initializer"),
            "Without --sparsity nothing is pruned",
        )
    return _settings(_MODEL.value)


def _settings(model):
    recipe = _recipe()
    period = _VALIDATE_EVERY.value
    if period is None:
        period = recipe.steps if recipe.steps % 1000 else 1000
    return runs.Settings(
        model=model,
        dataset=_DATASET.value,
        recipe=recipe,
        sparsity=_SPARSITY.value,
        seed=_SEED.value,
        score_batch_size=_SCORE_BATCH_SIZE.value or recipe.batch_size,
        criterion=_CRITERION.value,
        reinit=_REINIT.value,
        kernel_initializer=_KERNEL_INITIALIZER.value,
        train_initializer=_TRAIN_INITIALIZER.value,
        bias_initializer=_BIAS_INITIALIZER.value,
        validate_every=period,
        data_dir=_DATA_DIR.value,
    )


def _recipe():
    if _RECIPE["optimizer"].value == "adam":
        program.refuse(["momentum"], "Adam has no momentum of SGD's")
    recipe = training.RECIPES[_DATASET.value]
    given = {
        name: flag.value
        for name, flag in _RECIPE.items()
        if flag.value is not None
    }
    if "drops" in given:
        try:
            given["drops"] = tuple(int(drop) for drop in given["drops"])
        except ValueError as error:
            raise app.UsageError(
                "--drops must be steps, as in --drops=10000,15000. Received: "
                f"{','.join(given['drops'])}"
            ) from error
    elif "steps" in given:
        recipe = recipe.scaled_to(given["steps"])
    return dataclasses.replace(recipe, **given)


def refuse_training():
    """Refuses the flags of training in a script that trains nothing."""
    program.refuse(
        ({*_RECIPE, "validate_every"} - {"batch_size"}),
        "Nothing is trained here",
    )
