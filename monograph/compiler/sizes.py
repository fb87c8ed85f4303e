"""Run-time sizes in the compiler: where they are, and what programs at several sizes share.

A graph whose shapes hold SymInts (core/symbolic.py) is compiled like any other; its kernels get
what is symbolic as arguments (kernel/parameters.py). The program is then *bound* to sizes: places
in memory, numbers of chunks and arguments are computed for them, and no code is made
(`Executable.bound`, executable.py).
"""

from __future__ import annotations

import dataclasses
import operator
import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from ..core.sizes import Guard, Space
from ..core.symbolic import SymInt, any_symbolic, is_symbolic
from ..ir.graph import Graph, Node, Value
from ..ir.op import Aval
from ..ir.region import Region, regions_of
from ..kernel.parameters import parametrise
from ..runtime import buffers
from .fuse import Group
from .steps import Scratch, Step

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
        self.kept: dict[Any, np.ndarray] = {}  # value or scratch that is the same at all sizes
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


def depends_on_sizes(step: Any) -> bool:
    """Whether what a step (after `take_sizes`) does differs from one size to another."""
    numbers = [*step.sizes, *(b.size for b in step.buffers if isinstance(b, Scratch))]
    for b in step.buffers:
        if isinstance(b, Value):
            numbers += b.shape
    return any(map(is_symbolic, numbers))


def node_depends_on_sizes(node: Node) -> bool:
    """Whether an operation's operands, parameters or results hold a run-time size."""
    numbers: list[Any] = [x for x in node.inputs if not isinstance(x, Value)]
    for v in (*node.values, *node.outputs):
        numbers += v.shape
    stack = list(vars(node.op).values())
    while stack:
        x = stack.pop()
        if isinstance(x, (tuple, list)):
            stack += x
        else:
            numbers.append(x)
    return any(map(is_symbolic, numbers))


def fix_sizes(graph: Graph, fixed: Callable[[Any], Any]) -> None:
    """Put numbers for sizes, as `Space.fix` gives them, into all values and operations."""
    for v in (*graph.inputs, *graph.constants):
        v.aval = _fixed_aval(v.aval, fixed)
    for node in graph.nodes:
        node.op = _fixed_op(node.op, fixed)
        node.inputs = tuple(x if isinstance(x, Value) else fixed(x) for x in node.inputs)
        for v in node.outputs:
            v.aval = _fixed_aval(v.aval, fixed)


def _fixed_aval(aval: Aval, fixed: Callable[[Any], Any]) -> Aval:
    if not any_symbolic(aval.shape):
        return aval
    return Aval(tuple(map(fixed, aval.shape)), aval.dtype)


def _fixed_op(op: Any, fixed: Callable[[Any], Any]) -> Any:
    changed = {}
    for name, x in vars(op).items():
        y = _fixed_parameter(x, fixed)
        if y is not x:
            changed[name] = y
    return dataclasses.replace(op, **changed) if changed else op


def _fixed_parameter(x: Any, fixed: Callable[[Any], Any]) -> Any:
    if is_symbolic(x):
        return fixed(x)
    if isinstance(x, tuple):
        parts = tuple(_fixed_parameter(i, fixed) for i in x)
        return x if all(a is b for a, b in zip(x, parts)) else parts
    if isinstance(x, Region) and space_of(x.graph) is not None:
        return _fixed_region(x, fixed)
    return x


def _fixed_region(region: Region, fixed: Callable[[Any], Any]) -> Region:
    old, graph = region.graph, Graph()
    env = {v: graph.input(_fixed_aval(v.aval, fixed), v.name) for v in old.inputs}
    for v, array in old.constants.items():
        env[v] = graph.constant(array, v.aval)
    for node in old.nodes:
        inputs = [env[x] if isinstance(x, Value) else fixed(x) for x in node.inputs]
        made = graph.add(_fixed_op(node.op, fixed), *inputs, place=node.place)
        env.update(zip(node.outputs, made if isinstance(made, tuple) else (made,)))
    graph.outputs = [env[v] for v in old.outputs]
    return Region(graph)


def place_of(group: Group) -> Any:
    """The user's line that a group comes from."""
    node = group.node or next((v.node for v in group.items if v.node is not None), None)
    return None if node is None else node.place


def as_word(n: Any) -> int:
    """A size as the driver takes it: floats as their bits."""
    return int(np.float64(n).view(np.int64)) if type(n) is float else n
