"""Other ways to compute a matrix product than the one that blocking.py chooses.

`Variants.others` changes one thing about a plan at a time: how operands are read, the tile, the
depth of blocks, the chunks. compiler/tuning.py measures what comes of it.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

from ...codegen.target import Target
from .blocking import MOST_PARTS, Plan, dot_tile, tile
from .contract import Problem

# Elements of an operand that a chunk may copy: a Local lies on the stack of a thread.
MOST_COPIED = 1 << 17
# Register tiles (rows, vectors) for 32 and 16 registers.
TILES = {
    32: ((14, 2), (12, 2), (9, 3), (8, 3), (6, 4), (4, 6), (4, 4), (8, 2), (4, 3), (14, 1), (8, 1)),
    16: ((6, 2), (4, 3), (4, 2), (3, 4), (12, 1), (2, 5), (8, 1), (4, 1)),
}
DOT_TILES = ((1, 4), (1, 8), (2, 4), (2, 8), (3, 4), (3, 8), (4, 3), (4, 4), (4, 6))
DEPTHS = (128, 192, 256, 384, 512, 1024)
CUTS = (1, 2, 4, 8, 16, 32, 64)
CHUNKS = range(4, 129)  # how many there may be: threads to come want some, each costs a little
PARTED_FLOPS = 1 << 27


@dataclass(frozen=True)
class Variants:
    """The plans of one problem."""

    problem: Problem
    compute: str
    target: Target

    @property
    def lanes(self) -> int:
        return self.target.lanes({"f32": 4, "f64": 8}.get(self.compute, 8))

    def made(self, plan: Plan, **changes: Any) -> Plan | None:
        """The plan with changes, its sizes whole multiples again; None if there is no such plan."""
        p = self.problem
        plan = replace(plan, **changes)
        first = p.k[0].size
        inner = p.depth // first
        mr, nr = min(plan.mr, p.m.size), min(plan.nr, p.n.size)
        row = nr if plan.dots else -(-nr // self.lanes) * self.lanes
        mc = -(-min(plan.mc, -(-p.m.size // mr) * mr) // mr) * mr
        nc = -(-min(plan.nc, -(-p.n.size // nr) * nr) // nr) * nr
        part = -(-first // max(1, min(plan.parts, first)))
        parts = -(-first // part)
        kc = -(-part // -(-part // max(1, min(plan.kc, part))))
        blocks = -(-part // kc)
        if plan.keep and (parts > 1 or p.n.size % nr or mc * nc > MOST_COPIED):
            return None
        if plan.copy_a and mc * kc * inner > MOST_COPIED:
            mc = MOST_COPIED // (kc * inner * mr) * mr
            if mc < mr:
                return None
        if plan.copy_b and kc * inner * nr > MOST_COPIED:
            return None
        return replace(
            plan, mr=mr, nr=nr, row=row, mc=mc, nc=nc, part=part, parts=parts, kc=kc,
            blocks=blocks, outer=max(1, min(plan.outer, p.batch)),
        )  # fmt: skip

    def others(self, plan: Plan) -> list[list[Plan]]:
        """Plans that differ from this one in one respect, a list for each respect."""
        p = self.problem
        chunks = -(-p.batch // plan.outer) * plan.parts
        blocks = [
            {"mc": -(-p.m.size // rows), "nc": -(-p.n.size // columns)}
            for rows in CUTS[:6]
            for columns in CUTS
            if rows * columns * chunks in CHUNKS
        ]
        respects = [self.ways(plan), self.tiles(plan)]
        if not plan.dots:
            inner = p.depth // p.k[0].size
            respects.append([{"kc": max(1, d // inner)} for d in (p.depth, *DEPTHS)])
        respects.append(blocks)
        if p.batch > 1:
            respects.append([{"outer": max(1, p.batch // n)} for n in (4, 8, 16, 32, 64)])
        if p.depth >= 512 and p.flops <= PARTED_FLOPS:
            respects.append([{"parts": n} for n in (1, 2, 4, 8, 16, MOST_PARTS)])
        respects.append([{"parallel": not plan.parallel}])
        if len(p.k) == 1 and not plan.dots and (plan.pack_b or p.n.b == 1):
            respects.append([{"ahead": not plan.ahead, "along": False}])
        if not (plan.dots or plan.copy_b or plan.keep):
            respects.append([{"along": not plan.along, "ahead": False}])
        found = []
        for changes in respects:
            plans = dict.fromkeys(self.made(plan, **c) for c in changes)
            if fresh := [x for x in plans if x is not None and x != plan]:
                found.append(fresh)
        return found

    def ways(self, plan: Plan) -> list[dict[str, Any]]:
        """In place, copied by chunks, packed before; as dot products."""
        p = self.problem
        tiled: dict[str, Any] = {"dots": False}
        if plan.dots:
            mr, nr = tile(p, self.target, self.lanes, 1)
            tiled |= {"mr": mr, "nr": nr}
        found = [
            {
                **tiled,
                "copy_a": copy_a,
                "pack_b": pack_b,
                "copy_b": copy_b,
                "ahead": False,
                "along": plan.along and not copy_b,
            }
            for copy_a in (False, True)
            for pack_b, copy_b in ((False, False), (True, False), (False, True))
            if not (p.steady and copy_b)
        ]
        last = p.k[-1]
        if last.a == last.b == 1 and last.size >= 16 and p.m.size <= 256 and not plan.keep:
            mr, nr = dot_tile(p, self.target)
            found.append(
                {
                    "dots": True, "mr": mr, "nr": nr, "copy_a": False, "pack_b": False,
                    "copy_b": False, "ahead": False, "along": False, "kc": p.k[0].size,
                }
            )  # fmt: skip
        return found

    def tiles(self, plan: Plan) -> list[dict[str, Any]]:
        if plan.dots:
            most = 24 if self.target.registers == 32 else 12 if self.target.fma else 8
            return [{"mr": r, "nr": c} for r, c in DOT_TILES if r * c <= most]
        shapes = [*TILES[self.target.registers]]
        m, spare = self.problem.m.size, 1 if self.target.fma else 2
        if m < 14:
            shapes += [(m, v) for v in (1, 2, 3, 4, 6)]
        fits = [(r, v) for r, v in shapes if r * v + v + spare <= self.target.registers]
        return [{"mr": r, "nr": v * self.lanes} for r, v in fits]

    def read(self, written: dict[str, Any]) -> Plan | None:
        """A plan of this problem from its fields; None if they are not that."""
        if set(written) != {f.name for f in fields(Plan)}:
            return None
        for f in fields(Plan):
            value = written[f.name]
            if str(f.type) != type(value).__name__ or (type(value) is int and value < 0):
                return None
        plan = Plan(**written)
        if not (plan.mr and plan.nr and plan.mc and plan.nc and plan.kc and plan.parts):
            return None
        if plan.dots and (plan.pack_b or plan.copy_a or plan.copy_b or plan.blocks > 1):
            return None
        if plan.along and (plan.dots or plan.copy_b or plan.ahead):
            return None
        return plan if self.made(plan) == plan else None
