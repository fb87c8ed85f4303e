"""Where a value's elements stand, when it is a view of something in memory."""

from __future__ import annotations

from collections.abc import Callable

from ..core.shape import contiguous_strides
from ..ir.graph import Value
from .index import ZERO, Index, NeedSplit, flat, loop_index


class Locator:
    """Follows permutations, reshapes, expansions and slices down to stored values."""

    def __init__(
        self,
        is_stored: Callable[[Value], bool],
        strides: Callable[[Value], tuple[int, ...]],
    ):
        self.is_stored, self.strides = is_stored, strides

    def locate(self, v: Value) -> tuple[Value, tuple[int, ...], int]:
        """(stored value, strides per axis of v, offset), in elements; v itself if it is stored."""
        if v.node is None or self.is_stored(v):
            return v, self.strides(v), 0
        found = affine_view(v, lambda u: u.node is None or self.is_stored(u), self.strides)
        assert found is not None, "fusion stores every operand that is not an affine view"
        return found


def whole_input(v: Value) -> Value:
    """The input or constant that v is another shape of, or v."""
    base = v
    while base.node is not None and base.node.op.name == "reshape":
        base = base.node.inputs[0]
    return base if base.node is None else v


def affine_view(
    v: Value,
    stops: Callable[[Value], bool],
    strides_of: Callable[[Value], tuple[int, ...]] | None = None,
) -> tuple[Value, tuple[int, ...], int] | None:
    """(base, strides, offset) of v as a view of the first value below it that `stops` accepts.

    None where an op on the way computes, masks, or the strides do not exist.
    """
    parts = [[n] for n in v.shape]  # each axis, split where a reshape on the way cuts it
    for _ in range(16):
        try:
            return _follow(v, stops, strides_of or _row_major, parts)
        except NeedSplit as need:
            axis, part = (int(x) for x in need.name[1:].split("_"))
            size = parts[axis][part]
            parts[axis][part : part + 1] = [size // need.inner, need.inner]
    return None


def _follow(
    v: Value,
    stops: Callable[[Value], bool],
    strides_of: Callable[[Value], tuple[int, ...]],
    parts: list[list[int]],
) -> tuple[Value, tuple[int, ...], int] | None:
    index = []
    for axis, sizes in enumerate(parts):
        total, below = ZERO, 1
        for part in reversed(range(len(sizes))):
            total = total + loop_index(f"a{axis}_{part}", sizes[part]) * below
            below *= sizes[part]
        index.append(total)
    at = tuple(index)
    u = v
    while not stops(u):
        node = u.node
        if node is None or node.op.kind != "movement":
            return None
        inner, mask = node.op.source(at, node.inputs[0].shape)  # type: ignore[attr-defined]
        if mask is not None:
            return None
        at = tuple(ZERO + i if isinstance(i, int) else i for i in inner)
        u = node.inputs[0]
    position: Index = flat(at, strides_of(u))
    if any(a.of is not None for a, _ in position.terms):
        return None
    strides = []
    for axis, sizes in enumerate(parts):
        step: int | None = None  # of the whole axis: its parts must nest
        length = 1
        for part in reversed(range(len(sizes))):
            if sizes[part] == 1:
                continue
            c = position.coefficient(f"a{axis}_{part}")
            if c is None or (step is not None and c != step * length):
                return None
            step = c if step is None else step
            length *= sizes[part]
        strides.append(step or 0)
    return u, tuple(strides), position.const


def _row_major(v: Value) -> tuple[int, ...]:
    return contiguous_strides(v.shape)
