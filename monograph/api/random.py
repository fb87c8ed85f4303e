"""Generators and random tensors with PyTorch's names. The numbers come from ops/random.py."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from ..core import dtype as dt
from ..core.device import usable
from ..core.dtype import DType, as_dtype
from ..core.errors import ArgumentError, ArgumentTypeError, DTypeError, ShapeError
from ..core.modes import modes
from ..core.shape import as_index, as_shape, broadcast_shapes, is_number, numel
from ..core.tracing import concrete
from ..ops import random as source
from ..ops.align import as_operand, broadcast_to, cast, literal
from ..ops.arith import add, div, lt, mul
from ..ops.exponential import exp
from ..ops.movement import Detach, Reshape
from ..ops.parts import FromParts
from ..ops.reduce import argmin
from ..ops.rounding import floor
from ..ops.shaping import narrow
from ..ops.sorting import argsort
from ..ops.trigonometric import tan
from ..tensor import Tensor, wrap
from .creation import tensor

DEFAULT_SEED = 67280421310721  # PyTorch's

__all__ = [
    "Generator", "default_generator", "manual_seed", "seed", "initial_seed", "get_rng_state",
    "set_rng_state", "fork_rng", "rand", "randn", "randint", "randperm", "rand_like", "randn_like",
    "randint_like", "bernoulli", "multinomial", "normal",
]  # fmt: skip


class Generator:
    """A source of random numbers: a key and the number of the next block, in `state`.

    The same seed gives the same numbers eager and compiled, for any number of threads.

    >>> g = Generator().manual_seed(3)
    >>> rand(2, generator=g).tolist() == rand(2, generator=g.manual_seed(3)).tolist()
    True
    """

    def __init__(self, device: Any = None):
        usable(device, "Generator")
        with concrete():
            self.state = tensor([_signed(DEFAULT_SEED), 0])
        self._seed = DEFAULT_SEED

    def manual_seed(self, seed: int) -> Generator:
        """Start the sequence of `seed`, an int in [-2**63, 2**64)."""
        seed = as_index("manual_seed", "seed", seed)
        if not -(1 << 63) <= seed < 1 << 64:
            raise ArgumentError(f"manual_seed: seed must be in [-2**63, 2**64), got {seed}")
        self._seed = seed % (1 << 64)
        self.state._write(tensor([_signed(self._seed), 0]), "manual_seed")
        return self

    def seed(self) -> int:
        """Start from a seed taken from the operating system; returns it."""
        chosen = int.from_bytes(os.urandom(8), "little")
        self.manual_seed(chosen)
        return chosen

    def initial_seed(self) -> int:
        """The seed that the present sequence started from."""
        return self._seed

    def get_state(self) -> Tensor:
        """A copy of the state: int64 (key, next block)."""
        return tensor(self.state)

    def set_state(self, new_state: Tensor) -> Generator:
        """Go on from a state that get_state gave."""
        if not isinstance(new_state, Tensor) or new_state.dtype is not dt.int64:
            raise ArgumentTypeError("set_state: new_state must be an int64 tensor from get_state")
        if tuple(new_state.shape) != (2,):
            raise ShapeError(f"set_state: new_state must have shape (2,), got {new_state.shape}")
        self.state._write(new_state, "set_state")
        self._seed = int(new_state.tolist()[0]) % (1 << 64)
        return self

    def __repr__(self) -> str:
        return f"<Generator seed={self._seed}>"


def _signed(x: int) -> int:
    return x - (1 << 64) if x >> 63 else x


default_generator = Generator()
source.install(default_generator)


def manual_seed(seed: int) -> Generator:
    """Seed the default generator; returns it."""
    return default_generator.manual_seed(seed)


def seed() -> int:
    """Seed the default generator from the operating system; returns the seed."""
    return default_generator.seed()


def initial_seed() -> int:
    """The seed of the default generator."""
    return default_generator.initial_seed()


def get_rng_state() -> Tensor:
    """The state of the default generator."""
    return default_generator.get_state()


def set_rng_state(new_state: Tensor) -> None:
    """Set the state of the default generator."""
    default_generator.set_state(new_state)


@contextmanager
def fork_rng(
    devices: Any = None, enabled: bool = True, *, device_type: str | None = None
) -> Iterator[None]:
    """Put the default generator back after the body as it was before.

    devices, device_type  of other generators, of which there are none: ignored

    >>> with fork_rng():
    ...     _ = manual_seed(1)
    """
    before = get_rng_state() if enabled else None
    try:
        yield
    finally:
        if before is not None:
            set_rng_state(before)


def _floating(name: str, dtype: Any) -> DType:
    d = dt.get_default_dtype() if dtype is None else as_dtype(dtype)
    if not d.is_inexact:
        raise DTypeError(f"{name}: dtype must be floating or complex, got {d.name}")
    return d


def _units(shape: tuple, d: DType, generator: Generator | None) -> Tensor:
    """Numbers of [0, 1), or of the unit square."""
    if _is_eager(d):
        return _drawn(shape, "uniform", generator, 1.0, 0.0)
    if d.is_complex:
        part = d.to_real()
        return FromParts()(*(source.random_unit(shape, part, generator) for _ in "ri"))
    return source.random_unit(shape, d, generator)


def _normals(shape: tuple, d: DType, generator: Generator | None) -> Tensor:
    """Numbers of variance 1; of complex ones both parts have variance 1/2."""
    if _is_eager(d):
        return _drawn(shape, "normal", generator, 1.0, 0.0)
    if d.is_complex:
        parts = (source.random_normal(shape, d.to_real(), generator) for _ in "ri")
        return mul(FromParts()(*parts), math.sqrt(0.5))
    return source.random_normal(shape, d, generator)


def _drawn(
    shape: tuple, distribution: str, generator: Generator | None, factor: float, term: float
) -> Tensor:
    """float32 numbers times `factor`, plus `term`, in one pass."""
    line = wrap(np.array([factor, term], np.float32))
    made = source.random_numbers(numel(shape), distribution, line, generator)._value()
    made.shape = shape  # drawn flat, by one kernel for all shapes; no view of a flat tensor
    return wrap(made)


def _is_eager(d: DType) -> bool:
    """Whether numbers of this dtype are drawn by `_drawn`: captured code takes the parts, which
    fuse with what reads them."""
    return d is dt.float32 and modes.trace is None and modes.vmap is None


def _finish(x: Tensor, requires_grad: bool) -> Tensor:
    return x.requires_grad_() if requires_grad else x


def rand(
    *size: Any, generator: Generator | None = None, dtype: Any = None, device: Any = None,
    requires_grad: bool = False,
) -> Tensor:  # fmt: skip
    """Numbers from [0, 1), all equally likely, in a tensor of the given shape.

    >>> rand(2, 3).shape
    (2, 3)
    """
    usable(device, "rand")
    shape = as_shape("rand", size)
    return _finish(_units(shape, _floating("rand", dtype), generator), requires_grad)


def randn(
    *size: Any, generator: Generator | None = None, dtype: Any = None, device: Any = None,
    requires_grad: bool = False,
) -> Tensor:  # fmt: skip
    """Numbers of the normal distribution with mean 0 and standard deviation 1."""
    usable(device, "randn")
    shape = as_shape("randn", size)
    return _finish(_normals(shape, _floating("randn", dtype), generator), requires_grad)


def randint(
    low: int, high: Any = None, size: Any = None, *, generator: Generator | None = None,
    dtype: Any = None, device: Any = None, requires_grad: bool = False,
) -> Tensor:  # fmt: skip
    """Integers from [low, high), all equally likely: randint(high, size), randint(low, high, size).

    >>> randint(5, (2, 3)).shape
    (2, 3)
    """
    usable(device, "randint")
    if size is None:
        if not isinstance(high, (tuple, list)):
            raise ArgumentError("randint: needs a size, as in randint(10, (2, 3))")
        low, high, size = 0, low, high
    d = dt.int64 if dtype is None else as_dtype(dtype)
    made = _integers("randint", low, high, as_shape("randint", (size,)), d, generator)
    return _finish(made, requires_grad)


def _integers(
    name: str, low: Any, high: Any, shape: tuple, dtype: DType, generator: Generator | None
) -> Tensor:
    low, high = as_index(name, "low", low), as_index(name, "high", high)
    if low >= high:
        raise ArgumentError(f"{name}: low must be below high, got {low} and {high}")
    if dtype is dt.bool_:
        raise DTypeError(f"{name}: dtype must be integer or floating, got bool")
    return source.random_integers(shape, low, high, dtype, generator)


def randperm(
    n: int, *, generator: Generator | None = None, dtype: Any = None, device: Any = None,
    requires_grad: bool = False,
) -> Tensor:  # fmt: skip
    """The numbers 0 .. n-1 in random order (the order of random 63-bit keys)."""
    usable(device, "randperm")
    n = as_index("randperm", "n", n)
    if n < 0:
        raise ArgumentError(f"randperm: n must not be negative, got {n}")
    keys = source.random_integers((n,), 0, (1 << 63) - 1, dt.int64, generator)
    order = argsort(keys, stable=True)
    return _finish(cast(order, dt.int64 if dtype is None else as_dtype(dtype)), requires_grad)


def rand_like(
    input: Tensor, *, generator: Generator | None = None, dtype: Any = None, device: Any = None,
    requires_grad: bool = False,
) -> Tensor:  # fmt: skip
    """Numbers from [0, 1) in the shape and dtype of `input`."""
    return rand(
        tuple(input.shape), generator=generator, dtype=dtype or input.dtype, device=device,
        requires_grad=requires_grad,
    )  # fmt: skip


def randn_like(
    input: Tensor, *, generator: Generator | None = None, dtype: Any = None, device: Any = None,
    requires_grad: bool = False,
) -> Tensor:  # fmt: skip
    """Numbers of the standard normal distribution in the shape and dtype of `input`."""
    return randn(
        tuple(input.shape), generator=generator, dtype=dtype or input.dtype, device=device,
        requires_grad=requires_grad,
    )  # fmt: skip


def randint_like(
    input: Tensor, low: int, high: int | None = None, *, generator: Generator | None = None,
    dtype: Any = None, device: Any = None, requires_grad: bool = False,
) -> Tensor:  # fmt: skip
    """Integers from [low, high), or [0, low) without high, in the shape and dtype of `input`."""
    if high is None:
        low, high = 0, low
    return randint(
        low, high, tuple(input.shape), generator=generator, dtype=dtype or input.dtype,
        device=device, requires_grad=requires_grad,
    )  # fmt: skip


def bernoulli(
    input: Tensor, p: float | None = None, *, generator: Generator | None = None
) -> Tensor:
    """1 with the probability given by each element of `input` (or by p everywhere), else 0."""
    input = as_operand("bernoulli", input)
    d = input.dtype
    if p is not None:
        if not 0 <= p <= 1:
            raise ArgumentError(f"bernoulli: p must be in [0, 1], got {p}")
        wide = dt.float64 if d is dt.float64 else dt.float32
        drawn = source.random_unit(tuple(input.shape), wide, generator)
        return cast(lt(drawn, float(p)), d)
    if not d.is_floating_point:
        raise DTypeError(f"bernoulli: probabilities must be floating, got {d.name}")
    wide = dt.float64 if d is dt.float64 else dt.float32
    drawn = source.random_unit(tuple(input.shape), wide, generator)
    return cast(lt(drawn, cast(Detach()(input), wide)), d)


def normal(
    mean: Any = 0.0, std: Any = 1.0, size: Any = None, *, generator: Generator | None = None,
    dtype: Any = None, layout: Any = None, device: Any = None, pin_memory: bool = False,
    requires_grad: bool = False,
) -> Tensor:  # fmt: skip
    """Normal numbers with the given means and standard deviations (numbers, or tensors).

    >>> normal(0.0, 2.0, (3,)).shape
    (3,)
    """
    usable(device, "normal")
    if is_number(std) and std < 0:
        raise ArgumentError(f"normal: std must not be negative, got {std}")
    given = [v for v in (mean, std) if isinstance(v, Tensor)]
    if size is None and not given:
        raise ArgumentError("normal: needs a size where mean and std are numbers")
    if size is not None:
        shape = as_shape("normal", (size,))
    else:
        shape = broadcast_shapes("normal", *(tuple(v.shape) for v in given))
    d = _floating("normal", dtype if dtype is not None or not given else given[0].dtype)
    drawn = _normals(shape, d, generator)
    return _finish(add(mul(drawn, std), mean), requires_grad)


def multinomial(
    input: Tensor, num_samples: int, replacement: bool = False, *,
    generator: Generator | None = None,
) -> Tensor:  # fmt: skip
    """Class numbers drawn in proportion to the weights along the last dimension.

    input    (C,) or (N, C), not negative; the weights need not sum to 1
    returns  (num_samples,) or (N, num_samples), int64

    ArgumentError for a weight that is negative or not finite, and for a row of zeros (in a capture
    the weights are not known). Without replacement the classes of one row differ: those with the
    smallest of independent exponential times with the weights as rates. Source: Efraimidis and
    Spirakis, "Weighted random sampling with a reservoir", 2006.
    """
    if len(input.shape) not in (1, 2):
        raise ShapeError(f"multinomial: input must have 1 or 2 dimensions, got {input.shape}")
    if not input.dtype.is_floating_point:
        raise DTypeError(f"multinomial: weights must be floating, got {input.dtype.name}")
    count = as_index("multinomial", "num_samples", num_samples)
    classes = input.shape[-1]
    if count < 1 or (not replacement and count > classes):
        raise ArgumentError(
            f"multinomial: num_samples must be in [1, {'inf' if replacement else classes}], "
            f"got {count}"
        )
    _check_weights(input)
    rows = tuple(input.shape[:-1])
    wide = dt.float64 if input.dtype is dt.float64 else dt.float32
    weights = cast(Detach()(input), wide)
    if replacement:
        weights = Reshape((*rows, 1, classes))(weights)
        times = source.random_exponential((*rows, count, classes), wide, generator)
        times = div(times, weights)
        return argmin(times, -1)
    times = div(source.random_exponential((*rows, classes), wide, generator), weights)
    order = argsort(times, -1, stable=True)
    return narrow(order, -1, 0, count)


def _check_weights(input: Tensor) -> None:
    """ArgumentError unless multinomial can draw by these weights, where they are known."""
    weights = input._value()
    if type(weights) is not np.ndarray or not weights.size:
        return
    with np.errstate(all="ignore"):
        good = np.isfinite(weights) & (weights >= 0)
    if not good.all():
        raise ArgumentError(
            f"multinomial: weights must be finite and not negative, got {weights[~good][0]}"
        )
    rows = weights.any(-1)
    if not rows.all():
        where = f" in row {int(np.argmin(rows))}" if rows.ndim else ""
        raise ArgumentError(f"multinomial: no weight is above 0{where}")


# In-place forms: methods of Tensor.


def _written(self: Tensor, value: Tensor, name: str) -> Tensor:
    return self._write(cast(value, self.dtype), name)


def _wide(self: Tensor) -> DType:
    return self.dtype if self.dtype.is_floating_point else dt.float32


def _must_float(self: Tensor, name: str) -> None:
    if not self.dtype.is_floating_point:
        raise DTypeError(f"{name}: the tensor must be floating, it is {self.dtype.name}")


def _uniform_(
    self: Tensor, from_: float = 0.0, to: float = 1.0, *, generator: Generator | None = None
) -> Tensor:
    """Fill with numbers from [from_, to), all equally likely."""
    _floating("uniform_", self.dtype)
    if from_ > to:
        raise ArgumentError(f"uniform_: the lower bound {from_} is above the upper bound {to}")
    shape = tuple(self.shape)
    if _is_eager(self.dtype) and not self.is_meta:
        drawn = _drawn(shape, "uniform", generator, float(to - from_), float(from_))
        return _written(self, drawn, "uniform_")
    drawn = _units(shape, self.dtype, generator)
    if (from_, to) != (0, 1):
        low = complex(from_, from_) if self.dtype.is_complex else float(from_)
        drawn = add(mul(drawn, float(to - from_)), low)
    return _written(self, drawn, "uniform_")


def _normal_(
    self: Tensor, mean: float = 0.0, std: float = 1.0, *, generator: Generator | None = None
) -> Tensor:
    """Fill with normal numbers of the given mean and standard deviation."""
    _floating("normal_", self.dtype)
    if std < 0:
        raise ArgumentError(f"normal_: std must not be negative, got {std}")
    shape = tuple(self.shape)
    if _is_eager(self.dtype) and not self.is_meta and is_number(mean) and is_number(std):
        drawn = _drawn(shape, "normal", generator, std, mean)
        return _written(self, drawn, "normal_")
    drawn = _normals(shape, self.dtype, generator)
    if (mean, std) != (0, 1):
        drawn = add(mul(drawn, float(std)), literal(mean, self.dtype))
    return _written(self, drawn, "normal_")


def _bernoulli_(self: Tensor, p: Any = 0.5, *, generator: Generator | None = None) -> Tensor:
    """Fill with 1 (probability p: a number, or a tensor that broadcasts) and 0."""
    if isinstance(p, Tensor):
        drawn = bernoulli(broadcast_to(p, tuple(self.shape)), generator=generator)
    else:
        drawn = bernoulli(self.detach(), p, generator=generator)
    return _written(self, drawn, "bernoulli_")


def _random_(
    self: Tensor, from_: int | None = None, to: int | None = None, *,
    generator: Generator | None = None,
) -> Tensor:  # fmt: skip
    """Fill with integers from [from_, to); with one bound [0, bound); else all the dtype holds."""
    if from_ is None:
        from_, to = 0, _largest(self.dtype) + 1
    elif to is None:
        from_, to = 0, from_
    if self.dtype is dt.bool_:
        drawn = source.random_integers(tuple(self.shape), from_, to, dt.int64, generator)
    else:
        drawn = _integers("random_", from_, to, tuple(self.shape), self.dtype, generator)
    return _written(self, drawn, "random_")


def _largest(d: DType) -> int:
    if d is dt.bool_:
        return 1
    if d.is_floating_point:
        digits = {dt.float64: 53, dt.float32: 24, dt.float16: 11, dt.bfloat16: 8}
        return 2 ** digits[d] - 1
    return min(dt.iinfo(d).max, (1 << 63) - 2)


def _exponential_(
    self: Tensor, lambd: float = 1.0, *, generator: Generator | None = None
) -> Tensor:
    """Fill with exponential numbers of rate lambd."""
    _must_float(self, "exponential_")
    if lambd <= 0:
        raise ArgumentError(f"exponential_: lambd must be positive, got {lambd}")
    drawn = source.random_exponential(tuple(self.shape), self.dtype, generator)
    return _written(self, mul(drawn, 1.0 / lambd), "exponential_")


def _log_normal_(
    self: Tensor, mean: float = 1.0, std: float = 2.0, *, generator: Generator | None = None
) -> Tensor:
    """Fill with exp of normal numbers of the given mean and standard deviation."""
    _must_float(self, "log_normal_")
    if std <= 0:
        raise ArgumentError(f"log_normal_: std must be positive, got {std}")
    drawn = source.random_normal(tuple(self.shape), self.dtype, generator)
    return _written(self, exp(add(mul(drawn, std), mean)), "log_normal_")


def _geometric_(self: Tensor, p: float, *, generator: Generator | None = None) -> Tensor:
    """Fill with the number of trials of chance p up to the first success (at least 1)."""
    if not 0 < p < 1:
        raise ArgumentError(f"geometric_: p must be in (0, 1), got {p}")
    drawn = source.random_exponential(tuple(self.shape), dt.float64, generator)
    trials = add(floor(mul(drawn, -1.0 / math.log1p(-p))), 1.0)
    return _written(self, trials, "geometric_")


def _cauchy_(
    self: Tensor, median: float = 0.0, sigma: float = 1.0, *, generator: Generator | None = None
) -> Tensor:
    """Fill with numbers of the Cauchy distribution."""
    _must_float(self, "cauchy_")
    unit = source.random_unit(tuple(self.shape), dt.float64, generator)
    angle = mul(add(unit, -0.5 + 2.0**-54), math.pi)
    return _written(self, add(mul(tan(angle), sigma), median), "cauchy_")


for _method in (
    _uniform_, _normal_, _bernoulli_, _random_, _exponential_, _log_normal_, _geometric_, _cauchy_,
):  # fmt: skip
    _method.__name__ = _method.__name__[1:]
    _method.__qualname__ = f"Tensor.{_method.__name__}"
    setattr(Tensor, _method.__name__, _method)
Tensor.bernoulli = bernoulli  # type: ignore[attr-defined]
Tensor.multinomial = multinomial  # type: ignore[attr-defined]
