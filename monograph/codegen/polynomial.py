"""Index arithmetic as integer polynomials, so that code generation sees strides and invariants.

A polynomial maps monomials (sorted tuples of atom names) to integer coefficients; atoms are
run-time i64 values. 4*i + n*j + 3 is {("i",): 4, ("j", "n"): 1, (): 3}. Used by memory.py.
"""

from __future__ import annotations

Monomial = tuple[str, ...]
Polynomial = dict[Monomial, int]

MAX_TERMS = 24  # a product that would give more terms stays one opaque value


def constant(value: int) -> Polynomial:
    return {(): value} if value else {}


def atom(name: str) -> Polynomial:
    return {(name,): 1}


def add(x: Polynomial, y: Polynomial, sign: int = 1) -> Polynomial:
    total = dict(x)
    for monomial, c in y.items():
        c = total.get(monomial, 0) + sign * c
        if c:
            total[monomial] = c
        else:
            total.pop(monomial, None)
    return total


def multiply(x: Polynomial, y: Polynomial) -> Polynomial | None:
    """The product, or None where it would have too many terms."""
    if len(x) * len(y) > MAX_TERMS:
        return None
    total: Polynomial = {}
    for m, a in x.items():
        for n, b in y.items():
            key = tuple(sorted(m + n))
            c = total.get(key, 0) + a * b
            if c:
                total[key] = c
            else:
                total.pop(key, None)
    return total


def as_constant(x: Polynomial) -> int | None:
    if not x:
        return 0
    return x.get(()) if len(x) == 1 and () in x else None


def split(x: Polynomial, name: str) -> tuple[Polynomial, Polynomial, bool]:
    """x = rest + stride * atom: (rest, stride, is_affine); is_affine is False for atom squared."""
    rest: Polynomial = {}
    stride: Polynomial = {}
    affine = True
    for monomial, c in x.items():
        count = monomial.count(name)
        if count == 0:
            rest[monomial] = c
        elif count == 1:
            others = list(monomial)
            others.remove(name)
            stride[tuple(others)] = c
        else:
            affine = False
    return rest, stride, affine
