"""Stores that transpose: neighbouring places from turns of an unrolled loop, far ones from lanes.

    for l in lanes:  unroll j in 0..c:  buffer[l*stride + j] = value(l, j)

As scatters that would be one store per element. Here the c registers are transposed in log2(c)
rounds of shuffles between pairs of registers, and each lane's c elements are stored at once.
Packing and transposed copies run on this. Called by llvm.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ..kernel.ir import Expr, Let, Load, Loop, Store, Var
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
    """Write an unrolled loop inside a vector loop so; False if it is not of the form above.

    The body may have several Stores, to different buffers, and Lets.
    """
    if w.lanes is None or w.width == 1 or w.lanes.mask is not None or stmt.step != 1:
        return False
    lets = [x for x in stmt.body if isinstance(x, Let)]
    stores = [x for x in stmt.body if isinstance(x, Store)]
    if len(lets) + len(stores) < len(stmt.body) or not stores or stop - start < 2:
        return False
    if not _independent(w, stores, lets):
        return False
    saved = w.indices, w.values
    places: list[list[Polynomial]] = [[] for _ in stores]

    def turns() -> Iterator[int]:
        for i in range(start, stop):
            w.indices, w.values = {**saved[0], stmt.var: poly.constant(i)}, dict(saved[1])
            w.forget()
            yield i
        w.indices, w.values = saved
        w.forget()

    for _ in turns():
        for at, store in enumerate(stores):
            places[at].append(w.index(store.index))
    spreads = [_spread(w, x) for x in places]
    values: list[list[Value]] = [[] for _ in stores]
    if None in spreads:
        return False
    for _ in turns():
        for x in lets:
            w.stmt(x)
        for at, store in enumerate(stores):
            values[at].append(w.splat(w.value(store.value)))
    for store, spread, made in zip(stores, spreads, values):
        assert spread is not None
        rest, stride = spread
        done = 0
        while done < len(made):
            count = min(w.width, 1 << ((len(made) - done).bit_length() - 1))
            base = poly.add(rest, poly.constant(done))
            _store_block(w, w.arrays[store.buffer], made[done : done + count], base, stride)
            done += count
    return True


def _independent(w: KernelWriter, stores: list[Store], lets: list[Let]) -> bool:
    """Whether all turns may be computed before any is stored."""
    names = {x.buffer for x in stores}
    if len(names) < len(stores):
        return False
    for store in stores:
        array = w.arrays[store.buffer]
        if store.mask is not None or array.private or array.dtype == "bool":
            return False
    computed = [*(x.value for x in stores), *(x.value for x in lets), *(x.index for x in stores)]
    if any(reads(x, name) for x in computed for name in names):
        return False
    named = {x.name for x in lets}  # places are found out before these are computed
    return not any(uses(x.index, named) for x in stores)


def uses(expr: Expr, names: set[str]) -> bool:
    """Whether an expression reads one of the names."""
    if isinstance(expr, Var):
        return expr.name in names
    return any(uses(x, names) for x in getattr(expr, "args", ()))


def _spread(w: KernelWriter, places: list[Polynomial]) -> tuple[Polynomial, Polynomial] | None:
    """(place of lane 0's first turn, distance of the lanes) if turns store to neighbours."""
    rest, stride, affine = poly.split(places[0], LANE)
    neighbours = all(
        poly.as_constant(poly.add(place, places[0], -1)) == i for i, place in enumerate(places)
    )
    if affine and stride and neighbours and w.is_uniform(rest) and w.is_uniform(stride):
        return rest, stride
    return None


def _store_block(
    w: KernelWriter, array: Array, values: list[Value], base: Polynomial, stride: Polynomial
) -> None:
    """Store element (lane l, register j) at base + l*stride + j; len(values) is a power of two."""
    count = len(values)
    # What stands where: of each register, the (register, lane) that its elements came from.
    holds = [[(i, p) for p in range(w.width)] for i in range(count)]
    for distance, low, high in _rounds(count, w.width, 16 // BYTES[array.dtype]):
        for i in range(count):
            if i & distance == 0:
                j = i + distance
                x, y, held = values[i], values[j], holds[i] + holds[j]
                values[i], holds[i] = _shuffle(w, x, y, low), [held[p] for p in low]
                values[j], holds[j] = _shuffle(w, x, y, high), [held[p] for p in high]
    found = {held: (i, p) for i, row in enumerate(holds) for p, held in enumerate(row)}
    for lane in range(w.width):
        at, first = found[0, lane]
        value = values[at]
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


def _rounds(count: int, width: int, near: int) -> Iterator[tuple[int, list[int], list[int]]]:
    """Shuffles that transpose: (d, low, high) makes of registers x, y that are d apart two others.

    low and high number the lanes of x, then those of y. Each round brings one bit of the register's
    number into the lane's. x86 shuffles `near` lanes (16 bytes), or whole 16 bytes, without a
    register for the order only in some forms: halves joined; even and odd quarters of 64 bytes;
    lanes of either half interleaved. Orders in registers would stay there while a product runs on
    what was packed.
    """
    lanes = range(width)

    def exchange(bit: int) -> tuple[list[int], list[int]]:
        """Blocks of `bit` lanes: x's even ones and y's; x's odd ones and y's."""
        low = [p if p & bit == 0 else width + p - bit for p in lanes]
        return low, [p + bit for p in low]

    far = count // near  # registers, in blocks of `near`
    if far == 4 and width == count:
        low, high = exchange(width // 2)
        yield near, low, high
        pairs = [p for p in range(2 * width) if p & near == 0]
        yield 2 * near, pairs, [p + near for p in pairs]
    else:
        distance = count // 2
        while distance >= near:
            yield distance, *exchange(distance)
            distance //= 2
    distance = min(count, near) // 2
    if count < near:
        while distance:
            yield distance, *exchange(distance)
            distance //= 2
    while distance:
        firsts = [p - p % near + p % near // 2 for p in lanes]
        low = [p + width * (at % 2) for at, p in enumerate(firsts)]
        yield distance, low, [p + near // 2 for p in low]
        distance //= 2


def _shuffle(w: KernelWriter, x: Value, y: Value, order: list[int]) -> Value:
    kind = w.type(x.dtype, True)
    items = ", ".join(f"i32 {i}" for i in order)
    text = f"shufflevector {kind} {x.text}, {kind} {y.text}, <{len(order)} x i32> <{items}>"
    return w.pure(text, x.dtype, (x, y), True)
