"""One run from settings to result: build, score, prune, train, evaluate.

The scripts only read flags and call what is here.
"""

import dataclasses
import time

import keras
import numpy as np

import snip_tf
from snip_tf import data as data_module
from snip_tf import guard, models, training
from snip_tf.experiments import (
    checkpoints,
    fitting,
    method_runs,
    provenance,
    run_directory,
)
from snip_tf.experiments.settings import SPARSITIES as SPARSITIES
from snip_tf.experiments.settings import Settings as Settings
from snip_tf.layers import in_place

_LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def run(
    settings,
    path,
    *,
    overwrite=False,
    resume_anyway=False,
    model=None,
    callbacks=(),
    train=True,
):
    """Runs it all and writes the run directory.

    Nothing is written before the data are loaded and the network is pruned. A
    run that was stopped goes on from its last checkpoint, exactly as if it had
    not been; within DNS, LC or SWS, after the training before; within SVD,
    which has none, from the start. One that is finished is not run again.

    Args:
        settings: The `Settings`.
        path: The run directory.
        overwrite: Whether a run there may be replaced that is another or done.
        resume_anyway: Whether one that was stopped goes on although settings,
            versions or data differ, which is noted as "resumed_anyway".
        model: A network to train as it is; by default one is built and pruned.
        callbacks: More Keras callbacks.
        train: Whether the network is trained and evaluated, or only saved.

    Returns:
        What stands in result.json: settings, surroundings, kept weights;
        errors in percent on the test set after the last step, at the best
        validation (None if nothing is held out) and after each period; losses
        and seconds.

    Raises:
        FileExistsError: If the directory holds another run, or no run.
        BlockingIOError: If another process has a run there in hand.
        OSError: If the disc is full.
        ValueError: If the network does not fit the data or the checkpoint, all
            of those are damaged, or training diverged.
    """
    kind = {"only_pruned": None if train else True}
    replacing = {"overwrite": overwrite, "resume_anyway": resume_anyway}
    # Refused now, not after minutes of loading and scoring.
    me = provenance.identity(settings, model) | kind
    provenance.check_same(me)
    if not overwrite and (result := run_directory.finished(path, me)):
        print(f"{path} holds this run, which is finished")
        return result
    run_directory.check(path, me, **replacing)
    run_directory.check_place(path)
    data = load_data(settings)
    results = {}
    if model is None:
        model, results["prune_seconds"] = build_and_prune(settings, data)
    check_fits(model, data)
    # With momentum, and three checkpoints while the last one is written.
    copies = 7 if train else 1
    run_directory.check_place(path, needed=4 * copies * model.count_params())
    if settings.method == "snip":
        print(snip_tf.summary(model), flush=True)
    given = dataclasses.asdict(settings)
    me = provenance.identity(settings, model, data=data) | kind
    provenance.check_same(me)
    with run_directory.opened(path, given, me, **replacing) as directory:
        if train:
            results |= _train(
                settings, model, data, directory, callbacks, replacing
            )
        else:
            file = directory / run_directory.MODEL
            run_directory.save_model(model, file)
        summary = snip_tf.summary(model)  # of what is saved
        if settings.method != "snip":
            print(summary, flush=True)
        dead_kernels, dead_units = guard.without_inputs(model)
        config = run_directory.read_config(directory)
        if noted := config.get(run_directory.ANYWAY):
            results[run_directory.ANYWAY] = noted
        result = {
            **given,
            "weights": summary.weights,
            "kept": summary.kept,
            "sparsity_reached": summary.sparsity,
            "kept_per_weight": {row.name: row.kept for row in summary.rows},
            "dead_kernels": dead_kernels,
            "dead_units": dead_units,
            **results,
            **provenance.surroundings(),
        }
        run_directory.write_json(directory / run_directory.RESULT, result)
        checkpoints.remove(directory)
    return result


def load_data(settings):
    """Returns the data of a run."""
    return data_module.load(
        settings.dataset,
        data_dir=settings.data_dir,
        seed=settings.seed,
        validation_fraction=settings.validation_fraction,
    )


def build(settings, data):
    """Returns a new network, drawn with the seed, its masks all ones."""
    keras.utils.set_random_seed(settings.seed)
    model = models.build(
        settings.model,
        input_shape=data.image_shape,
        classes=data.classes,
        kernel_initializer=settings.kernel_initializer,
        bias_initializer=settings.bias_initializer,
        mask_bias=settings.prune_biases,
        **settings.network_options,
    )
    if not settings.prune_last_layer:
        in_place.take_masks(model.layers[-1])
    return model


def scoring_batch(settings, data):
    """Returns the images and labels that the scores of a run are taken on."""
    return data_module.scoring_batch(
        data,
        size=settings.score_batch_size,
        seed=settings.seed,
        label=settings.score_label,
    )


def build_and_prune(settings, data):
    """Returns a new network, pruned if the sparsity is not zero, and seconds.

    What another method than SNIP prunes is not pruned yet.
    The seconds are those of scoring and masking, the trace included.
    """
    model = build(settings, data)
    start = time.perf_counter()
    if settings.sparsity and settings.method == "snip":
        x, y = scoring_batch(settings, data)
        snip_tf.prune(
            model,
            # No more memory than a training step takes.
            data_module.batches(x, y, settings.recipe.batch_size),
            sparsity=settings.sparsity,
            criterion=settings.criterion,
            reinit=settings.reinit,
            loss=_LOSS,
            seed=settings.seed,
        )
        if settings.train_initializer:
            initializer = models.blocks.own(settings.train_initializer)
            snip_tf.redraw(model, initializer)
    return model, time.perf_counter() - start


def load_model(path):
    """Returns a saved model with masks.

    Raises:
        ValueError: If the file cannot be read as such a model. Code inside the
            file is never run.
    """
    try:
        model = keras.models.load_model(path, compile=False, safe_mode=True)
        snip_tf.get_masks(model)
    except Exception as error:  # Keras raises many types here
        raise ValueError(
            "The model file must be a .keras file of a network with masks. "
            f"Received: {path} ({type(error).__name__}: {error})"
        ) from error
    return model


def check_fits(model, data):
    """Raises a ValueError if a network does not take or tell the data."""
    takes, tells = tuple(model.input_shape[1:]), model.output_shape[-1]
    if (takes, tells) != (tuple(data.image_shape), data.classes):
        raise ValueError(
            f"A network for {data.name} must take images of shape "
            f"{tuple(data.image_shape)} and have {data.classes} outputs. "
            f"Received: {model.name} with inputs of {takes} and {tells} outputs"
        )


def _train(settings, model, data, directory, callbacks, replacing):
    """Trains a network, by its method; returns the results."""
    results = {}
    first = method_runs.pretraining_steps(settings)
    method = method_runs.METHODS[settings.method]
    own = method_runs.after_pretraining(settings)
    block = method_runs.prepared(settings, model, data)
    if first:
        results |= _pretrain(settings, model, data, directory, replacing)
    if method:
        results["recipe_after"] = dataclasses.asdict(own.recipe)
        results["numbers_by_hand"] = method_runs.numbers_by_hand(settings)
        # The method adds to the L2 what it has.
        training.compile_model(model, own.recipe)
    with block as more:
        progress = fitting.train(
            own,
            model,
            data,
            directory,
            [*callbacks, *more],
            resumes=not method or method.resumes,
        )
    file = directory / run_directory.MODEL
    results |= _evaluate(own, model, data, file, progress)
    if more:
        results |= dict.fromkeys(_OF_UNPRUNED)
    return results


def _pretrain(settings, model, data, directory, replacing):
    """Gives a network the weights of a dense run; returns what is recorded."""
    path, own = directory / "pretrained", method_runs.pretraining(settings)
    me = provenance.identity(own, data=data)
    result = run_directory.finished(path, me)
    result = result or run(own, path, **replacing)
    trained = load_model(path / run_directory.MODEL)
    model.set_weights(trained.get_weights())
    return {
        "pretraining_steps": own.recipe.steps,
        "pretraining_seconds": result["train_seconds"],
    }


# What is of the network as it was trained, before it was pruned.
_OF_UNPRUNED = ("test_errors", "test_error_at_best_validation")
_OF_UNPRUNED += ("best_validation_step", "validation_error")
_OF_UNPRUNED += ("train_error", "train_loss")


def _evaluate(settings, model, data, file, progress):
    """Returns the results of a trained network, and saves it."""
    if not model.compiled:  # its method took variables and optimizer away
        training.compile_model(model, settings.recipe)
    test = fitting.evaluation_batches(data, "test")
    last_error = error_of(model, test)
    run_directory.save_model(model, file)
    history, period = progress.history, settings.validate_every
    errors = history["test_error"]
    accuracy = history.get("val_accuracy")  # None: nothing was held out
    best = accuracy and accuracy.index(max(accuracy))
    return {
        "test_error": last_error,
        "test_errors": errors,
        "test_error_at_best_validation": accuracy and errors[best],
        "best_validation_step": accuracy and (best + 1) * period,
        "validation_error": accuracy and fitting.percentage(accuracy[-1]),
        "train_error": fitting.percentage(history["accuracy"][-1]),
        "train_loss": history["loss"][-1],
        # The mean over each period, without L2.
        "train_cross_entropies": history["cross_entropy"],
        "train_seconds": progress.seconds,
    }


def error_of(model, batches):
    """Returns the error of a compiled model on the batches, in percent."""
    results = model.evaluate(batches, verbose=0, return_dict=True)
    if not np.isfinite(results["loss"]):
        raise ValueError(
            "The loss must be finite: the training diverged. Received: "
            f"loss={results['loss']}"
        )
    return fitting.percentage(results["accuracy"])
