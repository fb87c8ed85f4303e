"""Check a kernel before code is made of it: names, dtypes, and the few rules of ir.py.

`check(kernel)` raises KernelError naming the kernel, the statement and what was expected. Every
code generator and the slow evaluator may rely on what is checked here. Read next: evaluate.py.
"""

from __future__ import annotations

from .ir import (
    SCALAR_OPS,
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
from .printer import str_expr, str_stmt

INTEGERS = {"i8", "u8", "i16", "u16", "i32", "u32", "i64", "u64"}
FLOATS = {"f32", "f64"}
STORAGE = {"f16", "bf16"}
DTYPES = {"bool"} | INTEGERS | FLOATS | STORAGE
BITS = {
    "bool": 8, "i8": 8, "u8": 8, "i16": 16, "u16": 16, "f16": 16, "bf16": 16,
    "i32": 32, "u32": 32, "f32": 32, "i64": 64, "u64": 64, "f64": 64,
}  # fmt: skip
REDUCTIONS = {"add", "mul", "min", "max", "and", "or"}
KINDS = {"serial", "unroll", "vector"}

_NUMERIC = {"add", "sub", "mul", "div", "rem", "neg", "abs"}
_FLOAT_ONLY = {"fma", "floor", "ceil", "trunc", "round", "sqrt"}
_BITWISE = {"and", "or", "xor", "not"}
_SHIFTS = {"shl", "shr"}
_COMPARE = {"eq", "ne", "lt", "le", "gt", "ge"}


class KernelError(ValueError):
    """A kernel breaks a rule of the loop language; the message names the kernel and the place."""


def _brief(expr: Expr) -> str:
    text = str_expr(expr) if _depth_at_most(expr, 6) else type(expr).__name__
    return text if len(text) <= 120 else text[:117] + "..."


def _depth_at_most(expr: Expr, limit: int) -> bool:
    if limit == 0:
        return False
    below: tuple[Expr, ...] = ()
    if isinstance(expr, Call):
        below = expr.args
    elif isinstance(expr, Load):
        below = (expr.index,)
    return all(_depth_at_most(x, limit - 1) for x in below)


class _Checker:
    def __init__(self, kernel: Kernel):
        self.kernel = kernel
        self.place = "header"
        self.buffers = {b.name: (b.dtype, b.written) for b in kernel.buffers}
        self.names: dict[str, str] = dict.fromkeys(kernel.sizes, "i64")
        self.seen: set[int] = set()  # expressions are shared: look at each object once per place

    def fail(self, message: str) -> KernelError:
        return KernelError(f"kernel {self.kernel.name}: {self.place}: {message}")

    def run(self) -> None:
        kernel = self.kernel
        if not kernel.name or not kernel.name.replace("_", "a").replace(".", "a").isalnum():
            raise self.fail(f"a kernel's name must be letters, digits and _, got {kernel.name!r}")
        names = [b.name for b in kernel.buffers] + list(kernel.sizes)
        for name in names:
            if names.count(name) > 1:
                raise self.fail(f"the name {name!r} is given twice")
        for buffer in kernel.buffers:
            if buffer.dtype not in DTYPES:
                raise self.fail(f"buffer {buffer.name}: unknown dtype {buffer.dtype!r}")
        self.place = "grid"
        self.expect(kernel.grid, "i64")
        self.names["chunk"] = "i64"
        self.body(kernel.body)

    def expect(self, expr: Expr, dtype: str) -> None:
        self.expr(expr)
        if expr.dtype != dtype:
            raise self.fail(f"expected {dtype}, got {expr.dtype}: {_brief(expr)}")

    def expr(self, expr: Expr) -> None:
        if id(expr) in self.seen:
            return
        self.seen.add(id(expr))
        if isinstance(expr, Const):
            self.const(expr)
        elif isinstance(expr, Var):
            if expr.name not in self.names:
                known = ", ".join(sorted(self.names)) or "none"
                raise self.fail(f"{expr.name!r} is not defined here (defined: {known})")
            if self.names[expr.name] != expr.dtype:
                raise self.fail(f"{expr.name} is {self.names[expr.name]}, used as {expr.dtype}")
        elif isinstance(expr, Load):
            self.buffer(expr.buffer, expr.dtype)
            self.expect(expr.index, "i64")
            if expr.mask is not None:
                self.expect(expr.mask, "bool")
        elif isinstance(expr, Call):
            self.call(expr)
        else:
            raise self.fail(f"not an expression: {expr!r}")

    def const(self, expr: Const) -> None:
        if expr.dtype not in DTYPES:
            raise self.fail(f"constant {expr.value!r} has unknown dtype {expr.dtype!r}")
        if expr.dtype in INTEGERS:
            bits, signed = BITS[expr.dtype], expr.dtype[0] == "i"
            low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
            if isinstance(expr.value, float) and not expr.value.is_integer():
                raise self.fail(f"constant {expr.value!r} is not an integer, as {expr.dtype} needs")
            if not low <= expr.value <= high:
                raise self.fail(f"constant {expr.value!r} does not fit {expr.dtype}")

    def buffer(self, name: str, dtype: str, write: bool = False) -> None:
        if name not in self.buffers:
            known = ", ".join(self.buffers) or "none"
            raise self.fail(f"no buffer {name!r} here (there are: {known})")
        has, written = self.buffers[name]
        if has != dtype:
            raise self.fail(f"buffer {name} holds {has}, not {dtype}")
        if write and not written:
            raise self.fail(f"buffer {name} is written, but not declared so (written=True)")

    def call(self, expr: Call) -> None:
        op, args = expr.op, expr.args
        if op not in SCALAR_OPS:
            raise self.fail(f"unknown scalar operation {op!r}")
        if len(args) != SCALAR_OPS[op]:
            raise self.fail(f"{op} takes {SCALAR_OPS[op]} arguments, got {len(args)}")
        for x in args:
            self.expr(x)
        dtypes = [x.dtype for x in args]
        if op == "cast":
            if expr.dtype not in DTYPES:
                raise self.fail(f"cast to unknown dtype {expr.dtype!r}")
            return
        if op == "bitcast":
            if "bool" in (expr.dtype, dtypes[0]) or BITS[expr.dtype] != BITS[dtypes[0]]:
                raise self.fail(f"bitcast from {dtypes[0]} to {expr.dtype}: sizes differ")
            return
        result = dtypes[0]
        if op == "select":
            if dtypes[0] != "bool":
                raise self.fail(f"select's condition must be bool, got {dtypes[0]}")
            dtypes, result = dtypes[1:], dtypes[1]
        if len(set(dtypes)) > 1:
            raise self.fail(f"{op}: operands differ in dtype ({', '.join(dtypes)}): {_brief(expr)}")
        if op in _COMPARE:
            result = "bool"
        if expr.dtype != result:
            raise self.fail(f"{op} of {dtypes[0]} gives {result}, not {expr.dtype}")
        operand = dtypes[0]
        allowed = DTYPES
        if op in _NUMERIC or op in ("min", "max"):
            allowed = INTEGERS | FLOATS
            if op in ("min", "max"):
                allowed = allowed | {"bool"}
        elif op in _FLOAT_ONLY:
            allowed = FLOATS
        elif op in _BITWISE:
            allowed = INTEGERS | {"bool"}
        elif op in _SHIFTS:
            allowed = INTEGERS
        elif op == "mulhi":
            allowed = {"u32"}
        elif op in _COMPARE:
            allowed = INTEGERS | FLOATS | {"bool"}
        if operand not in allowed:
            hint = " (compute in f32: cast first)" if operand in STORAGE else ""
            raise self.fail(f"{op} is not defined for {operand}{hint}: {_brief(expr)}")

    def body(self, body: tuple[Stmt, ...]) -> None:
        names, buffers = dict(self.names), dict(self.buffers)
        for stmt in body:
            self.seen = set()
            self.place = "statement"
            if isinstance(stmt, (Loop, If)):
                self.place = str_stmt(stmt)[:80] if _small(stmt) else type(stmt).__name__
            elif _small(stmt):
                self.place = str_stmt(stmt)[:120]
            self.stmt(stmt)
        self.names, self.buffers = names, buffers

    def stmt(self, stmt: Stmt) -> None:
        if isinstance(stmt, Let):
            self.expr(stmt.value)
            self.names[stmt.name] = stmt.value.dtype
        elif isinstance(stmt, Local):
            if stmt.dtype not in DTYPES or stmt.size < 1:
                raise self.fail("a local array needs a known dtype and a size of at least 1")
            self.buffers[stmt.name] = (stmt.dtype, True)
        elif isinstance(stmt, Store):
            self.expr(stmt.value)
            self.buffer(stmt.buffer, stmt.value.dtype, write=True)
            self.expect(stmt.index, "i64")
            if stmt.mask is not None:
                self.expect(stmt.mask, "bool")
        elif isinstance(stmt, Reduce):
            if stmt.op not in REDUCTIONS:
                raise self.fail(f"{stmt.op!r} is not one of {', '.join(sorted(REDUCTIONS))}")
            self.expr(stmt.value)
            self.buffer(stmt.buffer, stmt.value.dtype, write=True)
            self.expect(stmt.index, "i64")
            bitwise = stmt.op in ("and", "or")
            allowed = INTEGERS | ({"bool"} if bitwise else FLOATS)
            if stmt.op in ("min", "max"):
                allowed = allowed | {"bool"}
            if stmt.value.dtype not in allowed:
                raise self.fail(f"cannot reduce {stmt.value.dtype} with {stmt.op}")
        elif isinstance(stmt, Prefetch):
            if stmt.buffer not in self.buffers:
                raise self.fail(f"no buffer is named {stmt.buffer!r}")
            self.expect(stmt.index, "i64")
        elif isinstance(stmt, Loop):
            self.loop(stmt)
        elif isinstance(stmt, If):
            self.expect(stmt.cond, "bool")
            self.body(stmt.then)
            self.body(stmt.orelse)
        else:
            raise self.fail(f"not a statement: {stmt!r}")

    def loop(self, stmt: Loop) -> None:
        if stmt.kind not in KINDS:
            raise self.fail(f"loop kind {stmt.kind!r} is not one of {', '.join(sorted(KINDS))}")
        self.expect(stmt.start, "i64")
        self.expect(stmt.stop, "i64")
        if stmt.step < 1:
            raise self.fail(f"a loop's step must be at least 1, got {stmt.step}")
        if stmt.kind == "vector" and stmt.step != 1:
            raise self.fail(f"a vector loop's step must be 1, got {stmt.step}")
        hidden = self.names.get(stmt.var)
        self.names[stmt.var] = "i64"
        self.body(stmt.body)
        del self.names[stmt.var]
        if hidden is not None:
            self.names[stmt.var] = hidden


def _small(stmt: Stmt) -> bool:
    """Whether printing a statement for an error place is cheap (shared expressions blow up)."""
    exprs: list[Expr] = []
    for name in ("value", "index", "cond", "start", "stop"):
        x = getattr(stmt, name, None)
        if x is not None:
            exprs.append(x)
    return all(_depth_at_most(x, 5) for x in exprs)


def check(kernel: Kernel) -> None:
    """Raise KernelError unless every name is defined, dtypes agree, and loops are well formed."""
    _Checker(kernel).run()
