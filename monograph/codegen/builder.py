"""LLVM IR text with value numbering and loop-invariant placement done while it is written.

A Region is a piece of straight code with what is nested in it: the function, a loop's body, an arm
of an If. An instruction without side effects is written once per region, and into the preheader of
the outermost loop that it does not depend on. So LLVM needs few passes. Read next: memory.py.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field, replace

import ml_dtypes
import numpy as np

from ..kernel.checker import BITS

# dtype -> LLVM type in registers, and in memory. f16 and bf16 travel as bits; bool is stored as a
REGISTER = {
    "bool": "i1", "i8": "i8", "u8": "i8", "i16": "i16", "u16": "i16", "i32": "i32", "u32": "i32",
    "i64": "i64", "u64": "i64", "f16": "i16", "bf16": "i16", "f32": "float", "f64": "double",
}  # fmt: skip
MEMORY = {**REGISTER, "bool": "i8"}
BYTES = {name: bits // 8 for name, bits in BITS.items()}


@dataclass(frozen=True, slots=True)
class Value:
    """An operand: its text, its dtype, whether it has lanes, and the region it is available in."""

    text: str
    dtype: str
    lanes: bool = False
    depth: int = 0
    nonnegative: bool = False

    @property
    def is_constant(self) -> bool:
        return self.text[0] != "%" and not self.lanes


@dataclass(slots=True)
class Region:
    depth: int
    kind: str  # "root" "loop" "if" "block" (straight code that runs once: a written-out loop)
    certain: bool  # runs at least once whenever the enclosing region runs
    label: str  # of the block being written
    lines: list[str] = field(default_factory=list)
    pre: list[str] = field(default_factory=list)  # a loop's preheader
    cache: dict[str, Value] = field(default_factory=dict)


def float_bits(value: float, dtype: str) -> str:
    """LLVM's exact spelling of a float constant (f32 constants are spelled as doubles)."""
    if dtype == "f32":
        try:
            value = struct.unpack("<f", struct.pack("<f", value))[0]
        except OverflowError:
            value = float("inf") if value > 0 else float("-inf")
    return "0x" + struct.pack(">d", value).hex().upper()


class Builder:
    """Writes one function. `width` is the number of lanes while a vector loop is being written."""

    def __init__(self) -> None:
        self.count = 0
        self.width = 1
        root = Region(0, "root", True, "entry")
        root.pre = root.lines
        self.regions = [root]
        self.allocas: list[str] = []
        self.declarations: dict[str, str] = {}

    @property
    def region(self) -> Region:
        return self.regions[-1]

    def enter(self, kind: str, certain: bool, label: str) -> Region:
        region = Region(len(self.regions), kind, certain, label)
        self.regions.append(region)
        return region

    def leave(self) -> Region:
        return self.regions.pop()

    def name(self) -> str:
        self.count += 1
        return f"%v{self.count}"

    def label(self, stem: str) -> str:
        self.count += 1
        return f"{stem}{self.count}"

    def type(self, dtype: str, lanes: bool) -> str:
        base = REGISTER[dtype]
        return f"<{self.width} x {base}>" if lanes else base

    def line(self, text: str) -> None:
        """A line at the current place (side effects, control flow)."""
        self.region.lines.append("  " + text)

    def start_block(self, label: str) -> None:
        self.region.lines.append(f"{label}:")
        self.region.label = label

    def pure(
        self, text: str, dtype: str, operands: tuple[Value, ...], lanes: bool, risky: bool = False
    ) -> Value:
        """An instruction without side effects: placed as far out as its operands allow.

        `text` is the instruction without its name. `risky` may trap (loads, divisions): it moves
        out of a loop only where it would have run anyway.
        """
        depth = max((x.depth for x in operands), default=0)
        place = None
        at = len(self.regions) - 1
        while at > depth and self.regions[at].kind in ("loop", "block"):
            place = at
            if risky and not self.regions[at].certain:
                break
            at -= 1
        if place is None:
            region, lines, depth = self.region, self.region.lines, self.region.depth
        elif self.regions[place].kind == "block":  # what precedes a block is its parent's code
            region = self.regions[place - 1]
            lines, depth = region.lines, place - 1
        else:
            region = self.regions[place]
            lines, depth = region.pre, place - 1
        # Lanes are part of the key: the same text means something else at another width.
        key = f"{self.width}|{text}" if lanes else text
        found = region.cache.get(key)
        if found is None:
            name = self.name()
            lines.append(f"  {name} = {text}")
            found = region.cache[key] = Value(name, dtype, lanes, depth)
        # The same bits may be asked for with and without sign.
        return found if found.dtype == dtype else replace(found, dtype=dtype)

    def here(self, text: str, dtype: str, lanes: bool) -> Value:
        """An instruction that must stay at its place (a load of memory that changes)."""
        name = self.name()
        self.line(f"{name} = {text}")
        return Value(name, dtype, lanes, self.region.depth)

    def constant(self, value: object, dtype: str) -> Value:
        if dtype == "bool":
            return Value("true" if value else "false", dtype)
        if dtype in ("f32", "f64"):
            return Value(float_bits(float(value), dtype), dtype)  # type: ignore[arg-type]
        if dtype in ("f16", "bf16"):
            return Value(str(half_bits(float(value), dtype)), dtype)  # type: ignore[arg-type]
        number = int(value)  # type: ignore[call-overload]
        return Value(str(number), dtype, nonnegative=number >= 0)

    def splat(self, x: Value) -> Value:
        """A vector with x in every lane."""
        if x.lanes:
            return x
        scalar = REGISTER[x.dtype]
        if x.is_constant:
            text = "zeroinitializer" if x.text == "0" else f"splat ({scalar} {x.text})"
            return Value(text, x.dtype, True, 0)
        vector = self.type(x.dtype, True)
        one = self.pure(
            f"insertelement {vector} poison, {scalar} {x.text}, i64 0", x.dtype, (x,), True
        )
        return self.pure(
            f"shufflevector {vector} {one.text}, {vector} poison, "
            f"<{self.width} x i32> zeroinitializer",
            x.dtype,
            (one,),
            True,
        )

    def intrinsic(self, stem: str, suffix: str, result: str, operands: str) -> str:
        """The callee of an intrinsic, declared on first use."""
        name = f"@llvm.{stem}.{suffix}"
        self.declarations[name] = f"declare {result} {name}({operands})"
        return name


def half_bits(value: float, dtype: str) -> int:
    kind = np.float16 if dtype == "f16" else ml_dtypes.bfloat16
    return int(np.asarray(np.float32(value)).astype(kind).view(np.int16))
