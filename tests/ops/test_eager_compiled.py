"""Large eager operations run compiled: broadcast, transposed and sliced operands as they stand."""

import numpy as np
import pytest

import monograph as mg
from monograph.api import compiled
from monograph.testing import assert_close

A = np.random.default_rng(0).standard_normal((640, 512)).astype(np.float32)
ROW, COLUMN = A[0].copy(), A[:, 1].copy()

CASES = {
    "a row": lambda x, r, c: x + r,
    "a column": lambda x, r, c: x * c[:, None],
    "both": lambda x, r, c: c[:, None] - r,
    "a transpose": lambda x, r, c: x.T * 2.0,
    "a slice": lambda x, r, c: x[:, ::2].exp() + x[:, 1::2],
    "a middle axis": lambda x, r, c: x.reshape(10, 64, 512) * c[:64, None],
    "a transposed repeat": lambda x, r, c: c.expand(512, 640).T + x,
    "a repeated sum": lambda x, r, c: r.expand(640, 512).sum(0),
    "a flipped view": lambda x, r, c: mg.maximum(x.flip(0), x),
}


@pytest.mark.parametrize("name", CASES)
def test_operands_that_are_not_contiguous(name):
    tensors = [mg.tensor(v) for v in (A, ROW, COLUMN)]
    got = CASES[name](*tensors)
    compiled.set_enabled(False)
    try:
        expected = CASES[name](*tensors)
    finally:
        compiled.set_enabled(True)
    assert got.shape == expected.shape
    assert_close(got, expected, rtol=1e-5, atol=1e-5)


def test_slow_meanings_are_compiled_early():
    x = mg.tensor(A[:2])
    before = len(compiled._programs)
    mg.erf(x), mg.exp(x)
    assert len(compiled._programs) == before + 1
