"""autograd.graph: hooks for what nodes keep, nodes, hooks on many tensors; Hessian products."""

import numpy as np
import pytest

import monograph as mg
from monograph import nn
from monograph.core.errors import ArgumentTypeError, GradError, ShapeError

graph = mg.autograd.graph


def torch_of():
    return pytest.importorskip("torch", reason="PyTorch is the oracle of this test")


X = np.random.default_rng(0).standard_normal((4, 8))


def network(m):
    """A small network with the same weights in both libraries."""
    layers = m.nn.Sequential(
        m.nn.Linear(8, 16), m.nn.GELU(), m.nn.LayerNorm(16), m.nn.Linear(16, 3)
    )
    layers = layers.double()
    random = np.random.default_rng(1)
    with m.no_grad():
        for p in layers.parameters():
            p.copy_(m.tensor(random.standard_normal(tuple(p.shape)) * 0.3))
    return layers


def test_packed_values_are_unpacked_for_the_gradient():
    def run(m):
        model, x = network(m), m.tensor(X)
        calls = []

        def pack(t):
            calls.append("pack")
            return t.detach().numpy().copy()

        def unpack(a):
            calls.append("unpack")
            return m.tensor(a)

        with m.autograd.graph.saved_tensors_hooks(pack, unpack):
            loss = model(x).square().sum()
        packed = len(calls)
        assert packed > 4 and set(calls) == {"pack"}
        loss.backward()
        assert "unpack" in calls[packed:]
        return [loss.item(), *(p.grad for p in model.parameters())]

    mine, theirs = run(mg), run(torch_of())
    assert mine[0] == pytest.approx(theirs[0], rel=1e-12)
    for a, b in zip(mine[1:], theirs[1:]):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-10)


def test_what_is_unpacked_is_what_the_gradient_sees():
    x = mg.tensor([2.0, 3.0], requires_grad=True)
    with graph.saved_tensors_hooks(lambda t: t, lambda t: t * 10):
        y = x * x
    y.sum().backward()
    assert x.grad.tolist() == [40.0, 60.0]


def test_the_inner_hooks_count_and_end_with_their_block():
    x, said = mg.tensor([2.0], requires_grad=True), []

    def note(name):
        return lambda t: said.append(name) or t

    with graph.saved_tensors_hooks(note("outer"), note("outer back")):
        with graph.saved_tensors_hooks(note("inner"), note("inner back")):
            a = x.exp()
        b = x.exp()
    (a + b + x.exp()).sum().backward()
    assert sorted(said) == ["inner", "inner back", "outer", "outer back"]


def test_hooks_apply_to_functions_of_ones_own():
    class Cube(mg.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x * x * x

        @staticmethod
        def backward(ctx, g):
            (x,) = ctx.saved_tensors
            return 3 * x * x * g

    x, packed = mg.tensor([2.0], requires_grad=True), []
    with graph.saved_tensors_hooks(lambda t: packed.append(t.item()) or t, lambda t: t):
        y = Cube.apply(x)
    y.backward()
    assert x.grad.tolist() == [12.0] and 2.0 in packed


def test_second_derivatives_through_packed_values():
    x = mg.tensor([2.0], requires_grad=True)
    with graph.save_on_cpu(pin_memory=True):
        y = (x**3).sum()
        (g,) = mg.autograd.grad(y, x, create_graph=True)
    g.sum().backward()
    assert x.grad.item() == pytest.approx(12.0)


def test_training_with_packed_values_is_training():
    def run(packed):
        mg.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(),
                              nn.Linear(4 * 36, 3))  # fmt: skip
        x = mg.randn(5, 1, 8, 8)
        hooks = graph.saved_tensors_hooks(lambda t: t.numpy().copy(), lambda a: mg.tensor(a))
        if packed:
            with hooks:
                loss = nn.functional.cross_entropy(model(x), mg.tensor([0, 1, 2, 0, 1]))
        else:
            loss = nn.functional.cross_entropy(model(x), mg.tensor([0, 1, 2, 0, 1]))
        loss.backward()
        return [p.grad.numpy() for p in model.parameters()]

    for a, b in zip(run(True), run(False)):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_saved_tensors_may_be_changed_where_that_is_allowed():
    x = mg.tensor([2.0, 5.0], requires_grad=True)
    with graph.allow_mutation_on_saved_tensors():
        h = x * 1
        y = (h * h).sum()
        h.zero_()
    y.backward()
    assert x.grad.tolist() == [4.0, 10.0]


def test_hooks_can_be_refused():
    with graph.disable_saved_tensors_hooks("not in here"):
        with pytest.raises(GradError, match="not in here"):
            with graph.save_on_cpu():
                pass
    with graph.save_on_cpu():
        pass


def test_wrong_hooks_are_named():
    with pytest.raises(ArgumentTypeError, match="pack_hook must be a function, got int"):
        graph.saved_tensors_hooks(1, lambda t: t)
    x = mg.tensor([2.0], requires_grad=True)
    with graph.saved_tensors_hooks(lambda t: t, lambda t: 3):
        y = x.exp() * x
    with pytest.raises(ArgumentTypeError, match="unpack_hook must give a tensor, got int"):
        y.backward()


def test_nodes_have_names_and_lead_to_the_leaves():
    x = mg.tensor([2.0], requires_grad=True)
    y = (x * 3).exp()
    assert isinstance(y.grad_fn, graph.Node)
    names = []
    stack = [y.grad_fn]
    while stack:
        node = stack.pop()
        names.append(node.name())
        stack += [n for n, _ in node.next_functions if n is not None]
    assert names == ["ExpBackward", "MulBackward", "AccumulateGrad"]
    assert node.variable is x
    edge = graph.get_gradient_edge(y)
    assert edge.node is y.grad_fn and edge.output_nr == 0
    assert graph.get_gradient_edge(x).node.variable is x


def test_a_changed_version_fails_the_gradient():
    x = mg.tensor([2.0], requires_grad=True)
    h = x * 1
    y = h * h
    graph.increment_version(h)
    with pytest.raises(GradError, match="was changed in place"):
        y.backward()


@pytest.mark.parametrize("mode", ["all", "any"])
def test_one_hook_for_many_tensors_is_called_once_per_backward(mode):
    def run(m):
        x, y = (m.tensor(v, requires_grad=True) for v in (2.0, 3.0))
        said = []
        handle = m.autograd.graph.register_multi_grad_hook((x, y), said.append, mode=mode)
        (x * y).backward()
        (x * x).backward()
        (x * y * y).backward()
        handle.remove()
        (x * y).backward()
        return said

    mine = run(mg)
    assert len(mine) == 3
    if mode == "all":
        values = [[g if g is None else g.item() for g in call] for call in mine]
        assert values == [[3.0, 2.0], [4.0, None], [9.0, 12.0]]
    assert len(run(torch_of())) == 3


@pytest.mark.parametrize("name", ["hvp", "vhp"])
def test_products_with_the_hessian(name):
    a, b = X[:2, :3], X[2:, :3]
    v = (np.ones_like(a), np.arange(6.0).reshape(2, 3))

    def run(m):
        def f(x, y):
            return (x.sin() * y * y).sum() + (x.t() @ y).square().sum()

        inputs = tuple(m.tensor(t) for t in (a, b))
        out, found = getattr(m.autograd.functional, name)(f, inputs, tuple(map(m.tensor, v)))
        return [out, *found]

    for mine, theirs in zip(run(mg), run(torch_of())):
        np.testing.assert_allclose(mine.numpy(), theirs.numpy(), rtol=1e-10)


def test_a_product_with_the_hessian_checks_its_vector():
    with pytest.raises(ShapeError, match=r"hvp: input 0 has shape \(2,\), its part of v \(3,\)"):
        mg.autograd.functional.hvp(lambda x: (x * x).sum(), mg.ones(2), mg.ones(3))


def test_nan_is_let_through_where_anomaly_mode_does_not_check_it():
    x = mg.tensor([0.0], requires_grad=True)
    with mg.autograd.detect_anomaly(check_nan=False):
        (x.sqrt() * 0).sum().backward()
    assert np.isnan(x.grad.item())
    with pytest.raises(GradError, match="has nan"), mg.autograd.set_detect_anomaly(True):
        (x.sqrt() * 0).sum().backward()
    with mg.autograd.set_multithreading_enabled(False):
        pass
