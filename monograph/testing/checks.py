"""What must hold for a sample of any op: one function each, AssertionError where it does not.

`CHECKS` lists them; tests/ops/test_generated.py runs each for each op of the registry.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ..api import func
from ..api.creation import as_tensor
from ..capture import jit
from ..core import dtype as dt
from ..core.dtype import BY_NUMPY
from ..core.errors import MonographError
from ..ir import op as ir_op
from ..ir.evaluate import evaluate
from ..ir.op import Aval, Elementwise, Movement, Op, Reduction, Source
from ..ir.verify import verify
from ..kernel import evaluate as kernel_evaluate
from ..kernel import scalar
from ..kernel.ir import Buffer, Const, Kernel, Load, Loop, Store, Var
from ..tensor import Tensor
from ..transform.trace import trace_graph
from . import rare_samples  # noqa: F401  (adds to the table of samples)
from .comparison import assert_close
from .complex_samples import complex_version
from .gradients import gradcheck, gradgradcheck
from .samples import Sample
from .scalars import evaluate_expression, scalar_meaning

SPECIAL = [0.0, -0.0, 1.0, -1.0, 0.5, -2.5, np.inf, -np.inf, np.nan, 1e-42, 3e38, -3e38, 2.0]


def tensors_of(sample: Sample, requires_grad: bool = False) -> list[Any]:
    """The arguments as tensors (copies) and numbers."""
    made: list[Any] = []
    for a in sample.args:
        if isinstance(a, np.ndarray):
            t = as_tensor(np.array(a))
            made.append(t.requires_grad_(requires_grad and t.dtype.is_inexact))
        else:
            made.append(a)
    return made


def avals_of(sample: Sample) -> list[Any]:
    return [
        Aval(a.shape, BY_NUMPY[a.dtype]) if isinstance(a, np.ndarray) else a for a in sample.args
    ]


def _several(op: Op, result: Any) -> list[Any]:
    return list(result) if op.n_outputs > 1 else [result]


def check_infer(sample: Sample) -> None:
    """infer tells the reference's shape, and the dtype that the interpreter gives."""
    op = sample.op
    avals = _several(op, op.infer(*avals_of(sample)))
    with np.errstate(all="ignore"):
        made = _several(op, op.reference(*sample.args))
    outs = _several(op, op(*tensors_of(sample)))
    assert len(avals) == len(made) == len(outs)
    for aval, array, out in zip(avals, made, outs):
        assert aval.shape == np.shape(array), f"infer says {aval}, reference {np.shape(array)}"
        assert tuple(out.shape) == aval.shape and out.dtype is aval.dtype, f"{aval} and {out.dtype}"
        kinds = {dt.FLOAT: "fV", dt.INT: "iu", dt.BOOL: "b", dt.COMPLEX: "c"}[aval.dtype.category]
        assert np.asarray(array).dtype.kind in kinds, f"{aval} but {np.asarray(array).dtype}"


def ulp_gap(got: np.ndarray, expected: np.ndarray) -> float:
    """The largest distance in units in the last place of `expected`; equal and nan pairs are 0."""
    if expected.dtype.kind == "c":
        return max(ulp_gap(got.real, expected.real), ulp_gap(got.imag, expected.imag))
    if expected.dtype.kind in "iub":
        return 0.0 if np.array_equal(got, expected) else np.inf
    with np.errstate(all="ignore"):
        if expected.dtype.itemsize == 2:  # ml_dtypes has no spacing: one ulp is 2**-8 or 2**-11
            bits = 8 if expected.dtype == dt.bfloat16.numpy else 11
            a, b = got.astype(np.float64), expected.astype(np.float64)
            unit = np.maximum(np.abs(b), 2.0**-14) * 2.0**-bits
        else:
            a, b = got.astype(np.longdouble), expected.astype(np.longdouble)
            unit = np.spacing(np.abs(expected)).astype(np.longdouble)
        same = (a == b) | (np.isnan(a) & np.isnan(b))
        gap = np.where(same, 0, np.abs(a - b) / unit)
    return float(np.max(np.where(np.isnan(gap), np.inf, gap), initial=0))


def check_scalar(sample: Sample) -> None:
    """The scalar rule agrees with the reference, with and without hardware fma."""
    op = sample.op
    if isinstance(op, Elementwise):
        aval = op.infer(*avals_of(sample))
        with np.errstate(all="ignore"):
            expected = np.asarray(op.reference(*sample.args)).astype(aval.dtype.numpy)
        for fused in (True, False):
            got = scalar_meaning(op, *sample.args, fused=fused)
            assert got.dtype == expected.dtype
            gap = ulp_gap(got, expected)
            assert gap <= sample.ulp, f"{gap} ulp (fused={fused}): {got} and {expected}"
        _check_slow(sample)
    elif isinstance(op, Source):
        _check_source(sample)
    elif isinstance(op, Movement):
        _check_movement(sample)


def _check_slow(sample: Sample) -> None:
    """A kernel of the rule, run by the slow evaluator, agrees with scalar_meaning."""
    op, arrays = sample.op, sample.arrays
    n = min(6, arrays[0].size)
    buffers, names, xs = [], {}, []
    for i, a in enumerate(sample.args):
        if not isinstance(a, np.ndarray):
            xs.append(a)
            continue
        code = BY_NUMPY[a.dtype].code
        buffers.append(Buffer(f"x{i}", code))
        names[f"x{i}"] = np.ascontiguousarray(a).reshape(-1)[:n].copy()
        load = Load(f"x{i}", Var("i"), code)
        xs.append(scalar.cast(load, "f32") if code in ("f16", "bf16") else load)
    like = next(x.dtype for x in reversed(xs) if hasattr(x, "dtype"))
    xs = [x if hasattr(x, "dtype") else Const(x, like) for x in xs]
    out = op.infer(*avals_of(sample)).dtype
    value = op.scalar(scalar, *xs)  # type: ignore[attr-defined]
    store = Store("out", Var("i"), scalar.cast(value, out.code))
    loop = Loop("i", Const(0, "i64"), Const(n, "i64"), (store,))
    kernel = Kernel("sample", (*buffers, Buffer("out", out.code, True)), (loop,))
    names["out"] = np.zeros(n, out.numpy)
    kernel_evaluate.evaluate(kernel, names)
    fast = scalar_meaning(op, *sample.args).reshape(-1)[:n]  # type: ignore[arg-type]
    assert ulp_gap(names["out"], fast) <= sample.ulp, f"{names['out']} and {fast}"


def _indices(shape: tuple[int, ...]) -> tuple[tuple[Var, ...], dict[str, np.ndarray]]:
    grid = np.indices(shape, dtype=np.int64)
    names = {f"i{a}": g.reshape(-1) for a, g in enumerate(grid)}
    return tuple(Var(f"i{a}") for a in range(len(shape))), names


def _check_source(sample: Sample) -> None:
    op = sample.op
    aval = op.infer(*avals_of(sample))
    index, names = _indices(aval.shape)

    def reader(k: int) -> Any:
        array = sample.arrays[k]
        names[f"input{k}"] = array.reshape(-1)
        return lambda j: Load(f"input{k}", j, BY_NUMPY[array.dtype].code)

    readers = [reader(k) for k in range(len(sample.arrays))]
    expr = op.scalar(scalar, index, *readers)  # type: ignore[attr-defined]
    got = np.broadcast_to(evaluate_expression(expr, names), (aval.size,)).reshape(aval.shape)
    assert_close(got.astype(aval.dtype.numpy), op.reference(*sample.args), rtol=0, atol=0)


def _check_movement(sample: Sample) -> None:
    op, (x,) = sample.op, sample.arrays
    expected = op.reference(x)
    index, names = _indices(expected.shape)
    places, mask = op.source(index, x.shape)  # type: ignore[attr-defined]
    count = expected.size
    flat = np.zeros(count, np.int64)
    valid = np.ones(count, bool)
    if mask is not None:
        valid = np.broadcast_to(evaluate_expression(mask, names), (count,))
    for place, size in zip(places, x.shape):
        k = np.broadcast_to(evaluate_expression(place, names), (count,))
        assert ((k >= 0) & (k < size))[valid].all(), "source reads outside of the input"
        flat = flat * size + np.where(valid, k, 0)
    got = np.full(count, getattr(op, "value", 0), x.dtype)
    got[valid] = x.reshape(-1)[flat[valid]]
    assert_close(got.reshape(expected.shape), expected, rtol=0, atol=0)


def check_gradients(sample: Sample) -> None:
    """First and second derivatives agree with central differences."""
    op = sample.op
    if not (op.differentiable and sample.gradient):
        return
    tensors = tensors_of(sample, requires_grad=True)
    if not any(isinstance(t, Tensor) and t.requires_grad for t in tensors):
        return
    gradcheck(op, tensors)
    gradgradcheck(op, tensors)


def check_batched(sample: Sample) -> None:
    """vmap agrees with a loop: over all array inputs at once, and over each alone, any axis."""
    op = sample.op
    if not sample.batch or not sample.arrays:
        return
    stacked = [
        np.stack([a, np.roll(a, 1), a[..., ::-1] if a.ndim else a])
        if isinstance(a, np.ndarray) else a
        for a in sample.args
    ]  # fmt: skip
    places = [i for i, a in enumerate(sample.args) if isinstance(a, np.ndarray)]
    plans: list[list[int | None]] = [[0 if i in places else None for i in range(len(stacked))]]
    if len(places) > 1:
        plans += [[0 if i == k else None for i in range(len(stacked))] for k in places]
    plans.append([-1 if i in places else None for i in range(len(stacked))])
    for dims in plans:
        args, loops = [], [[] for _ in range(3)]  # type: ignore[var-annotated]
        for full, given, dim in zip(stacked, sample.args, dims):
            if dim is None:
                args.append(as_tensor(given) if isinstance(given, np.ndarray) else given)
            else:
                args.append(as_tensor(np.ascontiguousarray(np.moveaxis(full, 0, dim))))
            for k, loop in enumerate(loops):
                one = given if dim is None else full[k]
                loop.append(as_tensor(np.array(one)) if isinstance(given, np.ndarray) else one)
        expected = [_several(op, op(*loop)) for loop in loops]
        got = _several(op, func.vmap(op, in_dims=tuple(dims))(*args))
        for j, out in enumerate(got):
            wanted = np.stack([np.asarray(e[j].detach().numpy()) for e in expected])
            assert_close(out.detach().numpy(), wanted, rtol=1e-12, atol=1e-12, equal_nan=True)


def check_captured(sample: Sample) -> None:
    """The op captured as a graph and evaluated gives what it gives at once."""
    op = sample.op
    tensors = tensors_of(sample)
    given = [t for t in tensors if isinstance(t, Tensor)]

    def f(*values: Any) -> Any:
        left = iter(values)
        return op(*(next(left) if isinstance(t, Tensor) else t for t in tensors))

    graph, _ = trace_graph(f, *given)
    verify(graph)
    with np.errstate(all="ignore"):
        made = evaluate(graph, *(t.detach().numpy() for t in given))
    for got, expected in zip(made, _several(op, op(*tensors))):
        assert_close(got, expected.detach().numpy(), rtol=0, atol=0, equal_nan=True)


def check_compiled(sample: Sample) -> None:
    """The op under jit agrees with eager, at two calls; maps also where they fill vectors."""
    _compare_compiled(sample)
    if isinstance(sample.op, Elementwise):
        wide = [np.resize(a, (5, 67)) if isinstance(a, np.ndarray) else a for a in sample.args]
        _compare_compiled(Sample(sample.op, tuple(wide), ulp=sample.ulp))


def _compare_compiled(sample: Sample) -> None:
    op = sample.op
    tensors = tensors_of(sample)
    compiled = jit(lambda *values: op(*values))
    expected = _several(op, op(*tensors))
    for _ in range(2):
        for got, wanted in zip(_several(op, compiled(*tensors)), expected):
            assert got.dtype is wanted.dtype
            a, b = got.detach().numpy(), wanted.detach().numpy()
            loose = {"rtol": 1e-12, "atol": 1e-12} if a.dtype == np.float64 else {}
            if ulp_gap(a, b) > sample.ulp:
                assert_close(a, b, equal_nan=True, **loose)  # type: ignore[arg-type]


def check_strided(sample: Sample) -> None:
    """Inputs that are not contiguous give the same as copies of them."""
    op = sample.op
    if not any(a.ndim and a.size for a in sample.arrays):
        return
    strided = []
    for a in sample.args:
        if isinstance(a, np.ndarray) and a.ndim:
            wide = np.zeros((*a.shape[:-1], 2 * a.shape[-1]), a.dtype)
            wide[..., ::2] = a
            strided.append(as_tensor(np.asfortranarray(wide)[..., ::2]))
        else:
            strided.append(as_tensor(a) if isinstance(a, np.ndarray) else a)
    expected = _several(op, op(*tensors_of(sample)))
    for got, wanted in zip(_several(op, op(*strided)), expected):
        assert_close(got, wanted, rtol=1e-13, atol=1e-13, equal_nan=True)


def check_empty(sample: Sample) -> None:
    """Elementwise ops take tensors without elements and without dimensions; sums are identities."""
    op = sample.op
    if isinstance(op, Elementwise):
        for shape in ((0,), (2, 0), ()):
            args = [
                np.resize(a, shape).astype(a.dtype) if isinstance(a, np.ndarray) else a
                for a in sample.args
            ]
            small = Sample(op, tuple(args), ulp=sample.ulp)
            check_infer(small)
            if shape == ():
                check_scalar(small)
    elif isinstance(op, Reduction) and sample.arrays[0].ndim:
        x = sample.arrays[0]
        nothing = np.zeros(tuple(0 if a in op.axes else n for a, n in enumerate(x.shape)), x.dtype)
        if op.identity is None:
            try:
                op(as_tensor(nothing))
            except MonographError:
                return
            raise AssertionError(f"{op.name} over nothing gave a result")
        out = op(as_tensor(nothing)).numpy()
        assert (out == op.identity).all()


def check_special(sample: Sample) -> None:
    """At 0, infinities, nan, subnormal and huge numbers the rule has the reference's value."""
    op = sample.op
    if not isinstance(op, Elementwise):
        return
    if not all(a.dtype in (np.float32, np.float64) for a in sample.arrays):
        return
    count = len(sample.args)
    values = np.array([v for v in SPECIAL if not sample.limit < abs(v) < np.inf])
    grid = np.meshgrid(*[values] * count, indexing="ij") if count > 1 else [values]
    for dtype in (np.float32, np.float64):
        args = tuple(g.reshape(-1).astype(dtype) for g in grid)
        with np.errstate(all="ignore"):
            expected = np.asarray(op.reference(*args)).astype(op.infer(*_avals(args)).dtype.numpy)
        for fused in (True, False):
            got = scalar_meaning(op, *args, fused=fused)
            with np.errstate(all="ignore"):
                bad = [
                    (*(a[i] for a in args), got[i], expected[i])
                    for i in range(len(got))
                    if ulp_gap(got[i : i + 1], expected[i : i + 1]) > max(sample.ulp, 8)
                ]
            assert not bad, f"(inputs, got, expected): {bad[:6]}"


def _avals(args: tuple[Any, ...]) -> list[Aval]:
    return [Aval(a.shape, BY_NUMPY[a.dtype]) for a in args]


def check_halves(sample: Sample) -> None:
    """Float16 and bfloat16: the result has the right dtype and is near the float32 result."""
    op = sample.op
    if not isinstance(op, Elementwise) or not op.differentiable or op.name == "cast":
        return
    if not all(a.dtype == np.float64 or a.dtype == bool for a in sample.arrays):
        return
    for half in (dt.float16, dt.bfloat16):
        args = [
            a.astype(half.numpy) if isinstance(a, np.ndarray) and a.dtype != bool else a
            for a in sample.args
        ]
        wide = [
            a.astype(np.float32) if isinstance(a, np.ndarray) and a.dtype != bool else a
            for a in args
        ]
        small = Sample(op, tuple(args))
        out = op(*tensors_of(small))
        assert out.dtype is half or not out.dtype.is_floating_point
        expected = op(*tensors_of(Sample(op, tuple(wide)))).numpy().astype(out.dtype.numpy)
        assert ulp_gap(out.numpy(), expected) <= 2, f"{out.numpy()} and {expected}"
        assert ulp_gap(scalar_meaning(op, *args), expected) <= 2


def check_complex(sample: Sample) -> None:
    """Where the op takes complex numbers, all of the above holds of them."""
    made = complex_version(sample)
    if made is None:
        return
    for check in (check_infer, check_gradients, check_batched, check_captured, check_strided):
        check(made)
    _compare_compiled(made)


CHECKS = (
    check_infer, check_scalar, check_gradients, check_batched, check_captured, check_strided,
    check_empty, check_special, check_halves, check_compiled, check_complex,
)  # fmt: skip


def registry() -> Iterator[type[Op]]:
    """Every op class, by name."""
    for name in sorted(ir_op.REGISTRY):
        yield ir_op.REGISTRY[name]
