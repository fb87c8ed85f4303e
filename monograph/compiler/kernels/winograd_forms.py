"""The transforms of Winograd's convolutions F(2x2, 3x3) and F(4x4, 3x3), along one axis.

A convolution of m outputs with 3 taps is a product of polynomials, which is known from its values
at m + 2 points: patches of m + 2 elements and filters are evaluated there, multiplied, and the
outputs interpolated. Points of F(2x2): 0, 1, -1 and infinity; of F(4x4): 0, a, -a, 1/a, -1/a and
infinity with a = 3/2. With a and 1/a the numbers on the way stay of one size, so that the error is
a quarter of that of the usual points 0, 1, -1, 2, -2.

The gradient of the filters reads the same sum of products for another factor: its transforms are
the transposes of `filter` and `result`.

Sources: Winograd, "Arithmetic Complexity of Computations", 1980; Lavin and Gray, "Fast Algorithms
for Convolutional Neural Networks", 2015; Barabasz and others, "Error Analysis and Improving the
Accuracy of Winograd Convolution for Deep Neural Networks", 2018.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ...kernel import scalar as s
from ...kernel.ir import Const, Expr, Let, Stmt, Var

Vector = Sequence[Expr]
Transform = Callable[[Vector], "list[Expr]"]
Element = Callable[[int, int], Expr]

A = 1.5
B = 1 / A
AA, BB = A * A, B * B


@dataclass(frozen=True)
class Form:
    """Transforms for m outputs: `size` = m + 2 points.

    patch     size elements -> size values      filter    3 taps -> size values
    result    size values -> m outputs
    gradient  m elements of the result's gradient -> size values
    taps      size values -> 3 elements of the filter's gradient
    """

    m: int
    patch: Transform
    filter: Transform
    result: Transform
    gradient: Transform
    taps: Transform

    @property
    def size(self) -> int:
        return self.m + 2

    @property
    def planes(self) -> int:
        return self.size**2


def _times(value: float, x: Expr) -> Expr:
    return x * Const(value, "f32")


def _plus(x: Expr, value: float, y: Expr) -> Expr:
    """x + value*y."""
    return s.fma(y, Const(value, "f32"), x)


def _patch2(d: Vector) -> list[Expr]:
    return [d[0] - d[2], d[1] + d[2], d[2] - d[1], d[1] - d[3]]


def _filter2(g: Vector) -> list[Expr]:
    outer, middle = _times(0.5, g[0] + g[2]), _times(0.5, g[1])
    return [g[0], outer + middle, outer - middle, g[2]]


def _result2(v: Vector) -> list[Expr]:
    return [v[0] + v[1] + v[2], v[1] - v[2] - v[3]]


def _gradient2(y: Vector) -> list[Expr]:
    return [y[0], y[0] + y[1], y[0] - y[1], -y[1]]


def _taps2(u: Vector) -> list[Expr]:
    even = _times(0.5, u[1] + u[2])
    return [u[0] + even, _times(0.5, u[1] - u[2]), even + u[3]]


def _patch4(d: Vector) -> list[Expr]:
    even_a, odd_a = _plus(d[4], -BB, d[2]), _plus(d[3], -BB, d[1])
    even_b, odd_b = _plus(d[4], -AA, d[2]), _plus(d[3], -AA, d[1])
    return [
        _plus(d[0] + d[4], -(AA + BB), d[2]),
        _plus(even_a, A, odd_a),
        _plus(even_a, -A, odd_a),
        _plus(even_b, B, odd_b),
        _plus(even_b, -B, odd_b),
        _plus(d[1] + d[5], -(AA + BB), d[3]),
    ]


# What each point's value is divided by: the product of its distances to the other points.
_AT_A, _AT_B = 1 / (2 * AA * (AA - BB)), 1 / (2 * BB * (BB - AA))


def _filter4(g: Vector) -> list[Expr]:
    even_a = _plus(_times(_AT_A, g[0]), _AT_A * AA, g[2])
    even_b = _plus(_times(_AT_B, g[0]), _AT_B * BB, g[2])
    return [
        g[0],
        _plus(even_a, _AT_A * A, g[1]),
        _plus(even_a, -_AT_A * A, g[1]),
        _plus(even_b, _AT_B * B, g[1]),
        _plus(even_b, -_AT_B * B, g[1]),
        g[2],
    ]


def _result4(v: Vector) -> list[Expr]:
    even_a, odd_a = v[1] + v[2], v[1] - v[2]
    even_b, odd_b = v[3] + v[4], v[3] - v[4]
    return [
        v[0] + even_a + even_b,
        _plus(_times(B, odd_b), A, odd_a),
        _plus(_times(BB, even_b), AA, even_a),
        _plus(_plus(v[5], B * BB, odd_b), A * AA, odd_a),
    ]


def _gradient4(y: Vector) -> list[Expr]:
    even_a, odd_a = _plus(y[0], AA, y[2]), _plus(_times(A, y[1]), A * AA, y[3])
    even_b, odd_b = _plus(y[0], BB, y[2]), _plus(_times(B, y[1]), B * BB, y[3])
    return [y[0], even_a + odd_a, even_a - odd_a, even_b + odd_b, even_b - odd_b, y[3]]


def _taps4(u: Vector) -> list[Expr]:
    even_a, odd_a = _times(_AT_A, u[1] + u[2]), _times(_AT_A * A, u[1] - u[2])
    even_b, odd_b = _times(_AT_B, u[3] + u[4]), _times(_AT_B * B, u[3] - u[4])
    return [
        u[0] + even_a + even_b,
        odd_a + odd_b,
        _plus(_plus(u[5], BB, even_b), AA, even_a),
    ]


FORMS = {
    2: Form(2, _patch2, _filter2, _result2, _gradient2, _taps2),
    4: Form(4, _patch4, _filter4, _result4, _gradient4, _taps4),
}


def transform(element: Element, size: int, along: Transform) -> tuple[list[Stmt], list[Expr]]:
    """`along` applied to the columns and then to the rows of a size x size matrix.

    The statements that name what is on the way, and the elements of the result, row by row.
    """
    lets: list[Stmt] = []

    def named(kind: str, i: int, k: int, value: Expr) -> Expr:
        lets.append(Let(f"{kind}{i}_{k}", value))
        return Var(f"{kind}{i}_{k}", "f32")

    columns: list[list[Expr]] = []
    for k in range(size):
        given = [named("given", i, k, element(i, k)) for i in range(size)]
        columns.append([named("half", i, k, v) for i, v in enumerate(along(given))])
    rows = [along([column[i] for column in columns]) for i in range(len(columns[0]))]
    return lets, [v for row in rows for v in row]
