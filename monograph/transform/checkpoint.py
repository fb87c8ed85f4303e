"""Recompute instead of keeping: run a function now, drop what its nodes saved, run it again later.

The nodes and their edges stay on the tape, so that derivatives go through them as usual; the first
node of the region that is pulled runs the function once more and hands each node the values that
the same operation saved this time.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from typing import Any

from ..core.errors import GradError
from ..core.modes import modes
from ..ops import random
from .tape import Node, next_number
from .vmap import revived


class Region:
    """The nodes that one call left, without what they saved. `run` does the call again."""

    def __init__(self, run: Callable[[], Any], tensors: Iterable[Any], generator: Any):
        self.run = run
        self.tensors = [(t, t._version[0]) for t in tensors]
        self.generator = generator
        self.state = None if generator is None else _copy(generator.state)
        self.vmap, self.autocast = modes.vmap, modes.autocast
        self.number = next_number()
        self.nodes: list[weakref.ref[Node]] = []
        self.titles: list[str] = []

    def keep(self, nodes: list[Node]) -> None:
        for node in nodes:
            node.forget()
            node.recompute = self
            self.nodes.append(weakref.ref(node))
            self.titles.append(node.title)

    def fill(self) -> None:
        """Bring back what the nodes saved."""
        for t, version in self.tensors:
            if t._version[0] != version:
                raise GradError(
                    f"checkpoint: an argument of shape {tuple(t.shape)} was changed in place after "
                    "the forward, the recomputation would differ"
                )
        made = self._again()
        if [n.title for n in made] != self.titles:
            raise GradError(
                f"checkpoint: the function did {len(self.titles)} recorded operations in the "
                f"forward and {len(made)} others when it was run again",
                hint="it must do the same operations each time it is called",
            )
        for ref, new in zip(self.nodes, made):
            node = ref()
            if node is not None and node.recompute is self:
                node.adopt(new)
                node.recompute = None

    def _again(self) -> list[Node]:
        before = modes.grad, modes.recorder, modes.as_of, modes.autocast
        made: list[Any] = []
        current = None if self.generator is None else _copy(self.generator.state)
        if self.generator is not None:
            self.generator.state._write(self.state, "checkpoint")
        modes.grad, modes.recorder, modes.as_of = True, made, self.number
        modes.autocast = self.autocast
        try:
            with revived(self.vmap):
                result = self.run()
            nodes = _living(made)
            del result
        finally:
            modes.grad, modes.recorder, modes.as_of, modes.autocast = before
            if self.generator is not None:
                self.generator.state._write(current, "checkpoint")
        return nodes


def _living(made: list[Any]) -> list[Node]:
    """The recorded nodes that something still refers to: of the result, not of by-products."""
    return [node for node in (ref() for ref in made) if node is not None]


def _copy(state: Any) -> Any:
    return state.clone()


def checkpoint(run: Callable[[], Any], tensors: Iterable[Any], preserve_rng_state: bool) -> Any:
    """run() whose intermediate values are computed again in backward. `tensors` must stay as is."""
    if not modes.grad or modes.recorder is not None:
        return run()
    generator = random._default[0] if preserve_rng_state else None
    region = Region(run, tensors, generator)
    made: list[Any] = []
    modes.recorder = made
    try:
        result = run()
    finally:
        modes.recorder = None
    region.keep(_living(made))
    return result
