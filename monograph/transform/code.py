"""What the code of a program's functions names: globals, closed-over variables, attributes."""

from __future__ import annotations

import dis
import functools
import sys
import types
from collections.abc import Iterator
from typing import NamedTuple

LIBRARIES = {
    *sys.stdlib_module_names, "monograph", "numpy", "ml_dtypes", "llvmlite", "safetensors", "tqdm",
}  # fmt: skip
# What may stand between the loading of a variable and its storing in `count += 1` and
# `counts["calls"] += 1`, in the versions of Python.
BETWEEN = {
    "CACHE", "EXTENDED_ARG", "LOAD_CONST", "LOAD_SMALL_INT", "COPY", "SWAP", "BINARY_SUBSCR",
    "BINARY_OP",
}  # fmt: skip
ATTRIBUTE_SHIFT = int(sys.version_info >= (3, 12))  # then LOAD_ATTR serves methods, too
CONSTANTS = {"LOAD_CONST", "LOAD_SMALL_INT"}
STORES = {"STORE_DEREF", "STORE_GLOBAL", "STORE_NAME", "STORE_ATTR", "STORE_SUBSCR"}


@functools.cache
def _is_library(module: str) -> bool:
    return module.partition(".")[0] in LIBRARIES


def is_programs(module: str | None) -> bool:
    """Whether a module of this name belongs to the program, not to Python or to this package."""
    return not isinstance(module, str) or not _is_library(module)


class Names(NamedTuple):
    """What a function's code, and that of functions in it, names.

    variables   globals that it reads
    attributes  attributes, among others
    noted       variables that it only appends to or counts in
    """

    variables: tuple[str, ...]
    attributes: frozenset[str]
    noted: frozenset[str]


@functools.lru_cache(4096)
def names_of(code: types.CodeType) -> Names:
    """The names in a function's code."""
    variables: dict[str, None] = {}
    attributes: set[str] = set()
    noted: set[str] = set()
    used: set[str] = set()
    for part in _parts(code):
        attributes.update(part.co_names)
        for k, (_, operation, name) in enumerate(_instructions(part)):
            if operation == "LOAD_GLOBAL":
                variables[name] = None
            if operation in ("LOAD_GLOBAL", "LOAD_DEREF"):
                (noted if _is_note(part, k) else used).add(name)
    return Names(tuple(variables), frozenset(attributes), frozenset(noted - used))


@functools.lru_cache(4096)
def notes(code: types.CodeType, at: int) -> bool:
    """Whether what the instruction at this offset loads is only appended to or counted in."""
    for k, (offset, _, _) in enumerate(_instructions(code)):
        if offset == at:
            return _is_note(code, k)
    return False


def _is_note(code: types.CodeType, k: int) -> bool:
    found = _instructions(code)
    name, computed, seen_constant = found[k][2], False, False
    for n, (_, operation, argument) in enumerate(found[k + 1 : k + 16]):
        if operation in ("LOAD_METHOD", "LOAD_ATTR"):
            return n == 0 and argument == "append"
        if operation.startswith("POP_JUMP") and operation.endswith("NONE"):
            return n == 0  # `if entries is not None`
        if operation in STORES:
            return computed and (operation == "STORE_SUBSCR" or argument == name)
        if operation not in BETWEEN or (operation == "BINARY_OP" and argument not in "+=-="):
            return False
        if operation == "BINARY_OP" and "-" in argument and not seen_constant:
            return False  # `n = 1 - n`
        computed = computed or operation == "BINARY_OP"
        seen_constant = seen_constant or operation in CONSTANTS
    return False


@functools.lru_cache(4096)
def _instructions(code: types.CodeType) -> tuple[tuple[int, str, str], ...]:
    """(offset, operation, name that it loads or stores) of each instruction but caches."""
    found = []
    text, extended = code.co_code, 0
    for k in range(0, len(text), 2):
        operation, arg = dis.opname[text[k]], text[k + 1] | extended
        if operation == "CACHE":
            continue
        extended = arg << 8 if operation == "EXTENDED_ARG" else 0
        name = ""
        if operation == "LOAD_GLOBAL":  # the lowest bit says whether it is called
            name = code.co_names[arg >> 1]
        elif operation == "LOAD_ATTR":
            name = code.co_names[arg >> ATTRIBUTE_SHIFT]
        elif operation == "BINARY_OP":
            name = dis._nb_ops[arg][1]  # type: ignore[attr-defined]
        elif operation in ("LOAD_METHOD", "STORE_ATTR", "STORE_GLOBAL"):
            name = code.co_names[arg]
        elif operation in ("LOAD_DEREF", "STORE_DEREF"):
            name = code._varname_from_oparg(arg)  # type: ignore[attr-defined]
        found.append((k, operation, name))
    return tuple(found)


def _parts(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _parts(constant)
