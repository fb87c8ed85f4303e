"""What the tests of the tape share: a leaf, and comparisons."""

import numpy as np
import pytest

import monograph as mg

X = np.random.default_rng(0).standard_normal((3, 2))


def leaf(m=mg, a=X):
    return m.tensor(a, requires_grad=True)


def close(a, b):
    np.testing.assert_allclose(
        a.detach().numpy(), b.detach().numpy() if hasattr(b, "detach") else b, rtol=1e-12
    )


def both(run):
    """run(mg) and run(torch) give equal tensors (or None)."""
    torch = pytest.importorskip("torch", reason="PyTorch is the oracle of this test")
    mine, theirs = run(mg), run(torch)
    assert len(mine) == len(theirs)
    for a, b in zip(mine, theirs):
        assert (a is None) == (b is None)
        if a is not None:
            assert tuple(a.shape) == tuple(b.shape)
            close(a, b)
