"""Results of captured functions that stand somewhere already: they are copied by the program."""

import numpy as np
import pytest

import monograph as mg
from monograph.runtime import threads


@pytest.mark.parametrize("shape", [(), (3, 5), (130, 1030)])
@pytest.mark.parametrize("dtype", [mg.float32, mg.float64, mg.bfloat16, mg.int8, mg.bool])
def test_results_that_are_other_results_or_inputs_have_memory_of_their_own(shape, dtype):
    kept = mg.ones(shape, dtype=dtype)

    def f(x):
        y = x + kept
        z = mg.full(shape, 1, dtype=dtype)
        return y, y.detach(), x.detach(), kept.detach(), z, y.float() + 1

    g = mg.jit(f)
    x = (mg.rand(*shape) * 9).floor().to(dtype)
    for count in (1, 2, 2):
        before = threads.get_num_threads()
        threads.set_num_threads(count)
        try:
            made = g(x)
        finally:
            threads.set_num_threads(before)
        for a, b in zip(made, f(x), strict=True):
            assert a.dtype is b.dtype and a.shape == b.shape
            np.testing.assert_array_equal(a.float().numpy(), b.float().numpy())
        expected = [t.float().numpy().copy() for t in made]
        for k, t in enumerate(made[:5]):
            t.zero_()
            expected[k][...] = 0
            for a, b in zip(made, expected, strict=True):
                np.testing.assert_array_equal(a.float().numpy(), b)
        assert kept.float().sum() == kept.numel()
    (program,) = next(iter(g.captures.values()))
    assert program.executable.program is not None and program.executable.moves


def test_tensors_that_change_places_and_a_result_that_is_what_was():
    a, b = mg.zeros(4), mg.ones(4)

    @mg.jit
    def f(x):
        old = a.clone()
        a.copy_(b)
        b.copy_(old)
        return old, x * 1.0

    for k in range(4):
        old, x = f(mg.full((4,), 2.0))
        assert old.tolist() == [k % 2] * 4 and x.tolist() == [2] * 4
        assert a.tolist() == [(k + 1) % 2] * 4 and b.tolist() == [k % 2] * 4


def test_parameters_of_one_gradient_get_one_each():
    p, q = mg.ones(3, requires_grad=True), mg.ones(3, requires_grad=True)
    table = mg.ones(3, requires_grad=True)

    @mg.jit
    def f(x):
        p.grad = q.grad = table.grad = None
        ((p + q) * x + table[:3] * 1.0).sum().backward()

    for k in range(1, 5):
        f(mg.full((3,), float(k)))
        assert p.grad.tolist() == q.grad.tolist() == [k] * 3 and table.grad.tolist() == [1] * 3
        p.grad.zero_()
        assert q.grad.tolist() == [k] * 3
