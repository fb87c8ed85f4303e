"""Run-time sizes in the compiler: where they are, and what programs at several sizes share.

A graph whose shapes hold SymInts (core/symbolic.py) is compiled like any other; its kernels get
what is symbolic as arguments (kernel/parameters.py). The program is then *bound* to sizes: places
in memory, numbers of chunks and arguments are computed for them, and no code is made
(`Executable.bound`, pipeline.py).
"""

from __future__ import annotations

import operator
import threading
from typing import Any

import numpy as np

from ..core.sizes import Guard, Space
from ..core.symbolic import SymInt
from ..ir.graph import Graph
from ..ir.region import regions_of
from ..kernel.parameters import parametrise
from ..runtime import buffers
from .fuse import Group
from .steps import Step

# Sizes that a program keeps addresses for.
MOST_BOUND = 256


class NotDynamic(Exception):
    """Something in a graph needs the number behind a run-time size: see the guard."""

    def __init__(self, guard: Guard | None):
        super().__init__(str(guard))
        self.guard = guard


class Family:
    """What the bindings of one program to different sizes share: they run one at a time."""

    def __init__(self) -> None:
        self.bound: dict[tuple[int, ...], Any] = {}  # sizes -> Executable
        self.sizes: dict[Any, Any] = {}  # value or scratch -> bytes
        self.lock = threading.Lock()
        self.arena = buffers.empty((64,), np.uint8)

    def arena_of(self, size_bytes: int) -> np.ndarray:
        """Memory of so many bytes or more. Bindings to memory that is too small are forgotten."""
        if size_bytes > self.arena.nbytes:
            self.bound.clear()
            self.arena = buffers.empty((size_bytes + size_bytes // 4,), np.uint8)
        return self.arena

    def keep(self, sizes: tuple[int, ...], executable: Any) -> None:
        if len(self.bound) >= MOST_BOUND:
            self.bound.pop(next(iter(self.bound)))
        self.bound[sizes] = executable


def space_of(graph: Graph) -> Space | None:
    """The space of a graph's run-time sizes, if it has any."""
    avals = [v.aval for v in graph.inputs]
    avals += [v.aval for node in graph.nodes for v in node.outputs]
    for aval in avals:
        for n in aval.shape:
            if type(n) is SymInt:
                return n.space
    for node in graph.nodes:
        for region in regions_of(node.op):
            space = space_of(region.graph)
            if space is not None:
                return space
    return None


def take_sizes(step: Any) -> None:
    """Run-time sizes in a step's kernel become its arguments; where NumPy computes, numbers."""
    if isinstance(step, Step):
        step.kernel, more = parametrise(step.kernel)
        step.sizes = [*step.sizes, *more]
    elif not getattr(step, "is_native", False):
        for v in (*step.node.values, *step.node.outputs):
            for n in v.shape:
                operator.index(n)


def place_of(group: Group) -> Any:
    """The user's line that a group comes from."""
    node = group.node or next((v.node for v in group.items if v.node is not None), None)
    return None if node is None else node.place


def as_word(n: Any) -> int:
    """A size as the driver takes it: floats as their bits."""
    return int(np.float64(n).view(np.int64)) if type(n) is float else n
