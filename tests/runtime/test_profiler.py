"""mg.profiler: every kernel of a call has its time, and nothing is left behind."""

import json
import threading
import time

import numpy as np
import pytest

import monograph as mg
import monograph.nn.functional as F
from monograph.api import composites, interpreter
from monograph.capture import Jit
from monograph.compiler.executable import Executable
from monograph.core.errors import ArgumentError
from monograph.profiler import (
    ProfilerActivity,
    profile,
    record_function,
    schedule,
    tensorboard_trace_handler,
)
from monograph.transform import walk


def here():
    """This file's name and the line after the caller's."""
    import sys

    return f"test_profiler.py:{sys._getframe(1).f_lineno + 1}"


def of(prof, where):
    return [e for e in prof.events() if e.where == where]


def test_kernels_of_a_jitted_call_are_those_of_explain():
    w = mg.randn(64, 64)

    @mg.jit
    def f(x):
        return F.softmax((x @ w).relu(), dim=1).sum(0)

    x = mg.randn(128, 64)
    f(x)
    with profile() as prof:
        for _ in range(3):
            f(x)
    rows = mg.explain(f, x, time=False).rows
    kernels = of(prof, "native")
    assert [e.name for e in kernels] == 3 * [r.title for r in rows]
    assert [e.flops for e in kernels] == 3 * [r.flops for r in rows]
    assert [e.bytes for e in kernels] == 3 * [r.bytes for r in rows]
    assert [e.places for e in kernels] == 3 * [r.places for r in rows]
    calls = of(prof, "Python")
    assert [e.name for e in calls] == ["f"] * 3
    for i, call in enumerate(calls):
        inner = kernels[i * len(rows) : (i + 1) * len(rows)]
        assert call.start_ns <= inner[0].start_ns and inner[-1].end_ns <= call.end_ns
        for a, b in zip(inner, inner[1:]):
            assert a.start_ns <= a.end_ns == b.start_ns
        assert call.self_ns == call.end_ns - call.start_ns - sum(e.self_ns for e in inner)


def test_times_add_up():
    f = mg.jit(lambda x: (x @ x).exp())
    x = mg.randn(300, 300)
    f(x)
    with profile() as prof:
        f(x)
        time.sleep(0.02)
    taken = sum(a.seconds for a in prof.key_averages())
    assert 0 < taken < prof.seconds - 0.019
    for by in ("kind", "line"):
        assert sum(a.seconds for a in prof.key_averages(by)) == pytest.approx(taken)
    products = [e for e in of(prof, "native") if e.flops == 2 * 300**3]
    assert products and all(e.end_ns > e.start_ns for e in products)


def test_a_longer_kernel_takes_longer():
    f = mg.jit(lambda x, y: (x @ x, y @ y))
    x, y = mg.randn(64, 64), mg.randn(1024, 1024)
    f(x, y)
    with profile() as prof:
        for _ in range(3):
            f(x, y)
    small = [e.self_ns for e in of(prof, "native") if e.flops == 2 * 64**3]
    large = [e.self_ns for e in of(prof, "native") if e.flops == 2 * 1024**3]
    assert len(small) == len(large) == 3
    assert min(large) > 10 * min(small)  # 4096 times the work


def test_numpy_steps_of_a_jitted_call_have_times():
    f = mg.jit(lambda x: mg.linalg.eigvalsh(x @ x.mT) * 2)
    x = mg.randn(20, 20)
    f(x)
    with profile() as prof:
        f(x)
    (step,) = of(prof, "NumPy")
    assert step.name == "eigh" and step.self_ns > 0
    native = of(prof, "native")
    assert any(e.end_ns <= step.start_ns for e in native)
    assert any(e.start_ns >= step.end_ns for e in native)


def test_loops_are_one_event_and_bodies_in_python_nest():
    w = mg.randn(16, 16)
    f = mg.jit(lambda x: mg.scan(lambda c, _: ((c @ w).tanh(), c.sum()), x, mg.zeros(7)))
    g = mg.jit(lambda x: mg.scan(lambda c, _: (mg.linalg.eigvalsh(c) + c, c.sum()), x, mg.zeros(7)))
    x = mg.eye(16)
    f(x), g(x)
    with profile() as prof:
        f(x)
    assert [e.name for e in of(prof, "native")].count("scan") == 1
    with profile() as prof:
        g(x)
    (loop,) = [e for e in prof.events() if e.name == "scan"]
    inner = [e for e in prof.events() if e.name == "eigh"]
    assert len(inner) == 7
    assert all(loop.start_ns <= e.start_ns and e.end_ns <= loop.end_ns for e in inner)
    assert loop.self_ns <= loop.end_ns - loop.start_ns - sum(e.self_ns for e in inner)


def test_eager_operations_and_layers_have_lines():
    x, w = mg.randn(256, 256), mg.randn(256, 256, requires_grad=True)
    for _ in range(3):  # rare kinds of calls are compiled when they come back
        F.linear(x, w).sum().backward()
    with profile() as prof:
        line = here()
        y = x[:4] + 1
        product = here()
        z = F.linear(x, w)
        z.sum().backward()
    events = prof.events()
    (add,) = [e for e in events if e.name == "add"]
    assert (add.where, add.lines, add.flops, add.bytes) == ("NumPy", [line], 1024, 8192)
    (linear,) = [e for e in events if e.name == "linear"]
    assert linear.where == "Python" and linear.lines == [product]
    inside = [e for e in of(prof, "native") if linear.start_ns <= e.start_ns < linear.end_ns]
    assert sum(e.flops for e in inside) == 2 * 256**3
    assert all(e.lines == [product] for e in inside)
    assert any(e.name == "linear backward" for e in events)
    assert any(e.name == "backward" for e in events)
    np.testing.assert_allclose(z.detach().numpy(), x.numpy() @ w.detach().numpy().T, atol=1e-3)
    assert y.shape == (4, 256)


def test_views_move_nothing():
    x = mg.randn(64, 64)
    with profile() as prof:
        x.reshape(32, 128).transpose(0, 1)
    assert len(prof.events()) == 2 and all(e.bytes == e.flops == 0 for e in prof.events())


def test_captures_and_compilation_are_seen():
    f = mg.jit(lambda x: x * 3 + 1)
    with profile() as prof:
        f(mg.ones(10))
    names = [e.name for e in of(prof, "compile")]
    assert names == ["capture <lambda>", "compile"]
    assert not [e for e in prof.events() if e.name in ("mul", "add")]  # nothing ran while capturing


def test_the_chrome_trace_loads(tmp_path):
    f = mg.jit(lambda x: (x @ x).sum())
    x = mg.randn(64, 64)
    f(x)
    with profile() as prof:
        with record_function("part"):
            f(x)
            x[0] + 1
    prof.export_chrome_trace(tmp_path / "trace.json")
    trace = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    spans = [t for t in trace if t["ph"] == "X"]
    assert len(spans) == len(prof.events())
    for t in spans:
        assert t["ts"] >= 0 and t["dur"] >= 0 and t["dur"] + t["ts"] <= prof.seconds * 1e6
    tracks = {t["tid"]: t["args"]["name"] for t in trace if t["name"] == "thread_name"}
    where = {t["name"]: tracks[t["tid"]] for t in spans}
    assert where["part"] == where["<lambda>"] == where["add"] == "Python"
    (product,) = [t for t in spans if t["args"].get("flops") == 2 * 64**3]
    assert tracks[product["tid"]] == "kernels" and product["cat"] == "native"
    assert product["args"]["bytes"] > 0 and product["args"]["lines"]


def test_tables_name_kernels_lines_and_rates():
    f = mg.jit(lambda x: x @ x)
    x = mg.randn(128, 128)
    f(x)
    with profile() as prof:
        f(x)
    head, *rows = prof.table().splitlines()
    assert head.split() == (
        "kernel where calls ms time MFLOP GFLOP/s MB GB/s roofline lines".split()
    )
    assert any("contract" in r and "4.194" in r and "test_profiler.py:" in r for r in rows)
    assert rows[-1].startswith("all")
    assert "1 more" in prof.table(row_limit=1)
    most = prof.key_averages("kind").table(sort_by="flops").splitlines()[1]
    assert most.startswith("contract")
    with pytest.raises(ArgumentError, match="sort_by must be one of .*, got 'name'"):
        prof.table(sort_by="name")
    with pytest.raises(ArgumentError, match="by must be one of .*, got 'op'"):
        prof.key_averages("op")


def test_nothing_is_left_behind():
    owners = [(Executable, "run_at"), (Executable, "__init__"), (Jit, "__call__"),
              (interpreter, "run"), (composites.Composite, "__call__"),
              (composites.CompositeNode, "pull"), (walk, "run_backward")]  # fmt: skip
    before = [getattr(o, n) for o, n in owners]
    with pytest.raises(ZeroDivisionError), profile() as prof:
        assert all(getattr(o, n) is not b for (o, n), b in zip(owners, before))
        with pytest.raises(ArgumentError, match="another profile is on"):
            profile().start()
        mg.ones(3) + 1
        raise ZeroDivisionError
    assert all(getattr(o, n) is b for (o, n), b in zip(owners, before))
    count = len(prof.events())
    mg.ones(3) + 1
    assert len(prof.events()) == count
    with prof:  # begins anew
        pass
    assert prof.events() == []


def test_results_are_the_same_bits():
    layer = mg.nn.Sequential(mg.nn.Linear(64, 64), mg.nn.GELU(), mg.nn.LayerNorm(64))
    x = mg.randn(256, 64)

    def f(x):
        layer.zero_grad()
        layer(x).sum().backward()
        return layer(x), layer[0].weight.grad.clone()

    jitted = mg.jit(f)
    plain, compiled = f(x), jitted(x)
    with profile():
        again, compiled_again = f(x), jitted(x)
    for a, b in zip((*plain, *compiled), (*again, *compiled_again)):
        np.testing.assert_array_equal(a.detach().numpy(), b.detach().numpy())


def test_threads_have_tracks_of_their_own():
    f = mg.jit(lambda x: (x @ x).sum())
    x = mg.randn(64, 64)
    f(x)
    with profile() as prof:
        threads = [threading.Thread(target=lambda: f(x)) for _ in range(2)]
        for t in threads:
            t.start()
            t.join()
        f(x)
    calls = of(prof, "Python")
    assert len(calls) == 3
    for call in calls:
        mine = [e for e in of(prof, "native") if e.thread == call.thread]
        assert mine and all(e.self_ns >= 0 for e in mine)


def test_errors_in_calls_are_raised_and_noted():
    f = mg.jit(lambda x, i: x[i] * 2)
    x = mg.randn(8, 4)
    f(x, mg.tensor([1, 2]))
    with profile() as prof:
        with pytest.raises(IndexError):
            f(x, mg.tensor([1, 20]))
    assert [e.name for e in of(prof, "Python")] == ["<lambda>"] and of(prof, "native")


def test_record_function_without_a_profile_does_nothing():
    @record_function("part")
    def f(n):
        return n if n == 0 else f(n - 1)

    assert f(3) == 0
    with profile() as prof:
        f(3)
    assert [e.name for e in of(prof, "user")] == ["part"] * 4


def test_a_schedule_says_which_steps_are_noted(tmp_path):
    ready = []
    with profile(
        activities=[ProfilerActivity.CPU],
        schedule=schedule(skip_first=1, wait=1, warmup=1, active=2, repeat=2),
        on_trace_ready=lambda p: ready.append((p.step_num, len(p.events()))),
        record_shapes=True,
    ) as prof:
        for _ in range(12):
            with record_function("work"):
                mg.ones(100) + 1
            prof.step()
    assert [step for step, _ in ready] == [5, 9]
    assert [e.name for e in prof.events() if e.where == "user"] == ["work", "work"]
    with profile(on_trace_ready=tensorboard_trace_handler(tmp_path)) as prof:
        mg.ones(100) + 1
    assert len(list(tmp_path.glob("*.pt.trace.json"))) == 1
    table = prof.key_averages(group_by_input_shape=True).table(sort_by="cpu_time_total")
    assert table.splitlines()[1:] == prof.table().splitlines()[1:]
    with pytest.raises(ArgumentError, match="active must be 1 or more"):
        schedule(active=0)
