"""Stores that transpose: neighbouring places from turns of an unrolled loop, far ones from lanes.

    for l in lanes:  unroll j in 0..c:  buffer[l*stride + j] = value(l, j)

As scatters that would be one store per element. Here the c registers are transposed in log2(c)
rounds of shuffles (blocks of d lanes change places between registers d apart), and each lane's c
elements are stored at once. Packing and transposed copies run on this. Called by llvm.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..kernel.ir import Expr, Load, Loop, Store
from . import polynomial as poly
from .builder import BYTES, Value
from .memory import LANE, Array

if TYPE_CHECKING:
    from .llvm import KernelWriter
    from .polynomial import Polynomial


def reads(expr: Expr, buffer: str) -> bool:
    """Whether an expression loads from a buffer; each shared node is looked at once."""
    seen: set[int] = set()
    stack = [expr]
    while stack:
        x = stack.pop()
        if id(x) in seen:
            continue
        seen.add(id(x))
        if isinstance(x, Load):
            if x.buffer == buffer:
                return True
            stack += [x.index] if x.mask is None else [x.index, x.mask]
        else:
            stack.extend(getattr(x, "args", ()))
    return False


def store_transposed(w: KernelWriter, stmt: Loop, start: int, stop: int) -> bool:
    """Write an unrolled loop inside a vector loop so; False if it is not of the form above."""
    if w.lanes is None or w.width == 1 or w.lanes.mask is not None or stmt.step != 1:
        return False
    if len(stmt.body) != 1 or not isinstance(stmt.body[0], Store) or stop - start < 2:
        return False
    store = stmt.body[0]
    array = w.arrays[store.buffer]
    if store.mask is not None or array.private or array.dtype == "bool":
        return False
    if reads(store.value, store.buffer) or reads(store.index, store.buffer):
        return False
    saved = w.indices
    places: list[Polynomial] = []
    values: list[Value] = []
    for i in range(start, stop):
        w.indices = {**saved, stmt.var: poly.constant(i)}
        w.forget()
        places.append(w.index(store.index))
    rest, stride, affine = poly.split(places[0], LANE)
    neighbours = all(
        poly.as_constant(poly.add(place, places[0], -1)) == i for i, place in enumerate(places)
    )
    if affine and stride and neighbours and w.is_uniform(rest) and w.is_uniform(stride):
        for i in range(start, stop):
            w.indices = {**saved, stmt.var: poly.constant(i)}
            w.forget()
            values.append(w.splat(w.value(store.value)))
    w.indices = saved
    w.forget()
    if not values:
        return False
    done = 0
    while done < len(values):
        count = min(w.width, 1 << ((len(values) - done).bit_length() - 1))
        base = poly.add(rest, poly.constant(done))
        _store_block(w, array, values[done : done + count], base, stride)
        done += count
    return True


def _store_block(
    w: KernelWriter, array: Array, values: list[Value], base: Polynomial, stride: Polynomial
) -> None:
    """Store element (lane l, register j) at base + l*stride + j; len(values) is a power of two."""
    count = len(values)
    distance = count // 2
    while distance:
        swapped = list(values)
        for i in range(count):
            if i & distance == 0:
                x, y = values[i], values[i + distance]
                low = [p if p & distance == 0 else w.width + p - distance for p in range(w.width)]
                high = [p + distance if p & distance == 0 else w.width + p for p in range(w.width)]
                swapped[i] = _shuffle(w, x, y, low)
                swapped[i + distance] = _shuffle(w, x, y, high)
        values = swapped
        distance //= 2
    for lane in range(w.width):
        first = lane // count * count
        value = values[lane % count]
        if count < w.width:
            value = _shuffle(w, value, value, list(range(first, first + count)))
        offset = poly.multiply(stride, poly.constant(lane))
        assert offset is not None
        pointer = w.address(array, poly.add(base, offset))
        element = w.memory_type(array, lanes=False)
        kind = element if count == 1 else f"<{count} x {element}>"
        text = value.text
        if count == 1:
            name = w.name()
            w.line(f"{name} = extractelement <1 x {element}> {text}, i64 0")
            text = name
        w.line(f"store {kind} {text}, ptr {pointer.text}, align {BYTES[array.dtype]}")


def _shuffle(w: KernelWriter, x: Value, y: Value, order: list[int]) -> Value:
    kind = w.type(x.dtype, True)
    items = ", ".join(f"i32 {i}" for i in order)
    text = f"shufflevector {kind} {x.text}, {kind} {y.text}, <{len(order)} x i32> <{items}>"
    return w.pure(text, x.dtype, (x, y), True)
