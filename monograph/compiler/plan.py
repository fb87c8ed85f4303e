"""A plan: everything decided about a graph before code is made of it.

pipeline.py makes plans, executable.py runs them, stored.py keeps them on disk: a process that finds
all of its plans there needs no pass and no kernel generator, and does not import them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ..ir.graph import Graph, Node, Value
from .control import ControlStep
from .fuse import Group
from .layout import Layouts
from .steps import Scratch, Step

CompileBody = Callable[[Graph, int, int], Any]

# Work (elements touched, or multiply-adds) below which a kernel runs on the calling thread alone.
SMALL_WORK = 32768


@dataclass(eq=False)
class HostStep:
    """An op without a kernel: its NumPy reference, between native parts."""

    node: Node


@dataclass
class Plan:
    """Steps in order, and where values lie; explain.py prints it."""

    graph: Graph
    groups: list[Group] = field(default_factory=list)
    steps: list[Step | HostStep | ControlStep] = field(default_factory=list)
    stored: set[Value] = field(default_factory=set)
    layouts: Layouts = field(default_factory=lambda: Layouts({}))
    alias: dict[Value, Value] = field(default_factory=dict)  # result -> input it overwrites
    offsets: dict[Any, int] = field(default_factory=dict)
    arena_bytes: int = 0
    prologue: int = 0  # so many of the steps read constants alone: they need not run every time
    first: Graph | None = None  # computes the last of the constants, from steady inputs alone


def written_by(step: Step | HostStep | ControlStep) -> list[Any]:
    """What a step may write to."""
    if isinstance(step, Step):
        return [b for b, k in zip(step.buffers, step.kernel.buffers) if k.written]
    if isinstance(step, HostStep):
        return list(step.node.outputs)
    return [b for b in step.buffers if isinstance(b, Scratch) or b in step.node.outputs]
