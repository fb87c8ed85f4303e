"""Python's state that varies between calls: numbers and tensors that are inputs, or compiled in."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..core.errors import TraceError
from ..core.structure import Structure
from .contents import MANY
from .places import NUMBERS, Place, can_be_carried, shown


class Carries(Exception):
    """The tensors at these places are arguments of the captured function from now on."""

    def __init__(self, places: Iterable[Place], unfit: bool = False):
        self.places, self.unfit = list(places), unfit


class Varying:
    """Of one captured function.

    live     places whose numbers are inputs
    static   places whose numbers vary, but whose values the function needs
    carried  places whose tensors are others at each call: they are passed like arguments, and what
             the function puts there is a result
    unfit    places that were carried, whose lists or dicts the function writes to
    """

    def __init__(self) -> None:
        self.live: dict[Any, Place] = {}
        self.static: dict[Any, Place] = {}
        self.carried: dict[Any, Place] = {}
        self.unfit: set[Any] = set()

    def carry(self, found: Carries) -> None:
        """Do as was found."""
        for place in found.places:
            if found.unfit:
                self.unfit.add(place.identity)
                self.carried.pop(place.identity, None)
            else:
                self.carried.setdefault(place.identity, place)

    def find(self, captures: Iterable[Any]) -> None:
        """Numbers that are not as they were captured are inputs from now on.

        Carries where tensors are not those that they were; TraceError if there are programs for
        several values of a place that were called once each.
        """
        once: dict[Any, int] = {}
        others: list[Place] = []
        for capture in captures:
            for getter, *_ in capture.guards:
                structure = getattr(getter, "__self__", None)
                if isinstance(structure, Structure):
                    for registry, name, tensor in structure.exchanged():
                        others.append(Place(registry, name, tensor, name, False))
            for place in capture.state.changed():
                who, now = place.identity, place.now()
                if who not in self.unfit and can_be_carried(place, now):
                    others.append(place)
                    continue
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
        if others:
            raise Carries(others)

    def fix(self, needed: frozenset) -> None:
        """Compile in the numbers behind these inputs of a graph, or all."""
        blamed = {
            who: place
            for who, place in self.live.items()
            if place.shown is not None and place.shown._payload.value in needed
        }
        self.static |= blamed or self.live
        self.live = {who: p for who, p in self.live.items() if who not in self.static}
