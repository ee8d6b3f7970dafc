"""Every example of docs/examples runs from top to bottom, with few steps."""

import pathlib
import re

import pytest

_EXAMPLES = pathlib.Path(__file__).parents[1] / "docs" / "examples"
# What is replaced, so that a test is short, and what must be printed.
_RUNS = {
    "prune_any_model": (
        {"EPOCHS": 1, "EXAMPLES": 200},
        "keras_hub",
        r"total .* 90\.00%(.|\n)*137,491 of the 152,768 numbers",
    ),
    "train_what_survives": (
        {"STEPS": 20},
        "mlxtend",
        r"dense +266,610 weights (.|\n)*random +5,332 weights ",
    ),
    "deploy_to_litert": (
        {"STEPS": 20},
        "ai_edge_litert",
        r"litert, dense +1,0\d\d,\d{3} bytes\n(.|\n)* of 1,000 test images",
    ),
}


def test_every_example_is_run():
    assert set(_RUNS) == {path.stem for path in _EXAMPLES.glob("*.py")}


@pytest.mark.parametrize("name", _RUNS)
@pytest.mark.filterwarnings("ignore:.* weights get no mask")
@pytest.mark.filterwarnings("ignore:The masks of these kernels")
def test_an_example_runs(name, capsys, tmp_path, monkeypatch):
    constants, package, printed = _RUNS[name]
    pytest.importorskip(package, reason=f"{package} is not installed")
    code = (_EXAMPLES / f"{name}.py").read_text(encoding="utf-8")
    for constant, value in constants.items():
        code, found = re.subn(
            rf"^{constant} = .*$", f"{constant} = {value}", code, flags=re.M
        )
        assert found == 1
    monkeypatch.chdir(tmp_path)
    exec(compile(code, f"{name}.py", "exec"), {"__name__": "__main__"})
    assert re.search(printed, capsys.readouterr().out)
