"""Kernels as text for a person: `str_kernel(kernel)` prints one statement a line.

    kernel scale(x: f32, out: f32 written) sizes(n) grid(1)
      vector for i in 0 .. n
        out[i] = x[i] * 2.0

Relies on ir.py. The text is for reading (mg.explain, error messages, tests); it is not parsed back.
"""

from __future__ import annotations

from dataclasses import replace

from .ir import Const, Expr, If, Kernel, Let, Load, Local, Loop, Prefetch, Reduce, Stmt, Store, Var

INFIX = {
    "add": ("+", 6), "sub": ("-", 6), "mul": ("*", 7), "div": ("/", 7), "rem": ("%", 7),
    "shl": ("<<", 5), "shr": (">>", 5), "and": ("&", 4), "xor": ("^", 3), "or": ("|", 2),
    "eq": ("==", 1), "ne": ("!=", 1), "lt": ("<", 1), "le": ("<=", 1), "gt": (">", 1),
    "ge": (">=", 1),
}  # fmt: skip


def str_expr(expr: Expr, outer: int = 0) -> str:
    """One expression, with parentheses only where the reader needs them."""
    if isinstance(expr, Const):
        text = repr(expr.value)
        default = "f32" if isinstance(expr.value, float) else "i64"
        if isinstance(expr.value, bool) or expr.dtype == default:
            return text
        return f"{text}:{expr.dtype}"
    if isinstance(expr, Var):
        return expr.name
    if isinstance(expr, Load):
        mask = "" if expr.mask is None else f" where {str_expr(expr.mask)}"
        return f"{expr.buffer}[{str_expr(expr.index)}{mask}]"
    if expr.op in INFIX and len(expr.args) == 2:
        sign, level = INFIX[expr.op]
        x, y = expr.args
        text = f"{str_expr(x, level)} {sign} {str_expr(y, level + 1)}"
        return f"({text})" if level < outer else text
    if expr.op in ("cast", "bitcast"):
        name = expr.dtype if expr.op == "cast" else f"bits_{expr.dtype}"
        return f"{name}({str_expr(expr.args[0])})"
    return f"{expr.op}({', '.join(str_expr(x) for x in expr.args)})"


def _lines(body: tuple[Stmt, ...], indent: int) -> list[str]:
    pad = "  " * indent
    lines: list[str] = []
    for stmt in body:
        if isinstance(stmt, Let):
            lines.append(f"{pad}{stmt.name} = {str_expr(stmt.value)}")
        elif isinstance(stmt, Local):
            lines.append(f"{pad}local {stmt.name}: {stmt.dtype}[{stmt.size}]")
        elif isinstance(stmt, Store):
            where = "" if stmt.mask is None else f" where {str_expr(stmt.mask)}"
            lines.append(
                f"{pad}{stmt.buffer}[{str_expr(stmt.index)}] = {str_expr(stmt.value)}{where}"
            )
        elif isinstance(stmt, Reduce):
            place = f"{stmt.buffer}[{str_expr(stmt.index)}]"
            lines.append(f"{pad}{place} {stmt.op}= {str_expr(stmt.value)}")
        elif isinstance(stmt, Prefetch):
            lines.append(f"{pad}prefetch {stmt.buffer}[{str_expr(stmt.index)}]")
        elif isinstance(stmt, Loop):
            kind = "" if stmt.kind == "serial" else stmt.kind + " "
            step = "" if stmt.step == 1 else f" step {stmt.step}"
            span = f"{str_expr(stmt.start)} .. {str_expr(stmt.stop)}{step}"
            lines.append(f"{pad}{kind}for {stmt.var} in {span}")
            lines += _lines(stmt.body, indent + 1)
        elif isinstance(stmt, If):
            lines.append(f"{pad}if {str_expr(stmt.cond)}")
            lines += _lines(stmt.then, indent + 1)
            if stmt.orelse:
                lines.append(f"{pad}else")
                lines += _lines(stmt.orelse, indent + 1)
        else:
            raise TypeError(f"not a statement of the loop language: {stmt!r}")
    return lines


def str_stmt(stmt: Stmt) -> str:
    """The first line of a statement (a loop without its body)."""
    if isinstance(stmt, Loop):
        stmt = replace(stmt, body=())
    elif isinstance(stmt, If):
        stmt = replace(stmt, then=(), orelse=())
    return _lines((stmt,), 0)[0]


def str_kernel(kernel: Kernel) -> str:
    """The whole kernel, one statement a line."""
    buffers = ", ".join(
        f"{b.name}: {b.dtype}{' written' if b.written else ''}" for b in kernel.buffers
    )
    sizes = f" sizes({', '.join(kernel.sizes)})" if kernel.sizes else ""
    head = f"kernel {kernel.name}({buffers}){sizes} grid({str_expr(kernel.grid)})"
    return "\n".join([head, *_lines(kernel.body, 1)]) + "\n"
