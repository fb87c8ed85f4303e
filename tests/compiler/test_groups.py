"""Convolutions in groups: compiled values and gradients against their NumPy meanings."""

import numpy as np
import pytest
from native import assert_same, processor  # noqa: F401  (a fixture)

import monograph as mg
from monograph.compiler.kernels import depthwise, depthwise_weight
from monograph.nn import functional as F
from monograph.ops.conv import Conv, ConvInput, ConvWeight
from monograph.testing import assert_close

# (groups, channels in and out of each), images, sizes, kernel, stride, padding, dilation
DEPTHWISE = {
    "3x3": ((20, 1, 1), 2, (9, 11), (3, 3), (1, 1), (1, 1), (1, 1)),
    "3x3 by two": ((33, 1, 1), 2, (9, 20), (3, 3), (2, 2), (1, 1), (1, 1)),
    "a wide row": ((5, 1, 1), 1, (3, 70), (3, 5), (1, 1), (0, 2), (1, 1)),
    "7x7 over 5x6": ((70, 1, 1), 1, (5, 6), (7, 7), (1, 1), (3, 3), (1, 1)),
    "dilated": ((16, 1, 1), 2, (20, 21), (3, 3), (1, 1), (2, 4), (2, 4)),
    "strides and dilations": ((6, 1, 1), 1, (17, 19), (3, 4), (2, 3), (3, 2), (2, 2)),
    "more padding than taps": ((4, 1, 1), 1, (4, 5), (2, 2), (3, 2), (3, 4), (1, 1)),
    "one line": ((40, 1, 1), 3, (50,), (9,), (1,), (4,), (1,)),
    "a long filter": ((18, 1, 1), 2, (64,), (40,), (1,), (7,), (1,)),
    "a line by three": ((10, 1, 1), 2, (40,), (5,), (3,), (2,), (2,)),
    "volumes": ((17, 1, 1), 2, (4, 5, 9), (3, 2, 3), (1, 2, 1), (1, 1, 1), (1, 1, 2)),
    "three filters each": ((6, 1, 3), 2, (8, 7), (3, 3), (2, 1), (1, 1), (1, 1)),
    "one tap": ((9, 1, 1), 2, (6, 6), (1, 1), (2, 2), (0, 0), (1, 1)),
}  # fmt: skip
GROUPS = {
    "two large": ((2, 20, 24), 2, (7, 9), (3, 3), (1, 1), (1, 1), (1, 1)),
    "small, merged": ((8, 4, 4), 2, (6, 8), (3, 3), (1, 1), (1, 1), (1, 1)),
    "small and odd": ((3, 5, 2), 2, (6, 8), (3, 2), (2, 2), (1, 0), (1, 1)),
    "1x1": ((4, 8, 16), 2, (5, 6), (1, 1), (1, 1), (0, 0), (1, 1)),
    "1x1 by two": ((4, 3, 5), 2, (5, 6), (1, 1), (2, 2), (0, 0), (1, 1)),
    "stride and dilation": ((2, 16, 17), 1, (15, 16), (3, 3), (2, 3), (2, 1), (2, 2)),
    "one output each": ((4, 6, 1), 2, (8,), (3,), (1,), (1,), (1,)),
    "volumes": ((2, 16, 16), 1, (4, 4, 6), (2, 3, 3), (1, 1, 1), (1, 0, 1), (1, 1, 1)),
}
CASES = {**DEPTHWISE, **{f"groups: {k}": v for k, v in GROUPS.items()}}


def arrays_of(case, dtype=np.float32):
    (groups, inside, outside), n, sizes, kernel, *window = case
    rng = np.random.default_rng(0)
    op = Conv(*window, groups)
    shapes = (
        (n, groups * inside, *sizes),
        (groups * outside, inside, *kernel),
        (n, groups * outside, *op.counts(sizes, kernel)),
    )
    return op, [rng.standard_normal(shape).astype(dtype) for shape in shapes]


def check(case, dtype=np.float32):
    op, (x, w, y) = arrays_of(case, dtype)
    window = op.window()
    tolerance = {4: 2e-5, 8: 1e-12, 2: 2e-2}[np.dtype(dtype).itemsize]
    close = {"rtol": tolerance, "atol": tolerance * 10}
    assert_same(op, x, w, **close)
    assert_same(ConvInput(*window, x.shape[2:]), y, w, **close)
    assert_same(ConvWeight(*window, w.shape[2:]), x, y, **close)


@pytest.mark.parametrize("name", CASES)
def test_values_and_gradients(name):
    check(CASES[name])


@pytest.mark.parametrize("dtype", [np.float64, np.float16])
def test_other_dtypes(dtype):
    for name in ("3x3 by two", "groups: small, merged", "volumes"):
        check(CASES[name], dtype)


def test_on_other_processors(processor):  # noqa: F811
    for name in ("3x3", "strides and dilations", "a long filter", "groups: two large"):
        check(CASES[name])


def test_many_chunks(monkeypatch):
    monkeypatch.setattr(depthwise, "CHUNK_PRODUCTS", 1)
    monkeypatch.setattr(depthwise, "NEAR_BYTES", 1)
    for case in (((130, 1, 1), *DEPTHWISE["3x3 by two"][1:]), DEPTHWISE["volumes"]):
        check(case)
    monkeypatch.setattr(depthwise_weight, "RANGES", 3)
    check(DEPTHWISE["3x3"])


@pytest.mark.parametrize("groups", [12, 3])
def test_epilogues_and_layers_around(groups):
    """A block as in mobile networks, trained one step: compiled as eager."""
    mg.manual_seed(0)
    x = mg.randn(2, 12, 9, 10)
    model = mg.nn.Sequential(
        mg.nn.Conv2d(12, 12, 3, padding=1, groups=groups), mg.nn.BatchNorm2d(12), mg.nn.SiLU(),
        mg.nn.Conv2d(12, 24, 1), mg.nn.GELU(),
        mg.nn.Conv2d(24, 24, 3, 2, 1, groups=24, bias=False), mg.nn.ReLU6(), mg.nn.Flatten(),
    )  # fmt: skip
    parameters = list(model.parameters())

    def gradients(x):
        loss = (F.normalize(model(x)) ** 3).sum()
        return (loss, *mg.autograd.grad(loss, parameters))

    expected = gradients(x)
    for got, wanted in zip(mg.jit(gradients)(x), expected):
        assert_close(got, wanted, rtol=1e-4, atol=1e-4)
    model.eval()
    assert_close(mg.jit(model)(x), model(x), rtol=1e-5, atol=1e-5)
