"""Pruning as one line in anybody's `fit`."""

import keras

from snip_tf import _checks, inspection, layers, masks, pruning


class PruneAtStart(keras.callbacks.Callback):
    """Prunes the model before the first training step, and never again.

        prune = snip_tf.PruneAtStart(x[:100], y[:100], sparsity=0.95)
        model.fit(x, y, callbacks=[prune])

    A model whose masks are not all ones is taken as pruned already, so that
    training that goes on (`initial_epoch`, `BackupAndRestore`, a loaded file)
    keeps its masks. After every epoch the logs hold `sparsity`, which the
    TensorBoard and History callbacks then show.

    Args:
        x: One batch of inputs or a sequence of batches; see `sensitivity`.
            Magnitudes need none.
        y: The targets of the one batch.
        sparsity: The fraction of all masked weights to remove, in [0, 1), or a
            dict; see `prune`.
        verbose: Whether the summary of the pruned model is printed.
        **options: Passed to `prune`: `criterion`, `loss`, `reinit`...

    Raises:
        ValueError: For a sparsity out of range; in `fit`, what `prune` raises.
    """

    def __init__(self, x=None, y=None, *, sparsity, verbose=1, **options):
        super().__init__()
        by_layer = sparsity if isinstance(sparsity, dict) else {"": sparsity}
        for fraction in by_layer.values():
            _checks.check_number("sparsity", fraction, 1)
        self._batch = x, y
        self._verbose = verbose
        self._options = {"sparsity": sparsity, **options}
        self._starting = False

    def on_train_batch_begin(self, batch, logs=None):
        """Prunes, unless the model is pruned already."""
        # Not when training begins: BackupAndRestore may load weights then,
        # after this callback or before it.
        if not self._starting:
            return
        self._starting = False
        if all(mask.all() for mask in masks.get_masks(self.model)):
            pruning.prune(self.model, *self._batch, **self._options)
            if self._verbose:
                print(inspection.summary(self.model))

    def on_train_begin(self, logs=None):
        """Refuses a model without masks before anything is trained."""
        layers.masked_weights(self.model)
        self._starting = True

    def on_epoch_end(self, epoch, logs=None):
        """Adds the sparsity to the logs."""
        if logs is not None:
            logs["sparsity"] = inspection.model_sparsity(self.model)
