"""Index arithmetic: sums of loop variables times constants, with division that knows the ranges.

Lowering reads every value at an index made of loop variables. Reshapes divide and take remainders;
here (4*h + d) // 4 becomes h when 0 <= d < 4, so that loads stay affine and vectorize. Where a
division cannot be resolved because a loop variable spans it, NeedSplit asks the caller to split
that
loop in two and to start again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..core.symbolic import is_symbolic
from ..kernel import scalar as s
from ..kernel.ir import Call, Const, Expr, Var


class NeedSplit(Exception):
    """The loop variable `name` of `size` iterations should become two, the inner of `inner`."""

    def __init__(self, name: str, inner: int):
        super().__init__(f"split {name} by {inner}")
        self.name, self.inner = name, inner


@dataclass(frozen=True, slots=True)
class Atom:
    """A loop variable (`of` None), or of // by, or of % by that could not be resolved."""

    name: str
    size: int  # values are 0 .. size-1
    of: Index | None = None
    by: int = 0
    is_mod: bool = False


@dataclass(frozen=True, slots=True)
class Index:
    """const + sum of coefficient * atom; built with + - * // % by ints and other indices."""

    terms: tuple[tuple[Atom, int], ...]
    const: int = 0

    @property
    def low(self) -> int:
        return self.const + sum(c * (a.size - 1) for a, c in self.terms if c < 0)

    @property
    def high(self) -> int:
        """The largest value."""
        return self.const + sum(c * (a.size - 1) for a, c in self.terms if c > 0)

    def __add__(self, other: Any) -> Index:
        if isinstance(other, int):
            return Index(self.terms, self.const + other)
        table = dict(self.terms)
        for a, c in other.terms:
            table[a] = table.get(a, 0) + c
        return _normal(table, self.const + other.const)

    __radd__ = __add__

    def __sub__(self, other: Any) -> Index:
        return self + (-other if isinstance(other, int) else other * -1)

    def __rsub__(self, other: Any) -> Index:
        return self * -1 + other

    def __mul__(self, n: Any) -> Index:
        if not isinstance(n, int):
            if not n.terms:
                n = n.const
            elif not self.terms:
                return n * self.const
            else:
                raise TypeError("an index times an index is not affine")
        if n == 0:
            return Index((), 0)
        return Index(tuple((a, c * n) for a, c in self.terms), self.const * n)

    __rmul__ = __mul__

    def _divide(self, n: int) -> tuple[Index, Index] | None:
        """(quotient, remainder) by n where the ranges resolve it."""
        if n in (0, 1):  # 0: an empty axis, of which no element is ever read
            return self, Index((), 0)
        whole = {a: c // n for a, c in self.terms if c % n == 0}
        rest = {a: c for a, c in self.terms if c % n}
        quotient_const, rest_const = divmod(self.const, n)
        remainder = _normal(rest, rest_const)
        if 0 <= remainder.low and remainder.high < n:
            return _normal(whole, quotient_const), remainder
        return None

    def _split_for(self, n: int) -> NeedSplit | None:
        """A loop split that resolves the division by n, if there is one."""
        for a, c in self.terms:
            if a.of is None and c > 0 and n % c == 0 and c % n:
                inner = n // c
                if a.size % inner == 0 and 1 < inner < a.size:
                    return NeedSplit(a.name, inner)
        return None

    def __floordiv__(self, n: int) -> Index:
        resolved = self._divide(n)
        if resolved is not None:
            return resolved[0]
        split = self._split_for(n)
        if split is not None:
            raise split
        if self.low < 0:
            shift = (self.low // n) * n
            return (self - shift) // n + shift // n
        return Index(((Atom("", self.high // n + 1, self, n), 1),))

    def __mod__(self, n: int) -> Index:
        resolved = self._divide(n)
        if resolved is not None:
            return resolved[1]
        split = self._split_for(n)
        if split is not None:
            raise split
        if self.low < 0:
            return (self - (self.low // n) * n) % n
        return Index(((Atom("", min(n, self.high + 1), self, n, True), 1),))

    # Conditions, as masks of padding

    def __ge__(self, n: Any) -> Any:
        if self.low >= n:
            return TRUE
        return Call("ge", (self, Const(n, "i64")), "bool")  # type: ignore[arg-type]

    def __lt__(self, n: Any) -> Any:
        if self.high < n:
            return TRUE
        return Call("lt", (self, Const(n, "i64")), "bool")  # type: ignore[arg-type]

    @property
    def dtype(self) -> str:
        return "i64"

    def coefficient(self, name: str) -> int | None:
        """How far the index moves per step of loop `name`; None if not affine in it."""
        total = 0
        for a, c in self.terms:
            if a.of is None:
                if a.name == name:
                    total += c
            elif a.of.depends(name):
                return None
        return total

    def depends(self, name: str) -> bool:
        return any((a.name == name) if a.of is None else a.of.depends(name) for a, _ in self.terms)

    def expr(self) -> Expr:
        """As an i64 expression; constants last, so that addressing modes can take them."""
        total: Expr | None = None
        for a, c in self.terms:
            e: Expr
            if a.of is None:
                e = Var(a.name)
            else:
                e = Call("rem" if a.is_mod else "div", (a.of.expr(), Const(a.by, "i64")), "i64")
            e = e * c if c != 1 else e
            total = e if total is None else total + e
        if total is None:
            return Const(self.const, "i64")
        return total + self.const if self.const else total


TRUE = Const(True, "bool")


def both(x: Any, y: Any) -> Any:
    """Conjunction of masks; None and TRUE are always true."""
    if x is None or x == TRUE:
        return None if y == TRUE else y
    if y is None or y == TRUE:
        return x
    return Call("and", (x, y), "bool")


def _normal(table: dict[Atom, int], const: int) -> Index:
    for rest, c in table.items():
        # by * (x // by) + x % by is x again: what merged loops were taken apart for.
        if rest.is_mod and c and rest.of is not None:
            same = (a for a in table if a.of == rest.of and a.by == rest.by and not a.is_mod)
            whole = next(same, None)
            if whole is not None and table[whole] == c * rest.by:
                left = {a: k for a, k in table.items() if a is not rest and a is not whole}
                return Index(tuple(left.items()), const) + rest.of * c
    return Index(tuple((a, c) for a, c in table.items() if c), const)


def loop_index(name: str, size: int) -> Index:
    """The index of loop `name`; a loop of one iteration is the constant 0."""
    return Index(((Atom(name, size), 1),)) if is_symbolic(size) or size > 1 else ZERO


ZERO = Index((), 0)


def whole(i: Index) -> Index:
    """The same index, of which divisions stay divisions and never ask for a split of the loop."""
    if i.low < 0:  # atoms start at 0
        return whole(i - i.low) + i.low
    return Index(((Atom("", i.high + 1, i, 1), 1),)) if i.terms else i


def flat(index: tuple[Index, ...], strides: tuple[int, ...]) -> Index:
    """The position in a buffer of the element at `index`."""
    total = ZERO
    for i, stride in zip(index, strides):
        total = total + i * stride
    return total


__all__ = ["Index", "NeedSplit", "both", "flat", "loop_index", "s", "whole", "ZERO", "TRUE"]
