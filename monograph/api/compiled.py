"""Eager execution of heavy ops: one-op programs, compiled once for each set of shapes.

Small work goes through NumPy. Contractions, convolutions, attention, pooling, and elementwise ops
and
reductions over large arrays are compiled by the same compiler as captured functions, so eager code
has the same speed and, for any number of threads, the same results. The compiler is imported at the
first heavy op. `set_enabled(False)` keeps to NumPy.
"""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np

from ..core.dtype import BY_NUMPY
from ..core.errors import CompileError
from ..core.shape import numel
from ..ir.graph import Graph, Value
from ..ir.op import Aval, Full, Op
from ..ops.movement import Expand, Permute
from ..runtime import buffers

# Elements read above which an op is worth a native call (about 20 microseconds of NumPy).
HEAVY = {"contraction": 8192, "opaque": 4096, "elementwise": 65536, "reduction": 4096}
# The same for ops whose NumPy meaning is slow; of sources the elements made are counted.
SLOW = {"elementwise": 256, "reduction": 256, "opaque": 256, "source": 16384}
HEAVY_WHERE = 8192  # NumPy takes 2 to 5 nanoseconds for an element
# The same where a program serves one shape: what broadcasts, sums over long runs.
HEAVY_SHAPE = 262144
SHORT_RUN = 32  # elements in a row that NumPy adds up, or adds to others, in one inner loop
# Opaque ops that have kernels; the others stay with NumPy.
OPAQUE = {
    "conv", "conv_input", "conv_weight", "attention", "attention_grad", "max_pool",
    "index_select", "index_add", "scatter_add", "gather", "cumsum", "cumprod", "linear_scan",
    "log_cumsum_exp", "running_extreme", "concat", "sort", "top_k", "kth", "search_sorted",
    "index_set", "scatter_set", "scatter_reduce", "scan",
}  # fmt: skip
# What only moves elements, if it takes a copy (a reshape of what is not contiguous).
COPIES = {"concat", "copy", "reshape", "pad"}
HEAVY_COPY = 131072
LIMIT = 1024

MOST_LOOPS = 64  # a program for each length, with memory of its own

_programs: dict[Any, Any] = {}
_loops: list[Any] = []
_enabled = [True]


def set_enabled(enabled: bool) -> None:
    """Whether heavy eager ops run compiled (the default) or through NumPy."""
    _enabled[0] = bool(enabled)


def is_enabled() -> bool:
    """Whether eager mode may run compiled code."""
    return _enabled[0]


def fast(op: Op, args: list[Any]) -> Any:
    """The op's result from a compiled program, or None where NumPy should run it."""
    cls = op.__class__
    limit = _limits.get(cls, cls)
    if limit is cls:
        limit = _limits[cls] = _limit(op)
    if limit is None or not _enabled[0]:
        return buffers.full(op.shape, op.dtype.numpy, op.value) if cls is Full else None
    if op.kind == "movement":
        if not _takes_copy(op, args[0]):
            return None
    size = numel(op.shape) if op.kind == "source" else 0
    for a in args:
        if type(a) is np.ndarray:
            size += a.size
    if size < limit or (op.kind == "contraction" and _few_products(op, args)):
        return None
    if size < HEAVY_SHAPE and not op.slow_reference and not _is_worth_a_shape(op, args):
        return None
    return _run(op, args)


# Class of an op -> the elements above which it is worth a native call, or None.
_limits: dict[type, int | None] = {}


def _limit(op: Op) -> int | None:
    if op.name in COPIES:
        return HEAVY_COPY
    if op.name == "where":
        return HEAVY_WHERE
    if op.kind == "opaque" and op.name not in OPAQUE:
        return None
    return (SLOW if op.slow_reference else HEAVY).get(op.kind)


def _takes_copy(op: Any, x: np.ndarray) -> bool:
    """Whether NumPy would have to copy x, which is large."""
    if x.size < HEAVY_COPY:
        return False
    return not op.is_view or (not x.flags.c_contiguous and op.strides(x.shape, x.strides) is None)


def _few_products(op: Any, args: list[Any]) -> bool:
    """Whether a contraction has less than about 200,000 multiply-adds: NumPy starts sooner."""
    x, y, _ = op.parts()
    sizes = dict(zip(x, args[0].shape)) | dict(zip(y, args[1].shape))
    return numel(sizes.values()) < 200_000


def _is_worth_a_shape(op: Any, args: list[Any]) -> bool:
    """Whether fewer than HEAVY_SHAPE elements need no program of their own, or gain by it."""
    if op.kind == "elementwise":
        return all(a.flags.c_contiguous for a in args if type(a) is np.ndarray)
    return op.kind != "reduction" or _inner_run(op.axes, args[0].shape) < SHORT_RUN


def _inner_run(axes: tuple[int, ...], shape: tuple[int, ...]) -> int:
    """Elements side by side that are all added up, or all kept."""
    run, last = 1, len(shape) - 1
    for axis in range(last, -1, -1):
        if (axis in axes) != (last in axes):
            break
        run *= shape[axis]
    return run


def _run(op: Op, args: list[Any]) -> Any:
    arrays: list[np.ndarray] = []
    readings: list[Any] = []
    key: list[Any] = [op]
    for a in args:
        if type(a) is not np.ndarray:
            key.append((type(a), a))
            continue
        if a.dtype.kind == "c":
            return None  # no kernel has complex numbers
        reading = None
        if not a.flags.c_contiguous:
            a, reading = as_it_stands(a)
        arrays.append(a)
        readings.append(reading)
        key.append((a.shape, a.dtype, reading))
    known = tuple(key)
    program = _programs.get(known)
    if program is None:
        if len(_programs) >= LIMIT:
            _programs.clear()
        program = _programs[known] = _compile(op, args, arrays, readings)
        if op.name == "scan":
            _loops.append(known)
            if len(_loops) > MOST_LOOPS:
                _programs.pop(_loops.pop(0), None)
    if program is False:
        return None
    outs = [buffers.empty(v.shape, v.dtype.numpy) for v in program.outputs]
    program.run(arrays, outs)
    return outs[0] if op.n_outputs == 1 else outs


def as_it_stands(a: np.ndarray) -> tuple[np.ndarray, Any]:
    """The contiguous array behind a broadcast or transposed one, and how it is read.

    The reading is (order, shape, axes): permute to `order`, then repeat along `axes` to `shape`.
    """
    shape = a.shape
    axes = tuple(i for i, (n, step) in enumerate(zip(shape, a.strides)) if step == 0 and n > 1)
    if axes:  # the ellipsis: a 0-d array, not a scalar
        a = a[(*(0 if i in axes else slice(None) for i in range(a.ndim)), ...)]
    order = tuple(sorted(range(a.ndim), key=lambda i: (-a.strides[i], i)))
    stands = a.transpose(order)
    if not stands.flags.c_contiguous:
        stands, order = np.ascontiguousarray(a), tuple(range(a.ndim))
    return stands, (order, shape, axes)


class Elements:
    """A program of one op that takes arrays as they come, element by element (as Executable)."""

    def __init__(self, op: Op, args: list[Any]):
        elements = importlib.import_module("monograph.compiler.elements")  # heavy: loads LLVM
        graph = Graph()
        values = [
            graph.input(Aval(a.shape, BY_NUMPY[a.dtype])) if type(a) is np.ndarray else a
            for a in args
        ]
        self.outputs: list[Value] = [graph.add(op, *values)]
        out = self.outputs[0].aval
        operands = tuple(v.dtype if isinstance(v, Value) else v for v in values)
        self.program: Any = None
        if out.dtype.numpy.kind != "c":  # no kernel has complex numbers
            self.program = elements.program(op, operands, out.dtype, out.size)

    def run(self, arrays: list[np.ndarray], outs: list[np.ndarray]) -> None:
        self.program([buffers.address_of(a) for a in (*arrays, *outs)])


def _is_flat(op: Any, arrays: list[np.ndarray], readings: list[Any]) -> bool:
    """Whether element i of the result comes of elements i as they stand, or of i alone."""
    if any(r is not None for r in readings):
        return False
    return op.kind == "elementwise" or (op.kind == "source" and len(op.shape) == 1)


def _compile(op: Op, args: list[Any], arrays: list[np.ndarray], readings: list[Any]) -> Any:
    """The executable, or False where the op has no kernel for these operands."""
    if _is_flat(op, arrays, readings):
        made = Elements(op, args)
        return made if made.program is not None else False
    compiler = importlib.import_module("monograph.compiler.executable")  # heavy: loads LLVM
    graph = Graph()
    inputs: list[Value | Any] = []
    position = 0
    for a in args:
        if type(a) is not np.ndarray:
            inputs.append(a)
            continue
        stands, reading = arrays[position], readings[position]
        position += 1
        v = graph.input(Aval(stands.shape, BY_NUMPY[stands.dtype]))
        if reading is not None:
            order, shape, axes = reading
            inverse = tuple(order.index(i) for i in range(len(order)))
            v = graph.add(Permute(inverse), v)
            if axes:
                v = graph.add(Expand(shape, axes), v)
        inputs.append(v)
    out = graph.add(op, *inputs)
    graph.outputs = list(out) if isinstance(out, tuple) else [out]
    try:
        made = compiler.compile_graph(graph)
    except CompileError:
        return False
    return False if made.has_host_steps else made
