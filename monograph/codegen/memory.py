"""Values, index polynomials, loads and stores: the part of the writer below statements.

Indices become polynomials (polynomial.py), so that a vector loop sees the stride of every access:
stride one is a vector load, stride zero a scalar load, anything else a gather. Base: builder.py.
Read next: llvm.py.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..kernel.checker import FLOATS, KernelError
from ..kernel.ir import Call, Const, Expr, Kernel, Load, Var
from . import polynomial as poly
from . import scalars
from .builder import BYTES, MEMORY, Builder, Value
from .polynomial import Polynomial
from .target import Target

LANE = "lane"  # the atom that is 0, 1, 2, ... across the lanes of the vector loop being written
MAX_STEP = 4  # loads of every second to fourth element are shuffled from whole ones
_FLIPPED = {"lt": "gt", "le": "ge", "gt": "lt", "ge": "le"}
_INDEX_OPS = {"add", "sub", "mul", "neg", "div", "rem"}


@dataclass(frozen=True, slots=True)
class Array:
    """Where a buffer or Local lives.

    An inner array is declared inside a vector loop; with lanes it is private: one element per lane.
    """

    pointer: Value
    dtype: str
    written: bool
    local: bool = False
    inner: bool = False
    private: bool = False


@dataclass(slots=True)
class Lanes:
    """The vector loop being written: how many lanes and, in a tail, which are alive."""

    width: int
    mask: Value | None
    depth: int  # region depth outside of the loop: what lies deeper may differ by iteration


class MemoryWriter(Builder):
    """A Builder that knows the kernel's names."""

    def __init__(self, kernel: Kernel, target: Target):
        super().__init__()
        self.kernel, self.target = kernel, target
        self.arrays: dict[str, Array] = {}
        self.indices: dict[str, Polynomial] = {}  # names that are index arithmetic
        self.values: dict[str, Value] = {}  # names that are other values
        self.atoms: dict[str, Value] = {LANE: Value(LANE, "i64", True, 0, True)}
        self.lanes: Lanes | None = None
        self.value_memo: dict[int, Value] = {}
        self.index_memo: dict[int, Polynomial] = {}
        self.pure_memo: dict[int, bool] = {}

    def forget(self) -> None:
        """Between statements: memory or names may have changed."""
        self.value_memo, self.index_memo, self.pure_memo = {}, {}, {}

    # -- index arithmetic ------------------------------------------------------------------------

    def atom(self, value: Value) -> Polynomial:
        self.atoms[value.text] = value
        return poly.atom(value.text)

    def is_index(self, expr: Expr) -> bool:
        """Whether an i64 expression is index arithmetic (never overflows, no loads)."""
        key = id(expr)
        found = self.pure_memo.get(key)
        if found is None:
            if isinstance(expr, Const):
                found = True
            elif isinstance(expr, Var):
                found = expr.name in self.indices
            elif isinstance(expr, Call):
                found = (
                    expr.dtype == "i64"
                    and expr.op in _INDEX_OPS
                    and all(self.is_index(x) for x in expr.args)
                )
            else:
                found = False
            self.pure_memo[key] = found
        return found

    def is_bound(self, expr: Expr) -> bool:
        """Whether an expression is the smaller or the larger of two indices."""
        return (
            isinstance(expr, Call)
            and expr.dtype == "i64"
            and expr.op in ("min", "max")
            and all(self.is_index(x) for x in expr.args)
        )

    def index(self, expr: Expr) -> Polynomial:
        key = id(expr)
        found = self.index_memo.get(key)
        if found is None:
            found = self.index_memo[key] = self.compute_index(expr)
        return found

    def compute_index(self, expr: Expr) -> Polynomial:
        if isinstance(expr, Const):
            return poly.constant(int(expr.value))
        if isinstance(expr, Var) and expr.name in self.indices:
            return self.indices[expr.name]
        if isinstance(expr, Call) and expr.dtype == "i64":
            if expr.op in ("add", "sub"):
                x, y = (self.index(a) for a in expr.args)
                return poly.add(x, y, 1 if expr.op == "add" else -1)
            if expr.op == "neg":
                return poly.add({}, self.index(expr.args[0]), -1)
            if expr.op == "mul":
                x, y = (self.index(a) for a in expr.args)
                product = poly.multiply(x, y)
                if product is not None:
                    return product
            if expr.op in ("div", "rem") and all(self.is_index(a) for a in expr.args):
                return self.index_division(expr.op, *(self.index(a) for a in expr.args))
        return self.atom(self.value(expr))

    def is_nonnegative(self, x: Polynomial) -> bool:
        return all(
            c >= 0 and all(self.atoms[name].nonnegative for name in monomial)
            for monomial, c in x.items()
        )

    def index_division(self, op: str, x: Polynomial, y: Polynomial) -> Polynomial:
        nonnegative = self.is_nonnegative(x)
        divisor = poly.as_constant(y)
        if divisor is not None and divisor > 0:
            known = poly.as_constant(x)
            if known is not None:
                quotient = abs(known) // divisor * (1 if known >= 0 else -1)
                return poly.constant(quotient if op == "div" else known - quotient * divisor)
            # Terms that the divisor divides leave the division, where the rest cannot be negative.
            whole = {m: c // divisor for m, c in x.items() if c % divisor == 0}
            rest = {m: c for m, c in x.items() if c % divisor}
            if nonnegative and whole:
                quotient_of_rest = self.index_division("div", rest, y) if rest else {}
                if op == "div":
                    return poly.add(whole, quotient_of_rest)
                return self.index_division("rem", rest, y) if rest else {}
            if nonnegative and poly.as_constant(x) is None and set(rest) == {()}:
                return {}
        if divisor == 0:
            raise KernelError(f"kernel {self.kernel.name}: index arithmetic divides by zero")
        a, b = self.materialize(x), self.materialize(y)
        lanes = a.lanes or b.lanes
        if lanes:
            a, b = self.splat(a), self.splat(b)
        sign = "u" if nonnegative and self.is_nonnegative(y) else "s"
        kind = self.type("i64", lanes)
        text = f"{sign}{op} {kind} {a.text}, {b.text}"
        value = self.pure(text, "i64", (a, b), lanes, risky=divisor is None)
        value = Value(value.text, "i64", lanes, value.depth, nonnegative)
        return self.atom(value)

    def is_uniform(self, x: Polynomial) -> bool:
        """Whether x is the same in all lanes."""
        return not any(self.atoms[name].lanes for monomial in x for name in monomial)

    def by_depth(self, x: Polynomial) -> list[Polynomial]:
        """x as a sum, outermost values first, so that partial sums leave inner loops."""
        groups: dict[int, Polynomial] = {}
        for monomial, c in x.items():
            depth = max((self.atoms[name].depth for name in monomial), default=-1)
            groups.setdefault(depth, {})[monomial] = c
        return [groups[depth] for depth in sorted(groups)]

    def monomial(self, monomial: tuple[str, ...], c: int) -> Value:
        factors = sorted((self.atoms[name] for name in monomial), key=lambda v: v.depth)
        total: Value | None = None
        for factor in factors:
            if factor.text == LANE:
                factor = self.lane_numbers()
            total = factor if total is None else self.arithmetic("mul", total, factor)
        if total is None:
            return self.constant(c, "i64")
        if c == 1:
            return total
        return self.arithmetic("mul", total, self.constant(c, "i64"))

    def arithmetic(self, op: str, x: Value, y: Value) -> Value:
        """i64 index arithmetic, which never overflows (nsw)."""
        lanes = x.lanes or y.lanes
        if lanes:
            x, y = self.splat(x), self.splat(y)
        text = f"{op} nsw {self.type('i64', lanes)} {x.text}, {y.text}"
        value = self.pure(text, "i64", (x, y), lanes)
        return Value(value.text, "i64", lanes, value.depth, x.nonnegative and y.nonnegative)

    def lane_numbers(self, dtype: str = "i64") -> Value:
        items = ", ".join(f"{dtype} {i}" for i in range(self.width))
        return Value(f"<{items}>", "i64", True, 0, True)

    def materialize(self, x: Polynomial) -> Value:
        """The value of a polynomial: scalar if uniform, else lanes."""
        known = poly.as_constant(x)
        if known is not None:
            return self.constant(known, "i64")
        total: Value | None = None
        uniform = {m: c for m, c in x.items() if self.is_uniform({m: c})}
        varying = {m: c for m, c in x.items() if m not in uniform}
        for group in [*self.by_depth(uniform), *self.by_depth(varying)]:
            for m, c in sorted(group.items()):
                negative = c < 0 and total is not None
                term = self.monomial(m, -c if negative else c)
                if total is None:
                    total = term
                else:
                    total = self.arithmetic("sub" if negative else "add", total, term)
        assert total is not None
        nonnegative = self.is_nonnegative(x)
        return Value(total.text, "i64", total.lanes, total.depth, nonnegative)

    def address(self, array: Array, x: Polynomial) -> Value:
        """A pointer to element x of an array; x is uniform."""
        kind = MEMORY[array.dtype]
        if array.private:
            kind = f"<{self.width} x {kind}>"
        pointer = array.pointer
        constant = x.get((), 0)
        for group in self.by_depth({m: c for m, c in x.items() if m}):
            offset = self.materialize(group)
            pointer = self.offset(kind, pointer, offset)
        if constant:
            pointer = self.offset(kind, pointer, self.constant(constant, "i64"))
        return pointer

    def offset(self, kind: str, pointer: Value, offset: Value) -> Value:
        text = f"getelementptr {kind}, ptr {pointer.text}, i64 {offset.text}"
        return self.pure(text, "i64", (pointer, offset), False)

    # -- values ----------------------------------------------------------------------------------

    def value(self, expr: Expr) -> Value:
        key = id(expr)
        found = self.value_memo.get(key)
        if found is None:
            found = self.value_memo[key] = self.compute_value(expr)
        return found

    def compute_value(self, expr: Expr) -> Value:
        if isinstance(expr, Const):
            return self.constant(expr.value, expr.dtype)
        if isinstance(expr, Var):
            if expr.name in self.values:
                return self.values[expr.name]
            return self.materialize(self.indices[expr.name])
        if isinstance(expr, Load):
            return self.load(expr)
        if expr.dtype == "i64" and self.is_index(expr):
            return self.materialize(self.index(expr))
        if expr.op in _FLIPPED and self.lanes is not None and self.width > 1:
            mask = self.lane_comparison(expr)
            if mask is not None:
                return mask
        return scalars.call(
            self, self.target, expr.op, [self.value(x) for x in expr.args], expr.dtype
        )

    def lane_comparison(self, expr: Call) -> Value | None:
        """A comparison of indices that differ by one per lane, done on small lane numbers."""
        x, y = expr.args
        if x.dtype != "i64" or not (self.is_index(x) and self.is_index(y)):
            return None
        rest, stride, affine = poly.split(poly.add(self.index(x), self.index(y), -1), LANE)
        step = poly.as_constant(stride)
        if not affine or step not in (1, -1) or not self.is_uniform(rest):
            return None
        # lane + rest (op) 0, or rest - lane (op) 0: the lane number against a limit.
        op = expr.op if step == 1 else _FLIPPED[expr.op]
        limit = poly.multiply(rest, poly.constant(-step))
        assert limit is not None
        if op in ("le", "gt"):
            limit = poly.add(limit, poly.constant(1))
        return self.lanes_before(self.materialize(limit), op in ("ge", "gt"))

    def lanes_before(self, limit: Value, negate: bool = False) -> Value:
        """Lanes whose number is less than a limit (negate: not less), in narrow integers."""

        def call(op: str, *args: Value, dtype: str) -> Value:
            return scalars.call(self, self.target, op, args, dtype)

        bits = min(64, max(8, self.target.vector_bytes * 8 // self.width))
        limit = call("max", limit, self.constant(0, "i64"), dtype="i64")
        limit = call("min", limit, self.constant(self.width, "i64"), dtype="i64")
        narrow = call("cast", limit, dtype=f"i{bits}")
        lanes = self.lane_numbers(narrow.dtype)
        lanes = Value(lanes.text, narrow.dtype, True)
        return call("ge" if negate else "lt", lanes, narrow, dtype="bool")

    # -- memory ----------------------------------------------------------------------------------

    def place(self, array: Array, x: Polynomial) -> tuple[str, Polynomial]:
        """How lanes reach memory (scalar, vector, reverse or scatter), and the first place."""
        if self.is_uniform(x):
            return ("vector" if array.private else "scalar"), x
        if array.private:
            return "scatter", x
        rest, stride, affine = poly.split(x, LANE)
        if affine and self.is_uniform(rest):
            known = poly.as_constant(stride)
            if known == 1:
                return "vector", rest
            if known == -1:
                return "reverse", poly.add(rest, poly.constant(self.width - 1), -1)
        return "scatter", x

    def live(self, mask: Value | None, array: Array) -> Value | None:
        """The given mask and the tail's: a vector mask, a scalar one, or None."""
        tail = self.lanes.mask if self.lanes is not None and not array.private else None
        if tail is None:
            return mask
        if mask is None:
            return tail
        return scalars.call(self, self.target, "and", [mask, tail], "bool")

    def load(self, expr: Load) -> Value:
        array = self.arrays[expr.buffer]
        mask = None if expr.mask is None else self.value(expr.mask)
        return self.load_at(array, self.index(expr.index), mask)

    def load_at(self, array: Array, x: Polynomial, mask: Value | None = None) -> Value:
        how, base = self.place(array, x)
        if how == "scalar":
            if mask is not None and mask.lanes:
                # Lanes share the element, but it may be read only if a lane is alive.
                lane_mask = self.live(mask, array)
                assert lane_mask is not None
                alive = self.any_lane(lane_mask)
                one = self.load_scalar(array, base, alive)
                zero = self.constant(0, array.dtype)
                return scalars.call(self, self.target, "select", [mask, one, zero], array.dtype)
            return self.load_scalar(array, base, mask)
        if how == "scatter":
            live = self.live(mask, array)
            step = self.constant_step(base)
            if live is None and not array.private and step is not None and abs(step) <= MAX_STEP:
                return self.load_strided(array, base, step)
            return self.gather(array, base, live)
        # Lanes behind the end of a loop are neither stored nor summed, and locals are padded.
        whole = mask is None and array.local and array.dtype in FLOATS
        mask = None if whole else self.live(mask, array)
        value = self.load_vector(array, base, mask, reverse=how == "reverse")
        return self.reversed(value) if how == "reverse" else value

    def read(self, array: Array, text: str, dtype: str, lanes: bool, *operands: Value) -> Value:
        """A load: shared and moved out of loops where the memory never changes."""
        if array.written:
            return self.here(text, dtype, lanes)
        return self.pure(text, dtype, operands, lanes, risky=True)

    def load_scalar(self, array: Array, x: Polynomial, mask: Value | None) -> Value:
        pointer = self.address(array, x)
        kind, dtype = MEMORY[array.dtype], array.dtype
        if mask is not None and mask.text != "true":
            self.declarations["@zeros"] = "@zeros = private constant [8 x i64] zeroinitializer"
            text = f"select i1 {mask.text}, ptr {pointer.text}, ptr @zeros"
            pointer = self.pure(text, "i64", (mask, pointer), False)
        text = f"load {kind}, ptr {pointer.text}, align {BYTES[dtype]}"
        raw = self.read(array, text, dtype, False, pointer)
        return self.from_memory(raw)

    def from_memory(self, raw: Value) -> Value:
        if raw.dtype != "bool":
            return raw
        kind = f"<{self.width} x i8>" if raw.lanes else "i8"
        zero = "zeroinitializer" if raw.lanes else "0"
        return self.pure(f"icmp ne {kind} {raw.text}, {zero}", "bool", (raw,), raw.lanes)

    def to_memory(self, value: Value) -> Value:
        if value.dtype != "bool":
            return value
        kind = f"<{self.width} x i8>" if value.lanes else "i8"
        source = self.type("bool", value.lanes)
        return self.pure(f"zext {source} {value.text} to {kind}", "bool", (value,), value.lanes)

    def memory_type(self, array: Array, lanes: bool = True) -> str:
        kind = MEMORY[array.dtype]
        return f"<{self.width} x {kind}>" if lanes else kind

    def load_vector(
        self, array: Array, x: Polynomial, mask: Value | None, reverse: bool = False
    ) -> Value:
        pointer = self.address(array, x)
        kind, dtype = self.memory_type(array), array.dtype
        if reverse and mask is not None:
            mask = self.reversed(self.splat(mask))
        plain = f"load {kind}, ptr {pointer.text}, align {BYTES[dtype]}"
        if mask is None:
            return self.from_memory(self.read(array, plain, dtype, True, pointer))
        if array.local:  # padded, so whole vectors may be read; then choose
            value = self.from_memory(self.read(array, plain, dtype, True, pointer))
            zero = self.constant(0, dtype)
            return scalars.call(self, self.target, "select", [mask, value, zero], dtype)
        mask = self.splat(mask)
        text = self.masked_call("load", kind, f"ptr {pointer.text}, i32 {BYTES[dtype]}", mask)
        return self.from_memory(self.read(array, text, dtype, True, pointer, mask))

    # Masked intrinsics are spelled as LLVM 20 does (alignment as an operand); 22 upgrades them.
    def masked_call(self, stem: str, kind: str, place: str, mask: Value) -> str:
        masks = f"<{self.width} x i1>"
        pointers = "ptr" if stem == "load" else f"<{self.width} x ptr>"
        suffix = f"v{self.width}{_suffix(kind)}." + ("p0" if stem == "load" else f"v{self.width}p0")
        name = self.intrinsic(f"masked.{stem}", suffix, kind, f"{pointers}, i32, {masks}, {kind}")
        return f"call {kind} {name}({place}, {masks} {mask.text}, {kind} zeroinitializer)"

    def pointers(self, array: Array, x: Polynomial) -> Value:
        """One pointer per lane."""
        kind = MEMORY[array.dtype]
        if array.private:
            scaled = poly.multiply(x, poly.constant(self.width))
            assert scaled is not None
            x = poly.add(scaled, poly.atom(LANE))
        uniform = {m: c for m, c in x.items() if self.is_uniform({m: c})}
        varying = {m: c for m, c in x.items() if m not in uniform}
        base = self.address(Array(array.pointer, array.dtype, True), uniform)
        offsets = self.materialize(varying)
        text = f"getelementptr {kind}, ptr {base.text}, {self.type('i64', True)} {offsets.text}"
        return self.pure(text, "i64", (base, offsets), True)

    def constant_step(self, x: Polynomial) -> int | None:
        """How many elements one lane is from the next, where that is a constant."""
        rest, stride, affine = poly.split(x, LANE)
        return poly.as_constant(stride) if affine and self.is_uniform(rest) else None

    def load_strided(self, array: Array, x: Polynomial, step: int) -> Value:
        """Every step-th element, by whole loads between the first and the last, and shuffles."""
        rest = poly.split(x, LANE)[0]
        width, span = self.width, abs(step) * (self.width - 1) + 1
        if step < 0:
            rest = poly.add(rest, poly.constant(span - 1), -1)
        wanted = [i * abs(step) for i in range(width)]
        if step < 0:
            wanted.reverse()
        starts = [*range(0, span - width, width), span - width]  # the last one ends at the span
        kind = self.type(array.dtype, True)
        total: Value | None = None
        for start in starts:
            part = self.load_vector(array, poly.add(rest, poly.constant(start)), None)
            inside = [start <= at < start + width for at in wanted]
            first = part if total is None else total
            order = ", ".join(
                f"i32 {(at - start) + (0 if total is None else width)}"
                if new
                else f"i32 {'poison' if total is None else lane}"
                for lane, (at, new) in enumerate(zip(wanted, inside))
            )
            text = (
                f"shufflevector {kind} {first.text}, {kind} {part.text}, <{width} x i32> <{order}>"
            )
            total = self.pure(text, array.dtype, (first, part), True)
        assert total is not None
        return total

    def gather(self, array: Array, x: Polynomial, mask: Value | None) -> Value:
        kind, dtype = self.memory_type(array), array.dtype
        pointers = self.pointers(array, x)
        live = self.splat(mask if mask is not None else self.constant(True, "bool"))
        place = f"<{self.width} x ptr> {pointers.text}, i32 {BYTES[dtype]}"
        text = self.masked_call("gather", kind, place, live)
        return self.from_memory(self.read(array, text, dtype, True, pointers, live))

    def reversed(self, value: Value) -> Value:
        kind = self.type(value.dtype, True)
        order = ", ".join(f"i32 {self.width - 1 - i}" for i in range(self.width))
        text = f"shufflevector {kind} {value.text}, {kind} poison, <{self.width} x i32> <{order}>"
        return self.pure(text, value.dtype, (value,), True)

    def any_lane(self, mask: Value) -> Value:
        name = self.intrinsic("vector.reduce.or", f"v{self.width}i1", "i1", f"<{self.width} x i1>")
        text = f"call i1 {name}(<{self.width} x i1> {mask.text})"
        return self.pure(text, "bool", (mask,), False)

    def store_at(self, array: Array, x: Polynomial, value: Value, mask: Value | None) -> None:
        how, base = self.place(array, x)
        align = BYTES[array.dtype]
        if how == "scalar":
            if value.lanes or (mask is not None and mask.lanes):
                raise KernelError(
                    f"kernel {self.kernel.name}: a Store inside a vector loop writes different "
                    "values to one place; its index must use the loop's variable"
                )
            self.store_scalar(array, base, value, mask)
            return
        mask = self.live(mask, array)
        value = self.splat(value)
        kind = self.memory_type(array)
        if how == "scatter":
            pointers = self.pointers(array, base)
            live = self.splat(mask if mask is not None else self.constant(True, "bool"))
            masks = f"<{self.width} x i1>"
            places = f"<{self.width} x ptr>"
            name = self.intrinsic(
                "masked.scatter",
                f"v{self.width}{_suffix(kind)}.v{self.width}p0",
                "void",
                f"{kind}, {places}, i32, {masks}",
            )
            stored = self.to_memory(value)
            self.line(
                f"call void {name}({kind} {stored.text}, {places} {pointers.text}, i32 {align}, "
                f"{masks} {live.text})"
            )
            return
        if how == "reverse":
            value = self.reversed(value)
            mask = None if mask is None else self.reversed(self.splat(mask))
        pointer = self.address(array, base)
        if mask is not None and array.local:
            old = self.from_memory(
                self.here(f"load {kind}, ptr {pointer.text}, align {align}", array.dtype, True)
            )
            value = scalars.call(self, self.target, "select", [mask, value, old], array.dtype)
            mask = None
        stored = self.to_memory(value)
        if mask is None:
            self.line(f"store {kind} {stored.text}, ptr {pointer.text}, align {align}")
            return
        mask = self.splat(mask)
        masks = f"<{self.width} x i1>"
        suffix = f"v{self.width}{_suffix(kind)}.p0"
        name = self.intrinsic("masked.store", suffix, "void", f"{kind}, ptr, i32, {masks}")
        self.line(
            f"call void {name}({kind} {stored.text}, ptr {pointer.text}, i32 {align}, "
            f"{masks} {mask.text})"
        )

    def store_scalar(self, array: Array, x: Polynomial, value: Value, mask: Value | None) -> None:
        pointer = self.address(array, x)
        stored = self.to_memory(value)
        skip = None
        if mask is not None and mask.text != "true":
            store, skip = self.label("store"), self.label("skip")
            self.line(f"br i1 {mask.text}, label %{store}, label %{skip}")
            self.start_block(store)
        kind = MEMORY[array.dtype]
        self.line(f"store {kind} {stored.text}, ptr {pointer.text}, align {BYTES[array.dtype]}")
        if skip is not None:
            self.line(f"br label %{skip}")
            self.start_block(skip)


def _suffix(kind: str) -> str:
    element = kind[:-1].split(" x ")[1]
    return {"float": "f32", "double": "f64"}.get(element, element)
