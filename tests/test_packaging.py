"""What pip installs: every package, and all that they import is declared."""

import ast
import importlib.metadata
import pathlib
import re
import shutil
import subprocess
import sys
import zipfile

import pytest

_ROOT = pathlib.Path(__file__).parents[1]
_SOURCES = ("snip_tf", "models")
_OURS = {"snip_tf"} | {
    path.stem
    for room in ("scripts", "tests")  # they import one another
    for path in (_ROOT / room).rglob("*.py")
}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel of a copy of the sources, as building leaves files behind."""
    copy, out = tmp_path_factory.mktemp("copy"), tmp_path_factory.mktemp("out")
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(_ROOT / name, copy)
    for name in _SOURCES:
        shutil.copytree(_ROOT / name, copy / name)
    command = (
        "wheel --quiet --no-deps --no-build-isolation "
        "--disable-pip-version-check --wheel-dir"
    )
    process = subprocess.run(
        [sys.executable, "-m", "pip", *command.split(), out, copy],
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stdout + process.stderr
    with zipfile.ZipFile(*out.glob("*.whl")) as file:
        yield file


def test_a_wheel_holds_every_module(wheel):
    modules = {
        path.relative_to(_ROOT).as_posix()
        for name in _SOURCES
        for path in (_ROOT / name).rglob("*.py")
    }
    expected = {re.sub("^models/", "snip_tf/models/", name) for name in modules}
    assert "snip_tf/models/vgg.py" in expected
    assert {n for n in wheel.namelist() if n.endswith(".py")} == expected


def imported(room):
    """Returns the names of others' packages that the files of a room import."""
    names = set()
    for path in (_ROOT / room).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                names.add(node.module)
    tops = {name.partition(".")[0] for name in names}
    return tops - set(sys.stdlib_module_names) - _OURS


def declared(wheel, with_tests):
    """Returns the distributions that a wheel asks for, in its extras too."""
    (metadata,) = [n for n in wheel.namelist() if n.endswith("/METADATA")]
    lines = wheel.read(metadata).decode().splitlines()
    return {
        re.match(r"Requires-Dist: ([\w-]+)", line)[1].replace("_", "-").lower()
        for line in lines
        if line.startswith("Requires-Dist:")
        and (with_tests or not re.search("extra == .test", line))
    }


@pytest.mark.parametrize("room", ["snip_tf", "models", "scripts", "tests"])
def test_all_that_is_imported_is_declared(room, wheel):
    known = declared(wheel, with_tests=room == "tests")
    of_module = importlib.metadata.packages_distributions()
    undeclared = {
        module
        for module in imported(room)
        if not known
        & {
            name.replace("_", "-").lower()
            for name in of_module.get(module, [module])
        }
    }
    assert "keras" in imported(room) and not undeclared
