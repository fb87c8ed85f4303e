"""Sizes of tiles, blocks and parts of a matrix product. They depend on shapes and target only
(the number of chunks of large products also on that of cores, which changes no sum).

The numbers were measured with benchmarks/gemm.py on cores with two 512-bit multiply-adds per cycle
and 48 KiB of L1: Zen 5 (1 MiB L2) and Sapphire Rapids (2 MiB); the model behind them counts cycles.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from ...codegen.target import Target
from ...core.symbolic import is_symbolic
from ...runtime.threads import available_cpus
from .contract import Problem

# Processor cycles of a product on one thread: so many multiply-adds on vectors per cycle, so many
# bytes of operands and result from memory that is not near.
VECTORS_PER_CYCLE, BYTES_PER_CYCLE = 1.5, 6
# Fewer cycles than this run on one thread: waking another costs as much.
PARALLEL_CYCLES = 16_000
# Least cycles of a chunk; so many chunks serve any number of threads, and more of long products.
CHUNK_CYCLES = 8_000
ENOUGH_CHUNKS, MOST_CHUNKS, LONG_CYCLES = 16, 32, 16_000_000
# Vectors of a tile's row, unless all columns fit.
MOST_VECTORS = 4
# Panels that were packed before are read ahead from so many bytes on.
AHEAD_BYTES = 1 << 18
# K of one block: panels of this depth stay in the second-level cache; shorter where every row of a
# that is read for a tile drags a whole cache line along, or where vectors of 32 bytes and two in a
# tile's row let a panel stay in the first one.
BLOCK_DEPTH, SCATTERED_DEPTH = 1024, 512
STREAM_DEPTH, STREAM_PART = 8, 96
# Blocks get no smaller than this for more chunks; rather K is cut into parts of this depth or more.
LEAST_ROWS, LEAST_COLUMNS, LEAST_DEPTH = 64, 96, 256
MOST_PARTS = 32
# So many chunks are enough to leave K whole, unless it is as long as this; and matrices of a batch.
FEW_CHUNKS, LONG_DEPTH, FEW_MATRICES = 4, 4096, 8
# From so many rows on b is read in panels, if it has more elements than the first cache holds.
PANEL_ROWS, PANEL_ELEMENTS = 24, 1 << 14
# Fewer rows than this read b in place if it has more bytes than that and its rows follow memory: so
# much of K and so many columns at a time, that few pages are open, and read in long runs; in
# shorter ones before panels pay.
FEW_ROWS, FAR_BYTES, FAR_DEPTH, LONG_RUN, SHORT_RUN = 72, 1 << 18, 32, 768, 192
# A chunk of so many rows copies its panels of b itself.
COPY_ROWS = 192
# Rows of a chunk that reads panels, where there are enough chunks; of a large product with vectors
# of 32 bytes, so that they stay in small second caches.
BLOCK_ROWS, NEAR_ROWS = 256, 72
# Up to so many rows run as dot products from such depths on: the alternative, transposing b, pays
# with more rows, adding up lanes at the end costs less the longer they run.
DOT_ROWS = ((2, 16), (16, 256), (47, 512))
DOT_DEPTH = 1024
# And up to so many columns from such depths on: broadcasting each element of a takes longer.
DOT_COLUMNS = ((4, 128),)
# Constant operands are not packed for so few rows: they are read once, in order, either way.
DOT_STEADY_ROWS = 4
# Bytes of a panel that are read from the first-level cache at full speed.
FAST_BYTES = 24 << 10
# Elements of a that a chunk copies, at most, and of sums that it keeps (288 KiB).
A_ELEMENTS = 72 << 10
# K of one block of a large product with a strided: a panel of b fits the first cache (48 KiB).
DEEPEST = 384
# From so many operations on, with sides (M, N, K) to match, a product is large.
LARGE_FLOPS, LARGE_SIDES = 60_000_000, (192, 128, 128)
LARGE_CHUNK_FLOPS = 4_000_000
# Chunks of large products get no smaller than this many columns and tiles of rows.
LARGE_COLUMNS, LARGE_ROW_TILES = 128, 8
# With more blocks of rows than this, b is copied once for all of them; and from so many rows on,
# or where a copy of so many bytes stays near.
FEW_ROW_BLOCKS, PACKED_ROWS, NEAR_BYTES = 4, 512, 4 << 20
# With fewer rows every chunk copies its panels of b, for so many rows or more.
MANY_ROWS, COPIED_ROWS = 336, 128
# Up to this depth a product mostly writes: whole rows, of so many elements of b, so many rows in a
# chunk. From so many rows on (twice as many if it is transposed) b is copied for that.
SHALLOW_DEPTH, SHALLOW_ELEMENTS, SHALLOW_ROWS, SHALLOW_COPIED = 64, 1 << 17, 32, 128
# From such sides on (M, N, K), and elements of it, chunks copy a strided, so much of K at a time.
TALL_SIDES, TALL_ELEMENTS, TALL_DEPTH = (160, 8, 32), 1 << 16, 128
# Cycles for an element of the result that stands apart from its neighbours in a vector, and where
# an epilogue reads and writes more; how much sooner that must end.
APART_CYCLES, APART_EPILOGUE, SOONER = 0.75, 8, 0.9
# Columns of a block of a large product with a strided, for which a block of a is copied once; and
# where the block's sums are kept for an epilogue.
BLOCK_COLUMNS, KEPT_COLUMNS = 2048, 384
# Lines stay in the second cache, whose addresses repeat after so many bytes, in so many ways; and
# in the first one.
REPEAT_BYTES, WAYS = 1 << 17, 16
NEAR_REPEAT_BYTES, NEAR_WAYS = 1 << 12, 12


@dataclass(frozen=True)
class Plan:
    """mr, nr: the tile; mc, nc: the block of a chunk (multiples of them); `part`: K of one part;
    kc: K of one block of a part (both along the outermost summed loop).

    row is the length of a tile's row in registers: nr rounded up to whole vectors. `outer`
    matrices make a chunk. copy_a, copy_b: every chunk copies its block of a, its panels of b;
    pack_b: b is copied once, for all. keep: the sums of a chunk's block wait in a Local, and the
    epilogue goes through whole rows of it. ahead: the next columns of b are asked for meanwhile.
    along: tiles follow each other along the rows of the result, not down its columns.
    """

    mr: int
    nr: int
    row: int
    mc: int
    nc: int
    part: int
    parts: int
    kc: int
    blocks: int
    outer: int
    parallel: bool
    copy_a: bool
    pack_b: bool
    dots: bool
    copy_b: bool = False
    keep: bool = False
    ahead: bool = False
    along: bool = False

    def depth_of_block(self, p: Problem) -> int:
        """K of the deepest block, all summed loops."""
        if self.blocks > 1 and is_symbolic(self.part):
            return self.kc * p.depth // p.k[0].size
        return min(self.part, self.kc) * p.depth // max(1, p.k[0].size)

    def shortest_block(self, p: Problem) -> int:
        """The fewest turns of the outermost summed loop that a block takes."""
        if is_symbolic(self.part):
            return 1
        last = p.k[0].size - (self.parts - 1) * self.part
        return min(n - (-(-n // self.kc) - 1) * self.kc for n in (self.part, last))


def cycles(p: Problem, lanes: int) -> int:
    """About how long one thread takes."""

    def matrices(strides: Iterable[int]) -> int:
        return math.prod(d.size for d, stride in zip(p.outer, strides) if stride)

    read_a = matrices(d.a for d in p.outer) * p.m.size * p.depth * p.a.dtype.itemsize
    read_b = matrices(d.b for d in p.outer) * p.n.size * p.depth * p.b.dtype.itemsize
    written = p.batch * p.m.size * p.n.size * p.out.dtype.itemsize
    arithmetic = p.flops / (2 * lanes * VECTORS_PER_CYCLE)
    return int(max(arithmetic, (read_a + read_b + written) / BYTES_PER_CYCLE))


def plan(p: Problem, compute: str, target: Target, waits: bool = False) -> Plan:
    """How to compute a contraction, from its shapes, strides and the target.

    waits: sums of blocks of K cannot stand in the output (an epilogue, another dtype).
    """
    lanes = target.lanes({"f32": 4, "f64": 8}.get(compute, 8))
    at_hint = p.at_hint()
    made = _plan(at_hint, lanes, target, waits)
    return made if at_hint is p else for_all_sizes(made, p)


def for_all_sizes(plan: Plan, p: Problem) -> Plan:
    """The plan for the sizes that a program was made at, so that it is right for others too.

    Tiles and blocks stay as they are. A product must not be smaller than a tile.
    """
    first, mr, nr = p.k[0].size, plan.mr, plan.nr
    plan = replace(plan, ahead=False)
    if p.m.size < mr or p.n.size < nr:  # a guard: for the hint it is not
        raise AssertionError("a tile is larger than the product")
    if is_symbolic(p.depth // first):  # blocks of K have no fixed size
        plan = replace(plan, copy_a=False, copy_b=False, pack_b=plan.pack_b or plan.copy_b)
    if not is_symbolic(first):
        return plan
    part = -(-first // plan.parts)
    if part * (plan.parts - 1) >= first:
        raise AssertionError("a part of K is empty")
    if plan.blocks == 1 and (plan.copy_a or plan.copy_b):
        plan = replace(plan, blocks=2)  # or more: the copies are of a fixed depth
    return replace(plan, part=part, kc=plan.kc if plan.blocks > 1 else part)


def _plan(p: Problem, lanes: int, target: Target, waits: bool) -> Plan:
    dots = is_dots(p)
    large = not dots and not p.narrow and is_large(p)
    if large and p.k[-1].a != 1:
        return strided_plan(p, target, lanes, waits)
    copy_a, panels = (False, False) if dots else packs(p)
    tall = not dots and is_tall(p)
    if dots:
        mr, nr = dot_tile(p, target)
    elif large and target.vector_bytes >= 32:  # whole cache lines, one after another
        shapes = ((6, 4), (8, 3), (12, 2)) if target.registers == 32 else ((6, 2), (4, 3))
        mr, vectors = fullest(p.n.size, lanes, shapes)
        nr = vectors * lanes
    else:
        mr, nr = tile(p, target, lanes, 4 if copy_a else 1)
    copy_a = copy_a or tall
    row = nr if dots else -(-nr // lanes) * lanes
    work = cycles(p, lanes)
    enough = MOST_CHUNKS if work >= LONG_CYCLES and p.batch == 1 else ENOUGH_CHUNKS
    wanted = max(1, min(enough, work // CHUNK_CYCLES))
    outer = max(1, p.batch // wanted)
    row_tiles, column_tiles = -(-p.m.size // mr), -(-p.n.size // nr)
    along = not dots and is_shallow(p, panels) and column_tiles > 2
    matrices = -(-p.batch // outer)
    first = p.k[0].size
    inner = p.depth // max(1, first)
    # Long rows of b that are read only once are read in long runs, a few at a time.
    streams = p.m.size <= 2 and not panels and not dots
    runs = in_runs(p) and not panels and not dots
    # Blocks of rows and columns: whole columns where few rows share them.
    rows = columns = 1
    few_rows = panels and p.m.size < MANY_ROWS
    halved = large and target.vector_bytes == 32
    if along:
        rows = max(1, min(wanted // matrices, p.m.size // SHALLOW_ROWS))
        columns = -(-p.n.size * p.depth // SHALLOW_ELEMENTS)
    elif panels or dots or tall:
        most = NEAR_ROWS if halved and not few_rows else BLOCK_ROWS
        rows = min(wanted, -(-p.m.size // most))
    elif p.n.size * p.depth <= PANEL_ELEMENTS:
        rows = min(wanted, max(1, p.m.size // LEAST_ROWS))

    def short_of(count: int) -> int:
        """How often more blocks are needed for so many chunks."""
        return -(-count // (matrices * rows * columns))

    if matrices > 1:
        wanted = min(wanted, FEW_MATRICES)
    if short_of(wanted) > 1:
        least = 4096 if streams else LONG_RUN if runs else nr if panels or dots else LEAST_COLUMNS
        columns = max(1, min(short_of(wanted), p.n.size // least, column_tiles))
    if short_of(wanted) > 1:
        least = BLOCK_ROWS if tall else COPIED_ROWS if few_rows else LEAST_ROWS
        rows = max(rows, min(rows * short_of(wanted), p.m.size // least, row_tiles))
    rows = -(-row_tiles // -(-row_tiles // rows))
    columns = -(-column_tiles // -(-column_tiles // columns))
    deepest = DOT_DEPTH if dots else STREAM_PART if streams else LEAST_DEPTH
    most_parts = min(first, p.depth // deepest, MOST_PARTS)
    parts = 1
    # A few chunks fewer than wanted are no reason to cut K.
    if short_of(wanted // 2 + 1 if p.depth >= LONG_DEPTH else FEW_CHUNKS) > 1:
        if most_parts > 1:
            parts = min(most_parts, short_of(wanted))
            if parts > 1 and parts * matrices * rows * columns % 2:
                parts += 1  # two threads end together
        else:
            few = min(wanted, FEW_CHUNKS)
            columns = min(columns * short_of(few), column_tiles)
            rows = min(rows * short_of(few), row_tiles)
    mc, nc = -(-row_tiles // rows) * mr, -(-column_tiles // columns) * nr
    part = -(-first // parts)
    parts = -(-first // part) if part else 1
    kc, blocks = part, 1
    alone = rows <= FEW_ROW_BLOCKS or (mc >= COPY_ROWS and not large)
    near = p.depth * p.n.size * p.b.dtype.itemsize <= NEAR_BYTES
    # Copied once in runs, where each chunk would copy short ones and the copy stays near.
    once = near and shares_far(p) and 2 * p.n.size > LONG_RUN
    copy_b = panels and alone and not (p.steady or along or once)
    copy_b = copy_b and not (large and not few_rows and (near or p.m.size >= PACKED_ROWS))
    depth = BLOCK_DEPTH if p.k[-1].a == 1 and not (copy_a or halved) else SCATTERED_DEPTH
    depth = TALL_DEPTH if tall else STREAM_DEPTH if streams else FAR_DEPTH if runs else depth
    if copy_b:
        depth = min(depth, A_ELEMENTS // nr)
    if part * inner >= (depth + 1 if copy_b else 2 * depth) and not dots:
        blocks = -(-part * inner // depth)
        kc = -(-part // blocks)
        blocks = -(-part // kc)
    if copy_a:
        while mc > mr and mc * min(part, kc) * inner > A_ELEMENTS // 2:
            mc = -(-(mc // mr) // 2) * mr
        copy_a = mc * min(part, kc) * inner <= A_ELEMENTS // 2
    copy_b = copy_b and min(part, kc) * inner * nr <= A_ELEMENTS
    pack_b = panels and not copy_b
    # Panels of weights come from memory: they are asked for while the one before is in use; so are
    # the next columns of long rows.
    ahead = pack_b and not along and 4 * p.depth * p.n.size >= AHEAD_BYTES
    ahead = len(p.k) == 1 and (ahead or (runs and not streams and 2 * p.n.size > LONG_RUN))
    parallel = work >= PARALLEL_CYCLES
    return Plan(
        mr, nr, row, mc, nc, part, parts, kc, blocks, outer, parallel, copy_a,
        pack_b, dots, copy_b, ahead=ahead, along=along,
    )  # fmt: skip


def turns(p: Problem, compute: str, target: Target, epilogue: bool) -> bool:
    """Whether lanes run along the rows, where these are neighbours in a: few columns would leave
    lanes empty, but their results stand together."""
    if p.at_hint() is not p or p.m.a != 1 or p.k[-1].a == 1:
        return False
    lanes = target.lanes({"f32": 4, "f64": 8}.get(compute, 8))
    m, n = p.m.size, p.n.size
    apart = m * n * (APART_EPILOGUE if epilogue else APART_CYCLES)
    across = n * -(-m // lanes) * p.depth / 2 + apart
    return m >= 4 * lanes and across < SOONER * m * -(-n // lanes) * p.depth / 2


def is_dots(p: Problem) -> bool:
    """Whether to sum along lanes: few rows, and both operands contiguous along K."""
    last = p.k[-1]
    if p.steady and p.m.size > DOT_STEADY_ROWS:
        return False
    if last.a != 1 or last.b != 1 or last.size < 16 or (p.n.b == 1 and p.n.size > 1):
        return False
    if any(last.size >= depth and p.n.size <= columns for columns, depth in DOT_COLUMNS):
        return True
    # Rows that are read again must not push each other out of the second cache.
    apart = math.gcd(p.m.a * p.a.dtype.itemsize, REPEAT_BYTES)
    if p.m.size > 16 and (p.m.size + 6) * apart > REPEAT_BYTES * WAYS:
        return False
    return any(last.size >= depth and p.m.size <= rows for rows, depth in DOT_ROWS)


def dot_tile(p: Problem, target: Target) -> tuple[int, int]:
    """Rows and columns whose sums run together, each in a register of its own."""
    rows = -(-p.m.size // -(-p.m.size // 4))
    most = 24 if target.registers == 32 else 12 if target.fma else 8
    return rows, min(p.n.size, most // rows, 8)


def packs(p: Problem) -> tuple[bool, bool]:
    """Whether to copy a, and b, into panels first."""
    last = p.k[-1]
    converts = p.a.dtype.itemsize < 4 and p.a.dtype.is_floating_point
    # Single elements of a are read at any stride without loss; converting each would cost.
    copy_a = converts and p.n.size >= 128
    # b is read in vectors, by all rows: panels keep it in the first caches.
    far = last.b * p.b.dtype.itemsize
    large = p.depth * p.n.size > PANEL_ELEMENTS or (far % 4096 == 0 and p.depth > 64)
    panels = min(p.n.size - 1, p.depth) > 0 and (
        p.n.b != 1
        or p.steady
        or (large and p.m.size >= PANEL_ROWS and not in_runs(p))
        or (converts and p.m.size >= 32)
    )
    return copy_a, panels


def in_runs(p: Problem) -> bool:
    """Whether few rows share a large b whose long rows follow memory."""
    return shares_far(p) and p.n.size >= (SHORT_RUN if p.m.size < PANEL_ROWS else LONG_RUN)


def shares_far(p: Problem) -> bool:
    """Whether few rows share a large b, whose rows follow memory."""
    far = p.depth * p.n.size * p.b.dtype.itemsize >= FAR_BYTES
    return far and p.m.size < FEW_ROWS and p.n.b == 1 and not p.steady


def is_large(p: Problem) -> bool:
    """Whether both operands are read so often that copying them first costs next to nothing."""
    sides = (p.m.size, p.n.size, p.depth)
    enough = all(n >= least for n, least in zip(sides, LARGE_SIDES))
    return enough and p.flops >= LARGE_FLOPS * p.batch


def is_tall(p: Problem) -> bool:
    """Whether each term of long sums stands in another row of a, of which a tile reads little."""
    sides = (p.m.size, p.n.size, p.depth)
    enough = all(n >= least for n, least in zip(sides, TALL_SIDES))
    return enough and p.m.a == 1 != p.k[-1].a and p.m.size * p.depth >= TALL_ELEMENTS


def is_shallow(p: Problem, panels: bool) -> bool:
    """Whether writing the result takes longer than the short sums in it."""
    enough = p.batch == 1 and p.m.size >= SHALLOW_COPIED * (1 if p.n.b == 1 else 2)
    return p.depth <= SHALLOW_DEPTH and (enough or not panels)


def strided_plan(p: Problem, target: Target, lanes: int, waits: bool) -> Plan:
    """For a large product in which every step of K would touch another cache line and page of a.

    Panels of b stay in the first cache while a block of a passes, which its chunk has copied and
    which stays in the second.
    """
    wide = target.vector_bytes == 64
    shapes = ((8, 3), (6, 4), (12, 2)) if target.registers == 32 else ((6, 2), (4, 3))
    even = [(r, v) for r, v in shapes if p.n.size % (v * lanes) == 0]
    mr, vectors = even[0] if even and waits else fullest(p.n.size, lanes, shapes, copied=True)
    nr = vectors * lanes
    keep = waits and bool(even)
    first = p.k[0].size
    inner = p.depth // first
    deepest = DEEPEST if wide else DEEPEST * 2 // 3
    room = A_ELEMENTS if wide else A_ELEMENTS // 2
    blocks = min(first, -(-p.depth // deepest))
    kc = -(-first // blocks)
    if inner == 1:
        kc = -(-kc // 16) * 16
    blocks = -(-first // kc)
    row_tiles, column_tiles = -(-p.m.size // mr), -(-p.n.size // nr)
    # Few large blocks: every block of rows reads all of b, every block of columns all of a.
    widest = KEPT_COLUMNS if keep else BLOCK_COLUMNS
    rows = -(-row_tiles // max(1, room // (max(kc * inner, widest if keep else 0) * mr)))
    columns = -(-p.n.size // widest)
    threads = available_cpus()
    if rows > 1 and rows * columns * p.batch % threads and row_tiles >= 8 * rows:
        rows = -(-rows // threads) * threads  # none waits for the last chunk
    # A chunk for each thread copies least; so few must be a multiple of the threads.
    wanted, chunks = min(threads, p.flops // LARGE_CHUNK_FLOPS), rows * columns * p.batch
    if chunks < wanted or (chunks < 2 * threads and chunks % threads):
        rows, columns = even_blocks(p, row_tiles, column_tiles, rows, columns, wanted, threads)
    mc, nc = -(-row_tiles // rows) * mr, -(-column_tiles // columns) * nr
    copy_a = mc * kc * inner <= room
    # Few blocks of many rows copy b themselves sooner than it is written to memory and read again
    # (of whole runs of cache lines at a time).
    few = rows <= FEW_ROW_BLOCKS and mc >= 8 * mr
    copy_b = p.n.b == 1 and few and vectors * target.vector_bytes >= 128 and kc * inner * nr <= room
    apart = math.gcd(p.k[-1].b * p.b.dtype.itemsize, REPEAT_BYTES)
    stays = not copy_b or 2 * kc * apart <= REPEAT_BYTES * WAYS
    return Plan(
        mr, nr, nr, mc, nc, first, 1, kc, blocks, 1, True, copy_a, not copy_b, False, copy_b, keep,
        ahead=stays and len(p.k) == 1,
    )  # fmt: skip


def even_blocks(
    p: Problem,
    row_tiles: int,
    column_tiles: int,
    rows: int,
    columns: int,
    wanted: int,
    threads: int,
) -> tuple[int, int]:
    """Blocks of rows and of columns, so many or more: those by which all threads end soonest.

    In cycles per step of K a tile takes 12, and copying its rows and columns 4 and 24, once for
    each block.
    """
    most_rows = max(rows, row_tiles // LARGE_ROW_TILES)
    most_columns = max(columns, p.n.size // LARGE_COLUMNS)
    wanted = min(wanted, most_rows * most_columns * p.batch)
    best: tuple[int, int, int] | None = None
    for r in range(rows, most_rows + 1):
        for c in range(columns, most_columns + 1):
            chunks = r * c * p.batch
            if chunks < wanted:
                continue
            down, across = -(-row_tiles // r), -(-column_tiles // c)
            turns = -(-chunks // threads)
            cycles = turns * (12 * down * across + 4 * down + 24 * across)
            if best is None or cycles < best[0]:
                best = cycles, r, c
            if chunks > 2 * wanted:
                break
    assert best is not None
    return best[1:]


def fullest(
    n: int, lanes: int, shapes: Sequence[tuple[int, int]], copied: bool = False
) -> tuple[int, int]:
    """The tile (rows, vectors) whose columns take the least time for n of them.

    All of the last tile is computed, however few of its columns are new. Rows of two vectors read a
    in more loads for each multiply-add; copying rows of a takes longer where they fill no vectors.
    """

    def vectors(shape: tuple[int, int]) -> float:
        more = 1.06 if shape[0] > 8 else 1.04 if copied and shape[0] % 4 else 1.0
        return -(-n // (shape[1] * lanes)) * shape[1] * more

    return min(shapes, key=vectors)


def rows_abreast(p: Problem) -> int:
    """Rows of a that a tile reads in place, so that their lines stay in the first cache."""
    if p.k[-1].a != 1:
        return p.m.size
    apart = math.gcd(p.m.a * p.a.dtype.itemsize, NEAR_REPEAT_BYTES)
    return NEAR_WAYS * NEAR_REPEAT_BYTES // apart


def tile(p: Problem, target: Target, lanes: int, multiple: int) -> tuple[int, int]:
    """Rows (of a multiple, if there are many) and columns held in registers: the fewest cycles.

    Per step of K a tile of r rows and v vectors takes r*v multiply-adds and r + v loads, two each
    per cycle, and at least the latency of one multiply-add (4 cycles). Loads that miss the first
    cache make large tiles better than the count says.
    """
    best: tuple[float, int, int] | None = None
    depth = max(1, p.depth)
    spare = 1 if target.fma else 2
    most_rows = p.most_rows if multiple > 1 else min(p.most_rows, rows_abreast(p))
    whole = 1 if p.narrow else -(-p.n.size // lanes)  # wide tiles only where all columns are one
    for v in range(1, (whole if whole <= MOST_VECTORS + 1 else MOST_VECTORS) + 1):
        nr = min(p.n.size, v * lanes)
        for r in range(1, (target.registers - spare) // v):
            if r > min(p.m.size, most_rows):
                break
            if r % multiple and r != p.m.size:
                continue
            step = max(r * v / 2, (r + v) / 2, 4.0) + 0.25 * r + 0.3 * v
            if v == 1:
                step *= 1.07
            if depth * v * target.vector_bytes > FAST_BYTES:
                step = max(step, 2.0 * v)
            tiles = -(-p.m.size // r) * -(-p.n.size // nr)
            cycles = tiles * (depth * step + r * v * 1.5 + 15)
            if best is None or cycles < best[0] * 0.999:
                best = cycles, r, nr
    assert best is not None
    return best[1], best[2]
