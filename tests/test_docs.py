"""The README and the pages of docs/: their examples, links and commands."""

import ast
import os
import pathlib
import re
import subprocess
import sys

import keras
import pytest
from conftest import run_forked

_ROOT = pathlib.Path(__file__).parents[1]
_PAGES = sorted(
    str(path.relative_to(_ROOT))
    for folder in (".", "docs", "results")
    for path in (_ROOT / folder).glob("*.md")
)
_WRITTEN_BY_HAND = [
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "README.md",
    "SECURITY.md",
    "docs/design.md",
    "docs/guide.md",
    "docs/methods.md",
    "docs/paper.md",
    "docs/scaling.md",
    "docs/testing.md",
    "results/README.md",
    "results/benchmarks.md",
]
_SCRIPTS = ("benchmark", "demo", "evaluate", "export", "prune")
_SCRIPTS += ("reproduce", "train")
# A page's code, and what it prints if that follows.
_CODE = re.compile(
    r"^```python\n(.*?)^```\n(?:\n```text\n(.*?)^```\n)?", re.M | re.S
)


def read(page):
    return (_ROOT / page).read_text(encoding="utf-8")


def blocks(page):
    """Returns (code, what it prints or None) of a page, on the same lines."""
    text = read(page)
    return [
        ("\n" * text.count("\n", 0, found.start(1)) + found[1], found[2])
        for found in _CODE.finditer(text)
    ]


def run_under_jax(code):
    """Returns what code prints in a process where Keras runs on JAX."""
    pytest.importorskip("jax", reason="needs JAX: pip install 'snip_tf[jax]'")
    backend = {"KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"}
    process = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **backend},
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    return process.stdout


def test_the_examples_of_the_readme_run(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names, examples = {}, blocks("README.md")
    assert len(examples) == 2
    for code, _ in examples:
        exec(compile(code, "README.md", "exec"), names)
    assert re.search(r"total .*90\.00%", capsys.readouterr().out)
    assert (tmp_path / "exported" / "litert" / "model.tflite").exists()
    assert type(names["model"].layers[0]) is keras.layers.Conv2D


@pytest.mark.parametrize(
    "page",
    [
        "docs/guide.md",
        pytest.param("docs/methods.md", marks=pytest.mark.slow),
        "docs/design.md",
    ],
)
def test_a_page_runs_from_top_to_bottom(page, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names, examples = {}, blocks(page)
    assert examples
    for code, expected in examples:
        if code.lstrip("\n").startswith("# KERAS_BACKEND=jax"):
            printed = run_under_jax(code)
        else:
            exec(compile(code, page, "exec"), names)
            printed = capsys.readouterr().out
        if expected is not None:
            assert printed == expected, code.lstrip("\n")


@pytest.mark.parametrize("page", _WRITTEN_BY_HAND)
def test_every_link_of_a_page_leads_somewhere(page):
    links = re.findall(r"\]\(([^)\s]+)\)", read(page))
    missing = []
    for link in links:
        path, _, section = link.partition("#")
        if path.startswith("https://"):
            continue
        target = (_ROOT / page).parent / path if path else _ROOT / page
        if not target.exists():
            missing.append(link)
        elif section and section not in sections(target):
            missing.append(link)
    assert missing == []


def sections(path):
    """Returns the names by which a page's headings are linked."""
    headings = re.findall(r"^#+ (.*)$", path.read_text("utf-8"), re.M)
    return {
        re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        for heading in headings
    }


@pytest.mark.parametrize("page", _WRITTEN_BY_HAND)
def test_every_file_that_a_page_names_is_there(page):
    named = re.findall(
        r"`((?:docs|models|results|scripts|snip_tf|tests)/[\w./-]+)`",
        read(page),
    )
    named += re.findall(
        r"python ((?:results|scripts|tests)/[\w./]*\w)", read(page)
    )
    named += re.findall(r"pytest (tests/[\w./]*\w)", read(page))
    assert [name for name in named if not (_ROOT / name).exists()] == []


def test_no_page_is_left_out():
    """Those of the paper's figures and tables are drawn, and tested there."""
    others = set(_PAGES) - set(_WRITTEN_BY_HAND)
    assert set(_WRITTEN_BY_HAND) <= set(_PAGES)
    assert all(page.startswith("results/") for page in others)


@pytest.fixture(scope="module")
def flags_given():
    """Returns {script: the flags that the pages give it}."""
    flags = {}
    for page in _WRITTEN_BY_HAND:
        text = read(page).replace("\\\n", " ")
        for script, given in re.findall(
            r"python scripts/(\w+)\.py([^\n`|;]*)", text
        ):
            found = re.findall(r"--(\w+)", given)
            flags.setdefault(script, set()).update(found)
    return flags


@pytest.mark.parametrize("script", _SCRIPTS)
def test_a_script_has_every_flag_that_the_pages_give_it(
    script, flags_given, tmp_path
):
    cwd = tmp_path / "cwd"
    cwd.mkdir()
    _, printed = run_forked(f"{script}.py", "--helpfull", cwd=cwd)
    known = set(re.findall(r"^  --(?:\[no\])?(\w+)", printed, re.M))
    assert known
    assert flags_given.get(script, set()) <= known


def test_the_pages_name_no_other_script(flags_given):
    assert set(flags_given) <= set(_SCRIPTS)


def listed():
    """Returns the paths that the design lists below snip_tf/, in order."""
    paths, folder = [], ""
    for spaces, name in re.findall(
        r"^( {2,4})([\w/]+(?:\.py)?)  ", read("docs/design.md"), re.M
    ):
        if len(spaces) == 2:
            folder = name
            paths.append(name)
        else:
            paths.append(folder + name)
    return paths


def test_the_design_lists_every_module():
    """All of the library's first level; of a folder all files, or none."""
    library, paths = _ROOT / "snip_tf", listed()
    there = {path.name for path in library.glob("*.py")}
    there |= {f"{path.parent.name}/" for path in library.glob("*/__init__.py")}
    inside = [path for path in paths if not path.endswith("/") and "/" in path]
    for folder in {path.partition("/")[0] for path in inside}:
        files = {f"{folder}/{x.name}" for x in library.glob(f"{folder}/*.py")}
        there |= files - {f"{folder}/__init__.py"}
    assert sorted(paths) == sorted(there)


def imported(path):
    """Returns what of the library's first level a file imports."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names} & {"snip_tf"}
        elif isinstance(node, ast.ImportFrom) and node.module == "snip_tf":
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            first, _, rest = node.module.partition(".")
            names |= {rest.partition(".")[0]} if first == "snip_tf" else set()
    return names


def test_a_file_imports_only_from_above_its_line_in_the_design():
    order = [path for path in listed() if not path.partition("/")[2]]
    above = {"models"}
    for name in order[:-1]:  # the last is __init__.py, which has them all
        own = name.removesuffix(".py").removesuffix("/")
        if own == "experiments":  # it uses the library as everybody does
            above.add("snip_tf")
        path = _ROOT / "snip_tf" / name
        files = path.rglob("*.py") if path.is_dir() else [path]
        for file in files:
            assert imported(file) <= above | {own}, file
        above.add(own)
    for file in (_ROOT / "models").glob("*.py"):
        assert imported(file) <= {"_checks", "layers", "models"}, file


def test_the_citation_is_valid_and_names_the_paper():
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")
    citation = yaml.safe_load(read("CITATION.cff"))
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    assert citation["title"] == "snip_tf"
    (paper,) = citation["references"]
    names = [author["family-names"] for author in paper["authors"]]
    assert names == ["Lee", "Ajanthan", "Torr"]
    assert paper["url"] in read("README.md")
