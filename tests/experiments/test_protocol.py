"""The factorial search: no effect is mixed up with one that is looked for."""

import itertools

import numpy as np
import pytest

from snip_tf.experiments import protocol, runs


@pytest.mark.parametrize(
    ("model", "resolution"), [("lenet_300_100", 5), ("lenet_5_caffe", 4)]
)
def test_the_designs_have_their_resolution(model, resolution):
    factors, _ = protocol.DESIGNS[model]
    chosen = protocol.fraction(model)
    assert len(set(chosen)) == 16
    signs = np.array([[1 if f in c else -1 for f in factors] for c in chosen])
    columns = {
        pair: signs[:, list(pair)].prod(axis=1)
        for size in range(1, resolution)
        for pair in itertools.combinations(range(len(factors)), size)
    }
    for one, other in itertools.combinations(columns, 2):
        # Effects of p and of fewer than R - p factors are told apart.
        if len(one) + len(other) < resolution:
            assert columns[one] @ columns[other] == 0, (one, other)


def test_a_row_differs_from_the_texts_protocol_in_what_its_name_says():
    for row in protocol.SEARCH.rows:
        model, sparsity, *changed, steps = row.name.split("-")
        text = runs.Settings(
            model,
            "mnist",
            row.settings.recipe,
            float(sparsity),
            **{k: v for c in changed for k, v in protocol.FACTORS[c].items()},
        )
        assert row.settings == text
        assert f"{row.settings.recipe.steps / 1_000:g}k" == steps
        assert row.settings.recipe.learning_rate == 0.1
    drops = {row.settings.recipe.drops for row in protocol.SEARCH.rows}
    assert drops == {
        (5_000, 7_500),
        (10_000, 15_000),
        (25_000, 50_000),
        tuple(range(25_000, 150_000, 25_000)),
    }
