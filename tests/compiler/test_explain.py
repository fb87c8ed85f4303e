"""mg.explain: what it says is true, and saying it changes nothing."""

import numpy as np
import pytest

import monograph as mg
import monograph.nn.functional as F
from monograph import nn, optim
from monograph.compiler.explain import Explanation
from monograph.core.errors import ArgumentError, IndexRangeError


def network():
    mg.manual_seed(3)
    model = nn.Sequential(nn.Linear(12, 32), nn.ReLU(), nn.Dropout(0.5), nn.Linear(32, 4))
    optimizer = optim.Adam(model.parameters(), lr=0.01)

    def step(x, y):
        loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    r = np.random.default_rng(0)
    x = mg.tensor(r.standard_normal((16, 12)).astype(np.float32))
    return model, optimizer, step, x, mg.tensor(r.integers(0, 4, 16))


def state_of(model, optimizer):
    arrays = [p.detach().numpy().copy() for p in model.parameters()]
    for slots in optimizer.state.values():
        arrays += [np.array(v.numpy()) for v in slots.values() if isinstance(v, mg.Tensor)]
    return [*arrays, np.array(mg.get_rng_state().numpy())]


def test_the_report_names_kernels_lines_and_totals():
    w = mg.ones(24, 8)

    def f(x):
        return mg.relu(x @ w.T).sum()

    made = mg.explain(f, mg.ones(16, 8), rounds=1)
    text = str(made)
    line = f.__code__.co_firstlineno + 1
    assert f"test_explain.py:{line}" in made.table and f"# test_explain.py:{line}" in made.graph
    for part in ("graph", "groups", "kernels", "memory", "totals"):
        assert f"\n\n{part}\n" in text
    product = next(r for r in made.rows if r.title == "contract")
    assert product.flops == 2 * 16 * 24 * 8
    assert "f32[16, 8]" in product.reads and product.places[0].line == line
    assert made.seconds > 0 and all(r.seconds > 0 for r in made.rows)
    assert made.limits.flops > 1e8 and made.limits.bandwidth > 1e7
    assert "of the FMA peak" in made.totals
    assert f"arena of {made.executable.plan.arena_bytes / 1000:.4g} KB" in made.memory


def test_bytes_are_the_sizes_of_the_buffers():
    made = mg.explain(lambda x, y: x + y, mg.ones(10, 100), mg.ones(10, 100), time=False)
    (row,) = made.rows
    assert row.bytes == 3 * 4000 and row.flops == 1000
    assert row.shapes == "2x f32[10, 100] -> f32[10, 100]"


def test_without_time_nothing_runs():
    made = mg.explain(lambda x: x.exp(), mg.ones(4), time=False)
    assert made.seconds is None and made.rows[0].seconds is None and made.limits is None
    assert "GFLOP/s" not in str(made)


def test_measuring_a_training_step_changes_no_state():
    model, optimizer, step, x, y = network()
    captured = mg.jit(step)
    captured(x, y)
    before = state_of(model, optimizer)
    grads = [p.grad for p in model.parameters()]
    kept = [g.numpy().copy() for g in grads]
    mg.explain(step, x, y, rounds=2)
    mg.explain(captured, x, y, rounds=2)
    mg.explain(captured, rounds=2)
    for a, b in zip(before, state_of(model, optimizer)):
        np.testing.assert_array_equal(a, b)
    for p, g, a in zip(model.parameters(), grads, kept):
        assert p.grad is g
        np.testing.assert_array_equal(g.numpy(), a)


def test_training_goes_on_as_if_nobody_had_asked():
    losses = []
    for asked in (False, True):
        model, optimizer, step, x, y = network()
        if asked:
            mg.explain(step, x, y, rounds=1)
        run = mg.jit(step)
        losses.append([run(x, y).item() for _ in range(3)])
    assert losses[0] == losses[1]


def test_a_jitted_function_is_explained_by_its_last_capture():
    f = mg.jit(lambda x: x * 2)
    f(mg.ones(3))
    f(mg.ones(5, 7))
    made = mg.explain(f, time=False)
    assert made.note == "its last capture" and made.rows[0].writes == ("f32[5, 7]",)
    assert made.executable is list(f.captures.values())[-1][0].executable
    assert len(f.captures) == 2


def test_one_can_go_down_to_the_machine():
    made = mg.explain(lambda x: x * 2 + 1, mg.ones(64), time=False)
    assert made.kernel(0).startswith("kernel map") and made.kernel(0) in made.kernels
    assert "define" in made.llvm(0) and "fmul" in made.llvm(0)
    assert ".text" in made.assembly(0) and "ret" in made.assembly(0)


def test_an_op_in_numpy_is_a_row_of_its_own():
    made = mg.explain(lambda x: mg.sort(x * 2)[0] + 1, mg.tensor([3.0, 1.0, 2.0]), rounds=1)
    hosts = [i for i, r in enumerate(made.rows) if not hasattr(r.step, "kernel")]
    if not hosts:
        pytest.skip("sort has a kernel")
    assert "NumPy" in made.table and made.rows[hosts[0]].seconds > 0
    with pytest.raises(ValueError, match="runs in NumPy: it has no kernel"):
        made.kernel(hosts[0])


def test_kinds_add_up_to_the_whole():
    made = mg.explain(lambda x: (x @ x.T).softmax(1) @ x, mg.ones(32, 32), rounds=1)
    assert made.families.splitlines()[-1].split()[:2] == ["all", str(len(made.rows))]
    assert isinstance(made, Explanation) and "kernels" in repr(made)


def test_long_constants_are_cut():
    table = np.arange(500, dtype=np.float32)
    made = mg.explain(lambda x: x + mg.tensor(table), mg.ones(500), time=False)
    assert max(map(len, made.graph.splitlines())) < 200


def test_bad_use_is_refused():
    with pytest.raises(ArgumentError, match="explain: needs a function, got int"):
        mg.explain(3)
    with pytest.raises(IndexRangeError):
        mg.explain(lambda t, i: F.embedding(i, t), mg.ones(4, 2), mg.tensor([1, 9]))


def test_a_step_that_adds_to_the_gradient_of_its_argument_is_explained():
    x = mg.ones(50, requires_grad=True)

    @mg.jit
    def step(x):
        (x * x).sum().backward()
        return x.grad.sum()

    step(x)
    assert step(x).item() == 200.0  # adds to what the first call left
    assert "kernels" in mg.explain(step, x).totals
    assert x.grad.sum().item() == 200.0
