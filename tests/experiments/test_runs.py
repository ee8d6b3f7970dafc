"""A run: what each setting changes, what is reported, how it goes on."""

import dataclasses
import json

import keras
import numpy as np
import pytest
import tensorflow as tf

import snip_tf
from snip_tf import data as data_module
from snip_tf import training
from snip_tf.experiments import (
    checkpoints,
    estimates,
    fitting,
    provenance,
    run_directory,
    runs,
)

SMALL = runs.Settings(
    model="lenet_300_100",
    dataset="mnist_5k",
    recipe=training.RECIPES["mnist_5k"].scaled_to(30),
    sparsity=0.95,
    validate_every=10,
)

# What each setting changes of a network that is pruned: masks, the weights
# that all of them have in common, biases.
_CHANGES = {
    "criterion-random": ({"criterion": "random"}, {"masks"}),
    "criterion-magnitude": ({"criterion": "magnitude"}, {"masks"}),
    "criterion-shuffled": ({"criterion": "shuffled"}, {"masks"}),
    "criterion-grasp": ({"criterion": "grasp"}, {"masks"}),
    "criterion-synflow": ({"criterion": "synflow"}, {"masks"}),
    "reinit": ({"reinit": True}, {"weights"}),
    "train_initializer": ({"train_initializer": "vs_x"}, {"weights"}),
    "kernel_initializer": ({"kernel_initializer": "rn"}, {"masks", "weights"}),
    "bias_initializer": (
        {"bias_initializer": "truncated_normal"},
        {"masks", "biases", "weights"},  # drawn after a bias was
    ),
    "score_batch_size": ({"score_batch_size": 1}, {"masks"}),
    "score_label": ({"score_label": 3}, {"masks"}),
    "random_labels": ({"random_labels": True}, set()),  # scored on true ones
    "none": ({}, set()),
}


@pytest.fixture(scope="module")
def data():
    return runs.load_data(SMALL)


def pruned(settings, data):
    """Returns masks, kernels and biases of a network, as flat arrays."""
    model, _ = runs.build_and_prune(settings, data)
    masks = snip_tf.get_masks(model)
    weights = [
        weight.numpy() for weight, _ in snip_tf.layers.masked_weights(model)
    ]

    def flat(arrays, is_kernel):
        return np.concatenate(
            [a.ravel() for a in arrays if (a.ndim > 1) == is_kernel]
        )

    return (
        np.concatenate([mask.ravel() for mask in masks]),
        flat(masks, True) * flat(weights, True),
        flat(weights, False),
    )


@pytest.mark.parametrize("name", _CHANGES)
def test_a_setting_changes_what_it_is_to_change_and_no_more(name, data):
    options, expected = _CHANGES[name]
    masks, kernels, biases = pruned(SMALL, data)
    changed = dataclasses.replace(SMALL, **options)
    other_masks, other_kernels, other_biases = pruned(changed, data)
    both = (kernels != 0) & (other_kernels != 0)
    assert both.any()
    found = {
        "masks": (masks != other_masks).any(),
        "weights": (kernels[both] != other_kernels[both]).any(),
        "biases": (biases != other_biases).any(),
    }
    assert {key for key, differs in found.items() if differs} == expected
    assert masks.sum() == other_masks.sum() == 13_331


def test_an_unknown_criterion_is_refused(data):
    settings = dataclasses.replace(SMALL, criterion="luck")
    with pytest.raises(ValueError, match="one of snip, .*Received: .*luck"):
        runs.build_and_prune(settings, data)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"validate_every": 20}, "validate_every=20, steps=30"),
        ({"sparsity": 95}, r"\[0, 1\).*sparsity=95"),
        ({"model": "vgg_d", "batch_norm": True}, "lenet_5_caffe.*: model=vgg"),
        ({"conv_activation": "relu"}, "of lenet_5_caffe. Rec.*lenet_300_100"),
    ],
)
def test_bad_settings_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(SMALL, **change)


@pytest.mark.parametrize(
    ("exempt", "weights"),
    [
        ({"prune_last_layer": False}, 266_610 - 1_010),
        ({"prune_biases": False}, 266_610 - 410),
        ({"prune_last_layer": False, "prune_biases": False}, 265_200),
    ],
)
def test_what_is_exempt_has_no_masks_and_counts_for_no_sparsity(
    exempt, weights, data
):
    settings = dataclasses.replace(SMALL, **exempt)
    model, _ = runs.build_and_prune(settings, data)
    masks = snip_tf.get_masks(model)
    assert sum(mask.size for mask in masks) == weights
    assert sum(mask.sum() for mask in masks) == round(0.05 * weights)
    last = np.asarray(model.layers[-1].kernel)
    assert (last == 0).any() == settings.prune_last_layer


def test_without_held_out_images_there_is_no_validation(tmp_path):
    settings = dataclasses.replace(
        SMALL,
        validation_fraction=0.0,
        batch_norm=True,
        prune_last_layer=False,
        prune_biases=False,
    )
    assert len(runs.load_data(settings).train.labels) == 4_000
    result = runs.run(settings, tmp_path / "run")
    assert result["test_errors"][-1] == result["test_error"]
    for name in (
        "test_error_at_best_validation",
        "best_validation_step",
        "validation_error",
    ):
        assert result[name] is None
    saved = runs.load_model(tmp_path / "run" / "model.keras")
    assert type(saved.layers[-1]) is keras.layers.Dense
    assert sum(m.sum() for m in snip_tf.get_masks(saved)) == result["kept"]


def test_testing_after_each_period_leaves_training_as_it_is(
    tmp_path, monkeypatch
):
    test = fitting._TestErrors.on_epoch_end
    settings = dataclasses.replace(SMALL, batch_norm=True)

    def state(model):
        variables = [*model.variables, *model.optimizer.variables]
        return [np.array(variable) for variable in variables]

    def watched(self, epoch, logs):
        before, reported = state(self.model), dict(logs)
        test(self, epoch, logs)
        for one, other in zip(before, state(self.model), strict=True):
            np.testing.assert_array_equal(one, other)
        assert logs.pop("test_error") > 0
        assert logs == reported
        logs["test_error"] = epoch  # not at all, where the next runs

    monkeypatch.setattr(fitting._TestErrors, "on_epoch_end", watched)
    tested = runs.run(settings, tmp_path / "tested")
    assert tested["test_errors"] == [0, 1, 2]
    monkeypatch.setattr(
        fitting._TestErrors,
        "on_epoch_end",
        lambda self, epoch, logs: logs.update(test_error=epoch),
    )
    untested = runs.run(settings, tmp_path / "untested")
    np.testing.assert_allclose(
        tested["train_cross_entropies"],
        untested["train_cross_entropies"],
        rtol=1e-5,
    )


def test_random_labels_are_a_permutation_of_those_trained_on(
    data, monkeypatch, tmp_path
):
    trained_on = []

    def stop(examples, **options):
        trained_on.append(examples)
        raise InterruptedError

    monkeypatch.setattr(data_module, "training_batches", stop)
    for random_labels in (False, True, True):
        one = dataclasses.replace(SMALL, random_labels=random_labels)
        with pytest.raises(InterruptedError):
            runs.run(one, tmp_path / "run", overwrite=True)
    true, random, again = (examples.train for examples in trained_on)
    np.testing.assert_array_equal(true.labels, data.train.labels)
    np.testing.assert_array_equal(random.labels, again.labels)
    np.testing.assert_array_equal(np.sort(random.labels), np.sort(true.labels))
    assert (random.labels == true.labels).mean() < 0.2  # 10 classes
    np.testing.assert_array_equal(random.images, true.images)


def test_errors_are_those_after_the_last_and_the_best_validation(
    data, tmp_path
):
    """The outputs are lost before the last validation: it is not the best."""
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

    result = runs.run(SMALL, tmp_path / "run", callbacks=[Seen()])
    best = int(np.argmax(accuracies))
    assert len(errors) == 3
    assert errors[best] < 50 < errors[-1]
    assert result["best_validation_step"] == 10 * (best + 1)
    np.testing.assert_allclose(result["test_error"], errors[-1], atol=1e-3)
    np.testing.assert_allclose(result["test_errors"], errors, atol=1e-3)
    np.testing.assert_allclose(
        result["test_error_at_best_validation"], errors[best], atol=1e-3
    )
    np.testing.assert_allclose(
        result["validation_error"], 100 * (1 - accuracies[-1]), atol=1e-3
    )
    saved = runs.load_model(tmp_path / "run" / "model.keras")
    kernel = saved.layers[-1].masked_weights()[0][0]
    np.testing.assert_array_equal(kernel, 0)  # of the last step, not the best


def test_an_error_is_the_percentage_of_wrong_classes(small_model, small_batch):
    x, y = small_batch
    small_model.compile("sgd", small_model.loss, metrics=["accuracy"])
    wrong = np.mean(np.argmax(small_model(x), axis=1) != y)
    batches = tf.data.Dataset.from_tensors((x, y))
    assert runs.error_of(small_model, batches) == pytest.approx(100 * wrong)
    small_model.layers[1].bias.assign([np.nan] * 3)
    with pytest.raises(ValueError, match="training diverged. .*loss=nan"):
        runs.error_of(small_model, batches)


def test_an_error_is_a_number_where_keras_left_an_array(monkeypatch):
    """As under JAX, when a signal comes while Keras waits for the value."""
    left = {"loss": np.array(1.0), "accuracy": np.array(0.75)}
    model = keras.Sequential()
    monkeypatch.setattr(model, "evaluate", lambda *_, **__: left)
    assert json.dumps(runs.error_of(model, None)) == "25.0"


class Stopping(keras.callbacks.Callback):
    """Stops a run after its next validation, or where Keras looks up in it."""

    def __init__(self, in_period=False):
        super().__init__()
        self._in_period = in_period

    def on_epoch_end(self, epoch, logs=None):
        raise InterruptedError

    def on_train_batch_end(self, batch, logs=None):
        if self._in_period:
            raise InterruptedError


def stop(settings, path, **options):
    """Starts a run that is stopped."""
    with pytest.raises(InterruptedError):
        runs.run(settings, path, callbacks=[Stopping(**options)])


def test_a_run_that_was_stopped_goes_on_by_itself_to_the_same_numbers(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(checkpoints, "SECONDS", 0)
    monkeypatch.setattr(estimates, "steps_at_a_time", lambda *_: 5)
    path = tmp_path / "run"
    for steps in (5, 10, 15):
        stop(SMALL, path, in_period=steps % 10 > 0)
        assert checkpoints.steps_done(path) == steps
    result = runs.run(SMALL, path, overwrite=True)  # of other runs
    assert "Going on after 15 steps" in capsys.readouterr().out
    assert {entry.name for entry in path.iterdir()} == {
        "config.json",
        "history.csv",
        "model.keras",
        "result.json",
    }
    history = (path / "history.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in history] == [
        "step",
        "10",
        "20",
        "30",
    ]
    whole = runs.run(SMALL, tmp_path / "whole")
    np.testing.assert_allclose(
        result["train_cross_entropies"],
        whole["train_cross_entropies"],
        rtol=1e-5,
    )
    weights, expected = (
        runs.load_model(at / "model.keras").get_weights()
        for at in (path, tmp_path / "whole")
    )
    for one, other in zip(weights, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)
    for key in ("test_errors", "test_error_at_best_validation"):
        assert result[key] == pytest.approx(whole[key], abs=0.2)
    column = [line.split(",")[-1] for line in history]
    assert column == ["test_error", *map(str, result["test_errors"])]

    def never(*_, **__):
        raise AssertionError

    monkeypatch.setattr(runs, "load_data", never)
    found = runs.run(SMALL, path)  # which is finished
    assert found == json.loads(json.dumps(result))
    assert (
        f"{path} holds this run, which is finished" in capsys.readouterr().out
    )
    with pytest.raises(FileExistsError, match="already holds a finished run"):
        runs.run(dataclasses.replace(SMALL, seed=1), path)


def test_another_run_is_refused_by_what_differs(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints, "SECONDS", 0)
    path = tmp_path / "run"
    stop(SMALL, path)
    faster = dataclasses.replace(SMALL.recipe, learning_rate=0.2)

    def with_arithmetic(number):
        with monkeypatch.context() as patched:
            patched.setattr(provenance, "ARITHMETIC", number)
            runs.run(SMALL, path)

    def with_version(version):
        with monkeypatch.context() as patched:
            patched.setattr(
                provenance.platform, "python_version", lambda: version
            )
            runs.run(SMALL, path)

    def with_other_data():
        """Of one label more that is wrong, and validated on."""
        data = runs.load_data(SMALL)
        data.validation.labels[0] += 1
        with monkeypatch.context() as patched:
            patched.setattr(runs, "load_data", lambda _: data)
            runs.run(SMALL, path)

    for other, message in (
        (
            lambda: runs.run(dataclasses.replace(SMALL, seed=1), path),
            r"another run, stopped after 10 .* in seed \(there 0, here 1\)",
        ),
        (
            lambda: runs.run(dataclasses.replace(SMALL, recipe=faster), path),
            r"in recipe.learning_rate \(there 0.1, here 0.2\)\. .*--overwrite",
        ),
        (lambda: with_arithmetic(2), r"in arithmetic \(there 1, here 2\)"),
        (
            lambda: with_version("3.0"),
            r"in versions.python \(there 3.*here 3.0",
        ),
        (
            lambda: with_other_data(),
            r"in data \(there \w+, here \w+\)\. .*anyway",
        ),
        (lambda: runs.run(SMALL, path, train=False), "only_pruned"),
        (lambda: runs.run(SMALL, path, model=other_draw()), "start_weights"),
    ):
        with pytest.raises(FileExistsError, match=message):
            other()
    with run_directory.locked(path):
        with pytest.raises(BlockingIOError, match="own .*/run, in use by anot"):
            runs.run(SMALL, path)
    assert checkpoints.steps_done(path) == 10
    fast = dataclasses.replace(SMALL, recipe=faster)
    result = runs.run(fast, path, resume_anyway=True)
    apart = ["recipe.learning_rate (there 0.1, here 0.2)"]
    assert result["resumed_anyway"] == apart
    assert run_directory.read_config(path)["resumed_anyway"] == apart
    assert len(result["train_cross_entropies"]) == 3


def test_what_cannot_go_on_does_not_even_if_asked_to(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints, "SECONDS", 0)
    path = tmp_path / "run"
    stop(SMALL, path)
    before = (path / "config.json").read_text()
    for change, message in (
        ({"validate_every": 15}, "validate_every=15"),
        ({"validation_fraction": 0.0}, "held out or none .*fraction=0.0"),
        ({"model": "lenet_5_caffe"}, "only with the network and the optimizer"),
    ):
        other = dataclasses.replace(SMALL, **change)
        with pytest.raises(ValueError, match=message):
            runs.run(other, path, resume_anyway=True)
        assert checkpoints.steps_done(path) == 10
        assert (path / "config.json").read_text() == before


def test_a_run_whose_fraction_is_of_no_image_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints, "SECONDS", 0)
    settings = dataclasses.replace(SMALL, validation_fraction=1e-4)
    stop(settings, tmp_path / "run")
    result = runs.run(settings, tmp_path / "run")
    assert len(result["test_errors"]) == 3
    assert result["validation_error"] is None


def other_draw():
    keras.utils.set_random_seed(9)
    return snip_tf.models.build("lenet_300_100")


def test_a_run_that_diverged_does_not_go_on(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints, "SECONDS", 0)
    recipe = dataclasses.replace(SMALL.recipe, learning_rate=1e20)
    settings = dataclasses.replace(SMALL, recipe=recipe)
    with pytest.raises(ValueError, match="diverged before step 10"):
        runs.run(settings, tmp_path / "run")
    assert not (tmp_path / "run" / checkpoints.FILE).exists()


def test_nothing_is_written_before_there_is_something_to_train(tmp_path):
    settings = dataclasses.replace(SMALL, data_dir="nowhere", dataset="mnist")
    with pytest.raises(FileNotFoundError, match="nowhere"):
        runs.run(settings, tmp_path / "run")
    settings = dataclasses.replace(SMALL, score_batch_size=10**6)
    with pytest.raises(ValueError, match="at most"):
        runs.run(settings, tmp_path / "run")
    model = snip_tf.models.build("vgg_like")
    with pytest.raises(ValueError, match="for mnist_5k must take images of"):
        runs.run(SMALL, tmp_path / "run", model=model)
    assert not list(tmp_path.iterdir())


def test_what_was_only_pruned_is_not_taken_for_trained(tmp_path):
    runs.run(SMALL, tmp_path, train=False)
    message = r"finished run. It differs in only_pruned \(there True, here None"
    with pytest.raises(FileExistsError, match=message):
        runs.run(SMALL, tmp_path)
    assert runs.run(SMALL, tmp_path, train=False)["kept"]
