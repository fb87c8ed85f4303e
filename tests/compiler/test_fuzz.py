"""Random graphs of many kinds of ops: what is compiled is what ir/evaluate says."""

import numpy as np
import pytest

from monograph.compiler.executable import compile_graph
from monograph.core import dtype as dt
from monograph.ir.evaluate import evaluate
from monograph.ir.graph import Graph
from monograph.ir.op import REGISTRY, Aval
from monograph.ir.text import format_graph, parse_graph
from monograph.ir.verify import verify

SIZES = (1, 2, 3, 4, 7, 8, 16, 33)
UNARY = ("tanh", "sigmoid", "sin", "cos", "atan", "erf", "relu", "neg", "abs", "gelu", "silu")
BINARY = ("add", "sub", "mul", "maximum", "minimum")
MAX_SIZE = 20000


def op(name, *fields):
    return REGISTRY[name](*fields)


class Maker:
    """Grows a graph of float32 values of moderate size, and integers to look up with."""

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)
        self.graph = Graph()
        self.arrays = []
        self.pool = []
        for _ in range(int(self.rng.integers(1, 4))):
            self.input(self.shape(int(self.rng.integers(0, 5))))

    def shape(self, ndim, limit=4096):
        shape = tuple(int(self.rng.choice(SIZES)) for _ in range(ndim))
        while np.prod(shape, dtype=int) > limit:
            shape = tuple(max(1, n // 2) for n in shape)
        return shape

    def input(self, shape, integers=0):
        if integers:
            array = self.rng.integers(0, integers, shape)
        else:
            array = self.rng.uniform(-2, 2, shape).astype(np.float32)
        self.arrays.append(np.asarray(array))
        v = self.graph.input(Aval(shape, dt.int64 if integers else dt.float32))
        if not integers:
            self.pool.append(v)
        return v

    def add(self, name, *fields, of=()):
        return self.graph.add(op(name, *fields), *of)

    def keep(self, v):
        if v.aval.size <= MAX_SIZE:
            self.pool.append(v)

    def pick(self, ndim=None, nonempty=True):
        """A value, likely a recent one; with `ndim` dimensions (reshaped, or a new input)."""
        found = self.pool[-1 if self.rng.random() < 0.5 else int(self.rng.integers(len(self.pool)))]
        if ndim is None or len(found.shape) == ndim:
            return found
        same = [v for v in self.pool if len(v.shape) == ndim]
        if same and self.rng.random() < 0.7:
            return same[int(self.rng.integers(len(same)))]
        return self.input(self.shape(ndim))

    def axes(self, shape):
        found = tuple(a for a in range(len(shape)) if self.rng.random() < 0.5)
        return found or (int(self.rng.integers(len(shape))),)

    # One method per kind of op

    def unary(self):
        self.keep(self.add(str(self.rng.choice(UNARY)), of=(self.pick(),)))

    def binary(self):
        x = self.pick()
        name = str(self.rng.choice(BINARY))
        same = [v for v in self.pool if v.shape == x.shape]
        y = same[int(self.rng.integers(len(same)))]
        if self.rng.random() < 0.3:
            y = round(float(self.rng.uniform(-1.5, 1.5)), 3)
        pair = (x, y) if self.rng.random() < 0.5 or y is x else (y, x)
        v = self.add(name, of=pair)
        self.keep(self.add("tanh", of=(v,)) if name == "mul" else v)

    def broadcast(self):
        """A smaller value read along axes of a larger one."""
        x = self.pick()
        if not x.shape:
            return
        axes = self.axes(x.shape)
        small = self.add("sum", axes, of=(x,)) if self.rng.random() < 0.5 else None
        if small is None:
            small = self.input(tuple(n for a, n in enumerate(x.shape) if a not in axes))
        else:
            small = self.add("mul", of=(small, 1 / (x.aval.size / max(small.aval.size, 1))))
        self.keep(self.add("add", of=(x, self.add("expand", x.shape, axes, of=(small,)))))

    def reduce(self):
        x = self.pick()
        if not x.shape:
            return
        axes = self.axes(x.shape)
        name = str(self.rng.choice(["sum", "amax", "amin"]))
        v = self.add(name, axes, of=(x,))
        if name == "sum":
            v = self.add("mul", of=(v, v.aval.size / x.aval.size))
        self.keep(v)

    def choose(self):
        x = self.pick()
        condition = self.add("lt", of=(x, 10.0))  # rounding cannot turn it
        if x.shape and self.rng.random() < 0.7:
            at = self.add("iota", x.shape, dt.int64, int(self.rng.integers(len(x.shape))))
            condition = self.add("lt", of=(at, int(self.rng.integers(1, 9))))
        other = self.add("neg", of=(x,)) if self.rng.random() < 0.5 else 0.5
        self.keep(self.add("where", of=(condition, x, other)))

    def cast(self):
        x = self.pick()
        kind = self.rng.choice(["float64", "bool", "int32"])
        if kind == "float64":
            v = self.add("sin", of=(self.add("cast", dt.float64, of=(x,)),))
            self.keep(self.add("cast", dt.float32, of=(v,)))
        elif kind == "bool":  # of a comparison that rounding cannot turn
            v = self.add("cast", dt.float32, of=(self.add("lt", of=(x, 10.0)),))
            self.keep(self.add("add", of=(x, v)))
        elif x.shape:
            at = self.add("iota", x.shape, dt.int32, int(self.rng.integers(len(x.shape))))
            v = self.add("cast", dt.float32, of=(self.add("mul", of=(at, 3)),))
            self.keep(self.add("add", of=(x, self.add("sin", of=(v,)))))

    def move(self):
        x = self.pick()
        for _ in range(int(self.rng.integers(1, 4))):
            x = self.moved(x)
        self.keep(x)

    def moved(self, x):
        shape, rng = x.shape, self.rng
        kind = int(rng.integers(6))
        if not shape or x.aval.size > MAX_SIZE // 2:
            kind = 1
        if kind == 0:
            return self.add("permute", tuple(int(a) for a in rng.permutation(len(shape))), of=(x,))
        if kind == 1:
            return self.add("reshape", self.regrouped(x.aval.size), of=(x,))
        if kind == 2:
            start = tuple(int(rng.integers(n)) for n in shape)
            stop = tuple(int(rng.integers(a + 1, n + 1)) for a, n in zip(start, shape))
            step = tuple(int(rng.integers(1, 3)) for _ in shape)
            return self.add("slice", start, stop, step, of=(x,))
        if kind == 3 and len(shape) <= 3:
            pads = [tuple(int(n) for n in rng.integers(0, 3, len(shape))) for _ in range(2)]
            interior = tuple(int(n) for n in rng.integers(0, 2, len(shape)))
            return self.add("pad", *pads, interior, float(rng.integers(2)), of=(x,))
        if kind == 4:
            return self.add("flip", self.axes(shape), of=(x,))
        if len(shape) < 5:
            place = int(rng.integers(len(shape) + 1))
            wide = (*shape[:place], int(rng.choice((1, 2, 3))), *shape[place:])
            return self.add("expand", wide, (place,), of=(x,))
        return x

    def regrouped(self, size):
        sizes = []
        while size > 1 and len(sizes) < 4:
            divisors = [d for d in range(1, size + 1) if size % d == 0]
            sizes.append(int(self.rng.choice(divisors)))
            size //= sizes[-1]
        return (*sizes, size) if size > 1 or self.rng.random() < 0.2 else tuple(sizes)

    def contract(self):
        batched = self.rng.random() < 0.4
        x = self.pick(3 if batched else 2)
        b, k = x.shape[:-2], x.shape[-1]
        n = int(self.rng.choice(SIZES))
        letters = "b" if batched else ""
        turned = self.rng.random() < 0.5
        y = self.input((*b, n, k) if turned else (*b, k, n))
        if self.rng.random() < 0.3:
            y = self.add("tanh", of=(y,))
        right = f"{letters}nk" if turned else f"{letters}kn"
        v = self.add("contract", f"{letters}mk,{right}->{letters}mn", of=(x, y))
        self.keep(self.add("tanh", of=(self.add("mul", of=(v, 1 / k)),)))

    def convolve(self):
        x = self.pick(4)
        n, c, h, w = x.shape
        if min(n, c, h, w) < 1 or x.aval.size > 8192:
            return
        kernel = tuple(int(self.rng.integers(1, min(4, size + 1))) for size in (h, w))
        padding = tuple(int(self.rng.integers(0, k)) for k in kernel)
        stride = tuple(int(k) for k in self.rng.integers(1, 3, 2))
        outputs = int(self.rng.choice((1, 3, 8, 17)))
        filters = self.input((outputs, c, *kernel))
        v = self.add("conv", stride, padding, (1, 1), 1, of=(x, filters))
        v = self.add("mul", of=(v, 1 / (c * kernel[0] * kernel[1])))
        self.keep(self.add(str(self.rng.choice(UNARY)), of=(v,)))

    def look_up(self):
        x = self.pick()
        if not x.shape:
            return
        axis = int(self.rng.integers(len(x.shape)))
        if self.rng.random() < 0.5:
            places = self.input(self.shape(1, limit=16), integers=x.shape[axis])
            self.keep(self.add("index_select", axis, of=(x, places)))
        else:
            shape = tuple(
                n if a != axis else int(self.rng.choice(SIZES)) for a, n in enumerate(x.shape)
            )
            places = self.input(shape, integers=x.shape[axis])
            self.keep(self.add("gather", axis, of=(x, places)))

    def join(self):
        x = self.pick()
        if x.shape and x.aval.size < 4096:
            other = self.add("sin", of=(x,))
            self.keep(self.add("concat", int(self.rng.integers(len(x.shape))), of=(x, other)))

    def scan(self):
        x = self.pick()
        if x.shape:
            axis = int(self.rng.integers(len(x.shape)))
            v = self.add("cumsum", axis, of=(x,))
            self.keep(self.add("mul", of=(v, 1 / x.shape[axis])))

    KINDS = (
        unary, unary, binary, binary, broadcast, reduce, reduce, choose, cast, move, move,
        contract, convolve, look_up, join, scan,
    )  # fmt: skip

    def grow(self, steps):
        for _ in range(steps):
            self.KINDS[int(self.rng.integers(len(self.KINDS)))](self)
        users = self.graph.users()
        ends = [v for v in self.pool if v not in users]
        if self.rng.random() < 0.5:  # a result that is read again, or an input
            ends.append(self.pool[int(self.rng.integers(len(self.pool)))])
        self.graph.outputs = list(dict.fromkeys(ends))
        return self.graph, self.arrays


def check(seed):
    graph, arrays = Maker(seed).grow(6 + seed % 12)
    verify(graph)
    with np.errstate(all="ignore"):
        expected = evaluate(graph, *arrays)
    outs = [np.full(v.shape, 77, v.dtype.numpy) for v in graph.outputs]
    executable = compile_graph(graph)
    executable.run([np.array(a) for a in arrays], outs)
    for a, b in zip(outs, expected, strict=True):
        # Sums are added in another order, polynomials differ in the last digits.
        np.testing.assert_allclose(
            a, b, rtol=3e-4, atol=3e-5, err_msg=f"seed {seed}\n{format_graph(graph)}"
        )
    return graph, executable


@pytest.mark.parametrize("block", range(12))
def test_compiled_graphs_are_what_evaluate_says(block):
    for seed in range(5 * block, 5 * block + 5):
        check(seed)


@pytest.mark.slow
@pytest.mark.parametrize("block", range(50))
def test_many_compiled_graphs(block):
    for seed in range(1000 + 10 * block, 1010 + 10 * block):
        check(seed)


def test_the_graphs_hold_every_kind_of_op():
    names = {n.op.name for seed in range(60) for n in Maker(seed).grow(6 + seed % 12)[0].nodes}
    wanted = {
        "sum", "amax", "amin", "reshape", "permute", "slice", "pad", "flip", "expand", "where",
        "cast", "contract", "conv", "gather", "index_select", "concat", "cumsum", "iota",
        *UNARY, *BINARY,
    }  # fmt: skip
    assert wanted <= names


@pytest.mark.parametrize("seed", range(10))
def test_random_graphs_survive_text(seed):
    graph, arrays = Maker(seed).grow(10)
    again = parse_graph(format_graph(graph))
    for a, b in zip(evaluate(again, *arrays), evaluate(graph, *arrays), strict=True):
        np.testing.assert_array_equal(a, b)
