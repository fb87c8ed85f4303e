"""The space of a program's run-time sizes: bounds, division, guards, and values for them.

A `Space` answers what SymInts (symbolic.py) are asked: from bounds where the answer is the same for
all sizes, else by the hint, with a `Guard`. A `Binding` gives the sizes of one call.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from .errors import Place, user_place
from .symbolic import SIGNS, SymFloat, SymInt, Terms, hint, made, terms_of


class Atom:
    """A size, or a floor division (`over` is not None)."""

    __slots__ = ("name", "low", "high", "hint", "over", "by")

    def __init__(
        self, name: str, low: int, high: int | None, hint: int, over: Any = None, by: Any = None
    ):
        self.name, self.low, self.high, self.hint = name, low, high, hint
        self.over, self.by = over, by


class Guard:
    """A condition: `sign(value)` (see `SIGNS`) was `answer` for the hint."""

    __slots__ = ("value", "kind", "answer", "place")

    def __init__(self, value: SymInt, kind: str, answer: bool, place: Any):
        self.value, self.kind, self.answer, self.place = value, kind, answer, place

    @property
    def is_exact(self) -> bool:
        """Whether it asks for one number."""
        return self.kind == "==" and self.answer

    def __str__(self) -> str:
        rest = {k: c for k, c in self.value.terms if k}
        number = -dict(self.value.terms).get((), 0)
        left = SymInt(self.value.space, tuple(rest.items()))
        opposite = {"<": ">=", "==": "!="}
        return f"{left!r} {self.kind if self.answer else opposite[self.kind]} {number}"


class Space:
    """The sizes of one program, and the conditions under which it holds.

    compiling  == means equality for all sizes, and leaves no guard
    where      what guards of the compiler are blamed on (a Place), or None: the user's line
    closed     the program is made: a size that is asked now has outlived it, and is its hint
    """

    def __init__(self) -> None:
        self.atoms: list[Atom] = []
        self.guards: dict[Any, Guard] = {}
        self.compiling = self.closed = False
        self.where: Any = None
        self._divisions: dict[Any, int] = {}
        self._bounds: dict[Terms, int | None] = {}

    def size(self, name: str, hint: int, low: int = 2, high: int | None = None) -> SymInt:
        """A new size, of `low` to `high`."""
        self.atoms.append(Atom(name, low, high, hint))
        return SymInt(self, (((len(self.atoms) - 1,), 1),))

    def named(self, name: str) -> SymInt:
        """The size of this name."""
        (at,) = (k for k, a in enumerate(self.atoms) if a.name == name and a.over is None)
        return SymInt(self, (((at,), 1),))

    def hints(self) -> dict[str, int]:
        """The sizes that the program was made at, by name."""
        return {a.name: a.hint for a in self.atoms if a.over is None}

    @contextmanager
    def compile(self) -> Iterator[dict[Any, Guard]]:
        """While a program is compiled; gives the guards that this asks for."""
        before, self.compiling = self.compiling, True
        others, self.guards = self.guards, {}
        mine = self.guards
        try:
            yield mine
        finally:
            self.compiling, self.where = before, None
            others.update(mine)
            self.guards = others

    # Guards

    def ask(self, value: SymInt, kind: str) -> bool:
        """Whether `value` is negative ("<") or zero ("=="); a guard unless that is always so."""
        low = self.low(value)
        if low is not None and low > 0:
            return False
        high = self.high(value)
        if high is not None and high < 0:
            return kind == "<"
        if kind == "<" and low is not None and low >= 0:
            return False
        if kind == "==" and self.compiling:
            return False
        return self.note(value, kind)

    def note(self, value: SymInt, kind: str) -> bool:
        """The answer for the hint, as a guard."""
        key = (value.terms, kind)
        guard = self.guards.get(key)
        if guard is None:
            if self.closed:
                return SIGNS[kind](value.hint)
            place = self.where if self.where is not None else user_place()
            guard = self.guards[key] = Guard(value, kind, SIGNS[kind](value.hint), place)
        return guard.answer

    def take(self, guards: Sequence[Guard]) -> None:
        """Conditions that somebody else has asked for."""
        for guard in guards:
            self.guards.setdefault((guard.value.terms, guard.kind), guard)

    def broken(self, sizes: Mapping[str, int]) -> Guard | None:
        """The first guard that does not hold for the sizes, by name."""
        binding = Binding(self, sizes)
        for guard in self.guards.values():
            if SIGNS[guard.kind](binding(guard.value)) is not guard.answer:
                return guard
        return None

    def exact_guards(self) -> list[Guard]:
        """Those that ask for the number itself, so that the program is static in it."""
        return [g for g in self.guards.values() if g.is_exact]

    def fix(self, names: Collection[str]) -> Callable[[Any], Any]:
        """Sizes of these names are their hints from now on. Returns what that makes of a number."""
        for atom in self.atoms:
            if atom.name in names:
                atom.over, atom.by = atom.hint, 1
                atom.low = atom.high = atom.hint
        self._bounds.clear()
        values: list[Any] = []

        def fixed(n: Any) -> Any:
            if type(n) is SymInt:
                return sum(c * math.prod(values[a] for a in mono) for mono, c in n.terms)
            if type(n) is SymFloat:
                return n.function(*(fixed(a) for a in n.args))
            return n

        for k, atom in enumerate(list(self.atoms)):
            if atom.over is None:
                values.append(SymInt(self, (((k,), 1),)))
            else:
                values.append(fixed(atom.over) // fixed(atom.by))
        guards, self.guards = list(self.guards.values()), {}
        for guard in guards:
            value = fixed(guard.value)
            if type(value) is SymInt:
                key = (value.terms, guard.kind)
                self.guards[key] = Guard(value, guard.kind, guard.answer, guard.place)
        return fixed

    # Bounds

    def low(self, value: SymInt) -> int | None:
        """A number that the value never falls below, if one is found."""
        known = self._bounds.get(value.terms, 0)
        if known == 0 and value.terms not in self._bounds:
            known = self._low(dict(value.terms))
            if known is None:
                known = self._low_without_divisions(dict(value.terms))
            self._bounds[value.terms] = known
        return known

    def high(self, value: SymInt) -> int | None:
        negative = value * -1
        assert isinstance(negative, SymInt)
        low = self.low(negative)
        return None if low is None else -low

    def _low(self, terms: dict[tuple[int, ...], int]) -> int | None:
        """Every atom as its lower bound plus something: then all coefficients may be positive.
        Failing that, as its upper bound minus something where it has one and that helps."""
        used = {a for mono in terms for a in mono}
        shifts = {a: (self.atoms[a].low, 1) for a in used}
        found = _at_origin(_shifted(terms, shifts))
        if found is not None:
            return found
        for a in used:
            high = self.atoms[a].high
            if high is not None and sum(c for m, c in terms.items() if a in m) < 0:
                shifts[a] = (high, -1)
        return _at_origin(_shifted(terms, shifts))

    def _low_without_divisions(self, terms: dict[tuple[int, ...], int]) -> int | None:
        """The same with floor(x / n) between (x - n + 1) / n and x / n."""
        scale = 1
        for mono, c in list(terms.items()):
            atom = self.atoms[mono[0]] if len(mono) == 1 else None
            if atom is None or atom.over is None or type(atom.by) is not int:
                continue
            n = atom.by
            terms = {m: k * n for m, k in terms.items() if m != mono}
            scale *= n
            c = c * scale // n
            for m, k in terms_of(atom.over):
                terms[m] = terms.get(m, 0) + c * k
            if c > 0:
                terms[()] = terms.get((), 0) - c * (n - 1)
        if scale == 1:
            return None
        low = self._low({m: k for m, k in terms.items() if k})
        return None if low is None else -(-low // scale)

    # Division

    def divide(self, x: Any, y: Any) -> Any:
        """x // y."""
        if type(y) is int:
            if y == 1:
                return x
            if y == 0:
                raise ZeroDivisionError("integer division by zero")
            if y < 0:
                return self.divide(-x, -y)
            leading = max(terms_of(x), key=lambda t: (len(t[0]), t[0]))
            if leading[1] < 0:  # so that -(-x // y) is one division of a positive number
                return -self.divide(-x + (y - 1), y)
            whole = {m: c // y for m, c in terms_of(x)}
            rest = made(self, {m: c % y for m, c in terms_of(x)})
            quotient = made(self, whole)
            if type(rest) is int:
                return quotient
            return quotient + self.division(rest, y)
        rest, quotient = x, 0
        by_mono, by_coefficient = max(terms_of(y), key=lambda t: (len(t[0]), t[0]))
        for mono, c in sorted(terms_of(x), key=lambda t: (-len(t[0]), t[0])):
            left = _without(mono, by_mono)
            if left is not None and c % by_coefficient == 0:
                part = made(self, {left: c // by_coefficient})
                quotient, rest = quotient + part, rest - part * y
        if type(rest) is int and rest == 0:
            return quotient
        for turn in (0, -1, 1):  # the rest within [0, y), perhaps after one y more or less
            inside = rest - turn * y
            if self._surely(inside, 0) and self._surely(y - 1 - inside, 0):
                return quotient + turn
        if not self._surely(y, 1):
            self.ask(y - 1, "<")
        return quotient + self.division(rest, y)

    def _surely(self, x: Any, low: int) -> bool:
        if type(x) is int:
            return x >= low
        bound = self.low(x)
        return bound is not None and bound >= low

    def division(self, x: Any, y: Any) -> SymInt:
        """floor(x / y) as an atom of its own."""
        key = (x, y)
        at = self._divisions.get(key)
        if at is None:
            low_x = x if type(x) is int else self.low(x)
            name = f"({x!r} // {y!r})"
            low = 0 if type(y) is not int or low_x is None else low_x // y
            if low_x is None or low_x < 0:
                low = -(1 << 62)
            high_x = x if type(x) is int else self.high(x)
            high = high_x // y if type(y) is int and high_x is not None else None
            self.atoms.append(Atom(name, low, high, hint(x) // hint(y), x, y))
            at = self._divisions[key] = len(self.atoms) - 1
        return SymInt(self, (((at,), 1),))


class Binding:
    """Values for the sizes of a space: binding(n) is the int behind an int or SymInt."""

    def __init__(self, space: Space, sizes: Mapping[str, int]):
        self.space, self.sizes = space, dict(sizes)
        self.values: list[int] = []

    def __call__(self, n: Any) -> Any:
        if type(n) is int:
            return n
        if type(n) is SymInt:
            for atom in self.space.atoms[len(self.values) :]:  # each of earlier ones
                if atom.over is None:
                    self.values.append(self.sizes[atom.name])
                else:
                    by = self._sum(terms_of(atom.by))
                    self.values.append(self._sum(terms_of(atom.over)) // by if by else 0)
            return self._sum(n.terms)
        if type(n) is SymFloat:
            return n.function(*(self(a) for a in n.args))
        return n

    def _sum(self, terms: Terms) -> int:
        values, total = self.values, 0
        for mono, c in terms:
            for a in mono:
                c *= values[a]
            total += c
        return total

    def shape(self, shape: Sequence[Any]) -> tuple[int, ...]:
        return tuple(self(n) for n in shape)


class _Plain(Binding):
    """Where nothing is symbolic."""

    def __init__(self) -> None:
        pass

    def __call__(self, n: Any) -> Any:
        return n

    def shape(self, shape: Sequence[Any]) -> tuple[int, ...]:
        return tuple(shape)


PLAIN = _Plain()


def _without(mono: tuple[int, ...], part: tuple[int, ...]) -> tuple[int, ...] | None:
    """mono / part, or None."""
    left = list(mono)
    for a in part:
        if a not in left:
            return None
        left.remove(a)
    return tuple(left)


def _shifted(
    terms: Mapping[tuple[int, ...], int], shifts: Mapping[int, tuple[int, int]]
) -> dict[tuple[int, ...], int]:
    """The polynomial with each atom a replaced by low + sign * a."""
    total: dict[tuple[int, ...], int] = {}
    for mono, c in terms.items():
        product: dict[tuple[int, ...], int] = {(): c}
        for a in mono:
            low, sign = shifts[a]
            more: dict[tuple[int, ...], int] = {}
            for m, k in product.items():
                longer = tuple(sorted((*m, a)))
                more[m] = more.get(m, 0) + k * low
                more[longer] = more.get(longer, 0) + k * sign
            product = more
        for m, k in product.items():
            total[m] = total.get(m, 0) + k
    return total


def _at_origin(terms: Mapping[tuple[int, ...], int]) -> int | None:
    if all(c >= 0 for m, c in terms.items() if m):
        return terms.get((), 0)
    return None


def blame(space: Space | None, place: Place | None) -> None:
    """What the compiler works on now: where guards are said to come from."""
    if space is not None:
        space.where = place
