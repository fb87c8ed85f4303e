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


def affine_view(
    v: Value,
    stops: Callable[[Value], bool],
    strides_of: Callable[[Value], tuple[int, ...]] | None = None,
) -> tuple[Value, tuple[int, ...], int] | None:
    """(base, strides, offset) of v as a view of the first value below it that `stops` accepts.

    None where an op on the way computes, masks, or the strides do not exist.
    """
    names = [f"a{k}" for k in range(len(v.shape))]
    index = tuple(loop_index(name, n) for name, n in zip(names, v.shape))
    u = v
    try:
        while not stops(u):
            node = u.node
            if node is None or node.op.kind != "movement":
                return None
            inner, mask = node.op.source(index, node.inputs[0].shape)  # type: ignore[attr-defined]
            if mask is not None:
                return None
            index = tuple(ZERO + i if isinstance(i, int) else i for i in inner)
            u = node.inputs[0]
    except NeedSplit:
        return None
    position: Index = flat(index, (strides_of or _row_major)(u))
    strides = []
    for name in names:
        c = position.coefficient(name)
        if c is None:
            return None
        strides.append(c)
    if any(a.of is not None for a, _ in position.terms):
        return None
    return u, tuple(strides), position.const


def _row_major(v: Value) -> tuple[int, ...]:
    return contiguous_strides(v.shape)
