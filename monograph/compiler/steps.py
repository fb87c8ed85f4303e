"""What lowering produces: steps (a kernel and the values behind its buffers) and scratch memory.

Contractions and opaque ops have kernels of their own. A lowering is registered by op name:

    @lowers("conv")
    def lower_conv(node, context):
        ...
        return [Step(kernel, (x, weight, node.outputs[0]))]     # in the order of kernel.buffers

It may return None for a case that it does not handle: then the next one registered for the op is
asked; after the last, the op's NumPy reference runs between the native parts of the program
(correct, slow). Values are row-major unless context.strides says other.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..core.shape import contiguous_strides
from ..ir.graph import Node, Value
from ..kernel.ir import Expr, Kernel, Stmt
from .index import Index


@dataclass(eq=False)
class Scratch:
    """Memory that lives from the first step that names it to the last."""

    dtype: str
    size: int  # elements


@dataclass(eq=False)
class Step:
    """One kernel call. `buffers` are values or scratch, in the order of kernel.buffers.

    flops and bytes are for profiles; parallel False: too little work to wake another thread.
    """

    kernel: Kernel
    buffers: Sequence[Value | Scratch]
    sizes: Sequence[int] = ()
    parallel: bool = True
    flops: int = 0
    title: str = ""
    nodes: list[Node] = field(default_factory=list)
    status: Scratch | None = None  # a word that the kernel sets when something is wrong
    complaint: str = ""  # what is wrong then


class Epilogue:
    """What is computed from a kernel's results before they are stored.

    The kernel calls emit(index, value) where it would store element `index` (a tuple of Index along
    the axes of the node's output) and places the statements there; the buffers that they use are
    `buffers` (appended to the kernel's own). Works inside vector loops.
    """

    buffers: list[Any]  # kernel.ir.Buffer
    values: list[Value]  # what stands behind them

    def emit(self, index: tuple[Index, ...], value: Expr) -> list[Stmt]:
        raise NotImplementedError("abstract: Epilogue.emit")

    def ahead(self, index: tuple[Index, ...]) -> list[Stmt]:
        """Ask for the cache lines that emit(index) will touch, of arrays as large as the result."""
        return []


@dataclass(eq=False)
class OperandSum:
    """`total` is the sum of a contraction's operand `of` over all its axes but one."""

    total: Value
    of: Value
    axis: int


@dataclass
class Context:
    """What a lowering may ask."""

    title: str  # kernel name to use (a prefix where there are several)
    epilogue: Epilogue | None = None
    # v -> (stored value, strides per axis of v, offset in elements): where v's elements stand when
    # v
    # is a permutation, reshape, expansion or slice of a stored value; strides None: not affine.
    locate: Callable[[Value], tuple[Value, tuple[int, ...], int]] | None = None
    stored_strides: Callable[[Value], tuple[int, ...]] | None = None
    # In the body of a loop: values that are the same in each iteration. A step that reads nothing
    # else runs once, before the loop.
    constant: Collection[Value] = ()
    # For an op of WRITES_AT: its result stands where its base does, whose other places stay.
    in_place: bool = False
    placed: Collection[tuple[Value, Value]] = ()  # Layouts.placed
    unread: Collection[Value] = ()  # results that nobody reads: a kernel need not make them
    # What a contraction may make besides; it says whether it does.
    operand_sum: OperandSum | None = None
    makes_sum: bool = False

    def strides(self, v: Value) -> tuple[int, ...]:
        """Strides in elements of a stored value."""
        return (self.stored_strides or _row_major)(v)


def _row_major(v: Value) -> tuple[int, ...]:
    return contiguous_strides(v.shape)


Lowering = Callable[[Node, Context], "list[Step] | None"]
LOWERINGS: dict[str, Lowering] = {}
FUSES_EPILOGUE: set[str] = set()
# Ops that change a base, their first operand, at indices.
WRITES_AT = {"index_add", "index_set", "scatter_add", "scatter_set", "scatter_reduce"}


def lowers(*names: str, epilogue: bool = False) -> Callable[[Lowering], Lowering]:
    """Register the lowering of the ops named; `epilogue`: it honours context.epilogue."""

    def register(f: Lowering) -> Lowering:
        for name in names:
            before = LOWERINGS.get(name)
            LOWERINGS[name] = f if before is None else _first_of(before, f)
            if epilogue:
                FUSES_EPILOGUE.add(name)
        return f

    return register


def _first_of(f: Lowering, g: Lowering) -> Lowering:
    return lambda node, context: f(node, context) or g(node, context)
