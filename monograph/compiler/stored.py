"""Plans on disk: what was planned before, by this compiler for this machine, is only read.

A plan's key names the graph (ops, parameters, shapes, small constants, and the user's lines, which
explanations and complaints name), the compiler's own files, and the machine. What is stored is the
plan without the insides of its kernels: their digests say which objects to load, and whoever wants
to see one (`mg.explain`) has the graph planned again. Nothing is stored of graphs that hold
something whose meaning its text does not tell, such as a Python function.
"""

from __future__ import annotations

import functools
import hashlib
import io
import os
import pickle
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from ..codegen.target import host
from ..core.dtype import DType
from ..core.errors import Place
from ..core.modes import modes
from ..core.sizes import Guard, Space
from ..core.symbolic import SymFloat, SymInt, is_symbolic
from ..ir.graph import Graph, Value
from ..ir.op import Aval, Op
from ..ir.region import Region
from ..kernel.digest import digest
from ..kernel.ir import Buffer, Call, Const, Kernel, Var
from ..runtime import buffers, cache
from ..runtime.machine import cache_sizes
from ..runtime.threads import available_cpus

LARGEST_CONSTANT = 1 << 16  # bytes; a plan with more is not stored
PACKAGES = ("core", "ir", "kernel", "ops", "codegen", "runtime", "transform", "compiler")

enabled = True
# What else decides about plans: functions of no arguments, whose results become part of the key.
facts: list[Callable[[], Any]] = [lambda: host().key, cache_sizes, available_cpus]


class _Untold(Exception):
    """Something whose text does not say what it is."""


def key_of(graph: Graph, *options: Any, space: Space | None = None) -> str | None:
    """The name of a graph's plan under these options; None if it is not to be stored."""
    if not enabled or cache.cache_directory() is None:
        return None
    try:
        parts = [version(), repr([fact() for fact in facts]), repr(options)]
        if space is not None:
            sizes = [(a.name, a.low, a.high, a.hint) for a in space.atoms if a.over is None]
            parts.append(repr(sizes))
        _tell_graph(graph, parts)
    except _Untold:
        return None
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


@functools.cache
def version() -> str:
    """Changes whenever a file does that decides about plans, or NumPy, which folds constants."""
    root = Path(__file__).parent.parent
    found = [f"numpy {np.__version__}"]
    for package in PACKAGES:
        for folder, _, names in sorted(os.walk(root / package)):
            for name in sorted(names):
                if name.endswith(".py"):
                    status = os.stat(os.path.join(folder, name))
                    found.append(f"{folder} {name} {status.st_size} {status.st_mtime_ns}")
    return hashlib.sha256("\n".join(found).encode()).hexdigest()


def _tell_graph(graph: Graph, parts: list[str]) -> None:
    """Append all that the graph says, line by line."""
    number: dict[Value, int] = {}
    for v in (*graph.inputs, *graph.constants):
        number[v] = len(number)
        parts.append(_aval(v.aval))
    for array in graph.constants.values():
        if array.nbytes > LARGEST_CONSTANT:
            raise _Untold
        parts.append(hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest())
    place: Any = None
    for node in graph.nodes:
        if node.place is not place:
            place = node.place
            parts.append(repr(place))
        reads = [number[i] if isinstance(i, Value) else (_tell(i),) for i in node.inputs]
        parts.append(f"{_op(node.op, parts)} {reads}")
        for v in node.outputs:
            number[v] = len(number)
    parts.append(repr([number[v] for v in graph.outputs]))


def _op(op: Op, parts: list[str]) -> str:
    kind = type(op)
    if not kind.__module__.startswith("monograph."):
        raise _Untold  # somebody else's, whose file is not part of the key
    values = []
    for name, x in vars(op).items():
        if isinstance(x, Region):
            parts.append(f"region {name}")
            _tell_graph(x.graph, parts)
        else:
            values.append(f"{name}={_tell(x)}")
    return f"{kind.__name__} {values}"


_PLAIN = {int, float, bool, str, type(None), complex}


def _tell(x: Any) -> str:
    kind = type(x)
    if kind in _PLAIN or is_symbolic(x):
        return repr(x)
    if kind is tuple:
        return "(" + ",".join([_tell(i) for i in x]) + ")"
    if isinstance(x, DType):
        return x.name
    if isinstance(x, np.generic):
        return f"{x.dtype}:{x!r}"
    if kind is Aval:
        return _aval(x)
    raise _Untold


def _aval(a: Aval) -> str:
    return f"{a.dtype.name}{a.shape}"


# Plans as bytes


class Shell(Kernel):
    """A kernel of a stored plan: all but its body, which `open` brings back when it is wanted."""

    __slots__ = ("open",)

    open: Callable[[str], tuple[Any, ...]]

    def __getattr__(self, name: str) -> Any:
        if name != "body":
            raise AttributeError(name)
        body = self.open(self.digest)
        object.__setattr__(self, "body", body)
        return body


def _shell(digest: str, name: str, buffers: Any, sizes: Any, grid: Any, open: Any) -> Shell:
    made = object.__new__(Shell)
    fields = {"name": name, "buffers": buffers, "sizes": sizes, "grid": grid}
    for field, value in {**fields, "digest": digest, "open": open}.items():
        object.__setattr__(made, field, value)
    return made


def _size(space: Space, terms: Any) -> Any:
    """A number made of run-time sizes, by their names."""
    total: Any = 0
    for mono, part in terms:
        for atom in mono:
            part = part * (space.named(atom) if type(atom) is str else space.division(*atom))
        total = total + part
    return total


_OPEN = "open"  # what stands for the function that a Shell's body comes from
_SPACE = "space"  # and for the space of the graph's sizes


# Classes of many objects, by their fields: their own way asks for these object by object.
_RECORDS: dict[type, list[str]] = {
    kind: [f.name for f in fields(kind)] for kind in (Aval, Place, Buffer, Const, Var, Call)
}


class _Pickler(pickle.Pickler):
    undefined: set[int]  # arrays (by id) that are filled later

    def reducer_override(self, x: Any) -> Any:
        if isinstance(x, Kernel):
            return _shell, (digest(x), x.name, x.buffers, x.sizes, x.grid, _Opener())
        if isinstance(x, np.ndarray):
            if id(x) in self.undefined:
                return buffers.empty, (x.shape, x.dtype)
            if x.nbytes > LARGEST_CONSTANT:
                raise _Untold
        slots = _RECORDS.get(type(x))
        if slots is not None:
            return type(x), tuple([getattr(x, slot) for slot in slots])
        if type(x) is SymInt:
            atoms = x.space.atoms
            names = [a.name if a.over is None else (a.over, a.by) for a in atoms]
            terms = tuple((tuple(names[a] for a in mono), c) for mono, c in x.terms)
            return _size, (x.space, terms)
        if type(x) is SymFloat:
            return SymFloat, (x.function, *x.args)
        return NotImplemented

    def persistent_id(self, x: Any) -> Any:
        return _OPEN if type(x) is _Opener else _SPACE if type(x) is Space else None


class _Opener:
    """Stands for `open` in a stored plan."""


_BUILTIN = {("builtins", name) for name in ("range", "set", "frozenset", "slice", "complex")}
_BUILTIN |= {("_operator", name) for name in ("add", "sub", "mul", "truediv", "pow", "neg")}


class _Unpickler(pickle.Unpickler):
    """Makes objects of this package and of NumPy only."""

    def __init__(self, data: bytes, open: Callable[[str], tuple[Any, ...]], space: Space | None):
        super().__init__(io.BytesIO(data))
        self.known = {_OPEN: open, _SPACE: space}

    def persistent_load(self, pid: Any) -> Any:
        return self.known[pid]

    def find_class(self, module: str, name: str) -> Any:
        ours = module.split(".")[0] in ("monograph", "numpy", "ml_dtypes")
        if not ours and (module, name) not in _BUILTIN:
            raise pickle.UnpicklingError(f"a plan holds no {module}.{name}")
        return super().find_class(module, name)


def load(key: str | None, plan_again: Callable[[], Any], space: Space | None = None) -> Any:
    """The plan stored under `key`, or None. plan_again() makes the same plan with whole kernels.
    The guards that it was made under become those of `space`."""
    data = None if key is None else cache.load(key)
    if data is None:
        return None

    tuned = modes.autotune

    @functools.cache
    def bodies() -> dict[str, tuple[Any, ...]]:
        before, modes.autotune = modes.autotune, tuned  # so that it comes to the same plan
        try:
            steps = plan_again().steps
        finally:
            modes.autotune = before
        kernels = [s.kernel for s in steps if hasattr(s, "kernel")]
        return {digest(k): k.body for k in kernels}

    try:
        made, guards = _Unpickler(data, lambda found: bodies()[found], space).load()
    except (pickle.UnpicklingError, AttributeError, ImportError, EOFError, TypeError, KeyError):
        return None
    if space is not None:
        space.take(guards)
    return made


def store(key: str | None, plan: Any, guards: Sequence[Guard] = ()) -> None:
    """Keep a plan for later processes, with the conditions of its sizes."""
    if key is None:
        return
    data = io.BytesIO()
    pickler = _Pickler(data, pickle.HIGHEST_PROTOCOL)
    later = 0 if plan.first is None else len(plan.first.outputs)
    arrays = list(plan.graph.constants.values())
    pickler.undefined = {id(a) for a in arrays[len(arrays) - later :]}
    try:
        pickler.dump((plan, list(guards)))
    except (_Untold, pickle.PicklingError, TypeError, AttributeError, RecursionError):
        return  # something in it is of this process alone
    cache.store(key, data.getvalue())
