"""`mg.jit`: guards, random numbers, captures in captures, threads."""

import logging
import threading

import numpy as np
from jit_helpers import close, counted, same

import monograph as mg
from monograph import nn
from monograph.nn import functional as F

# Guards


def test_shapes_dtypes_and_gradients_are_guarded_with_a_reason(caplog):
    f, captures = counted(lambda x: x * 2)
    with caplog.at_level(logging.INFO, logger="monograph.jit"):
        f(mg.ones(2))
        f(mg.ones(3))
        f(mg.ones(3, dtype=mg.float64))
        f(mg.ones(3, dtype=mg.float64, requires_grad=True))
        with mg.no_grad():
            f(mg.ones(3, dtype=mg.float64, requires_grad=True))
    assert f.recompiles == [
        "argument 0: shape changed from (2,) to (3,)",
        "argument 0: dtype changed from float32 to float64",
        "argument 0: requires_grad changed from False to True",
        "grad mode changed from True to False",
    ]
    assert [r.message for r in caplog.records] == [
        f"wrapped: captured again: {reason}" for reason in f.recompiles
    ]
    assert len(captures) == 5
    f(mg.ones(2))
    f(mg.ones(3))
    assert len(captures) == 5


def test_train_and_eval_are_guarded():
    net = nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.5))
    f, captures = counted(net)
    x = mg.ones(2, 3)
    f(x)
    net.eval()
    close(f(x), net(x))
    assert len(captures) == 2
    assert "training" in f.recompiles[0] and "True to False" in f.recompiles[0]
    net.train()
    f(x)
    net.eval()
    f(x)
    assert len(captures) == 2


# Random numbers


def test_random_numbers_are_fresh_and_those_of_eager():
    def f(n):
        return mg.rand(4), mg.randn(n), F.dropout(mg.ones(8), 0.5), mg.randint(0, 100, (5,))

    g = mg.jit(f, static_argnums=0)
    mg.manual_seed(7)
    eager = [f(3) for _ in range(4)]
    mg.manual_seed(7)
    captured = [g(3) for _ in range(4)]
    for row, other in zip(eager, captured):
        for a, b in zip(row, other):
            close(b, a, rtol=1e-6, atol=1e-7)
    assert captured[1][0].tolist() != captured[2][0].tolist()
    after = mg.rand(3)
    mg.manual_seed(7)
    for _ in range(4):
        f(3)
    same(after, mg.rand(3))


def test_generators_of_ones_own_advance_under_capture():
    a, b = mg.Generator().manual_seed(1), mg.Generator().manual_seed(1)
    f = mg.jit(lambda: mg.rand(3, generator=a))
    for _ in range(4):
        same(f(), mg.rand(3, generator=b))


# Nested captures, threads


def test_jit_inside_jit_is_one_program():
    inner, captures = counted(lambda x: x * 2)
    outer = mg.jit(lambda x: inner(x) + inner(x + 1))
    assert outer(mg.ones(2)).tolist() == [6, 6]
    assert outer(mg.zeros(2)).tolist() == [2, 2]
    assert len(inner.captures) == 0 and len(captures) == 2
    assert inner(mg.ones(2)).tolist() == [2, 2]


def test_several_threads_call_one_function():
    state = mg.zeros(64)
    f = mg.jit(lambda x: (state.add_(1), (x @ x).sum() + x.exp().sum())[1])
    x = [mg.randn(32, 32) * 0.1 * (k + 1) for k in range(4)]
    expected = [((a @ a).sum() + a.exp().sum()).item() for a in x]
    failures = []

    def work(k):
        for _ in range(20):
            got = f(x[k]).item()
            if not np.isclose(got, expected[k], rtol=1e-3, atol=1e-3):
                failures.append((k, got, expected[k]))

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not failures
    assert state.tolist() == [80] * 64


def test_several_threads_capture_at_once():
    functions = [mg.jit(lambda x, k=k: (x * k).sum()) for k in range(4)]
    results = {}

    def work(k):
        results[k] = [functions[k](mg.ones(100)).item() for _ in range(5)]

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert results == {k: [100.0 * k] * 5 for k in range(4)}


def test_a_number_that_some_function_refuses_as_a_tensor_stays_static():
    f = mg.jit(lambda x, p, flag, name: F.dropout(x, p) * (2 if flag else 3) + len(name))
    x = mg.zeros(4)
    for p, flag, name in ((0.1, True, "a"), (0.2, False, "bb"), (0.3, True, "ccc")):
        assert f(x, p, flag, name).tolist() == [len(name)] * 4
    assert f(x, 1, 2, "d").tolist() == [1] * 4


def test_numbers_of_numpy_and_numbers_beyond_int64():
    f = mg.jit(lambda x, k: x * k)
    x = mg.ones(1)
    assert [f(x, np.float32(k)).item() for k in (1.5, 2.5, 3.5)] == [1.5, 2.5, 3.5]
    assert [f(x, np.int64(k)).item() for k in (1, 2, 3)] == [1, 2, 3]
    assert [f(x, k).item() for k in (1, 2, 2**70, 3)] == [1, 2, 2**70, 3]
    assert f(x, np.float32(2)).dtype is mg.float32


def test_a_thousand_operations_in_a_row():
    w = mg.tensor([0.5, 1.5], requires_grad=True)

    def f(x):
        for _ in range(500):
            x = x + (w - x) * 0.01
        return x.sum()

    x = mg.tensor([1.0, 2.0])
    loss = mg.jit(f)(x)
    loss.backward()
    mine, w.grad = w.grad, None
    expected = f(x)
    expected.backward()
    np.testing.assert_allclose(loss.item(), expected.item(), rtol=1e-6)
    np.testing.assert_allclose(mine.numpy(), w.grad.numpy(), rtol=1e-5)
