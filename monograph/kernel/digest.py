"""A kernel's structure as a short key: equal kernels have equal keys, in any process.

The kernel's name does not count. Shared expressions are written once, so the key of an expression
graph costs its number of distinct nodes. Used by the object cache (runtime/machine_code.py).
"""

from __future__ import annotations

import hashlib
from typing import Any

from .ir import (
    Call,
    Const,
    Expr,
    If,
    Kernel,
    Let,
    Load,
    Local,
    Loop,
    Prefetch,
    Reduce,
    Stmt,
    Store,
    Var,
)


class _Numbering:
    """Numbers distinct nodes in the order of their first appearance."""

    def __init__(self) -> None:
        self.by_object: dict[int, int] = {}
        self.by_content: dict[Any, int] = {}

    def expr(self, expr: Expr | None) -> int:
        if expr is None:
            return -1
        found = self.by_object.get(id(expr))
        if found is None:
            found = self.by_object[id(expr)] = self.node(self.content(expr))
        return found

    def node(self, content: Any) -> int:
        return self.by_content.setdefault(content, len(self.by_content))

    def content(self, x: Expr) -> Any:
        if isinstance(x, Const):
            # repr: 1, 1.0 and True are different, and so are 0.0 and -0.0.
            return ("const", repr(x.value), x.dtype)
        if isinstance(x, Var):
            return ("var", x.name, x.dtype)
        if isinstance(x, Load):
            return ("load", x.buffer, self.expr(x.index), x.dtype, self.expr(x.mask))
        if isinstance(x, Call):
            return (x.op, *[self.expr(a) for a in x.args], x.dtype)
        raise TypeError(f"not an expression: {x!r}")

    def body(self, body: tuple[Stmt, ...]) -> tuple[Any, ...]:
        return tuple(self.stmt(x) for x in body)

    def stmt(self, x: Stmt) -> Any:
        if isinstance(x, Let):
            return ("let", x.name, self.expr(x.value))
        if isinstance(x, Local):
            return ("local", x.name, x.dtype, x.size)
        if isinstance(x, Store):
            return ("store", x.buffer, self.expr(x.index), self.expr(x.value), self.expr(x.mask))
        if isinstance(x, Reduce):
            return ("reduce", x.op, x.buffer, self.expr(x.index), self.expr(x.value))
        if isinstance(x, Prefetch):
            return ("prefetch", x.buffer, self.expr(x.index))
        if isinstance(x, If):
            return ("if", self.expr(x.cond), self.body(x.then), self.body(x.orelse))
        if isinstance(x, Loop):
            span = self.expr(x.start), self.expr(x.stop), x.step
            return ("loop", x.kind, x.var, span, self.body(x.body))
        raise TypeError(f"not a statement: {x!r}")


def digest(kernel: Kernel) -> str:
    """Hex digits that only equal kernels (but for their names) share."""
    if kernel.digest:
        return kernel.digest
    numbers = _Numbering()
    body = numbers.body(kernel.body)
    buffers = tuple((b.name, b.dtype, b.written) for b in kernel.buffers)
    grid = numbers.expr(kernel.grid)
    text = repr((buffers, kernel.sizes, grid, body, list(numbers.by_content)))
    found = hashlib.sha256(text.encode()).hexdigest()
    object.__setattr__(kernel, "digest", found)
    return found
