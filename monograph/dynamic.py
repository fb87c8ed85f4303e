"""Which sizes of a captured function's arguments are dynamic: known at each call only.

`Policy` belongs to a function under `jit` and says which axes of which arguments are dynamic, from
what was declared and from what calls have shown. `Sizes` belongs to one program: the space of its
run-time sizes, and from which axes they are read. Read next: core/symbolic.py, core/sizes.py.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .core.errors import ArgumentError, ArgumentTypeError
from .core.sizes import Guard, Space
from .core.symbolic import SymInt

Axis = tuple[int, int]  # (number of the leaf, axis)

# When sizes are dynamic of themselves (docs/dynamic-shapes.md says why):
STEADY = 100  # calls after which one other size is taken for an exception, as the last batch
OFTEN = 1000  # calls in a row at one size after which a program for it alone is made


class Dim:
    """A dynamic dimension, for `jit(dynamic=...)`: the same Dim (or name) is the same size.

    name      what messages call it
    min, max  sizes outside of this range run in programs of their own

    Sizes below 2 always do, as in PyTorch: 0 and 1 have their own rules (broadcasting). Same
    meaning as torch.export.Dim.

    >>> T = Dim("T", max=512)
    >>> @mg.jit(dynamic={"x": {1: T}})
    ... def mean(x):
    ...     return x.sum(1) / x.shape[1]
    >>> [mean(ones(2, n)).tolist() for n in (3, 4)]
    [[1.0, 1.0], [1.0, 1.0]]
    """

    def __init__(self, name: str, *, min: int | None = None, max: int | None = None):
        if not isinstance(name, str) or not name.isidentifier():
            raise ArgumentError(f"Dim: name must be an identifier, got {name!r}")
        low = 2 if min is None else min
        if max is not None and max < low:
            raise ArgumentError(f"Dim: {name}: max {max} is less than min {low}")
        self.__name__ = self.name = name
        self.min, self.max = (low if low > 2 else 2), max

    def __repr__(self) -> str:
        return f"Dim({self.name!r}, min={self.min}, max={self.max})"


class Policy:
    """Which axes are dynamic. `declared` is what `jit(dynamic=...)` was given:

    None       an axis becomes dynamic with the second size that it is seen at; with the third if
               the function had been called `STEADY` times before the second
    False      none
    True       all, but those that the function needs the number of
    a mapping  from argument names to axes: {"x": {1: "T"}}, {"x": {1: Dim("T", max=512)}}, {"x": 1}
               or {"x": (0, 1)}; no others
    """

    def __init__(self, function: Callable, declared: Any):
        self.declared: Mapping[str, dict[int, Any]] | None = None
        self.all = declared is True
        self.automatic = declared is None
        self.off = declared is False
        if not (self.all or self.automatic or self.off):
            self.declared = _declared(function, declared)
            self.positional = list(inspect.signature(function).parameters)
        # By pattern (the key of a call without the sizes):
        self.axes: dict[Any, set[Axis]] = {}  # dynamic ones
        self.static: dict[Any, set[Axis]] = {}  # those that turned out to need the number
        self.seen: dict[Any, dict[Axis, set[int]]] = {}  # sizes of the others

    def choose(
        self, pattern: Any, shapes: Sequence[Any], treedef: Any, calls: int = 0
    ) -> dict[Axis, Any]:
        """The dynamic axes of a call with tensors of these shapes (None: another leaf), each with
        its Dim or name, or None. `calls` came before, for which there are programs."""
        if self.off:
            return {}
        if self.automatic:
            axes = sorted(self._from_experience(pattern, shapes, calls))
            found = _possible(dict.fromkeys(axes), shapes)
        else:
            found = self.declares(shapes, treedef)
        static = self.static.get(pattern, ())
        return {axis: name for axis, name in found.items() if axis not in static}

    def declares(self, shapes: Sequence[Any], treedef: Any) -> dict[Axis, Any]:
        """The axes of a call that are dynamic whatever came before."""
        found: dict[Axis, Any] = {}
        if self.declared is not None:
            found = self._from_declaration(shapes, treedef)
        elif self.all:
            found = {(k, a): None for k, s in enumerate(shapes) if s for a in range(len(s))}
        return _possible(dict(sorted(found.items())), shapes)

    def _from_experience(self, pattern: Any, shapes: Sequence[Any], calls: int) -> set[Axis]:
        axes = self.axes.setdefault(pattern, set())
        seen = self.seen.setdefault(pattern, {})
        for k, shape in enumerate(shapes):
            for a, n in enumerate(shape or ()):
                if n >= 2 and (k, a) not in axes:
                    sizes = seen.setdefault((k, a), set())
                    sizes.add(n)
                    if len(sizes) > (2 if calls >= STEADY else 1):
                        axes.add((k, a))
        return axes

    def _from_declaration(self, shapes: Sequence[Any], treedef: Any) -> dict[Axis, Any]:
        assert self.declared is not None
        args_tree, kwargs_tree, *_ = treedef.children
        names = [*self.positional[: len(args_tree.children)], *(kwargs_tree.context or ())]
        found: dict[Axis, Any] = {}
        at = 0
        for name, child in zip(names, (*args_tree.children, *kwargs_tree.children)):
            for k in range(at, at + child.num_leaves):
                for axis, dim in self.declared.get(name, {}).items():
                    if shapes[k] is None:
                        continue
                    ndim = len(shapes[k])
                    if not -ndim <= axis < ndim:
                        raise ArgumentError(
                            f"jit: dynamic: axis {axis} of {name!r}, which has {ndim} dimensions"
                        )
                    found[k, axis % ndim] = dim
            at += child.num_leaves
        return found

    def refuse(self, pattern: Any, axes: Sequence[Axis]) -> None:
        """These axes stay static from now on."""
        self.static.setdefault(pattern, set()).update(axes)


class Sizes:
    """The run-time sizes of one program.

    space   what they are symbols of
    places  for each size, by name, the axes that it is read from: all must have it
    shapes  the arguments' shapes with the sizes in them
    """

    def __init__(self, axes: Mapping[Axis, Any], shapes: Sequence[Any]):
        self.space = Space()
        self.places: dict[str, list[Axis]] = {}
        self.shapes: list[Any] = [None if s is None else list(s) for s in shapes]
        symbols: dict[Any, SymInt] = {}
        for (k, a), dim in axes.items():
            size = shapes[k][a]
            # Without a name, what is equal now is taken for one size.
            key = size if dim is None else _name(dim)
            if key not in symbols:
                name = f"s{len(symbols)}" if dim is None else _name(dim)
                low, high = (dim.min, dim.max) if isinstance(dim, Dim) else (2, None)
                symbols[key] = self.space.size(name, size, low, high)
                self.places[name] = []
            symbol = symbols[key]
            if symbol.hint != size:
                raise ArgumentError(
                    f"jit: dynamic: size {key!r} is {symbol.hint} in one argument and {size} in "
                    "another"
                )
            self.shapes[k][a] = symbol
            self.places[repr(symbol)].append((k, a))
        self._known: set[tuple[int, ...]] = set()

    def shape(self, k: int) -> tuple[Any, ...]:
        """Of leaf k, a tensor."""
        return tuple(self.shapes[k])

    def of(self, leaves: Sequence[Any]) -> dict[str, int]:
        """The sizes of a call."""
        return {
            name: leaves[places[0][0]]._value().shape[places[0][1]]
            for name, places in self.places.items()
        }

    def accepts(self, shapes: Sequence[Any]) -> str | None:
        """None if the program holds for arguments of these shapes, else why it does not."""
        sizes = {name: shapes[p[0][0]][p[0][1]] for name, p in self.places.items()}
        for k, (shape, mine) in enumerate(zip(shapes, self.shapes)):
            if shape is None:
                continue
            for a, (n, m) in enumerate(zip(shape, mine)):
                wanted = m if type(m) is int else sizes[repr(m)]
                if n != wanted:
                    what = wanted if type(m) is int else f"{m!r}, which is {wanted}"
                    return f"argument {k}: size of dimension {a} is {n}, not {what}"
        values = tuple(sizes.values())
        if values in self._known:
            return None
        for atom in self.space.atoms:
            if atom.over is None:
                n = sizes[atom.name]
                if n < atom.low or (atom.high is not None and n > atom.high):
                    return f"{self.said(atom.name)} is {n}, outside of {_range(atom)}"
        guard = self.space.broken(sizes)
        if guard is None:
            self._known.add(values)
            return None
        given = ", ".join(f"{name} = {n}" for name, n in sizes.items())
        return f"{given}: the program is for {guard}{_at(guard)}"

    def fix(self, axes: Sequence[Axis]) -> Callable[[Any], Any]:
        """These axes have the sizes that they have now; returns `Space.fix` of their sizes."""
        names = [name for name, places in self.places.items() if not set(places).isdisjoint(axes)]
        fixed = self.space.fix(names)
        for name in names:
            del self.places[name]
        self.shapes = [None if s is None else [fixed(n) for n in s] for s in self.shapes]
        self._known.clear()
        return fixed

    @property
    def axes(self) -> list[Axis]:
        """The dynamic ones."""
        return [axis for places in self.places.values() for axis in places]

    def said(self, name: str) -> str:
        k, a = self.places[name][0]
        return f"dimension {a} of argument {k} ({name})"

    def blamed(self, guard: Guard) -> list[Axis]:
        """The axes whose sizes a guard is about."""
        names: set[str] = set()
        stack = [guard.value]
        while stack:
            n = stack.pop()
            for mono, _ in n.terms:
                for a in mono:
                    atom = self.space.atoms[a]
                    if atom.over is None:
                        names.add(atom.name)
                    stack += [x for x in (atom.over, atom.by) if type(x) is SymInt]
        return [axis for name in names for axis in self.places[name]]

    def why_static(self, guard: Guard) -> str:
        """One line about what needs the number behind a size."""
        names = sorted({n for n, p in self.places.items() if set(p) & set(self.blamed(guard))})
        what = " and ".join(self.said(n) for n in names)
        return f"{what} cannot be dynamic: its number is needed{_at(guard)}"


def _possible(axes: dict[Axis, Any], shapes: Sequence[Any]) -> dict[Axis, Any]:
    """Those whose size may be dynamic."""
    sizes = {(k, a): shapes[k][a] for k, a in axes}
    return {x: dim for x, dim in axes.items() if sizes[x] >= 2 and _within(dim, sizes[x])}


def _name(dim: Any) -> str:
    return dim.name if isinstance(dim, Dim) else dim


def _within(dim: Any, n: int) -> bool:
    return not isinstance(dim, Dim) or (n >= dim.min and (dim.max is None or n <= dim.max))


def _range(atom: Any) -> str:
    return f"{atom.low} or more" if atom.high is None else f"{atom.low} to {atom.high}"


def _at(guard: Guard) -> str:
    return f" (at {guard.place})" if guard.place is not None else ""


def shapes_of(leaves: Sequence[Any], is_tensor: Callable[[Any], bool]) -> list[Any]:
    """The shape of each leaf that is a tensor, None for others."""
    return [tuple(x._value().shape) if is_tensor(x) else None for x in leaves]


def _declared(function: Callable, given: Any) -> dict[str, dict[int, Any]]:
    """{argument: {axis: Dim or name or None}}, checked."""
    if not isinstance(given, Mapping):
        raise ArgumentTypeError(
            f"jit: dynamic must be None, a bool or a mapping from argument names, got {given!r}"
        )
    names = inspect.signature(function).parameters
    result: dict[str, dict[int, Any]] = {}
    for name, axes in given.items():
        if name not in names:
            raise ArgumentError(
                f"jit: dynamic: the function has no argument {name!r}; it has {', '.join(names)}"
            )
        if isinstance(axes, int):
            axes = (axes,)
        if not isinstance(axes, Mapping):
            axes = dict.fromkeys(axes)
        for axis, dim in axes.items():
            if not isinstance(axis, int) or not (dim is None or isinstance(dim, (str, Dim))):
                raise ArgumentTypeError(
                    f"jit: dynamic: {name!r} must have axes with names or Dims, got {axis!r}: "
                    f"{dim!r}"
                )
        result[name] = dict(axes)
    return result


def pattern_of(key: Sequence[Any]) -> tuple[Any, ...]:
    """The key of a call without the sizes of its tensors."""
    return tuple(
        (len(part[0]), *part[1:]) if type(part) is tuple and len(part) == 4 else part
        for part in key
    )


__all__ = ["Dim", "Policy", "Sizes", "pattern_of", "shapes_of"]
