"""The examples in docstrings, run as they stand."""

import doctest
import importlib
import pkgutil
import tempfile

import keras
import numpy as np
import pytest

import snip_tf

_FINDER = doctest.DocTestFinder(exclude_empty=True)


def modules():
    """Returns the names of all modules of the library, packages included."""
    found = pkgutil.walk_packages(snip_tf.__path__, "snip_tf.")
    names = [module.name for module in found]
    names.remove("snip_tf.gradients.torch")  # PyTorch may not be there
    return ["snip_tf", *names]


def examples_of(module):
    """Returns the docstrings of a module that have examples."""
    # What every example may use without importing it.
    names = {"np": np, "keras": keras, "snip_tf": snip_tf}
    found = _FINDER.find(module, extraglobs={**names, "tempfile": tempfile})
    return [docstring for docstring in found if docstring.examples]


@pytest.mark.parametrize("name", modules())
def test_the_examples_in_docstrings_run(name):
    printed = []
    runner = doctest.DocTestRunner(optionflags=doctest.FAIL_FAST)
    for docstring in examples_of(importlib.import_module(name)):
        runner.run(docstring, out=printed.append)
    assert not runner.failures, "".join(printed)


def test_no_example_is_skipped_or_missed():
    """The main functions have one, and none says that it is not to run."""
    found = [
        docstring
        for name in modules()
        for docstring in examples_of(importlib.import_module(name))
    ]
    skipped = [
        docstring.name
        for docstring in found
        for example in docstring.examples
        if example.options.get(doctest.SKIP)
    ]
    assert skipped == []
    with_examples = {docstring.name.rpartition(".")[2] for docstring in found}
    main = "batches export flops keep_top masked prune sensitivity strip"
    main += " summary warmed_up"
    assert set(main.split()) <= with_examples
