"""A contraction as loops: the letters of the signature sorted into batch, M, N and K, and merged.

`analyse(node, context)` turns "bthd,bshd->bhts" and the operands' strides into a Problem: the loops
M (rows of the result), N (columns, the contiguous ones), K (summed) and whatever is left around
them. Operands are read where they stand, at any strides. Read next: gemm.py, which makes kernels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ...core.symbolic import hint, is_symbolic
from ...ir.graph import Node, Value
from ..index import ZERO, Atom, Index, loop_index
from ..steps import Context

# Where M or N is known at run time only and the first M is small, tiles have so many rows at most:
# a product must not be smaller than a tile.
TILE_ROWS, SMALL_M = 14, 128


@dataclass(frozen=True)
class Dim:
    """One loop over one or several letters: how far each operand and the result move per turn.

    `axes` are the result's axes that the loop runs over, (axis, size), outermost first.
    """

    size: int
    a: int = 0
    b: int = 0
    out: int = 0
    axes: tuple[tuple[int, int], ...] = ()

    def encloses(self, inner: Dim) -> bool:
        """Whether this loop and the next one inside are one loop in all three operands."""
        mine = (self.a, self.b, self.out)
        return mine == tuple(s * inner.size for s in (inner.a, inner.b, inner.out))

    def at_hint(self) -> Dim:
        return Dim(hint(self.size), hint(self.a), hint(self.b), hint(self.out), self.axes)

    def swapped(self) -> Dim:
        return Dim(self.size, self.b, self.a, self.out, self.axes)


@dataclass(frozen=True)
class Problem:
    """out[o, m, n] = sum over k of a[o, m, k] * b[o, k, n], strides in elements.

    N has stride 1 in the result where any letter but a batch letter has. `k` is a nest of loops,
    outermost first; `outer` holds the batch letters and what could not be merged into M and N.
    """

    a: Value
    b: Value
    a_offset: int
    b_offset: int
    outer: tuple[Dim, ...]
    m: Dim
    n: Dim
    k: tuple[Dim, ...]
    out: Value
    steady: bool = False  # b is the same in each iteration of a loop: packed once, for all of them
    narrow: bool = False  # N is known at run time only: a tile is one vector, which most sizes hold
    most_rows: int = 99  # of a tile: few where M is known at run time only, and may be small

    def turned(self) -> Problem:
        """The same with rows and columns exchanged: N has stride 1 in the result no longer."""
        outer, k = (tuple(d.swapped() for d in dims) for dims in (self.outer, self.k))
        return replace(
            self, a=self.b, b=self.a, a_offset=self.b_offset, b_offset=self.a_offset,
            outer=outer, m=self.n.swapped(), n=self.m.swapped(), k=k,
        )  # fmt: skip

    @property
    def depth(self) -> int:
        """Length of the sum."""
        return math.prod(d.size for d in self.k)

    @property
    def batch(self) -> int:
        return math.prod(d.size for d in self.outer)

    @property
    def flops(self) -> int:
        return 2 * self.batch * self.m.size * self.n.size * self.depth

    def at_hint(self) -> Problem:
        """The problem at the sizes that a program was made at; itself where all are fixed."""
        dims = (*self.outer, self.m, self.n, *self.k)
        if not any(is_symbolic(x) for d in dims for x in (d.size, d.a, d.b, d.out)):
            return self
        outer, k = (tuple(d.at_hint() for d in x) for x in (self.outer, self.k))
        m, n, narrow = self.m.at_hint(), self.n.at_hint(), is_symbolic(self.n.size)
        few = is_symbolic(self.m.size) and m.size < SMALL_M
        rows = TILE_ROWS if narrow or few else self.most_rows
        return replace(self, outer=outer, m=m, n=n, k=k, narrow=narrow, most_rows=rows)


def merge(dims: Sequence[Dim]) -> list[Dim]:
    """Neighbouring loops (outermost first) made one wherever all strides nest."""
    merged: list[Dim] = []
    for d in dims:
        if d.size == 1:
            continue
        if merged and merged[-1].encloses(d):
            o = merged.pop()
            d = Dim(o.size * d.size, d.a, d.b, d.out, o.axes + d.axes)
        merged.append(d)
    return merged


def analyse(node: Node, context: Context, merges: bool = True) -> Problem | None:
    """The loops of a contraction; None where an operand is not affine in its letters.

    merges False keeps the letters of the result apart, as epilogues that reshape need.
    """
    x, y = node.inputs
    (out,) = node.outputs
    x_letters, y_letters, o_letters = node.op.parts()  # type: ignore[attr-defined]
    locate = context.locate or (lambda v: (v, context.strides(v), 0))
    a, a_strides, a_offset = locate(x)
    b, b_strides, b_offset = locate(y)
    if a_strides is None or b_strides is None:
        return None
    size: dict[str, int] = {}
    a_step: dict[str, int] = {}
    b_step: dict[str, int] = {}
    for letters, v, strides, step in (
        (x_letters, x, a_strides, a_step),
        (y_letters, y, b_strides, b_step),
    ):
        for letter, n, stride in zip(letters, v.shape, strides):
            size[letter] = n
            step[letter] = step.get(letter, 0) + stride
    o_step = dict(zip(o_letters, context.strides(out)))

    def dims(letters: Sequence[str]) -> list[Dim]:
        found = []
        for c in letters:
            axes = ((o_letters.index(c), size[c]),) if c in o_step else ()
            found.append(Dim(size[c], a_step.get(c, 0), b_step.get(c, 0), o_step.get(c, 0), axes))
        if merges:
            return merge(found)
        return [d for d in found if d.size != 1]

    batch = dims([c for c in o_letters if c in a_step and c in b_step])
    rows = dims([c for c in o_letters if c not in b_step])
    columns = dims([c for c in o_letters if c not in a_step])
    summed = [c for c in x_letters if c not in o_step]
    inner = merge_sum(dims(sorted(summed, key=lambda c: (-a_step[c], -b_step[c]))))
    if 0 in size.values():
        inner = [Dim(0)]
    swap = _last(rows) < _last(columns) if rows and columns else not columns
    if swap:
        a, b, a_offset, b_offset = b, a, b_offset, a_offset
        rows, columns = [d.swapped() for d in columns], [d.swapped() for d in rows]
        batch, inner = [d.swapped() for d in batch], [d.swapped() for d in inner]
    n = min(columns, key=lambda d: d.out, default=Dim(1, out=1))
    m = max(rows, key=lambda d: hint(d.size), default=Dim(1))
    outer = batch + [d for d in rows if d is not m] + [d for d in columns if d is not n]
    steady = b in context.constant
    return Problem(a, b, a_offset, b_offset, tuple(outer), m, n, tuple(inner), out, steady)


def _last(dims: list[Dim]) -> int:
    """Smallest step in the result."""
    return min(d.out for d in dims)


def merge_sum(dims: list[Dim]) -> list[Dim]:
    return merge(dims) or [Dim(1)]


def output_index(
    problem: Problem, variables: Sequence[tuple[Dim, str]], opaque: bool = False
) -> tuple[Index, ...]:
    """The index along each axis of the result, from (loop, variable) pairs.

    opaque: divisions of it stay divisions and never ask for a split of the loop.
    """
    index: list[Index] = [ZERO] * len(problem.out.shape)
    for dim, name in variables:
        rest, count = loop_index(name, dim.size), dim.size
        if opaque:
            rest = _atom(rest, count, 1, False)
        for axis, size in reversed(dim.axes[1:]):
            count //= size
            index[axis] = _atom(rest, size, size, True)
            rest = _atom(rest, count, size, False)
        for axis, _ in dim.axes[:1]:
            index[axis] = rest
    return tuple(index)


def _atom(of: Index, size: int, by: int, is_mod: bool) -> Index:
    # Made by hand: `//` would ask for a split of the loop, which here stays whole.
    return Index(((Atom("", size, of, by, is_mod), 1),))
