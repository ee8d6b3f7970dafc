import os
import pathlib
import re

import pytest

_ROOT = pathlib.Path(__file__).parents[1]
_README = (_ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "example", re.findall(r"```python\n(.*?)```", _README, re.DOTALL)
)
def test_the_python_example_runs(example, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(compile(example, "README.md", "exec"), {})
    assert re.search(r"total .*90\.00%", capsys.readouterr().out)


def test_every_file_it_names_is_there():
    named = re.findall(r"`((?:scripts|results|tests)/[\w./-]+)`", _README)
    named += [
        f"snip_tf/{file}" for file in re.findall(r"^  (\w+\.py)", _README, re.M)
    ]
    assert len(named) > 10
    assert [name for name in named if not os.path.exists(_ROOT / name)] == []


def test_the_layout_lists_every_module_of_the_library():
    modules = {path.name for path in (_ROOT / "snip_tf").glob("*.py")}
    listed = set(re.findall(r"^  (\w+\.py)", _README, re.M))
    assert listed == modules - {"__init__.py"}


def test_it_lists_every_flag_it_shows():
    flags = set(re.findall(r"--(\w+)", _README)) - {"help"}
    source = "".join(
        path.read_text(encoding="utf-8")
        for path in (_ROOT / "scripts").glob("*.py")
    )
    assert [flag for flag in flags if f'"{flag}"' not in source] == []
