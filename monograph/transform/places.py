"""Places of Python's state: where a value stands that a captured function reads or assigns.

What is looked at there, and when: state.py.
"""

from __future__ import annotations

import functools
import types
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Any

from ..core import structure
from ..core.pytree import LEAF, TreeDef

ABSENT: Any = type("_Absent", (), {"__repr__": lambda self: "nothing"})()
PLAIN = (int, float, complex, bool, str, bytes, type(None))
NUMBERS = (int, float)
_get = object.__getattribute__


class Place:
    """Where a value of Python stands.

    holder, key  a dict (or a class's) and a name, a list and an index, a cell, an object of slots
    before       what stood there when the function first met it
    read         whether the function has seen it: otherwise it was assigned first
    counted      an attribute of a module, whose changes are counted (core/structure.py)
    may_live     whether a number there can become an input
    shown        the tensor that stood for the number while capturing, if it is an input
    """

    __slots__ = ("before", "counted", "holder", "key", "label", "may_live", "put", "read", "shown")

    def __init__(self, holder: Any, key: Any, before: Any, label: str, counted: bool):
        self.holder, self.key, self.before, self.label = holder, key, before, label
        self.counted = counted
        self.read = self.may_live = True
        self.shown: Any = None
        self.put: Any = None  # what each call puts there; see State.settle

    def now(self) -> Any:
        holder, key = self.holder, self.key
        try:
            if isinstance(holder, (dict, types.MappingProxyType)):
                return holder.get(key, ABSENT)
            return holder[key] if type(holder) is list else _get(holder, key)
        except (AttributeError, IndexError, ValueError):
            return ABSENT

    def set(self, value: Any) -> None:
        holder, key = self.holder, self.key
        if isinstance(holder, dict) and value is ABSENT:
            holder.pop(key, None)
        elif type(holder) is structure.Registry:
            dict.__setitem__(holder, key, value)  # no change of the module
        elif isinstance(holder, (dict, list)):
            holder[key] = value
        elif type(holder) is types.CellType:
            holder.cell_contents = value
        else:
            object.__setattr__(holder, key, value)

    def put_now(self, value: Any) -> None:
        """What a call has computed."""
        if self.now() is not value:
            self.set(value)
            if self.counted and not (self.is_live and type(value) is type(self.before)):
                structure.changed()

    @property
    def is_live(self) -> bool:
        return self.shown is not None

    def holds(self) -> bool:
        """Whether what stands there fits the program."""
        now = self.now()
        if self.shown is not None:
            return type(now) is type(self.before)
        return now is self.before or same(now, self.before)

    @property
    def identity(self) -> tuple[int, Any]:
        return id(self.holder), self.key


def same(x: Any, y: Any) -> bool:
    """Whether two values are one object, or equal ones that cannot be written."""
    kind = type(x)
    if kind is not type(y):
        return False
    if kind is tuple:
        return len(x) == len(y) and all(map(same, x, y))
    return x is y or (kind in PLAIN and (x == y or (x != x and y != y)))


def flatten(value: Any, leaves: list[Any]) -> TreeDef:
    """The structure of tuples, lists and dicts; others are leaves, None too."""
    kind = type(value)
    if kind in (tuple, list) or (isinstance(value, tuple) and hasattr(kind, "_fields")):
        return TreeDef(kind, None, tuple(flatten(v, leaves) for v in value))
    if kind in (dict, OrderedDict):
        children = tuple(flatten(v, leaves) for v in value.values())
        return TreeDef(kind, tuple(value), children)
    leaves.append(value)
    return LEAF


def can_be_carried(place: Place, now: Any) -> bool:
    """Whether tensors stand at a place, and stood there before."""
    if type(place.holder) is types.MappingProxyType:
        return False
    return holds_tensors(now) and (place.key == "_grad" or holds_tensors(place.before))


def holds_tensors(value: Any) -> bool:
    """Whether a value is a tensor, or a tuple, list or dict of tensors and plain values."""
    leaves: list[Any] = []
    flatten(value, leaves)
    return any(map(is_tensor, leaves)) and all(is_tensor(x) or type(x) in PLAIN for x in leaves)


def fits(old: Any, new: Any) -> bool:
    """Whether a new value can be written into the tensor that stood there."""
    if not (is_tensor(old) and is_tensor(new)):
        return old is new or same(old, new)
    return old is new or (
        not old._requires and tuple(old.shape) == tuple(new.shape) and old.dtype is new.dtype
    )


def is_tensor(x: Any) -> bool:
    """Whether x is a tensor, not an array of NumPy."""
    return hasattr(x, "_payload")


def as_another(number: Any) -> Any:
    """An equal number that is another object: so one sees whether it was assigned anew."""
    return float.fromhex(number.hex()) if type(number) is float else number


def put_back(places: list[tuple[Place, Any]], containers: list[tuple[Any, Any]]) -> None:
    """Make places and containers hold what they held."""
    for place, value in places:
        if place.now() is not value and not isinstance(place.holder, types.MappingProxyType):
            place.set(value)
    for container, copy in containers:
        if isinstance(container, dict):
            for key in [k for k in container if k not in copy]:
                del container[key]
        elif isinstance(container, list):
            if len(container) != len(copy):
                container[:] = copy
        elif tuple(container) != tuple(copy):
            container.clear()
            (container.extend if isinstance(container, deque) else container.update)(copy)


def alike(now: tuple, then: tuple) -> bool:
    """Whether entries are the same, one by one."""
    return len(now) == len(then) and all(a is b or same(a, b) for a, b in zip(now, then))


def reason_of(place: Place) -> str:
    """How a place has changed, in words."""
    now = place.now()
    before, after = shown(place.before), shown(now)
    if place.is_live:
        return f"{place.label} changed from {before} to {after}, a {type(now).__name__}"
    return f"{place.label} changed from {before} to {after}"


def shown(x: Any) -> str:
    """A value in a message."""
    text = repr(x) if type(x) in (*PLAIN, tuple) or x is ABSENT else f"a {type(x).__name__}"
    return text if len(text) < 60 else text[:57] + "..."


def getter_of(holder: Any) -> Callable:
    """What gives the value at a key."""
    if isinstance(holder, (dict, types.MappingProxyType)):
        return holder.get
    if type(holder) is list:
        return holder.__getitem__
    return functools.partial(_get, holder)
