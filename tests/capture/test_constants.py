"""What a captured function computes of unchanging tensors alone is computed once, and again when
they have changed in whatever way."""

import inspect
import re
import textwrap

import numpy as np
import pytest

import monograph as mg
from monograph import nn
from monograph.compiler.constant import split_constants
from monograph.compiler.executable import compile_graph
from monograph.compiler.pipeline import run_passes
from monograph.core.errors import TraceError
from monograph.ir.evaluate import evaluate
from monograph.ir.text import format_graph, parse_graph
from monograph.ir.verify import verify
from monograph.nn import functional as F
from monograph.testing import random_program
from monograph.transform.trace import trace_graph


def network():
    mg.manual_seed(3)
    model = nn.Sequential(
        nn.Conv2d(3, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU(),
        nn.Conv2d(32, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 8, 1), nn.Flatten(),
        nn.Linear(8 * 64, 40), nn.Linear(40, 5),
    )  # fmt: skip
    model(mg.randn(16, 3, 8, 8) * 2 + 1)  # running statistics
    return model.eval()


X = mg.tensor(np.random.default_rng(0).standard_normal((4, 3, 8, 8)).astype(np.float32))


def inference(model):
    @mg.jit
    def run(x):
        with mg.no_grad():
            return model(x)

    return run


def only(run):
    (captures,) = run.captures.values()
    (capture,) = captures
    return capture


def assert_same(model, run):
    with mg.no_grad():
        expected = model(X).numpy()
    np.testing.assert_allclose(run(X).numpy(), expected, rtol=1e-4, atol=1e-5)


def count_preparations(capture):
    made = []
    prepare = capture.executable.prepare

    def counted(*args):
        made.append(1)
        prepare(*args)

    capture.executable.prepare = counted
    return made


def test_weights_are_prepared_once():
    model = network()
    run = inference(model)
    assert_same(model, run)
    capture = only(run)
    made = count_preparations(capture)
    for _ in range(3):
        assert_same(model, run)
    assert not made
    assert "pack" in "".join(s.title for s in capture.executable.plan.steps[:9])
    titles = [s.title for s in capture.executable.steps]
    assert not any("pack_b" in t or "filters" in t or "copy" in t for t in titles), titles


def in_place(model):
    with mg.no_grad():
        model[3].weight.mul_(2.0)


def by_data(model):
    model[0].weight.data = model[0].weight.data * 0.5


def on_data(model):
    model[0].weight.data.mul_(-1.0)


def state(model):
    model.load_state_dict({k: v * 1.5 for k, v in model.state_dict().items()})


def assigned(model):
    model.load_state_dict({k: v * 0.5 for k, v in model.state_dict().items()}, assign=True)


def statistics(model):
    model.train()
    with mg.no_grad():
        model(X * 3)
    model.eval()


def one_element(model):
    with mg.no_grad():
        model[7].weight[2, 3] = 9.0


def through_numpy(model):
    model[3].weight.detach().numpy()[...] *= 3


def through_array(model):
    np.asarray(model[1].running_mean)[...] += 1


def through_dlpack(model):
    np.from_dlpack(model[3].weight.detach())[...] *= 3


def step(model):
    optimizer = mg.optim.SGD(model.parameters(), lr=0.1)
    model(X).square().mean().backward()
    optimizer.step()


def jitted_step(model):
    optimizer = mg.optim.SGD(model.parameters(), lr=0.1)

    @mg.jit
    def train(x):
        loss = model(x).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    train(X)


CHANGES = [in_place, by_data, on_data, state, assigned, statistics, one_element, through_numpy,
           through_array, through_dlpack, step, jitted_step]  # fmt: skip


@pytest.mark.parametrize("change", CHANGES, ids=lambda f: f.__name__)
def test_a_change_of_weights_is_noticed(change):
    model = network()
    run = inference(model)
    assert_same(model, run)
    before = run(X).numpy()
    change(model)
    assert_same(model, run)
    assert np.abs(run(X).numpy() - before).max() > 1e-3
    change(model)
    assert_same(model, run)
    assert_same(model, run)


def test_memory_that_others_hold_is_read_at_each_call():
    model = network()
    weight = np.random.default_rng(1).standard_normal((32, 32, 3, 3)).astype(np.float32)
    model[3].weight = nn.Parameter(mg.from_numpy(weight))
    held = model[7].weight.detach().numpy()
    source = mg.zeros(5)
    model[8].bias = nn.Parameter(source)
    run = inference(model)
    for _ in range(3):
        assert_same(model, run)
        weight *= 1.5
        assert_same(model, run)
        held[1] += 1
        assert_same(model, run)
        source.add_(1.0)
        assert_same(model, run)


def test_a_frozen_part_of_a_training_step():
    model, head = network(), nn.Linear(5, 2)
    for p in model.parameters():
        p.requires_grad_(False)
    optimizer = mg.optim.SGD(head.parameters(), lr=0.1)

    def step(x):
        loss = head(model(x)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    run = mg.jit(step)
    start = {k: v.clone() for k, v in head.state_dict().items()}
    losses = [run(X).item() for _ in range(3)]
    in_place(model)
    losses += [run(X).item() for _ in range(2)]
    head.load_state_dict(start)
    with mg.no_grad():
        model[3].weight.mul_(0.5)
    expected = [step(X).item() for _ in range(3)]
    in_place(model)
    expected += [step(X).item() for _ in range(2)]
    np.testing.assert_allclose(losses, expected, rtol=1e-4)
    assert only(run).executable.must_prepare


def test_weights_that_are_trained_are_read_at_each_call():
    model = network()
    run = mg.jit(lambda x: model(x))
    run(X).square().mean().backward()
    buffers = {id(b) for b in model.buffers()}  # of the normalisation
    assert {id(t) for t in only(run).fixed} <= buffers


def test_a_function_of_no_arguments_computes():
    w = mg.randn(40, 40)
    run = mg.jit(lambda: (w @ w).exp())
    run()
    assert not only(run).executable.must_prepare
    assert len(only(run).executable.steps) == 1


def test_results_of_constants_alone():
    w = mg.randn(6, 5)
    run = mg.jit(lambda x: (x + w.sum(), w.exp(), w.T, w))
    for _ in range(2):
        a, b, c, d = run(mg.ones(2))
        np.testing.assert_allclose(a.numpy(), 1 + w.numpy().sum() * np.ones(2), rtol=1e-5)
        np.testing.assert_allclose(b.numpy(), np.exp(w.numpy()), rtol=1e-5)
        np.testing.assert_array_equal(c.numpy(), w.numpy().T)
        assert d is w
        b.zero_()
        w.mul_(2.0)


def test_what_takes_more_memory_than_its_source_stays():
    scale, w = mg.rand(200, 1), mg.randint(-9, 9, (200, 100)).to(mg.int8)
    run = mg.jit(lambda x: F.linear(x, w.float() * scale))
    x = mg.randn(3, 100)
    np.testing.assert_allclose(
        run(x).numpy(), x.numpy() @ (w.numpy() * scale.numpy()).T, rtol=1e-4, atol=1e-4
    )
    first = only(run).executable.first
    assert first is None or all(v.aval.size <= 200 for v in first.source.outputs)


def test_host_steps_and_loops_beside_constants():
    w = mg.randn(5, 5) + 5 * mg.eye(5)

    def f(x):
        inverse = mg.linalg.inv(w)  # NumPy
        h, hs = mg.scan(lambda h, row: ((h @ w).tanh() + row,) * 2, mg.zeros(5), x)
        return inverse @ h, hs, mg.linalg.inv(w + x[:5])

    run = mg.jit(f)
    x = mg.randn(7, 5) * 0.1
    for _ in range(2):
        for a, b in zip(run(x), f(x)):
            np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-3, atol=1e-4)
        w.mul_(1.5)


def test_explain_shows_what_is_done_once():
    report = mg.explain(inference(network()), X, rounds=1)
    assert "once, before the first call" in str(report)
    assert "conv" in report.once and len(report.rows) == len(report.executable.steps)
    assert all(r.seconds is not None for r in report.rows)
    assert mg.explain(lambda x: x + 1, X, time=False).once == ""


def test_split_constants_does_what_its_docstring_shows():
    doc = inspect.getdoc(split_constants)
    before, after = re.search(r"^Before:(.*?)^After:(.*?)(?=^\S)", doc, re.M | re.S).groups()
    graph = parse_graph(textwrap.dedent(" " * 7 + before))
    texts = textwrap.dedent(" " * 6 + after).split("graph(")[1:]
    made = split_constants(graph, {graph.inputs[1]})
    for g, text in zip(made, texts, strict=True):
        verify(g)
        g.constants = {v: np.zeros(v.shape, v.dtype.numpy) for v in g.constants}
        assert format_graph(g) == format_graph(parse_graph("graph(" + text))


@pytest.mark.parametrize("seed", range(40))
def test_random_graphs_with_constant_inputs(seed):
    program = random_program(900 + seed, steps=16)
    graph, _ = trace_graph(program, *program.tensors())
    rng = np.random.default_rng(seed)
    steady = [i for i in range(len(graph.inputs)) if rng.random() < 0.6]
    made = compile_graph(graph, steady=steady)
    arrays = [np.array(a, order="C") for a in program.arrays]
    outs = [np.empty(v.shape, v.dtype.numpy) for v in graph.outputs]
    slots = np.array([a.ctypes.data for a in (*arrays, *outs)], np.int64)
    if made.must_prepare:
        made.prepare(slots.ctypes.data, [*arrays, *outs])
    for _ in range(2):
        made.run(arrays, outs)
        for a, b in zip(outs, evaluate(run_passes(graph), *arrays), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


def test_values_of_constants_are_known_while_a_function_is_captured():
    @mg.jit
    def others(x):
        n = len(x)
        mask = mg.ones(n, n, dtype=mg.bool).fill_diagonal_(False)
        shares = [share.item() for share in mg.linspace(0.0, 1.0, 3)]
        if mg.arange(n).sum() > n:
            x = x * shares[1]
        return (x @ x.T)[mask].view(n, -1), mg.nonzero(mask.sum(0) > 1)

    for n in (3, 4):
        x = mg.randn(n, 2)
        products = (x @ x.T).numpy() * (0.25 if n > 3 else 1.0)
        found, places = others(x)
        np.testing.assert_allclose(found, products[~np.eye(n, dtype=bool)].reshape(n, -1), 1e-6)
        assert places.tolist() == [[i] for i in range(n)]


def test_arrays_of_constants_cannot_be_written_while_a_function_is_captured():
    def f(x):
        places = mg.arange(3) * 2
        places.numpy()[0] = 1
        return x + places

    with pytest.raises(ValueError, match="read-only"):
        mg.jit(f)(mg.ones(3))
    with pytest.raises(TraceError, match="value of a f32.3. tensor is not known"):
        mg.jit(lambda x: (x * 0 + mg.arange(3)).tolist())(mg.ones(3))
