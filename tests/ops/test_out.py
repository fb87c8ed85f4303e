"""`out=`: the result is written into a tensor that is there, as PyTorch does."""

import numpy as np
import pytest

import monograph as mg
from monograph.core.errors import ArgumentTypeError, DTypeError, GradError, ShapeError
from monograph.testing import assert_close

X = mg.tensor(np.random.default_rng(0).uniform(0.5, 2, (3, 4)))


@pytest.mark.parametrize(
    "call",
    [
        lambda **k: mg.exp(X, **k),
        lambda **k: mg.mul(X, 2.0, **k),
        lambda **k: mg.add(X, X, alpha=2, **k),
        lambda **k: mg.sum(X, 1, **k),
        lambda **k: mg.mm(X, X.T, **k),
        lambda **k: mg.cat([X, X], 1, **k),
        lambda **k: mg.cumsum(X, 0, **k),
        lambda **k: mg.where(X > 1, X, 0.0, **k),
        lambda **k: mg.clamp(X, max=1.0, **k),
        lambda **k: mg.index_select(X, 1, mg.tensor([0, 2]), **k),
        lambda **k: mg.special.erfcx(X, **k),
        lambda **k: mg.linalg.inv(X[:, :3], **k),
    ],
)
def test_results_are_written_into_out(call):
    expected = call()
    place = mg.zeros_like(expected)
    seen = place[...]
    assert call(out=place) is place
    assert_close(place, expected)
    assert_close(seen, expected)  # the same memory
    empty = mg.empty(0, dtype=expected.dtype)
    assert_close(call(out=empty), expected)
    assert empty.shape == expected.shape
    assert_close(call(out=None), expected)


def test_several_results():
    values, places = mg.zeros(3, dtype=mg.float64), mg.zeros(3, dtype=mg.int64)
    got = mg.max(X, 1, out=(values, places))
    assert got.values is values and got.indices is places
    assert_close(values, X.max(1).values)
    with pytest.raises(ArgumentTypeError, match="max: out must be 2 tensors"):
        mg.max(X, 1, out=values)


def test_what_does_not_fit():
    with pytest.raises(ShapeError, match="exp: the result has shape"):
        mg.exp(X, out=mg.zeros(3, dtype=mg.float64))
    with pytest.raises(DTypeError, match="exp: a result of float64 cannot be written"):
        mg.exp(X, out=mg.zeros(3, 4, dtype=mg.int64))
    with pytest.raises(ArgumentTypeError, match="exp: out must be a tensor, got ndarray"):
        mg.exp(X, out=np.zeros((3, 4)))
    leaf = mg.ones(3, requires_grad=True)
    with pytest.raises(GradError, match="no gradient passes through out="):
        mg.exp(leaf, out=mg.zeros(3))
    with mg.no_grad():
        assert mg.exp(leaf, out=mg.zeros(3)).shape == (3,)


def test_captured():
    place = mg.zeros(3, 4, dtype=mg.float64)

    @mg.jit
    def step(x):
        mg.exp(x, out=place)
        return place * 2

    assert_close(step(X), mg.exp(X) * 2)
    assert_close(place, mg.exp(X))
    assert_close(step(X + 1), mg.exp(X + 1) * 2)
    assert_close(place, mg.exp(X + 1))
