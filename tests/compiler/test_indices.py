"""Kernels that read and write at indices against their NumPy meanings."""

import numpy as np
import pytest
from native import assert_same, compiled, meaning, processor  # noqa: F401  (a fixture)
from test_lines import FLOATS, INTEGERS, sample

import monograph as mg
from monograph.compiler import executable
from monograph.core.errors import IndexRangeError
from monograph.ops.indexing import (
    Gather,
    IndexAdd,
    IndexSelect,
    IndexSet,
    ScatterAdd,
    ScatterReduce,
    ScatterSet,
)  # fmt: skip
from monograph.ops.joining import Concat

# Shape of the base, axis, shape of the index.
ROWS = [
    ((6,), 0, (9,)), ((6, 5), 0, (4,)), ((5, 70), 0, (2, 3)), ((5, 70), 1, (30,)),
    ((3, 4, 5), 1, (7,)), ((2, 3, 130), 1, ()), ((1, 1), 0, (3, 1)), ((4, 1, 3), 2, (2, 2)),
]  # fmt: skip
ELEMENTS = [
    ((6,), 0, (9,)), ((5, 7), 0, (3, 7)), ((5, 7), 1, (5, 20)), ((4, 90), 0, (6, 80)),
    ((3, 4, 5), 1, (2, 6, 5)), ((2, 3, 70), 2, (2, 2, 9)), ((1, 1), 1, (1, 4)),
    ((3, 2, 4), 0, (5, 2, 4)),
]  # fmt: skip
DTYPES = [*FLOATS, *INTEGERS, np.bool_]


def backward(x):
    return tuple(reversed(range(x.ndim)))


def tolerance(dtype):
    return {"rtol": 1e-6, "atol": 1e-6} if np.dtype(dtype).kind not in "iub" else {}


@pytest.mark.parametrize("dtype", DTYPES)
def test_rows(dtype):
    rng = np.random.default_rng(0)
    for shape, axis, places in ROWS if dtype is np.float32 else ROWS[:4]:
        x = sample(rng, shape, dtype)
        index = rng.integers(0, shape[axis], places, rng.choice([np.int32, np.int64]))
        values = sample(rng, (*shape[:axis], *places, *shape[axis + 1 :]), dtype)
        for order in (None, backward(x)):
            assert_same(IndexSelect(axis), x, index, order=order)
            assert_same(IndexSet(axis), x, index, values, order=order)
            assert_same(IndexAdd(axis), x, index, values, order=order, **tolerance(dtype))


@pytest.mark.parametrize("dtype", DTYPES)
def test_elements(dtype):
    rng = np.random.default_rng(1)
    for shape, axis, places in ELEMENTS if dtype is np.float32 else ELEMENTS[1:5]:
        x = sample(rng, shape, dtype)
        index = rng.integers(0, shape[axis], places, rng.choice([np.int32, np.int64]))
        values = sample(rng, places, dtype)
        for order in (None, backward(x)):
            assert_same(Gather(axis), x, index, order=order)
            assert_same(ScatterSet(axis), x, index, values, order=order)
            assert_same(ScatterAdd(axis), x, index, values, order=order, **tolerance(dtype))
        if dtype is not np.bool_:
            for how in ("mul", "min", "max"):
                op = ScatterReduce(axis, how)
                assert_same(op, x, index, values, **tolerance(dtype))


def test_rows_added_by_owner():
    rng = np.random.default_rng(2)
    for n, width, count in [(1000, 64, 1100), (33, 70, 1000), (40, 1, 70000)]:
        base = rng.standard_normal((n, width)).astype(np.float32)
        index = rng.integers(0, n, count)
        values = rng.standard_normal((count, width)).astype(np.float32)
        assert_same(IndexAdd(0), base, index, values, rtol=1e-4, atol=1e-3)
        assert_same(IndexSet(0), base, index, values)


def test_a_base_of_one_number_takes_no_memory():
    index = mg.tensor([3, 0, 3])
    values = mg.randn(3, 5)

    def f(index, values):
        return mg.zeros(7, 5).index_add(0, index, values), mg.full((7, 5), 2.0).scatter(
            0, index[:, None].expand(3, 5), values
        )

    for got, expected in zip(mg.jit(f)(index, values), f(index, values)):
        assert np.array_equal(got.numpy(), expected.numpy())


def test_on_other_processors(processor):  # noqa: F811
    rng = np.random.default_rng(3)
    x = rng.standard_normal((5, 70)).astype(np.float32)
    index = rng.integers(0, 5, (8, 70))
    for op in (ScatterAdd(0), ScatterReduce(0, "max"), ScatterSet(0)):
        assert_same(op, x, index, x[index[:, 0]], rtol=1e-6)
    assert_same(Gather(0), x, index)
    assert_same(IndexAdd(0), x, index[:, 0], x[index[:, 0]], rtol=1e-6)
    assert_same(IndexSelect(1), x, index[0])


@pytest.mark.parametrize("bad", [-1, 4])
def test_indices_out_of_range_raise(bad):
    x, rows = mg.ones(4, 70), mg.ones(2, 70)
    index = mg.tensor([0, bad])
    places = index[:, None].expand(2, 70)
    for f in (
        lambda x, i, p, v: x.index_select(0, i),
        lambda x, i, p, v: x.index_add(0, i, v),
        lambda x, i, p, v: x.gather(0, p),
        lambda x, i, p, v: x.scatter_add(0, p, v),
        lambda x, i, p, v: x.T.contiguous().scatter_add(1, p.T, v.T),
        lambda x, i, p, v: x.T.contiguous().gather(1, p.T),
    ):
        with pytest.raises(IndexRangeError, match="out of range"):
            mg.jit(f)(x, index, places, rows)


@pytest.mark.parametrize("dtype", [np.float32, np.bool_, np.float16])
def test_joining(dtype):
    rng = np.random.default_rng(4)
    for shapes, axis in [
        ([(3, 4, 5), (3, 1, 5), (3, 7, 5)], 1), ([(2,), (0,), (3,)], 0), ([(2, 3, 4)] * 20, 2),
        ([(1, 4, 3, 3), (1, 2, 3, 3)], 1),
    ]:  # fmt: skip
        parts = [sample(rng, shape, dtype) for shape in shapes]
        assert_same(Concat(axis), *parts)
        assert_same(Concat(axis), *parts, order=backward(parts[0]))


def test_images_with_channels_last_are_read_where_they_stand(monkeypatch):
    """Convolutions leave channels last; joining, taking and scattering need no other order."""
    monkeypatch.delattr(executable.Executable, "_run_host")
    mg.manual_seed(0)
    x = mg.randn(2, 3, 8, 8)
    model = mg.nn.ModuleList([mg.nn.Conv2d(3, k, 3, padding=1) for k in (5, 20)])
    last = mg.nn.Conv2d(25, 4, 3).requires_grad_(False)
    model.requires_grad_(False)
    index = mg.tensor([3, 0, 3])

    def f(x):
        y = mg.cat([layer(x).relu() for layer in model], 1)
        z = last(y)
        return (
            z, y.index_select(1, index), z.gather(2, (z > 0).long()), y.argmax(1), z.cumsum(3),
            y.index_add(1, index, y[:, 1:4]), z.sort(1).values, z.topk(2, 1).indices,
            z.scatter_add(1, (z > 1).long(), z),
        )  # fmt: skip

    for got, expected in zip(mg.jit(f)(x), f(x)):
        np.testing.assert_allclose(got.numpy(), expected.numpy(), rtol=1e-4, atol=1e-4)
