"""einsum: sums of products written as a formula, carried out as a sequence of contractions."""

from __future__ import annotations

from typing import Any

from ..core.errors import ArgumentError, ShapeError
from ..core.shape import is_number, numel
from ..ir.op import is_value
from .align import public
from .composite import composed
from .contract import pair_product, same_dtype
from .movement import Permute, Reshape, Slice, Sum

ALPHABET = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
NUMBERED = ALPHABET[26:] + ALPHABET[:26]  # in the order of characters, as numbers are sorted


@public
@composed
def einsum(equation: str, *operands: Any) -> Any:
    """Sums of products by Einstein's convention, as torch.einsum.

    equation  one letter per axis, operands separated by commas: "bij,bjk->bik". A letter repeated
              in one operand reads its diagonal; "..." stands for the axes not named, which
              broadcast; without "->" the result has the letters that occur once, sorted

    Or each operand is followed by a list of numbers below 52 in place of letters (Ellipsis for
    "..."), and the last list, which may be left out, is the result's.

    >>> einsum("ij,kj->ik", ones(2, 3), ones(4, 3)).shape
    (2, 4)
    """
    if is_value(equation):
        equation, operands = _as_formula((equation, *operands))
    if len(operands) == 1 and isinstance(operands[0], (tuple, list)):
        operands = tuple(operands[0])
    if not isinstance(equation, str):
        raise ArgumentError(f"einsum: the equation must be a string, got {equation!r}")
    if not operands:
        raise ArgumentError("einsum: needs at least one operand")
    same_dtype("einsum", **{f"operand {i}": v for i, v in enumerate(operands)})
    inputs, out = _parse(equation, operands)
    terms = [_take_diagonals(x, letters) for x, letters in zip(operands, inputs)]
    terms = _drop_broadcast(equation, terms, out)
    while len(terms) > 1:
        i, j = _cheapest_pair(terms, out)
        (x, a), (y, b) = terms[i], terms[j]
        others = [t for k, t in enumerate(terms) if k not in (i, j)]
        needed = set(out).union(*(letters for _, letters in others))
        if others:
            kept = "".join(c for c in dict.fromkeys(a + b) if c in needed)
        else:
            kept = "".join(c for c in out if c in a + b)
        terms = [*others, (pair_product(x, a, y, b, kept), kept)]
    x, letters = terms[0]
    summed = tuple(i for i, c in enumerate(letters) if c not in out)
    if summed:
        x, letters = Sum(summed)(x), "".join(c for c in letters if c in out)
    order = tuple(letters.index(c) for c in out)
    return x if order == tuple(range(len(order))) else Permute(order)(x)


def _as_formula(arguments: tuple) -> tuple[str, tuple]:
    """The equation and operands of einsum(x, [0, 1], y, [1, 2], [0, 2])."""
    out = arguments[-1] if len(arguments) % 2 else None
    pairs = arguments[: len(arguments) - len(arguments) % 2]

    def letters(numbers: Any) -> str:
        if not isinstance(numbers, (tuple, list)):
            raise ArgumentError(
                f"einsum: a list of numbers must follow an operand, got {numbers!r}"
            )
        for n in numbers:
            if n is not Ellipsis and not (is_number(n) and 0 <= n < len(ALPHABET)):
                raise ArgumentError(f"einsum: a dimension must be in [0, 52), got {n!r}")
        return "".join("..." if n is Ellipsis else NUMBERED[n] for n in numbers)

    equation = ",".join(letters(n) for n in pairs[1::2])
    return equation if out is None else f"{equation}->{letters(out)}", pairs[::2]


def _parse(equation: str, operands: tuple) -> tuple[list[str], str]:
    """One letter per axis for each operand and for the result; "..." replaced by unused letters."""
    text = equation.replace(" ", "")
    left, arrow, right = text.partition("->")
    parts = left.split(",")
    if len(parts) != len(operands):
        raise ArgumentError(
            f"einsum: {equation!r} names {len(parts)} operands, got {len(operands)}"
        )
    for part in [*parts, right]:
        rest = part.replace("...", "", 1)
        bad = [c for c in rest if c not in ALPHABET]
        if bad:
            raise ArgumentError(f"einsum: {bad[0]!r} in {equation!r} is not a letter")
    free = iter(c for c in ALPHABET if c not in text)
    counts = []
    for i, (part, x) in enumerate(zip(parts, operands)):
        named = len(part.replace("...", ""))
        if "..." in part:
            counts.append(len(x.shape) - named)
        if named > len(x.shape) or ("..." not in part and named != len(x.shape)):
            raise ShapeError(
                f"einsum: operand {i} has shape {tuple(x.shape)} but {part!r} in {equation!r} "
                f"names {named} axes"
            )
    ellipsis = "".join(next(free) for _ in range(max(counts, default=0)))
    inputs = []
    for part, x in zip(parts, operands):
        n = len(x.shape) - len(part.replace("...", ""))
        inputs.append(part.replace("...", ellipsis[len(ellipsis) - n :] if n else ""))
    if arrow:
        if "..." in right and not counts:
            raise ArgumentError(f"einsum: {equation!r} has '...' in the result only")
        out = right.replace("...", ellipsis)
    else:
        every = "".join(p.replace("...", "") for p in parts)
        out = ellipsis + "".join(sorted(c for c in set(every) if every.count(c) == 1))
    for c in out:
        if out.count(c) > 1:
            raise ArgumentError(f"einsum: the result of {equation!r} names {c!r} twice")
        if not any(c in letters for letters in inputs):
            raise ArgumentError(f"einsum: the result of {equation!r} has {c!r}, no operand has it")
    return inputs, out


def _take_diagonals(x: Any, letters: str) -> tuple[Any, str]:
    """Read the diagonal of axes with one letter, until no letter repeats."""
    while len(set(letters)) < len(letters):
        c = next(c for c in letters if letters.count(c) > 1)
        i = letters.index(c)
        j = letters.index(c, i + 1)
        n = x.shape[i]
        if x.shape[j] != n:
            raise ShapeError(
                f"einsum: {c!r} repeats in an operand of shape {tuple(x.shape)} with sizes {n} "
                f"and {x.shape[j]}"
            )
        rest = [k for k in range(len(letters)) if k not in (i, j)]
        x = Permute((*rest, i, j))(x)
        lead = tuple(x.shape[:-2])
        x = Reshape((*lead, n * n))(x)
        zeros, ones = (0,) * len(lead), (1,) * len(lead)
        x = Slice((*zeros, 0), (*lead, n * n), (*ones, n + 1))(x)
        letters = "".join(letters[k] for k in rest) + c
    return x, letters


def _drop_broadcast(equation: str, terms: list, out: str) -> list[tuple[Any, str]]:
    """Take size-1 axes out of operands where another operand has the letter with a larger size."""
    sizes: dict[str, int] = {}
    for x, letters in terms:
        for c, n in zip(letters, x.shape):
            known = sizes.setdefault(c, n)
            if known != n and 1 not in (known, n):
                raise ShapeError(
                    f"einsum: {c!r} in {equation!r} has sizes {known} and {n} in different operands"
                )
            sizes[c] = n if known == 1 else known
    made = []
    for x, letters in terms:
        kept = [k for k, (c, n) in enumerate(zip(letters, x.shape)) if n == sizes[c]]
        if len(kept) < len(letters):
            x = Reshape(tuple(x.shape[k] for k in kept))(x)
            letters = "".join(letters[k] for k in kept)
        made.append((x, letters))
    return made


def _cheapest_pair(terms: list, out: str) -> tuple[int, int]:
    """The pair whose product is smallest beside its operands; the first such pair."""
    best, pair = None, (0, 1)
    for i in range(len(terms)):
        for j in range(i + 1, len(terms)):
            (x, a), (y, b) = terms[i], terms[j]
            elsewhere = set(out).union(*(t[1] for k, t in enumerate(terms) if k not in (i, j)))
            sizes = dict(zip(a, x.shape)) | dict(zip(b, y.shape))
            made = numel(n for c, n in sizes.items() if c in elsewhere)
            growth = made - numel(x.shape) - numel(y.shape)
            if best is None or growth < best:
                best, pair = growth, (i, j)
    return pair
