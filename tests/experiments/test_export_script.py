"""scripts/export.py as a person runs it: files, tables, refusals."""

import json
import os
import re

import keras
import numpy as np
import pytest
from conftest import run_forked, run_script

import snip_tf
from snip_tf import exporting
from snip_tf.experiments import run_directory, runs

_QUICK = ("--rounds=1", "--test_images=200")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A directory with a pruned network, in a run directory and in a file."""
    place = tmp_path_factory.mktemp("export")
    keras.utils.set_random_seed(0)
    model = snip_tf.models.build("lenet_300_100")
    generator = np.random.default_rng(0)
    masks = [
        generator.random(mask.shape) < 0.05 for mask in snip_tf.get_masks(model)
    ]
    masks[1][:30] = 0  # dead units
    snip_tf.set_masks(model, masks)
    settings = {"dataset": "mnist_5k", "seed": 3}
    with run_directory.opened(place / "run", {}, settings) as directory:
        run_directory.save_model(model, directory / "model.keras")
    model.save(place / "model.keras")
    return place


@pytest.fixture(scope="module")
def exported(place):
    """The directory of exports in all formats, and what was printed."""
    status, output = run_script(
        "export.py",
        "--run_dir=run",
        f"--format={','.join(exporting.FORMATS)}",
        "--export_dir=all",
        *_QUICK,
        cwd=place,
    )
    assert status == 0, output
    return place / "all", output


def exports_in(directory):
    """Makes and returns a directory like that of earlier exports."""
    (directory / "keras").mkdir(parents=True, exist_ok=True)
    (directory / "keras" / "model.keras").touch()
    (directory / "export.json").write_text("{}")
    return directory


def networks_of(directory):
    """Returns the measured networks by (format, network)."""
    report = json.loads((directory / "export.json").read_text())
    return {(row["format"], row["network"]): row for row in report["networks"]}


def test_every_format_has_a_directory(exported):
    directory, _ = exported
    assert sorted(os.listdir(directory)) == sorted(
        [*exporting.FORMATS, "export.json"]
    )
    assert (directory / "litert" / "model.tflite").is_file()
    assert (directory / "keras" / "model.keras").is_file()


def test_every_engine_has_the_dense_network_beside_the_pruned(exported):
    found = networks_of(exported[0])
    assert set(found) == {
        ("keras", "dense"),
        ("keras", "masked"),
        ("keras", "pruned"),
        ("litert", "dense"),
        ("litert", "pruned"),
        ("saved_model", "dense"),
        ("saved_model", "pruned"),
        ("sparse_saved_model", "pruned"),
    }
    for row in found.values():
        assert row["milliseconds_1"] > 0 and row["milliseconds_100"] > 0


def test_sizes_are_those_of_the_files(exported):
    directory, _ = exported
    found = networks_of(directory)
    for name in exporting.FORMATS:
        files = (directory / name).rglob("*")
        size = sum(path.stat().st_size for path in files if path.is_file())
        assert found[name, "pruned"]["bytes"] == size
    sparse = found["sparse_saved_model", "pruned"]
    assert sparse["bytes"] < found["saved_model", "dense"]["bytes"] / 5
    assert found["keras", "dense"]["gzip_bytes"] > 900_000  # no zeros in it


def test_numbers_and_multiply_adds_are_those_of_the_network(exported, place):
    found = networks_of(exported[0])
    assert found["keras", "dense"]["numbers"] == 266_610
    assert found["keras", "masked"]["numbers"] == 2 * 266_610
    assert found["keras", "dense"]["multiply_adds"] == 266_200
    model = runs.load_model(place / "model.keras")
    kernels = [
        row for row in snip_tf.summary(model).rows if "kernel" in row.name
    ]
    nonzero = sum(row.kept for row in kernels)
    for name in ("keras", "saved_model", "sparse_saved_model"):
        assert found[name, "pruned"]["multiply_adds"] == 266_200
        assert found[name, "pruned"]["nonzero_multiply_adds"] == nonzero
    # Without its dead units.
    compacted = found["litert", "pruned"]
    assert compacted["multiply_adds"] <= 784 * 270 + 270 * 100 + 100 * 10
    assert compacted["nonzero_multiply_adds"] < nonzero
    sparse = found["sparse_saved_model", "pruned"]
    assert nonzero < sparse["numbers"] < 2 * nonzero


def test_every_export_gives_the_logits_and_the_error_of_the_network(exported):
    found = networks_of(exported[0])
    (error,) = {
        row["test_error"] for row in found.values() if row["test_error"]
    }
    assert 0 < error < 100
    for (_, network), row in found.items():
        if network == "pruned":
            assert row["difference"] < 1e-4


def test_the_tables_are_printed(exported):
    directory, output = exported
    row = networks_of(directory)["sparse_saved_model", "pruned"]
    pattern = rf"^sparse_saved_model +pruned +{row['bytes']:,} "
    assert re.search(pattern, output, re.MULTILINE), output
    pattern = r"^sparse_saved_model +pruned +\S+e[-+]\d+ +[\d.]+% +[\d.]+ ms"
    assert re.search(pattern, output, re.MULTILINE), output
    assert output.endswith("Wrote all\n")


def test_earlier_exports_are_replaced_if_asked_to(place):
    directory = exports_in(place / "again")
    status, output = run_script(
        "export.py",
        "--model_file=model.keras",
        "--dataset=mnist_5k",
        "--export_dir=again",
        "--overwrite",
        *_QUICK,
        cwd=place,
    )
    assert status == 0, output
    # Without the .keras file of before.
    assert sorted(os.listdir(directory)) == [
        "export.json",
        "sparse_saved_model",
    ]
    assert ("sparse_saved_model", "pruned") in networks_of(directory)


def test_quantised_exports_are_measured(place):
    status, output = run_script(
        "export.py",
        "--run_dir=run",
        "--format=litert",
        "--quantization=int8",
        "--export_dir=int8",
        *_QUICK,
        cwd=place,
    )
    assert status == 0, output
    row = networks_of(place / "int8")["litert", "pruned"]
    assert 0 < row["difference"] < 1


def test_another_backend_is_refused_at_once(place):
    pytest.importorskip("jax")
    status, output = run_script(
        "export.py",
        "--run_dir=run",
        "--export_dir=jax",
        cwd=place,
        KERAS_BACKEND="jax",
    )
    assert status == 1, output
    assert output.endswith("backend. Received: KERAS_BACKEND=jax\n")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--format=tflite"], "--format=.*tflite.*: must be of saved_model, "),
        (
            ["--format=saved_model", "--quantization=int8"],
            "--quantization needs --format=litert",
        ),
        (["--export_dir=run"], "must be new, empty or hold earlier exports"),
        (["--export_dir=full"], "already holds exports: choose another"),
        (
            ["--test_images=50"],
            "--batch_size must be at most .* images, 50. Received: 100",
        ),
    ],
)
def test_bad_input_ends_with_one_clear_line(place, flags, message):
    exports_in(place / "full")
    before = sorted(os.listdir(place))
    status, output = run_forked(
        "export.py", "--run_dir=run", "--export_dir=new", *flags, cwd=place
    )
    assert status == 1, output
    assert re.search(message, output), output
    assert "Traceback" not in output
    assert sorted(os.listdir(place)) == before  # nothing half-written
