"""Every example in a docstring of the package prints what it says."""

import builtins
import doctest
import importlib
import pkgutil

import pytest

import monograph as mg

MODULES = [m.name for m in pkgutil.walk_packages(mg.__path__, "monograph.")]


@pytest.mark.parametrize("name", [n for n in MODULES if not n.endswith("__main__")])
def test_examples(name):
    module = importlib.import_module(name)
    # Examples see the public names; Python's own win (float, sum) except where tensors are made.
    names = {k: v for k, v in vars(mg).items() if not k.startswith("__")}
    if not name.startswith(("monograph.ops", "monograph.tensor", "monograph.api")):
        names = {k: v for k, v in names.items() if not hasattr(builtins, k)}
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    for test in doctest.DocTestFinder().find(module, globs={**vars(module), **names, "mg": mg}):
        report = []
        runner.run(test, out=report.append)
        assert not runner.failures, "".join(report)
