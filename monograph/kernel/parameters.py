"""Run-time sizes of a kernel: symbolic constants become arguments.

Lowering computes with sizes as if they were numbers, so that a kernel of run-time sizes holds
constants that are SymInts (core/symbolic.py). `parametrise` makes each different one an entry of
the kernel's `sizes`, which a program fills in when it is bound to sizes.
"""

from __future__ import annotations

import dataclasses
import operator
from typing import Any

from ..core.symbolic import SymFloat, is_symbolic
from .ir import Call, Const, Expr, If, Kernel, Let, Load, Local, Loop, Reduce, Stmt, Store, Var


def parametrise(kernel: Kernel) -> tuple[Kernel, list[Any]]:
    """The kernel without symbolic constants, and what its further sizes are.

    A size as an operand of another dtype is converted; a float made of sizes comes as the bits of
    a float64. What code cannot be made for at run time, as the size of a local array, becomes a
    number, and the program static in it.
    """
    made = _Parameters(kernel)
    body = made.body(kernel.body)
    grid = made.expr(kernel.grid)
    if not made.values:
        return kernel, []
    sizes = (*kernel.sizes, *made.names.values())
    return Kernel(kernel.name, kernel.buffers, body, sizes, grid), made.values


class _Parameters:
    def __init__(self, kernel: Kernel) -> None:
        self.taken = set(kernel.sizes)
        self.names: dict[Any, str] = {}
        self.values: list[Any] = []
        self.memo: dict[int, tuple[Any, Any]] = {}  # id -> (the expression, what it became)

    def name(self, value: Any) -> Var:
        name = self.names.get(value)
        if name is None:
            name = self.names[value] = f"size{len(self.values)}"
            assert name not in self.taken
            self.values.append(value)
        return Var(name)

    def expr(self, e: Expr) -> Expr:
        known = self.memo.get(id(e))
        if known is None:
            known = self.memo[id(e)] = e, self._expr(e)
        return known[1]

    def optional(self, e: Expr | None) -> Expr | None:
        return None if e is None else self.expr(e)

    def _expr(self, e: Expr) -> Expr:
        if isinstance(e, Const):
            if not is_symbolic(e.value):
                return e
            x: Expr = self.name(e.value)
            if type(e.value) is SymFloat:
                x = Call("bitcast", (x,), "f64")
            return x if x.dtype == e.dtype else Call("cast", (x,), e.dtype)
        if isinstance(e, Load):
            index, mask = self.expr(e.index), self.optional(e.mask)
            return (
                e if index is e.index and mask is e.mask else Load(e.buffer, index, e.dtype, mask)
            )
        if isinstance(e, Call):
            args = tuple(self.expr(a) for a in e.args)
            return e if all(a is b for a, b in zip(args, e.args)) else Call(e.op, args, e.dtype)
        return e

    def body(self, body: tuple[Stmt, ...]) -> tuple[Stmt, ...]:
        return tuple(self.stmt(x) for x in body)

    def stmt(self, x: Stmt) -> Stmt:
        if isinstance(x, Let):
            return Let(x.name, self.expr(x.value))
        if isinstance(x, Store):
            value, mask = self.expr(x.value), self.optional(x.mask)
            return Store(x.buffer, self.expr(x.index), value, mask)
        if isinstance(x, Reduce):
            return Reduce(x.op, x.buffer, self.expr(x.index), self.expr(x.value))
        if isinstance(x, If):
            return If(self.expr(x.cond), self.body(x.then), self.body(x.orelse))
        if isinstance(x, Loop):
            step = operator.index(x.step)
            if x.kind == "unroll":
                start, stop = _number(x.start), _number(x.stop)
            else:
                start, stop = self.expr(x.start), self.expr(x.stop)
            return Loop(x.var, start, stop, self.body(x.body), x.kind, step)
        if isinstance(x, Local):
            return Local(x.name, x.dtype, operator.index(x.size))
        return dataclasses.replace(x, index=self.expr(x.index))


def _number(e: Expr) -> Expr:
    """An expression that must not change from call to call."""
    if isinstance(e, Const) and is_symbolic(e.value):
        return Const(operator.index(e.value), e.dtype)
    return e
