"""Which layers, parameters and hooks a module has, and how a captured function sees them change.

A captured function holds the tensors that it met. If a layer is exchanged later, or a parameter
tied, it must be captured again: `watch(module)` notes, while a capture goes on, what stands in the
registries of a module and of all below it. Registries count their changes, and modules those of
their attributes (transform/state.py), so that a call usually compares two numbers.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

from .modes import modes

ANY: Any = object()  # stands for a tensor that each call receives
count = 0  # changes of registries so far
attributes = 0  # changes of attributes of modules so far


def _counted(name: str) -> Callable:
    method = getattr(dict, name)

    def changing(self: Registry, *args: Any, **kwargs: Any) -> Any:
        global count
        count += 1
        return method(self, *args, **kwargs)

    changing.__name__ = name
    return changing


def changed() -> None:
    """An attribute of a module is another one now."""
    global attributes
    attributes += 1


class Registry(dict):
    """What is registered with a module, by name; changes are counted."""

    __slots__ = ()

    __setitem__ = _counted("__setitem__")
    __delitem__ = _counted("__delitem__")
    __ior__ = _counted("__ior__")
    pop = _counted("pop")
    popitem = _counted("popitem")
    clear = _counted("clear")
    update = _counted("update")
    setdefault = _counted("setdefault")

    def copy(self) -> Registry:
        return Registry(self)

    def move_to_front(self, name: Any) -> None:
        """Put `name` before all others."""
        entries = {name: self[name], **self}
        self.clear()
        self.update(entries)


class Structure:
    """What a capture found in the registries of modules."""

    def __init__(self, trace: Any) -> None:
        self.seen = lambda x: ANY if hasattr(x, "_payload") and trace.makes(x) else x
        self.known: list[tuple[Registry, list]] = []  # (registry, its entries)
        self.modules: dict[int, Any] = {}
        self.count, self.is_same = count, True

    def add(self, module: Any) -> None:
        """Note the registries of `module` and of all modules below it."""
        if id(module) in self.modules:
            return
        self.modules[id(module)] = module
        for registry in vars(module).values():
            if type(registry) is Registry:
                self.known.append((registry, [(k, self.seen(x)) for k, x in registry.items()]))
        for child in module._modules.values():
            if child is not None:
                self.add(child)

    def exchanged(self) -> list[tuple[Registry, str, Any]]:
        """(registry, name, tensor) of buffers that are others now."""
        found = []
        for registry, then in self.known:
            for (name, old), new in zip(then, registry.values()):
                if new is not old and old is not ANY:
                    if all(hasattr(x, "_payload") and not x._requires for x in (old, new)):
                        found.append((registry, name, old))
        return found

    def look(self) -> str:
        """Whether they hold the same now, in words for a guard."""
        if self.count != count:
            self.is_same = all(_equal(list(now.items()), then) for now, then in self.known)
            self.count = count
        return "as captured" if self.is_same else "another"


def _equal(now: list, then: list) -> bool:
    return len(now) == len(then) and all(
        a == b and (x is y or y is ANY) for (a, x), (b, y) in zip(now, then, strict=True)
    )


_structures: weakref.WeakKeyDictionary[Any, Structure] = weakref.WeakKeyDictionary()  # by Trace


def watch(module: Any) -> None:
    """While capturing: if `module` consists of something else later, that is a new capture."""
    trace = modes.trace
    if trace is None:
        return
    structure = _structures.get(trace)
    if structure is None:
        structure = _structures[trace] = Structure(trace)
        trace.guard(structure.look, "the set of layers, parameters and hooks of a module")
    structure.add(module)
