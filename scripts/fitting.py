"""Training a network and evaluating it: what a run does once it is pruned."""

import importlib.util
import sys
import time

import environment  # noqa: F401

import keras

import run_directory
import slices
from snip_tf import data as data_module
from snip_tf import training


def train_and_evaluate(
    settings, model, data, directory, *, slice_steps=None, callbacks=()
):
    """Trains a network, evaluates it, and saves it in a directory.

    Args:
        settings: The `experiment.Settings`.
        model: The network, pruned or not.
        data: What `experiment.load_data` returned.
        directory: The directory of the run. If a slice of this run ended
            there, training goes on from it.
        slice_steps: The most steps to train now; None for all that are left.
        callbacks: More Keras callbacks.

    Returns:
        The results: errors in percent on the test set after the last step and
        at the best validation, losses, seconds. None if steps are left.
    """
    steps, period = settings.recipe.steps, settings.validate_every
    training.compile_model(
        model,
        settings.recipe,
        steps_per_execution=_steps_at_once(period),
        # The loss without its L2.
        metrics=[
            keras.metrics.SparseCategoricalCrossentropy(
                from_logits=True, name="cross_entropy"
            )
        ],
    )
    progress = slices.restore(model, directory, settings)
    stop = slices.end(progress.step, steps, period, slice_steps)
    callbacks = [
        keras.callbacks.TerminateOnNaN(),
        _keep_best(directory / slices.BEST, progress),
        *callbacks,
    ]
    start = time.perf_counter()
    history = _fit(settings, model, data, progress.step, stop, callbacks)
    seconds = time.perf_counter() - start
    progress = progress.after(stop, seconds, history)
    if stop < steps:
        slices.save(model, directory, settings, progress)
        return None
    return _evaluate(settings, model, data, directory, progress)


def logs(directory):
    """Returns the callbacks that write TensorBoard's logs into a directory."""
    if importlib.util.find_spec("tensorboard"):
        path = directory / "logs"
        return [keras.callbacks.TensorBoard(path, write_graph=False)]
    print("No TensorBoard logs: pip install 'snip_tf[demo]' for them")
    return []


def _fit(settings, model, data, start, stop, callbacks):
    """Trains from one step to another, returns what Keras recorded."""
    train_on = data
    if settings.random_labels:
        train_on = data_module.with_shuffled_labels(data, seed=settings.seed)
    batches = data_module.training_batches(
        train_on,
        batch_size=settings.recipe.batch_size,
        seed=settings.seed,
        start=start,
        stop=stop,
        augment=settings.dataset.startswith("cifar"),
    )
    return training.fit(
        model,
        batches,
        settings.recipe,
        validate_every=settings.validate_every,
        validation=data_module.evaluation_batches(data, "validation"),
        start=start,
        stop=stop,
        callbacks=callbacks,
        # A bar where somebody looks on, one line a period elsewhere.
        verbose=1 if sys.stdout.isatty() else 2,
    ).history


def _evaluate(settings, model, data, directory, progress):
    """Returns the results of a trained network, and saves it."""
    test = data_module.evaluation_batches(data, "test")
    last_error = training.error_of(model, test)
    run_directory.save_model(model, directory / "model.keras")
    best = directory / slices.BEST
    model.load_weights(best)
    best_error = training.error_of(model, test)
    best.unlink()
    history = progress.history
    accuracy = history["val_accuracy"]
    best_period = accuracy.index(max(accuracy)) + 1
    return {
        "test_error": last_error,
        "test_error_at_best_validation": best_error,
        "best_validation_step": best_period * settings.validate_every,
        "validation_error": training.error_percentage(accuracy[-1]),
        "train_error": training.error_percentage(history["accuracy"][-1]),
        "train_loss": history["loss"][-1],
        # The mean over each period, without L2.
        "train_cross_entropies": history["cross_entropy"],
        "train_seconds": progress.seconds,
    }


def _keep_best(path, progress):
    """Returns the callback that keeps the weights of the best validation."""
    return keras.callbacks.ModelCheckpoint(
        path,
        monitor="val_accuracy",
        mode="max",
        save_best_only=True,
        save_weights_only=True,
        initial_value_threshold=max(
            progress.history.get("val_accuracy", ()), default=None
        ),
    )


def _steps_at_once(period):
    """Returns the largest divisor of a period that is at most 50."""
    return max(steps for steps in range(1, 51) if period % steps == 0)
