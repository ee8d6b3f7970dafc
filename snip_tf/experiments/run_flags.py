"""The flags that scripts share, each defined once.

A script calls what defines the flags that it needs and no others, so that what
it would ignore is an unknown flag. All are the script's own in its --help.
"""

import dataclasses
import pathlib

from absl import app, flags

import snip_tf
from snip_tf import data, models, scores, training
from snip_tf.experiments import program, run_directory, runs

FLAGS = flags.FLAGS
flags.disclaim_key_flags()

# What is there for the scores alone, and for a network that is built.
_SCORING = ("score_batch_size", "criterion", "reinit", "train_initializer")
_BUILDING = (*_SCORING, "kernel_initializer", "bias_initializer")


def define_data(text="The data set; by default mnist."):
    """Defines --dataset and --data_dir."""
    flags.DEFINE_enum("dataset", None, data.NAMES, text)
    flags.DEFINE_string(
        "data_dir",
        None,
        "TFDS data directory to read; by default TFDS_DATA_DIR, else TFDS' own "
        "directory, into which TFDS downloads.",
    )


def define_run_dir(default=None, text="by default one under runs/."):
    """Defines --run_dir."""
    flags.DEFINE_string("run_dir", default, f"Directory of the run; {text}")


def define_overwrite(text):
    """Defines --overwrite."""
    flags.DEFINE_bool("overwrite", False, text)


def define_run():
    """Defines the flags of building and pruning: read them by `settings`."""
    define_data()
    define_run_dir()
    define_overwrite(
        "Replace a finished run in the run directory, or another one that was "
        "stopped. The same goes on."
    )
    flags.DEFINE_enum("model", None, models.NAMES, "The network.")
    flags.DEFINE_float(
        "sparsity", 0.0, "The fraction of weights to remove, in [0, 1)."
    )
    flags.DEFINE_integer(
        "seed",
        0,
        "Fixes the validation split, the draw, the scoring batch and the "
        "order.",
        lower_bound=0,
    )
    flags.DEFINE_integer(
        "score_batch_size",
        None,
        "Training images to score on; by default one training batch.",
        lower_bound=1,
    )
    flags.DEFINE_bool(
        "reinit", False, "Draw the kept weights anew after scoring."
    )
    flags.DEFINE_enum(
        "criterion",
        "snip",
        scores.SCORES,
        "What weights are scored by; all but snip are controls.",
    )
    flags.DEFINE_string(
        "kernel_initializer",
        "lecun",
        "Initialiser of the kernels: rn, tn, vs_x, vs_h (Table 3), lecun, or "
        "any of Keras by its name.",
    )
    flags.DEFINE_string(
        "train_initializer",
        None,
        "Initialiser from which the kept kernels are drawn anew after scoring.",
    )
    flags.DEFINE_string(
        "bias_initializer", "zeros", "Keras initialiser of the biases."
    )


def define_recipe():
    """Defines the flags of training; `settings` reads them where they are."""
    flags.DEFINE_integer(
        "steps",
        None,
        "Iterations. Unless --drops is given they move in proportion. This "
        "and what follows is by default that of the data set's recipe.",
        lower_bound=1,
    )
    flags.DEFINE_integer(
        "batch_size", None, "Examples an iteration.", lower_bound=1
    )
    flags.DEFINE_float(
        "learning_rate", None, "Initial learning rate.", lower_bound=0.0
    )
    flags.DEFINE_list(
        "drops", None, "Steps at which the learning rate drops, ascending."
    )
    flags.DEFINE_float("decay", None, "Factor of the learning rate at a drop.")
    flags.DEFINE_enum("optimizer", None, training.OPTIMIZERS, "The optimiser.")
    flags.DEFINE_float("momentum", None, "Momentum of SGD.")
    flags.DEFINE_float(
        "l2",
        None,
        "Factor of the sum of squared weights in the loss.",
        lower_bound=0.0,
    )
    flags.DEFINE_integer(
        "validate_every",
        None,
        "Steps between two validations; must divide --steps. By default 1000, "
        "or all if that does not divide them.",
        lower_bound=1,
    )


def settings(model=None):
    """Returns the `Settings` that the flags ask for.

    Args:
        model: The network of --pruned_model; by default one is built.
    """
    recipe = _recipe()
    names = {field.name for field in dataclasses.fields(runs.Settings)}
    given = {name: FLAGS[name].value for name in names & set(FLAGS)}
    given |= {"dataset": _dataset(), "recipe": recipe}
    if not given.get("validate_every"):
        steps = recipe.steps
        given["validate_every"] = steps if steps % 1000 else 1000
    if model is not None:
        program.refuse(
            ("model", "sparsity", *_BUILDING),
            "--pruned_model brings its own network and masks",
        )
        given |= dict.fromkeys(_BUILDING)
        given["model"] = model.name
        given["sparsity"] = snip_tf.model_sparsity(model)
        return runs.Settings(**given)
    if given["model"] is None:
        raise app.UsageError(
            f"--model must be given: one of {', '.join(models.NAMES)}"
        )
    if not given["sparsity"]:
        program.refuse(_SCORING, "Without --sparsity nothing is pruned")
    given["score_batch_size"] = given["score_batch_size"] or recipe.batch_size
    return runs.Settings(**given)


def run_dir(settings, prefix=""):
    """Returns the run directory, by default one named by the settings."""
    return FLAGS.run_dir or (
        f"runs/{prefix}{settings.model}-{settings.dataset}-"
        f"{settings.sparsity:.6g}-seed{settings.seed}"
    )


def _dataset():
    return FLAGS.dataset or "mnist"


def _recipe():
    """Returns the data set's recipe, changed by the flags if they are there."""
    recipe = training.RECIPES[_dataset()]
    names = {field.name for field in dataclasses.fields(recipe)} & set(FLAGS)
    given = {name: FLAGS[name].value for name in names}
    given = {name: value for name, value in given.items() if value is not None}
    if given.get("optimizer") == "adam":
        program.refuse(["momentum"], "Adam has no momentum of SGD's")
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


def define_saved():
    """Defines the flags of a saved network: read them by `saved`."""
    define_run_dir(text="it must be finished.")
    define_data("The data set; by default that of the run.")
    flags.DEFINE_string("model_file", None, "A .keras file, with --dataset.")
    flags.mark_flags_as_mutual_exclusive(
        ["run_dir", "model_file"], required=True
    )


def saved():
    """Returns the saved network, with masks, and its `data.Data`."""
    path, dataset, seed = FLAGS.model_file, FLAGS.dataset, 0
    if FLAGS.run_dir:
        directory = pathlib.Path(FLAGS.run_dir)
        config = run_directory.read_config(directory)
        path = directory / run_directory.MODEL
        # The seed of the run: the same images standardise the test images.
        dataset, seed = dataset or config["dataset"], config["seed"]
    elif dataset is None:
        raise app.UsageError("--model_file needs --dataset")
    model = runs.load_model(path)
    examples = data.load(dataset, data_dir=FLAGS.data_dir, seed=seed)
    runs.check_fits(model, examples)
    return model, examples
