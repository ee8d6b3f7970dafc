"""What the search tells, of errors that are made up."""

import numpy as np
import pytest

from snip_tf.experiments import effects, protocol, records

_TRUE = {"bn": -0.5, "all": -0.1, "lastdense": -0.2, "reinit": 0.3}


def groups_of(error_of, only=""):
    """Returns the groups of the search, the errors a function of settings."""
    lines = [
        records.line_of("protocol", run, {"test_error": error})
        for run in protocol.SEARCH.runs(only=only)
        for error in [error_of(run.settings)]
        if error is not None
    ]
    return records.groups("protocol", lines)


def error_of(settings):
    factors = protocol.changed(settings)
    error = 3 + sum(_TRUE.get(factor, 0) for factor in factors)
    # An interaction, which is no main effect.
    return error + 0.4 * ({"bn", "biasesdense"} <= factors)


@pytest.mark.parametrize("model", protocol.DESIGNS)
def test_main_effects_are_differences_of_means(model):
    sparsity = protocol.TABLE_1[model][1][0]
    found = effects.main_effects(groups_of(error_of), model, sparsity)
    factors, _ = protocol.DESIGNS[model]
    assert list(found) == list(factors)
    for factor, (effect, deviation) in found.items():
        # Half of those with one factor have the other one too.
        shared = 0.2 if factor in ("bn", "biasesdense") else 0.0
        assert effect == pytest.approx(_TRUE.get(factor, 0) + shared)
        # What is left is 0.1 above or below in each of the 16 runs, and an
        # effect is the difference of two means of eight.
        residual = 0.1 * np.sqrt(16 / (16 - len(factors) - 1))
        assert deviation == pytest.approx(residual * np.sqrt(2 / 8))


def test_a_run_that_failed_biases_no_other_effect():
    lost = frozenset(("bn", "all"))

    def error(settings):
        factors = protocol.changed(settings)
        additive = 3 + sum(_TRUE.get(factor, 0) for factor in factors)
        return None if factors == lost else additive

    found = effects.main_effects(groups_of(error), "lenet_300_100", 0.95)
    for factor, (effect, deviation) in found.items():
        assert effect == pytest.approx(_TRUE.get(factor, 0))
        assert deviation == pytest.approx(0, abs=1e-9)


def test_of_too_few_runs_there_are_no_effects():
    groups = groups_of(error_of, only="300_100-0.95-bn-all")
    assert effects.main_effects(groups, "lenet_300_100", 0.95) == {}
    assert "Too little was run to tell." in effects.text([])


def test_the_nearest_protocol_is_that_of_all_six_numbers():
    paper = {
        (model, sparsity): float(error)
        for model, numbers in protocol.TABLE_1.items()
        for sparsity, error, _ in numbers
    }
    off = {"bn": 0.0, "all": 0.1, "relu": 0.3}

    def error(settings):
        by = sum(off.get(f, 9) for f in protocol.changed(settings))
        return paper[settings.model, settings.sparsity] - by

    groups = groups_of(error, only="-(bn|bn-all|bn-relu)-[26]0k")
    both = effects.of_both(groups)
    assert [each.name for each in both] == [
        "bn, 60,000 and 20,000",
        "bn-all, 20,000 and 20,000",
        "bn-all, 20,000 and 60,000",
        "bn-all, 60,000 and 20,000",
        "bn-all, 60,000 and 60,000",
        "bn-relu, 60,000 and 20,000",  # three of six are off by 0.3
    ]
    distances = [each.distance for each in both]
    np.testing.assert_allclose(distances, [0, *[0.1] * 4, 0.15], atol=1e-9)
    text = effects.text(groups)
    nearest = "0.000 points off on average: bn, 60,000 and 20,000 iterations."
    assert f"with all six numbers, these come nearest, {nearest}" in text
    assert "No run comes" not in text


def test_what_no_run_gives_is_told():
    groups = groups_of(lambda s: 1.3, only="300_100-0(.95)?-bn-60k")
    text = effects.text(groups)
    assert "lenet_300_100 at 0 (1.7; the nearest, lenet_300_100-0-bn" in text
    assert "lenet_300_100 at 0.95 (1.6; the nearest" in text
    assert "lenet_5_caffe at" not in text
