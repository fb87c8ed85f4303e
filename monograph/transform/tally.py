"""Numbers that a captured function only counts in: `calls += 1`, `seen["batches"] += 1`.

Nothing that is computed depends on them, so they need be no inputs: what the capture has added is
added in each call (state.py).
"""

from __future__ import annotations

from typing import Any

from .places import ABSENT, NUMBERS, Place


class Tally:
    """What is counted in while a function is captured."""

    def __init__(self) -> None:
        self.numbers: dict[tuple[int, Any], Place] = {}
        self.containers: dict[int, tuple[Any, Any, str]] = {}  # (list or dict, copy, label)

    def hold(self, container: Any, label: str) -> None:
        """Numbers in a list or dict."""
        self.containers.setdefault(id(container), (container, container.copy(), label))

    def _changed(self) -> list[tuple[Place, Any, Any]]:
        found = [(p, p.before, p.now()) for p in self.numbers.values()]
        for container, copy, label in self.containers.values():
            is_dict = isinstance(container, dict)
            for key in list(container) if is_dict else range(min(len(container), len(copy))):
                before = copy.get(key, ABSENT) if is_dict else copy[key]
                place = Place(container, key, before, f"{label}[{key!r}]", False)
                found.append((place, before, container[key]))
        return [(p, a, b) for p, a, b in found if a is not b and type(b) in NUMBERS]

    def settle(self) -> list[tuple[Place, Any]]:
        """(place, what each call adds there); what stood there before stands there again."""
        changed = self._changed()
        self.undo()
        return [(p, b - (0 if a is ABSENT else a)) for p, a, b in changed]

    def undo(self) -> None:
        """Put back what stood before."""
        for place, before, _ in self._changed():
            place.set(before)


def add(place: Place, amount: Any) -> None:
    """What one call adds at a place."""
    now = place.now()
    place.put_now(amount if now is ABSENT else now + amount)
