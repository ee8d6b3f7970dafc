"""Training a run to its last step, from wherever it was stopped."""

import contextlib
import sys

import keras

from snip_tf import data as data_module
from snip_tf import training
from snip_tf.experiments import (
    checkpoints,
    distributed,
    estimates,
    mirrored,
    provenance,
    stopping,
)


def train(
    settings,
    model,
    data,
    directory,
    callbacks,
    *,
    resumes=True,
):
    """Trains a network to the last step.

    Args:
        settings: The `Settings`.
        model: The network.
        data: The `data.Data`.
        directory: The run directory.
        callbacks: More Keras callbacks.
        resumes: Whether it goes on where it was stopped, or begins again.

    Returns:
        The `checkpoints.Progress`.
    """
    recipe, period = settings.recipe, settings.validate_every
    without_l2 = keras.metrics.SparseCategoricalCrossentropy(
        from_logits=True, name="cross_entropy"
    )
    at_a_time = estimates.steps_at_a_time(settings.model, period)
    if mirrored.replicas() > 1:
        at_a_time = 1  # TensorFlow 2.21 fails to run more there
    training.compile_model(
        model, recipe, steps_per_execution=at_a_time, metrics=[without_l2]
    )
    progress = checkpoints.restore(directory, model)
    if distributed.place()[1] > 1:
        provenance.check_same({"weights": provenance.digest(model.variables)})
    validation = None
    if len(data.validation.labels):
        validation = evaluation_batches(data, "validation")
    _check_history(progress, settings, validation is not None)
    test = evaluation_batches(data, "test")
    if progress.metrics:  # Keras makes their variables at the first batch
        model.evaluate(test, steps=1, verbose=0)
    if settings.random_labels:
        data = data_module.with_shuffled_labels(data, seed=settings.seed)
    own = [
        keras.callbacks.TerminateOnNaN(),
        _TestErrors(test),
        checkpoints.Checkpoints(directory, progress, settings, saves=resumes),
    ]
    if progress.step == recipe.steps:  # stopped before what comes at the end
        ends = keras.callbacks.CallbackList(callbacks, model=model)
        ends.on_train_begin()
        ends.on_train_end()
    while progress.step < recipe.steps:
        with stopping.saved_first() if resumes else contextlib.nullcontext():
            _fit(
                settings, model, data, progress, validation, [*own, *callbacks]
            )
        if model.stop_training:
            # It would only diverge again.
            checkpoints.remove(directory)
            raise ValueError(
                "The loss must be finite: the training diverged before step "
                f"{progress.step:,}"
            )
    return progress


def _fit(settings, model, data, progress, validation, callbacks):
    """Trains to the last step; or only to that of a period that was cut."""
    recipe, period = settings.recipe, settings.validate_every
    rest = -progress.step % period
    stop = progress.step + rest if rest else recipe.steps
    batches = data_module.training_batches(
        data,
        batch_size=recipe.batch_size,
        seed=settings.seed,
        start=progress.step,
        stop=stop,
        augment=settings.dataset.startswith("cifar"),
    )
    model.fit(
        distributed.share(batches, recipe.batch_size),
        steps_per_epoch=rest or period,
        initial_epoch=progress.step // period,
        epochs=stop // period,
        validation_data=validation,
        shuffle=False,
        callbacks=callbacks,
        # A bar where somebody looks on, one line a period elsewhere.
        verbose=1 if sys.stdout.isatty() else 2,
    )


def evaluation_batches(data, split):
    """Returns what this process reads of the batches of a split."""
    size, examples = 1000, len(getattr(data, split).labels)
    sizes = {min(size, examples), examples % size} - {0}
    batches = data_module.evaluation_batches(data, split, batch_size=size)
    return distributed.share(batches, *sizes)


def _check_history(progress, settings, validates):
    """Refuses other periods, or fewer steps, than a run has behind it."""
    steps, period = settings.recipe.steps, settings.validate_every
    history = progress.history
    fits = len(history.get("loss", ())) == progress.step // period
    fits &= not history or ("val_loss" in history) == validates
    if not fits or progress.step > steps:
        raise ValueError(
            "A run can go on only with the periods of its checkpoint, with "
            "images held out or none as there, and to more steps than its "
            f"{progress.step:,}. Received: validate_every={period}, "
            f"validation_fraction={settings.validation_fraction}, steps={steps}"
        )


class _TestErrors(keras.callbacks.Callback):
    """Adds the test error to what is reported of each period, nothing else."""

    def __init__(self, test):
        super().__init__()
        self._test = test

    def on_epoch_end(self, epoch, logs):
        """Ends a period."""
        found = self.model.evaluate(self._test, verbose=0, return_dict=True)
        logs["test_error"] = percentage(found["accuracy"])


def percentage(accuracy):
    """Returns the error in percent, free of single precision's last digits."""
    # Keras leaves JAX's array as it is if a signal comes while it reads it.
    return round(100 * (1 - float(accuracy)), 4)
