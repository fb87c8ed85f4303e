"""Numbers that fill a cube more evenly than random ones: Sobol's sequence.

The names of torch.quasirandom.
"""

from __future__ import annotations

import base64
import functools
from collections.abc import Iterator
from typing import Any

import numpy as np

from .api.creation import from_numpy
from .api.random import Generator, randint
from .api.sobol_numbers import BITS
from .core.dtype import as_dtype, get_default_dtype
from .core.errors import ArgumentError
from .core.shape import as_index
from .tensor import Tensor

__all__ = ["SobolEngine"]


class SobolEngine:
    """Points of Sobol's sequence in [0, 1) ** dimension: each interval gets its share of them.

    dimension  1 to 1111
    scramble   the digits are mixed at random, so that averages over the points have no bias and
               their errors can be estimated
    seed       of the mixing (None: from the global generator)

    The first point of a sequence that is not scrambled is 0. Without scrambling the numbers are
    PyTorch's. Sources: Joe and Kuo, Constructing Sobol sequences with better two-dimensional
    projections, 2008; Antonov and Saleev, An economic method of computing LP_tau-sequences, 1979;
    Matousek, On the L2-discrepancy for anchored boxes, 1998 (scrambling).

    >>> SobolEngine(2).draw(3)
    tensor([[0.0000, 0.0000],
            [0.5000, 0.5000],
            [0.7500, 0.2500]])
    """

    MAXBIT = 30
    MAXDIM = 1111

    def __init__(self, dimension: int, scramble: bool = False, seed: int | None = None):
        dimension = as_index("SobolEngine", "dimension", dimension)
        if not 1 <= dimension <= self.MAXDIM:
            raise ArgumentError(
                f"SobolEngine: dimension must be in [1, {self.MAXDIM}], got {dimension}"
            )
        self.dimension, self.scramble, self.seed = dimension, bool(scramble), seed
        self.num_generated = 0
        self._directions = _directions(dimension)
        self._shift = np.zeros(dimension, np.int64)
        if scramble:
            self._mix()

    def draw(self, n: int = 1, out: Tensor | None = None, dtype: Any = None) -> Tensor:
        """The next n points, (n, dimension), of `dtype` (None: the default)."""
        n = as_index("draw", "n", n)
        start, end = self.num_generated, self.num_generated + n
        most = (1 << self.MAXBIT) - start
        if not 0 <= n <= most:
            raise ArgumentError(f"draw: n must be in [0, {most}] after {start} points, got {n}")
        # A point differs from the one before by the direction of the lowest bit that is set.
        numbers = np.arange(start, end)
        steps = self._directions.T[_lowest_bit(numbers)]
        if n:
            steps[0] = self._point(start)
        made = np.bitwise_xor.accumulate(steps, 0)
        dtype = get_default_dtype() if dtype is None else as_dtype(dtype)
        points = from_numpy(made / 2.0**self.MAXBIT).to(dtype)
        self.num_generated = end
        return points if out is None else out.resize_as_(points).copy_(points)

    def draw_base2(self, m: int, out: Tensor | None = None, dtype: Any = None) -> Tensor:
        """The next 2 ** m points, with which the number of all points must be a power of two."""
        n = 1 << as_index("draw_base2", "m", m)
        total = self.num_generated + n
        if total & (total - 1):
            raise ArgumentError(
                f"draw_base2: {self.num_generated} + {n} points are no power of two, so that they "
                "are not balanced",
                hint="use draw()",
            )
        return self.draw(n, out, dtype)

    def reset(self) -> SobolEngine:
        """Begin with the first point again."""
        self.num_generated = 0
        return self

    def fast_forward(self, n: int) -> SobolEngine:
        """Leave out n points."""
        self.num_generated += as_index("fast_forward", "n", n)
        return self

    def _point(self, number: int) -> np.ndarray:
        gray, point = number ^ number >> 1, self._shift.copy()
        for bit in range(self.MAXBIT):
            if gray >> bit & 1:
                point ^= self._directions[:, bit]
        return point

    def _mix(self) -> None:
        """A random matrix for the digits of each dimension, lower triangular, and a shift."""
        bits = self.MAXBIT
        generator = None if self.seed is None else Generator().manual_seed(self.seed)
        shape = (self.dimension, bits, bits + 1)
        drawn = randint(0, 2, shape, generator=generator).numpy()
        places = 1 << np.arange(bits)[::-1]  # the first digit is the highest bit
        self._shift = drawn[..., -1] @ places
        matrix = np.tril(drawn[..., :-1], -1) + np.eye(bits, dtype=np.int64)
        digits = self._directions[:, None] >> np.arange(bits)[::-1, None] & 1
        self._directions = ((matrix @ digits & 1) * places[:, None]).sum(1)

    def __repr__(self) -> str:
        more = [f"dimension={self.dimension}"]
        more += ["scramble=True"] if self.scramble else []
        more += [] if self.seed is None else [f"seed={self.seed}"]
        return f"SobolEngine({', '.join(more)})"


def _lowest_bit(numbers: np.ndarray) -> np.ndarray:
    """The place of the lowest bit that is set (0 for 0)."""
    return np.log2(np.maximum(numbers & -numbers, 1)).astype(np.int64)


@functools.cache
def _directions(count: int) -> np.ndarray:
    """(count, MAXBIT): what each bit of a point's number changes, as numerators of 2 ** MAXBIT."""
    bits = SobolEngine.MAXBIT
    made = np.empty((count, bits), np.int64)
    made[0] = 1
    packed = base64.b85decode(BITS.replace("\n", ""))
    left = iter(np.unpackbits(np.frombuffer(packed, np.uint8)).tolist())
    for row, polynomial in zip(made[1:], _primitive_polynomials()):
        degree = polynomial.bit_length() - 1
        m = [1]
        for i in range(1, degree):
            m.append(2 * functools.reduce(lambda n, _: 2 * n + next(left), range(i), 0) + 1)
        for i in range(degree, bits):
            new = m[i - degree]
            for k in range(1, degree + 1):
                if polynomial >> degree - k & 1:
                    new ^= m[i - k] << k
            m.append(new)
        row[:] = m
    return made << np.arange(bits)[::-1]


def _primitive_polynomials() -> Iterator[int]:
    """Polynomials over {0, 1}, bit k for x ** k, modulo which x has all the powers there can be."""
    degree = 1
    while True:
        order = (1 << degree) - 1
        parts = [order // q for q in range(2, order + 1) if order % q == 0]
        for p in range((1 << degree) + 1, 2 << degree, 2):
            if _power_of_x(order, p) == 1 and all(_power_of_x(k, p) != 1 for k in parts):
                yield p
        degree += 1


def _power_of_x(exponent: int, polynomial: int) -> int:
    """x ** exponent modulo the polynomial."""
    result = 1
    for digit in bin(exponent)[2:]:
        square = int("0".join(bin(result)[2:]), 2)  # each exponent doubled
        result = square << 1 if digit == "1" else square
        while (excess := result.bit_length() - polynomial.bit_length()) >= 0:
            result ^= polynomial << excess
    return result
