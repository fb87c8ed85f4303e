"""The slow meaning of a kernel: Python loops over NumPy arrays, one scalar at a time.

`evaluate(kernel, buffers, sizes)` runs all chunks in order and writes into `buffers`, as the native
function would. It is the reference that compiled kernels are tested against; nothing here is fast.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import ml_dtypes
import numpy as np

from .checker import BITS, FLOATS, STORAGE, KernelError, check
from .ir import Const, Expr, If, Kernel, Let, Load, Local, Loop, Reduce, Stmt, Store, Var

NUMPY_DTYPES: dict[str, Any] = {
    "bool": np.bool_, "i8": np.int8, "u8": np.uint8, "i16": np.int16, "u16": np.uint16,
    "i32": np.int32, "u32": np.uint32, "i64": np.int64, "u64": np.uint64,
    "f16": np.float16, "bf16": ml_dtypes.bfloat16, "f32": np.float32, "f64": np.float64,
}  # fmt: skip


def evaluate(
    kernel: Kernel, buffers: Mapping[str, np.ndarray], sizes: Mapping[str, int] | None = None
) -> None:
    """Run every chunk of `kernel` in order. Buffers are flat arrays, written in place."""
    check(kernel)
    for b in kernel.buffers:
        if b.name not in buffers:
            raise KernelError(f"kernel {kernel.name}: no array for buffer {b.name}")
        array = buffers[b.name]
        if array.dtype != NUMPY_DTYPES[b.dtype] or array.ndim != 1:
            raise KernelError(
                f"kernel {kernel.name}: buffer {b.name} must be a flat {b.dtype} array, "
                f"got {array.dtype} of shape {array.shape}"
            )
    names = {name: int((sizes or {})[name]) for name in kernel.sizes}
    with np.errstate(all="ignore"):
        chunks = int(_Run(dict(buffers), names).expr(kernel.grid))
        for chunk in range(chunks):
            _Run(dict(buffers), {**names, "chunk": chunk}).body(kernel.body)


def evaluate_index(expr: Expr, names: Mapping[str, int]) -> int:
    """The value of an index expression (a grid, a loop bound) for given names."""
    return int(_Run({}, dict(names)).expr(expr))


class _Run:
    def __init__(self, buffers: dict[str, np.ndarray], names: dict[str, Any]):
        self.buffers, self.names = buffers, names
        self.memo: dict[int, Any] = {}

    def body(self, body: tuple[Stmt, ...]) -> None:
        names, buffers = dict(self.names), dict(self.buffers)
        for stmt in body:
            self.memo = {}  # within one statement a shared expression is evaluated once
            self.stmt(stmt)
        self.names, self.buffers = names, buffers

    def stmt(self, stmt: Stmt) -> None:
        if isinstance(stmt, Let):
            self.names[stmt.name] = self.expr(stmt.value)
        elif isinstance(stmt, Local):
            self.buffers[stmt.name] = np.zeros(stmt.size, NUMPY_DTYPES[stmt.dtype])
        elif isinstance(stmt, Store):
            if stmt.mask is None or self.expr(stmt.mask):
                index = self.index(stmt.buffer, stmt.index)
                self.buffers[stmt.buffer][index] = self.expr(stmt.value)
        elif isinstance(stmt, Reduce):
            index = self.index(stmt.buffer, stmt.index)
            array = self.buffers[stmt.buffer]
            dtype = stmt.value.dtype
            array[index] = _apply(stmt.op, (array[index], self.expr(stmt.value)), dtype, dtype)
        elif isinstance(stmt, If):
            self.body(stmt.then if self.expr(stmt.cond) else stmt.orelse)
        elif isinstance(stmt, Loop):
            start, stop = int(self.expr(stmt.start)), int(self.expr(stmt.stop))
            hidden = self.names.get(stmt.var)
            for i in range(start, stop, stmt.step):
                self.names[stmt.var] = i
                self.body(stmt.body)
            self.names.pop(stmt.var, None)
            if hidden is not None:
                self.names[stmt.var] = hidden

    def index(self, buffer: str, expr: Expr) -> int:
        index = int(self.expr(expr))
        if not 0 <= index < len(self.buffers[buffer]):
            size = len(self.buffers[buffer])
            raise IndexError(f"{buffer}[{index}] is outside of the buffer's {size} elements")
        return index

    def expr(self, expr: Expr) -> Any:
        key = id(expr)
        if key not in self.memo:
            self.memo[key] = self.compute(expr)
        return self.memo[key]

    def compute(self, expr: Expr) -> Any:
        if isinstance(expr, Const):
            return NUMPY_DTYPES[expr.dtype](expr.value)
        if isinstance(expr, Var):
            return NUMPY_DTYPES[expr.dtype](self.names[expr.name])
        if isinstance(expr, Load):
            if expr.mask is not None and not self.expr(expr.mask):
                return NUMPY_DTYPES[expr.dtype](0)
            return self.buffers[expr.buffer][self.index(expr.buffer, expr.index)]
        args = tuple(self.expr(x) for x in expr.args)
        return _apply(expr.op, args, expr.args[-1].dtype, expr.dtype)


_UFUNCS = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "neg": np.negative, "abs": np.abs,
    "floor": np.floor, "ceil": np.ceil, "trunc": np.trunc, "round": np.rint, "sqrt": np.sqrt,
    "min": np.minimum, "max": np.maximum, "and": np.bitwise_and, "or": np.bitwise_or,
    "xor": np.bitwise_xor, "not": np.invert, "eq": np.equal, "ne": np.not_equal,
    "lt": np.less, "le": np.less_equal, "gt": np.greater, "ge": np.greater_equal,
}  # fmt: skip


def _apply(op: str, args: tuple[Any, ...], operand: str, result: str) -> Any:
    """One scalar operation on values of dtype `operand`; the result has dtype `result`."""
    if op in _UFUNCS:
        return _UFUNCS[op](*args)
    if op == "select":
        return args[1] if args[0] else args[2]
    if op == "cast":
        return _cast(args[0], operand, result)
    if op == "bitcast":
        return np.asarray(args[0]).view(NUMPY_DTYPES[result])[()]
    if op == "fma":
        return _fma(args[0], args[1], args[2], operand)
    if op == "mulhi":
        return np.uint32((int(args[0]) * int(args[1])) >> 32)
    if op in ("shl", "shr"):
        bits, amount = BITS[operand], int(args[1])
        if not 0 <= amount < bits:
            return NUMPY_DTYPES[operand](-1 if op == "shr" and args[0] < 0 else 0)
        value = int(args[0]) << amount if op == "shl" else int(args[0]) >> amount
        return _wrap(value, operand)
    if op in ("div", "rem"):
        x, y = args
        if operand in FLOATS:
            return np.divide(x, y) if op == "div" else np.fmod(x, y)
        if y == 0:
            return NUMPY_DTYPES[operand](0)
        a, b = int(x), int(y)
        quotient = abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)
        return _wrap(quotient if op == "div" else a - quotient * b, operand)
    raise KernelError(f"unknown scalar operation {op!r}")


def _fma(x: Any, y: Any, z: Any, dtype: str) -> Any:
    """x * y + z rounded once (f32: twice, the first time to the long double's 64 bits)."""
    if dtype == "f32" or not all(np.isfinite(v) for v in (x, y, z)):
        x, y, z = (np.longdouble(v) for v in (x, y, z))
        return NUMPY_DTYPES[dtype](x * y + z)
    (a, below_a), (b, below_b), (c, below_c) = (float(v).as_integer_ratio() for v in (x, y, z))
    above, below = a * b * below_c + c * below_a * below_b, below_a * below_b * below_c
    try:
        return np.float64(above / below)  # of integers: rounded once
    except OverflowError:
        return np.float64(np.inf if above > 0 else -np.inf)


def _wrap(value: int, dtype: str) -> Any:
    """`value` modulo two to the number of bits of an integer dtype."""
    bits = BITS[dtype]
    value &= (1 << bits) - 1
    if dtype[0] == "i" and value >> (bits - 1):
        value -= 1 << bits
    return NUMPY_DTYPES[dtype](value)


def _cast(value: Any, source: str, target: str) -> Any:
    if target == "bool":
        return np.bool_(value != 0)
    if target[0] in "iu" and source[0] not in "fb" or source == "bool" and target[0] in "iu":
        return _wrap(int(value), target)
    if target in STORAGE:
        value = np.float32(value)  # f64 and integers become half through f32
    return np.asarray(value).astype(NUMPY_DTYPES[target])[()]
