"""`mg.jit`: arguments and results, numbers, static arguments."""

from functools import partial

import numpy as np
import pytest
from jit_helpers import close, counted, same

import monograph as mg
from monograph import nn, optim
from monograph.core.tracing import live_scalar


def test_written_arguments_are_written_in_the_callers_memory():
    f, captures = counted(lambda x, y: (x.mul_(2), y[1:].add_(x.sum())))
    for _ in range(2):
        x, y = mg.ones(3), mg.zeros(3)
        array = x.numpy()
        first, second = f(x, y)
        assert first is x
        assert x.tolist() == [2, 2, 2] and array.tolist() == [2, 2, 2]
        assert y.tolist() == [0, 6, 6] and second.tolist() == [6, 6]
    assert len(captures) == 1


def test_written_arguments_that_are_not_contiguous():
    f = mg.jit(lambda x: x.add_(1).sum())
    for _ in range(2):
        base = mg.zeros(3, 4)
        assert f(base.t()).item() == 12
        assert f(base[:, 1:3]).item() == 12
        assert base.tolist() == [[1, 2, 2, 1]] * 3


def test_the_same_tensor_twice():
    f = mg.jit(lambda x, y: (x.add_(1), y.clone())[1])
    x = mg.zeros(2)
    assert f(x, x).tolist() == [1, 1]
    assert f(x, x).tolist() == [2, 2]
    assert x.tolist() == [2, 2]
    y = mg.zeros(2)
    assert f(x, y).tolist() == [0, 0]
    g = mg.jit(lambda x, y: (y * 2, x.add_(1), y.sin() + y.sum())[-1])
    a, b = mg.ones(5), mg.ones(5)
    g(mg.zeros(5), a)
    for _ in range(3):
        close(g(a, a), g.function(b, b))
    assert g.recompiles == [
        "argument 1 changed from a float32 tensor of shape (5,) to the same tensor as argument 0"
    ]


def test_arguments_that_share_memory_with_what_is_written():
    def f(x, y):
        before = y * 3
        x.add_(1)
        return before, y.sin(), y.flip(0) + y

    g = mg.jit(f)
    for part in (lambda t: t[1:], lambda t: t.detach(), lambda t: t[::2], lambda t: t.clone()):
        for _ in range(2):
            a, b = mg.arange(6.0), mg.arange(6.0)
            for mine, other in zip(g(a, part(a)), f(b, part(b))):
                close(mine, other)
            same(a, b)


def test_an_argument_that_is_also_written_by_reference():
    mine, other = mg.arange(4.0), mg.arange(4.0)

    def make(w):
        return lambda x: (x * 2, w.add_(1), x.flip(0) + x)

    f, g = mg.jit(make(mine)), make(other)
    f(mg.zeros(4)), g(mg.zeros(4))
    for _ in range(2):
        for a, b in zip(f(mine), g(other)):
            close(a, b)


def test_an_argument_that_is_also_captured():
    w = mg.zeros(2)
    f = mg.jit(lambda x: (w.add_(x), x * 1)[1])
    assert f(mg.ones(2)).tolist() == [1, 1]
    f(w)
    assert w.tolist() == [2, 2]


def test_returned_arguments_and_captured_tensors_are_the_same_objects():
    w = mg.ones(2, requires_grad=True)
    f = mg.jit(lambda x: {"x": x, "w": w, "both": [x, w], "new": x + w})
    for _ in range(2):
        x = mg.zeros(2)
        r = f(x)
        assert r["x"] is x and r["w"] is w
        assert r["both"][0] is x and r["both"][1] is w
        assert r["new"].tolist() == [1, 1]


def test_results_are_new_at_each_call():
    f = mg.jit(lambda x: x + 1)
    a, b = f(mg.zeros(2)), f(mg.ones(2))
    assert a.tolist() == [1, 1] and b.tolist() == [2, 2]
    a.add_(5)
    assert f(mg.zeros(2)).tolist() == [1, 1]


def test_one_value_returned_twice():
    def twice(x):
        y = x + 1
        return y, y

    a, b = mg.jit(twice)(mg.zeros(2))
    assert a.tolist() == b.tolist() == [1, 1]


def test_views_of_arguments_returned():
    f = mg.jit(lambda x: (x[0], x.t(), x.reshape(-1)))
    for k in (1, 2):
        x = mg.arange(6.0).reshape(2, 3) * k
        first, turned, flat = f(x)
        assert first.tolist() == [0, k, 2 * k]
        same(turned, x.t())
        same(flat, x.reshape(-1))


def test_structures_go_in_and_come_out():
    f, captures = counted(
        lambda data, *, scale, extra=None: {
            "sum": data["a"] + data["b"][0],
            "pair": (data["b"][1] * scale["k"], None),
            "name": "fixed",
            "number": 3,
        }
    )
    for k in (1.0, 2.0):
        t = mg.full((2,), k)
        r = f({"a": t, "b": [t * 10, t * 100]}, scale={"k": t})
        assert r["sum"].tolist() == [11 * k] * 2
        assert r["pair"][0].tolist() == [100 * k * k] * 2
        assert (r["pair"][1], r["name"], r["number"]) == (None, "fixed", 3)
    assert len(captures) == 1


def test_another_structure_is_captured_again():
    f, captures = counted(lambda data: sum(data))
    t = mg.ones(2)
    assert f([t, t]).tolist() == [2, 2]
    assert f([t, t, t]).tolist() == [3, 3]
    assert f((t, t)).tolist() == [2, 2]
    assert len(captures) == 3
    assert f.recompiles == ["the arguments have another structure"] * 2
    f([t, t])
    assert len(captures) == 3


def test_numpy_arrays_are_arguments_like_tensors():
    f, captures = counted(lambda x: x * 2)
    assert f(np.ones(3, np.float32)).tolist() == [2] * 3
    assert f(np.zeros(3, np.float32)).tolist() == [0] * 3
    assert len(captures) == 1


@pytest.mark.parametrize("shape", [(), (1,), (0,), (3, 0, 2)])
def test_scalars_and_empty_tensors(shape):
    f = mg.jit(lambda x: (x * 2 + 1, x.sum(), x.reshape(-1).sum(0), x.exp()))
    for k in (1.0, 2.0):
        x = mg.full(shape, k)
        for a, b in zip(f(x), (x * 2 + 1, x.sum(), x.reshape(-1).sum(0), x.exp())):
            assert tuple(a.shape) == tuple(b.shape)
            close(a, b)


def test_integer_and_bool_results():
    def f(x):
        return x.argmax(), x > 1, (x > 1).any(), (x * 2).to(mg.int32), x.long() // 2, ~(x > 2)

    x = mg.tensor([0.0, 3.0, 2.0, -1.5])
    for a, b in zip(mg.jit(f)(x), f(x)):
        assert a.dtype is b.dtype
        same(a, b)


def test_modules_and_methods_are_functions():
    class Model:
        def __init__(self, k):
            self.w = mg.full((2,), k)

        @mg.jit
        def forward(self, x):
            return x * self.w

    a, b = Model(2.0), Model(3.0)
    x = mg.ones(2)
    for _ in range(2):
        assert a.forward(x).tolist() == [2, 2]
        assert b.forward(x).tolist() == [3, 3]
    net = nn.Linear(3, 2)
    f = mg.jit(net)
    x = mg.randn(4, 3)
    close(f(x), net(x))
    with mg.no_grad():
        net.weight.zero_()
        net.bias.fill_(2)
    assert f(x).tolist() == [[2, 2]] * 4
    assert f.__name__ == "Linear"


# Numbers, static arguments


def test_numbers_become_inputs_once_they_change():
    f, captures = counted(lambda x, k: x * k)
    x = mg.ones(2)
    assert [f(x, k).tolist()[0] for k in (2.0, 2.0, 3.0, 4.0, 5.5)] == [2, 2, 3, 4, 5.5]
    assert len(captures) == 2


def test_integers_become_inputs_too_and_keep_their_dtype():
    f, captures = counted(lambda x, k: x + k)
    x = mg.arange(3)
    for k in (1, 2, 3, 2**40):
        r = f(x, k)
        assert r.dtype is mg.int64
        assert r.tolist() == [k, k + 1, k + 2]
    assert len(captures) == 2
    assert f(x, 0.5).tolist() == [0.5, 1.5, 2.5]


def test_numbers_weak_when_live_do_not_promote():
    f = mg.jit(lambda x, k: x * k)
    x = mg.ones(2, dtype=mg.bfloat16)
    y = mg.ones(2, dtype=mg.float64)
    for k in (2.0, 3.0, 4.0):
        assert f(x, k).dtype is mg.bfloat16
        assert f(y, k).dtype is mg.float64
        assert f(mg.ones((), dtype=mg.float16), k).dtype is mg.float16


def test_live_numbers_keep_their_precision():
    f = mg.jit(lambda x, k: x * k)
    x = mg.ones(1, dtype=mg.float64)
    for k in (0.1, 0.2, 1 / 3):
        assert f(x, k).item() == k


def test_a_number_whose_value_is_needed_stays_static():
    f, captures = counted(lambda x, n: sum(x * k for k in range(n)))
    x = mg.ones(2)
    assert [f(x, n).tolist()[0] for n in (2, 3, 4, 3)] == [1, 3, 6, 3]
    assert f(x, 4).tolist() == [6, 6]


def test_static_arguments_specialise():
    seen = []

    def f(x, n, mode="a"):
        seen.append((n, mode))
        return x * n if mode == "a" else x + n

    g = mg.jit(f, static_argnums=1, static_argnames="mode")
    x = mg.ones(1)
    assert [g(x, n).item() for n in (2, 3, 2, 3)] == [2, 3, 2, 3]
    assert seen == [(2, "a"), (3, "a")]
    assert g(x, 2, mode="b").item() == 3
    assert len(seen) == 3
    assert g.recompiles == [
        "argument 1 changed from 2 to 3",
        "the arguments have another structure",
    ]


def test_schedules_are_read_live():
    w = mg.tensor([1.0], requires_grad=True)
    optimizer = optim.SGD([w], lr=1.0)
    schedule = optim.lr_scheduler.StepLR(optimizer, 1, 0.5)

    def step():
        optimizer.zero_grad()
        w.sum().backward()
        optimizer.step()

    f, captures = counted(step)
    for expected in (0.0, -0.5, -0.75, -0.875):
        f()
        schedule.step()
        assert w.item() == expected
    assert len(captures) == 1


@pytest.mark.parametrize("dtype", [mg.float32, mg.float64])
def test_live_scalars_act_as_the_python_numbers_that_they_are(dtype):
    rate = {"a": 0.1, "b": 0.3}
    x = mg.tensor([1.1, 2.2, 3.3], dtype=dtype)
    whole = mg.tensor([1, 2, 3])
    read = rate.get  # the dict itself would be seen

    def f(x):
        a, b = (live_scalar(partial(read, key)) for key in "ab")
        product = a * b
        return x * a, x - product / 3, x[0] * a, whole * b, x / (1 - a * 0.5), whole + (a + b)

    g, captures = counted(f)
    for _ in range(3):
        for mine, other in zip(g(x), f(x), strict=True):
            assert mine.dtype is other.dtype
            same(mine, other)
        rate["a"], rate["b"] = rate["a"] / 3, rate["b"] + 0.7
    assert len(captures) == 1
