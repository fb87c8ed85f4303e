"""Constructors for scalar expressions: the `s` that an op's scalar rule receives.

    def scalar(self, s, x):
        return s.select(x > 0, x, s.const(0, x))

Operators (`+ - * / % & | ^ << >> < <= > >=`) work on expressions; a Python number takes the other
side's dtype. Floats here are f32 or f64: the lowering casts f16 and bf16 around the rule.
"""

from __future__ import annotations

from typing import Any

from .ir import Call, Const, Expr

FLOAT_BITS = {"f32": 32, "f64": 64}


def const(value: Any, like: Expr | str) -> Expr:
    """A literal of the dtype of `like` (an expression or a dtype name)."""
    return Const(value, like if isinstance(like, str) else like.dtype)


def _same(x: Any, y: Any) -> tuple[Expr, Expr]:
    if not hasattr(x, "dtype"):
        x = Const(x, y.dtype)
    if not hasattr(y, "dtype"):
        y = Const(y, x.dtype)
    return x, y


def select(cond: Expr, x: Any, y: Any) -> Expr:
    """x where cond, else y. Both sides are evaluated."""
    x, y = _same(x, y)
    return Call("select", (cond, x, y), x.dtype)


def eq(x: Any, y: Any) -> Expr:
    return Call("eq", _same(x, y), "bool")


def ne(x: Any, y: Any) -> Expr:
    return Call("ne", _same(x, y), "bool")


def minimum(x: Any, y: Any) -> Expr:
    """The smaller; nan if either is nan."""
    x, y = _same(x, y)
    return Call("min", (x, y), x.dtype)


def maximum(x: Any, y: Any) -> Expr:
    """The larger; nan if either is nan."""
    x, y = _same(x, y)
    return Call("max", (x, y), x.dtype)


def fma(x: Expr, y: Any, z: Any) -> Expr:
    """x * y + z, rounded once."""
    return Call("fma", (x, _same(x, y)[1], _same(x, z)[1]), x.dtype)


def unary(op: str, x: Expr) -> Expr:
    return Call(op, (x,), x.dtype)


def absolute(x: Expr) -> Expr:
    return unary("abs", x)


def sqrt(x: Expr) -> Expr:
    return unary("sqrt", x)


def floor(x: Expr) -> Expr:
    return unary("floor", x)


def ceil(x: Expr) -> Expr:
    return unary("ceil", x)


def trunc(x: Expr) -> Expr:
    return unary("trunc", x)


def rounded(x: Expr) -> Expr:
    """Nearest integer, halves to even."""
    return unary("round", x)


def logical_not(x: Expr) -> Expr:
    """Bitwise complement of integers, logical not of bool."""
    return unary("not", x)


def mulhi(x: Expr, y: Any) -> Expr:
    """High 32 bits of a u32 product."""
    return Call("mulhi", _same(x, y), x.dtype)


def cast(x: Expr, dtype: str) -> Expr:
    return x if x.dtype == dtype else Call("cast", (x,), dtype)


def bitcast(x: Expr, dtype: str) -> Expr:
    return x if x.dtype == dtype else Call("bitcast", (x,), dtype)


def polynomial(x: Expr, coefficients: tuple[float, ...]) -> Expr:
    """Horner's scheme; coefficients from the highest power down."""
    total: Expr = Const(coefficients[0], x.dtype)
    for c in coefficients[1:]:
        total = fma(total, x, c) if not isinstance(total, Const) else fma(x, total, c)
    return total
