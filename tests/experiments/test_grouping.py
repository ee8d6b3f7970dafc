import numpy as np
import pytest

from snip_tf.experiments import grouping, paper, records


def run_of(name, only, **options):
    """Returns the one run of that name."""
    (run,) = paper.EXPERIMENTS[name].runs(only=only, **options)
    return run


def line(name, run, **result):
    return records.line_of(name, run, result)


def test_seeds_are_one_group_and_schedules_never():
    lines = [
        line("table_1", run, test_error=error)
        for steps, errors in ((None, (1.0, 2.0, 4.5)), (1_000, (9.0,)))
        for run, error in zip(
            paper.EXPERIMENTS["table_1"].runs(
                only="lenet_5_caffe-0-seed",
                seeds=len(errors),
                steps=steps,
            ),
            errors,
            strict=True,
        )
    ]
    groups = grouping.groups("table_1", lines[::-1])
    assert len(groups) == len(paper.EXPERIMENTS["table_1"].rows) + 1
    full, short = (g for g in groups if g.lines)
    assert [line["test_error"] for line in full.lines] == [1.0, 2.0, 4.5]
    # (1 + 2 + 4.5) / 3 and sqrt((1.5² + 0.5² + 2²) / 2), by hand
    assert full.mean() == pytest.approx(2.5)
    assert full.std() == pytest.approx(3.25**0.5)
    assert short.run.settings.recipe.steps == 1_000
    assert np.isnan(short.std())


def test_data_and_backends_are_not_mixed_either():
    only = "lstm_s-0-seed0"
    runs = [
        run_of("table_2", only, dataset="mnist_5k"),
        run_of("table_2", only, backend="jax"),
        run_of("table_2", only),
    ]
    lines = [line("table_2", run, test_error=1.0) for run in runs]
    groups = [g for g in grouping.groups("table_2", lines) if g.lines]
    assert [len(group.lines) for group in groups] == [1, 1, 1]
    assert groups[-1].run.settings.dataset == "mnist_5k"  # the row's own first
