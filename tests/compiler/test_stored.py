"""Plans on disk: a graph that was planned before is not planned again, and runs the same."""

import subprocess
import sys

import numpy as np
import pytest

import monograph as mg
import monograph.nn.functional as F
from monograph.compiler import pipeline, stored
from monograph.ir.graph import Graph
from monograph.ir.op import Aval, Elementwise
from monograph.runtime import cache


@pytest.fixture
def kept(monkeypatch, tmp_path):
    """Plans are stored, in a directory of the test's own."""
    monkeypatch.setenv("MONOGRAPH_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(stored, "enabled", True)
    return tmp_path


def refuse(*_):
    raise AssertionError("planned again")


def networks():
    """name -> (function, arguments): programs with parts of every kind."""
    x, w = mg.randn(8, 16), mg.randn(16, 16)
    table = mg.randn(10, 16)
    ids = mg.tensor([1, 9, 3, 3])

    def products(x, w):
        return F.softmax(F.gelu(x @ w), -1).sum(0)

    def loop(x, w):
        return mg.scan(lambda h, r: (mg.tanh(h @ w + r),) * 2, mg.zeros(16), x)

    def host(x, w):
        return mg.linalg.eigvalsh(x.T @ x).sum() + mg.exp(w).sum()

    def literals(x, w):
        return mg.where(x > 0.5, x * 2, mg.arange(16)) + mg.tensor([0.0, 1.0] * 8)

    def branch(x, w):
        return mg.cond(x.sum() > 0, lambda a: a * 2, lambda a: a - 1, x)

    return {
        "products": (products, (x, w)),
        "loop": (loop, (x, w)),
        "host": (host, (x, w)),
        "literals": (literals, (x, w)),
        "branch": (branch, (x, w)),
        "rows": (lambda t, i: F.embedding(i, t), (table, ids)),
    }


@pytest.mark.parametrize("name", list(networks()))
def test_a_known_graph_is_not_planned_again_and_gives_the_same(name, kept, monkeypatch):
    f, args = networks()[name]
    first = mg.jit(f)(*args)
    monkeypatch.setattr(pipeline, "run_passes", refuse)
    monkeypatch.setattr(pipeline, "plan", refuse)
    again = mg.jit(f)(*args)
    flat = [r if isinstance(r, tuple) else (r,) for r in (first, again)]
    for a, b in zip(*flat):
        np.testing.assert_array_equal(a.numpy(), b.numpy())


def test_a_training_step_from_a_stored_plan_trains_the_same(kept, monkeypatch):
    def train():
        mg.manual_seed(3)
        model = mg.nn.Sequential(mg.nn.Linear(6, 32), mg.nn.Tanh(), mg.nn.Linear(32, 3))
        optimizer = mg.optim.Adam(model.parameters(), lr=0.01)
        x, y = mg.randn(16, 6), mg.randint(3, (16,))

        @mg.jit
        def step(x, y):
            loss = F.cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            return loss

        return [step(x, y).item() for _ in range(4)]

    losses = train()
    monkeypatch.setattr(pipeline, "plan", refuse)
    assert train() == losses
    assert losses[-1] < losses[0]


def test_what_depends_on_weights_alone_is_computed_from_a_stored_plan_too(kept, monkeypatch):
    model = mg.nn.Sequential(mg.nn.Conv2d(3, 32, 3), mg.nn.BatchNorm2d(32)).eval()
    x = mg.randn(2, 3, 8, 8)

    def infer():
        with mg.no_grad():
            return mg.jit(model)(x).numpy()

    first = infer()
    monkeypatch.setattr(pipeline, "plan", refuse)
    np.testing.assert_array_equal(infer(), first)


def test_kernels_of_a_stored_plan_can_be_looked_at(kept):
    f, args = networks()["products"]

    def texts():
        report = mg.explain(mg.jit(f), *args)
        return [str(report.kernel(i)) for i in range(len(report.rows))]

    fresh = texts()
    assert fresh and texts() == fresh


def test_kernels_of_a_tuned_plan_are_those_that_were_tuned(kept):
    x, w = mg.randn(48, 300), mg.randn(300, 500)

    def texts():
        report = mg.explain(mg.jit(lambda x: x @ w, autotune=True), x)
        return [str(report.kernel(i)) for i in range(len(report.rows))]

    fresh = texts()
    assert fresh and texts() == fresh


def test_the_next_process_plans_nothing_and_does_not_even_import_what_plans(kept):
    program = (
        "import sys, monograph as mg\n"
        "mg.manual_seed(0)\n"
        "x = mg.arange(4096.0).reshape(64, 64) / 4096\n"
        "f = mg.jit(lambda x: mg.tanh(x @ x).sum())\n"
        "planners = ['monograph.compiler.pipeline', 'monograph.compiler.kernels']\n"
        "print(f(x).item(), *(m in sys.modules for m in planners))\n"
    )
    path = kept / "program.py"
    path.write_text(program)
    runs = [
        subprocess.run([sys.executable, str(path)], capture_output=True, text=True, check=True)
        for _ in range(2)
    ]
    (first, *planned), (second, *again) = (r.stdout.split() for r in runs)
    assert first == second
    assert planned == ["True", "True"] and again == ["False", "False"]


def graph_of(op, shape=(3,)):
    graph = Graph()
    graph.outputs = [graph.add(op, graph.input(Aval(shape, mg.float32)))]
    return graph


def test_keys_tell_shapes_parameters_and_options_apart(kept):
    from monograph.ops.movement import Reshape, Sum

    keys = [
        stored.key_of(graph_of(Sum((0,)), (2, 3))),
        stored.key_of(graph_of(Sum((1,)), (2, 3))),
        stored.key_of(graph_of(Sum((0,)), (3, 3))),
        stored.key_of(graph_of(Reshape((6,)), (2, 3))),
        stored.key_of(graph_of(Sum((0,)), (2, 3)), {0: 0}),
    ]
    assert None not in keys and len(set(keys)) == len(keys)
    assert stored.key_of(graph_of(Sum((0,)), (2, 3))) == keys[0]


def test_what_text_does_not_tell_is_not_stored(kept):
    from dataclasses import dataclass

    @dataclass(frozen=True)
    class Mine(Elementwise):  # an op of another package
        def reference(self, x):
            return x

    graph = Graph()
    big = graph.constant(np.zeros(1 << 20, np.float32), Aval((1 << 20,), mg.float32))
    graph.outputs = [big]
    assert stored.key_of(graph) is None
    assert stored.key_of(graph_of(Mine())) is None


def test_a_damaged_plan_is_made_again(kept):
    f, args = networks()["products"]
    expected = mg.jit(f)(*args).numpy()
    for path in kept.iterdir():
        key = path.name.removesuffix(".o")
        if b"monograph.compiler" in (cache.load(key) or b""):
            cache.store(key, b"\x80\x05no plan.")
    np.testing.assert_array_equal(mg.jit(f)(*args).numpy(), expected)


def test_a_plan_names_nothing_but_this_package_and_numpy(kept):
    import pickle

    cache.store("ab" * 32, pickle.dumps(subprocess.Popen))
    assert stored.load("ab" * 32, refuse) is None
