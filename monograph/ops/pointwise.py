"""Functions of each element that have a NumPy meaning and no scalar rule: rare ones.

`Pointwise` ops run as NumPy code between native parts of a compiled program. What is used in inner
loops is an Elementwise op instead.
"""

from __future__ import annotations

from collections import namedtuple
from typing import Any, ClassVar

import numpy as np

from ..core import dtype as dt
from ..core.dtype import DType
from ..core.errors import DTypeError, ShapeError
from ..core.shape import is_number
from ..ir.op import Aval, Full, Opaque, is_value, op
from .align import align, as_operand, cast, public
from .arith import eq, mul, ne, neg, where
from .batching import batched, shape_of
from .exponential import exp2
from .parts import ImaginaryPart

frexp_result = namedtuple("frexp", ["mantissa", "exponent"])  # type: ignore[name-match]


class Pointwise(Opaque):
    """Element i of the output from elements i of the inputs, which have equal shapes and dtypes."""

    accepts: ClassVar[tuple[DType, ...] | None] = dt.FLOATS

    def infer(self, *args: Any) -> Any:
        self.check_dtypes(*args)
        shape = shape_of(args[0])
        for x in args[1:]:
            if shape_of(x) != shape:
                raise ShapeError(f"{self.name}: primitive got shapes {shape} and {shape_of(x)}")
        return Aval(shape, args[0].dtype)

    def batch(self, dims: tuple, size: int, *args: Any) -> tuple[Any, Any]:
        made = self(*(batched(x, d, size) for x, d in zip(args, dims)))
        return made, 0 if self.n_outputs == 1 else (0,) * self.n_outputs


def wide(x: Any) -> Any:
    """The array in float64."""
    return np.asarray(x, np.float64)


def operands(name: str, *args: Any, floating: bool = True) -> list[Any]:
    """Values of equal shape and dtype; numbers become values. floating: integers become floats."""
    ready = align(name, *args, floating=floating)
    like = next(a for a in ready if is_value(a) and not is_number(a))
    return [Full(shape_of(like), like.dtype, a)() if is_number(a) else a for a in ready]


def floating_operand(name: str, x: Any) -> Any:
    """x as a value of a floating dtype."""
    x = as_operand(name, x)
    return x if x.dtype.is_floating_point else cast(x, dt.get_default_dtype())


@op
class Gcd(Pointwise):
    """Greatest common divisor of two integers; never negative."""

    accepts = dt.INTS
    differentiable = False

    def reference(self, x: Any, y: Any) -> Any:
        return np.gcd(x, y)


@op
class Lcm(Pointwise):
    """Least common multiple of two integers; never negative."""

    accepts = dt.INTS
    differentiable = False

    def reference(self, x: Any, y: Any) -> Any:
        return np.lcm(x, y)


@op
class NextAfter(Pointwise):
    """The next number after x in the direction of y."""

    accepts = dt.FLOATS
    saves = "inputs"

    def reference(self, x: Any, y: Any) -> Any:
        return np.nextafter(x, y)

    def vjp(self, g: Any, out: Any, x: Any, y: Any) -> tuple[Any, ...]:
        return where(ne(x, y), g, 0.0), where(ne(x, y), 0.0, g)


@op
class Frexp(Pointwise):
    """x = mantissa * 2**exponent with 0.5 <= |mantissa| < 1 and a whole exponent (int32)."""

    n_outputs = 2
    saves = "outputs"

    def infer(self, x: Any) -> Any:
        aval = super().infer(x)
        return aval, Aval(aval.shape, dt.int32)

    def reference(self, x: Any) -> Any:
        mantissa, exponent = np.frexp(np.asarray(x, np.float64 if x.dtype == "f8" else np.float32))
        return mantissa, exponent

    def vjp(self, g: Any, out: Any, x: Any) -> tuple[Any, ...]:
        return (mul(g[0], exp2(neg(cast(out[1], g[0].dtype)))),)


def _integers(name: str, primitive: Any, input: Any, other: Any) -> Any:
    ready = operands(name, input, other, floating=False)
    if ready[0].dtype not in dt.INTS:
        raise DTypeError(f"{name}: accepts integers, got {ready[0].dtype.name}")
    return primitive(*ready)


@public
def gcd(input: Any, other: Any) -> Any:
    """Greatest common divisor of two integer tensors, element by element; gcd(0, 0) is 0.

    >>> gcd(tensor([12, -9]), tensor([8, 6]))
    tensor([4, 3])
    """
    return _integers("gcd", Gcd(), input, other)


@public
def lcm(input: Any, other: Any) -> Any:
    """Least common multiple of two integer tensors, element by element; lcm(0, x) is 0.

    >>> lcm(tensor([4, 3]), tensor([6, 5]))
    tensor([12, 15])
    """
    return _integers("lcm", Lcm(), input, other)


@public
def nextafter(input: Any, other: Any) -> Any:
    """The next representable number after each element, in the direction of `other`.

    >>> nextafter(tensor(1.0), tensor(2.0)).item() == 1 + finfo(float32).eps
    True
    """
    return NextAfter()(*operands("nextafter", input, other))


@public
def frexp(input: Any) -> Any:
    """(mantissa, exponent) with input = mantissa * 2**exponent and 0.5 <= |mantissa| < 1.

    The exponent is int32. Floating dtypes only.

    >>> frexp(tensor([6.0]))
    frexp(mantissa=tensor([0.7500]), exponent=tensor([3], dtype=monograph.int32))
    """
    return frexp_result(*Frexp()(as_operand("frexp", input)))


@public
def isreal(input: Any) -> Any:
    """Whether each element has no imaginary part: true for all real dtypes."""
    x = as_operand("isreal", input)
    if x.dtype.is_complex:
        return eq(ImaginaryPart()(x), 0)
    return Full(shape_of(x), dt.bool_, True)()
