"""The last tasks of a program: results that stand elsewhere are copied to where they are wanted.

A result that is an input, a constant, or the same value as another result has a place already. One
kernel, for any number of bytes, serves all. Used by executable.py.
"""

from __future__ import annotations

import functools

from ..kernel.ir import Buffer, Call, Const, Kernel, Let, Load, Loop, Store, Var
from ..runtime.machine_code import Handle, compile_kernels
from ..runtime.program import Slot, Task

CHUNK = 1 << 16  # bytes


@functools.cache
def _handle() -> Handle:
    n, chunk, i = Var("n"), Var("chunk"), Var("i")
    stop = Call("min", ((chunk + 1) * CHUNK, n), "i64")
    body = (
        Let("stop", stop),
        Loop("i", chunk * CHUNK, Var("stop"), (Store("out", i, Load("x", i, "u8")),), "vector"),
    )
    buffers = (Buffer("x", "u8"), Buffer("out", "u8", written=True))
    grid = (n + Const(CHUNK - 1, "i64")) // CHUNK
    return compile_kernels([Kernel("move", buffers, body, ("n",), grid)])[0]


def move(source: int | Slot, target: Slot, size_bytes: int) -> Task:
    """A task that copies so many bytes."""
    return Task(_handle(), [source, target], [size_bytes], parallel=size_bytes > 4 * CHUNK)
