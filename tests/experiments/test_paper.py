import dataclasses
import re

import pytest

import snip_tf
from snip_tf.experiments import paper, runs

_ALL = paper.EXPERIMENTS
# Table 2's last column, which we print from the errors of our rows.
_DELTAS = {
    "alexnet_s": "+0.87",
    "alexnet_b": "+0.58",
    "vgg_c": "+0.45",
    "vgg_d": "+0.33",
    "vgg_like": "-0.26",
    "wrn_16_8": "+0.42",
    "wrn_16_10": "+0.52",
    "wrn_22_8": "-0.29",
    "lstm_s": "-0.31",
    "lstm_b": "+0.20",
    "gru_s": "+0.54",
    "gru_b": "-0.19",
}


def names_of(name):
    return [row.name for row in _ALL[name].rows]


@pytest.mark.parametrize("name", _ALL)
def test_names_of_rows_are_unique(name):
    assert len(set(names_of(name))) == len(names_of(name))


def test_rows_as_the_paper_has_them():
    counts = {name: len(experiment.rows) for name, experiment in _ALL.items()}
    assert counts == {
        "figure_1": 2 * 2 * 10,
        "table_1": 3 * 5,
        "ablations": 3 + 11,
        "protocol": 36 + 8 + 9 + 34 + 8 + 2 + 3,
        # Quoted, SNIP at those sparsities and its own, the others at SNIP's,
        # with published schedules.
        "rivals": (7 + 8 + 4 + 3) + (7 + 7 + 2 + 2),
        "criteria": 2 * 5 * 9 + 2 * 9,
        "table_2": 12 * 2,
        "recurrent": 7 * 2,
        "figure_2": 2 * 10,
        "figure_3": 6,
        "table_3": 4 * 4,
        "figure_4": 5,
        "controls": 5 * 5,
    }


def test_the_errors_of_table_2_give_its_printed_differences():
    dense = {r.settings.model: r for r in _ALL["table_2"].rows[::2]}
    sparse = {r.settings.model: r for r in _ALL["table_2"].rows[1::2]}
    assert {
        model: f"{sparse[model].paper_error - dense[model].paper_error:+.2f}"
        for model in dense
    } == _DELTAS
    for model, row in sparse.items():
        assert row.settings.sparsity == runs.SPARSITIES[model]
        assert dense[model].settings.sparsity == 0


@pytest.mark.parametrize("model", _DELTAS)
def test_the_networks_have_the_weights_that_table_2_prints(model):
    rows = [r for r in _ALL["table_2"].rows if r.settings.model == model]
    weights = snip_tf.summary(snip_tf.models.build(model)).weights
    for row in rows:
        kept = snip_tf.kept_weights(weights, row.settings.sparsity)
        number, unit = re.fullmatch("([0-9.]+)([km])", row.parameters).groups()
        unit = {"k": 1_000, "m": 1_000_000}[unit]
        digits = len(number.partition(".")[2])
        # The paper rounds, or cuts off: 14,982,474 is its 14.9m.
        last = unit / 10**digits
        if row.name == "wrn_16_8-0":
            assert row.parameters == "10.0m"  # a slip: 548k are 5% of 10.96m
        else:
            assert abs(kept - float(number) * unit) < last, row.name


def test_table_1_prunes_as_far_as_the_paper():
    rows = _ALL["table_1"].rows
    assert [(r.settings.sparsity, r.paper_error) for r in rows] == [
        (0.0, 1.7),
        (0.95, 1.6),
        (0.98, 2.4),
        (0.0, 0.9),
        (0.98, 0.8),
        (0.99, 1.1),
        (0.0, 0.9),
        (0.98, 0.8),
        (0.99, 1.1),
        *[(0.0, 1.7), (0.95, 1.6), (0.98, 2.4)],  # with the preset
        *[(0.0, 0.9), (0.98, 0.8), (0.99, 1.1)],
    ]
    assert rows[0].settings.recipe.steps >= 25_000  # beyond the first drop


def test_each_ablation_changes_what_it_says_and_no_more():
    rows = {row.name: row.settings for row in _ALL["ablations"].rows}
    unchanged = dataclasses.asdict(rows.pop("lenet_300_100-0.95"))
    changed = {}
    for name, settings in rows.items():
        values = dataclasses.asdict(settings)
        recipe = unchanged["recipe"]
        changed[name.removeprefix("lenet_300_100-")] = {
            key for key in values if values[key] != unchanged[key]
        } - {"recipe"} | {
            key for key in recipe if values["recipe"][key] != recipe[key]
        }
    assert changed == {
        "0": {"sparsity"},
        "0.98": {"sparsity"},
        "0.95-reinit": {"reinit"},
        "0.95-random-biases": {"bias_initializer"},
        "0.95-vs_x": {"kernel_initializer"},
        "0.95-vs_h": {"kernel_initializer"},
        "0.95-scored-on-10000": {"score_batch_size"},
        "0.95-no-l2": {"l2"},
        "0.95-twice-l2": {"l2"},
        "0.95-at-0.03": {"learning_rate"},
        "0.95-at-0.3": {"learning_rate"},
        "0.95-60k": {"steps", "drops"},
        "0.95-60k-random-biases": {"steps", "drops", "bias_initializer"},
    }


def test_table_3_trains_with_adam_from_glorot_without_l2():
    rows = _ALL["table_3"].rows
    for row in rows:
        recipe = row.settings.recipe
        assert (recipe.optimizer, recipe.learning_rate) == ("adam", 1e-3)
        assert (recipe.l2, recipe.drops) == (0, ())
        assert row.settings.train_initializer == "vs_x"
        assert row.settings.sparsity == 0.9
    # "For all models, VS-H achieves the best performance."
    for start in range(0, len(rows), 4):
        four = rows[start : start + 4]
        best = min(four, key=lambda row: row.paper_error)
        assert min(row.paper_error for row in four) == four[3].paper_error, (
            best.name
        )


def test_figure_4_scores_true_labels_and_has_l2_in_one_curve():
    rows = {row.name: row.settings for row in _ALL["figure_4"].rows}
    assert [name for name, s in rows.items() if s.recipe.l2] == [
        "dense-random-l2"
    ]
    assert {name for name, s in rows.items() if s.random_labels} == {
        "dense-random",
        "dense-random-l2",
        "sparse-random",
    }
    assert {s.sparsity for s in rows.values()} == {0.0, 0.99}


def test_another_schedule_keeps_its_proportions():
    row = _ALL["figure_1"].rows[0]
    assert row.settings.recipe.drops == (4_167, 8_333)
    short = row.at(seed=3, steps=120, dataset="mnist_5k")
    assert (short.seed, short.dataset) == (3, "mnist_5k")
    assert (short.recipe.steps, short.recipe.drops) == (120, (50, 100))
    assert short.validate_every == 40  # what divides 120 and 1,000
    assert row.at() == row.settings


def test_steps_that_leave_no_room_between_validations_are_refused():
    with pytest.raises(ValueError, match="at least 100 with 1000.*: 9999"):
        _ALL["figure_1"].runs(steps=9_999)
