"""monograph.masked and monograph.signal.windows against PyTorch; eager and compiled."""

import numpy as np
import pytest

import monograph as mg
from monograph.testing import assert_close

from .torch_oracle import check, torch

RNG = np.random.default_rng(8)
X = RNG.standard_normal((3, 4, 5))
MASK = RNG.integers(0, 2, (4, 5)).astype(bool)
MASK[1] = False  # a row of which nothing counts

REDUCTIONS = "sum prod amax amin mean norm var std logsumexp".split()
ALONG = "cumsum cumprod softmax log_softmax softmin argmax argmin median".split()


def with_mask(module, name, mask, **kwargs):
    function = getattr(module, name)
    return lambda x, **more: function(x, mask=mask, **more, **kwargs)


@pytest.mark.parametrize("dim", [None, 1, -1, (0, 2)])
@pytest.mark.parametrize("name", REDUCTIONS)
def test_reductions(name, dim):
    for keepdim in (False, True):
        for mask in (MASK, None):
            ours = with_mask(mg.masked, name, None if mask is None else mg.tensor(mask))
            theirs = with_mask(torch.masked, name, None if mask is None else torch.tensor(mask))
            grad = mask is None and name != "norm"
            check(ours, theirs, X, grad=grad, dim=dim, keepdim=keepdim)
    compiled = mg.jit(lambda x, m: getattr(mg.masked, name)(x, dim=dim, mask=m))
    expected = getattr(mg.masked, name)(mg.tensor(X), dim=dim, mask=mg.tensor(MASK))
    assert_close(compiled(mg.tensor(X), mg.tensor(MASK)), expected, equal_nan=True)


@pytest.mark.parametrize("dim", [0, -1])
@pytest.mark.parametrize("name", ALONG)
def test_along_a_dimension(name, dim):
    ours = with_mask(mg.masked, name, mg.tensor(MASK))
    theirs = with_mask(torch.masked, name, torch.tensor(MASK))
    check(ours, theirs, X, grad=False, dim=dim)


def test_gradients_of_what_counts():
    mask = MASK.copy()
    mask[1, 2] = True  # something counts in every row
    for name in ("sum", "mean", "var", "amax", "softmax", "cumprod"):
        ours = with_mask(mg.masked, name, mg.tensor(mask))
        theirs = with_mask(torch.masked, name, torch.tensor(mask))
        check(ours, theirs, X, dim=2)


def test_two_masks_and_normalize():
    y = RNG.standard_normal((4, 5))
    one, other = MASK, np.roll(MASK, 1, 0)

    def of(masked, tensor):
        masks = {"input_mask": tensor(one), "other_mask": tensor(other)}
        return lambda a, b: masked.logaddexp(a, b, **masks)

    check(of(mg.masked, mg.tensor), of(torch.masked._ops, torch.tensor), X[0], y, grad=False)
    check(
        with_mask(mg.masked, "normalize", mg.tensor(MASK)),
        with_mask(torch.masked, "normalize", torch.tensor(MASK)),
        X, ord=2.0, dim=1, grad=False,
    )  # fmt: skip


@pytest.mark.parametrize("sym", [True, False])
@pytest.mark.parametrize("count", [0, 1, 2, 7, 16])
@pytest.mark.parametrize("name", mg.signal.windows.__all__)
def test_windows(name, count, sym):
    kwargs = {"a": [0.3, 0.5, 0.2]} if name == "general_cosine" else {}
    for dtype in ("float32", "float64"):
        got = getattr(mg.signal.windows, name)(count, sym=sym, dtype=getattr(mg, dtype), **kwargs)
        theirs = getattr(torch.signal.windows, name)
        expected = theirs(count, sym=sym, dtype=getattr(torch, dtype), **kwargs)
        assert got.dtype is getattr(mg, dtype)
        assert_close(got.numpy(), expected.numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", "bartlett blackman hamming hann kaiser".split())
def test_older_names_of_windows(name):
    for periodic in (True, False):
        got = getattr(mg, f"{name}_window")(9, periodic)
        expected = getattr(torch, f"{name}_window")(9, periodic)
        assert_close(got.numpy(), expected.numpy(), rtol=1e-5, atol=1e-6)


def test_bad_windows():
    with pytest.raises(ValueError, match="hann|general_cosine: M must not be negative, got -1"):
        mg.signal.windows.hann(-1)
    with pytest.raises(TypeError, match="dtype must be floating, got int64"):
        mg.signal.windows.bartlett(4, dtype=mg.int64)
    with pytest.raises(ValueError, match="std must be positive"):
        mg.signal.windows.gaussian(4, std=0.0)
