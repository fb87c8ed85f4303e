"""Shaping, joining, indices, sorting: values, dtypes and gradients against PyTorch; the same under
capture (the graph's slow meaning) and under vmap (against a loop)."""

import numpy as np
import pytest

import monograph as mg
import monograph.nn.functional as mgF
from monograph.ir.evaluate import evaluate
from monograph.transform.trace import trace_graph

torch = pytest.importorskip("torch", reason="PyTorch is the oracle of these tests")


def F(m):
    return m.nn.functional if m is torch else mgF


def floats(*shape):
    return ("float", shape)


def ints(high, *shape):
    return ("int", shape, high)


def bools(*shape):
    return ("bool", shape)


def distinct(high, *shape):
    return ("distinct", shape, high)


def make(spec, seed):
    rng = np.random.default_rng(seed)
    kind, shape = spec[0], spec[1]
    if kind == "float":
        return rng.normal(size=shape)
    if kind == "int":
        return rng.integers(0, spec[2], shape)
    if kind == "distinct":
        return rng.permutation(spec[2])[: int(np.prod(shape))].reshape(shape)
    return rng.uniform(size=shape) < 0.5


CASES = {
    "reshape": (lambda m, x: x.reshape(3, -1), floats(2, 3, 4)),
    "flatten": (lambda m, x: x.flatten(1, 2), floats(2, 3, 4)),
    "ravel": (lambda m, x: m.ravel(x), floats(2, 3)),
    "unflatten": (lambda m, x: x.unflatten(1, (2, -1)), floats(2, 6)),
    "squeeze": (lambda m, x: (x.squeeze(), x.squeeze(1), x.squeeze((0, 2))), floats(1, 3, 1)),
    "unsqueeze": (lambda m, x: (x.unsqueeze(0), x.unsqueeze(-1)), floats(2, 3)),
    "permute": (lambda m, x: (x.permute(2, 0, 1), m.permute(x, (0, 2, 1))), floats(2, 3, 4)),
    "transpose": (lambda m, x: (x.transpose(0, -1), m.swapaxes(x, 1, 2), x.mT), floats(2, 3, 4)),
    "t": (lambda m, x: (x.t(), x.T), floats(2, 3)),
    "movedim": (lambda m, x: (x.movedim(0, -1), x.movedim((0, 1), (2, 0))), floats(2, 3, 4)),
    "expand": (lambda m, x: (x.expand(4, 2, 3), x.expand(2, -1)), floats(2, 3)),
    "expand size one": (lambda m, x: x.expand(2, 5, 3), floats(2, 1, 3)),
    "broadcast_to": (lambda m, x: m.broadcast_to(x, (4, 3)), floats(3)),
    "broadcast_tensors": (lambda m, x, y: m.broadcast_tensors(x, y), floats(3, 1), floats(4)),
    "repeat": (lambda m, x: x.repeat(2, 1, 3), floats(2, 3)),
    "tile": (lambda m, x: (m.tile(x, (2,)), m.tile(x, (2, 1, 2))), floats(2, 3)),
    "repeat_interleave": (
        lambda m, x: (
            m.repeat_interleave(x, 2),
            x.repeat_interleave(2, 1),
            m.repeat_interleave(x, m.tensor([2, 0, 1]), dim=1),
        ),
        floats(2, 3),
    ),
    "narrow": (lambda m, x: (x.narrow(1, 1, 2), x.narrow(1, -2, 2)), floats(2, 4)),
    "select": (lambda m, x: (x.select(1, 0), x.select(0, -1)), floats(2, 4)),
    "split": (lambda m, x: (*x.split(2, 1), *x.split([1, 4], 1)), floats(2, 5)),
    "chunk": (lambda m, x: (*x.chunk(3, 1), *x.chunk(2, 0)), floats(2, 5)),
    "tensor_split": (
        lambda m, x: (*x.tensor_split(3, 1), *x.tensor_split((1, 3, 9), 1)),
        floats(2, 5),
    ),
    "unbind": (lambda m, x: x.unbind(1), floats(2, 3)),
    "cat": (lambda m, x, y: (m.cat((x, y, x), 1), m.cat([x, x])), floats(2, 3), floats(2, 4)),
    "cat promotes": (lambda m, x, y: m.cat((x, y), 1), floats(2, 3), ints(5, 2, 4)),
    "stack": (lambda m, x, y: (m.stack((x, y)), m.stack((x, y), -1)), floats(2, 3), floats(2, 3)),
    "hstack": (lambda m, x, y: m.hstack((x, y)), floats(2, 3), floats(2, 1)),
    "vstack": (lambda m, x, y: m.vstack((x, y)), floats(3), floats(2, 3)),
    "dstack": (lambda m, x, y: m.dstack((x, y)), floats(3), floats(3)),
    "flip": (lambda m, x: (x.flip(0, 1), m.fliplr(x), m.flipud(x)), floats(2, 3)),
    "roll": (
        lambda m, x: (m.roll(x, 2), x.roll(-1, 1), x.roll((1, 2), (0, 1)), m.roll(x, 5, 0)),
        floats(2, 3),
    ),
    "rot90": (lambda m, x: tuple(m.rot90(x, k) for k in range(-1, 4)), floats(2, 3)),
    "tril": (lambda m, x: tuple(x.tril(d) for d in (-2, -1, 0, 1, 3)), floats(2, 3, 4)),
    "triu": (lambda m, x: tuple(x.triu(d) for d in (-2, -1, 0, 1, 3)), floats(2, 3, 4)),
    "diag of a vector": (lambda m, x: (m.diag(x), m.diag(x, 1), m.diag(x, -2)), floats(3)),
    "diag of a matrix": (lambda m, x: (m.diag(x), m.diag(x, 1), m.diag(x, -2)), floats(3, 4)),
    "diagonal": (
        lambda m, x: (x.diagonal(0, 1, 2), x.diagonal(1, -1, 0), x.diagonal(-1, 0, 1)),
        floats(2, 3, 4),
    ),
    "diag_embed": (lambda m, x: (m.diag_embed(x, 1), m.diag_embed(x, -1, 0, 2)), floats(2, 3)),
    "diagonal_scatter": (
        lambda m, x, y: m.diagonal_scatter(x, y, 1, 0, 2), floats(3, 2, 4), floats(2, 3),
    ),
    "trace": (lambda m, x: m.trace(x), floats(3, 4)),
    "trace of integers": (lambda m, x: m.trace(x), ints(9, 3, 4)),
    "meshgrid": (
        lambda m, x, y: (*m.meshgrid(x, y, indexing="ij"), *m.meshgrid(x, y, indexing="xy")),
        floats(3), floats(2),
    ),
    "atleast": (lambda m, x: (m.atleast_1d(x), m.atleast_2d(x), m.atleast_3d(x)), floats(3)),
    "clone": (lambda m, x: x.clone(), floats(3)),
    "contiguous": (lambda m, x: x.T.contiguous(), floats(3, 2)),
    "pad constant": (
        lambda m, x: (F(m).pad(x, (1, 2)), F(m).pad(x, (0, 1, 2, 0), value=1.5),
                      F(m).pad(x, (-1, 2, 1, -1))),
        floats(2, 3, 4),
    ),
    "pad reflect": (
        lambda m, x: (F(m).pad(x, (2, 3), "reflect"), F(m).pad(x, (1, 2, 2, 1), "reflect")),
        floats(2, 3, 4),
    ),
    "pad replicate": (
        lambda m, x: (F(m).pad(x, (2, 5), "replicate"), F(m).pad(x, (1, 2, 4, 1), "replicate")),
        floats(2, 3, 4),
    ),
    "pad circular": (
        lambda m, x: (F(m).pad(x, (2, 4), "circular"), F(m).pad(x, (1, 2, 3, 1), "circular")),
        floats(2, 3, 4),
    ),
    "index_select": (lambda m, x, i: x.index_select(1, i), floats(2, 4, 3), ints(4, 5)),
    "index_add": (
        lambda m, x, i, y: x.index_add(1, i, y, alpha=0.5),
        floats(2, 4, 3), ints(4, 5), floats(2, 5, 3),
    ),
    "index_copy": (
        lambda m, x, i, y: x.index_copy(1, i, y),
        floats(2, 4, 3), distinct(4, 3), floats(2, 3, 3),
    ),
    "index_fill": (lambda m, x, i: x.index_fill(1, i, 2.0), floats(2, 4), ints(4, 2)),
    "gather": (lambda m, x, i: x.gather(1, i), floats(3, 4, 2), ints(4, 2, 5, 2)),
    "gather 1-d": (lambda m, x, i: x.gather(0, i), floats(4), ints(4, 6)),
    "scatter": (
        lambda m, x, i, y: (x.scatter(0, i, y), x.scatter(0, i, 3.0)),
        floats(5), distinct(5, 3), floats(3),
    ),
    "scatter 2-d": (
        lambda m, x, i: x.scatter(1, i.unsqueeze(0), 7.0), floats(3, 5), ints(5, 2),
    ),
    "scatter_add": (
        lambda m, x, i, y: x.scatter_add(1, i, y), floats(3, 4), ints(4, 2, 5), floats(2, 5),
    ),
    "scatter_reduce sums": (
        lambda m, x, i, y: tuple(
            x.scatter_reduce(0, i, y, reduce=r, include_self=s)
            for r in ("sum", "mean", "amax", "amin")
            for s in (True, False)
        ),
        floats(4, 3), ints(4, 5, 3), floats(5, 3),
    ),
    "scatter_reduce prod": (
        lambda m, x, i, y: x.scatter_reduce(0, i, y, reduce="prod"),
        floats(4, 3), ints(4, 5, 3), floats(5, 3),
    ),
    "take": (lambda m, x, i: m.take(x, i - 3), floats(3, 4), ints(12, 2, 2)),
    "take_along_dim": (
        lambda m, x, i: (m.take_along_dim(x, i, 1), m.take_along_dim(x, i)),
        floats(3, 4), ints(4, 1, 2),
    ),
    "embedding": (lambda m, i, w: F(m).embedding(i, w), ints(5, 2, 3), floats(5, 4)),
    "embedding with padding": (
        lambda m, i, w: F(m).embedding(i, w, padding_idx=1), ints(3, 2, 5), floats(3, 4),
    ),
    "one_hot": (lambda m, i: F(m).one_hot(i, 5), ints(5, 2, 3)),
    "masked_fill": (
        lambda m, x, b: (x.masked_fill(b, -1.0), x.masked_fill(b, m.tensor(2))),
        floats(2, 3), bools(3),
    ),
    "sort": (
        lambda m, x: (*m.sort(x, 0), *x.sort(1, descending=True), m.argsort(x, stable=True)),
        floats(4, 5),
    ),
    "sort integers stably": (
        lambda m, x: (
            *m.sort(x, dim=1, stable=True), *m.sort(x, dim=0, descending=True, stable=True)
        ),
        ints(3, 4, 6),
    ),
    "msort": (lambda m, x: m.msort(x), floats(4, 2)),
    "topk": (
        lambda m, x: (*x.topk(2), *x.topk(3, 0, largest=False), *m.topk(x, 0)), floats(4, 20),
    ),
    "kthvalue": (
        lambda m, x: (*m.kthvalue(x, 2), *m.kthvalue(x, 1, 0, keepdim=True)), floats(3, 4),
    ),
    "quantile": (
        lambda m, x: (
            m.quantile(x, 0.3), m.quantile(x, 0.5, dim=1, keepdim=True),
            *(m.quantile(x, 0.4, dim=0, interpolation=i)
              for i in ("linear", "lower", "higher", "midpoint", "nearest")),
        ),
        floats(4, 5),
    ),
    "searchsorted": (
        lambda m, x, y: (
            m.searchsorted(m.sort(x, 1).values, y),
            m.searchsorted(m.sort(x, 1).values, y, right=True),
            m.searchsorted(m.sort(x[0]).values, y, side="right"),
        ),
        ints(9, 2, 6), ints(9, 2, 3),
    ),
    "bucketize": (
        lambda m, x: (m.bucketize(x, m.tensor([-1.0, 0.0, 1.0], dtype=m.float64)),
                      m.bucketize(x, m.tensor([-1.0, 0.0, 1.0], dtype=m.float64), right=True)),
        floats(2, 5),
    ),
    "unfold": (
        lambda m, x: (x.unfold(1, 3, 1), x.unfold(-1, 2, 2), x.unfold(0, 1, 1)), floats(2, 7),
    ),
    "column_stack": (
        lambda m, x, y: (m.column_stack((x, y)), m.row_stack((y, y))), floats(3), floats(3, 2),
    ),
    "kron": (lambda m, x, y: (m.kron(x, y), m.kron(y, x)), floats(2, 3), floats(2)),
    "block_diag": (lambda m, x, y: m.block_diag(x, y, x), floats(2, 3), floats(2)),
    "cartesian_prod": (lambda m, x, y: m.cartesian_prod(x, y, x), floats(2), floats(3)),
    "diagflat": (lambda m, x: (m.diagflat(x), m.diagflat(x, -1)), floats(2, 2)),
    "diff": (
        lambda m, x, y: (m.diff(x), m.diff(x, 2, 0), m.diff(x, prepend=y, append=y)),
        floats(3, 4), floats(3, 1),
    ),
    "put": (
        lambda m, x, i, y: (x.put(i - 6, y), x.put(i, y, accumulate=True)),
        floats(2, 3), distinct(6, 2, 2), floats(2, 2),
    ),
    "select_scatter": (
        lambda m, x, y: m.select_scatter(x, y, 1, -1), floats(2, 3), floats(2),
    ),
    "slice_scatter": (
        lambda m, x, y: m.slice_scatter(x, y, 1, 1, None, 2), floats(2, 5), floats(2, 2),
    ),
    "narrow_copy": (lambda m, x: m.narrow_copy(x, 1, 1, 2), floats(2, 4)),
    "isin": (
        lambda m, x, y: (m.isin(x, y), m.isin(x, y, invert=True)), ints(5, 3, 3), ints(5, 2),
    ),
    "unravel_index": (lambda m, i: m.unravel_index(i, (2, 3, 4)), ints(24, 5)),
    "sum_to_size": (lambda m, x: (x.sum_to_size(3, 1), x.sum_to_size(2, 3, 4)), floats(2, 3, 4)),
    "combinations": (
        lambda m, x: (m.combinations(x), m.combinations(x, 3, with_replacement=True)), floats(4),
    ),
}  # fmt: skip


def tensors(m, arrays, grad):
    return [m.tensor(a, requires_grad=grad and a.dtype.kind == "f") for a in arrays]


def leaves(m, result):
    return list(result) if isinstance(result, (tuple, list)) else [result]


def assert_same(mine, theirs):
    assert len(mine) == len(theirs)
    for k, (a, b) in enumerate(zip(mine, theirs)):
        assert str(a.dtype).split(".")[1] == str(b.dtype).split(".")[1], f"output {k}"
        assert tuple(a.shape) == tuple(b.shape), f"output {k}"
        np.testing.assert_allclose(
            a.detach().numpy(), b.detach().numpy(), rtol=1e-10, atol=1e-12, err_msg=f"output {k}"
        )


def backward(m, outputs):
    used = [o for o in outputs if o.requires_grad]
    seeds = [np.random.default_rng(i).normal(size=tuple(o.shape)) for i, o in enumerate(used)]
    m.autograd.backward(used, [m.tensor(g) for g in seeds])


@pytest.mark.parametrize("name", CASES)
def test_values_and_gradients(name):
    f, *specs = CASES[name]
    arrays = [make(s, i) for i, s in enumerate(specs)]
    theirs, mine = tensors(torch, arrays, True), tensors(mg, arrays, True)
    expected, got = leaves(torch, f(torch, *theirs)), leaves(mg, f(mg, *mine))
    assert_same(got, expected)
    assert [o.requires_grad for o in got] == [o.requires_grad for o in expected]
    if not any(o.requires_grad for o in expected):
        return
    backward(torch, expected)
    backward(mg, got)
    for k, (a, b) in enumerate(zip(mine, theirs)):
        if b.grad is not None:
            np.testing.assert_allclose(
                a.grad.numpy(), b.grad.numpy(), rtol=1e-10, atol=1e-12, err_msg=f"gradient {k}"
            )


NEEDS_VALUES = {"repeat_interleave"}


@pytest.mark.parametrize("name", CASES)
def test_captured_function_means_the_same(name):
    f, *specs = CASES[name]
    arrays = [make(s, i) for i, s in enumerate(specs)]
    if name in NEEDS_VALUES:
        return
    expected = leaves(mg, f(mg, *tensors(mg, arrays, False)))
    graph, _ = trace_graph(lambda *xs: leaves(mg, f(mg, *xs)), *tensors(mg, arrays, False))
    for a, b in zip(evaluate(graph, *arrays), expected):
        np.testing.assert_allclose(a, b.numpy())


@pytest.mark.parametrize("name", CASES)
def test_compiled_function_means_the_same_with_gradients(name):
    f, *specs = CASES[name]
    if name in NEEDS_VALUES:
        return
    arrays = [make(s, i) for i, s in enumerate(specs)]

    def outputs_and_gradients(*xs):
        xs = [x.detach().requires_grad_() if x.is_floating_point() else x for x in xs]
        out = leaves(mg, f(mg, *xs))
        used = [o for o in out if o.requires_grad]
        seeds = [np.random.default_rng(i).normal(size=tuple(o.shape)) for i, o in enumerate(used)]
        wanted = [x for x in xs if x.requires_grad]
        grads = ()
        if used:
            seeds = [mg.tensor(s, dtype=o.dtype) for s, o in zip(seeds, used)]
            grads = mg.autograd.grad(used, wanted, seeds, materialize_grads=True)
        return [*(o.detach() for o in out), *grads]

    expected = outputs_and_gradients(*tensors(mg, arrays, False))
    got = mg.jit(outputs_and_gradients)(*tensors(mg, arrays, False))
    assert_same(got, expected)


@pytest.mark.parametrize("name", CASES)
def test_vmap_equals_a_loop_with_gradients(name):
    f, *specs = CASES[name]
    if name in NEEDS_VALUES:
        return
    size = 3
    stacks = [np.stack([make(s, 10 * i + b) for b in range(size)]) for i, s in enumerate(specs)]
    choices = [[True] * len(specs)]
    if len(specs) > 1:
        choices += [[k == j for k in range(len(specs))] for j in range(len(specs))]
    for batched in choices:
        arrays = [s if b else s[0] for s, b in zip(stacks, batched)]
        xs = tensors(mg, arrays, True)
        dims = tuple(0 if b else None for b in batched)
        got = leaves(mg, mg.vmap(lambda *v: tuple(leaves(mg, f(mg, *v))), in_dims=dims)(*xs))
        ys = tensors(mg, arrays, True)
        loops = []
        for b in range(size):
            loops.append(leaves(mg, f(mg, *(y[b] if on else y for y, on in zip(ys, batched)))))
        expected = [mg.stack(parts) for parts in zip(*loops)]
        assert_same(got, expected)
        if any(o.requires_grad for o in expected):
            backward(mg, got)
            backward(mg, expected)
            for k, (x, y) in enumerate(zip(xs, ys)):
                if y.grad is not None:
                    np.testing.assert_allclose(
                        x.grad.numpy(), y.grad.numpy(), rtol=1e-10, atol=1e-12,
                        err_msg=f"gradient {k}",
                    )  # fmt: skip
