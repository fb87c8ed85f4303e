"""Large eager operations run compiled: broadcast, transposed and sliced operands as they stand."""

import numpy as np
import pytest

import monograph as mg
from monograph.api import compiled
from monograph.testing import assert_close

R = np.random.default_rng(0)
A = R.standard_normal((640, 512)).astype(np.float32)
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


def test_elementwise_ops_of_any_length_share_a_kernel(monkeypatch):
    from monograph.runtime import machine_code

    made = []
    compile_ir = machine_code.compile_ir
    monkeypatch.setattr(machine_code, "compile_ir", lambda *a: made.append(1) or compile_ir(*a))
    monkeypatch.setenv("MONOGRAPH_CACHE_DIR", "")
    for n in (262144, 262145, 300001):
        x = mg.arange(float(n), dtype=mg.float64)
        np.testing.assert_array_equal((x * 1.25).numpy(), x.numpy() * 1.25)
        assert len(made) <= 1


@pytest.mark.parametrize("n", [16385, 20002, 65539])
@pytest.mark.parametrize("draw", [mg.rand, mg.randn, lambda n: mg.randint(0, 1000, (n,))])
def test_random_numbers_of_any_length_are_those_of_the_reference(draw, n):
    numbers, after = [], []
    for enabled in (True, False):
        mg.manual_seed(11)
        compiled.set_enabled(enabled)
        try:
            numbers.append(draw(n).numpy())
            after.append(mg.get_rng_state().tolist())
        finally:
            compiled.set_enabled(True)
    np.testing.assert_allclose(*numbers, rtol=2e-6, atol=2e-6)
    assert after[0] == after[1]


def test_what_takes_numpy_long_is_compiled_early():
    before = len(compiled._programs)
    x = mg.tensor(R.standard_normal((4, 8, 8, 2, 8, 2)).astype(np.float32))
    for f, axes in ((mg.sum, (3, 5)), (mg.amax, (3, 5)), (mg.sum, (2, 3))):
        mine = f(x, axes).numpy()
        theirs = getattr(np, f.__name__)(x.numpy().astype(np.float64), axes)
        np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=1e-5)
    assert len(compiled._programs) == before + 3
    for axis in (0, 1):  # NumPy is quick with many neighbours, and needs no program for a shape
        mg.sum(x.reshape(64, 128), axis)
    assert len(compiled._programs) == before + 3


def test_choosing_between_operands_is_compiled_early():
    x = mg.tensor(R.standard_normal((90, 100)).astype(np.float32))
    before = len(compiled._programs)
    made = mg.where(x > 0, x, 0.0)
    np.testing.assert_array_equal(made.numpy(), np.maximum(x.numpy(), 0))
    assert len(compiled._programs) == before + 1


@pytest.mark.parametrize("name", ["relu6", "hardtanh", "celu", "logsigmoid", "softshrink"])
def test_clipping_activations_are_one_call(name):
    from monograph.nn import functional as F

    x = mg.tensor(3 * R.standard_normal((8, 100)).astype(np.float32), requires_grad=True)
    y = getattr(F, name)(x)
    y.sum().backward()
    compiled.set_enabled(False)
    try:
        z = x.detach().requires_grad_()
        by_numpy = getattr(F, name)(z)
        by_numpy.sum().backward()
    finally:
        compiled.set_enabled(True)
    assert type(y.grad_fn) is not type(by_numpy.grad_fn)
    np.testing.assert_allclose(y.detach().numpy(), by_numpy.detach().numpy(), rtol=2e-6, atol=1e-6)
    np.testing.assert_allclose(x.grad.numpy(), z.grad.numpy(), rtol=2e-6, atol=1e-6)
