"""What all tests share: fixed seeds, where real data is, all cores, what happens without peers."""

import importlib.abc
import importlib.machinery
import os
import random
import sys
from pathlib import Path

import numpy as np
import pytest

import monograph as mg
from monograph.compiler import stored
from monograph.runtime.threads import available_cpus

ROOT = Path(__file__).resolve().parent.parent
TESTS = str(ROOT / "tests") + os.sep
PEERS = {"torch": "PyTorch", "jax": "JAX"}  # to compare with; never dependencies


class SkipWithoutPeer(importlib.abc.MetaPathFinder):
    """A test, or a file of tests, that imports a peer which is not installed is skipped."""

    def find_spec(self, fullname, path=None, target=None):
        name = fullname.split(".")[0]
        if name not in PEERS or importlib.machinery.PathFinder.find_spec(name) is not None:
            return None
        frame = sys._getframe(1)
        while frame is not None and "importlib" in frame.f_code.co_filename:
            frame = frame.f_back
        if frame is not None and frame.f_code.co_filename.startswith(TESTS):
            pytest.skip(
                f"compares with {PEERS[name]}, which is not installed", allow_module_level=True
            )
        return None


sys.meta_path.insert(0, SkipWithoutPeer())


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config):
    """A run of all tests uses all cores, where pytest-xdist is installed; -n says otherwise."""
    option = config.option
    is_worker = hasattr(config, "workerinput")
    if getattr(option, "numprocesses", 0) is not None or option.usepdb or is_worker:
        return
    if config.args_source is config.ArgsSource.TESTPATHS and available_cpus() > 1:
        option.numprocesses = available_cpus()
        option.dist = "worksteal"  # neighbours share kernels, and long tests leave nobody idle


@pytest.fixture(autouse=True)
def fixed_seeds():
    """Every test starts from the same random state, whatever ran before."""
    random.seed(0)
    np.random.seed(0)
    mg.manual_seed(0)


@pytest.fixture(autouse=True)
def no_stored_plans(monkeypatch):
    """Tests change what the compiler decides by; a plan of another test must not come back."""
    monkeypatch.setattr(stored, "enabled", False)


@pytest.fixture(scope="session")
def real_data():
    """real_data("mnist"): the directory with that data set; skips where it is absent.

    Looked for in $MONOGRAPH_TEST_DATA, else in ../shared/data beside the checkout.
    """
    given = os.environ.get("MONOGRAPH_TEST_DATA")
    root = Path(given) if given else ROOT.parent / "shared" / "data"

    def find(name: str) -> Path:
        path = root / name
        if not path.is_dir():
            pytest.skip(f"needs the data set {name!r}; $MONOGRAPH_TEST_DATA says where data is")
        return path

    return find
