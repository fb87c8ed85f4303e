"""Python's state that a captured function reads and writes: attributes, variables, containers.

Python runs only while a function is captured. What it read then stands in *places*: an attribute of
a module or of an object of the program, a global or closed-over variable that its code names, an
entry of a list or dict found there. Each call looks whether they hold what they held; if not,
another program is captured. A number that changes becomes an input of the next program. What the
function assigns is assigned after each call: values as they were, tensors and numbers as the
program computes them.

Reads of attributes are seen (attributes.py); variables are those that the code of functions names
(code.py). What is not seen: docs/transforms.md.
"""

from __future__ import annotations

import functools
import sys
import types
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ..core import dtype as dt
from ..core import structure
from ..core.errors import StateNeeded, TraceError
from ..core.modes import modes
from ..core.pytree import LEAF
from ..core.structure import Registry
from .attributes import ROOTS, is_root, unwatch, vars_of, watch
from .code import Names, is_programs, names_of, notes
from .places import (
    ABSENT,
    NUMBERS,
    PLAIN,
    Place,
    alike,
    as_another,
    can_be_carried,
    fits,
    flatten,
    getter_of,
    is_tensor,
    put_back,
    reason_of,
)  # fmt: skip
from .stand_ins import iterator, stand_in, state_of
from .tally import Tally
from .varying import Carries

MANY_ENTRIES = 2000  # of lists and dicts; what is beyond is not looked into
SMALL_BYTES = 1 << 16  # NumPy arrays up to this size are compared by content
OBSERVED = {("argparse", "Namespace")}  # classes of Python that programs keep options in


class State:
    """The places that a capture met.

    live   places (by identity) whose numbers are inputs of the program
    unfit  places whose tensors cannot be arguments of it (varying.py)
    """

    def __init__(self, trace: Any, live: dict[Any, Place], unfit: Any = ()):
        self.trace, self.live, self.unfit = trace, live, unfit
        self.carried: dict[tuple[int, Any], Any] = {}  # what stands there for the function
        self.places: dict[tuple[int, Any], Place] = {}
        self.containers: dict[int, tuple[Any, Any, str]] = {}  # (container, copy, label)
        self.arrays: dict[int, tuple[Any, Any, str]] = {}  # of NumPy: (array, copy, label)
        self.appended: dict[int, tuple[list, int, bool]] = {}  # lists that are only appended to
        self.tally = Tally()  # numbers that are only counted in
        self.stand_ins: list[tuple[Place, Any]] = []  # (stand_ins.py)
        self.options: dict[tuple[int, Any], tuple[Place, Any]] = {}  # of optimizers
        self.generators: dict[int, tuple[Any, Callable, Any, str]] = {}
        self.scanned: dict[int, Any] = {}
        self.watched: list[type] = []
        self.count = -1
        self.function: Any = None  # what is captured
        self.why: str | None = None
        self.closed = False

    # ---- while capturing

    def open(self, function: Any) -> None:
        """Begin to watch; `function` is what is captured."""
        for cls in ROOTS:
            self._watch(cls)
        self.function = function
        self.value(function, "the function")

    def close(self) -> None:
        """Stop watching."""
        self._put_back_stand_ins()
        for cls in self.watched:
            unwatch(cls)
        self.watched = []
        self.closed = True
        held = [p for p in self.places.values() if p.read]
        self._counted = [(p.holder.get, p.key, p.before, p) for p in held if p.counted]
        others = [p for p in held if not p.counted]
        plain = [p for p in others if p.shown is None and p.before is not ABSENT]
        self._cells = [(p.holder, p.before, p) for p in plain if type(p.holder) is types.CellType]
        self._items = [
            (getter_of(p.holder), p.key, p.before, p)
            for p in plain
            if type(p.holder) is not types.CellType
        ]
        self._odd = [p for p in others if p.shown is not None or p.before is ABSENT]
        self._sizes = [(c, len(copy), label) for c, copy, label in self.containers.values()]
        self._orders = [
            (c, tuple(copy), label)
            for c, copy, label in self.containers.values()
            if not isinstance(c, (list, dict))
        ]
        self.varying = [p for p in self.places.values() if p.is_live or p.put is not None]
        self._has_more = bool(self._odd or self._sizes or self._orders or self.arrays)
        self.generators, self.scanned, self.stand_ins = {}, {}, []

    def _put_back_stand_ins(self) -> None:
        for place, other in self.stand_ins:
            if place.now() is other:
                place.set(place.before)

    def read(self, owner: Any, name: str, value: Any) -> Any:
        """An attribute was read: note the place; what the function is to see."""
        kind = type(value)
        if kind is Registry or name[:2] == "__":
            return value
        if kind is types.MethodType:
            self.scan(value.__func__)
            return value
        names = vars_of(owner)
        if names is None or name not in names:
            return self._read_from_class(owner, name, value, names)
        who = id(names), name
        known = self.places.get(who)
        is_list = kind is list
        if known is not None and not (is_list and id(value) in self.appended):
            return value
        counted = is_root(owner)
        ours = not is_programs(sys._getframe(2).f_globals.get("__name__"))
        if ours and not counted:
            return value
        label = f"{type(owner).__name__}.{name}"
        if (is_list or not counted) and who not in self.live:
            frame = sys._getframe(2)
            if notes(frame.f_code, frame.f_lasti):
                if is_list:
                    self._append_to(value, label, keeps_all=counted)
                if known is None:
                    place = Place(names, name, value, label, counted)
                    self.tally.numbers.setdefault(who, place)
                return value
        if is_list and id(value) in self.appended:
            self.hold(value, label)
        return self.see(names, name, value, label, counted, may_live=not ours)

    def _append_to(self, entries: list, label: str, keeps_all: bool) -> None:
        """A list is appended to, or counted in, and not seen otherwise.

        keeps_all  each call is to append what the capture did, not only tensors
        """
        if id(entries) not in self.containers:
            self.appended.setdefault(id(entries), (entries, len(entries), keeps_all))
            self.tally.hold(entries, label)

    def _read_from_class(self, owner: Any, name: str, value: Any, names: Any) -> Any:
        for cls in type(owner).__mro__:
            if name not in vars(cls):
                continue
            found = vars(cls)[name]
            if not is_programs(cls.__module__):
                break
            if isinstance(found, types.MemberDescriptorType):  # a slot
                return self.see(owner, name, value, f"{cls.__name__}.{name}")
            if found is value and type(value) in PLAIN:
                if names is not None:
                    self.missing(owner, name)
                self.see(vars(cls), name, value, f"{cls.__name__}.{name}", may_live=False)
            elif type(found) in (staticmethod, types.FunctionType):
                self.scan(getattr(found, "__func__", found))
            break
        return value

    def missing(self, owner: Any, name: str) -> None:
        """An attribute was asked for that is not there."""
        names = vars_of(owner)
        if names is None or name[:2] == "__" or (id(names), name) in self.places:
            return
        counted = is_root(owner)
        if counted and any(name in part for part in names.values() if type(part) is Registry):
            return
        label = f"{type(owner).__name__}.{name}"
        self._place(Place(names, name, ABSENT, label, counted))

    def wrote(self, owner: Any, name: str, value: Any) -> None:
        """An attribute is about to be assigned."""
        names = vars_of(owner)
        if names is None:
            return
        if (id(names), name) in self.tally.numbers:
            return
        before = names.get(name, ABSENT)
        if modes.trace is not self.trace and not (before is value or is_tensor(value)):
            modes.trace.refuse(f"{type(owner).__name__}.{name} is assigned")
        if (id(names), name) in self.places:
            self.places[id(names), name].put = ("value", None)
            return
        label = f"{type(owner).__name__}.{name}"
        place = self._place(Place(names, name, before, label, is_root(owner)))
        place.read = False
        place.put = ("value", None)

    def _place(self, place: Place) -> Place:
        self.places[place.identity] = place
        return place

    def see(
        self,
        holder: Any,
        key: Any,
        value: Any,
        label: str,
        counted: bool = False,
        may_live: bool = True,
    ) -> Any:
        """Note that `value` stands at a place; what is to stand there while capturing."""
        if (id(holder), key) in self.places:
            return value
        if (id(holder), key) in self.tally.numbers:
            self._place(self.tally.numbers.pop((id(holder), key)))
            return value
        if is_tensor(value) and self._is_made(value):
            return value
        place = Place(holder, key, value, label, counted)
        if self._is_from_a_call(value) and place.identity not in self.unfit:
            if can_be_carried(place, value):  # gradients go on from here
                raise Carries([place])
        self._place(place)
        if may_live and (other := iterator(value, label)) is not None:
            self.stand_ins.append((place, other))
            place.set(other)
            return other
        place.may_live = may_live
        if type(value) in NUMBERS and place.identity in self.live:
            place.shown = self.trace.live_scalar(place.now, _dtype_of(value))
            self.live[place.identity] = place
            place.set(place.shown)
            return place.shown
        if id(value) not in self.appended:
            self.value(value, label)
        return value

    def value(self, value: Any, label: str) -> None:
        """Look into a value that the function can reach."""
        kind = type(value)
        if kind in PLAIN or is_tensor(value) or kind is Registry:
            return
        if kind is types.FunctionType:
            self.scan(value)
        elif kind is types.MethodType:
            self.scan(value.__func__)
            self.value(value.__self__, label)
        elif kind is functools.partial:
            for part in (value.func, *value.args, *value.keywords.values()):
                self.value(part, label)
        elif isinstance(value, type):
            self._scan_class(value)
        elif isinstance(value, (list, dict, set, deque)) and kind is not Registry:
            self.hold(value, label)
        elif isinstance(value, tuple):
            for i, part in enumerate(value):
                self.value(part, f"{label}[{i}]")
        elif kind is np.ndarray:
            if value.nbytes <= SMALL_BYTES:
                self.arrays.setdefault(id(value), (value, value.copy(), label))
        elif state_of(value) is not None:
            self._draw_from(value, label)
        elif kind is types.SimpleNamespace:
            self.hold(vars(value), label)
        elif not is_root(value) and kind is not types.ModuleType:
            inner = getattr(value, "__wrapped__", None)
            if isinstance(inner, (types.FunctionType, *ROOTS)):
                self.value(inner, label)
            if not is_programs(kind.__module__) and "param_groups" in (vars_of(value) or ()):
                self._see_options(value, label)
            self.observe(kind)

    def _see_options(self, optimizer: Any, label: str) -> None:
        """Options that the function may assign; the optimizer itself looks at what they are."""
        for group in optimizer.param_groups:
            for name, option in group.items():
                if type(option) in NUMBERS and (id(group), name) not in self.places:
                    place = self._place(Place(group, name, option, f"{label}: {name}", False))
                    place.read = False
                    other = as_another(option)
                    self.stand_ins.append((place, other))
                    self.options[place.identity] = place, other
                    place.set(other)

    def is_assigned(self, entries: dict, name: str) -> bool:
        """Whether the function has assigned an option of an optimizer."""
        place, other = self.options.get((id(entries), name), (None, None))
        return place is not None and place.now() is not other

    def hold(self, container: Any, label: str) -> None:
        """Watch the entries of a container."""
        if id(container) in self.containers:
            return
        if len(self.places) + len(container) > MANY_ENTRIES:
            return
        if id(container) in self.appended:
            size = self.appended.pop(id(container))[1]
            self.containers[id(container)] = container, container[:size], label
        elif isinstance(container, dict):
            self.containers[id(container)] = container, dict(container), label
            for key, value in list(container.items()):
                name = repr(key) if type(key) in PLAIN else "..."
                self.see(container, key, value, f"{label}[{name}]")
        elif isinstance(container, list):
            self.containers[id(container)] = container, list(container), label
        else:
            self.containers[id(container)] = container, container.copy(), label
        if isinstance(container, list):
            for i, value in enumerate(self.containers[id(container)][1]):
                self.see(container, i, value, f"{label}[{i}]")

    def observe(self, cls: type) -> None:
        """See which attributes of the objects of a program's class are read."""
        if cls in self.watched or (
            not is_programs(cls.__module__) and (cls.__module__, cls.__name__) not in OBSERVED
        ):
            return
        if not issubclass(cls, (int, str, BaseException)):
            self._watch(cls)

    def _watch(self, cls: type) -> None:
        if watch(cls):
            self.watched.append(cls)

    def scan(self, function: Any) -> None:
        """Look at the variables from outside that a function's code names."""
        if type(function) is not types.FunctionType or id(function) in self.scanned:
            return
        self.scanned[id(function)] = function
        inner = getattr(function, "__wrapped__", None)
        if inner is not None:
            self.value(inner, "")
        names = function.__globals__
        if not is_programs(names.get("__name__")):
            return
        used = names_of(function.__code__)
        for value in (function.__defaults__ or (), *(function.__kwdefaults__ or {}).values()):
            self.value(value, f"a default of {function.__name__}")
        for name in used.variables:
            if name in names:
                self._see_variable(names, name, names[name], name, used)
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or ()):
            try:
                value = cell.cell_contents
            except ValueError:
                continue
            self._see_variable(cell, "cell_contents", value, name, used)

    def _see_variable(self, holder: Any, key: str, value: Any, name: str, used: Names) -> None:
        is_list = type(value) is list
        if name in used.noted and (is_list or (id(holder), key) not in self.live):
            if is_list:
                self._append_to(value, name, keeps_all=False)
                self.see(holder, key, value, name)
                return
            if isinstance(value, dict) and id(value) not in self.containers:
                self.tally.hold(value, name)
                return
            if type(value) in NUMBERS and (id(holder), key) not in self.places:
                place = Place(holder, key, value, name, False)
                self.tally.numbers.setdefault(place.identity, place)
                return
        if is_list and id(value) in self.appended:
            self.hold(value, name)
        if self.live and (other := stand_in(value)) is not None:
            place = Place(holder, key, value, name, False)
            self.stand_ins.append((place, other))
            place.set(other)
        elif type(value) is types.ModuleType:
            self._see_module(value, name, used)
        elif isinstance(value, (type, types.BuiltinFunctionType)):
            self.value(value, name)
            owner = getattr(value, "__self__", None)
            if state_of(owner) is not None:
                self._draw_from(owner, name)
        elif type(value) is not types.FunctionType or is_programs(value.__module__):
            self.see(holder, key, value, name)
        else:
            self.value(value, name)

    def _see_module(self, module: types.ModuleType, name: str, used: Names) -> None:
        """What is used of an imported file of the program; and modules that draw numbers."""
        if module.__name__ == "random":
            self._draw_from(module.__dict__["_inst"], name)
        elif module.__name__ == "numpy.random" or (module is np and "random" in used.attributes):
            self._draw_from(np.random.mtrand._rand, "numpy.random")  # type: ignore[attr-defined]
        elif is_programs(module.__name__) and id(module) not in self.scanned:
            self.scanned[id(module)] = module
            names = vars(module)
            for attribute in used.attributes:
                value = names.get(attribute, ABSENT)
                if value is not ABSENT and type(value) is not types.ModuleType:
                    self._see_variable(names, attribute, value, f"{name}.{attribute}", used)

    def _scan_class(self, cls: type) -> None:
        if not is_programs(cls.__module__) or issubclass(cls, tuple(ROOTS)):
            return
        for value in list(vars(cls).values()):
            self.scan(getattr(value, "__func__", value))

    def _draw_from(self, generator: Any, label: str) -> None:
        state = state_of(generator)
        if state is not None:
            self.generators.setdefault(id(generator), (generator, state, state(), label))

    def _is_from_a_call(self, value: Any) -> bool:
        """Whether there are results of an earlier call of this function among tensors."""
        leaves: list[Any] = []
        if is_tensor(value) or type(value) in (tuple, list, dict):
            flatten(value, leaves)
        calls = [getattr(x._node, "capture", None) for x in leaves if is_tensor(x) and x._requires]
        return any(call is not None and call.owner.function is self.function for call in calls)

    def _is_made(self, tensor: Any) -> bool:
        """Whether a tensor was made by the function."""
        return self.trace.makes(tensor)

    def carry(self, place: Place, value: Any) -> None:
        """What stands at a place is an argument."""
        leaves: list[Any] = []
        flatten(value, leaves)
        self.carried[place.identity] = place, value, leaves
        place.set(value)
        self._place(Place(place.holder, place.key, value, place.label, place.counted)).read = False

    def carries(self, holder: Any, key: Any, value: Any) -> bool:
        """Whether this argument stands at this place."""
        found = self.carried.get((id(holder), key))
        return found is not None and found[1] is value

    # ---- when the function has run

    def settle(self, lifted: Callable) -> None:
        """Find what the function has assigned, and how each call is to assign it.

        Afterwards `put` of a place is None, ("value", x, None): this very object, or what the
        program computes: ("number", tensor, type) or ("tree", leaves, structure). What each call
        appends to lists is in `growths`.
        """
        for _, state, before, label in self.generators.values():
            if state() != before:
                raise TraceError(
                    f"{label}: a captured function draws random numbers in Python, and would get "
                    "the same ones at each call",
                    hint="use mg.rand and its kin, or draw them outside and pass them as arguments",
                )
        for place, value, given in self.carried.values():
            standing: list[Any] = []
            flatten(value, standing)
            if not alike(tuple(standing), tuple(given)):  # the function writes to this list
                raise Carries([place], unfit=True)
        for place, other in self.options.values():
            if place.now() is not other:
                place.put = ("value", None)
        self._put_back_stand_ins()
        copies: list[tuple[Any, Any]] = []
        others: list[Place] = []
        for place in list(self.places.values()):
            now, put = place.now(), place.put
            place.put = None
            if place.shown is not None and now is place.shown:
                place.set(place.before)
            elif now is not place.before or put is not None:
                if not isinstance(place.holder, types.MappingProxyType):
                    self._settle(place, now, lifted, copies, others)
        if others:
            raise Carries(others)
        for container, copy, label in self.containers.values():
            known = {id(x) for x in (copy.values() if isinstance(copy, dict) else copy)}
            entries = container.values() if isinstance(container, dict) else container
            grown = not isinstance(container, (list, dict)) or len(container) > len(copy)
            if grown and any(id(x) not in known and self._holds_made(x) for x in entries):
                raise StateNeeded(
                    f"{label}: a captured function puts tensors there, which later calls would "
                    "not do",
                    hint="return them, or run the function eagerly with jit(fallback=True)",
                )
        for old, new in copies:
            old.copy_(new)
        self.growths = []
        self.counts = self.tally.settle()
        for container, size, keeps_all in self.appended.values():
            kept = container[size:]
            if keeps_all or any(map(self._holds_made, kept)):
                leaves: list[Any] = []
                tree = flatten(kept, leaves)
                self.growths.append((container, self._kept(leaves, lifted), tree))
                del container[size:]

    def _settle(self, place: Place, now: Any, lifted: Callable, copies: list, others: list) -> None:
        made: list[Any] = []
        tree = flatten(now, made)
        tensors = [x for x in made if is_tensor(x)]
        if tree is LEAF and tensors and now._weak and type(place.before) in NUMBERS:
            place.put = ("number", lifted(now), type(place.before))
            place.set(place.before)
            return
        old: list[Any] = []
        if tensors and flatten(place.before, old) == tree and all(map(fits, old, made)):
            changed = [(a, b) for a, b in zip(old, made) if a is not b and is_tensor(a)]
            if place.identity in self.unfit or not changed:
                copies += [(a, lifted(b)) for a, b in changed]
                place.set(place.before)
                return
            if place.read and place.identity not in self.carried:
                others.append(place)
        if any(map(self._is_made, tensors)):
            place.put = ("tree", self._kept(made, lifted), tree)
            place.set(place.before)
        elif now is not ABSENT:
            place.put = ("value", now, None)
            place.set(place.before)

    def _kept(self, leaves: list[Any], lifted: Callable) -> list[Any]:
        """Leaves that each call gives anew: those that the function made have their gradients."""
        return [lifted(x) if is_tensor(x) and not self._is_made(x) else x for x in leaves]

    def _holds_made(self, value: Any) -> bool:
        leaves: list[Any] = []
        flatten(value, leaves)
        return any(is_tensor(x) and self._is_made(x) for x in leaves)

    def undo(self) -> None:
        """Put back what stood before."""
        self.tally.undo()
        for container, size, keeps_all in self.appended.values():
            if keeps_all or any(map(self._holds_made, container[size:])):
                del container[size:]
        put_back(
            [(place, place.before) for place in self.places.values()],
            [(container, copy) for container, copy, _ in self.containers.values()],
        )

    def stand(self) -> tuple[list, list]:
        """What all places and containers hold now, for `put_back`."""
        containers = [container for container, *_ in self.containers.values()]
        containers += [container for container, *_ in self.appended.values()]
        return (
            [(place, place.now()) for place in self.places.values()],
            [(container, container.copy()) for container in containers],
        )

    # ---- at each call

    def look(self) -> str | None:
        """None if all stands as it did, else what does not."""
        if self.count != structure.attributes:
            self.why = self._look_at_modules()
            self.count = structure.attributes
        if self.why is not None:
            return self.why
        place = None
        try:
            for cell, before, place in self._cells:
                if cell.cell_contents is not before and not place.holds():
                    return reason_of(place)
            for fetch, key, before, place in self._items:
                if fetch(key) is not before and not place.holds():
                    return reason_of(place)
        except (AttributeError, IndexError, ValueError):  # nothing is there
            assert place is not None
            return reason_of(place)
        return self._look_further() if self._has_more else None

    def _look_at_modules(self) -> str | None:
        for get, key, before, place in self._counted:
            if get(key, ABSENT) is not before and not place.holds():
                return reason_of(place)
        return None

    def _look_further(self) -> str | None:
        for place in self._odd:
            if not place.holds():
                return reason_of(place)
        for container, size, label in self._sizes:
            if len(container) != size:
                return f"the number of entries of {label} changed from {size} to {len(container)}"
        for container, copy, label in self._orders:
            if not alike(tuple(container), copy):
                return f"the entries of {label} changed"
        for array, copy, label in self.arrays.values():
            if not np.array_equal(array, copy, equal_nan=array.dtype.kind in "fc"):
                return f"the elements of {label} changed"
        return None

    def changed(self) -> Iterator[Place]:
        """The places that do not hold what they held."""
        for place in self.places.values():
            if place.read and not place.holds():
                yield place


def _dtype_of(number: Any) -> dt.DType:
    return dt.float64 if type(number) is float else dt.int64
