"""Random numbers that take several tries: standard gamma, Poisson, binomial.

Rejection in a fixed number of rounds, each for all elements: so that a captured program holds it,
and the same seed gives the same numbers eager and captured. A round accepts more than nine in ten;
what no round accepts (less than one in 10**10) gets the middle of the distribution. Where there are
not too many elements all rounds are made at once, along an axis in front: a tenth of the code.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..core import dtype as dt
from ..core.errors import DTypeError
from ..core.shape import Shape, broadcast_shapes, numel
from ..ops import random as source
from ..ops.align import as_operand, broadcast_to, cast
from ..ops.arith import abs as absolute
from ..ops.arith import (
    add,
    div,
    ge,
    gt,
    le,
    logical_and,
    logical_not,
    logical_or,
    lt,
    minimum,
    mul,
    sub,
    where,
)  # fmt: skip
from ..ops.exponential import exp, log
from ..ops.gamma import lgamma
from ..ops.movement import Detach
from ..ops.power import sqrt
from ..ops.rounding import clamp, floor
from ..ops.shaping import select
from ..tensor import Tensor

ROUNDS = 10
AT_ONCE = 1 << 20  # elements up to which all rounds are made at once
FEW = 10.0  # means below are drawn by inversion
STEPS = 60  # of inversion: nothing of a mean below FEW reaches there


def standard_gamma(shape_parameter: Tensor, generator: Any = None) -> Tensor:
    """Gamma numbers of rate 1; no gradient.

    Source: Marsaglia and Tsang, "A simple method for generating gamma variables", 2000.
    """
    a = Detach()(shape_parameter)
    d = dt.float64 if a.dtype is dt.float64 else dt.float32
    a, size = cast(a, d), tuple(a.shape)
    small = lt(a, 1.0)  # x of a + 1, times u ** (1 / a)
    third = sub(add(a, cast(small, d)), 1 / 3)
    c = div(1 / 3, sqrt(third))

    def attempt(size: Shape) -> tuple[Any, Any]:
        x = source.random_normal(size, d, generator)
        v = add(mul(c, x), 1.0)
        v = mul(mul(v, v), v)
        u = source.random_exponential(size, d, generator)  # -log of a uniform number
        positive = gt(v, 0.0)
        safe = where(positive, v, 1.0)
        bound = add(mul(mul(x, x), 0.5), mul(third, add(sub(1.0, safe), log(safe))))
        return mul(third, safe), logical_and(positive, gt(bound, mul(u, -1.0)))

    made = _first_accepted(size, attempt, third)
    boost = exp(mul(source.random_exponential(size, d, generator), div(-1.0, a)))
    made = where(small, mul(made, boost), made)
    return cast(clamp(made, min=dt.finfo(d).tiny), shape_parameter.dtype)


def poisson(input: Tensor, generator: Any = None) -> Tensor:
    """Poisson numbers with the rates given by `input`'s elements, which must be finite.

    By inversion where the rate is below 10, else by Hoermann, "The transformed rejection method for
    generating Poisson random variables", 1993.
    """
    if not input.dtype.is_floating_point:
        raise DTypeError(f"poisson: rates must be floating, got {input.dtype.name}")
    rate, size = cast(Detach()(input), dt.float64), tuple(input.shape)
    few = lt(rate, FEW)
    small = where(few, rate, 1.0)
    u = source.random_unit(size, dt.float64, generator)
    chance = exp(mul(small, -1.0))
    count = _inverted(u, chance, lambda k: div(small, k + 1.0))
    large = where(few, FEW, rate)
    log_rate, b = log(large), add(mul(sqrt(large), 2.53), 0.931)
    a = sub(mul(b, 0.02483), 0.059)
    inverse_alpha = add(div(1.1328, sub(b, 3.4)), 1.1239)
    squeeze = sub(0.9277, div(3.6224, sub(b, 2.0)))

    def log_chance(k: Any) -> Any:
        return sub(sub(mul(k, log_rate), large), lgamma(add(k, 1.0)))

    def accepted(us: Any, v: Any, k: Any) -> Any:
        left = add(log(v), log(inverse_alpha))
        left = sub(left, log(add(div(a, mul(us, us)), b)))
        return le(left, log_chance(k))

    def possible(k: Any) -> Any:
        return ge(k, 0.0)

    many = _rejected(size, generator, (a, b, add(large, 0.43)), squeeze, possible, accepted, large)
    return cast(where(few, count, many), input.dtype)


def binomial(count: Tensor, prob: Tensor, generator: Any = None) -> Tensor:
    """How many of `count` trials of chance `prob` succeed, for each element; both broadcast.

    By inversion where few successes (or failures) are expected, else by Hoermann, "The generation
    of binomial random variates", 1993.

    >>> binomial(tensor([10.0]), tensor([1.0]))
    tensor([10.])
    """
    count, prob = as_operand("binomial", count, "count"), as_operand("binomial", prob, "prob")
    if not count.dtype.is_floating_point or count.dtype is not prob.dtype:
        raise DTypeError(
            f"binomial: count and prob must have the same floating dtype, got {count.dtype.name} "
            f"and {prob.dtype.name}"
        )
    size = broadcast_shapes("binomial", tuple(count.shape), tuple(prob.shape))
    n = cast(broadcast_to(Detach()(count), size), dt.float64)
    p = cast(broadcast_to(Detach()(prob), size), dt.float64)
    flipped = gt(p, 0.5)
    p = where(flipped, sub(1.0, p), p)
    few = lt(mul(n, p), FEW)
    u = source.random_unit(size, dt.float64, generator)
    rare = where(few, p, 0.0)
    odds = div(rare, sub(1.0, rare))
    chance = exp(mul(n, log(sub(1.0, rare))))
    found = _inverted(u, chance, lambda k: mul(odds, div(sub(n, float(k)), k + 1.0)))
    trials, often = where(few, 4 * FEW, n), where(few, 0.5, p)
    spread = sqrt(mul(mul(trials, often), sub(1.0, often)))
    b = add(mul(spread, 2.53), 1.15)
    a = add(add(mul(b, 0.0248), mul(often, 0.01)), -0.0873)
    squeeze = sub(0.92, div(4.2, b))
    alpha = mul(add(div(5.1, b), 2.83), spread)
    middle = floor(mul(add(trials, 1.0), often))
    log_odds = log(div(often, sub(1.0, often)))
    top = add(lgamma(add(middle, 1.0)), lgamma(add(sub(trials, middle), 1.0)))

    def accepted(us: Any, v: Any, k: Any) -> Any:
        left = log(div(mul(v, alpha), add(div(a, mul(us, us)), b)))
        right = sub(sub(top, lgamma(add(k, 1.0))), lgamma(add(sub(trials, k), 1.0)))
        return le(left, add(right, mul(sub(k, middle), log_odds)))

    def possible(k: Any) -> Any:
        return logical_and(ge(k, 0.0), le(k, trials))

    centre = add(mul(trials, often), 0.5)
    many = _rejected(size, generator, (a, b, centre), squeeze, possible, accepted, middle)
    found = where(few, minimum(found, n), many)
    return cast(where(flipped, sub(n, found), found), count.dtype)


def _inverted(u: Any, chance: Any, ratio: Any) -> Any:
    """The smallest k whose cumulated chance exceeds u; ratio(k) is chance k + 1 over chance k."""
    total, made = chance, mul(u, 0.0)
    for k in range(STEPS):
        made = add(made, cast(ge(u, total), made.dtype))
        chance = mul(chance, clamp(ratio(k), min=0.0))
        total = add(total, chance)
    return made


def _rejected(
    size: tuple, generator: Any, hat: tuple, squeeze: Any, possible: Any, accepted: Any, middle: Any
) -> Any:
    """Whole numbers by transformed rejection under the hat (a, b, centre)."""
    a, b, centre = hat
    middle = floor(middle)

    def attempt(size: Shape) -> tuple[Any, Any]:
        u = sub(source.random_unit(size, dt.float64, generator), 0.5)
        v = add(source.random_unit(size, dt.float64, generator), 2.0**-54)
        us = add(sub(0.5, absolute(u)), 2.0**-54)
        k = floor(add(mul(add(div(mul(a, 2.0), us), b), u), centre))
        inside = possible(k)
        at_once = logical_and(ge(us, 0.07), le(v, squeeze))
        late = logical_and(accepted(us, v, where(inside, k, middle)), inside)
        return k, logical_or(logical_and(at_once, inside), late)

    return _first_accepted(size, attempt, middle)


def _first_accepted(size: Shape, attempt: Callable[[Shape], tuple[Any, Any]], made: Any) -> Any:
    """For each element the number of the first round that was accepted, else what `made` has.

    attempt(shape) gives numbers of a shape and which of them are accepted.
    """
    rounds = ROUNDS if numel(size) <= AT_ONCE else 1
    taken: Any = None
    for _ in range(ROUNDS // rounds):
        numbers, accepted = attempt((rounds, *size))
        for i in range(rounds):
            good = select(accepted, 0, i)
            first = good if taken is None else logical_and(good, logical_not(taken))
            made = where(first, select(numbers, 0, i), made)
            taken = good if taken is None else logical_or(taken, good)
    return made
