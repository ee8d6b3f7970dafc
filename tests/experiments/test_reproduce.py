"""The experiments end to end, on little data for few steps."""

import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import pytest
from conftest import run_forked, run_script

from snip_tf.experiments import (
    campaign,
    checkpoints,
    estimates,
    job,
    paper,
    processes,
    provenance,
    records,
    report,
)

_SCRIPT = pathlib.Path(__file__).parents[2] / "scripts" / "reproduce.py"
_SMALL = {"steps": 30, "dataset": "mnist_5k", "seeds": 1}  # periods of 10
_MEASURED = ("test_error", "train_loss", "train_cross_entropies")


def campaign_of(name, path, planned, **options):
    return campaign.Campaign(
        name,
        planned,
        results=path,
        runs_dir=path / "runs",
        **options,
    )


@pytest.mark.parametrize(
    ("name", "only"),
    [
        ("protocol", "lenet_300_100-0.95-bn-reinit-20k"),
        ("figure_2", "^mnist-class3"),
        ("figure_3", "on-10-"),
        ("table_3", "lstm_s-rn"),
        ("figure_4", "sparse-random"),
    ],
)
def test_each_kind_of_run_is_done_and_drawn(name, only, tmp_path):
    small = dict(_SMALL)
    if name == "figure_2":
        del small["steps"]  # there are none
    (run,) = paper.EXPERIMENTS[name].runs(only=only, **small)
    (tmp_path / "job").mkdir()
    done = job.result_of(job.job_of(run), tmp_path / "job")
    done = json.loads(json.dumps(done))
    path = tmp_path / f"{name}.jsonl"
    records.append(path, records.line_of(name, run, done))
    (group,) = (g for g in records.groups(name, records.read(path)) if g.lines)
    assert group.run == run
    assert str(tmp_path) not in path.read_text()
    report.write(tmp_path, name)
    assert (tmp_path / f"{name}.png").stat().st_size > 10_000
    if not run.row.sparsities:
        sparsity = run.settings.sparsity
        assert done["sparsity_reached"] == pytest.approx(sparsity, abs=1e-4)
        assert len(done["train_cross_entropies"]) == 3
        assert done["best_validation_step"] in (10, 20, 30)
        assert 0 < done["test_error"] < 95
        if not run.settings.random_labels:  # which 30 steps do not teach
            first, *_, last = done["train_cross_entropies"]
            assert last < 0.99 * first
    if run.row.pictures or run.row.sparsities:
        assert {len(p) for p in done["kept_per_pixel"].values()} == {784}
    if name == "figure_2":
        # κ = 266,610 (1 - sparsity), and what a 3 is written with is kept.
        assert done["kept"]["0.9"] == 26_661
        kept = done["kept_per_pixel"]["0.9"]
        assert sum(kept) < 26_661
        assert kept[28 * 14 + 14] > 2 * kept[0]
    if name == "figure_3":
        assert max(done["mean_image"]) <= 255
        assert done["mean_image"][0] == 0  # the corner of every digit is black


_DYING = """
import functools, os, pathlib, sys

import keras

from snip_tf.experiments import checkpoints, job, runs

checkpoints.SECONDS = 0

def save_no_more_then_die(epoch, logs):
    checkpoints.SECONDS = 1e9
    if epoch == 1:
        os._exit(9)

dying = keras.callbacks.LambdaCallback(on_epoch_end=save_no_more_then_die)
runs.run = functools.partial(runs.run, callbacks=[dying])
job.main(pathlib.Path(sys.argv[1]))
"""


def die_in(this, directory, monkeypatch):
    """Does a job in a process that dies: it saves one period, and loses one."""
    with monkeypatch.context() as patched:
        command = [sys.executable, "-c", _DYING]
        patched.setattr(processes, "_COMMAND", command)
        ((_, reply),) = processes.replies([(this, directory)], workers=1)
    assert "its process ended with status 9" in reply["lost"], reply
    assert checkpoints.steps_done(directory / "run") == 10


@pytest.mark.skipif(
    not hasattr(os, "sched_setaffinity"), reason="needs to pin processes"
)
def test_runs_are_exact_wherever_they_died(tmp_path, monkeypatch):
    """A run that died and went on against one whole run, to the bit."""
    one_core = processes.usable_cores()[:1]
    monkeypatch.setattr(processes, "usable_cores", lambda: one_core)
    only = "300_100-0.95-seed"
    (run,) = paper.EXPERIMENTS["table_1"].runs(only=only, **_SMALL)
    these, this = campaign_of("table_1", tmp_path, [run]), job.job_of(run)
    place = tmp_path / "runs/table_1"
    place /= "lenet_300_100-0.95-mnist_5k-30-tensorflow-seed0"
    die_in(this, place, monkeypatch)
    assert "10 steps done" in these.listing()
    with monkeypatch.context() as patched:
        patched.setattr(provenance, "ARITHMETIC", -1)  # by other code
        assert "missing" in these.listing()
    jobs = [(this, place), (this, tmp_path / "whole")]
    replies = dict(processes.replies(jobs, workers=1))
    cut, whole = replies[0], replies[1]
    assert "Going on after 10 steps" in (place / "log.txt").read_text()
    for name in (*_MEASURED, "test_error_at_best_validation", "kept"):
        assert cut[name] == whole[name], name


def test_plan_has_all_runs_of_a_seed_together():
    planned = paper.EXPERIMENTS["table_1"].runs()
    # 15 rows with five seeds, six of them (LeNet-300-100) with 20.
    seeds = sorted(15 * list(range(5)) + 6 * list(range(5, 20)))
    assert [run.settings.seed for run in planned] == seeds
    assert len(paper.EXPERIMENTS["table_1"].runs(seeds=1)) == 15
    assert planned[0].name == "lenet_300_100-0-seed0"


def test_plan_puts_other_data_in_the_place_of_mnist_only():
    planned = paper.EXPERIMENTS["table_2"].runs(dataset="mnist_5k")
    data = {run.settings.model: run.settings.dataset for run in planned}
    assert data["lstm_s"] == "mnist_5k"
    assert data["vgg_c"] == "cifar10"


@pytest.mark.parametrize(
    ("only", "message"),
    [
        ("nothing", "such as lenet_300_100-0-seed0. Received: nothing"),
        ("(", "must be a regular expression .* Received: \\("),
    ],
)
def test_plan_refuses_what_names_no_run(only, message):
    with pytest.raises(ValueError, match=message):
        paper.EXPERIMENTS["table_1"].runs(only=only)


def test_steps_need_to_fit_only_the_runs_that_are_chosen():
    planned = paper.EXPERIMENTS["rivals"].runs(only="snip-95", steps=5)
    assert {run.settings.recipe.steps for run in planned} == {5}
    with pytest.raises(ValueError, match="`pretraining` must be a part"):
        paper.EXPERIMENTS["rivals"].runs(steps=5)


def test_only_what_is_missing_is_done(tmp_path):
    planned = paper.EXPERIMENTS["table_1"].runs(only="300_100", seeds=1)
    these = campaign_of("table_1", tmp_path, planned)
    done = records.line_of("table_1", planned[0], {"test_error": 1.0})
    failed = records.line_of("table_1", planned[1], {"error": "ValueError: no"})
    for line in (done, failed):
        records.append(these.path, line)
    assert these.missing() == planned[2:]


def test_what_another_experiment_has_made_is_taken_over(tmp_path):
    """A dense LeNet-5-Caffe is a run of Figure 1 and of Table 1."""
    (made,) = paper.EXPERIMENTS["figure_1"].runs(only="lenet_5_caffe-0-seed0")
    lines = [
        records.line_of("figure_1", made, {"test_error": 1.0, "kept": 431_080}),
    ]
    planned = paper.EXPERIMENTS["table_1"].runs(
        only="lenet_5_caffe-0-seed", seeds=1
    )
    (line,) = lines
    records.append(tmp_path / "figure_1.jsonl", line)
    these = campaign_of("table_1", tmp_path, planned)
    assert these.missing() == []
    assert not these.path.exists()  # to look changes nothing
    for _ in range(2):
        assert these.execute() == 0
        (line,) = records.read(these.path)
    assert line["taken_from"] == "figure_1"
    assert records.by_run("table_1", [line]) == {planned[0]: line}


def test_what_lacks_its_pictures_is_not_taken_over(tmp_path):
    (made,) = paper.EXPERIMENTS["figure_1"].runs(only="lenet_300_100-0.9-seed0")
    line = records.line_of("figure_1", made, {"test_error": 1.0})
    (run,) = paper.EXPERIMENTS["figure_3"].runs(only="on-100-", seeds=1)
    assert run.settings == made.settings
    these = campaign_of("figure_3", tmp_path, [run])
    records.append(tmp_path / "figure_1.jsonl", line)
    assert these.missing()
    records.append(tmp_path / "figure_1.jsonl", {**line, "mean_image": []})
    assert not these.missing()


def test_the_listing_tells_states_schedules_and_time(tmp_path, monkeypatch):
    planned = paper.EXPERIMENTS["table_1"].runs(
        only="300_100-[0-9.]+-seed", seeds=1, steps=1_000
    )
    these = campaign_of("table_1", tmp_path, planned, workers=2)
    result = {"test_error": 1.0, "train_seconds": 100.0}  # 0.1 a step
    line = records.line_of("table_1", planned[0], result)
    records.append(these.path, line)
    monkeypatch.setattr(
        campaign.Campaign,
        "_steps_done",
        lambda self, run: 250 if run == planned[1] else 0,
    )
    _, dense, half, new, total = these.listing().splitlines()
    assert "done" in dense
    # 12 fixed seconds and 0.1 for each of the 750 and 1,000 steps left.
    assert re.search("250 steps done .*1,000 of 60,000 steps +1:27 min", half)
    assert re.search("missing .* 1:52 min", new)
    assert total == "2 of 3 runs to do, about 1:40 min with 2 workers"


def test_an_experiment_is_run_by_one_process_at_a_time(tmp_path):
    fcntl = pytest.importorskip("fcntl")
    planned = paper.EXPERIMENTS["table_1"].runs(**_SMALL)
    these = campaign_of("table_1", tmp_path, planned)
    directory = tmp_path / "runs" / "table_1"
    directory.mkdir(parents=True)
    descriptor = os.open(directory, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    with pytest.raises(BlockingIOError, match="side by side.*/table_1, in use"):
        these.execute()
    os.close(descriptor)
    assert not these.path.exists()


def test_time_is_estimated_from_recorded_runs_first():
    (run,) = paper.EXPERIMENTS["table_1"].runs(only="300_100-0-seed0")
    line = records.line_of("table_1", run, {})
    lines = [{**line, "train_seconds": s} for s in (60, 120, 600, 1)]
    fixed = estimates.FIXED_SECONDS
    assert estimates.run_seconds(run, lines) == fixed + 120
    assert estimates.run_seconds(run, lines, done=59_500) == fixed + 1
    table = estimates.STEP_SECONDS["lenet_300_100"]
    assert estimates.run_seconds(run, []) == fixed + 60_000 * table


def test_every_network_has_an_estimate():
    for name in paper.EXPERIMENTS:
        for backend in ("tensorflow", "jax"):
            for run in paper.EXPERIMENTS[name].runs(seeds=1, backend=backend):
                assert estimates.run_seconds(run, []) > 0


def test_the_clock():
    assert estimates.clock(69.6) == "1:10 min"
    assert estimates.clock(3_600 * 27 + 60 * 5) == "27:05 h"


def children_of(pid):
    """Returns the processes that a process started."""
    text = pathlib.Path(f"/proc/{pid}/task").iterdir()
    return [
        int(child)
        for task in text
        for child in (task / "children").read_text().split()
    ]


def wait_for(condition, *, seconds=180):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.05)


def is_gone(pid):
    """Returns whether a process has ended, whoever waits for it."""
    try:
        status = pathlib.Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return True
    return status.rpartition(")")[2].split()[0] == "Z"


@pytest.mark.slow
@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="needs /proc")
def test_a_killed_runner_leaves_whole_lines_and_the_next_one_ends(tmp_path):
    """Three runs of which the last fails: there are not 10,000 images."""
    flags = (
        "--experiment=figure_3",
        "--dataset=mnist_5k",
        "--steps=30",
        "--seeds=1",
        "--only=scored-on-(1|10|10000)-",
        "--workers=1",
        "--results_dir=results",
    )
    path = tmp_path / "results" / "figure_3.jsonl"
    process = subprocess.Popen(
        [sys.executable, _SCRIPT, *flags],
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    wait_for(lambda: path.exists() and path.read_bytes().endswith(b"\n"))
    workers = children_of(process.pid)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert workers
    wait_for(lambda: all(is_gone(pid) for pid in workers))
    before = path.read_bytes()
    assert records.read(path)

    status, output = run_script("reproduce.py", *flags, cwd=tmp_path)
    assert status == 1, output
    assert path.read_bytes().startswith(before)
    lines = {line["row"]: line for line in records.read(path)}
    assert len(records.read(path)) == len(lines) == 3
    assert lines["scored-on-1"]["test_error"] < 95
    assert lines["scored-on-10"]["cores"] == len(processes.usable_cores())
    assert lines["scored-on-10000"]["error"] == (
        "ValueError: `size` must be at most 3600, the number of training "
        "images of that `label`. Received: size=10000, label=None"
    )
    assert "1 of 3 runs failed." in output
    assert re.search("scored-on-10000-seed0 .*: failed: ValueErr", output)
    assert "shortened: 30 of 3,000 steps" in output
    assert path.with_suffix(".png").exists()
    written = path.with_suffix(".md").read_text()
    schedule = "shortened: 30 of 3,000 steps, mnist_5k"
    assert f"Failed: scored-on-10000-seed0 ({schedule})" in written
    assert {entry.name for entry in tmp_path.iterdir()} == {"results", "runs"}
    (left,) = (tmp_path / "runs" / "figure_3").glob("scored-on-10000-*")
    assert "Traceback" in (left / "log.txt").read_text()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "--experiment must be given, or --draw_only"),
        (
            ["--experiment=figure_2", "--steps=10"],
            "figure_2 trains nothing.*which contradicts --steps",
        ),
        (
            ["--experiment=figure_1", "--draw_only", "--seeds=2"],
            "--draw_only runs nothing, which contradicts --seeds",
        ),
        (["--experiment=figure_1", "--seeds=0"], "seeds=0: .*positive integer"),
        (
            ["--experiment=figure_1", "--executor=slurm"],
            "value should be one of <local.ray>",
        ),
        (
            ["--experiment=figure_1", "--executor=ray", "--workers=2"],
            "workers of its own, which contradicts --workers",
        ),
        (
            ["--experiment=table_1", "--runs_dir=a", "--results_dir=a/table_1"],
            "--results_dir must be another directory than a/table_1, where",
        ),
        (
            ["--experiment=figure_1", "--data_dir=nowhere"],
            "existing directory. Received: 'nowhere'",
        ),
    ],
)
def test_bad_flags_end_with_one_clear_line(flags, message, tmp_path):
    status, output = run_forked("reproduce.py", *flags, cwd=tmp_path)
    assert status == 1, output
    assert re.search(message, output), output
    assert "Traceback" not in output
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_run_under_jax_goes_on_exactly_where_it_died(tmp_path, monkeypatch):
    flags = (
        "--experiment=table_2",
        "--dataset=mnist_5k",
        "--steps=30",
        "--only=lstm_s-0.95",
        "--results_dir=.",
    )
    (run,) = paper.EXPERIMENTS["table_2"].runs(
        only="lstm_s-0.95", backend="jax", **_SMALL
    )
    directory = tmp_path / "runs/table_2/lstm_s-0.95-mnist_5k-30-jax-seed0"
    die_in(job.job_of(run), directory, monkeypatch)

    def reproduce(*more):
        status, output = run_script("reproduce.py", *flags, *more, cwd=tmp_path)
        assert status == 0, output
        return output

    assert " 10 steps done " in reproduce("--backend=jax", "--dry_run")
    reproduce("--backend=jax")
    assert not directory.exists()
    reproduce("--backend=jax", "--results_dir=whole")
    reproduce()
    (whole,) = records.read(tmp_path / "whole" / "table_2.jsonl")
    jax, tensorflow = records.read(tmp_path / "table_2.jsonl")
    assert jax["backend"] == "jax"
    assert "jax" in jax["versions"]
    for name in _MEASURED:
        assert jax[name] == whole[name], name
    assert jax["kept"] == tensorflow["kept"] == 6_849
    # From another draw: the backends' generators differ.
    assert jax["train_cross_entropies"] == pytest.approx(
        tensorflow["train_cross_entropies"], rel=0.1
    )
    assert "mnist_5k, jax" in (tmp_path / "table_2.md").read_text()
