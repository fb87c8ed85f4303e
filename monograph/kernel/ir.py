"""The loop language: what every kernel is written in before it becomes machine code.

The whole grammar is on this screen. Expressions are scalar and typed by a dtype name; a loop's
`kind` says how it runs (in turn, unrolled, or as vector lanes), so one scalar program serves every
width and target. Relies on nothing. Read next: printer.py, evaluate.py (the slow meaning), and
codegen/llvm.py (the fast one).

    expr  = Const | Var | Load | Call
    stmt  = Let | Local | Store | Reduce | Prefetch | Loop | If
    kernel = name, buffers, sizes, grid, body
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Union

# dtype names: "bool" "i8" "u8" "i16" "u16" "i32" "u32" "i64" "u64" "f16" "bf16" "f32" "f64".
# f16 and bf16 are storage types: Load and Store them, but compute in f32 (Call "cast").

# The closed set of scalar operations. Every target implements these and nothing else.
# All are total: integers wrap, division by zero gives 0, shifting by too much gives 0 or the sign.
#   arithmetic  add sub mul div rem neg abs fma(x, y, z) = x*y + z     rem: sign of the dividend (C)
#               (fma rounds the product too where the target has no fma instruction)
#   rounding    floor ceil trunc round (half to even) sqrt
#   choice      min max (nan wins, as NumPy) select(cond, x, y)
#   comparison  eq ne lt le gt ge -> "bool"                             (nan: only ne is true)
#   logic/bits  and or xor not shl shr (arithmetic for signed) mulhi (u32: high half of the product)
#   conversion  cast (value) bitcast (same size, bits kept)             cast float->int truncates;
#               f64 and integers become f16 and bf16 through f32
SCALAR_OPS: dict[str, int] = {
    "add": 2, "sub": 2, "mul": 2, "div": 2, "rem": 2, "neg": 1, "abs": 1, "fma": 3,
    "floor": 1, "ceil": 1, "trunc": 1, "round": 1, "sqrt": 1,
    "min": 2, "max": 2, "select": 3,
    "eq": 2, "ne": 2, "lt": 2, "le": 2, "gt": 2, "ge": 2,
    "and": 2, "or": 2, "xor": 2, "not": 1, "shl": 2, "shr": 2, "mulhi": 2,
    "cast": 1, "bitcast": 1,
}  # fmt: skip


class _Arithmetic:
    """Python operators build Calls, so that scalar rules read as formulas (see scalar.py)."""

    dtype: str

    # fmt: off
    def __add__(self, y): return _binary("add", self, y)
    def __radd__(self, y): return _binary("add", y, self)
    def __sub__(self, y): return _binary("sub", self, y)
    def __rsub__(self, y): return _binary("sub", y, self)
    def __mul__(self, y): return _binary("mul", self, y)
    def __rmul__(self, y): return _binary("mul", y, self)
    def __truediv__(self, y): return _binary("div", self, y)
    def __rtruediv__(self, y): return _binary("div", y, self)
    def __mod__(self, y): return _binary("rem", self, y)
    def __floordiv__(self, y): return _binary("div", self, y)  # index arithmetic: non-negative
    def __neg__(self): return Call("neg", (self,), self.dtype)  # type: ignore[arg-type]
    def __and__(self, y): return _binary("and", self, y)
    def __or__(self, y): return _binary("or", self, y)
    def __xor__(self, y): return _binary("xor", self, y)
    def __lshift__(self, y): return _binary("shl", self, y)
    def __rshift__(self, y): return _binary("shr", self, y)
    def __lt__(self, y): return _binary("lt", self, y)
    def __le__(self, y): return _binary("le", self, y)
    def __gt__(self, y): return _binary("gt", self, y)
    def __ge__(self, y): return _binary("ge", self, y)
    # fmt: on
    # eq and ne stay structural equality: write s.eq(x, y), s.ne(x, y).


@dataclass(frozen=True, slots=True)
class Const(_Arithmetic):
    value: Any  # Python bool, int or float; a run-time size until parameters.py names it
    dtype: str


@dataclass(frozen=True, slots=True)
class Var(_Arithmetic):
    """A loop index ("i64"), a run-time size ("i64"), a Let name, or the chunk number."""

    name: str
    dtype: str = "i64"


@dataclass(frozen=True, slots=True)
class Load(_Arithmetic):
    """buffer[index]; `index` is in elements of the flat buffer. Where `mask` is false: 0."""

    buffer: str
    index: Expr
    dtype: str
    mask: Expr | None = None


@dataclass(frozen=True, slots=True)
class Call(_Arithmetic):
    op: str
    args: tuple[Expr, ...]
    dtype: str


Expr = Union[Const, Var, Load, Call]  # noqa: UP007  (names defined above, read as a grammar)


@dataclass(frozen=True, slots=True)
class Let:
    """Name a value: evaluated once here, visible to the end of the enclosing body."""

    name: str
    value: Expr


@dataclass(frozen=True, slots=True)
class Local:
    """A small array private to this run of the enclosing body (registers or stack), not zeroed."""

    name: str
    dtype: str
    size: int


@dataclass(frozen=True, slots=True)
class Store:
    """buffer[index] = value; nothing happens where `mask` is false."""

    buffer: str
    index: Expr
    value: Expr
    mask: Expr | None = None


@dataclass(frozen=True, slots=True)
class Reduce:
    """buffer[index] = op(buffer[index], value) for op in add, mul, min, max, and, or.

    Inside a vector loop whose variable `index` does not use, lanes are combined in a fixed tree
    (and the loop may not read that place otherwise). Adding a product is contracted to fma.
    """

    op: str
    buffer: str
    index: Expr
    value: Expr


@dataclass(frozen=True, slots=True)
class Prefetch:
    """A hint that buffer[index] will soon be read, or written where the kernel writes that buffer.

    No effect, and no condition on the index.
    """

    buffer: str
    index: Expr


@dataclass(frozen=True, slots=True)
class Loop:
    """for var in range(start, stop, step): body.

    kind "serial"  in turn
         "unroll"  start, stop, step constant; the body is repeated
         "vector"  lanes: iterations are independent but for Reduce; step is 1; the code generator
                   picks the width, and handles what is left over with a mask
    """

    var: str
    start: Expr
    stop: Expr
    body: tuple[Stmt, ...]
    kind: str = "serial"
    step: int = 1


@dataclass(frozen=True, slots=True)
class If:
    cond: Expr  # scalar: must not depend on a vector loop's variable (use masks or select there)
    then: tuple[Stmt, ...]
    orelse: tuple[Stmt, ...] = ()


Stmt = Union[Let, Local, Store, Reduce, Prefetch, Loop, If]  # noqa: UP007


@dataclass(frozen=True, slots=True)
class Buffer:
    """Distinct buffers of a kernel never overlap: an in-place update uses one buffer for both."""

    name: str
    dtype: str
    written: bool = False


@dataclass(frozen=True, slots=True)
class Kernel:
    """One native function: void name(void **buffers, const int64 *sizes, int64 first, int64 last).

    `body` runs once for each chunk number in [first, last), bound to Var("chunk"); `grid` is how
    many chunks there are (an expression in the sizes). Chunks are independent: any thread may run
    any of them in any order, and the result does not depend on how many threads there are.
    """

    name: str
    buffers: tuple[Buffer, ...]
    body: tuple[Stmt, ...]
    sizes: tuple[str, ...] = ()
    grid: Expr = field(default_factory=lambda: Const(1, "i64"))
    digest: str = field(default="", init=False, compare=False, repr=False)  # once known: digest.py


_COMPARISONS = {"eq", "ne", "lt", "le", "gt", "ge"}


def _binary(op: str, x: Any, y: Any) -> Expr:
    """Call(op, x, y) where a Python number takes the other's dtype; folds index constants."""
    dtype = x.dtype if isinstance(x, _Arithmetic) else y.dtype
    x = x if isinstance(x, _Arithmetic) else Const(x, dtype)
    y = y if isinstance(y, _Arithmetic) else Const(y, dtype)
    if dtype == "i64":
        folded = _fold(op, x, y)
        if folded is not None:
            return folded
    return Call(op, (x, y), "bool" if op in _COMPARISONS else dtype)  # type: ignore[arg-type]


def _fold(op: str, x: Any, y: Any) -> Expr | None:
    """Constant and neutral-element folding of i64; results wrap as the machine's do."""
    if isinstance(x, Const) and isinstance(y, Const):
        a, b = x.value, y.value
        table = {"add": a + b, "sub": a - b, "mul": a * b}
        if op in table:
            value = table[op]
            return Const((value + 2**63) % 2**64 - 2**63 if type(value) is int else value, "i64")
        if op in ("div", "rem") and b > 0 and a >= 0:
            return Const(a // b if op == "div" else a % b, "i64")
    zero_x = isinstance(x, Const) and x.value == 0
    zero_y = isinstance(y, Const) and y.value == 0
    if op == "add" and zero_x:
        return y
    if op in ("add", "sub") and zero_y:
        return x
    if op == "mul" and (zero_x or zero_y):
        return Const(0, "i64")
    if op in ("mul", "div") and isinstance(y, Const) and y.value == 1:
        return x
    if op == "mul" and isinstance(x, Const) and x.value == 1:
        return y
    if op == "rem" and isinstance(y, Const) and y.value == 1:
        return Const(0, "i64")
    return None
