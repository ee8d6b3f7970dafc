"""What is reported of a training, against what was seen while it went on."""

import keras
import numpy as np

from snip_tf import data as data_module
from snip_tf.experiments import runner, runs, worker


def test_errors_are_those_after_the_last_and_the_best_validation(tmp_path):
    """The outputs are lost before the last validation: it is not the best."""
    (run,) = runner.plan(
        "ablations", only="0.95-seed0", dataset="mnist_5k", steps=120, seeds=1
    )
    data = runs.load_data(run.settings)
    accuracies, errors = [], []

    class Seen(keras.callbacks.Callback):
        def on_test_begin(self, logs=None):
            if len(errors) == 2:
                (kernel, _), *_ = self.model.layers[-1].masked_weights()
                kernel.assign(np.zeros(kernel.shape))

        def on_epoch_end(self, epoch, logs):
            accuracies.append(logs["val_accuracy"])
            test = data_module.evaluation_batches(data, "test")
            # Of the outputs alone: `evaluate` would end the epoch's metrics.
            wrong = [
                np.argmax(self.model(images), axis=1) != labels
                for images, labels in test
            ]
            errors.append(100 * np.concatenate(wrong).mean())

    result = worker.result_of(worker.job_of(run, tmp_path), [Seen()])
    best = int(np.argmax(accuracies))
    period = run.settings.validate_every
    assert len(errors) == 120 // period == 3
    assert errors[best] < 50 < errors[-1]
    assert result["best_validation_step"] == period * (best + 1)
    np.testing.assert_allclose(result["test_error"], errors[-1], atol=1e-3)
    np.testing.assert_allclose(
        result["test_error_at_best_validation"], errors[best], atol=1e-3
    )
    np.testing.assert_allclose(
        result["validation_error"], 100 * (1 - accuracies[-1]), atol=1e-3
    )
