"""Functions of complex numbers: from parts, from angles, conjugates, and what real ones give there.

The primitives are in parts.py.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..core import dtype as dt
from ..core.errors import DTypeError, ShapeError
from ..ir.op import Aval, op
from . import parts
from .align import align, as_operand, cast, public
from .arith import abs as absolute
from .arith import div_, eq, lt, mul, ne, sign, where
from .batching import shape_of
from .movement import Copy
from .parts import FromParts, ImaginaryPart, OfComplex, ViewAsComplex, ViewAsReal, conj
from .trigonometric import cos, sin


@op
class Angle(OfComplex):
    """The angle of each element from the positive real axis, in [-pi, pi]."""

    saves = "inputs"

    def infer(self, x: Any) -> Aval:
        self.check_dtypes(x)
        return Aval(shape_of(x), x.dtype.to_real())

    def reference(self, x: Any) -> Any:
        return np.angle(x)

    def vjp(self, g: Any, out: Any, x: Any) -> tuple[Any, ...]:
        size = absolute(x)
        zero = eq(size, 0)
        across = mul(sign(x), 1j)
        return (where(zero, 0.0, mul(across, div_(g, where(zero, 1.0, size)))),)


def _conj(input: Any) -> Any:
    """Each element with the opposite imaginary part; a real tensor itself.

    >>> conj(tensor([1 + 2j]))
    tensor([1.-2.j])
    """
    return conj(as_operand("conj", input))


_conj.__name__ = _conj.__qualname__ = "conj"
public(_conj)


@public
def conj_physical(input: Any) -> Any:
    """The conjugate in memory of its own (as `conj` is here too)."""
    x = as_operand("conj_physical", input)
    return conj(x) if x.dtype.is_complex else Copy()(x)


@public
def resolve_conj(input: Any) -> Any:
    """The tensor itself: nothing is conjugated later."""
    return as_operand("resolve_conj", input)


@public
def resolve_neg(input: Any) -> Any:
    """The tensor itself: nothing is negated later."""
    return as_operand("resolve_neg", input)


@public
def real(input: Any) -> Any:
    """The real part, a view; a real tensor itself.

    >>> real(tensor([1 + 2j]))
    tensor([1.])
    """
    return parts.real(as_operand("real", input))


@public
def imag(input: Any) -> Any:
    """The imaginary part of a complex tensor, a view. DTypeError for a real one, as in PyTorch."""
    x = as_operand("imag", input)
    if not x.dtype.is_complex:
        raise DTypeError(f"imag: needs a complex tensor, got {x.dtype.name}")
    return ImaginaryPart()(x)


@public
def view_as_real(input: Any) -> Any:
    """Complex numbers as pairs of real ones in a new last dimension of size 2. A view.

    >>> view_as_real(tensor([1 + 2j]))
    tensor([[1., 2.]])
    """
    return ViewAsReal()(as_operand("view_as_real", input))


@public
def view_as_complex(input: Any) -> Any:
    """The last dimension, of size 2 and in neighbouring memory, as complex numbers. A view."""
    x = as_operand("view_as_complex", input)
    if x.dtype in (dt.float32, dt.float64) and getattr(x, "stride", None) is not None:
        steps = x.stride()
        if steps is not None and x.shape and x.shape[-1] == 2:
            if steps[-1] != 1 or any(s % 2 for s, n in zip(steps[:-1], x.shape) if n > 1):
                raise ShapeError(
                    f"view_as_complex: pairs must be neighbours in memory, the strides are {steps}",
                    hint="copy it first, with contiguous()",
                )
    return ViewAsComplex()(x)


def _parts(name: str, a: Any, b: Any, names: tuple[str, str]) -> list[Any]:
    x, y = as_operand(name, a, names[0]), as_operand(name, b, names[1])
    if x.dtype is not y.dtype or x.dtype not in (dt.float32, dt.float64):
        raise DTypeError(
            f"{name}: {names[0]} and {names[1]} must both be float32 or both float64, got "
            f"{x.dtype.name} and {y.dtype.name}"
        )
    return align(name, x, y)


@public
def complex(real: Any, imag: Any) -> Any:
    """Complex numbers of real and imaginary parts (float32 or float64), which broadcast.

    >>> complex(tensor([1.0]), tensor([2.0]))
    tensor([1.+2.j])
    """
    return FromParts()(*_parts("complex", real, imag, ("real", "imag")))


@public
def polar(abs: Any, angle: Any) -> Any:
    """Complex numbers of absolute values and angles: abs * (cos(angle) + i sin(angle))."""
    size, turn = _parts("polar", abs, angle, ("abs", "angle"))
    return FromParts()(mul(size, cos(turn)), mul(size, sin(turn)))


@public
def is_conj(input: Any) -> bool:
    """False: the conjugate of a tensor is made at once."""
    return False


@public
def is_neg(input: Any) -> bool:
    """False: the negative of a tensor is made at once."""
    return False


@public
def angle(input: Any) -> Any:
    """The angle of each number in the complex plane; of real ones pi where negative, else 0.

    nan stays.

    >>> angle(tensor([2.0, -1.0]))
    tensor([0.0000, 3.1416])
    """
    x = as_operand("angle", input)
    if x.dtype.is_complex:
        return Angle()(x)
    x = x if x.dtype.is_floating_point else cast(x, dt.get_default_dtype())
    # Of the number where it is nan: so the gradient is 0 elsewhere, and there is one.
    return where(ne(x, x), x, mul(cast(lt(x, 0), x.dtype), math.pi))


def refuse_complex(name: str, x: Any, meaning: str) -> None:
    """DTypeError for a complex tensor, of which `meaning` is not defined."""
    if x.dtype.is_complex:
        raise DTypeError(f"{name}: {meaning} of complex numbers is not defined: {x.dtype.name}")
