"""What all tests share: fixed seeds, and where real data is."""

import os
import random
from pathlib import Path

import numpy as np
import pytest

import monograph as mg

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def fixed_seeds():
    """Every test starts from the same random state, whatever ran before."""
    random.seed(0)
    np.random.seed(0)
    mg.manual_seed(0)


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
