import keras
import numpy as np
import pytest
from conftest import CROSS_ENTROPY

import snip_tf
from snip_tf import layers, schedules

SCHEDULE = schedules.cubic(0.0, 0.75, 10, 30)


@pytest.fixture
def data():
    """320 examples for `small_model`: ten steps an epoch."""
    generator = np.random.default_rng(0)
    x = generator.normal(size=(320, 4)).astype(np.float32)
    return x, generator.integers(0, 3, 320)


def flat_masks(model):
    return np.concatenate([m.ravel() for m in snip_tf.get_masks(model)])


class Kept(keras.callbacks.Callback):
    """Writes down how many weights each step has, and checks removed ones."""

    def __init__(self):
        super().__init__()
        self.of_step = {}

    def on_train_batch_end(self, batch, logs=None):
        step = int(self.model.optimizer.iterations)
        self.of_step[step] = int(flat_masks(self.model).sum())
        for weight, mask in layers.masked_weights(self.model):
            assert not weight.numpy()[mask.numpy() == 0].any()


def expected(step, every):
    """The weights of 32 that step number `step` computed with."""
    looked = (step - 1) // every * every
    return snip_tf.kept_weights(32, SCHEDULE(looked))


@pytest.mark.parametrize(
    "optimizer",
    [
        keras.optimizers.SGD(0.1, momentum=0.9, nesterov=True),
        keras.optimizers.Adam(0.1, amsgrad=True),
        keras.optimizers.RMSprop(0.01, momentum=0.9, centered=True),
    ],
    ids=["sgd", "adam", "rmsprop"],
)
def test_kappa_is_exact_and_removed_weights_are_zero_at_every_step(
    optimizer, small_model, data
):
    optimizer = type(optimizer).from_config(optimizer.get_config())
    small_model.compile(optimizer, CROSS_ENTROPY)
    kept = Kept()
    prune = snip_tf.PruneGradually(schedule=SCHEDULE, every=4, min_kept=1)
    history = small_model.fit(
        *data, epochs=4, callbacks=[prune, kept], verbose=0
    )
    assert kept.of_step == {step: expected(step, 4) for step in range(1, 41)}
    assert history.history["sparsity"][-1] == 0.75


def test_blocks_of_steps_prune_at_the_next_one(small_model, data):
    small_model.compile("sgd", CROSS_ENTROPY, steps_per_execution=5)
    prune = snip_tf.PruneGradually(schedule=schedules.one_shot(0.5, 7), every=1)
    kept = Kept()
    small_model.fit(*data, epochs=2, callbacks=[prune, kept], verbose=0)
    assert kept.of_step == {5: 32, 10: 32, 15: 16, 20: 16}


def test_a_restored_run_goes_on_in_the_schedule(small_model, data, tmp_path):
    """Interrupted after two epochs, started anew from another draw."""

    class Interrupted(Exception):
        pass

    def interrupt(epoch, logs):
        if epoch == 2:
            raise Interrupted

    def callbacks():
        return [
            keras.callbacks.BackupAndRestore(tmp_path / "backup"),
            snip_tf.PruneGradually(schedule=SCHEDULE, every=5),
        ]

    stop = keras.callbacks.LambdaCallback(on_epoch_begin=interrupt)
    with pytest.raises(Interrupted):
        small_model.fit(
            *data, epochs=4, callbacks=[*callbacks(), stop], verbose=0
        )
    twin = keras.models.clone_model(small_model)
    twin.compile("sgd", CROSS_ENTROPY)
    kept = Kept()
    twin.fit(*data, epochs=4, callbacks=[*callbacks(), kept], verbose=0)
    assert kept.of_step == {step: expected(step, 5) for step in range(21, 41)}


def test_layers_have_schedules_of_their_own(small_model, data):
    rates = {
        "hidden": schedules.one_shot(0.75),
        "logits": schedules.one_shot(0.5, 10),
    }
    prune = snip_tf.PruneGradually(schedule=rates, every=10)
    small_model.fit(*data, epochs=2, callbacks=[prune], verbose=0)
    hidden, bias, logits = map(np.sum, snip_tf.get_masks(small_model))
    assert (hidden + bias, logits) == (5, 6)


def test_it_prunes_by_any_score_under_mixed_precision(data):
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [
            keras.Input((4,)),
            snip_tf.layers.Dense(8, "relu", dtype="mixed_float16"),
            snip_tf.layers.Dense(3, dtype="mixed_float16"),
        ]
    )
    model.compile("adam", CROSS_ENTROPY)
    x, y = data
    prune = snip_tf.PruneGradually(
        x[:50], y[:50], schedule=SCHEDULE, criterion="snip", every=1
    )
    kept = Kept()
    model.fit(x, y, epochs=4, callbacks=[prune, kept], verbose=0)
    assert snip_tf.model_sparsity(model) == 0.75


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"schedule": 0.9}, "`schedule` must be a function .*schedule=0.9"),
        ({"schedule": {"a": 0.9}}, "`schedule` must be a function"),
        ({"schedule": SCHEDULE, "every": 0}, "`every` must be .*every=0"),
        ({"schedule": SCHEDULE, "every": 1.5}, "`every` must be .*every=1.5"),
    ],
)
def test_bad_arguments_are_refused_when_they_are_given(arguments, message):
    with pytest.raises(ValueError, match=message):
        snip_tf.PruneGradually(**arguments)


def test_a_layer_that_is_not_there_is_refused(small_model, data):
    rates = {"output": schedules.one_shot(0.5)}
    prune = snip_tf.PruneGradually(schedule=rates)
    message = "of hidden, logits. Received: 'output'"
    with pytest.raises(ValueError, match=message):
        small_model.fit(*data, callbacks=[prune], verbose=0)


def test_by_layer_every_layer_keeps_its_own_best(small_model, small_batch):
    found = snip_tf.sensitivity(small_model, *small_batch)
    masks = snip_tf.prune(small_model, *small_batch, sparsity={"logits": 0.5})
    assert masks[0].all()
    (by_itself,) = snip_tf.keep_top([found[2]], 0.5)
    np.testing.assert_array_equal(masks[2], by_itself)
