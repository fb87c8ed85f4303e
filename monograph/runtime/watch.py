"""Whether objects stand as they did: words of their memory, compared by one native call.

A captured function asks at each call whether its tensors have the payloads, flags and holders that
they had. In Python every such question takes as long as ten of these comparisons together. What
words mean is CPython's business: `can_watch` tries it out on objects of its own, and where it is
wrong (another interpreter, one without a global lock) callers ask in Python. Used by
capture_replay.py.
"""

from __future__ import annotations

import ctypes
import functools
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from . import pool

_word_at = ctypes.c_size_t.from_address
_WORD = ctypes.sizeof(ctypes.c_size_t)


class Watch:
    """What stands in slots of objects, and how many references to objects there are.

    slots    (object, name of a slot of its class, what stands there)
    counted  (object, its references)

    Whoever makes one keeps all these objects alive: the watch itself holds none of them.

    >>> class Point:
    ...     __slots__ = ("x",)
    >>> p, first = Point(), [1]
    >>> p.x = first
    >>> watch = Watch([(p, "x", first)], [(first, 2)])
    >>> watch.holds()
    True
    >>> other = first
    >>> watch.holds()
    False
    >>> del other
    >>> watch.holds()
    True
    >>> p.x = [1]
    >>> watch.holds()
    False
    """

    def __init__(self, slots: Sequence[tuple[Any, str, Any]], counted: Sequence[tuple[Any, int]]):
        self._changed = pool.native().changed
        words = [(id(x) + _offset(type(x), name), id(there)) for x, name, there in slots]
        words += [(id(x), count) for x, count in counted]
        self._table = np.array([len(words), *(n for pair in words for n in pair)], np.uint64)
        self._address = self._table.ctypes.data

    def holds(self) -> bool:
        """Whether all is as was said."""
        return not self._changed(self._address)


def _offset(kind: type, name: str) -> int:
    """Where objects of this class have a slot."""
    return _offset_of(getattr(kind, name))


@functools.cache
def _offset_of(member: Any) -> int:
    probe = object.__new__(member.__objclass__)
    words = range(0, member.__objclass__.__basicsize__, _WORD)
    found = []
    for mark in (object(), object()):
        member.__set__(probe, mark)
        found.append([at for at in words if _word_at(id(probe) + at).value == id(mark)])
    if len(found[0]) != 1 or found[0] != found[1]:
        raise TypeError(f"{member!r} is not a word of the object")
    return found[0][0]


class _Probe:
    __slots__ = ("first", "second")


@functools.cache
def can_watch() -> bool:
    """Whether objects of this interpreter have their slots and counts where Watch reads them."""
    if sys.implementation.name != "cpython" or _WORD != 8:
        return False
    try:
        probe, mark = _Probe(), [1]
        probe.first = mark
        return _word_at(id(mark)).value == 2 and _offset(_Probe, "first") != _offset(
            _Probe, "second"
        )
    except TypeError:
        return False
