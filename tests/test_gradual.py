import keras
import numpy as np
import pytest
from conftest import CROSS_ENTROPY

import snip_tf
from snip_tf import schedules

SCHEDULE = schedules.cubic(0.0, 0.75, 10, 30)


@pytest.fixture
def data():
    """320 examples for `small_model`: ten steps an epoch."""
    generator = np.random.default_rng(0)
    x = generator.normal(size=(320, 4)).astype(np.float32)
    return x, generator.integers(0, 3, 320)


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
    optimizer, small_model, data, kept_by_step
):
    optimizer = type(optimizer).from_config(optimizer.get_config())
    small_model.compile(optimizer, CROSS_ENTROPY)
    prune = snip_tf.PruneGradually(schedule=SCHEDULE, every=4, min_kept=1)
    history = small_model.fit(
        *data, epochs=4, callbacks=[prune, kept_by_step], verbose=0
    )
    assert kept_by_step.of_step == {
        step: expected(step, 4) for step in range(1, 41)
    }
    assert history.history["sparsity"][-1] == 0.75


def test_blocks_of_steps_prune_at_the_next_one(small_model, data, kept_by_step):
    small_model.compile("sgd", CROSS_ENTROPY, steps_per_execution=5)
    prune = snip_tf.PruneGradually(schedule=schedules.one_shot(0.5, 7), every=1)
    small_model.fit(*data, epochs=2, callbacks=[prune, kept_by_step], verbose=0)
    assert kept_by_step.of_step == {5: 32, 10: 32, 15: 16, 20: 16}


def test_the_end_of_fit_has_what_the_schedule_asks_for(small_model, data):
    """Also where it is between two looks; that none came is told."""
    prune = snip_tf.PruneGradually(schedule=schedules.one_shot(0.5, 15))
    with pytest.warns(UserWarning, match="Received: every=100, steps=20"):
        small_model.fit(*data, epochs=2, callbacks=[prune], verbose=0)
    assert snip_tf.model_sparsity(small_model) == 0.5


def test_a_restored_run_goes_on_in_the_schedule(
    small_model, data, tmp_path, kept_by_step
):
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
    twin.fit(*data, epochs=4, callbacks=[*callbacks(), kept_by_step], verbose=0)
    assert kept_by_step.of_step == {
        step: expected(step, 5) for step in range(21, 41)
    }


def test_layers_have_schedules_of_their_own(small_model, data):
    rates = {
        "hidden": schedules.one_shot(0.75),
        "logits": schedules.one_shot(0.5, 10),
    }
    prune = snip_tf.PruneGradually(schedule=rates, every=10)
    small_model.fit(*data, epochs=2, callbacks=[prune], verbose=0)
    hidden, bias, logits = map(np.sum, snip_tf.get_masks(small_model))
    assert (hidden + bias, logits) == (5, 6)


def test_it_prunes_by_any_score_under_mixed_precision(data, kept_by_step):
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
    model.fit(x, y, epochs=4, callbacks=[prune, kept_by_step], verbose=0)
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


def resnet_20():
    """Returns the network of He et al. 2016 for CIFAR-10, of stock layers."""
    layers = keras.layers

    def conv(x, filters, strides=1, activation="relu"):
        x = layers.Conv2D(filters, 3, strides, "same", use_bias=False)(x)
        x = layers.BatchNormalization()(x)
        return layers.Activation(activation)(x)

    images = keras.Input((32, 32, 3))
    x = conv(images, 16)
    for filters, strides in ((16, 1), (32, 2), (64, 2)):
        for block in range(3):
            first = strides if block == 0 else 1
            inner = conv(conv(x, filters, first), filters, activation=None)
            if first > 1:  # the shortcut skips pixels and adds empty channels
                x = layers.AveragePooling2D(1, first)(x)
                x = layers.Concatenate()([x, keras.ops.zeros_like(x)])
            x = layers.ReLU()(layers.add([x, inner]))
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(images, layers.Dense(10)(x))


@pytest.mark.slow
def test_resnet_20_is_pruned_to_90_percent_on_cifar_10(kept_by_step):
    try:
        data = snip_tf.data.load("cifar10")
    except OSError as error:
        pytest.skip(f"CIFAR-10 is not there: {error}")
    images, labels = snip_tf.data.scoring_batch(data, size=3200, seed=0)
    model = snip_tf.masked(resnet_20())
    optimizer = keras.optimizers.SGD(0.1, momentum=0.9)
    model.compile(optimizer, CROSS_ENTROPY, metrics=["accuracy"])
    schedule = schedules.cubic(0.0, 0.9, 20, 80)
    prune = snip_tf.PruneGradually(schedule=schedule, every=10)
    history = model.fit(
        images, labels, epochs=1, callbacks=[prune, kept_by_step], verbose=0
    )
    weights = sum(mask.size for mask in snip_tf.get_masks(model))
    assert (
        weights == 9 * (48 + 6 * 256 + 512 + 5 * 1024 + 2048 + 5 * 4096) + 640
    )
    assert kept_by_step.of_step == {
        step: snip_tf.kept_weights(weights, schedule((step - 1) // 10 * 10))
        for step in range(1, 101)
    }
    assert history.history["accuracy"][-1] > 0.15


def test_a_layer_is_named_with_all_that_is_inside():
    model = keras.Sequential(
        [
            keras.Input((5, 3)),
            snip_tf.layers.LSTM(4, return_sequences=True, name="one"),
            keras.layers.Bidirectional(snip_tf.layers.LSTM(4), name="both"),
            snip_tf.layers.Dense(2, name="logits"),
        ]
    )
    sparsities = {"one": 0.5, "both": 0.9}
    masks = snip_tf.prune(
        model, None, sparsity=sparsities, criterion="magnitude"
    )
    left = [sum(map(np.sum, m)) for m in (masks[:2], masks[2:6], masks[6:])]
    assert left == [0.5 * 112, 26, 16]  # 26 of 256: halves are kept
    for name in ("lstm_cell", "both_and_more"):
        sparsities = {"both": 0.9, name: 0.5}
        message = f"none inside of another: of one, both, .*'{name}'"
        with pytest.raises(ValueError, match=message):
            snip_tf.prune(
                model, None, sparsity=sparsities, criterion="magnitude"
            )
    sparsities = {"both": 0.9, "forward_lstm": 0.5}
    with pytest.raises(ValueError, match="Received: 'forward_lstm'"):
        snip_tf.prune(model, None, sparsity=sparsities, criterion="magnitude")
