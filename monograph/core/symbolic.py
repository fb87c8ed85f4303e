"""Sizes that are known when a program is called, not when it is made.

A `SymInt` stands where a Python int would: as a size in a shape, a stride, a number of turns of a
loop. It is a polynomial with integer coefficients in the *sizes* of one `Space` (and in floor
divisions of such polynomials), and it has a `hint`: its value for the sizes that the program was
made at. Arithmetic gives SymInts, or ints where nothing symbolic is left.

Whoever asks for more than arithmetic gets an answer, and the answer becomes a condition of the
program:

    T + 1 > T       holds for all sizes: no condition
    T > 128         by the hint; a *guard*: other sizes that answer otherwise need another program
    range(T)        needs the number itself: the guard T == hint, which makes the program static

`hint(n)` is for choices that only affect speed: it asks for nothing. While a program is compiled
(`Space.compiling`), == means "for all sizes" and leaves no guard: the compiler treats what is not
surely equal as different.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from .errors import Place, user_place

# A monomial is a sorted tuple of atom numbers (with repetitions); () is the constant's.
Terms = tuple[tuple[tuple[int, ...], int], ...]


class Atom:
    """A size, or a floor division (`over` is not None)."""

    __slots__ = ("name", "low", "high", "hint", "over", "by")

    def __init__(
        self, name: str, low: int, high: int | None, hint: int, over: Any = None, by: Any = None
    ):
        self.name, self.low, self.high, self.hint = name, low, high, hint
        self.over, self.by = over, by


class Guard:
    """A condition: `sign(value)` (see `_SIGNS`) was `answer` for the hint."""

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


_SIGNS: dict[str, Callable[[int], bool]] = {"<": lambda d: d < 0, "==": lambda d: d == 0}


class Space:
    """The sizes of one program, and the conditions under which it holds.

    compiling  == means equality for all sizes, and leaves no guard
    where      what guards of the compiler are blamed on (a Place), or None: the user's line
    """

    def __init__(self) -> None:
        self.atoms: list[Atom] = []
        self.guards: dict[Any, Guard] = {}
        self.compiling = False
        self.where: Any = None
        self._divisions: dict[Any, int] = {}
        self._bounds: dict[Terms, int | None] = {}

    def size(self, name: str, hint: int, low: int = 2, high: int | None = None) -> SymInt:
        """A new size, of `low` to `high`."""
        self.atoms.append(Atom(name, low, high, hint))
        return SymInt(self, (((len(self.atoms) - 1,), 1),))

    def hints(self) -> dict[str, int]:
        """The sizes that the program was made at, by name."""
        return {a.name: a.hint for a in self.atoms if a.over is None}

    @contextmanager
    def compile(self) -> Iterator[None]:
        before, self.compiling = self.compiling, True
        try:
            yield
        finally:
            self.compiling, self.where = before, None

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
            place = self.where if self.where is not None else user_place()
            guard = self.guards[key] = Guard(value, kind, _SIGNS[kind](value.hint), place)
        return guard.answer

    def broken(self, sizes: Mapping[str, int]) -> Guard | None:
        """The first guard that does not hold for the sizes, by name."""
        binding = Binding(self, sizes)
        for guard in self.guards.values():
            if _SIGNS[guard.kind](binding(guard.value)) is not guard.answer:
                return guard
        return None

    def exact_guards(self) -> list[Guard]:
        """Those that ask for the number itself, so that the program is static in it."""
        return [g for g in self.guards.values() if g.is_exact]

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
            for m, k in _terms(atom.over):
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
            leading = max(_terms(x), key=lambda t: (len(t[0]), t[0]))
            if leading[1] < 0:  # so that -(-x // y) is one division of a positive number
                return -self.divide(-x + (y - 1), y)
            whole = {m: c // y for m, c in _terms(x)}
            rest = _made(self, {m: c % y for m, c in _terms(x)})
            quotient = _made(self, whole)
            if type(rest) is int:
                return quotient
            return quotient + self._division(rest, y)
        rest, quotient = x, 0
        by_mono, by_coefficient = max(_terms(y), key=lambda t: (len(t[0]), t[0]))
        for mono, c in sorted(_terms(x), key=lambda t: (-len(t[0]), t[0])):
            left = _without(mono, by_mono)
            if left is not None and c % by_coefficient == 0:
                part = _made(self, {left: c // by_coefficient})
                quotient, rest = quotient + part, rest - part * y
        if type(rest) is int and rest == 0:
            return quotient
        for turn in (0, -1, 1):  # the rest within [0, y), perhaps after one y more or less
            inside = rest - turn * y
            if self._surely(inside, 0) and self._surely(y - 1 - inside, 0):
                return quotient + turn
        if not self._surely(y, 1):
            self.ask(y - 1, "<")
        return quotient + self._division(rest, y)

    def _surely(self, x: Any, low: int) -> bool:
        if type(x) is int:
            return x >= low
        bound = self.low(x)
        return bound is not None and bound >= low

    def _division(self, x: Any, y: Any) -> SymInt:
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
                    by = self._sum(_terms(atom.by))
                    self.values.append(self._sum(_terms(atom.over)) // by if by else 0)
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


def _made(space: Space, terms: Mapping[tuple[int, ...], int]) -> Any:
    kept = tuple(sorted((m, c) for m, c in terms.items() if c))
    if not kept:
        return 0
    if len(kept) == 1 and kept[0][0] == ():
        return kept[0][1]
    return SymInt(space, kept)


def _terms(x: Any) -> Terms:
    return (((), x),) if type(x) is int else x.terms


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
        made: dict[tuple[int, ...], int] = {(): c}
        for a in mono:
            low, sign = shifts[a]
            more: dict[tuple[int, ...], int] = {}
            for m, k in made.items():
                longer = tuple(sorted((*m, a)))
                more[m] = more.get(m, 0) + k * low
                more[longer] = more.get(longer, 0) + k * sign
            made = more
        for m, k in made.items():
            total[m] = total.get(m, 0) + k
    return total


def _at_origin(terms: Mapping[tuple[int, ...], int]) -> int | None:
    if all(c >= 0 for m, c in terms.items() if m):
        return terms.get((), 0)
    return None


def _as_int(x: Any) -> Any:
    """x as an int or SymInt; None where it is neither."""
    if type(x) is int or type(x) is SymInt:
        return x
    if isinstance(x, (bool, int)):
        return int(x)
    if type(x).__module__ == "numpy" and hasattr(x, "__index__"):
        try:
            return operator.index(x)
        except TypeError:
            return None
    return None


class SymInt:
    """An integer that depends on run-time sizes; passes for an int (see the top of this file)."""

    __slots__ = ("space", "terms", "_hint")
    __array_ufunc__ = None  # NumPy's scalars leave arithmetic to us

    def __init__(self, space: Space, terms: Terms):
        self.space, self.terms = space, terms
        self._hint: int | None = None

    @property  # type: ignore[misc]
    def __class__(self) -> type:  # type: ignore[override]
        return int

    @property
    def hint(self) -> int:
        """The value for the sizes that the program was made at."""
        if self._hint is None:
            atoms = self.space.atoms
            self._hint = sum(c * math.prod(atoms[a].hint for a in mono) for mono, c in self.terms)
        return self._hint

    # Arithmetic

    def __add__(self, y: Any) -> Any:
        y = _as_int(y) if type(y) is not float else y
        if type(y) is float:
            return SymFloat(operator.add, self, y)
        if y is None:
            return NotImplemented
        table = dict(self.terms)
        for m, c in _terms(y):
            table[m] = table.get(m, 0) + c
        return _made(self.space, table)

    __radd__ = __add__

    def __neg__(self) -> Any:
        return SymInt(self.space, tuple((m, -c) for m, c in self.terms))

    def __pos__(self) -> Any:
        return self

    def __abs__(self) -> Any:
        return -self if self < 0 else self

    def __sub__(self, y: Any) -> Any:
        if type(y) is float:
            return SymFloat(operator.sub, self, y)
        y = _as_int(y)
        return NotImplemented if y is None else self + -y

    def __rsub__(self, y: Any) -> Any:
        return SymFloat(operator.sub, y, self) if type(y) is float else -self + y

    def __mul__(self, y: Any) -> Any:
        if type(y) is float:
            return SymFloat(operator.mul, self, y)
        y = _as_int(y)
        if y is None:
            return NotImplemented
        table: dict[tuple[int, ...], int] = {}
        for m, c in self.terms:
            for n, k in _terms(y):
                both = tuple(sorted(m + n)) if m and n else m or n
                table[both] = table.get(both, 0) + c * k
        return _made(self.space, table)

    __rmul__ = __mul__

    def __pow__(self, y: Any) -> Any:
        if type(y) is int and y >= 0:
            return math.prod([self] * y)
        return SymFloat(operator.pow, self, y)

    def __rpow__(self, y: Any) -> Any:
        return y ** operator.index(self)

    def __floordiv__(self, y: Any) -> Any:
        y = _as_int(y)
        return NotImplemented if y is None else self.space.divide(self, y)

    def __rfloordiv__(self, x: Any) -> Any:
        x = _as_int(x)
        return NotImplemented if x is None else self.space.divide(x, self)

    def __mod__(self, y: Any) -> Any:
        y = _as_int(y)
        return NotImplemented if y is None else self - self.space.divide(self, y) * y

    def __rmod__(self, x: Any) -> Any:
        x = _as_int(x)
        return NotImplemented if x is None else x - self.space.divide(x, self) * self

    def __divmod__(self, y: Any) -> Any:
        return self // y, self % y

    def __rdivmod__(self, x: Any) -> Any:
        return x // self, x % self

    def __truediv__(self, y: Any) -> Any:
        return SymFloat(operator.truediv, self, y)

    def __rtruediv__(self, x: Any) -> Any:
        return SymFloat(operator.truediv, x, self)

    # Questions

    def _compare(self, y: Any, kind: str, shift: int) -> Any:
        """Whether self - y + shift is negative, or zero."""
        if type(y) is float or isinstance(y, SymFloat):
            y = float(y)
            if math.isinf(y):
                return kind == "<" and y > 0
            y = math.ceil(y) if kind == "<" and shift == 0 else math.floor(y)
        y = _as_int(y)
        if y is None:
            return NotImplemented
        if type(y) is SymInt and y.space is not self.space:  # of another program, in some cache
            return False
        d = self - y + shift
        return _SIGNS[kind](d) if type(d) is int else self.space.ask(d, kind)

    def __lt__(self, y: Any) -> Any:
        return self._compare(y, "<", 0)

    def __le__(self, y: Any) -> Any:
        return self._compare(y, "<", -1)

    def __gt__(self, y: Any) -> Any:
        found = self.__le__(y)
        return found if found is NotImplemented else not found

    def __ge__(self, y: Any) -> Any:
        found = self.__lt__(y)
        return found if found is NotImplemented else not found

    def __eq__(self, y: Any) -> Any:
        if type(y) is float and not y.is_integer():
            return False
        return self._compare(y, "==", 0)

    def __ne__(self, y: Any) -> Any:
        found = self.__eq__(y)
        return found if found is NotImplemented else not found

    def __bool__(self) -> bool:
        return not self.space.ask(self, "==")

    def __hash__(self) -> int:
        return hash((id(self.space), self.terms))

    # The number itself

    def __index__(self) -> int:
        d = self - self.hint
        self.space.note(d, "==")
        return self.hint

    __int__ = __trunc__ = __floor__ = __ceil__ = __index__

    def __round__(self, digits: Any = None) -> Any:
        return self

    def __float__(self) -> float:
        return float(self.__index__())

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return np.asarray(self.__index__(), dtype)

    def item(self) -> Any:
        return self

    def __deepcopy__(self, memo: Any) -> SymInt:
        return self

    def __reduce__(self) -> Any:
        return int, (self.__index__(),)

    def __repr__(self) -> str:
        parts = []
        for mono, c in self.terms:
            names = "*".join(self.space.atoms[a].name for a in mono)
            sign = "-" if c < 0 else "+"
            number = f"{abs(c)}*" if abs(c) != 1 and mono else "" if mono else str(abs(c))
            parts.append(f"{sign} {number}{names}")
        parts.sort(key=lambda p: p[2:].isdigit())
        text = " ".join(parts)
        return text[2:] if text.startswith("+ ") else "-" + text[2:]

    def __format__(self, spec: str) -> str:
        return format(self.hint, spec) if spec else repr(self)


class SymFloat:
    """A float made of run-time sizes: an operand of operations, as in x / T."""

    __slots__ = ("function", "args")
    __array_ufunc__ = None

    def __init__(self, function: Callable, *args: Any):
        self.function, self.args = function, args

    @property  # type: ignore[misc]
    def __class__(self) -> type:  # type: ignore[override]
        return float

    @property
    def hint(self) -> float:
        return self.function(*(hint(a) for a in self.args))

    def __add__(self, y: Any) -> Any:
        return _float(operator.add, self, y)

    def __radd__(self, y: Any) -> Any:
        return _float(operator.add, y, self)

    def __sub__(self, y: Any) -> Any:
        return _float(operator.sub, self, y)

    def __rsub__(self, y: Any) -> Any:
        return _float(operator.sub, y, self)

    def __mul__(self, y: Any) -> Any:
        return _float(operator.mul, self, y)

    def __rmul__(self, y: Any) -> Any:
        return _float(operator.mul, y, self)

    def __truediv__(self, y: Any) -> Any:
        return _float(operator.truediv, self, y)

    def __rtruediv__(self, y: Any) -> Any:
        return _float(operator.truediv, y, self)

    def __pow__(self, y: Any) -> Any:
        return _float(operator.pow, self, y)

    def __neg__(self) -> Any:
        return SymFloat(operator.neg, self)

    def __float__(self) -> float:
        """The number itself: the program is static in the sizes that it was made of."""
        return self.function(
            *(a.__index__() if type(a) is SymInt else float(a) if type(a) is SymFloat else a
              for a in self.args)
        )  # fmt: skip

    def __int__(self) -> int:
        return int(float(self))

    __trunc__ = __int__

    def __floor__(self) -> int:
        return math.floor(float(self))

    def __ceil__(self) -> int:
        return math.ceil(float(self))

    def __round__(self, digits: Any = None) -> Any:
        return round(float(self), digits) if digits is not None else round(float(self))

    def __lt__(self, y: Any) -> bool:
        return float(self) < y

    def __le__(self, y: Any) -> bool:
        return float(self) <= y

    def __gt__(self, y: Any) -> bool:
        return float(self) > y

    def __ge__(self, y: Any) -> bool:
        return float(self) >= y

    def __eq__(self, y: Any) -> bool:
        if type(y) is SymFloat and self.function is y.function and self.args == y.args:
            return True
        space = _space_of(self)
        if space is not None and space.compiling:
            return False
        return float(self) == y

    def __bool__(self) -> bool:
        return float(self) != 0

    def __hash__(self) -> int:
        return hash((self.function, self.args))

    def item(self) -> Any:
        return self

    def __repr__(self) -> str:
        return f"{self.function.__name__}({', '.join(map(repr, self.args))})"


def _float(function: Callable, *args: Any) -> Any:
    if all(isinstance(a, (int, float)) for a in args):
        return SymFloat(function, *args)
    return NotImplemented


def _space_of(n: Any) -> Space | None:
    if type(n) is SymInt:
        return n.space
    if type(n) is SymFloat:
        return next((s for a in n.args if (s := _space_of(a)) is not None), None)
    return None


def is_symbolic(n: Any) -> bool:
    """Whether n depends on run-time sizes."""
    return type(n) is SymInt or type(n) is SymFloat


def any_symbolic(shape: Sequence[Any]) -> bool:
    return any(type(n) is SymInt for n in shape)


def hint(n: Any) -> Any:
    """A plain number for choices that affect speed alone."""
    return n.hint if type(n) is SymInt or type(n) is SymFloat else n


def divides(d: Any, n: Any) -> bool:
    """Whether n is a multiple of d for all sizes."""
    rest = n % d
    return type(rest) is int and rest == 0


def slice_range(item: slice, size: Any) -> tuple[Any, Any, Any]:
    """slice.indices(size), for a step of 1 or more where something is symbolic."""
    if not any(is_symbolic(n) for n in (item.start, item.stop, item.step, size)):
        return item.indices(size)
    step = 1 if item.step is None else operator.index(item.step)
    if step < 1:
        return item.indices(operator.index(size))

    def limit(n: Any, default: Any) -> Any:
        if n is None:
            return default
        n = n if is_symbolic(n) else operator.index(n)
        return max(n + size, 0) if n < 0 else min(n, size)

    return limit(item.start, 0), limit(item.stop, size), step


def blame(space: Space | None, place: Place | None) -> None:
    """What the compiler works on now: where guards are said to come from."""
    if space is not None:
        space.where = place
