"""Sums of floating-point numbers without rounding, so that partial sums combine exactly."""

from __future__ import annotations

import numpy as np

_UNIT_BITS = 1074  # every finite float64 is an integer multiple of 2**-1074
_CHUNK = 1 << 25  # halves of 27 bits, added up in float64, stay exact below 2**26 of them


class ExactSum:
    """The exact sum of float64 numbers: the same for any order and any partition.

    Kept as one integer, in units of the smallest float64 (about 2,100 bits at most for numbers of
    any size, plus the logarithm of their count). Infinities and nans are added up apart.

    >>> total = ExactSum()
    >>> total.add([1e100, 1.0, -1e100])
    >>> float(total)
    1.0
    """

    __slots__ = ("units", "special")

    def __init__(self, units: int = 0, special: float = 0.0):
        self.units = units
        self.special = special

    def add(self, values) -> None:
        """Add all elements of an array of numbers."""
        values = np.asarray(values, dtype=np.float64).reshape(-1)
        finite = np.isfinite(values)
        if not finite.all():
            with np.errstate(invalid="ignore"):
                self.special += float(values[~finite].sum())
            values = values[finite]
        for start in range(0, values.size, _CHUNK):
            self.units += _units(values[start : start + _CHUNK])

    def __add__(self, other: ExactSum) -> ExactSum:
        return ExactSum(self.units + other.units, self.special + other.special)

    def __eq__(self, other) -> bool:
        return isinstance(other, ExactSum) and (self.units, self.special) == (
            other.units,
            other.special,
        )

    def __float__(self) -> float:
        return self.divide(ExactSum(1 << _UNIT_BITS))

    def divide(self, other: ExactSum) -> float:
        """The quotient of two sums, rounded once; nan if both are zero."""
        if self.special or other.special or not other.units:
            with np.errstate(invalid="ignore", divide="ignore"):
                special = [
                    x.special if x.special else np.float64(np.sign(x.units)) for x in (self, other)
                ]
                return float(np.float64(special[0]) / np.float64(special[1]))
        try:
            return self.units / other.units
        except OverflowError:
            return float("inf") if (self.units > 0) == (other.units > 0) else float("-inf")

    def __repr__(self) -> str:
        return f"ExactSum({float(self)!r})"


def _units(values: np.ndarray) -> int:
    """The sum of finite values in units of 2**-1074."""
    if not values.size:
        return 0
    fractions, exponents = np.frexp(values)
    digits = (fractions * 2.0**53).astype(np.int64)  # value = digits * 2**(exponent - 53)
    shifts = exponents.astype(np.int64) + (_UNIT_BITS - 53)
    digits >>= np.maximum(-shifts, 0)  # subnormal numbers: the bits shifted out are zero
    shifts = np.maximum(shifts, 0)
    first = int(shifts.min())
    low = np.bincount(shifts - first, weights=(digits & (2**27 - 1)).astype(np.float64))
    high = np.bincount(shifts - first, weights=(digits >> 27).astype(np.float64))
    total = 0
    for i in np.flatnonzero((low != 0) | (high != 0)).tolist():
        total += (int(low[i]) + (int(high[i]) << 27)) << (first + i)
    return total
