"""What public functions do before the door: promotion, broadcasting, and `function`, the factory.

Primitives see equal shapes and dtypes, so no gradient rule ever has to undo a broadcast.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from ..core import dtype as dt
from ..core.dtype import DType
from ..core.errors import ArgumentTypeError
from ..core.shape import Shape, broadcast_shapes, is_number
from ..core.symbolic import is_symbolic
from ..ir.op import Full, Op, is_value
from .arguments import explained, written
from .autocasting import casting
from .basic import Cast
from .movement import expand_to


def cast(x: Any, dtype: DType) -> Any:
    """x in `dtype`; x itself where it has it already."""
    return x if x.dtype is dtype else Cast(dtype)(x)


def as_operand(name: str, x: Any, argument: str = "input") -> Any:
    """x if it is a value; a 0-d value for a Python number; else ArgumentTypeError."""
    if is_value(x) and not is_number(x):
        return x
    if is_number(x):
        d = dt.of_scalar(x)
        return Full((), d, x if isinstance(x, (bool, int, float, complex)) else x.item())()
    raise ArgumentTypeError(
        f"{name}: {argument} must be a tensor or a number, got {type(x).__name__}"
    )


def literal(x: Any, dtype: DType) -> Any:
    """A Python number as a literal of `dtype` (integers wrap around as in PyTorch)."""
    if is_symbolic(x) and (dtype.category == dt.FLOAT or dtype is dt.int64):
        return x
    if dtype.category == dt.FLOAT:
        return float(x)
    if dtype.category == dt.COMPLEX:
        return complex(x)
    if dtype.category == dt.BOOL:
        return bool(x)
    x = int(x)
    bits = 8 * dtype.itemsize
    x &= (1 << bits) - 1
    return x - (1 << bits) if dtype.is_signed and x >> (bits - 1) else x


def broadcast_to(x: Any, shape: Shape) -> Any:
    """Read x as `shape`: size-1 dimensions repeat, missing leading ones are added."""
    if len(x.shape) == len(shape) and x.shape == shape:
        return x
    return expand_to(x, shape)


def align(name: str, *args: Any, floating: bool = False, dtype: DType | None = None) -> list[Any]:
    """Operands of equal shape and dtype; Python numbers stay literals (unless all are numbers).

    floating: integer and bool operands become the default floating dtype (true division, exp).
    """
    numbers = [is_number(a) for a in args]
    for i, (a, number) in enumerate(zip(args, numbers)):
        if not number and not is_value(a):
            raise ArgumentTypeError(
                f"{name}: argument {i + 1} must be a tensor or a number, got {type(a).__name__}"
            )
    weak = False  # whether all are numbers of Python, some of which a capture made inputs
    if dtype is None:
        dtype = dt.result_type(*args)
        if floating and dtype.category < dt.FLOAT:
            dtype = dt.get_default_dtype()
        if any(getattr(a, "_weak", False) for a in args):
            weak = all(number or a._weak for a, number in zip(args, numbers))
            dtype = dt.float64 if weak and dtype.category == dt.FLOAT else dtype
    if all(numbers):
        args = (Full((), dtype, literal(args[0], dtype))(), *args[1:])
        numbers[0] = False
    shapes = [a.shape for a, number in zip(args, numbers) if not number]
    shape = shapes[0] if len(shapes) == 1 else broadcast_shapes(name, *shapes)
    if weak:
        args = tuple(a if number else _number(a, dtype) for a, number in zip(args, numbers))
    return [
        literal(a, dtype) if number else broadcast_to(cast(a, dtype), shape)
        for a, number in zip(args, numbers)
    ]


def _number(x: Any, dtype: DType) -> Any:
    """A number that is an input, in another dtype: it stays a number."""
    made = cast(x, dtype)
    made._weak = True
    return made


# The floating and complex dtypes as NumPy and as this package writes them.
_FLOATING = frozenset([*dt.INEXACT, *(d.numpy for d in dt.INEXACT)])


def _aligned(name: str, x: Any, y: Any, floating: bool) -> tuple[Any, Any] | None:
    """What `align` gives in the common cases, decided from the payloads; None in the others.

    Two tensors of one dtype, or a floating tensor and a number.
    """
    p, q = getattr(x, "_payload", None), getattr(y, "_payload", None)
    if p is None:
        if q is not None and type(x) in _PLAIN and q.dtype in _FLOATING:
            return float(x), y
    elif q is None:
        if type(y) in _PLAIN and p.dtype in _FLOATING:
            return x, float(y)
    elif p.dtype is q.dtype and (not floating or p.dtype in _FLOATING):
        if len(p.shape) == len(q.shape) and p.shape == q.shape:
            return x, y
        shape = broadcast_shapes(name, tuple(p.shape), tuple(q.shape))
        return broadcast_to(x, shape), broadcast_to(y, shape)
    return None


_PLAIN = (float, int)

FUNCTIONS: dict[str, Callable] = {}

# What `function` made for one or two operands. api/quick.py sets `quick[0]` of each: the function
# on plain operands, which answers None where it must go the usual way.
PRIMITIVES: list[Any] = []


def function(cls: type[Op], *, floating: bool = False, name: str | None = None) -> Callable:
    """The public function of an Elementwise op without parameters: aligns, then applies.

    Its name and docstring are the op's. floating: see `align`.
    """
    primitive = cls()
    title = name or cls.name
    arity = cls.reference.__code__.co_argcount - 1
    quick: list[Callable] = [lambda *operands: None]

    if arity == 1:

        def f(input: Any, *, out: Any = None) -> Any:
            if out is None and (made := quick[0](input)) is not None:
                return made
            x = as_operand(title, input)
            if floating and x.dtype.category < dt.FLOAT:
                x = cast(x, dt.get_default_dtype())
            return primitive(x) if out is None else written(title, out, primitive(x))

    elif arity == 2:

        def f(input: Any, other: Any, *, out: Any = None) -> Any:  # type: ignore[misc]
            if out is None and (made := quick[0](input, other)) is not None:
                return made
            ready: Any = _aligned(title, input, other, floating)
            if ready is None:
                ready = align(title, input, other, floating=floating)
            return primitive(*ready) if out is None else written(title, out, primitive(*ready))

    else:

        def f(*args: Any) -> Any:  # type: ignore[misc]
            return primitive(*align(title, *args, floating=floating))

    f.__name__ = f.__qualname__ = title
    if arity <= 2:
        f.primitive, f.arity, f.quick = primitive, arity, quick  # type: ignore[attr-defined]
        PRIMITIVES.append(f)
    f.__doc__ = cls.__doc__
    f.__module__ = cls.__module__
    FUNCTIONS[title] = f
    return f


def public(f: Callable) -> Callable:
    """Publish a function: `monograph.<name>`, and Tensor's method where api/methods.py lists it."""
    FUNCTIONS[f.__name__] = f = _published(f)
    return f


def alias(name: str, f: Callable) -> Callable:
    """Publish `f` under another name as well."""
    inner = getattr(f, "__wrapped__", f) if hasattr(f, "is_explained") else f

    @functools.wraps(inner)
    def same(*args: Any, **kwargs: Any) -> Any:
        return inner(*args, **kwargs)

    same.__name__ = same.__qualname__ = name
    same.__doc__ = f"The same as `{f.__name__}`."
    return public(same)


FUNCTIONAL: dict[str, Callable] = {}


def functional(f: Callable) -> Callable:
    """Publish a function as `monograph.nn.functional.<name>` (stack with `public` for both)."""
    FUNCTIONAL[f.__name__] = f = _published(f)
    return f


def _published(f: Callable) -> Callable:
    return f if hasattr(f, "is_explained") else explained(casting(f))
