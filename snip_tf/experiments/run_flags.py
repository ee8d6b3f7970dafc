"""The flags that scripts share, each defined once.

A script calls what defines the flags that it needs and no others, so that what
it would ignore is an unknown flag. All are the script's own in its --help.
"""

import dataclasses
import inspect
import pathlib
import re
import typing

from absl import app, flags

import snip_tf
from snip_tf import data, models, scores, training
from snip_tf.experiments import program, run_directory, runs

FLAGS = flags.FLAGS
flags.disclaim_key_flags()

_DEFINE = {
    int: flags.DEFINE_integer,
    float: flags.DEFINE_float,
    bool: flags.DEFINE_bool,
    str: flags.DEFINE_string,
}
_CHOICES = {
    "model": models.NAMES,
    "criterion": scores.SCORES,
    "optimizer": training.OPTIMIZERS,
}
_LEAST = {
    "batch_size": 1,
    "l2": 0.0,
    "learning_rate": 0.0,
    "score_batch_size": 1,
    "seed": 0,
    "steps": 1,
    "validate_every": 1,
}

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


def define_list(name, default, known, text):
    """Defines a flag of names, separated by commas, that must be known."""
    names = ", ".join(known)
    flags.DEFINE_list(name, default, f"{text} Of {names}.")
    flags.register_validator(
        name, lambda given: set(given) <= set(known), f"must be of {names}"
    )


def define_run():
    """Defines the flags of building and pruning: read them by `settings`."""
    define_data()
    define_run_dir()
    define_overwrite(
        "Replace a finished run in the run directory, or another one that was "
        "stopped. The same goes on."
    )
    names = {"model", "sparsity", "seed", *_BUILDING} - {"score_batch_size"}
    _define(runs.Settings, names)
    _define(runs.Settings, {"score_batch_size"}, "by default one batch")


def define_recipe():
    """Defines the flags of training; `settings` reads them where they are."""
    names = {field.name for field in dataclasses.fields(training.Recipe)}
    _define(training.Recipe, names, "by default that of the data set")
    _define(runs.Settings, {"validate_every"}, "by default 1000, or all")


def _define(cls, names, default=None):
    """Defines flags for fields of a dataclass, in the words of its docstring.

    Args:
        cls: The dataclass.
        names: The names of the fields.
        default: What the default is in words; it is then None.
    """
    texts = re.findall(
        r"^    (\w+): (.*(?:\n {8}.*)*)", inspect.getdoc(cls) or "", re.M
    )
    texts = {name: " ".join(text.split()) for name, text in texts}
    for field in dataclasses.fields(cls):
        name, value = field.name, None if default else field.default
        if name not in names:
            continue
        if value is dataclasses.MISSING:
            value = None
        text = texts.get(name, "") + (f" ({default})" if default else "")
        kind = (typing.get_args(field.type) or [field.type])[0]
        if name in _CHOICES:
            flags.DEFINE_enum(name, value, _CHOICES[name], text)
        elif name == "drops":
            flags.DEFINE_list(name, value, text)
        elif name in _LEAST:
            _DEFINE[kind](name, value, text, lower_bound=_LEAST[name])
        else:
            _DEFINE[kind](name, value, text)


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
