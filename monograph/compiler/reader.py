"""Reading values in loops: an expression for any graph value at any index, computed in place.

A Reader walks from a value through elementwise, source and movement ops down to what stands in
memory, building scalar expressions. Every step becomes a Let in the outermost loop that it depends
on, so nothing is computed twice or deeper than needed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ..core.shape import contiguous_strides
from ..core.symbolic import is_symbolic
from ..ir.graph import Value
from ..ir.op import Op
from ..kernel import scalar
from ..kernel.ir import Call, Const, Expr, Let, Load, Stmt, Var
from ..ops.movement import Pad
from .index import ZERO, Index, both, flat

COMPUTE = {"f16": "f32", "bf16": "f32"}


def compute_type(dtype: Any) -> str:
    """The loop-language dtype in which values of `dtype` are computed."""
    return COMPUTE.get(dtype.code, dtype.code)


@dataclass
class Storage:
    """Where a value stands: a kernel buffer's name and the value's strides in elements."""

    buffer: str
    strides: tuple[int, ...]


@dataclass
class Scope:
    """A loop body under construction."""

    level: int
    names: set[str]  # loop variables that exist from here on inward
    body: list[Stmt] = field(default_factory=list)


class Reader:
    """Builds expressions for values.

    stored     value -> Storage: read from memory
    bound      value -> function(index) -> expression: results of this kernel's own reductions
    merges     outer loop variable -> dropped (its inner neighbour runs over both)
    """

    def __init__(self, stored: Callable[[Value], Storage | None]):
        self.stored = stored
        self.bound: dict[Value, Callable[[tuple[Index, ...]], Expr]] = {}
        self.scopes: list[Scope] = [Scope(0, set())]
        self.accesses: list[Index] = []
        self.at: dict[str, set[Index]] = {}  # buffer -> where it is accessed
        self.dropped: set[str] = set()
        self.pinned: set[str] = set()
        self.memo: list[dict[Any, tuple[Expr, int]]] = [{}]
        self.levels: dict[str, int] = {}
        self.count = 0
        self.prefix = ""

    # Scopes

    def push(self, *names: str) -> Scope:
        scope = Scope(len(self.scopes), set(names))
        self.scopes.append(scope)
        self.memo.append({})
        for n in names:
            self.levels[n] = scope.level
        return scope

    def pop(self) -> tuple[Stmt, ...]:
        self.memo.pop()
        return tuple(self.scopes.pop().body)

    def emit(self, stmt: Stmt) -> None:
        self.scopes[-1].body.append(stmt)

    def name(self, stem: str = "v") -> str:
        self.count += 1
        return f"{self.prefix}{stem}{self.count}"

    def _level_of_index(self, index: Index) -> int:
        level = 0
        for atom, _ in index.terms:
            if atom.of is None:
                level = max(level, self.levels.get(atom.name, 0))
            else:
                level = max(level, self._level_of_index(atom.of))
        return level

    def _level_of_expr(self, e: Any, seen: dict[int, int] | None = None) -> int:
        """`seen` holds the levels of shared parts: a formula is a graph, as a tree it may be
        huge."""
        if isinstance(e, Var):
            return self.levels.get(e.name, 0)
        if isinstance(e, Index):
            return self._level_of_index(e)
        seen = {} if seen is None else seen
        level = seen.get(id(e))
        if level is None:
            level = 0
            if isinstance(e, Call):
                level = max((self._level_of_expr(a, seen) for a in e.args), default=0)
            elif isinstance(e, Load):
                level = max(self._level_of_expr(e.index, seen), self.levels.get(e.buffer, 0))
                if e.mask is not None:
                    level = max(level, self._level_of_expr(e.mask, seen))
            seen[id(e)] = level
        return level

    def let(self, e: Expr, stem: str = "v") -> Expr:
        """Name an expression in the outermost scope that it can stand in."""
        if isinstance(e, (Var, Const)):
            return e
        level = self._level_of_expr(e)
        name = self.name(stem)
        self.levels[name] = level
        self.scopes[level].body.append(Let(name, e))
        return Var(name, e.dtype)

    # Indices

    def close(self, index: Index) -> Expr:
        """An index as an expression, with merged loops applied."""
        if self.dropped:
            kept = tuple((a, c) for a, c in index.terms if a.name not in self.dropped or a.of)
            index = Index(kept, index.const)
        return index.expr()

    def position(
        self, index: tuple[Index, ...], strides: tuple[int, ...], buffer: str = ""
    ) -> Expr:
        total = flat(index, strides)
        self.accesses.append(total)
        self.at.setdefault(buffer, set()).add(total)
        return self.close(total)

    def mask(self, e: Any) -> Any:
        """A mask with its indices as expressions."""
        if isinstance(e, Index):
            self.accesses.append(Index((), 0))
            self._pin(e)
            return self.close(e)
        if isinstance(e, Call):
            return Call(e.op, tuple(self.mask(a) for a in e.args), e.dtype)
        return e

    def _pin(self, index: Index) -> None:
        """Forbid merging the loops that this index uses on its own."""
        for atom, _ in index.terms:
            if atom.of is not None:
                self._pin(atom.of)
            else:
                self.pinned.add(atom.name)

    # Values

    def read(self, v: Any, index: tuple[Index, ...], mask: Any = None, like: str = "") -> Expr:
        """The element of v at `index`; where `mask` is false the result is unspecified."""
        if not isinstance(v, Value):
            return literal(v, like)
        if v in self.bound:
            return self.bound[v](index)
        key = (v, index, mask)
        for memo in reversed(self.memo):
            if key in memo:
                return memo[key][0]
        e = self._compute(v, index, mask)
        if not isinstance(e, (Const, Var)):
            e = self.let(e)
        level = self._level_of_expr(e)
        self.memo[min(level, len(self.memo) - 1)][key] = (e, level)
        return e

    def _compute(self, v: Value, index: tuple[Index, ...], mask: Any) -> Expr:
        storage = self.stored(v)
        if storage is not None:
            code = v.dtype.code
            e: Expr = Load(
                storage.buffer, self.position(index, storage.strides, storage.buffer), code, mask
            )
            return scalar.cast(e, COMPUTE[code]) if code in COMPUTE else e
        node = v.node
        assert node is not None, f"{v!r} is neither stored nor computed"
        op: Op = node.op
        kind = op.kind
        if kind == "elementwise":
            values = [u for u in node.inputs if isinstance(u, Value)]
            like = compute_type(values[-1].dtype)
            args = [self.read(u, index, mask, like) for u in node.inputs]
            return op.scalar(scalar, *args)  # type: ignore[attr-defined]
        if kind == "movement":
            inner, inside = op.source(index, node.inputs[0].shape)  # type: ignore[attr-defined]
            inner = tuple(ZERO + i if isinstance(i, int) else i for i in inner)
            inside = None if inside is None else both(None, inside)
            if inside is None:
                return self.read(node.inputs[0], inner, mask)
            inside = self.let(self.mask(inside), "m")
            e = self.read(node.inputs[0], inner, both(mask, inside))
            fill = op.value if isinstance(op, Pad) else 0
            return scalar.select(inside, e, literal(fill, e.dtype))
        if kind == "source":
            for i in index:
                self._pin(i)
            at = tuple(self.close(i) for i in index)
            readers = [_flat_reader(self, u) for u in node.inputs]
            return op.scalar(scalar, at, *readers)  # type: ignore[attr-defined]
        raise AssertionError(f"{op.name} is not computed in place")


def _flat_reader(reader: Reader, v: Any) -> Callable[[int], Expr]:
    def element(j: int) -> Expr:
        if not isinstance(v, Value):
            return Const(v, "f32")
        strides = contiguous_strides(v.shape)
        index = []
        for n, stride in zip(v.shape, strides):
            index.append(Index((), (j // stride) % n))
        return reader.read(v, tuple(index))

    return element


def literal(x: Any, code: str) -> Const:
    """A Python number as a constant of a loop-language dtype."""
    if is_symbolic(x):
        return Const(x, code)
    if code in ("f32", "f64"):
        return Const(float(x), code)
    return Const(bool(x) if code == "bool" else int(x), code)
