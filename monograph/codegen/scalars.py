"""The closed set of scalar operations as LLVM instructions, for scalars and for lanes alike.

`call(builder, target, op, args, dtype)` is the only entry. Every operation is total: division by
zero gives 0 for integers, shifts by too much give 0 (or the sign), as evaluate.py says. Without
hardware fma the product is rounded; without F16C conversions use integer arithmetic.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..kernel.checker import BITS, FLOATS, INTEGERS, KernelError
from .builder import REGISTER, Builder, Value
from .target import Target

_FLOAT_BINARY = {"add": "fadd", "sub": "fsub", "mul": "fmul", "div": "fdiv", "rem": "frem"}
_INT_BINARY = {"add": "add", "sub": "sub", "mul": "mul", "and": "and", "or": "or", "xor": "xor"}
_ROUNDING = {"floor": "floor", "ceil": "ceil", "trunc": "trunc", "round": "roundeven"}
_FCMP = {"eq": "oeq", "ne": "une", "lt": "olt", "le": "ole", "gt": "ogt", "ge": "oge"}
_SUFFIX = {"float": "f32", "double": "f64"}


def is_signed(dtype: str) -> bool:
    return dtype[0] == "i"


def call(b: Builder, target: Target, op: str, args: Sequence[Value], dtype: str) -> Value:
    """One scalar operation; a vector if any operand is one."""
    return _Ops(b, target, any(x.lanes for x in args)).call(op, tuple(args), dtype)


class _Ops:
    def __init__(self, b: Builder, target: Target, lanes: bool):
        self.b, self.target, self.lanes = b, target, lanes

    def operand(self, x: Value) -> Value:
        return self.b.splat(x) if self.lanes else x

    def type(self, dtype: str) -> str:
        return self.b.type(dtype, self.lanes)

    def const(self, value: object, dtype: str) -> Value:
        return self.operand(self.b.constant(value, dtype))

    def emit(self, text: str, dtype: str, *operands: Value, risky: bool = False) -> Value:
        return self.b.pure(text, dtype, operands, self.lanes, risky)

    def binary(self, instruction: str, x: Value, y: Value, dtype: str | None = None) -> Value:
        text = f"{instruction} {self.type(x.dtype)} {x.text}, {y.text}"
        return self.emit(text, dtype or x.dtype, x, y)

    def convert(self, instruction: str, x: Value, dtype: str) -> Value:
        source, result = self.type(x.dtype), self.type(dtype)
        if source == result:
            return Value(x.text, dtype, x.lanes, x.depth, x.nonnegative)
        return self.emit(f"{instruction} {source} {x.text} to {result}", dtype, x)

    def choose(self, cond: Value, x: Value, y: Value) -> Value:
        cond_type = self.b.type("bool", cond.lanes)
        kind = self.type(x.dtype)
        text = f"select {cond_type} {cond.text}, {kind} {x.text}, {kind} {y.text}"
        return self.emit(text, x.dtype, cond, x, y)

    def intrinsic(self, stem: str, *args: Value, tail: str = "") -> Value:
        x = args[0]
        kind = self.type(x.dtype)
        scalar = _SUFFIX.get(REGISTER[x.dtype], REGISTER[x.dtype])
        suffix = f"v{self.b.width}{scalar}" if self.lanes else scalar
        types = ", ".join([kind] * len(args)) + (", i1" if tail else "")
        name = self.b.intrinsic(stem, suffix, kind, types)
        operands = ", ".join(f"{kind} {a.text}" for a in args) + tail
        return self.emit(f"call {kind} {name}({operands})", x.dtype, *args)

    def call(self, op: str, args: tuple[Value, ...], dtype: str) -> Value:
        if op == "select":
            cond = args[0]
            return self.choose(cond, self.operand(args[1]), self.operand(args[2]))
        args = tuple(self.operand(x) for x in args)
        source = args[0].dtype
        if op == "cast":
            return self.cast(args[0], dtype)
        if op == "bitcast":
            return self.convert("bitcast", args[0], dtype)
        if op in _FCMP:
            return self.compare(op, *args)
        if source in FLOATS:
            return self.float_call(op, args)
        if source in INTEGERS or source == "bool":
            return self.int_call(op, args)
        raise KernelError(f"{op} is not defined for {source}")

    def compare(self, op: str, x: Value, y: Value) -> Value:
        if x.dtype in FLOATS:
            return self.binary(f"fcmp {_FCMP[op]}", x, y, "bool")
        prefix = "" if op in ("eq", "ne") else "s" if is_signed(x.dtype) else "u"
        return self.binary(f"icmp {prefix}{op}", x, y, "bool")

    def float_call(self, op: str, args: tuple[Value, ...]) -> Value:
        x = args[0]
        if op in _FLOAT_BINARY:
            return self.binary(_FLOAT_BINARY[op], args[0], args[1])
        if op == "neg":
            return self.emit(f"fneg {self.type(x.dtype)} {x.text}", x.dtype, x)
        if op == "abs":
            return self.intrinsic("fabs", x)
        if op == "sqrt":
            return self.intrinsic("sqrt", x)
        if op == "fma":
            return self.intrinsic("fma" if self.target.fma else "fmuladd", *args)
        if op in _ROUNDING:
            if self.target.rounds:
                return self.intrinsic(_ROUNDING[op], x)
            return self.rounding_by_arithmetic(op, x)
        if op in ("min", "max"):
            # (x < y ? x : y) is one instruction and gives y if either is nan; a nan x wins after.
            y = args[1]
            better = self.compare("lt" if op == "min" else "gt", x, y)
            picked = self.choose(better, x, y)
            return self.choose(self.binary("fcmp uno", x, x, "bool"), x, picked)
        raise KernelError(f"{op} is not defined for {x.dtype}")

    def rounding_by_arithmetic(self, op: str, x: Value) -> Value:
        """floor, ceil, trunc, round for SSE2: adding and taking away 2**23 (2**52) rounds."""
        big = self.const(float(1 << (23 if x.dtype == "f32" else 52)), x.dtype)
        size = self.intrinsic("fabs", x)
        nearest = self.binary("fsub", self.binary("fadd", size, big), big)
        one, zero = self.const(1.0, x.dtype), self.const(0.0, x.dtype)
        if op == "trunc":
            above = self.compare("gt", nearest, size)
            nearest = self.binary("fsub", nearest, self.choose(above, one, zero))
        signed = self.intrinsic("copysign", nearest, x)
        if op == "floor":
            above = self.compare("gt", signed, x)
            signed = self.binary("fsub", signed, self.choose(above, one, zero))
        elif op == "ceil":
            below = self.compare("lt", signed, x)
            signed = self.binary("fadd", signed, self.choose(below, one, zero))
            signed = self.intrinsic("copysign", signed, x)
        return self.choose(self.compare("lt", size, big), signed, x)

    def int_call(self, op: str, args: tuple[Value, ...]) -> Value:
        x = args[0]
        signed = is_signed(x.dtype)
        if op in ("min", "max"):
            if x.dtype == "bool":
                return self.binary("and" if op == "min" else "or", args[0], args[1])
            return self.intrinsic(("s" if signed else "u") + op, *args)
        if op in _INT_BINARY:
            return self.binary(_INT_BINARY[op], args[0], args[1])
        if op == "not":
            return self.binary("xor", x, self.const(-1 if x.dtype != "bool" else True, x.dtype))
        if op == "neg":
            return self.binary("sub", self.const(0, x.dtype), x)
        if op == "abs":
            return self.intrinsic("abs", x, tail=", i1 false") if signed else x
        if op in ("div", "rem"):
            return self.division(op, *args)
        if op in ("shl", "shr"):
            return self.shift(op, *args)
        if op == "mulhi":
            if self.lanes and self.b.width % 2 == 0:
                return self.high_halves(*args)
            wide = [self.convert("zext", a, "u64") for a in args]
            product = self.binary("mul", wide[0], wide[1])
            high = self.binary("lshr", product, self.const(32, "u64"))
            return self.convert("trunc", high, x.dtype)
        raise KernelError(f"{op} is not defined for {x.dtype}")

    def high_halves(self, x: Value, y: Value) -> Value:
        """mulhi of lanes: products of the even ones and of the odd ones, each in a wide lane."""
        kind = f"<{self.b.width // 2} x i64>"

        def emit(text: str, *operands: Value) -> Value:
            return self.emit(text, "u64", *operands)

        low, half = "splat (i64 4294967295)", "splat (i64 32)"
        parts = [emit(f"bitcast {self.type('u32')} {v.text} to {kind}", v) for v in (x, y)]
        evens = [emit(f"and {kind} {v.text}, {low}", v) for v in parts]
        odds = [emit(f"lshr {kind} {v.text}, {half}", v) for v in parts]
        even, odd = (emit(f"mul {kind} {a.text}, {b.text}", a, b) for a, b in (evens, odds))
        even = emit(f"lshr {kind} {even.text}, {half}", even)
        odd = emit(f"and {kind} {odd.text}, splat (i64 -4294967296)", odd)
        joined = emit(f"or {kind} {even.text}, {odd.text}", even, odd)
        return self.emit(f"bitcast {kind} {joined.text} to {self.type(x.dtype)}", x.dtype, joined)

    def division(self, op: str, x: Value, y: Value) -> Value:
        signed = is_signed(x.dtype)
        instruction = ("s" if signed else "u") + op
        known = _integer(y)
        if known is not None and known not in (0, -1):
            return self.binary(instruction, x, y)
        zero, one = self.const(0, x.dtype), self.const(1, x.dtype)
        is_zero = self.compare("eq", y, zero)
        safe = self.choose(is_zero, one, y)
        if signed:
            is_minus = self.compare("eq", y, self.const(-1, x.dtype))
            safe = self.choose(is_minus, one, safe)
        plain = self.binary(instruction, x, safe)
        if op == "rem":
            return plain  # a remainder by one is 0, as wanted for divisors 0 and -1
        if signed:
            plain = self.choose(is_minus, self.binary("sub", zero, x), plain)
        return self.choose(is_zero, zero, plain)

    def shift(self, op: str, x: Value, y: Value) -> Value:
        bits, signed = BITS[x.dtype], is_signed(x.dtype)
        instruction = "shl" if op == "shl" else "ashr" if signed else "lshr"
        known = _integer(y)
        if known is not None and 0 <= known < bits:
            return self.binary(instruction, x, y)
        inside = self.binary("icmp ult", y, self.const(bits, y.dtype), "bool")
        if instruction == "ashr":
            return self.binary("ashr", x, self.choose(inside, y, self.const(bits - 1, y.dtype)))
        zero = self.const(0, x.dtype)
        amount = self.choose(inside, y, self.const(0, y.dtype))
        return self.choose(inside, self.binary(instruction, x, amount), zero)

    def cast(self, x: Value, dtype: str) -> Value:
        source = x.dtype
        if source == dtype:
            return x
        if source in ("f16", "bf16"):
            return self.cast(self.widen(x), dtype)
        if dtype in ("f16", "bf16"):
            return self.narrow(self.cast(x, "f32"), dtype)
        if dtype == "bool":
            zero = self.const(0, source)
            return self.compare("ne", x, zero)
        if source in FLOATS:
            if dtype in FLOATS:
                return self.convert("fptrunc" if dtype == "f32" else "fpext", x, dtype)
            if BITS[dtype] < 32:  # through i32, so that small results wrap as in NumPy
                return self.convert("trunc", self.float_to_int(x, "i32"), dtype)
            return self.float_to_int(x, dtype)
        if dtype in FLOATS:
            return self.convert("sitofp" if is_signed(source) else "uitofp", x, dtype)
        if source == "bool" or BITS[dtype] > BITS[source]:
            return self.convert("sext" if is_signed(source) else "zext", x, dtype)
        return self.convert("trunc", x, dtype)

    def float_to_int(self, x: Value, dtype: str) -> Value:
        """Truncation; frozen, so that a value out of range gives any number but no undefined code.

        (And LLVM 22 fails on min(unsigned(x), 0), which it takes for a saturating conversion.)
        """
        whole = self.convert("fptosi" if is_signed(dtype) else "fptoui", x, dtype)
        return self.emit(f"freeze {self.type(dtype)} {whole.text}", dtype, whole)

    def half(self, x: Value, instruction: str, dtype: str) -> Value:
        """Between half and float by hardware; f16 values travel as i16."""
        kind = f"<{self.b.width} x half>" if self.lanes else "half"
        if instruction == "fpext":
            bits = self.emit(f"bitcast {self.type('u16')} {x.text} to {kind}", "f16", x)
            return self.emit(f"fpext {kind} {bits.text} to {self.type('f32')}", dtype, bits)
        small = self.emit(f"fptrunc {self.type('f32')} {x.text} to {kind}", dtype, x)
        return self.emit(f"bitcast {kind} {small.text} to {self.type('u16')}", dtype, small)

    def widen(self, x: Value) -> Value:
        """f16 or bf16 to f32, exactly."""
        if x.dtype == "f16" and self.target.f16c:
            return self.half(x, "fpext", "f32")
        bits = self.convert("zext", Value(x.text, "u16", x.lanes, x.depth), "u32")
        if x.dtype == "bf16":
            return self.convert("bitcast", self.binary("shl", bits, self.const(16, "u32")), "f32")
        size = self.binary("and", bits, self.const(0x7FFF, "u32"))
        shifted = self.binary("shl", size, self.const(13, "u32"))
        scaled = self.binary(
            "fmul", self.convert("bitcast", shifted, "f32"), self.const(2.0**112, "f32")
        )
        special = self.compare("ge", size, self.const(0x7C00, "u32"))
        with_infinity = self.binary("or", shifted, self.const(0x7F800000, "u32"))
        plain = self.choose(special, with_infinity, self.convert("bitcast", scaled, "u32"))
        sign = self.binary("and", bits, self.const(0x8000, "u32"))
        sign = self.binary("shl", sign, self.const(16, "u32"))
        return self.convert("bitcast", self.binary("or", plain, sign), "f32")

    def narrow(self, x: Value, dtype: str) -> Value:
        """f32 to f16 or bf16: to nearest, ties to even; nan stays nan."""
        if dtype == "f16" and self.target.f16c:
            return self.half(x, "fptrunc", "f16")
        bits = self.convert("bitcast", x, "u32")
        if dtype == "bf16":
            lowest = self.binary("lshr", bits, self.const(16, "u32"))
            odd = self.binary("and", lowest, self.const(1, "u32"))
            bias = self.binary("add", odd, self.const(0x7FFF, "u32"))
            rounded = self.binary("lshr", self.binary("add", bits, bias), self.const(16, "u32"))
            quiet = self.binary("or", lowest, self.const(0x40, "u32"))
            rounded = self.choose(self.binary("fcmp uno", x, x, "bool"), quiet, rounded)
        else:
            rounded = self.narrow_f16_by_integers(bits)
        small = self.convert("trunc", rounded, "u16")
        return Value(small.text, dtype, small.lanes, small.depth)

    def narrow_f16_by_integers(self, bits: Value) -> Value:
        """Source: F. Giesen, "float->half variants" (public domain), the round-to-even variant."""
        sign = self.binary("and", bits, self.const(0x80000000, "u32"))
        size = self.binary("xor", bits, sign)
        is_nan = self.compare("gt", size, self.const(0x7F800000, "u32"))
        special = self.choose(is_nan, self.const(0x7E00, "u32"), self.const(0x7C00, "u32"))
        magic = self.const(126 << 23, "u32")
        small = self.binary(
            "fadd", self.convert("bitcast", size, "f32"), self.convert("bitcast", magic, "f32")
        )
        denormal = self.binary("sub", self.convert("bitcast", small, "u32"), magic)
        odd = self.binary("lshr", size, self.const(13, "u32"))
        odd = self.binary("and", odd, self.const(1, "u32"))
        moved = self.binary("add", size, self.const(0xC8000FFF, "u32"))
        normal = self.binary("lshr", self.binary("add", moved, odd), self.const(13, "u32"))
        is_small = self.compare("lt", size, self.const(113 << 23, "u32"))
        is_big = self.compare("ge", size, self.const(143 << 23, "u32"))
        result = self.choose(is_big, special, self.choose(is_small, denormal, normal))
        return self.binary("or", result, self.binary("lshr", sign, self.const(16, "u32")))


def _integer(x: Value) -> int | None:
    """The value of an integer constant, splatted or not."""
    text = x.text
    if text == "zeroinitializer":
        return 0
    if text.startswith("splat ("):
        text = text[7:-1].split(" ", 1)[1]
    try:
        return int(text)
    except ValueError:
        return None
