"""Example inputs of every op, from which tests/ops makes its tests.

An op's samples are here by name, or made by a classmethod `samples(cls, rng)` of the op itself:
a list of Sample. Float inputs are float64, away from kinks and poles, so that central differences
hold; what happens there is tested by hand.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..core import dtype as dt
from ..ir.op import REGISTRY, Elementwise, Op
from ..ir.region import Region
from ..ir.text import parse_graph


@dataclass(frozen=True)
class Sample:
    """An op with arguments (arrays and Python numbers).

    gradient  whether derivatives (of float inputs) agree with differences here
    batch     whether vmap is defined
    ulp       how far the scalar rule may be from the reference, in units in the last place
    limit     the largest finite input that the scalar rule promises to be right for
    """

    op: Op
    args: tuple[Any, ...]
    gradient: bool = True
    batch: bool = True
    ulp: float = 4.0
    limit: float = math.inf

    @property
    def arrays(self) -> list[np.ndarray]:
        return [a for a in self.args if isinstance(a, np.ndarray)]


# Elementwise ops of floats whose domain is not about [-2, 2]: (low, high).
DOMAINS: dict[str, tuple[float, float]] = {
    "log": (0.2, 3.0), "log2": (0.2, 3.0), "log10": (0.2, 3.0), "log1p": (-0.6, 3.0),
    "sqrt": (0.3, 3.0), "rsqrt": (0.3, 3.0), "reciprocal": (0.4, 2.5), "abs": (0.3, 2.0),
    "tan": (-1.2, 1.2), "asin": (-0.85, 0.85), "acos": (-0.85, 0.85), "atanh": (-0.85, 0.85),
    "acosh": (1.3, 4.0), "lgamma": (0.2, 6.0), "digamma": (0.2, 6.0),
    "erfinv": (-0.85, 0.85), "relu": (0.1, 2.0),
}  # fmt: skip
# Ops whose results the reference itself rounds more than once.
ULPS = {
    "gelu": 80.0,
    "silu": 16.0,
    "sigmoid": 8.0,
    "tan": 8.0,
    "hypot": 8.0,
    "digamma": 200.0,
    "lgamma": 400.0,
}

_INTEGERS = {
    "bitwise_and", "bitwise_or", "bitwise_xor", "bitwise_not", "shift_left", "shift_right",
    "trunc_divide",
}  # fmt: skip
_COMPARISONS = {"eq", "ne", "lt", "le", "gt", "ge"}
_STEPS = {"floor", "ceil", "trunc", "round", "sign", "signbit"}


def samples_of(cls: type[Op]) -> list[Sample]:
    """The samples of an op; KeyError with the op's name where there are none."""
    rng = np.random.default_rng(sum(map(ord, cls.name)))
    made = getattr(cls, "samples", None)
    if made is not None:
        return made(rng)
    if cls.name in TABLE:
        return TABLE[cls.name](rng)
    if issubclass(cls, Elementwise) and not cls.__dataclass_fields__:  # type: ignore[attr-defined]
        return _elementwise(cls, rng)
    raise KeyError(f"op {cls.name} has no samples: add them to monograph/testing/samples.py")


def arity(cls: type[Op]) -> int:
    """How many inputs an op's reference takes."""
    code = cls.reference.__code__
    return code.co_argcount - 1


def _reals(rng: Any, shape: tuple[int, ...], low: float = -2.0, high: float = 2.0) -> np.ndarray:
    """Distinct numbers of [low, high], none nearer to another than a hundredth of the spacing."""
    n = int(np.prod(shape))
    steps = (rng.permutation(n) + rng.uniform(0.3, 0.7, n)) / max(n, 1)
    return (low + (high - low) * steps).reshape(shape)


def _integers(rng: Any, shape: tuple[int, ...], low: int = -9, high: int = 10) -> np.ndarray:
    return rng.integers(low, high, shape)


def _elementwise(cls: type[Op], rng: Any) -> list[Sample]:
    name, n = cls.name, arity(cls)
    op = cls()
    if name in _INTEGERS:
        least = 0 if name.startswith("shift") else 1
        args = [_integers(rng, (3, 4)), *(_integers(rng, (3, 4), least, 9) for _ in range(n - 1))]
        return [Sample(op, tuple(args)), Sample(op, tuple(a.astype(np.int16) for a in args))]
    low, high = DOMAINS.get(name, (-2.0, 2.0))
    smooth = name not in _STEPS
    ulp = ULPS.get(name, 4.0)
    xs = tuple(_reals(rng, (2, 3), low, high) for _ in range(n))
    limit = 1e6 if name in ("sin", "cos", "tan") else math.inf
    found = [Sample(op, xs, gradient=smooth, ulp=ulp, limit=limit)]
    narrow = tuple(x.astype(np.float32) for x in xs)
    found.append(Sample(op, narrow, False, ulp=ulp, limit=limit))
    if n == 2:
        found.append(Sample(op, (xs[0], 0.75), ulp=ulp))
        found.append(Sample(op, (0.75, xs[0]), ulp=ulp))
    if cls.accepts is None or dt.int64 in cls.accepts:
        whole = tuple(_integers(rng, (5,)) for _ in range(n))
        found.append(Sample(op, whole, False))
    if cls.accepts is None or dt.bool_ in cls.accepts:
        truth = tuple(rng.integers(0, 2, (6,)).astype(bool) for _ in range(n))
        found.append(Sample(op, truth, False))
    return found


def _op(name: str, *fields: Any) -> Op:
    return REGISTRY[name](*fields)


def _reduction(name: str, **options: Any) -> Callable:
    def make(rng: Any) -> list[Sample]:
        x = _reals(rng, (2, 3, 4))
        if name in ("any", "all"):
            x = x > 0.5
        one_axis = name in ("arg_max", "arg_min", "max_first", "min_first")
        axes = [(0,), (1,), (2,)] if one_axis else [(0,), (1, 2), (0, 1, 2), (2,)]
        found = [Sample(_op(name, a), (x,), **options) for a in axes]
        if name not in ("any", "all"):
            found.append(Sample(_op(name, axes[1]), (_integers(rng, (3, 4, 2), -3, 4),), False))
        return found

    return make


def _of(*cases: tuple[Any, ...], **options: Any) -> Callable:
    """Samples from (op name, fields, argument shapes); inputs are float64."""

    def make(rng: Any) -> list[Sample]:
        return [
            Sample(
                _op(name, *fields),
                tuple(_reals(rng, s) if isinstance(s, tuple) else s for s in shapes),
                **options,
            )
            for name, fields, shapes in cases
        ]

    return make


def _power(rng: Any) -> list[Sample]:
    op = _op("pow")
    x, y = _reals(rng, (2, 3), 0.3, 2.5), _reals(rng, (2, 3))
    whole = (_integers(rng, (6,), -3, 4), _integers(rng, (6,), 0, 5))
    return [
        Sample(op, (x, y)),
        Sample(op, (x, 2.5)),
        Sample(op, (1.7, y)),
        Sample(op, (-x, 3.0)),
        Sample(op, (x.astype(np.float32), y.astype(np.float32)), False),
        Sample(op, whole, False),
        Sample(op, tuple(w.astype(np.int32) for w in whole), False),
    ]


def _divisions(name: str) -> Callable:
    def make(rng: Any) -> list[Sample]:
        op = _op(name)
        x, y = _reals(rng, (2, 3), -7.0, 7.0), np.array([[1.7, -1.7, 2.3], [-2.3, 0.9, -0.9]])
        smooth = name != "floor_divide"
        whole = (_integers(rng, (8,)), np.array([1, -1, 2, -2, 3, -3, 5, -5]))
        return [
            Sample(op, (x, y), smooth),
            Sample(op, (x.astype(np.float32), y.astype(np.float32)), False),
            Sample(op, (x, 1.3), smooth),
            Sample(op, whole, False),
            Sample(op, tuple(w.astype(np.int8) for w in whole), False),
        ]

    return make


def _where(rng: Any) -> list[Sample]:
    condition = rng.integers(0, 2, (3, 4)).astype(bool)
    x, y = _reals(rng, (3, 4)), _reals(rng, (3, 4))
    return [Sample(_op("where"), a) for a in ((condition, x, y), (condition, 1.5, y))]


def _cast(rng: Any) -> list[Sample]:
    x = _reals(rng, (3, 4), -9.0, 9.0)
    found = [Sample(_op("cast", dt.float64), (x,))]
    for target in dt.REAL:
        source = np.abs(x) if not target.is_signed else x
        found.append(Sample(_op("cast", target), (source,), False))
        found.append(Sample(_op("cast", target), (_integers(rng, (5,)),), False))
    return found


def _copysign(rng: Any) -> list[Sample]:
    x, y = _reals(rng, (2, 3), 0.2, 2.0), _reals(rng, (2, 3))
    return [Sample(_op("copysign"), (x, y)), Sample(_op("copysign"), (-x, 1.0))]


def _clamp(rng: Any) -> list[Sample]:
    x, cases = _reals(rng, (3, 4)), ((-1.0, 1.0), (None, 0.5), (0.25, None))
    found = [Sample(_op("clamp", *c), (x,)) for c in cases]
    return [*found, Sample(_op("clamp", -3, 4), (_integers(rng, (9,)),), False)]


def _gelu(rng: Any) -> list[Sample]:
    x = _reals(rng, (3, 4))
    return [Sample(_op("gelu", tanh), (x,), ulp=ULPS["gelu"]) for tanh in (False, True)]


def _kth(rng: Any) -> list[Sample]:
    x = _reals(rng, (3, 4))
    return [Sample(_op("kth", axis, 1, flag), (x,)) for axis in (0, 1) for flag in (False, True)]


def _indexed(name: str, index: Any, values: Any = None, *fields: Any, axis: int = 0) -> Callable:
    def make(rng: Any) -> list[Sample]:
        args = [_reals(rng, (4, 3)), np.array(index)]
        if values is not None:
            args.append(_reals(rng, values))
        return [Sample(_op(name, axis, *fields), tuple(args))]

    return make


def _sources(*cases: tuple[Any, ...]) -> Callable:
    def make(rng: Any) -> list[Sample]:
        return [Sample(_op(name, *fields), args, False, False) for name, fields, args in cases]

    return make


def _wrap_index(rng: Any) -> list[Sample]:
    i, j = _integers(rng, (5,), -3, 3), _integers(rng, (5,), -4, 4)
    return [Sample(_op("wrap_index", (3, 4), (0, 1)), (i, j))]


def _words(name: str, count: int, *fields: Any) -> Callable:
    def make(rng: Any) -> list[Sample]:
        words = [rng.integers(0, 2**32, (9,), dtype=np.uint32) for _ in range(count)]
        return [Sample(_op(name, *fields), tuple(words), False)]

    return make


def _overwrite(rng: Any) -> list[Sample]:
    views = (_op("slice", (1, 0), (3, 4), (1, 2)),), (_op("permute", (1, 0)), _op("reshape", (12,)))
    args = [(_reals(rng, (3, 4)), _reals(rng, s)) for s in ((2, 2), (12,))]
    return [Sample(_op("overwrite", v), a, batch=False) for v, a in zip(views, args)]


def _attention(rng: Any) -> list[Sample]:
    q, k, v = _reals(rng, (1, 2, 3, 4)), _reals(rng, (1, 2, 5, 4)), _reals(rng, (1, 2, 5, 2))
    mask = _reals(rng, (1, 2, 3, 5))
    plain, causal = _op("attention", False, 0.5), _op("attention", True, 0.5)
    shared = _reals(rng, (1, 4, 3, 4))  # two heads of queries read one of keys
    return [
        Sample(plain, (q, k, v), False),
        Sample(causal, (q, k, v, mask), False),
        Sample(plain, (shared, k, v), False),
    ]


def _attention_grad(rng: Any) -> list[Sample]:
    found = []
    for sample in _attention(rng):
        out, logs = sample.op.reference(*sample.args)
        g = _reals(rng, out.shape)
        op = _op("attention_grad", sample.op.causal, 0.5)  # type: ignore[attr-defined]
        found.append(Sample(op, (g, *sample.args, out, logs), False))
    return found


def _search_sorted(rng: Any) -> list[Sample]:
    rows = np.sort(_reals(rng, (2, 5)), -1)
    values = np.concatenate([_reals(rng, (2, 2)), rows[:, 1:3]], 1)
    return [
        Sample(_op("search_sorted", False), (rows, values)),
        Sample(_op("search_sorted", True), (rows[0], values)),
    ]


def _matrices(name: str, *fields: Any, shape: tuple[int, ...] = (2, 3, 3), **options: Any) -> Any:
    """Well-conditioned matrices: distinct numbers with a heavy diagonal."""

    def make(rng: Any) -> list[Sample]:
        x = _reals(rng, shape) + 3 * np.eye(shape[-2], shape[-1]) * np.arange(1, shape[-1] + 1)
        return [Sample(_op(name, *fields), (x,), **options)]

    return make


def _solves(rng: Any) -> list[Sample]:
    (matrix,) = _matrices("inv")(rng)
    right = _reals(rng, (2, 3, 2))
    return [Sample(_op("solve"), (*matrix.args, right))]


def _triangular_solves(rng: Any) -> list[Sample]:
    a, b = _solves(rng)[0].args
    op = "solve_triangular"
    return [Sample(_op(op, up, unit), (a, b)) for up in (False, True) for unit in (False, True)]


def _positive_definite(rng: Any) -> list[Sample]:
    x = _reals(rng, (2, 3, 3))
    symmetric = x @ x.swapaxes(-1, -2) + 2 * np.eye(3)
    # The gradient is that of symmetric changes, and other samples would not be definite.
    return [Sample(_op("cholesky", up), (symmetric,), False, False) for up in (False, True)]


_STATE = np.array([1234567890123, 5], np.int64)


def _region(text: str) -> Region:
    return Region(parse_graph(text))


def _scan(rng: Any) -> list[Sample]:
    """A recurrent layer, and a loop with two carries, one of them integers, without constants."""
    layer = _region(
        """graph(%0: f64[3, 3], %1: f64[3], %2: f64[2, 3], %3: f64[2, 3]) {
             %4: f64[2, 3] = contract(%2, %0) signature='mk,kn->mn'
             %5: f64[2, 3] = add(%4, %3)
             %6: f64[2, 3] = expand(%1) shape=(2,3) axes=(0,)
             %7: f64[2, 3] = add(%5, %6)
             %8: f64[2, 3] = tanh(%7)
             %9: f64[2, 3] = mul(%8, %8)
             return %8, %9
           }"""
    )
    w, b, h, x = (_reals(rng, s, -1.0, 1.0) for s in ((3, 3), (3,), (2, 3), (4, 2, 3)))
    counter = _region(
        """graph(%0: f64[], %1: i64[], %2: f64[]) {
             %3: f64[] = mul(%0, %2)
             %4: i64[] = add(%1, 2)
             %5: f64[] = sin(%3)
             return %5, %4, %0, %4
           }"""
    )
    first = (np.array(0.75), np.array(3), _reals(rng, (5,)))
    scan = REGISTRY["scan"]
    return [
        Sample(scan(layer, 4, 2, 1), (w, b, h, x)),
        Sample(scan(layer, 4, 2, 1, True), (w, b, h, x)),
        Sample(scan(counter, 5, 0, 2), first),
    ]


def _cond(rng: Any) -> list[Sample]:
    head = "graph(%0: f64[2, 3], %1: f64[3]) {"
    true = _region(head + "\n%2: f64[2, 3] = sin(%0)\nreturn %2, %1\n}")
    false = _region(head + "\n%2: f64[2, 3] = mul(%0, %0)\n%3: f64[3] = exp(%1)\nreturn %2, %3\n}")
    x, y = _reals(rng, (2, 3)), _reals(rng, (3,))
    return [Sample(REGISTRY["cond"](true, false), (np.array(p), x, y)) for p in (True, False)]


def _while(rng: Any) -> list[Sample]:
    """Doubling until a limit is passed."""
    body = _region(
        """graph(%0: f64[], %1: f64[3], %2: i64[]) {
             %3: f64[3] = mul(%1, 2.0)
             %4: i64[] = add(%2, 1)
             %5: f64[] = sum(%3) axes=(0,)
             %6: bool[] = lt(%5, %0)
             return %6, %3, %4
           }"""
    )
    values = (np.array(100.0), np.array(True), _reals(rng, (3,), 1.0, 2.0), np.array(0))
    loop = REGISTRY["while"](body, 1)
    return [
        Sample(loop, values, gradient=False),
        Sample(loop, (values[0], np.array(False), *values[2:]), gradient=False),
    ]


TABLE: dict[str, Callable[[Any], list[Sample]]] = {
    "cast": _cast,
    "where": _where,
    "pow": _power,
    "remainder": _divisions("remainder"),
    "fmod": _divisions("fmod"),
    "floor_divide": _divisions("floor_divide"),
    "div": lambda rng: [
        Sample(_op("div"), (_reals(rng, (2, 3)), _reals(rng, (2, 3), 0.4, 2.0))),
        Sample(_op("div"), (_reals(rng, (2, 3)), 1.7)),
        Sample(_op("div"), (1.7, _reals(rng, (2, 3), 0.4, 2.0))),
    ],
    "copysign": _copysign,
    "clamp": _clamp,
    "gelu": _gelu,
    "full": _sources(
        ("full", ((2, 3), dt.float32, 1.5), ()), ("full", ((), dt.int64, 7), ()),
        ("full", ((4,), dt.bool_, True), ()), ("full", ((0, 2), dt.float64, 0), ()),
    ),
    "iota": _sources(
        ("iota", ((2, 3), dt.int64, 1), ()), ("iota", ((2, 3), dt.float32, 0), ()),
    ),
    "triangle": _sources(
        ("triangle", ((3, 4), dt.bool_, 0), ()), ("triangle", ((4, 3), dt.bool_, -1), ()),
    ),
    "random_bits": _sources(
        ("random_bits", ((3, 5),), (_STATE,)), ("random_bits", ((7,),), (_STATE,)),
    ),
    "random_numbers": _sources(
        ("random_numbers", ((3, 5), "uniform"), (_STATE, np.float32([2.5, -1]))),
        ("random_numbers", ((7,), "normal"), (_STATE, np.float32([0.5, 3]))),
    ),
    "bits_to_unit": lambda rng: [
        s for d in (dt.float16, dt.bfloat16, dt.float32) for s in _words("bits_to_unit", 1, d)(rng)
    ],
    "bits_to_unit_double": _words("bits_to_unit_double", 2),
    "bits_below": _words("bits_below", 1, 10),
    "bits_below_wide": _words("bits_below_wide", 2, 10**12),
    "wrap_index": _wrap_index,
    **{
        name: _reduction(name)
        for name in (
            "sum", "prod", "amax", "amin", "arg_max", "arg_min", "max_first", "min_first", "any",
            "all",
        )
    },
    "expand": _of(
        ("expand", ((2, 3, 4), (1,)), [(2, 4)]), ("expand", ((3, 2), (0, 1)), [()]),
    ),
    "reshape": _of(
        ("reshape", ((6, 2),), [(3, 4)]), ("reshape", ((),), [(1, 1)]),
        ("reshape", ((2, 1, 6),), [(3, 4)]),
    ),
    "permute": _of(("permute", ((2, 0, 1),), [(2, 3, 4)]), ("permute", ((1, 0),), [(2, 3)])),
    "slice": _of(
        ("slice", ((1, 0), (3, 4), (1, 2)), [(3, 5)]), ("slice", ((0,), (0,), (1,)), [(4,)]),
    ),
    "pad": _of(
        ("pad", ((1, 0), (2, 1), (0, 2), 0), [(2, 3)]), ("pad", ((2,), (0,), (1,), 1.5), [(3,)]),
    ),
    "flip": _of(("flip", ((0,),), [(3, 2)]), ("flip", ((0, 1),), [(3, 2)])),
    "windows": _of(("windows", (2, 2), [(2, 5)]), ("windows", (3, 1), [(2, 5)])),
    "detach": _of(("detach", (), [(2, 3)]), gradient=False),
    "alias": _of(("alias", (), [(2, 3)])),
    "copy": _of(("copy", (), [(2, 3)])),
    "diagonal": _of(("diagonal", (0,), [(3, 3)]), ("diagonal", (1,), [(2, 3, 4)])),
    "embed_diagonal": _of(("embed_diagonal", (0, 3, 3), [(3,)])),
    "concat": _of(("concat", (0,), [(2, 3), (1, 3)]), ("concat", (1,), [(2, 3), (2, 2), (2, 1)])),
    "split": _of(("split", ((2, 1), 0), [(3, 2)]), ("split", ((1, 1, 2), 1), [(2, 4)])),
    "contract": _of(
        ("contract", ("bmk,bkn->bmn",), [(2, 3, 4), (2, 4, 2)]),
        ("contract", ("k,k->",), [(3,), (3,)]),
        ("contract", ("mk,nk->nm",), [(2, 3), (4, 3)]),
        ("contract", ("m,n->mn",), [(2,), (3,)]),
    ),
    "cumsum": _of(("cumsum", (0,), [(3, 4)]), ("cumsum", (1,), [(3, 4)])),
    "cumprod": _of(("cumprod", (0,), [(3, 4)]), ("cumprod", (1,), [(3, 4)])),
    "linear_scan": _of(("linear_scan", (1,), [(2, 4), (2, 4)])),
    "kth": _kth,
    "conv": _of(
        ("conv", ((1, 1), (0, 0), (1, 1), 1), [(2, 3, 5, 4), (2, 3, 3, 2)]),
        ("conv", ((2,), (1,), (2,), 2), [(2, 4, 9), (4, 2, 3)]),
    ),
    "conv_input": _of(
        ("conv_input", ((2,), (1,), (1,), 1, (6,)), [(2, 2, 3), (2, 3, 3)]),
    ),
    "conv_weight": _of(
        ("conv_weight", ((2,), (1,), (1,), 1, (3,)), [(2, 3, 6), (2, 2, 3)]),
    ),
    "max_pool": _of(
        ("max_pool", ((2, 2), (2, 2), (0, 0), (1, 1), (2, 2)), [(2, 2, 4, 5)]),
        ("max_pool", ((3,), (2,), (1,), (1,), (3,)), [(1, 2, 6)]),
    ),
    "binary_cross_entropy": lambda rng: [
        Sample(
            _op("binary_cross_entropy"), (_reals(rng, (2, 3), 0.1, 0.9), _reals(rng, (2, 3), 0, 1))
        )
    ],
    "overwrite": _overwrite,
    "scan": _scan,
    "cond": _cond,
    "while": _while,
    "attention": _attention,
    "attention_grad": _attention_grad,
    "sort": _of(("sort", (0, False), [(4, 3)]), ("sort", (1, True), [(4, 3)])),
    "top_k": _of(("top_k", (2, 1, True), [(3, 5)]), ("top_k", (1, 0, False), [(3, 2)])),
    "search_sorted": _search_sorted,
    "polygamma": lambda rng: [
        Sample(_op("polygamma", n), (_reals(rng, (2, 3), 0.3, 5.0),), ulp=32.0) for n in (1, 2, 3)
    ],
    "log_cumsum_exp": _of(
        ("log_cumsum_exp", (0,), [(3, 4)]), ("log_cumsum_exp", (1,), [(3, 4)])
    ),
    "running_extreme": _of(
        ("running_extreme", (0, True), [(4, 3)]), ("running_extreme", (1, False), [(3, 4)])
    ),
    "inv": _matrices("inv"),
    "det": _matrices("det"),
    "slogdet": _matrices("slogdet"),
    "solve": _solves,
    "solve_triangular": _triangular_solves,
    "cholesky": _positive_definite,
    "qr": lambda rng: [
        *_matrices("qr", False, shape=(4, 3))(rng), *_matrices("qr", True, shape=(2, 4))(rng),
        *_matrices("qr", True, shape=(4, 3), gradient=False)(rng),
    ],
    "eigh": _matrices("eigh", False, gradient=False),
    "svd": _matrices("svd", False, shape=(4, 3)),
    "index_select": _indexed("index_select", [[2, 0], [0, 3]]),
    "index_add": _indexed("index_add", [2, 0, 2], (3, 3)),
    "index_set": _indexed("index_set", [2, 0, 2], (3, 3)),
    "check_classes": lambda rng: [
        Sample(_op("check_classes", "nll_loss", 5, 7), (np.array([[0, 7, 4], [2, 1, 7]]),), False)
    ],
    "gather": _indexed("gather", [[2, 0, 1], [3, 3, 0]]),
    "scatter_add": _indexed("scatter_add", [[2, 0, 1], [2, 3, 0]], (2, 3)),
    "scatter_set": _indexed("scatter_set", [[2, 0, 1], [1, 3, 0]], (2, 3)),
    "scatter_reduce": _indexed("scatter_reduce", [[2, 0, 1], [1, 3, 0]], (2, 3), "mul"),
}  # fmt: skip
