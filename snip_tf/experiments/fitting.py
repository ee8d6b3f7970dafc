"""Training a network and evaluating it: what a run does once it is pruned."""

import dataclasses
import hashlib
import importlib.util
import json
import sys

import keras
import numpy as np

from snip_tf import data as data_module
from snip_tf import training
from snip_tf.experiments import checkpoints, run_directory


def train_and_evaluate(settings, model, data, directory, *, callbacks=()):
    """Trains a network, evaluates it, and saves it in a directory.

    Every few minutes the state is saved there. A run that was stopped goes on
    from that, exactly as if it had not been; that of another run is removed.

    Args:
        settings: The `runs.Settings`.
        model: The network, pruned or not.
        data: What `runs.load_data` returned.
        directory: The directory of the run.
        callbacks: More Keras callbacks.

    Returns:
        The results: errors in percent on the test set after the last step and
        at the best validation, losses, seconds.

    Raises:
        ValueError: If the training diverged.
    """
    identity = identity_of(settings, model)
    if not checkpoints.fits(directory, identity):
        steps = checkpoints.steps_done(directory)
        if steps:
            print(
                f"Beginning anew: the {steps:,} steps done are of another run "
                "or by other code",
                flush=True,
            )
        checkpoints.remove(directory)
    training.compile_model(
        model,
        settings.recipe,
        steps_per_execution=_steps_at_once(settings.validate_every),
        # The loss without its L2.
        metrics=[
            keras.metrics.SparseCategoricalCrossentropy(
                from_logits=True, name="cross_entropy"
            )
        ],
    )
    before = checkpoints.restore(model, directory)
    if before.step:
        print(f"Going on after {before.step:,} steps", flush=True)
    states = checkpoints.Checkpoints(directory, settings, identity, before)
    callbacks = [
        keras.callbacks.TerminateOnNaN(),
        _keep_best(directory / checkpoints.BEST, before),
        states,
        *callbacks,
    ]
    _fit(settings, model, data, before.step, callbacks)
    if model.stop_training:
        checkpoints.remove(directory)  # it would only diverge again
        raise ValueError(
            "The loss must be finite: the training diverged before step "
            f"{states.progress.step:,}"
        )
    return _evaluate(settings, model, data, directory, states.progress)


def identity_of(settings, model=None, backend=None):
    """Returns what tells a run from others, as JSON values.

    Args:
        settings: The `runs.Settings`.
        model: Its network before the first step, if there is one yet.
        backend: The Keras backend it trains on; by default the one in use.
    """
    settings = dataclasses.asdict(settings)
    settings.pop("data_dir")
    surroundings = run_directory.surroundings(backend)
    identity = {
        "settings": json.loads(json.dumps(settings)),
        **{key: surroundings[key] for key in ("backend", "versions")},
        "code": run_directory.code(),
    }
    if model is not None:
        start = hashlib.sha256()
        for weight in model.weights:
            start.update(np.ascontiguousarray(weight))
        identity["start"] = start.hexdigest()
    return identity


def logs(directory):
    """Returns the callbacks that write TensorBoard's logs into a directory."""
    if importlib.util.find_spec("tensorboard"):
        path = directory / "logs"
        return [keras.callbacks.TensorBoard(path, write_graph=False)]
    print("No TensorBoard logs: pip install 'snip_tf[demo]' for them")
    return []


def _fit(settings, model, data, start, callbacks):
    """Trains from a step to the last."""
    train_on = data
    if settings.random_labels:
        train_on = data_module.with_shuffled_labels(data, seed=settings.seed)
    batches = data_module.training_batches(
        train_on,
        batch_size=settings.recipe.batch_size,
        seed=settings.seed,
        start=start,
        stop=settings.recipe.steps,
        augment=settings.dataset.startswith("cifar"),
    )
    training.fit(
        model,
        batches,
        settings.recipe,
        validate_every=settings.validate_every,
        validation=data_module.evaluation_batches(data, "validation"),
        start=start,
        callbacks=callbacks,
        # A bar where somebody looks on, one line a period elsewhere.
        verbose=1 if sys.stdout.isatty() else 2,
    )


def _evaluate(settings, model, data, directory, progress):
    """Returns the results of a trained network, and saves it."""
    test = data_module.evaluation_batches(data, "test")
    last_error = training.error_of(model, test)
    run_directory.save_model(model, directory / "model.keras")
    best = directory / checkpoints.BEST
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
