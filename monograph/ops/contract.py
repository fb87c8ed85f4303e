"""Contraction: matrix products and everything that is one in disguise (linear, bmm, tensordot).

One primitive, Contract; the public functions only choose its signature. einsum is in einsum.py.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np

from ..core import dtype as dt
from ..core.errors import ArgumentError, DTypeError, ShapeError
from ..core.shape import Shape, is_number, normalize_dim
from ..ir.op import Aval, Contraction, is_value, op
from .align import as_operand, broadcast_to, cast, functional, public
from .arith import add, mul, times
from .composite import composed, composite
from .movement import Permute, Reshape, Sum
from .parts import conj

LETTERS = "abcdefghijlopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"  # without k, m, n: batch dimensions


@op
class Contract(Contraction):
    """Multiply two tensors over named axes: "bmk,bkn->bmn".

    Letters of both inputs that are not in the output are summed. The gradient is the signature
    permuted. 16-bit floats accumulate in float32.
    """

    signature: str
    accepts = dt.NUMERIC
    reads = ((1,), (0,))

    def infer(self, x: Any, y: Any) -> Aval:
        self.check_dtypes(x, y)
        a, b, out = self.parts()
        sizes: dict[str, int] = {}
        for letters, v in ((a, x), (b, y)):
            if len(letters) != len(v.shape):
                raise ShapeError(f"contract: {letters!r} does not fit shape {v.shape}")
            for letter, n in zip(letters, v.shape):
                if sizes.setdefault(letter, n) != n:
                    raise ShapeError(
                        f"contract {self.signature}: {letter!r} is {sizes[letter]} and {n} in "
                        f"shapes {x.shape} and {y.shape}"
                    )
        return Aval(tuple(sizes[letter] for letter in out), x.dtype)

    def reference(self, x: Any, y: Any) -> Any:
        if x.dtype.itemsize == 2 and x.dtype.kind not in "iu":
            return self.reference(x.astype(np.float32), y.astype(np.float32)).astype(x.dtype)
        swap, left_order, right_order, n_batch, n_free, n_inner, out_order = _plan(self.signature)
        if swap:
            x, y = y, x
        left, right = x.transpose(left_order), y.transpose(right_order)
        batch, rows = left.shape[:n_batch], left.shape[n_batch : n_batch + n_free]
        columns = right.shape[n_batch + n_inner :]
        inner = math.prod(left.shape[n_batch + n_free :])
        flat = (math.prod(batch),) if n_batch else ()
        left = left.reshape(*flat, math.prod(rows), inner)
        right = right.reshape(*flat, inner, math.prod(columns))
        made = np.matmul(left, right)
        shape = batch + rows + columns
        if made.shape != shape:
            made = made.reshape(shape)
        return made if out_order is None else made.transpose(out_order)

    def vjp(self, g: Any, out: Any, x: Any, y: Any) -> tuple[Any, ...]:
        a, b, o = self.parts()
        return (
            lambda: Contract(f"{o},{b}->{a}")(g, y),
            lambda: Contract(f"{a},{o}->{b}")(x, g),
        )


@functools.cache
def _plan(signature: str) -> tuple[bool, tuple, tuple, int, int, int, tuple | None]:
    """How a signature is a matrix product: whether the inputs change places, their axes as (batch,
    rows, inner) and (batch, inner, columns), how many batch, row and inner axes there are, and the
    order of the result's axes (None: as they come)."""
    a, b, out = Contract(signature).parts()
    columns_first = [c for c in out if (c in a) != (c in b)]
    swap = bool(columns_first) and columns_first[0] in b
    if swap:
        a, b = b, a
    batch = [c for c in out if c in a and c in b]
    free_a = [c for c in out if c not in b]
    free_b = [c for c in out if c not in a]
    inner = [c for c in a if c in b and c not in out]
    order = batch + free_a + free_b
    return (
        swap,
        tuple(a.index(c) for c in batch + free_a + inner),
        tuple(b.index(c) for c in batch + inner + free_b),
        len(batch), len(free_a), len(inner),
        None if order == list(out) else tuple(order.index(c) for c in out),
    )  # fmt: skip


def same_dtype(name: str, **values: Any) -> None:
    """DTypeError, naming the arguments, unless all values (None: absent) have one dtype."""
    present = {k: as_operand(name, v, k) for k, v in values.items() if v is not None}
    (first, x), *others = present.items()
    for other, y in others:
        if y.dtype is not x.dtype:
            raise DTypeError(
                f"{name}: {first} is {x.dtype.name} but {other} is {y.dtype.name}",
                hint=f"convert one of them first, as {other}.to({first}.dtype)",
            )
    if x.dtype not in dt.NUMERIC:
        raise DTypeError(f"{name}: {first} is {x.dtype.name}; needs integers or floats")


def _exactly(name: str, argument: str, x: Any, ndim: int) -> None:
    if len(x.shape) != ndim:
        raise ShapeError(
            f"{name}: {argument} must have {ndim} dimension{'s' if ndim > 1 else ''}, "
            f"got shape {tuple(x.shape)}"
        )


def _inner_error(name: str, x: Any, y: Any, names: tuple[str, str]) -> ShapeError:
    a, b = names
    xs, ys = tuple(x.shape), tuple(y.shape)
    axis = "last axis" if len(ys) == 1 else "second-to-last"
    hint = None
    if len(xs) >= 2 and len(ys) == 2 and xs[-1] == ys[-1]:
        hint = f"{b} looks transposed; {a} @ {b}.T has shape {(*xs[:-1], ys[0])}"
    elif len(xs) == len(ys) == 2 and xs[0] == ys[0]:
        hint = f"{a} looks transposed; {a}.T @ {b} has shape {(xs[1], ys[1])}"
    return ShapeError(
        f"{name}: inner sizes differ: {a} is {xs}, {b} is {ys}; {a}'s last axis ({xs[-1]}) must "
        f"equal {b}'s {axis} ({ys[0] if len(ys) == 1 else ys[-2]})",
        hint=hint,
    )


def _product(name: str, x: Any, y: Any, names: tuple[str, str] = ("input", "other")) -> Any:
    """Matrix product with broadcast batch dimensions; operands have at least one dimension."""
    if x.dtype is not y.dtype:
        same_dtype(name, **{names[0]: x, names[1]: y})
    if x.shape[-1] != (y.shape[0] if len(y.shape) == 1 else y.shape[-2]):
        raise _inner_error(name, x, y, names)
    if len(x.shape) == len(y.shape) == 2:
        return Contract("mk,kn->mn")(x, y)
    x_batch, y_batch = tuple(x.shape[:-2]), tuple(y.shape[:-2])
    count = max(len(x_batch), len(y_batch))
    # A batch dimension of size 1 against a larger one is a letter that the operand lacks.
    sides = []
    for own, other in ((x_batch, y_batch), (y_batch, x_batch)):
        letters = ""
        for position, size in zip(range(-len(own), 0), own):
            opposite = other[position] if -position <= len(other) else None
            if size != 1 and opposite not in (None, 1, size):
                raise ShapeError(
                    f"{name}: batch dimensions {x_batch} of {names[0]} and {y_batch} of "
                    f"{names[1]} do not broadcast"
                )
            letters += " " if size == 1 and opposite not in (None, 1) else LETTERS[count + position]
        sides.append(letters)
    x_letters = sides[0] + ("mk" if len(x.shape) > 1 else "k")
    y_letters = sides[1] + ("kn" if len(y.shape) > 1 else "k")
    x, x_letters = _drop_blank(x, x_letters)
    y, y_letters = _drop_blank(y, y_letters)
    present = x_letters + y_letters
    out = "".join(c for c in (*LETTERS[:count], "m", "n") if c in present)
    return Contract(f"{x_letters},{y_letters}->{out}")(x, y)


def _drop_blank(x: Any, letters: str) -> tuple[Any, str]:
    if " " not in letters:
        return x, letters
    kept = tuple(n for n, c in zip(x.shape, letters) if c != " ")
    return Reshape(kept)(x), letters.replace(" ", "")


def _alike(x: Any, y: Any) -> tuple[Any, Any]:
    """Both in their common dtype."""
    if x.dtype is y.dtype:
        return x, y
    dtype = dt.promote_types(x.dtype, y.dtype)
    return cast(x, dtype), cast(y, dtype)


@public
@composed
def matmul(input: Any, other: Any) -> Any:
    """Matrix product: of vectors, matrices, or stacks of matrices whose leading axes broadcast.

    input (..., M, K) or (K,), other (..., K, N) or (K,): the result has shape (..., M, N) without
    M or N where a vector came. Two dtypes are promoted. ShapeError if the inner sizes differ.

    >>> matmul(ones(2, 3), ones(5, 3, 4)).shape
    (5, 2, 4)
    """
    x, y = as_operand("matmul", input), as_operand("matmul", other, "other")
    for argument, v in (("input", x), ("other", y)):
        if not v.shape:
            raise ShapeError(
                f"matmul: {argument} is 0-dimensional; both must have at least one dimension",
                hint="use * to multiply by a number",
            )
    return _product("matmul", *_alike(x, y))


@public
@composed
def mm(input: Any, mat2: Any) -> Any:
    """Matrix product of two matrices, (M, K) and (K, N); no broadcasting."""
    _exactly("mm", "input", input, 2)
    _exactly("mm", "mat2", mat2, 2)
    return _product("mm", input, mat2, ("input", "mat2"))


@public
@composed
def bmm(input: Any, mat2: Any) -> Any:
    """Products of two equally long stacks of matrices, (B, M, K) and (B, K, N)."""
    _exactly("bmm", "input", input, 3)
    _exactly("bmm", "mat2", mat2, 3)
    if input.shape[0] != mat2.shape[0]:
        raise ShapeError(
            f"bmm: stacks have {input.shape[0]} and {mat2.shape[0]} matrices: input is "
            f"{tuple(input.shape)}, mat2 is {tuple(mat2.shape)}"
        )
    return _product("bmm", input, mat2, ("input", "mat2"))


@public
@composed
def mv(input: Any, vec: Any) -> Any:
    """Product of a matrix (M, K) and a vector (K,)."""
    _exactly("mv", "input", input, 2)
    _exactly("mv", "vec", vec, 1)
    return _product("mv", input, vec, ("input", "vec"))


@public
@composed
def dot(input: Any, other: Any) -> Any:
    """Sum of the products of two vectors' elements: a 0-d tensor.

    >>> dot(tensor([2, 3]), tensor([2, 1]))
    tensor(7)
    """
    _exactly("dot", "input", input, 1)
    _exactly("dot", "other", other, 1)
    return _product("dot", input, other)


@public
def vdot(input: Any, other: Any) -> Any:
    """Sum of the products of two vectors' elements, those of the first conjugated."""
    return dot(conj(as_operand("vdot", input)), other)


@public
def outer(input: Any, vec2: Any) -> Any:
    """Products of every element of one vector with every element of another: (M, N)."""
    _exactly("outer", "input", input, 1)
    _exactly("outer", "vec2", vec2, 1)
    return mul(Reshape((input.shape[0], 1))(input), vec2)


@public
def ger(input: Any, vec2: Any) -> Any:
    """Alias of outer."""
    return outer(input, vec2)


@public
def inner(input: Any, other: Any) -> Any:
    """Products summed over the last dimension of both: (..., K), (***, K) -> (..., ***)."""
    x, y = as_operand("inner", input), as_operand("inner", other, "other")
    if not x.shape or not y.shape:
        return mul(x, y)
    if x.shape[-1] != y.shape[-1]:
        raise ShapeError(
            f"inner: last dimensions differ: input is {tuple(x.shape)}, other is {tuple(y.shape)}"
        )
    return tensordot(x, y, ([-1], [-1]))


@public
def tensordot(a: Any, b: Any, dims: Any = 2) -> Any:
    """Sum of products over several dimensions.

    dims  an int n: the last n of `a` with the first n of `b`; or two lists of dimensions

    >>> tensordot(ones(2, 3, 4), ones(3, 4, 5)).shape
    (2, 5)
    """
    a, b = _alike(as_operand("tensordot", a, "a"), as_operand("tensordot", b, "b"))
    if is_number(dims):
        n = int(dims)
        if not 0 <= n <= min(len(a.shape), len(b.shape)):
            raise ArgumentError(
                f"tensordot: dims must be in [0, {min(len(a.shape), len(b.shape))}] for shapes "
                f"{tuple(a.shape)} and {tuple(b.shape)}, got {n}"
            )
        first, second = [*range(len(a.shape) - n, len(a.shape))], [*range(n)]
    else:
        first, second = ([d] if is_number(d) else list(d) for d in dims)
        first = [normalize_dim("tensordot", d, len(a.shape)) for d in first]
        second = [normalize_dim("tensordot", d, len(b.shape)) for d in second]
    if len(first) != len(second) or len(set(first)) != len(first) or len(set(second)) != len(first):
        raise ArgumentError(
            f"tensordot: dims must name equally many different dimensions, got {dims}"
        )
    letters = iter("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
    x_letters = [next(letters) for _ in a.shape]
    y_letters = [next(letters) for _ in b.shape]
    for i, j in zip(first, second):
        if a.shape[i] == b.shape[j]:
            y_letters[j] = x_letters[i]
        elif 1 not in (a.shape[i], b.shape[j]):  # a size of 1 broadcasts: the other is summed
            raise ShapeError(
                f"tensordot: dimension {i} of a {tuple(a.shape)} and {j} of b {tuple(b.shape)} "
                f"differ: {a.shape[i]} and {b.shape[j]}"
            )
    out = [c for i, c in enumerate(x_letters) if i not in first]
    out += [c for j, c in enumerate(y_letters) if j not in second]
    return pair_product(a, "".join(x_letters), b, "".join(y_letters), "".join(out))


def pair_product(x: Any, a: str, y: Any, b: str, out: str) -> Any:
    """Sum of products over named axes, like Contract, where letters may be in one input alone.

    Without a summed letter it is a broadcast product, which fuses with its neighbours.
    """
    x, a = _sum_alone(x, a, b + out)
    y, b = _sum_alone(y, b, a + out)
    if any(c in b and c not in out for c in a):
        return Contract(f"{a},{b}->{out}")(x, y)
    return mul(spread(x, a, out), spread(y, b, out))


def _sum_alone(x: Any, letters: str, elsewhere: str) -> tuple[Any, str]:
    axes = tuple(i for i, c in enumerate(letters) if c not in elsewhere)
    if not axes:
        return x, letters
    return Sum(axes)(x), "".join(c for c in letters if c in elsewhere)


def spread(x: Any, letters: str, out: str) -> Any:
    """x with its axes in the order of `out`, size 1 where it lacks a letter."""
    order = tuple(sorted(range(len(letters)), key=lambda i: out.index(letters[i])))
    if order != tuple(range(len(order))):
        x = Permute(order)(x)
    sizes = iter(x.shape)
    shape = tuple(next(sizes) if c in letters else 1 for c in out)
    return x if shape == tuple(x.shape) else Reshape(shape)(x)


@functional
@composite
def linear(input: Any, weight: Any, bias: Any = None) -> Any:
    """input @ weight.T + bias, over the last dimension.

    input (..., I), weight (O, I) or (I,), bias (O,) or None; the result is (..., O).
    Same meaning as torch.nn.functional.linear.

    >>> linear(ones(2, 3), ones(4, 3)).shape
    (2, 4)
    """
    given = (input, weight) if bias is None else (input, weight, bias)
    dtypes = {getattr(v, "dtype", None) for v in given}
    if len(dtypes) > 1 or None in dtypes:
        same_dtype("linear", input=input, weight=weight, bias=bias)
    if not input.shape or len(weight.shape) not in (1, 2) or input.shape[-1] != weight.shape[-1]:
        raise ShapeError(
            f"linear: input {tuple(input.shape)} and weight {tuple(weight.shape)} do not fit: "
            "input's last axis must equal weight's last",
            hint=_linear_hint(input, weight),
        )
    lead = LETTERS[: len(input.shape) - 1]
    if len(weight.shape) == 1:
        out = Contract(f"{lead}k,k->{lead}")(input, weight)
        return out if bias is None else add(out, bias)
    out = Contract(f"{lead}k,nk->{lead}n")(input, weight)
    if bias is None:
        return out
    if tuple(bias.shape) not in ((weight.shape[0],), (1,), ()):
        raise ShapeError(
            f"linear: bias must have shape ({weight.shape[0]},), got {tuple(bias.shape)}"
        )
    return add(out, bias)


def _linear_hint(input: Any, weight: Any) -> str | None:
    if input.shape and len(weight.shape) == 2 and input.shape[-1] == weight.shape[0]:
        return "weight looks transposed; it must be (out_features, in_features)"
    return None


@functional
def bilinear(input1: Any, input2: Any, weight: Any, bias: Any = None) -> Any:
    """x1 . weight[o] . x2 for each output o, over the last dimensions.

    input1 (..., I), input2 (..., J), weight (O, I, J), bias (O,) or None; the result is (..., O).
    """
    same_dtype("bilinear", input1=input1, input2=input2, weight=weight, bias=bias)
    _exactly("bilinear", "weight", weight, 3)
    if tuple(input1.shape[:-1]) != tuple(input2.shape[:-1]):
        raise ShapeError(
            f"bilinear: leading dimensions of input1 {tuple(input1.shape)} and input2 "
            f"{tuple(input2.shape)} differ"
        )
    if (input1.shape[-1], input2.shape[-1]) != tuple(weight.shape[1:]):
        raise ShapeError(
            f"bilinear: last dimensions {input1.shape[-1]} and {input2.shape[-1]} must equal those "
            f"of weight {tuple(weight.shape)}"
        )
    lead = LETTERS[: len(input1.shape) - 1]
    half = Contract(f"{lead}m,nmk->{lead}nk")(input1, weight)
    out = Contract(f"{lead}nk,{lead}k->{lead}n")(half, input2)
    return out if bias is None else add(out, bias)


def _scaled_sum(name: str, input: Any, product: Any, beta: Any, alpha: Any) -> Any:
    for argument, factor in (("beta", beta), ("alpha", alpha)):
        if isinstance(factor, float) and not product.dtype.is_inexact:
            raise ArgumentError(
                f"{name}: {argument} must be an int for {product.dtype.name} tensors, got {factor}"
            )
    product = times(product, alpha)
    if is_number(beta) and beta == 0:
        return product
    scaled = times(input, beta)
    if is_value(scaled):
        try:
            scaled = broadcast_to(scaled, _fitting(tuple(scaled.shape), tuple(product.shape)))
        except ValueError:
            raise ShapeError(
                f"{name}: input {tuple(input.shape)} does not broadcast to the product's shape "
                f"{tuple(product.shape)}"
            ) from None
    return add(scaled, product)


def _fitting(shape: Shape, target: Shape) -> Shape:
    if len(shape) > len(target) or any(
        n not in (1, m) for n, m in zip(reversed(shape), reversed(target))
    ):
        raise ValueError
    return target


@public
def addmm(input: Any, mat1: Any, mat2: Any, *, beta: Any = 1, alpha: Any = 1) -> Any:
    """beta * input + alpha * (mat1 @ mat2) for matrices; input broadcasts to the product."""
    same_dtype("addmm", input=input, mat1=mat1, mat2=mat2)
    _exactly("addmm", "mat1", mat1, 2)
    _exactly("addmm", "mat2", mat2, 2)
    product = _product("addmm", mat1, mat2, ("mat1", "mat2"))
    return _scaled_sum("addmm", input, product, beta, alpha)


@public
def addmv(input: Any, mat: Any, vec: Any, *, beta: Any = 1, alpha: Any = 1) -> Any:
    """beta * input + alpha * (mat @ vec) for a matrix and a vector."""
    same_dtype("addmv", input=input, mat=mat, vec=vec)
    _exactly("addmv", "mat", mat, 2)
    _exactly("addmv", "vec", vec, 1)
    return _scaled_sum("addmv", input, _product("addmv", mat, vec, ("mat", "vec")), beta, alpha)


@public
def addr(input: Any, vec1: Any, vec2: Any, *, beta: Any = 1, alpha: Any = 1) -> Any:
    """beta * input + alpha * outer(vec1, vec2); bool tensors give bool."""
    if dt.result_type(input, vec1, vec2) is dt.bool_:
        beta, alpha = bool(beta), bool(alpha)
    return _scaled_sum("addr", input, outer(vec1, vec2), beta, alpha)


@public
def baddbmm(input: Any, batch1: Any, batch2: Any, *, beta: Any = 1, alpha: Any = 1) -> Any:
    """beta * input + alpha * bmm(batch1, batch2); input broadcasts to the products."""
    same_dtype("baddbmm", input=input, batch1=batch1, batch2=batch2)
    _exactly("baddbmm", "batch1", batch1, 3)
    _exactly("baddbmm", "batch2", batch2, 3)
    product = _product("baddbmm", batch1, batch2, ("batch1", "batch2"))
    if batch1.shape[0] != batch2.shape[0]:
        raise ShapeError(f"baddbmm: stacks have {batch1.shape[0]} and {batch2.shape[0]} matrices")
    return _scaled_sum("baddbmm", input, product, beta, alpha)


@public
def addbmm(input: Any, batch1: Any, batch2: Any, *, beta: Any = 1, alpha: Any = 1) -> Any:
    """beta * input + alpha * (the sum of all products of bmm(batch1, batch2))."""
    same_dtype("addbmm", input=input, batch1=batch1, batch2=batch2)
    _exactly("addbmm", "batch1", batch1, 3)
    _exactly("addbmm", "batch2", batch2, 3)
    if batch1.shape[0] != batch2.shape[0] or batch1.shape[2] != batch2.shape[1]:
        raise ShapeError(
            f"addbmm: batch1 {tuple(batch1.shape)} and batch2 {tuple(batch2.shape)} must be "
            "(B, M, K) and (B, K, N)"
        )
    product = Contract("bmk,bkn->mn")(batch1, batch2)
    return _scaled_sum("addbmm", input, product, beta, alpha)


@public
def chain_matmul(*matrices: Any) -> Any:
    """Product of several matrices in the order of evaluation with the fewest multiplications.

    Source: Cormen and others, Introduction to Algorithms, matrix-chain multiplication.
    """
    if len(matrices) == 1 and isinstance(matrices[0], (tuple, list)):
        matrices = tuple(matrices[0])
    if not matrices:
        raise ArgumentError("chain_matmul: needs at least one matrix")
    for i, m in enumerate(matrices):
        _exactly("chain_matmul", f"matrix {i}", m, 2)
    n = len(matrices)
    sizes = [m.shape[0] for m in matrices] + [matrices[-1].shape[1]]
    cost = [[0] * n for _ in range(n)]
    split = [[0] * n for _ in range(n)]
    for length in range(1, n):
        for i in range(n - length):
            j = i + length
            cost[i][j], split[i][j] = min(
                (cost[i][k] + cost[k + 1][j] + sizes[i] * sizes[k + 1] * sizes[j + 1], k)
                for k in range(i, j)
            )

    def product(i: int, j: int) -> Any:
        if i == j:
            return matrices[i]
        k = split[i][j]
        return _product("chain_matmul", product(i, k), product(k + 1, j), ("left", "right"))

    return product(0, n - 1)
