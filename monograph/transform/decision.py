"""What a captured function decides by numbers: `if self.step % 10 == 0`, `min(1.0, step / 100)`.

Numbers that are inputs of the program have no value while a function is captured. Where it asks for
something that is made of such numbers alone, it is told what that is in this call, and captured
for that; each call makes it again, and another answer means another program.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from ..core.errors import TraceError, user_place
from ..ir.evaluate import as_array
from ..ir.graph import Graph, Value
from .contents import MANY


class Decision:
    """What `graph` makes of numbers, as a guard: a bool, a number, or elements as bytes.

    numbers  (what gives an input of the graph at each call, what it is in this one)
    """

    def __init__(self, graph: Graph, numbers: list[tuple[Callable[[], Any], Any]], operation: str):
        self.numbers, self.operation = [get for get, _ in numbers], operation
        self.dtypes = [v.aval.dtype.numpy for v in graph.inputs]
        at: dict[Value, int] = {v: i for i, v in enumerate([*graph.inputs, *graph.constants])}
        self.constants = list(graph.constants.values())
        self.steps: list[tuple[Any, list[tuple[bool, Any]], Any]] = []
        for node in graph.nodes:
            args = [(True, at[x]) if isinstance(x, Value) else (False, x) for x in node.inputs]
            self.steps.append((node.op, args, node.outputs[0].aval))
            at[node.outputs[0]] = len(at)
        self.result = at[graph.outputs[0]]
        self.place = user_place()
        self.label = getattr(getattr(self.numbers[0], "__self__", None), "label", None)
        self.first = numbers[0][1]
        self.array = self._compute([number for _, number in numbers])
        self.answer = self._answer(self.array)

    def _compute(self, numbers: list[Any]) -> np.ndarray:
        found = [np.array(x, dtype) for x, dtype in zip(numbers, self.dtypes)]
        found += self.constants
        with np.errstate(all="ignore"):
            for op, args, aval in self.steps:
                result = op.reference(*(found[x] if is_made else x for is_made, x in args))
                found.append(as_array(result, aval))
        return found[self.result]

    def _answer(self, array: np.ndarray) -> Any:
        if array.size != 1:
            return array.tobytes()
        return bool(array.item()) if self.operation == "bool" else array.item()

    def __call__(self) -> Any:
        return self._answer(self._compute([get() for get in self.numbers]))


class TooMany(TraceError):
    """There would be a program for each call."""


def check_decisions(new: Iterable[Any], captures: Iterable[Any]) -> None:
    """TooMany if a function was captured for many answers at a place, and called once for each.

    Answers made of arguments alone are the caller's choice.
    """
    found = [g[0] for g in new if isinstance(g[0], Decision) and g[0].label is not None]
    if not found:
        return
    once = [c for c in captures if c.total <= 1]
    for decision in found:
        others = {
            guard[1]
            for capture in once
            for guard in capture.guards
            if isinstance(guard[0], Decision) and guard[0].place == decision.place
        }
        if len(others) >= MANY:
            raise TooMany(
                f"{decision.label}: a captured function reads it, and it is another at each call "
                f"(now {decision.first}): each would need a program",
                hint="pass it as an argument, keep it in a tensor that is written in place, or run "
                "the function eagerly with jit(fallback=True)",
            )
