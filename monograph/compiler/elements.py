"""One elementwise op, or random words, over arrays of any length: kernels with run-time sizes.

Eager programs of single ops need nothing of fusion and layouts, and meet new shapes all the time
(each parameter's initial values, for example): the length is an argument of the kernel, so that one
serves all shapes.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

from ..core import dtype as dt
from ..ir.op import Op
from ..kernel import scalar
from ..kernel.ir import Buffer, Call, Const, Expr, Kernel, Let, Load, Loop, Stmt, Store, Var
from ..runtime.machine_code import compile_kernels
from ..runtime.program import Program, Slot, Task
from .reader import COMPUTE, literal

CHUNK = 16384  # elements
SMALL = 32768  # elements below which the calling thread works alone


def program(op: Op, operands: tuple[Any, ...], out: dt.DType, length: int) -> Program:
    """out[i] = op(operands[i]) for `length` elements; operands are dtypes or Python numbers.

    Slots: the operands that are arrays, in order, then the result. Of a source (`together` elements
    at a time) the one operand is its state, and up to `together` - 1 elements more are written.
    """
    if op.kind == "source":  # a function of the flat index: any shape gives the same kernel
        op = dataclasses.replace(op, shape=(1,))  # type: ignore[type-var]
    handle = _handle(op, tuple((type(x), x) for x in operands), out)
    arrays = sum(isinstance(x, dt.DType) for x in operands)
    task = Task(handle, [Slot(i) for i in range(arrays + 1)], [length], length >= SMALL)
    return Program([task], slots=arrays + 1)


@functools.lru_cache(1024)
def _handle(op: Op, typed: tuple[Any, ...], out: dt.DType) -> Any:
    operands = [x for _, x in typed]
    kernel = _source(op, operands, out) if op.kind == "source" else _map(op, operands, out)
    return compile_kernels([kernel])[0]


def _map(op: Any, operands: list[Any], out: dt.DType) -> Kernel:
    codes = [x.code for x in operands if isinstance(x, dt.DType)]
    like = COMPUTE.get(codes[-1], codes[-1])
    i = Var("i")
    args: list[Expr] = []
    buffers = [Buffer(f"x{k}", code) for k, code in enumerate(codes)]
    left = iter(buffers)
    for x in operands:
        if isinstance(x, dt.DType):
            buffer = next(left)
            e: Expr = Load(buffer.name, i, buffer.dtype)
            args.append(scalar.cast(e, COMPUTE[x.code]) if x.code in COMPUTE else e)
        else:
            args.append(literal(x, like))
    result = op.scalar(scalar, *args)
    return _kernel(op, buffers, out, [_store(i, result, out)], 1)


def _source(op: Any, operands: list[Any], out: dt.DType) -> Kernel:
    """Of sources that are functions of the flat index, and of a state."""
    buffers = [Buffer(f"x{k}", x.code) for k, x in enumerate(operands)]
    readers = [functools.partial(_element, b) for b in buffers]
    lane, i = Var("lane"), Var("i")
    at = lane + i * op.together
    body = [_store(at, op.scalar(scalar, (at,), *readers), out)]
    inner = Loop("lane", Const(0, "i64"), Const(op.together, "i64"), tuple(body), "unroll")
    return _kernel(op, buffers, out, [inner], op.together)


def _element(buffer: Buffer, j: int) -> Expr:
    return Load(buffer.name, Const(j, "i64"), buffer.dtype)


def _store(at: Expr, value: Expr, out: dt.DType) -> Stmt:
    if value.dtype != out.code:
        value = Call("cast", (value,), out.code)
    return Store("out", at, value)


def _kernel(op: Op, buffers: list[Buffer], out: dt.DType, body: list[Stmt], step: int) -> Kernel:
    """The body for all i: each stands for `step` elements."""
    n, chunk, part = Var("n"), Var("chunk"), CHUNK // step
    count = n if step == 1 else (n + (step - 1)) // step
    last = Call("min", ((chunk + 1) * part, count), "i64")
    whole: list[Stmt] = [
        Let("first", chunk * part),
        Let("last", last),
        Loop("i", Var("first"), Var("last"), tuple(body), "vector"),
    ]
    grid = (n + (CHUNK - 1)) // CHUNK
    all_buffers = (*buffers, Buffer("out", out.code, written=True))
    return Kernel(f"each_{op.name}", all_buffers, tuple(whole), ("n",), grid)
