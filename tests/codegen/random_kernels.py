"""Random kernels for the differential tests: expressions over every dtype, loops of every kind."""

from __future__ import annotations

import numpy as np

from monograph.kernel.checker import BITS, FLOATS, INTEGERS
from monograph.kernel.evaluate import NUMPY_DTYPES
from monograph.kernel.ir import Buffer, Call, Const, Expr, Kernel, Load, Loop, Store, Var

ZERO = Const(0, "i64")
ALL = ["bool", *sorted(INTEGERS), *sorted(FLOATS), "f16", "bf16"]


def number(value: int) -> Const:
    return Const(value, "i64")


def random_values(rng: np.random.Generator, dtype: str, count: int) -> np.ndarray:
    """Values of a dtype with the awkward ones among them."""
    if dtype == "bool":
        return rng.integers(0, 2, count).astype(np.bool_)
    if dtype in INTEGERS:
        info = np.iinfo(NUMPY_DTYPES[dtype])
        values = rng.integers(info.min, info.max, count, dtype=info.dtype, endpoint=True)
        small = rng.integers(0, 8, count).astype(info.dtype)
        special = rng.choice(np.array([info.min, info.max, 0, 1], info.dtype), count)
        return np.select(
            [rng.random(count) < 0.2, rng.random(count) < 0.6], [special, small], values
        )
    values = rng.normal(size=count) * 10.0 ** rng.integers(-3, 4, count)
    special = rng.choice([0.0, -0.0, np.inf, -np.inf, np.nan, 1.0, 0.5, 1.5, 2.5, -2.5], count)
    values = np.where(rng.random(count) < 0.15, special, values)
    with np.errstate(all="ignore"):
        return values.astype(np.float32).astype(NUMPY_DTYPES[dtype])


class Expressions:
    """Random well-typed expressions over loads of `buffers` at index `index`."""

    def __init__(self, rng: np.random.Generator, loads: dict[str, list[Expr]]):
        self.rng, self.loads = rng, loads

    def leaf(self, dtype: str) -> Expr:
        choices = self.loads.get(dtype, [])
        if choices and self.rng.random() < 0.8:
            return choices[self.rng.integers(len(choices))]
        if dtype in ("f16", "bf16") or self.rng.random() < 0.5 and choices:
            return choices[0]
        value = random_values(self.rng, dtype, 1)[0]
        return Const(value.item(), dtype)

    def make(self, dtype: str, depth: int) -> Expr:
        if depth == 0 or self.rng.random() < 0.1:
            return self.leaf(dtype)
        make = self.make
        roll = self.rng.random()
        if roll < 0.15:
            return Call("select", (make("bool", depth - 1), *self.pair(dtype, depth)), dtype)
        if roll < 0.35:
            return self.conversion(dtype, depth)
        if dtype == "bool":
            if self.rng.random() < 0.4:
                op = str(self.rng.choice(["and", "or", "xor"]))
                return Call(op, self.pair("bool", depth), "bool")
            operand = str(self.rng.choice(["i32", "u8", "f32", "f64", "i64", "u64"]))
            op = str(self.rng.choice(["eq", "ne", "lt", "le", "gt", "ge"]))
            return Call(op, self.pair(operand, depth), "bool")
        if dtype in ("f16", "bf16"):
            return self.leaf(dtype)
        if dtype in FLOATS:
            op = str(
                self.rng.choice(
                    "add sub mul div rem min max neg abs floor ceil trunc round sqrt fma".split()
                )
            )
            if op == "fma":
                return Call("fma", (make(dtype, depth - 1), *self.pair(dtype, depth)), dtype)
            if op in ("add", "sub", "mul", "div", "rem", "min", "max"):
                return Call(op, self.pair(dtype, depth), dtype)
            return Call(op, (make(dtype, depth - 1),), dtype)
        ops = "add sub mul div rem and or xor shl shr min max neg abs not".split()
        op = str(self.rng.choice(ops + (["mulhi"] if dtype == "u32" else [])))
        if op in ("neg", "abs", "not"):
            return Call(op, (make(dtype, depth - 1),), dtype)
        return Call(op, self.pair(dtype, depth), dtype)

    def pair(self, dtype: str, depth: int) -> tuple[Expr, Expr]:
        return self.make(dtype, depth - 1), self.make(dtype, depth - 1)

    def conversion(self, dtype: str, depth: int) -> Expr:
        source = str(self.rng.choice([d for d in ALL if d != dtype]))
        if dtype in INTEGERS and source in FLOATS | {"f16", "bf16"}:
            # Out of range the result is not defined: keep it small.
            x = self.make(source, depth - 1)
            if source in ("f16", "bf16"):
                x = Call("cast", (x,), "f32")
            low = Call("max", (x, Const(0.0, x.dtype)), x.dtype)
            small = Call("min", (low, Const(99.0, x.dtype)), x.dtype)
            whole = Call("eq", (small, small), "bool")  # nan has no integer
            small = Call("select", (whole, small, Const(1.0, x.dtype)), x.dtype)
            return Call("cast", (small,), dtype)
        if BITS[source] == BITS[dtype] and "bool" not in (source, dtype):
            halves = {"f16", "bf16"}
            if not ({source, dtype} & (FLOATS | halves)) or self.rng.random() < 0.3:
                if not {source, dtype} & (FLOATS | halves):
                    return Call("bitcast", (self.make(source, depth - 1),), dtype)
        return Call("cast", (self.make(source, depth - 1),), dtype)


def elementwise_kernel(rng: np.random.Generator, dtype: str, kind: str = "vector") -> Kernel:
    """out[i] = random expression of one buffer per dtype."""
    i = Var("i")
    buffers = tuple(Buffer(f"x_{d}", d) for d in ALL)
    loads: dict[str, list[Expr]] = {d: [Load(f"x_{d}", i, d)] for d in ALL}
    value = Expressions(rng, loads).make(dtype, 4)
    body = (Loop("i", ZERO, Var("n"), (Store("out", i, value),), kind),)
    return Kernel("elementwise", (*buffers, Buffer("out", dtype, True)), body, ("n",))


def same_values(x: np.ndarray, y: np.ndarray, dtype: str) -> bool:
    """Equal, nan for nan; zeros of either sign; f64 within a few units (fma in the reference)."""
    if dtype in FLOATS or dtype in ("f16", "bf16"):
        kind = np.float64
        a, b = x.astype(kind), y.astype(kind)
        with np.errstate(all="ignore"):
            close = np.abs(a - b) <= 1e-12 * np.abs(b)
        return bool(np.all((a == b) | (np.isnan(a) & np.isnan(b)) | (close & (dtype == "f64"))))
    return bool(np.array_equal(x, y))
