"""The same call here and in PyTorch: values, dtypes, shapes and gradients side by side."""

import numpy as np
import pytest

import monograph as mg
from monograph.testing import as_numpy, assert_close

torch = pytest.importorskip("torch", reason="PyTorch is the oracle of these tests")


def to_mg(x, grad=False):
    if isinstance(x, (list, tuple)) and any(isinstance(v, np.ndarray) for v in x):
        return type(x)(to_mg(v, grad) for v in x)
    if not isinstance(x, np.ndarray):
        return x
    t = mg.tensor(x)
    return t.requires_grad_() if grad and t.dtype.is_floating_point else t


def to_torch(x, grad=False):
    if isinstance(x, (list, tuple)) and any(isinstance(v, np.ndarray) for v in x):
        return type(x)(to_torch(v, grad) for v in x)
    if not isinstance(x, np.ndarray):
        return x
    if x.dtype.name == "bfloat16":
        t = torch.from_numpy(x.astype(np.float32)).to(torch.bfloat16)
    else:
        t = torch.from_numpy(np.array(x))
    return t.requires_grad_() if grad and t.is_floating_point() else t


def leaves(x):
    if isinstance(x, (list, tuple)):
        return [leaf for v in x for leaf in leaves(v)]
    return [x]


def check(ours, theirs, *args, grad=True, rtol=None, atol=None, **kwargs):
    """Both functions on the arguments (arrays become tensors): equal results and gradients."""
    a = [to_mg(x, grad) for x in args]
    b = [to_torch(x, grad) for x in args]
    got, expected = leaves(ours(*a, **kwargs)), leaves(theirs(*b, **kwargs))
    assert len(got) == len(expected)
    options = dict(rtol=rtol, atol=atol, equal_nan=True)
    for g, e in zip(got, expected):
        if not isinstance(e, torch.Tensor):
            assert g == e and type(g) is type(e)
            continue
        assert g.dtype.name == str(e.dtype).split(".")[1], f"{g.dtype} and {e.dtype}"
        assert tuple(g.shape) == tuple(e.shape), f"{g.shape} and {e.shape}"
        assert_close(as_numpy(g), as_numpy(e), **options)
    if not grad:
        return
    rng = np.random.default_rng(5)
    seeds = [rng.uniform(0.5, 1.5, tuple(e.shape)) for e in expected]
    pairs = [(g, e, s) for g, e, s in zip(got, expected, seeds) if e.requires_grad]
    for g, e, s in pairs:
        assert g.requires_grad == e.requires_grad
        seed = s.astype(np.float32)
        e.backward(torch.from_numpy(seed).to(e.dtype), retain_graph=True)
        g.backward(mg.tensor(seed).to(g.dtype), retain_graph=True)
    for x, y in zip(leaves(a), leaves(b)):
        if isinstance(y, torch.Tensor) and y.requires_grad and y.grad is not None:
            assert x.grad is not None
            assert_close(as_numpy(x.grad), as_numpy(y.grad), **options, msg="gradient")
