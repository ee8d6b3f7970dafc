"""What tells one row of an experiment from another does something."""

import dataclasses

import numpy as np
import pytest

import snip_tf
from snip_tf import data as data_module
from snip_tf.experiments import fitting, runner, runs

# What each setting changes of a network that is pruned: masks, the weights
# that all of them have in common, biases.
_CHANGES = {
    "criterion-random": ({"criterion": "random"}, {"masks"}),
    "criterion-magnitude": ({"criterion": "magnitude"}, {"masks"}),
    "criterion-shuffled": ({"criterion": "shuffled"}, {"masks"}),
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
def row():
    """A row of LeNet-300-100 at 95%, on little data, and that data."""
    (run,) = runner.plan(
        "ablations",
        only="100-0.95-seed0",
        dataset="mnist_5k",
        steps=30,
        seeds=1,
    )
    return run.settings, runs.load_data(run.settings)


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
def test_a_setting_changes_what_it_is_to_change_and_no_more(name, row):
    settings, data = row
    options, expected = _CHANGES[name]
    masks, kernels, biases = pruned(settings, data)
    changed = dataclasses.replace(settings, **options)
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


def test_random_labels_are_a_permutation_of_those_trained_on(row, monkeypatch):
    settings, data = row
    trained_on = []

    def stop(examples, **options):
        trained_on.append(examples)
        raise InterruptedError

    monkeypatch.setattr(data_module, "training_batches", stop)
    for random_labels in (False, True, True):
        one = dataclasses.replace(settings, random_labels=random_labels)
        with pytest.raises(InterruptedError):
            fitting._fit(one, None, data, 0, [])
    true, random, again = (examples.train for examples in trained_on)
    np.testing.assert_array_equal(true.labels, data.train.labels)
    np.testing.assert_array_equal(random.labels, again.labels)
    np.testing.assert_array_equal(np.sort(random.labels), np.sort(true.labels))
    assert (random.labels == true.labels).mean() < 0.2  # 10 classes
    np.testing.assert_array_equal(random.images, true.images)
