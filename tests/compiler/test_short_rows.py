"""Reductions over rows shorter than the lanes: one row per lane, for each kind of processor."""

import numpy as np
import pytest
from native import processor  # noqa: F401  (a fixture)

import monograph as mg
from monograph.kernel.printer import str_kernel


@pytest.mark.parametrize(
    "shape", [(32, 2), (251, 3), (1031, 2), (600, 4), (4, 20, 2), (3, 40, 2, 2)]
)
def test_rows_of_few_elements_are_reduced_across_rows(shape, processor):  # noqa: F811
    x = mg.randn(*shape)
    axes = tuple(range(2 if len(shape) == 4 else len(shape) - 1, len(shape)))
    scale, counts = mg.rand(*shape), (x * 10).to(mg.int64)

    def f(x, scale, counts):
        e = (x - x.amax(axes, keepdim=True)).exp()
        y = e / e.sum(axes, keepdim=True)
        centred = x - x.mean(axes, keepdim=True)
        spread = centred / ((centred * centred).mean(axes, keepdim=True) + 1e-5).sqrt()
        return y, spread * scale, counts.sum(axes), (x > 0.5).any(axes), x.prod(-1), y.sum(axes)

    for made, expected in zip(mg.jit(f)(x, scale, counts), f(x, scale, counts), strict=True):
        assert made.dtype is expected.dtype
        np.testing.assert_allclose(made.numpy(), expected.numpy(), rtol=2e-5, atol=1e-6)


def test_softmax_of_two_classes_has_lanes_along_the_rows(processor):  # noqa: F811
    def text(classes):
        f = mg.jit(lambda x: x.softmax(-1))
        f(mg.randn(64, classes))
        return "".join(str_kernel(s.kernel) for s in f.latest.executable.steps)

    assert "vector for i0_0" in text(2) and "vector for i0_0" not in text(16)
