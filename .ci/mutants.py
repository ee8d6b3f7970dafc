"""Whether the tests notice each small change of the core's code.

    python .ci/mutants.py [FILE ...]

A mutant is one change, most by operators of mutmut: another sign, a number plus
one, an argument left out. mutmut runs none of them itself, as it wraps methods
and Keras reads the signatures of a layer's. Here each is tested in a fork of a
process that has imported TensorFlow, and no file is changed.

Adds a line of JSON a mutant to build/mutants.jsonl. What is killed there
already is not run again: after a change of the tests only survivors are.
"""

import collections
import difflib
import gc
import importlib.machinery
import json
import os
import pathlib
import random
import signal
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras  # noqa: F401  (forks have it)
import libcst
import pytest
from libcst import matchers
from mutmut.mutation.mutators import mutation_operators, operator_arg_removal

ROOT = pathlib.Path(__file__).parents[1]
RESULTS = ROOT / "build" / "mutants.jsonl"
SECONDS = 600  # after which a mutant counts as killed: it made an endless loop

LAYERS = ("layers", "test_masks.py", "test_as_before.py")
PRUNING = ("test_pruning.py", "test_bad_input.py")
# The tests of each file, the likeliest to notice first.
TESTS = {
    "layers/base.py": LAYERS,
    "layers/feedforward.py": LAYERS,
    "layers/recurrent.py": LAYERS,
    "layers/attention.py": LAYERS,
    "layers/in_place.py": ("test_conversion.py",),
    "layers/dense_weights.py": ("test_conversion.py", "test_inspection.py"),
    "_checks.py": ("test_masks.py", *PRUNING),
    "masks.py": ("test_masks.py", "test_guard.py", *PRUNING),
    "guard.py": ("test_guard.py", *PRUNING),
    "pruning.py": ("test_guard.py", *PRUNING, "scores"),
    "scoring.py": ("test_scoring.py", *PRUNING, "scores"),
}


# `strict=True` of zip tells of mistakes in the code alone.
_STRICT = matchers.Arg(keyword=matchers.Name("strict"))
_NO_BEHAVIOUR = matchers.Annotation() | _STRICT
# Errors and warnings, whose words are not mutated.
_SAYS_MORE = matchers.Raise() | matchers.Call(
    matchers.Attribute(attr=matchers.Name("warn"))
)


class _Mutations(libcst.CSTVisitor):
    """Collects pairs of a node and what it becomes."""

    def __init__(self):
        self.found = []
        self._messages = set()

    def on_visit(self, node):
        if matchers.matches(node, _NO_BEHAVIOUR):
            return False
        if matchers.matches(node, _SAYS_MORE):
            texts = matchers.findall(node, matchers.SimpleString())
            self._messages |= set(map(id, texts))
        if id(node) in self._messages:
            return False
        for kind, operator in mutation_operators:
            if isinstance(node, kind) and operator is not operator_arg_removal:
                # Of a string one change tells as much as three.
                some = 1 if isinstance(node, libcst.SimpleString) else None
                self.found += [(node, new) for new in operator(node)][:some]
        if isinstance(node, libcst.Call):
            self.found += [(node, new) for new in _other_arguments(node)]
        return True


def _other_arguments(call):
    """Yields a call without each of its keywords, and None for the others.

    Half of mutmut's operator: without a positional argument few calls work.
    """
    for index, argument in enumerate(call.args):
        if argument.star or matchers.matches(argument, _STRICT):
            continue
        others = list(call.args)
        if argument.keyword:
            del others[index]
        else:
            others[index] = argument.with_changes(value=libcst.Name("None"))
        yield call.with_changes(args=others)


def mutants(source):
    """Returns a dict of mutated sources by how they differ, lines beside."""
    module = libcst.parse_module(source)
    mutations = _Mutations()
    module.visit(mutations)
    found = {}
    for node, new in mutations.found:
        mutated = module.deep_replace(node, new).code
        lines = source.splitlines(), mutated.splitlines()
        difference = difflib.unified_diff(*lines, n=2, lineterm="")
        # Without the line's number: it stays known when others are changed.
        found["\n".join(list(difference)[3:])] = mutated
    return found


def killer_of(path, mutated, tests):
    """Returns the test that fails with a mutant, "" if none does."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        signal.alarm(SECONDS)
        _become_mutant(path, mutated, tests, writer)
    os.close(writer)
    with open(reader) as pipe:
        first = pipe.read().partition("\n")[0]
    _, status = os.waitpid(child, 0)
    return first or (f"status {status}" if status else "")


def _become_mutant(path, mutated, tests, writer):
    """Runs the tests with another source of a file, and ends the process."""
    get_code = importlib.machinery.SourceFileLoader.get_code

    def get_mutated(loader, name):
        if pathlib.Path(loader.get_filename(name)) == path:
            return compile(mutated, path, "exec")
        return get_code(loader, name)

    importlib.machinery.SourceFileLoader.get_code = get_mutated

    class Reporter:
        def pytest_runtest_logreport(self, report):
            if report.failed:
                os.write(writer, f"{report.nodeid}\n".encode())

    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 1)
    os.dup2(nothing, 2)
    options = ["-x", "-q", "-p", "no:cacheprovider", "-m", "not slow"]
    os._exit(pytest.main([*options, *tests], plugins=[Reporter()]))


def main(names):
    """Tests the mutants of files of snip_tf, all of TESTS by default."""
    os.chdir(ROOT)
    names = names or list(TESTS)
    gc.freeze()  # forks then do not look through all of TensorFlow
    for tests in {TESTS[name] for name in names}:
        failed = killer_of(ROOT, "", _paths(tests))  # of no mutant
        if failed:
            sys.exit(f"The tests must pass: {failed} does not.")
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.touch()
    earlier = [json.loads(line) for line in RESULTS.open()]
    killed = {(row["file"], row["change"]) for row in earlier if row["killer"]}
    killers = collections.defaultdict(collections.Counter)
    for row in earlier:
        killers[row["file"]].update([row["killer"]])
    found = [
        (name, change, mutated)
        for name in names
        for change, mutated in mutants(_path(name).read_text()).items()
        if (name, change) not in killed
    ]
    # In no order: what is done when this is stopped is a sample.
    random.Random(0).shuffle(found)
    for name, change, mutated in found:
        killer = _test(name, change, mutated, killers[name])
        if not killer:
            print(f"{name}\n{change}\n", flush=True)


def _test(name, change, mutated, killers):
    """Tests one mutant, those tests first that noticed others; writes it."""
    tests = [test for test, _ in killers.most_common(40) if "::" in test]
    start = time.monotonic()
    killer = killer_of(_path(name), mutated, tests + _paths(TESTS[name]))
    killers.update([killer])
    row = {"file": name, "change": change, "killer": killer}
    row["seconds"] = round(time.monotonic() - start, 1)
    with RESULTS.open("a") as file:
        file.write(json.dumps(row) + "\n")
    return killer


def _path(name):
    return ROOT / "snip_tf" / name


def _paths(tests):
    return [f"tests/{test}" for test in tests]


if __name__ == "__main__":
    main(sys.argv[1:])
