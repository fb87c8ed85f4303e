"""Errors: records with a message, a hint and the user's line; one renderer.

    raise ShapeError("matmul: inner sizes differ: ...", hint="w looks transposed; ...")

prints

    ShapeError: matmul: inner sizes differ: ...
      hint: w looks transposed; ...
      at train.py:41 in forward: logits = x @ self.weight
"""

from __future__ import annotations

import functools
import linecache
import os
import sys
from dataclasses import dataclass

import numpy as np

PACKAGE_DIR = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_NOT_THE_USERS = PACKAGE_DIR, os.path.dirname(os.path.abspath(np.__file__)) + os.sep


@dataclass(frozen=True, slots=True)
class Place:
    """A line of the user's program."""

    file: str
    line: int
    function: str

    def __str__(self) -> str:
        text = linecache.getline(self.file, self.line).strip()
        name = os.path.basename(self.file)
        return f"{name}:{self.line} in {self.function}" + (f": {text}" if text else "")


_ours: dict[str, bool] = {}  # whether a file is of this package or NumPy


@functools.lru_cache(4096)
def _place(file: str, line: int, function: str) -> Place:
    return Place(file, line, function)


def user_place() -> Place | None:
    """The innermost frame outside this package and NumPy, or None."""
    frame = sys._getframe(1)
    while frame is not None:
        code = frame.f_code
        file = code.co_filename
        is_ours = _ours.get(file)
        if is_ours is None:
            is_ours = _ours[file] = file.startswith(_NOT_THE_USERS)
        if not is_ours:
            return _place(file, frame.f_lineno, code.co_name)
        frame = frame.f_back  # type: ignore[assignment]
    return None


class MonographError(RuntimeError):
    """Base of all errors of this package; `message`, `hint` and `place` are its fields."""

    def __init__(self, message: str, *, hint: str | None = None, place: Place | None = None):
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.place = place or user_place()
        if hint:
            self.add_note(f"  hint: {hint}")
        if self.place:
            self.add_note(f"  at {self.place}")

    def __reduce__(self):
        return (_rebuild, (type(self), self.message, self.hint, self.place))


def _rebuild(cls, message, hint, place):
    return cls(message, hint=hint, place=place)


class ShapeError(MonographError, ValueError):
    """Shapes do not fit together."""


class DTypeError(MonographError, TypeError):
    """An element type is not accepted here."""


class DeviceError(MonographError):
    """A device does not exist here, or operands are on different ones."""


class ArgumentError(MonographError, ValueError):
    """An argument's value is not allowed."""


class LinAlgError(ArgumentError):
    """A matrix has not the property that a computation needs: it is singular, say."""


class ArgumentTypeError(MonographError, TypeError):
    """An argument's type is not allowed."""


class IndexRangeError(MonographError, IndexError):
    """An index or a dimension number is out of range."""


class GradError(MonographError):
    """A gradient cannot be had, or a saved value was overwritten."""


class TraceError(MonographError):
    """A function cannot be captured as a graph.

    needed  the graph inputs whose values decide, where it is for want of a value
    """

    needed: frozenset = frozenset()


class StateNeeded(TraceError):
    """A function makes state that later calls keep: it must run once before it can be captured."""


class BatchError(MonographError):
    """An operation has no rule for vmap."""


class GraphError(MonographError):
    """A graph is malformed, or its text cannot be parsed."""


class CompileError(MonographError):
    """The compiler met something that it cannot turn into code."""


class FileFormatError(MonographError, ValueError):
    """A file is damaged or not of the expected format."""


class StateDictError(MonographError, KeyError):
    """A state dict does not fit the module or optimizer."""

    def __str__(self) -> str:  # KeyError would print the repr
        return self.message


class DataError(MonographError):
    """A data source or a loader worker failed."""


def render(error: BaseException) -> str:
    """The text that Python prints for `error`, without the traceback."""
    notes = "".join("\n" + note for note in getattr(error, "__notes__", ()))
    return f"{type(error).__name__}: {error}{notes}"
