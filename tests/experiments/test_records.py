import dataclasses
import json
import pathlib

import numpy as np
import pytest
from conftest import FORKS

from snip_tf.experiments import paper, records

_LATER = ("batch_norm", "conv_activation", "prune_last_layer")
_LATER += ("prune_biases", "validation_fraction")


def run_of(name, only, **options):
    """Returns the one run of that name."""
    (run,) = paper.EXPERIMENTS[name].runs(only=only, **options)
    return run


def line(name, run, **result):
    return records.line_of(name, run, result)


@pytest.mark.parametrize("name", paper.EXPERIMENTS)
def test_every_recorded_line_is_a_run_of_its_experiment(name):
    """Whatever a field or a row was called when it was written."""
    results = pathlib.Path(__file__).parents[2] / "results"
    for recorded in records.read(results / f"{name}.jsonl"):
        found = records.run_of(name, recorded)
        assert found, recorded["row"]
        assert found.is_shortened == recorded["shortened"]
        assert recorded["experiment"] == name


def test_the_settings_come_back_from_a_line():
    run = run_of("figure_4", "dense-random-seed")
    written = json.loads(json.dumps(line("figure_4", run)))
    assert records.settings_of(written) == run.settings
    # A line from before there were these has the defaults.
    for name in ("random_labels", *_LATER):
        del written[name]
    defaults = dataclasses.replace(run.settings, random_labels=False)
    assert records.settings_of(written) == defaults


def test_lines_are_appended(tmp_path):
    path = tmp_path / "new" / "lines.jsonl"
    assert records.read(path) == []
    records.append(path, {"a": 1})
    records.append(path, {"b": "ä\n"})
    assert records.read(path) == [{"a": 1}, {"b": "ä\n"}]
    assert path.read_bytes().count(b"\n") == 2
    path.write_text('\n{"a": 1}')  # as an editor may leave it
    records.append(path, {"b": 2})
    assert records.read(path) == [{"a": 1}, {"b": 2}]
    path.write_text('{"a": 1}\n{"b":')
    with pytest.raises(
        ValueError, match="lines.jsonl must .*: line 2, '{\"b\":'"
    ):
        records.read(path)


def test_a_run_is_known_by_its_settings_not_its_place():
    runs = paper.EXPERIMENTS["table_1"].runs(seeds=2)
    lines = [line("table_1", run, test_error=1.0) for run in reversed(runs)]
    found = records.by_run("table_1", lines)
    assert set(found) == set(runs)
    other = run_of("table_1", "^lenet_5_caffe-0-seed0", steps=1_000)
    assert other not in found


def test_a_result_outdoes_a_failure():
    run = run_of("table_1", "lenet_5_caffe-0-seed0")
    failed = line("table_1", run, error="ValueError: no")
    again = line("table_1", run, error="ValueError: never")
    (latest,) = records.by_run("table_1", [failed, again]).values()
    assert latest == again
    done = line("table_1", run, test_error=1.0)
    for lines in ([failed, done], [done, failed]):
        (latest,) = records.by_run("table_1", lines).values()
        assert latest == done


def test_a_line_that_no_row_makes_is_a_stray():
    run = run_of("table_1", "lenet_5_caffe-0-seed0")
    changed = dataclasses.replace(run.settings, score_batch_size=7)
    stray = line("table_1", dataclasses.replace(run, settings=changed))
    gone = {**line("table_1", run), "row": "lenet_6"}
    uneven = dataclasses.replace(run.settings.recipe, steps=9_999)
    changed = dataclasses.replace(
        run.settings, recipe=uneven, validate_every=9_999
    )
    odd = line("table_1", dataclasses.replace(run, settings=changed))
    strays = [stray, gone, odd]
    assert [records.run_of("table_1", line) for line in strays] == 3 * [None]
    assert records.by_run("table_1", [stray, gone]) == {}


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
    groups = records.groups("table_1", lines[::-1])
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
    groups = [g for g in records.groups("table_2", lines) if g.lines]
    assert [len(group.lines) for group in groups] == [1, 1, 1]
    assert groups[-1].run.settings.dataset == "mnist_5k"  # the row's own first


def test_processes_that_append_at_a_time_lose_no_line(tmp_path):
    path = tmp_path / "lines.jsonl"
    writers = [FORKS.Process(target=_append, args=(path, n)) for n in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert len(records.read(path)) == 4 * 10


def _append(path, number):
    for line in range(10):
        records.append(path, {"line": line, "of": number})
