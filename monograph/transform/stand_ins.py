"""What takes the place of a few things of Python's while a function is captured (state.py).

`math`, and functions imported from it, compute with numbers that are inputs of the program and have
no value yet: `math.cos(math.pi * self.step / 100)`. All else they do as ever. An iterator from
outside says that each call would get the same element.
"""

from __future__ import annotations

import functools
import math
import sys
import types
from collections.abc import Callable
from typing import Any

from ..core.errors import TraceError
from ..ops import exponential, power, special, trigonometric

_OPERATIONS: dict[str, Callable] = {
    "exp": exponential.exp, "exp2": exponential.exp2, "expm1": exponential.expm1,
    "log2": exponential.log2, "log10": exponential.log10, "log1p": exponential.log1p,
    "log": lambda x, *base: exponential.log(x) / math.log(*base) if base else exponential.log(x),
    "sqrt": power.sqrt, "pow": power.pow, "fabs": abs, "erf": special.erf,
    "sin": trigonometric.sin, "cos": trigonometric.cos, "tan": trigonometric.tan,
    "asin": trigonometric.asin, "acos": trigonometric.acos, "atan": trigonometric.atan,
    "sinh": trigonometric.sinh, "cosh": trigonometric.cosh, "tanh": trigonometric.tanh,
    "radians": lambda x: x * (math.pi / 180), "degrees": lambda x: x * (180 / math.pi),
}  # fmt: skip


def _is_input(x: Any) -> bool:
    return getattr(x, "_weak", False)


@functools.cache
def _function(name: str) -> Callable:
    plain, operation = getattr(math, name), _OPERATIONS[name]

    @functools.wraps(plain)
    def function(x: Any, *more: Any) -> Any:
        if _is_input(x) and not any(map(_is_input, more)):
            return operation(x * 1.0, *more)  # in float64, as in Python
        return plain(x, *more)

    return function


class _Math(types.ModuleType):
    def __getattr__(self, name: str) -> Any:
        return _function(name) if name in _OPERATIONS else getattr(math, name)


_MATH = _Math("math")


class _Iterator:
    def __init__(self, iterator: Any, label: str):
        self._iterator, self._label = iterator, label

    def __getattr__(self, name: str) -> Any:
        return getattr(self._iterator, name)

    def __iter__(self) -> Any:
        return self

    def __next__(self) -> Any:
        raise TraceError(
            f"{self._label}: a captured function takes elements of an iterator from outside, and "
            "would get the same ones at each call",
            hint="take them outside and pass them as arguments, or run the function eagerly with "
            "jit(fallback=True)",
        )


def iterator(value: Any, label: str) -> Any:
    """What stands for an iterator written in C, or a generator; None for all else."""
    cls = type(value)
    is_iterator = hasattr(cls, "__next__") and not hasattr(cls, "read")  # no file
    if is_iterator and cls.__module__ in ("builtins", "itertools"):
        return _Iterator(value, label)
    return None


def stand_in(value: Any) -> Any:
    """What stands for `math` or for one of its functions; None for all else."""
    if value is math:
        return _MATH
    if type(value) is types.BuiltinFunctionType and value.__name__ in _OPERATIONS:
        name = value.__name__
        return _function(name) if value is getattr(math, name) else None
    return None


def state_of(generator: Any) -> Callable[[], Any] | None:
    """What tells the state of a random generator of Python or NumPy; None for anything else."""
    if "random" in sys.modules and isinstance(generator, sys.modules["random"].Random):
        return generator.getstate
    numpy = sys.modules.get("numpy.random")  # which NumPy imports when it is first used
    if numpy is not None and isinstance(generator, numpy.RandomState):
        return lambda: repr(generator.get_state())
    if numpy is not None and isinstance(generator, numpy.Generator):
        return lambda: repr(generator.bit_generator.state)
    return None
