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
surely equal as different. Read next: sizes.py, the space and its guards.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from .sizes import Space

# A monomial is a sorted tuple of atom numbers (with repetitions); () is the constant's.
Terms = tuple[tuple[tuple[int, ...], int], ...]

# What can be asked of a difference.
SIGNS: dict[str, Callable[[int], bool]] = {"<": lambda d: d < 0, "==": lambda d: d == 0}


def made(space: Space, terms: Mapping[tuple[int, ...], int]) -> Any:
    """The polynomial with these coefficients: an int where nothing symbolic is left."""
    kept = tuple(sorted((m, c) for m, c in terms.items() if c))
    if not kept:
        return 0
    if len(kept) == 1 and kept[0][0] == ():
        return kept[0][1]
    return SymInt(space, kept)


def terms_of(x: Any) -> Terms:
    """The coefficients of an int or SymInt."""
    return (((), x),) if type(x) is int else x.terms


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
        for m, c in terms_of(y):
            table[m] = table.get(m, 0) + c
        return made(self.space, table)

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
            for n, k in terms_of(y):
                both = tuple(sorted(m + n)) if m and n else m or n
                table[both] = table.get(both, 0) + c * k
        return made(self.space, table)

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
        return SIGNS[kind](d) if type(d) is int else self.space.ask(d, kind)

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
        numbers = [a.__index__() if type(a) is SymInt else float(a) for a in self.args]
        return float(self.function(*numbers))

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
