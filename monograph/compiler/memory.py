"""The static memory plan: one arena for everything that lives only inside a program."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

ALIGNMENT = 64


@dataclass
class Need:
    """Something that needs `size_bytes` from step `first` to step `last`, both included."""

    key: Any
    size_bytes: int
    first: int
    last: int


def plan_arena(needs: Iterable[Need]) -> tuple[dict[Any, int], int]:
    """(offset of each key, arena size): big ones first, each at the lowest place that is free.

    Things whose lives overlap get disjoint places. Source: greedy by size, as in Pisarchyk and Lee,
    "Efficient Memory Management for Deep Neural Net Inference" (2020).
    """
    placed: list[tuple[int, int, Need]] = []  # (offset, end, need)
    offsets: dict[Any, int] = {}
    total = 0
    for need in sorted(needs, key=lambda n: (-n.size_bytes, n.first)):
        size = -(-max(need.size_bytes, 1) // ALIGNMENT) * ALIGNMENT
        at = 0
        for offset, end, other in placed:  # sorted by offset
            if other.last < need.first or need.last < other.first:
                continue
            if offset - at >= size:
                break
            at = max(at, end)
        offsets[need.key] = at
        placed.append((at, at + size, need))
        placed.sort(key=lambda p: p[0])
        total = max(total, at + size)
    return offsets, total
