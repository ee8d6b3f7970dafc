"""Pictures and tables from recorded lines, which need not be real ones."""

import io

import matplotlib.image
import numpy as np
import pytest

from snip_tf.experiments import (
    figures,
    paper,
    pictures,
    records,
    report,
)

_SIDE = 28


def line_of(name, run, error):
    """Returns a line with all that a report reads."""
    sparsities = run.row.sparsities or (run.settings.sparsity,)
    keys = [f"{sparsity:g}" for sparsity in sparsities]
    periods = run.settings.recipe.steps // run.settings.validate_every
    picture = [run.settings.seed] * _SIDE**2
    result = {
        "weights": 1_000,
        "kept": dict.fromkeys(keys, 900) if run.row.sparsities else 900,
        "kept_per_pixel": dict.fromkeys(keys, picture),
        "mean_image": picture,
        "sparsity_reached": run.settings.sparsity or 0.9,
        "dead_kernels": 0,
        "dead_units": 3,
        "test_error": error,
        # The authors' code keeps five checkpoints, so that 0 is not among them.
        "test_errors": [0.0, *[error] * (periods - 6), error - 1, *[error] * 4],
        "test_error_at_best_validation": error + 1,
        "train_error": error / 2,
        "train_cross_entropies": list(np.linspace(2.3, error / 10, periods)),
        "prune_seconds": 1.0,
        "train_seconds": 59.0,
        "versions": {"tensorflow": "2.21.0", "keras": "3.15.1"},
        "commit": "abc1234",
        "processor": "a processor",
        "cores": 1,
    }
    if run.settings.method not in ("snip", "svd"):
        result["pretraining_seconds"] = 9.0
    return records.line_of(name, run, result)


def lines_of(name, errors, **options):
    """Returns a line for each run: the errors of the rows, seed by seed."""
    runs = paper.EXPERIMENTS[name].runs(**options)
    return [
        line_of(name, run, error)
        for run, error in zip(runs, errors, strict=True)
    ]


def cells_of(text):
    """Returns the first table of a report, as a dict of rows by first cell."""
    rows = [line for line in text.splitlines() if line.startswith("|")]
    cells = [[c.strip() for c in row.strip("|").split("|")] for row in rows]
    header = cells[0]
    end = next((i for i, c in enumerate(cells) if i and c[0] == "method"), None)
    return {c[0]: dict(zip(header, c, strict=True)) for c in cells[2:end]}


def test_a_table_has_mean_deviation_and_distance_to_the_paper():
    only = "lenet_300_100-0.95-seed"
    text = report.text(
        "table_1", lines_of("table_1", (1.9, 2.1, 2.3), only=only, seeds=3)
    )
    cells = cells_of(text)
    # Mean 2.1, deviation 0.2 with n - 1; (2.1 - 1.6) / 0.2 = 2.5.
    assert cells["lenet_300_100-0.95"] == {
        "run": "lenet_300_100-0.95",
        "weights kept": "900",
        "iterations": "60,000",
        "seeds": "3",
        "test error": "2.10 ± 0.20",
        "at best validation": "3.10 ± 0.20",
        "best of the last five on the test set": "1.10 ± 0.20",
        "paper": "1.6",
        "difference": "+0.50 (+2.5 sd)",
    }
    assert "**shortened" not in text
    assert "3 runs of 3:00 min in all, at commit abc1234 on a proc" in text
    assert "cores a run: 1; keras 3.15.1; tensorflow 2.21.0." in text


def test_a_mean_says_of_how_many_seeds_it_is():
    only = "lenet_300_100-0.95-seed"
    *lines, last = lines_of("table_1", (1.9, 2.1, 2.3), only=only, seeds=3)
    del last["test_error"]
    text = report.text("table_1", [*lines, {**last, "error": "diverged"}])
    assert cells_of(text)["lenet_300_100-0.95"]["seeds"] == "2 of 3"
    assert "Failed: lenet_300_100-0.95-seed2 (60,000 ste" in text


def test_what_a_line_does_not_have_is_a_dash():
    """One of before there were test errors; nothing was held out."""
    (line,) = lines_of("table_1", (2.0,), only="100-0-seed0")
    del line["test_errors"]
    line["test_error_at_best_validation"] = None
    cells = cells_of(report.text("table_1", [line]))["lenet_300_100-0"]
    assert cells["test error"] == "2.00"
    assert cells["at best validation"] == "–"
    assert cells["best of the last five on the test set"] == "–"


def test_what_was_not_run_says_so():
    text = report.text(
        "table_1", lines_of("table_1", (2.0,), only="100-0-seed0")
    )
    cells = cells_of(text)["lenet_5_caffe-0.98"]
    assert cells.pop("run") == "lenet_5_caffe-0.98"
    assert cells.pop("paper") == "0.8"  # the paper's, not ours
    assert set(cells.values()) == {"not run"}
    alone = cells_of(text)["lenet_300_100-0"]
    assert (alone["test error"], alone["difference"]) == ("2.00", "+0.30")


def test_other_methods_are_marked_as_quoted():
    text = report.text(
        "table_1", lines_of("table_1", (2.0,), only="100-0-seed0")
    )
    _, quoted = text.split("As the paper quotes other methods:")
    assert "| SWS | Bayesian | 95.6 | 1.9 | 99.5 | 1.0 |" in quoted


def test_schedules_are_rows_of_their_own_and_short_ones_say_so():
    only = "lenet_300_100-0-seed"
    lines = [
        *lines_of("table_1", (1.0, 2.0), only=only, seeds=2),
        *lines_of("table_1", (5.0, 7.0), only=only, seeds=2, steps=120),
    ]
    text = report.text("table_1", lines)
    rows = [row for row in text.splitlines() if "lenet_300_100-0 |" in row]
    assert ["1.50 ± 0.71" in row for row in rows] == [True, False]
    assert ["6.00 ± 1.41" in row for row in rows] == [False, True]
    assert ["120\\*" in row for row in rows] == [False, True]
    assert (
        "**shortened schedule**: 120 of 60,000 iterations on mnist, the "
        "learning rate dropping at 50 and 100" in text
    )


def test_other_data_are_not_set_against_the_paper():
    only = "lenet_5_caffe-0.98-seed"
    lines = lines_of(
        "table_1", (8.0, 9.0), only=only, seeds=2, dataset="mnist_5k"
    )
    cells = cells_of(report.text("table_1", lines))
    cells = cells["lenet_5_caffe-0.98"]
    assert cells["iterations"] == "10,000, mnist_5k"
    assert cells["difference"] == "–"


def test_table_2_pairs_dense_and_sparse_of_one_schedule():
    lines = [
        *lines_of("table_2", (7.0, 9.5), only="vgg_like", steps=300),
        *lines_of("table_2", (6.0,), only="vgg_like-0-"),
    ]
    text = report.text("table_2", lines)
    full, short = (r for r in text.splitlines() if r.startswith("| vgg_like"))
    assert "14.9m → 449k | 300\\* | 1 → 1 | 7.00 → 9.50 | +2.50" in short
    assert "8.26 → 8.00 | -0.26" in short
    assert "| 90,000 | 1 → not run | 6.00 → not run | not run |" in full


def test_table_3_prints_the_papers_deviations():
    lines = lines_of("table_3", (40.0, 50.0), only="gru_s-rn", seeds=2)
    cells = cells_of(report.text("table_3", lines))["gru_s-rn"]
    assert cells["paper"] == "47.61 ± 20.49"
    assert cells["difference"] == "-2.61 (-0.4 sd)"  # (45 - 47.61) / 7.07


def test_figure_4_reports_how_well_labels_are_fitted():
    lines = lines_of("figure_4", (90.0,), only="sparse-random")
    cells = cells_of(report.text("figure_4", lines))["sparse-random"]
    assert cells["training cross-entropy, last period"] == "9.0000"
    assert cells["training error, last period"] == "45.00"


def failed_line_of(name, run):
    surroundings = {"versions": {}, "commit": None, "processor": "", "cores": 1}
    return records.line_of(name, run, {"error": "diverged", **surroundings})


def test_what_failed_is_not_called_not_run():
    only = "lenet_5_caffe-0.98-at-0.1"
    (run,) = paper.EXPERIMENTS["table_1"].runs(only=only, seeds=1)
    cells = cells_of(report.text("table_1", [failed_line_of("table_1", run)]))
    failed = cells["lenet_5_caffe-0.98-at-0.1"]
    assert failed == {
        "run": "lenet_5_caffe-0.98-at-0.1",
        "weights kept": "failed",
        "iterations": "10,000\\*",
        "seeds": "0 of 1",
        "test error": "failed",
        "at best validation": "failed",
        "best of the last five on the test set": "failed",
        "paper": "0.8",
        "difference": "failed",
    }


def test_failures_say_what_they_were_on():
    """Beside a run of the same name on another backend, which did not fail."""
    done = lines_of("table_2", (1.0, 2.0), only="gru_s")
    (run,) = paper.EXPERIMENTS["table_2"].runs(only="gru_s-0.95", backend="jax")
    text = report.text("table_2", [*done, failed_line_of("table_2", run)])
    assert "gru_s-0.95-seed0 (60,000 steps, jax): diverged" in text
    plain, jax = (r for r in text.splitlines() if r.startswith("| gru_s"))
    assert "| 1 → 1 | 1.00 → 2.00 | +1.00 |" in plain
    assert (
        "| 60,000, jax | not run → 0 of 1 | not run → failed | failed |" in jax
    )


@pytest.mark.parametrize("name", paper.EXPERIMENTS)
def test_an_experiment_of_which_all_failed_is_drawn(name):
    line = failed_line_of(name, paper.EXPERIMENTS[name].runs()[0])
    assert figures.picture(name, [line])
    assert "No run is finished." in report.text(name, [line])


def test_failures_and_strays_are_told():
    run = paper.EXPERIMENTS["table_1"].runs()[0]
    failed = records.line_of("table_1", run, {"error": "ValueError: no"})
    stray = {**failed, "row": "lenet_6"}
    text = report.text("table_1", [failed, stray])
    assert "Failed: lenet_300_100-0-seed0 (60,000 steps): ValueErr" in text
    assert "Left out: 1 lines" in text
    assert "No run is finished." in text


@pytest.mark.parametrize("name", paper.EXPERIMENTS)
@pytest.mark.parametrize("what", ["all", "one"])
def test_every_experiment_is_drawn_from_its_lines(name, what):
    runs = paper.EXPERIMENTS[name].runs(seeds=2)[
        :: 1 if what == "all" else 1_000
    ]
    lines = [line_of(name, run, 1.0 + place) for place, run in enumerate(runs)]
    png = figures.picture(name, lines)
    image = matplotlib.image.imread(io.BytesIO(png))
    assert image.ndim == 3
    assert image[..., :3].std() > 0.01  # not an empty page
    assert figures.picture(name, lines[::-1]) == png
    assert report.text(name, lines).startswith(
        f"# {paper.EXPERIMENTS[name].title}"
    )


def test_a_picture_is_the_mask_of_its_line():
    run = paper.EXPERIMENTS["figure_2"].runs(only="^mnist-class3")[0]
    line = line_of("figure_2", run, 0.0)
    line["kept_per_pixel"]["0.9"] = list(range(_SIDE**2))
    group, *others = records.groups("figure_2", [line])[3:]
    image = pictures._picture(group, 0.9)
    assert image[0, 5] == 5  # row by row, as the images are
    assert image[2, 0] == 56
    assert np.isnan(pictures._picture(others[0], 0.9)).all()


def test_a_sheet_has_its_images_in_rows():
    images = [
        [np.full((28, 28), 10.0 * i + j) for j in range(3)] for i in (1, 2)
    ]
    sheet = pictures._sheet(images)
    assert sheet.shape == (58, 88)
    np.testing.assert_array_equal(sheet[30:, 60:], 22)
    assert np.isnan(sheet[28:30]).all()
    # The labels stand at the middle of the images.
    np.testing.assert_array_equal(pictures._centres(3), [13.5, 43.5, 73.5])


def test_a_report_is_written_beside_its_lines(tmp_path, capsys):
    with pytest.raises(FileNotFoundError, match="nothing to draw"):
        report.write(tmp_path, "table_1")
    for line in lines_of("table_1", (2.0,), only="100-0-seed0"):
        records.append(tmp_path / "table_1.jsonl", line)
    report.write(tmp_path, "table_1")
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "comparison.md",
        "table_1.jsonl",
        "table_1.md",
        "table_1.png",
    ]
    assert "table_1.png" in capsys.readouterr().out


def test_the_comparison_counts_in_standard_deviations_of_ours():
    options = {"only": "100-0-seed", "seeds": 2}
    recorded = dict.fromkeys(paper.EXPERIMENTS, ())
    recorded["table_1"] = lines_of("table_1", (2.0, 3.0), **options)
    cells = {
        tuple(row[:2]): row[2:]
        for row in (
            [cell.strip() for cell in text.strip("|").split("|")]
            for text in report.comparison(recorded).splitlines()
            if text.startswith("| table")
        )
    }
    # (2.5 - 1.7) / sqrt(0.5) and (2.5 - 1.45) / sqrt(0.5), by hand
    assert cells["table_1", "lenet_300_100-0"] == [
        "1.7",
        "1.45",
        "2.50 ± 0.71",
        "3.50 ± 0.71",
        "1.50 ± 0.71",
        "60,000",
        "2",
        "+0.80 (+1.1 sd)",
        "+1.05 (+1.5 sd)",
    ]
    assert cells["table_2", "vgg_like-0.97"] == ["8.00", "–", *["not run"] * 7]
    assert len(cells) == 15 + 24 + 16


def test_scores_stand_beside_each_other_with_what_is_dead():
    run = paper.EXPERIMENTS["criteria"].runs(backend="jax")[0]
    text = report.text("criteria", [line_of("criteria", run, 1.5)])
    row = "| lenet_300_100 | snip | 20,000 | 1.50 (0, 3), jax | not run | – |"
    assert row in text
    assert "| vgg_like | snip | 1,000 | – | – | not run | – | – | not" in text
