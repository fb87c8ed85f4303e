"""Sizes of tiles, blocks and parts of a matrix product. They depend on shapes and target only.

The numbers were measured on a Zen 5 core (two 512-bit multiply-adds per cycle, 48 KiB L1, 1 MiB L2)
with benchmarks/gemm.py; the model behind them counts cycles and fits other processors of the kind.
"""

from __future__ import annotations

from dataclasses import dataclass

from ...codegen.target import Target
from .contract import Problem

# Fewer floating-point operations than this run on one thread: waking another costs as much.
PARALLEL_FLOPS = 100_000
# Least work of a chunk.
CHUNK_FLOPS = 400_000
MOST_CHUNKS = 64
# K of one block: a panel of b of this depth and a few of a stay in the second-level cache.
BLOCK_DEPTH = 512
# Bytes of a panel that are read from the first-level cache at full speed.
FAST_BYTES = 24 << 10


@dataclass(frozen=True)
class Plan:
    """mr, nr: the tile; mc, nc: the block of a chunk (multiples of them); `part`: K of one part;
    kc: K of one block of a part (both along the outermost summed loop).

    row is the length of a tile's row in registers: nr rounded up to whole vectors. `outer`
    matrices make a chunk.
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
    pack_a: bool
    pack_b: bool


def plan(p: Problem, compute: str, target: Target) -> Plan:
    """How to compute a contraction, from its shapes, strides and the target."""
    lanes = target.lanes({"f32": 4, "f64": 8}.get(compute, 8))
    mr, nr = tile(p, target, lanes)
    mc, nc = -(-p.m.size // mr) * mr, -(-p.n.size // nr) * nr
    pack_a, pack_b = packs(p, nr)
    chunks = p.batch
    wanted = max(1, min(MOST_CHUNKS, p.flops // CHUNK_FLOPS))
    outer = max(1, p.batch // wanted)
    while chunks < wanted:
        # Halve the longer side of the block.
        rows, columns = mc // mr, nc // nr
        if rows > 1 and (mc >= nc or columns == 1):
            mc = -(-rows // 2) * mr
        elif columns > 1:
            nc = -(-columns // 2) * nr
        else:
            break
        chunks = p.batch * -(-p.m.size // mc) * -(-p.n.size // nc)
    first = p.k[0].size
    parts, part = 1, first
    kc, blocks = part, 1
    if BLOCK_DEPTH * 2 <= p.depth // max(1, first) * part:
        step = max(1, BLOCK_DEPTH * first // p.depth)
        blocks = -(-part // step)
        kc = -(-part // blocks)
        blocks = -(-part // kc)
    row = -(-nr // lanes) * lanes
    return Plan(mr, nr, row, mc, nc, part, parts, kc, blocks, outer,
                p.flops >= PARALLEL_FLOPS, pack_a, pack_b)  # fmt: skip


def packs(p: Problem, nr: int) -> tuple[bool, bool]:
    """Whether to copy a and b into panels first."""
    if FORCE:
        return FORCE
    elements = p.m.size * p.depth
    a_runs = p.k[-1].a == 1 or p.k[-1].size == 1
    pack_a = not a_runs and p.n.size >= 2 * nr and elements >= 1 << 19
    far = p.k[-1].b * p.b.dtype.itemsize
    pack_b = p.n.b != 1 and p.n.size > 1
    if p.m.size >= 192 and (p.depth * p.n.size >= 1 << 19 or (far % 4096 == 0 and p.depth > 64)):
        pack_b = True
    return pack_a, pack_b


FORCE: tuple[bool, bool] | None = None


def tile(p: Problem, target: Target, lanes: int) -> tuple[int, int]:
    """Rows and columns held in registers: the fewest cycles by a simple count.

    Per step of K a tile of r rows and v vectors takes r*v multiply-adds and r + v loads, two each
    per cycle, and at least the latency of one multiply-add (4 cycles). Loads that miss the first
    cache make large tiles better than the count says.
    """
    best: tuple[float, int, int] | None = None
    depth = max(1, p.depth)
    spare = 1 if target.fma else 2
    for v in range(1, min(6, -(-p.n.size // lanes)) + 1):
        nr = min(p.n.size, v * lanes)
        for r in range(1, (target.registers - spare) // v):
            if r > p.m.size:
                break
            step = max(r * v / 2, (r + v) / 2, 4.0) + 0.08 * (r + v)
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
