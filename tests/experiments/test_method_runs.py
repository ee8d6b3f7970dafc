"""Runs by the methods of Table 1: what they train, prune and report."""

import dataclasses

import keras
import numpy as np
import pytest

import snip_tf
from snip_tf import layers, training
from snip_tf.experiments import method_runs, method_table, runs

SMALL = runs.Settings(
    model="lenet_300_100",
    dataset="mnist_5k",
    recipe=training.Recipe(24, 50, 0.1, (12, 18)),
    validate_every=4,
    score_batch_size=10,
)


def settings_of(method, *options, **changes):
    if method_runs.METHODS[method].takes_sparsity:
        changes.setdefault("sparsity", 0.9)
    return dataclasses.replace(
        SMALL, method=method, method_options=options, **changes
    )


@pytest.mark.parametrize(
    ("method", "options", "numbers"),
    [
        ("lwc", ("begin=2", "every=3", "rounds=2"), 5),
        ("obd", (), 6),
        ("l_obs", (), 3),
        ("dns", (f"c={ {'fc1': 5, 'fc2': 3.0, 'fc3': 1} }",), 8),
        ("lc", ("every=4", "mu=0.1", "growth=1.5"), 5),
        ("svd", ("initial=-6.0", "threshold=1.0"), 5),
        ("sws", ("tau=0.5",), 13),
    ],
)
def test_a_run_by_a_method_ends_in_masks(method, options, numbers, tmp_path):
    settings = settings_of(method, *options)
    result = runs.run(settings, tmp_path)
    assert result["numbers_by_hand"] == numbers
    trains_before = method != "svd"
    assert result.get("pretraining_steps", 0) == 12 * trains_before
    assert result["recipe_after"]["steps"] == (12 if trains_before else 24)
    assert (tmp_path / "pretrained" / "model.keras").exists() == trains_before
    saved = runs.load_model(tmp_path / "model.keras")
    masks = snip_tf.get_masks(saved)
    assert result["kept"] == sum(mask.sum() for mask in masks) < 266_610
    if settings.sparsity:
        assert result["kept"] == pytest.approx(26_661, abs=3)
    for weight, mask in layers.masked_weights(saved):
        assert not weight.numpy()[mask.numpy() == 0].any()
    # The error of the network that is saved, not of the one that was trained.
    training.compile_model(saved, settings.recipe)
    data = runs.load_data(settings)
    test = snip_tf.data.evaluation_batches(data, "test")
    assert runs.error_of(saved, test) == result["test_error"]
    curve = result["test_errors"]
    assert curve is None if method != "l_obs" else len(curve) == 3


def test_what_was_stopped_begins_after_the_pretraining(tmp_path):
    """LC's state is not saved: its part is done again, and as it was."""

    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            raise KeyboardInterrupt

    settings = settings_of("lc", "every=4", "mu=0.1")
    runs.run(settings, tmp_path / "whole")
    first = tmp_path / "stopped"
    with pytest.raises(KeyboardInterrupt):
        runs.run(settings, first, callbacks=[Stop()])
    before = (first / "pretrained" / "result.json").stat().st_mtime_ns
    runs.run(settings, first)
    assert (first / "pretrained" / "result.json").stat().st_mtime_ns == before
    ours, theirs = (
        runs.load_model(path / "model.keras").get_weights()
        for path in (first, tmp_path / "whole")
    )
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("method", "recipe"),
    [
        # A tenth of the rate; the drops in proportion.
        ("lwc", training.Recipe(12, 50, 0.01, (6, 9))),
        ("lc", training.Recipe(12, 50, 0.1)),
        (
            "svd",
            training.Recipe(24, 50, 1e-3, (12, 18), optimizer="adam", l2=0.0),
        ),
    ],
)
def test_each_part_has_a_recipe(method, recipe):
    settings = settings_of(method)
    found = method_runs.after_pretraining(settings).recipe
    assert dataclasses.replace(found, learning_rate=0.5) == dataclasses.replace(
        recipe, learning_rate=0.5
    )
    assert found.learning_rate == pytest.approx(recipe.learning_rate)
    if method != "svd":
        before = method_runs.pretraining(settings)
        assert before.recipe == training.Recipe(12, 50, 0.1, (6, 9))
        assert (before.sparsity, before.method) == (0, "snip")
    options = ("pretraining=0.3334", "learning_rate=0.5")
    given = method_runs.after_pretraining(settings_of(method, *options))
    assert (given.recipe.steps, given.recipe.learning_rate) == (16, 0.5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"method": "magic"}, "one of snip, lwc, obd, .* sws. Received: .*mag"),
        ({"method_options": ("a=1",)}, "of snip must be of none. Received: a"),
        (
            {"method": "lwc", "method_options": ("mu=1", "every=2")},
            "of lwc must be of sparsity, begin, every, rounds, "
            "pretraining, learning_rate. Received: mu",
        ),
        (
            {"method": "lc", "method_options": ("mu=big",)},
            "name=value, the value as in Python. Received: mu=big",
        ),
        ({"method": "lc", "sparsity": 0.0}, "must be given once with lc"),
        ({"method": "dns"}, "must be what comes out with dns. .*0.9, None"),
        (
            {"method": "lwc", "criterion": "grasp"},
            "`criterion` is not for lwc. Received: criterion=grasp",
        ),
        (
            {"method": "lwc", "method_options": ("pretraining=1.0",)},
            "a part of the steps, .* Received: 24 of 24 steps for lwc",
        ),
        (
            {"method": "obd", "method_options": ("pretraining=0.02",)},
            "prunes a trained network. Received: 0 of 24 steps for obd",
        ),
    ],
)
def test_bad_methods_and_options_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(SMALL, **{"sparsity": 0.9, **change})


def test_l_obs_keeps_of_each_layer_what_is_large_in_the_network():
    """By numpy: the share of each layer among the largest of all."""
    model = snip_tf.models.build("lenet_300_100")
    weights = [weight for weight, _ in layers.masked_weights(model)]
    sizes = [
        np.concatenate([np.abs(w.numpy()).ravel() for w in own])
        for own in (weights[:2], weights[2:4], weights[4:])
    ]
    limit = np.sort(np.concatenate(sizes))[-26_661]
    settings = settings_of("l_obs")
    stage = method_table.Stage(settings, settings.recipe, model, None)
    for name, own in zip(("fc1", "fc2", "fc3"), sizes, strict=True):
        found = method_table._by_layer(stage)[name]
        assert found == pytest.approx((own < limit).mean())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("rounds=None", "`rounds` must be a whole number .*rounds=None"),
        ("sparsity={'fc9': 0.9}", "of fc1, fc2, fc3. Received: 'fc9'"),
    ],
)
def test_options_are_refused_before_the_pretraining(options, message, tmp_path):
    sparsity = 0.0 if "sparsity" in options else 0.9
    settings = settings_of("lwc", options, sparsity=sparsity)
    with pytest.raises(ValueError, match=message):
        runs.run(settings, tmp_path / "run")
    assert not (tmp_path / "run" / "pretrained").exists()


def test_what_was_stopped_after_the_last_step_has_its_last_round(tmp_path):
    class Stop(keras.callbacks.Callback):
        def on_train_end(self, logs=None):
            raise KeyboardInterrupt

    settings = settings_of("lwc", "every=6", "rounds=3")
    with pytest.raises(KeyboardInterrupt):
        runs.run(settings, tmp_path, callbacks=[Stop()])
    assert runs.run(settings, tmp_path)["kept"] == 26_661
