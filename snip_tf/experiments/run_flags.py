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
from snip_tf.experiments import (
    method_runs,
    program,
    protocol,
    run_directory,
    runs,
)

FLAGS = flags.FLAGS
flags.disclaim_key_flags()

_CHOICES = {
    "model": models.NAMES,
    "criterion": scores.SCORES,
    "optimizer": training.OPTIMIZERS,
    "method": method_runs.METHODS,
}

# What is there for the scores alone, and for a network that is built.
_SCORING = ("score_batch_size", "criterion", "reinit", "train_initializer")
_SCORING += ("prune_last_layer", "prune_biases")
_BUILDING = (*_SCORING, "kernel_initializer", "bias_initializer")
_BUILDING += ("batch_norm", "conv_activation")
_METHOD = ("method", "method_options")


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


def define_list(name, default, known, text):
    """Defines a flag of names, separated by commas, that must be known."""
    names = ", ".join(known)
    flags.DEFINE_list(name, default, f"{text} Of {names}.")
    flags.register_validator(
        name,
        lambda given: given != [] and set(given) <= set(known),
        f"must be of {names}",
    )


def define_run():
    """Defines the flags of building and pruning: read them by `settings`."""
    define_data()
    define_run_dir()
    flags.DEFINE_bool(
        "overwrite",
        False,
        "Replace a finished run in the run directory, or another one that was "
        "stopped. The same goes on.",
    )
    names = {"model", "sparsity", "seed", "validation_fraction", *_BUILDING}
    _define(runs.Settings, names - {"score_batch_size"})
    flags.DEFINE_enum(
        "preset",
        None,
        protocol.PRESETS,
        "Settings chosen to come near Table 1, where no flag gives others.",
    )
    _define(runs.Settings, ["score_batch_size"], "one batch")


def define_recipe():
    """Defines the flags of training; `settings` reads them where they are."""
    fields = dataclasses.fields(training.Recipe)
    _define(training.Recipe, [f.name for f in fields], "that of the data set")
    _define(runs.Settings, ["validate_every"], "1000, or all")
    _define(runs.Settings, _METHOD, "snip, without any")


def _define(cls, names, default=None):
    """Defines flags for fields of a dataclass, in the words of its docstring.

    They are None unless they are given; `default` says in words what happens
    then, if it is not the default of the class.
    """
    texts = re.findall(
        r"^    (\w+): (.*(?:\n {8}.*)*)", inspect.getdoc(cls), re.M
    )
    texts = {name: " ".join(text.split()) for name, text in texts}
    for name in names:
        otherwise = default or getattr(cls, name, None)
        text = f"{texts[name]} (by default {otherwise})"
        hint = typing.get_type_hints(cls)[name]
        kind = (typing.get_args(hint) or [hint])[0]
        if name in _CHOICES:
            flags.DEFINE_enum(name, None, _CHOICES[name], text)
        elif name == "drops":
            flags.DEFINE_list(name, None, text)
        elif name == "method_options":
            flags.DEFINE_multi_string(name, None, text)
        elif kind is bool:
            flags.DEFINE_bool(name, None, text)
        elif kind is str:
            flags.DEFINE_string(name, None, text)
        elif kind is int:
            flags.DEFINE_integer(name, None, text, lower_bound=0)
        else:
            flags.DEFINE_float(name, None, text, lower_bound=0)


def _given(cls):
    """Returns the flags of fields of a dataclass that were given."""
    names = {field.name for field in dataclasses.fields(cls)} & set(FLAGS)
    values = {name: FLAGS[name].value for name in names}
    return {name: value for name, value in values.items() if value is not None}


def settings(model=None):
    """Returns the `Settings` that the flags ask for.

    Args:
        model: The network of --pruned_model; by default one is built.
    """
    dataset = FLAGS.dataset or "mnist"
    recipe = _recipe(training.RECIPES[dataset])
    method = method_runs.METHODS[_given(runs.Settings).get("method", "snip")]
    defaults = {
        "score_batch_size": method and method.images or recipe.batch_size,
        "validate_every": recipe.steps if recipe.steps % 1000 else 1000,
    }
    given = defaults | _preset() | _given(runs.Settings)
    given["method_options"] = tuple(given.get("method_options", ()))
    given |= {"dataset": dataset, "recipe": recipe}
    if model is not None:
        program.refuse(
            (*_METHOD, "model", "sparsity", "preset", *_BUILDING),
            "--pruned_model brings its own network and masks",
        )
        given |= dict.fromkeys(_BUILDING)
        given["model"] = model.name
        given["sparsity"] = snip_tf.model_sparsity(model)
    if "model" not in given:
        raise app.UsageError(
            f"--model must be given: one of {', '.join(models.NAMES)}"
        )
    if method and not method.images:
        program.refuse(["score_batch_size"], "This method looks at no batch")
    if not (given.get("sparsity") or method):
        program.refuse(_SCORING, "Without --sparsity nothing is pruned")
    return runs.Settings(**given)


def _preset():
    """Returns the settings of the --preset, if it was given."""
    if not FLAGS.preset:
        return {}
    if FLAGS.model not in protocol.DESIGNS:
        raise app.UsageError(
            f"--preset is for {' and '.join(protocol.DESIGNS)}. Received: "
            f"--model={FLAGS.model}"
        )
    factors = protocol.PRESETS[FLAGS.preset]
    return protocol.settings_of(factors, FLAGS.model, FLAGS.sparsity)


def run_dir(settings, prefix=""):
    """Returns the run directory, by default one named by the settings."""
    if settings.method != "snip":
        prefix += f"{settings.method}-"
    return FLAGS.run_dir or (
        f"runs/{prefix}{settings.model}-{settings.dataset}-"
        f"{settings.sparsity:.6g}-seed{settings.seed}"
    )


def _recipe(recipe):
    """Returns a data set's recipe, changed by the flags if they are there."""
    given = _given(training.Recipe)
    if given.get("optimizer") == "adam":
        program.refuse(["momentum"], "Adam has no momentum of SGD's")
    if "drops" in given:
        try:
            given["drops"] = tuple(map(int, given["drops"]))
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
    path, dataset, held_out = FLAGS.model_file, FLAGS.dataset, {}
    if FLAGS.run_dir:
        directory = pathlib.Path(FLAGS.run_dir)
        config = run_directory.read_config(directory)
        path = directory / run_directory.MODEL
        # As in the run: the same images standardise the test images.
        dataset = dataset or config["dataset"]
        names = {"seed", "validation_fraction"} & set(config)
        held_out = {name: config[name] for name in names}
    elif dataset is None:
        raise app.UsageError("--model_file needs --dataset")
    model = runs.load_model(path)
    examples = data.load(dataset, data_dir=FLAGS.data_dir, **held_out)
    runs.check_fits(model, examples)
    return model, examples
