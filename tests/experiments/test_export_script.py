"""scripts/export.py as a person runs it: files, tables, refusals."""

import os
import re

import keras
import numpy as np
import pytest
from conftest import run_forked, run_script

import snip_tf
from snip_tf import exporting
from snip_tf.experiments import run_directory

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


def networks_of(output):
    """Returns the cells of the printed table by (format, network)."""
    table = output[output.index("format ") :].split("\n\n")[0]
    lines = [line.split() for line in table.splitlines()[1:]]
    return {tuple(line[:2]): line[2:] for line in lines}


def test_every_format_has_a_directory(exported):
    directory, _ = exported
    assert sorted(os.listdir(directory)) == sorted(exporting.FORMATS)
    assert (directory / "litert" / "model.tflite").is_file()
    assert (directory / "keras" / "model.keras").is_file()


def test_every_engine_has_the_dense_network_beside_the_pruned(exported):
    _, output = exported
    assert set(networks_of(output)) == {
        ("keras", "dense"),
        ("keras", "masked"),
        ("keras", "pruned"),
        ("litert", "dense"),
        ("litert", "pruned"),
        ("saved_model", "dense"),
        ("saved_model", "pruned"),
        ("sparse_saved_model", "pruned"),
    }
    assert output.endswith("Wrote all\n")
    assert "\nweight " in output  # what LiteRT has stored


def test_sizes_are_those_of_the_files(exported):
    directory, output = exported
    found = networks_of(output)

    def size_of(*key):
        return int(found[key][0].replace(",", ""))

    for name in exporting.FORMATS:
        files = (directory / name).rglob("*")
        size = sum(
            path.stat().st_size
            for path in files
            if path.is_file() and path.name != "SHA256SUMS"
        )
        assert size_of(name, "pruned") == size
    sparse = size_of("sparse_saved_model", "pruned")
    assert sparse < size_of("saved_model", "dense") / 5


def test_every_export_gives_the_logits_and_the_error_of_the_network(exported):
    found = networks_of(exported[1])
    trained = [cells for (_, of), cells in found.items() if of != "dense"]
    assert len(trained) == 5
    assert all(float(cells[1]) < 1e-4 for cells in trained)
    ((error,),) = [{cells[2] for cells in trained}]
    assert 0 < float(error[:-1]) < 100


def test_times_stand_beside_those_of_the_dense_network(exported):
    found = networks_of(exported[1])
    for (_, network), cells in found.items():
        one, unit, ratio, hundred, unit, ratio_of_100 = cells[-6:]
        assert float(one) > 0 and float(hundred) > 0 and unit == "ms"
        if network == "dense":
            assert ratio == ratio_of_100 == "1.00"


def test_quantised_exports_are_measured(place):
    status, output = run_script(
        "export.py",
        "--model_file=model.keras",
        "--dataset=mnist_5k",
        "--format=litert",
        "--quantization=int8",
        "--export_dir=int8",
        *_QUICK,
        cwd=place,
    )
    assert status == 0, output
    cells = networks_of(output)["litert", "pruned"]
    assert 0 < float(cells[1]) < 1


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--format="], r"--format=\[\]: must be of saved_model, "),
        (["--format=tflite"], "--format=.*tflite.*: must be of saved_model, "),
        (
            ["--format=saved_model", "--quantization=int8"],
            "--quantization needs --format=litert",
        ),
        (
            ["--test_images=50"],
            "--batch_size must be at most .* images, 50. Received: 100",
        ),
    ],
)
def test_bad_input_ends_with_one_clear_line(place, flags, message):
    before = sorted(os.listdir(place))
    status, output = run_forked(
        "export.py", "--run_dir=run", "--export_dir=new", *flags, cwd=place
    )
    assert status == 1, output
    assert re.search(message, output), output
    assert "Traceback" not in output
    assert sorted(os.listdir(place)) == before  # nothing half-written
