"""An op's scalar rule on whole arrays, in NumPy: the closed set of scalar operations, one by one.

The same meaning as kernel/evaluate.py (a test compares them), at array speed, so that a formula's
accuracy can be measured on a hundred thousand points. `fused` False rounds the product of fma, as
machines without that instruction do.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..core.dtype import BY_NUMPY, from_code
from ..ir.op import Elementwise
from ..kernel import scalar
from ..kernel.checker import BITS
from ..kernel.evaluate import _UFUNCS as UFUNCS
from ..kernel.evaluate import NUMPY_DTYPES
from ..kernel.ir import Call, Const, Expr, Load, Var


def scalar_meaning(op: Elementwise, *args: Any, fused: bool = True) -> np.ndarray:
    """The elements that `op.scalar` computes from arrays and Python numbers.

    16-bit floats are computed in float32 around the rule, as the compiler does.
    """
    arrays = [a for a in args if isinstance(a, np.ndarray)]
    names: dict[str, np.ndarray] = {}
    xs: list[Any] = []
    for i, a in enumerate(args):
        if isinstance(a, np.ndarray):
            code = _register(BY_NUMPY[a.dtype].code)
            names[f"x{i}"] = a.astype(NUMPY_DTYPES[code])
            xs.append(Var(f"x{i}", code))
        else:
            xs.append(a)
    like = next(x.dtype for x in reversed(xs) if isinstance(x, Var))
    xs = [x if isinstance(x, Var) else Const(x, like) for x in xs]
    expr = op.scalar(scalar, *xs)
    out = op.result(*(BY_NUMPY[a.dtype] for a in arrays))
    shape = arrays[0].shape
    with np.errstate(all="ignore"):
        made = _Run(names, fused).expr(expr)
        return np.broadcast_to(np.asarray(made), shape).astype(out.numpy)


def evaluate_expression(expr: Expr, names: dict[str, Any], fused: bool = True) -> Any:
    """An expression's value where variables and buffers are the arrays of `names`."""
    with np.errstate(all="ignore"):
        return _Run(names, fused).expr(expr)


def _register(code: str) -> str:
    return "f32" if code in ("f16", "bf16") else code


def size_of(expr: Expr) -> int:
    """How many different operations an expression takes (shared parts count once)."""
    seen: set[Any] = set()

    def visit(e: Any) -> None:
        if isinstance(e, Call) and id(e) not in seen:
            seen.add(id(e))
            keep.append(e)
            for a in e.args:
                visit(a)

    keep: list[Any] = []
    visit(expr)
    return len(seen)


class _Run:
    def __init__(self, names: dict[str, np.ndarray], fused: bool):
        self.names, self.fused = names, fused
        self.memo: dict[int, Any] = {}
        self.alive: list[Expr] = []  # ids stay valid while the expressions are held

    def expr(self, expr: Any) -> Any:
        if isinstance(expr, int):
            return np.int64(expr)
        found = self.memo.get(id(expr))
        if found is None:
            found = self.memo[id(expr)] = self.compute(expr)
            self.alive.append(expr)
        return found

    def compute(self, expr: Expr) -> Any:
        if isinstance(expr, Const):
            return np.asarray(expr.value).astype(NUMPY_DTYPES[expr.dtype])
        if isinstance(expr, Var):
            return self.names[expr.name]
        if isinstance(expr, Load):
            return self.names[expr.buffer][self.expr(expr.index)]
        assert isinstance(expr, Call)
        return self.call(expr.op, tuple(self.expr(a) for a in expr.args), expr)

    def call(self, op: str, args: tuple[Any, ...], expr: Call) -> Any:
        dtype = NUMPY_DTYPES[expr.dtype]
        if op in UFUNCS:
            return UFUNCS[op](*args)
        if op == "select":
            return np.where(*args)
        if op == "bitcast":
            return np.ascontiguousarray(args[0]).view(dtype).reshape(np.shape(args[0]))
        if op == "fma":
            return fma(*args) if self.fused else args[0] * args[1] + args[2]
        if op == "mulhi":
            return ((args[0].astype(np.uint64) * args[1].astype(np.uint64)) >> 32).astype(np.uint32)
        if op == "cast":
            return _cast(args[0], expr.args[0].dtype, expr.dtype)
        if op in ("shl", "shr"):
            return _shift(op, args[0], args[1], BITS[expr.dtype])
        x, y = args
        if from_code(expr.dtype).is_floating_point:
            return np.divide(x, y) if op == "div" else np.fmod(x, y)
        quotient = np.where(y == 0, 0, np.floor_divide(x, np.where(y == 0, 1, y)))
        rest = x - quotient * y
        crossed = (y != 0) & (rest != 0) & ((x < 0) != (y < 0))
        quotient = (quotient + crossed).astype(dtype)
        return quotient if op == "div" else np.where(y == 0, 0, x - quotient * y).astype(dtype)


def fma(x: Any, y: Any, z: Any) -> Any:
    """x * y + z rounded once: in f32 but for a double rounding, in f64 by error-free steps."""
    if x.dtype == np.float32:
        wide = [np.asarray(v, np.float64) for v in (x, y, z)]
        return (wide[0] * wide[1] + wide[2]).astype(np.float32)
    plain = x * y + z
    product, lost = _two_product(x, y)
    total = product + z
    back = total - product
    error = (product - (total - back)) + (z - back)
    exact = total + (error + lost)
    return np.where(np.isfinite(exact), exact, plain)


def _two_product(x: Any, y: Any) -> tuple[Any, Any]:
    """x * y and its rounding error (T. J. Dekker, Numer. Math. 18, 1971)."""

    def halves(v: Any) -> tuple[Any, Any]:
        big = 134217729.0 * v
        high = big - (big - v)
        return high, v - high

    product = x * y
    (a, b), (c, d) = halves(x), halves(y)
    return product, ((a * c - product) + a * d + b * c) + b * d


def _shift(op: str, x: Any, y: Any, bits: int) -> Any:
    inside = (y >= 0) & (y < bits)
    amount = np.where(inside, y, 0).astype(x.dtype)
    moved = np.left_shift(x, amount) if op == "shl" else np.right_shift(x, amount)
    outside = np.where(x < 0, -1, 0) if op == "shr" else np.zeros_like(x)
    return np.where(inside, moved, outside).astype(x.dtype)


def _cast(x: Any, source: str, target: str) -> Any:
    if target == "bool":
        return x != 0
    return x.astype(NUMPY_DTYPES[target])
