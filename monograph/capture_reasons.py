"""Why a function was captured again, in words. Used by capture.py."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .core.dtype import BY_NUMPY
from .dynamic import pattern_of

MODES = ("grad mode", "inference mode", "default dtype", "autocast")


def difference(captures: Mapping[Any, Any], key: tuple) -> str | None:
    """How `key` differs from the last capture's, in words."""
    if not captures:
        return None
    old = next(reversed(captures))
    if old[0] == "dynamic":
        old, key = old[1], pattern_of(key)
    if old[0] != key[0]:
        return "the arguments have another structure"
    for what, a, b in zip(MODES, old[1:], key[1:]):
        if a != b:
            return f"{what} changed from {a} to {b}"
    first = 1 + len(MODES)
    for k, (a, b) in enumerate(zip(old[first:], key[first:])):
        if a != b:
            if isinstance(a, tuple) and isinstance(b, tuple) and len(a) == len(b) == 4:
                facts = ("shape", "dtype", "requires_grad", "whether it has a .grad")
                for what, x, y in zip(facts, a, b):
                    if x != y:
                        return f"argument {k}: {what} changed from {x} to {y}"
            before, now = (_shown(part) for part in (a, b))
            return f"argument {k} changed from {before} to {now}"
    return None


def _shown(part: Any) -> str:
    """An argument's part of the key, for a person."""
    if isinstance(part, tuple) and len(part) == 2:  # (type, value)
        if part[0] == "same as":
            return f"the same tensor as argument {part[1]}"
        return "an object" if part[0] == "object" else repr(part[1])
    if isinstance(part, tuple):
        return f"a {BY_NUMPY[part[1]].name} tensor of shape {part[0]}"
    return f"a varying {part.__name__}"
