"""Running results along an axis: sums, products, recurrences, log-sum-exp and extremes.

Each line is walked in order, as its meaning says. Where lines stand side by side in memory, lanes
run across them; else a few rows advance together, so that one need not wait for another's result.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ...core.errors import CompileError
from ...core.symbolic import hint
from ...ir.graph import Node
from ...kernel import scalar as s
from ...kernel.ir import Buffer, Call, Const, Expr, Kernel, Let, Load, Local, Loop, Stmt, Store, Var
from ...ops.exponential import exp_formula, log1p_formula
from ..reader import COMPUTE
from ..steps import Context, Step, lowers
from .lines import Lines, block_start, chunks_of, const, lane_block, operand, result

ROWS = 8  # that advance together


@dataclass(frozen=True)
class Rule:
    """How a line advances.

    start    (elements of the inputs at 0) -> what is carried
    step     (what is carried, elements at i, i) -> what is carried
    carried  dtypes; those of the results come first
    """

    start: Callable[..., tuple[Expr, ...]]
    step: Callable[..., tuple[Expr, ...]]
    carried: tuple[str, ...]
    costly: bool = False


def _log_add(x: Expr, y: Expr) -> Expr:
    """log(exp(x) + exp(y))."""
    top = s.maximum(x, y)
    apart = top + log1p_formula(s, exp_formula(s, s.minimum(x, y) - top))
    return s.select(s.eq(x, y), x + math.log(2), apart)


def _extreme(largest: bool, compute: str) -> Rule:
    def step(carried: tuple[Expr, ...], x: Expr, i: Expr) -> tuple[Expr, ...]:
        best = s.maximum(carried[0], x) if largest else s.minimum(carried[0], x)
        here = s.eq(x, best)
        if x.dtype[0] == "f":
            both = Call("and", (s.ne(x, x), s.ne(best, best)), "bool")
            here = Call("or", (here, both), "bool")
        return best, s.select(here, s.cast(i, "i64"), carried[1])

    return Rule(lambda x: (x, Const(0, "i64")), step, (compute, "i64"))


def rule_of(op: Any, compute: str) -> Rule:
    if op.name == "running_extreme":
        return _extreme(op.largest, compute)
    if op.name == "cumsum":
        return Rule(lambda x: (x,), lambda c, x, i: (c[0] + x,), (compute,))
    if op.name == "cumprod":
        return Rule(lambda x: (x,), lambda c, x, i: (c[0] * x,), (compute,))
    if op.name == "linear_scan":
        return Rule(lambda a, b: (b,), lambda c, a, b, i: (a * c[0] + b,), (compute,))
    if op.name == "log_cumsum_exp":
        return Rule(lambda x: (x,), lambda c, x, i: (_log_add(c[0], x),), (compute,), True)
    raise CompileError(f"scan: no rule for {op.name}")


@lowers("cumsum", "cumprod", "linear_scan", "log_cumsum_exp", "running_extreme")
def lower_scan(node: Node, context: Context) -> list[Step] | None:
    """Results along op.axis, each from the one before and the inputs' elements there."""
    op: Any = node.op
    if 0 in node.values[0].shape:
        return None
    arrays, buffers, values = {}, [], []
    inputs: list[tuple[str, str, str]] = []  # array, buffer and dtype of each operand
    for k, v in enumerate(node.values):
        base, stands = operand(context, v)
        if base not in values:
            values.append(base)
            buffers.append(Buffer(f"x{k}", v.dtype.code))
        arrays[f"x{k}"] = stands
        inputs.append((f"x{k}", buffers[values.index(base)].name, v.dtype.code))
    outputs = []
    for k, v in enumerate(node.outputs):
        arrays[f"out{k}"] = result(context, v)
        values.append(v)
        buffers.append(Buffer(f"out{k}", v.dtype.code, True))
        outputs.append((f"out{k}", v.dtype.code))
    lines = Lines(tuple(node.values[0].shape), op.axis, arrays)
    code = node.values[0].dtype.code
    rule = rule_of(op, COMPUTE.get(code, code))
    walk = _Walk(lines, rule, inputs, outputs)
    loop, grid = walk.columns() if lines.lanes > 1 else walk.rows()
    kernel = Kernel(context.title, tuple(buffers), (loop,), (), const(grid))
    size = node.values[0].aval.size
    work = 40 * size if rule.costly else 2 * size
    return [Step(kernel, values, parallel=hint(work) > 65536, flops=size)]


@dataclass
class _Walk:
    lines: Lines
    rule: Rule
    inputs: list[tuple[str, str, str]]
    outputs: list[tuple[str, str]]

    def advance(self, i: Expr, slot: Expr, lane: Expr | None, suffix: str = "") -> list[Stmt]:
        """One element of one line: what is carried is in Locals c0, c1, ..., at `slot`."""
        elements: list[Expr] = []
        stmts: list[Stmt] = []
        for k, (array, buffer, code) in enumerate(self.inputs):
            compute = COMPUTE.get(code, code)
            load = Load(buffer, self.lines.at(array, i, lane, suffix), code)
            stmts.append(Let(f"v{k}", s.cast(load, compute)))
            elements.append(Var(f"v{k}", compute))
        if isinstance(i, Const):
            made = self.rule.start(*elements)
        else:
            before = [Load(f"c{k}", slot, code) for k, code in enumerate(self.rule.carried)]
            made = self.rule.step(tuple(before), *elements, i)
        for k, e in enumerate(made):
            stmts.append(Let(f"n{k}", e))
        for k, code in enumerate(self.rule.carried):
            stmts.append(Store(f"c{k}", slot, Var(f"n{k}", code)))
        for k, (array, code) in enumerate(self.outputs):
            value = s.cast(Var(f"n{k}", self.rule.carried[k]), code)
            stmts.append(Store(array, self.lines.at(array, i, lane, suffix), value))
        return stmts

    def locals(self, size: int) -> list[Stmt]:
        return [Local(f"c{k}", code, size) for k, code in enumerate(self.rule.carried)]

    def columns(self) -> tuple[Stmt, int]:
        lines = self.lines
        widest = 8 if {"f64", "i64", "u64"} & set(self.rule.carried) else 4
        block = lane_block(lines.lanes, widest * len(self.rule.carried))
        blocks = -(-lines.lanes // block)

        def step(i: Expr) -> Loop:
            lane = Var("first") + Var("j")
            body = tuple(self.advance(i, Var("j"), lane))
            return Loop("j", const(0), const(block), body, "vector")

        def body(row: Expr) -> list[Stmt]:
            return [
                *lines.places(row // blocks),
                Let("first", block_start(lines.lanes, block, row % blocks)),
                *self.locals(block),
                step(const(0)),
                Loop("i", const(1), const(lines.length), (step(Var("i")),)),
            ]

        return chunks_of(lines.count * blocks, lines.length * block, body)

    def rows(self) -> tuple[Stmt, int]:
        lines = self.lines
        together = min(ROWS, lines.count)
        groups = -(-lines.count // together)

        def each(i: Expr) -> list[Stmt]:
            if self.rule.costly:  # lanes: rows, whose elements are gathered
                places = lines.places(Var("first") + Var("r"))
                body = (*places, *self.advance(i, Var("r"), None))
                return [Loop("r", const(0), const(together), body, "vector")]
            stmts: list[Stmt] = []
            for r in range(together):
                stmts += self.advance(i, const(r), None, str(r))
            return stmts

        def body(group: Expr) -> list[Stmt]:
            first = block_start(lines.count, together, group)
            stmts: list[Stmt] = [Let("first", first), *self.locals(together)]
            if not self.rule.costly:
                for r in range(together):
                    stmts += lines.places(Var("first") + r, str(r))
            stmts += each(const(0))
            stmts.append(Loop("i", const(1), const(lines.length), tuple(each(Var("i")))))
            return stmts

        return chunks_of(groups, lines.length * together, body)
