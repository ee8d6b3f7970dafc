"""Pruning while training, by any score and any schedule."""

import warnings

import keras

from snip_tf import (
    _checks,
    _keras,
    inspection,
    layers,
    masks,
    pruning,
    stepwise,
)


class PruneGradually(keras.callbacks.Callback):
    """Removes ever more weights while the model trains.

        schedule = snip_tf.schedules.cubic(0.0, 0.9, begin=200, end=2000)
        prune = snip_tf.PruneGradually(schedule=schedule)
        model.fit(x, y, epochs=10, callbacks=[prune])

    With the default score and a cubic schedule this is the pruning of Zhu and
    Gupta 2017 (To Prune, or Not to Prune). The step is that of the optimizer,
    so that training that goes on (`initial_epoch`, `BackupAndRestore`, a loaded
    file) goes on in the schedule. With `steps_per_execution` weights go at the
    next step that Keras shows. What the schedule asks for when `fit` ends goes
    then. After every epoch the logs hold `sparsity`. `EarlyStopping` that
    restores the best weights restores their masks, if it is the later callback.

    Args:
        x: What the score is taken on; see `sensitivity`. Magnitudes need none.
        y: The targets of the one batch.
        schedule: A function of the step, an integer of at least 0, that returns
            the fraction of all masked weights to have removed, in [0, 1): see
            `snip_tf.schedules`. Or a dict of them by the names of layers, each
            then pruned by itself; other layers are left alone.
        every: The number of steps between two prunings.
        criterion: See `prune`.
        **options: Passed to `prune`: `loss`, `min_kept`...

    Raises:
        ValueError: For arguments out of range; in `fit`, what `prune` raises.
    """

    def __init__(
        self,
        x=None,
        y=None,
        *,
        schedule,
        every=100,
        criterion="magnitude",
        **options,
    ):
        super().__init__()
        parts = schedule.values() if isinstance(schedule, dict) else [schedule]
        if not all(map(callable, parts)):
            raise ValueError(
                "`schedule` must be a function of the step, or a dict of them "
                f"by layer. Received: schedule={schedule!r}"
            )
        every = _checks.whole("every", every, 1)
        self._batch, self._schedule, self._every = (x, y), schedule, every
        self._options = {"criterion": criterion, **options}
        self._next = 0

    def on_train_begin(self, logs=None):
        """Refuses a model without masks before anything is trained."""
        layers.masked_weights(self.model)
        self._next = 0

    def on_train_batch_begin(self, batch, logs=None):
        """Prunes if it is time."""
        step = _keras.steps_of(self.model.optimizer)
        if step < self._next:
            return
        self._next = (step // self._every + 1) * self._every
        self._prune_at(step)

    def on_train_end(self, logs=None):
        """Prunes to what the schedule asks for now."""
        step = _keras.steps_of(self.model.optimizer)
        if step < self._every and self._sparsity_at(step):
            warnings.warn(
                "`every` should be less than the steps of training: all that "
                "the schedule asks for is removed after the last. Received: "
                f"every={self._every}, steps={step}",
                stacklevel=2,
            )
        self._prune_at(step)

    def _prune_at(self, step):
        sparsity = self._sparsity_at(step)
        if sparsity:
            pruning.prune(
                self.model, *self._batch, sparsity=sparsity, **self._options
            )

    def on_epoch_end(self, epoch, logs=None):
        """Adds the sparsity to the logs."""
        if logs is not None:
            logs["sparsity"] = inspection.model_sparsity(self.model)

    def _sparsity_at(self, step):
        """Returns what of the schedule would remove more, empty if nothing."""
        found, now = masks.get_masks(self.model), self._schedule
        if isinstance(now, dict):
            now = {name: part(step) for name, part in now.items()}
        else:
            now = now(step)
        more = {
            name: fraction
            for name, indices, fraction in stepwise.groups(self.model, now)
            if stepwise.removes([found[index] for index in indices], fraction)
        }
        return more.get(None, more)
