"""Numbers of Python's state that vary between calls: inputs, or compiled in."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..core.errors import TraceError
from .contents import MANY
from .places import NUMBERS, Place, shown


class Varying:
    """Of one captured function.

    live    places whose numbers are inputs
    static  places whose numbers vary, but whose values the function needs
    """

    def __init__(self) -> None:
        self.live: dict[Any, Place] = {}
        self.static: dict[Any, Place] = {}

    def find(self, captures: Iterable[Any]) -> None:
        """Numbers that are not as they were captured are inputs from now on.

        TraceError if there are programs for several values of a place that were called once each.
        """
        once: dict[Any, int] = {}
        for capture in captures:
            for place in capture.state.changed():
                who, now = place.identity, place.now()
                if type(place.before) in NUMBERS and type(now) in NUMBERS:
                    if who not in self.static and place.may_live:
                        self.live[who] = place
                        continue
                once[who] = once.get(who, 0) + (capture.total <= 1)
                if once[who] >= MANY:
                    raise TraceError(
                        f"{place.label}: a captured function reads it, and it is another at each "
                        f"call (now {shown(now)}): each would need a program",
                        hint="pass it as an argument, keep it in a tensor that is written in "
                        "place, or run the function eagerly with jit(fallback=True)",
                    )

    def fix(self, needed: frozenset) -> None:
        """Compile in the numbers behind these inputs of a graph, or all."""
        blamed = {
            who: place
            for who, place in self.live.items()
            if place.shown is not None and place.shown._payload.value in needed
        }
        self.static |= blamed or self.live
        self.live = {who: p for who, p in self.live.items() if who not in self.static}
