"""Sizes of tiles, blocks and parts of a matrix product. They depend on shapes and target only."""

from __future__ import annotations

from dataclasses import dataclass

from ...codegen.target import Target, host
from ..reader import compute_type
from .contract import Problem

# Fewer floating-point operations than this run on one thread: waking another costs as much.
PARALLEL_FLOPS = 100_000
# Least work of a chunk.
CHUNK_FLOPS = 200_000
MOST_CHUNKS = 64
FORCE = None


@dataclass(frozen=True)
class Plan:
    """mr, nr: the tile; mc, nc: the block of a chunk (multiples of them); kc: K of one part."""

    mr: int
    nr: int
    mc: int
    nc: int
    kc: int
    parts: int
    outer: int  # matrices per chunk
    parallel: bool
    pack_a: bool = False
    pack_b: bool = False


def plan(problem: Problem, target: Target | None = None) -> Plan:
    target = target or host()
    p = problem
    lanes = target.lanes({"f32": 4, "f64": 8}.get(compute_type(p.out.dtype), 8))
    mr, nr = tile(p, target, lanes)
    mc, nc = -(-p.m.size // mr) * mr, -(-p.n.size // nr) * nr
    depth = max(1, p.depth)
    outer, parts, kc = 1, 1, p.k[0].size
    per_matrix = 2 * p.m.size * p.n.size * depth
    if p.flops < 2 * CHUNK_FLOPS:
        outer = p.batch
    elif per_matrix < CHUNK_FLOPS:
        outer = min(p.batch, -(-CHUNK_FLOPS // per_matrix))
        outer = max(outer, -(-p.batch // MOST_CHUNKS))
    chunks = -(-p.batch // outer)
    if outer == 1:
        wanted = max(1, min(MOST_CHUNKS, p.flops // CHUNK_FLOPS))
        while chunks < wanted:
            # Halve the longer side of the block.
            if mc >= nc and mc >= 2 * mr:
                mc = -(-(mc // mr) // 2) * mr
            elif nc >= 2 * nr:
                nc = -(-(nc // nr) // 2) * nr
            elif mc >= 2 * mr:
                mc = -(-(mc // mr) // 2) * mr
            else:
                break
            chunks = -(-p.batch // outer) * -(-p.m.size // mc) * -(-p.n.size // nc)
    pack_a, pack_b = FORCE if FORCE else (False, p.n.b != 1)
    return Plan(mr, nr, mc, nc, kc, parts, outer, p.flops >= PARALLEL_FLOPS, pack_a, pack_b)


def tile(p: Problem, target: Target, lanes: int) -> tuple[int, int]:
    """Rows and columns held in registers."""
    vectors = min(3 if target.registers == 32 else 2, -(-p.n.size // lanes))
    most = (target.registers - 4 - vectors) // vectors
    return min(p.m.size, most, 8 if vectors == 3 else 6 if vectors == 2 else 12), min(
        p.n.size, vectors * lanes
    )
