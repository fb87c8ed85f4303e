"""What becomes of the sums in a tile of a matrix product (gemm.py).

They go to the output, or through an epilogue; straight from registers where that is all. Sums of
parts and blocks of K wait in memory, or in a Local of the chunk, through whose rows (or columns)
the epilogue runs. A chunk may also add up the lines of an operand that it copies.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ...codegen.builder import BYTES
from ...codegen.target import host
from ...core.symbolic import hint
from ...ir.graph import Node, Value
from ...kernel import scalar as s
from ...kernel.ir import (
    Buffer,
    Call,
    Const,
    Expr,
    If,
    Kernel,
    Let,
    Load,
    Local,
    Loop,
    Prefetch,
    Reduce,
    Stmt,
    Store,
    Var,
)  # fmt: skip
from ..steps import Context, Scratch, Step
from .blocking import Plan
from .contract import Dim, Problem, output_index
from .packing import ZERO, Sizes, const

# Multiply-adds in a tile from which on its results' places are asked for before they are done.
AHEAD_PRODUCTS = 1 << 13
# Rows and columns of a square that is transposed in registers, at most.
WIDEST_SQUARE = 16
Write = Callable[[Expr, Expr, Expr], "list[Stmt]"]


@dataclass
class Ends:
    """One contraction, and how its kernels end."""

    node: Node
    problem: Problem
    plan: Plan
    context: Context
    compute: str  # dtype of the sums
    waits: bool
    opaque: bool
    sizes: Sizes = field(default_factory=Sizes)
    depth: int = 0  # K of the deepest block
    sums: Scratch | None = None  # of parts, or of blocks of K
    line_sum: Value | None = None  # a value that is the sum of the lines of a

    def k_range(self) -> tuple[Expr, Expr]:
        """The indices of the outermost summed loop that a block covers."""
        plan = self.plan
        if plan.parts == 1 and plan.blocks == 1:
            return ZERO, const(self.problem.k[0].size)
        _, stop = self.part_range()
        if plan.blocks > 1:
            stop = s.minimum(Var("block") + plan.kc, stop)
        return Var("block"), stop

    def part_range(self) -> tuple[Expr, Expr]:
        """The indices of the outermost summed loop that a part covers."""
        depth = self.sizes("depth", self.problem.k[0].size)
        if self.plan.parts == 1:
            return ZERO, depth
        start = Var("part") * self.plan.part
        return start, s.minimum(start + self.plan.part, depth)

    def edges(self) -> tuple[bool, bool]:
        """Whether some tiles overlap the one above, and the one to the left."""
        return self.problem.m.size % self.plan.mr != 0, self.problem.n.size % self.plan.nr != 0

    def outer_position(self) -> tuple[list[Stmt], list[tuple[Dim, str]]]:
        """Lets for the index of each outer loop, from the linear number "o"."""
        lets: list[Stmt] = []
        pairs: list[tuple[Dim, str]] = []
        rest: Expr = Var("o")
        dims = self.problem.outer
        for i in reversed(range(len(dims))):
            extent = self.sizes("extent", dims[i].size)
            lets.append(Let(f"o{i}", rest if i == 0 else rest % extent))
            pairs.append((dims[i], f"o{i}"))
            rest = rest / extent
        return lets, pairs

    def add_result(self, buffers: list[Buffer], values: list[Any]) -> None:
        """The buffers of what is stored in the end."""
        epilogue = self.context.epilogue
        if epilogue is None:
            buffers.append(Buffer("out", self.problem.out.dtype.code, True))
            values.append(self.problem.out)
        else:
            buffers += epilogue.buffers
            values += epilogue.values

    def sum_place(self, row: Expr, column: Expr) -> Expr:
        p, size = self.problem, self.sizes
        matrix = Var("part") * size("batch", p.batch) + Var("o")
        return (matrix * size("m", p.m.size) + row) * size("n", p.n.size) + column

    def result_place(self, row: Expr, column: Expr) -> Expr:
        p, size = self.problem, self.sizes
        at = ZERO + row * size("ldm", p.m.out) + column * size("ldn", p.n.out)
        for i, d in enumerate(p.outer):
            at = at + Var(f"o{i}") * size("out_step", d.out)
        return at

    def end(self, pairs: list[tuple[Dim, str]]) -> Write:
        """What is done with an element of the result: the epilogue, or the output's store."""
        p, epilogue = self.problem, self.context.epilogue

        def to_output(row: Expr, column: Expr, value: Expr) -> list[Stmt]:
            value = s.cast(value, p.out.dtype.code)
            return [Store("out", self.result_place(row, column), value)]

        def to_epilogue(row: Expr, column: Expr, value: Expr) -> list[Stmt]:
            assert epilogue is not None
            index = output_index(p, [*pairs, (p.m, "row"), (p.n, "column")], self.opaque)
            return epilogue.emit(index, value)

        return to_output if epilogue is None else to_epilogue

    def results_ahead(self, pairs: list[tuple[Dim, str]]) -> list[Stmt]:
        """Ask for what the end of a tile reads and writes in its row r, so that it is there after a
        long sum."""
        p, plan, epilogue = self.problem, self.plan, self.context.epilogue
        once = plan.parts == 1 and plan.blocks == 1 and not plan.keep and not plan.dots
        if not once or plan.mr * plan.nr * hint(p.depth) < AHEAD_PRODUCTS:
            return []
        line = 64 // BYTES[p.out.dtype.code]
        row, column = Var("first_row") + Var("r"), Var("first_column") + Var("j") * line
        if epilogue is None:
            asked: list[Stmt] = [Prefetch("out", self.result_place(row, column))]
        else:
            index = output_index(p, [*pairs, (p.m, "row"), (p.n, "column")], self.opaque)
            asked = [Let("row", row), Let("column", column), *epilogue.ahead(index)]
        return [Loop("j", ZERO, const(-(-plan.nr // line)), tuple(asked))]

    def store(self, pairs: list[tuple[Dim, str]]) -> list[Stmt]:
        """Put acc where it belongs: to the sums, to the output, or through the epilogue."""
        plan = self.plan

        def to_sums(row: Expr, column: Expr, value: Expr) -> list[Stmt]:
            return [Store("sums", self.sum_place(row, column), value)]

        if plan.parts > 1:
            return self.written(to_sums)
        end = self.written(self.end(pairs), inline=self.context.epilogue is None)
        if self.sums is None:
            return end
        more = Var("block") + plan.kc < self.part_range()[1]
        return [If(more, tuple(self.written(to_sums)), tuple(end))]

    def written(self, write: Write, inline: bool = True) -> list[Stmt]:
        """write(row, column, value) for each element of acc that this tile is to store.

        Straight from registers where `inline` and the tile is whole; else by way of memory, in
        loops, so that what is written stands in the code only once.
        """
        plan, compute = self.plan, self.compute
        mr, nr = plan.mr, plan.nr
        r, j = Var("r"), Var("j")
        place = r * plan.row + j
        row, column = Var("first_row") + r, Var("first_column") + j
        row_edge, column_edge = self.edges()
        direct: Stmt | None = None
        if inline:
            direct = tile_loop(mr, nr, *write(row, column, Load("acc", place, compute)))
            if not (row_edge or column_edge):
                return [direct]
        start_row = Var("tile_row") - Var("first_row") if row_edge else ZERO
        start_column = Var("tile_column") - Var("first_column") if column_edge else ZERO
        body = write(Var("row"), Var("column"), Load("spill", place, compute))
        across = Loop("j", start_column, const(nr), (Let("column", column), *body), "vector")
        spilled: tuple[Stmt, ...] = (
            Local("spill", compute, mr * plan.row),
            tile_loop(mr, plan.row, Store("spill", place, Load("acc", place, compute))),
            Loop("r", start_row, const(mr), (Let("row", row), across)),
        )
        if direct is None:
            return list(spilled)
        cut: Expr = start_row > 0 if row_edge else start_column > 0
        if row_edge and column_edge:
            cut = Call("or", (cut, start_column > 0), "bool")
        return [If(cut, spilled, (direct,))]

    # Sums kept until the epilogue

    def sum(self) -> Expr:
        """Element (r, j) of the tile's sums."""
        return Load("acc", Var("r") * self.plan.row + Var("j"), self.compute)

    def kept_place(self) -> Expr:
        """Where element (r, j) of a tile stands in the chunk's kept block."""
        plan = self.plan
        row = Var("tile_row") - Var("row_start") + Var("r")
        column = Var("tile_column") - Var("column_block") * plan.nc
        return row * plan.nc + column + Var("j")

    def kept_blocks(
        self, block: list[Stmt], over_rows: Callable[[list[Stmt]], Stmt], pairs: list[Any]
    ) -> list[Stmt]:
        """All blocks of K into a Local, then the epilogue, row by row."""
        p, plan, size = self.problem, self.plan, self.sizes
        k_start, k_stop = self.part_range()
        lets: list[Stmt] = [Local("kept", self.compute, plan.mc * plan.nc)]
        if plan.blocks > 1:
            lets.append(Let("part_start", k_start))
            block = [Loop("block", k_start, k_stop, tuple(block), step=plan.kc)]
        start = Var("column_block") * plan.nc
        width = s.minimum(const(plan.nc), size("n", p.n.size) - start)
        if p.m.out == 1 != p.n.out:
            return [*lets, *block, self.kept_columns(start, width, pairs)]
        place = (Var("tile_row") - Var("row_start") + Var("r")) * plan.nc + Var("j")
        written = self.end(pairs)(Var("row"), Var("column"), Load("kept", place, self.compute))
        lanes = Loop("j", ZERO, width, (Let("column", start + Var("j")), *written), "vector")
        skipped = Var("tile_row") - Var("first_row") if self.edges()[0] else ZERO
        row = Let("row", Var("first_row") + Var("r"))
        # A tile that was moved back has rows that the one before has stored.
        epilogue = over_rows([Loop("r", skipped, const(plan.mr), (row, lanes))])
        return [*lets, *block, epilogue]

    def kept_columns(self, start: Expr, width: Expr, pairs: list[Any]) -> Stmt:
        """The epilogue where neighbours in the result are those of a column: some columns at a
        time are transposed, in squares, of which the last overlaps the one before."""
        p, plan = self.problem, self.plan
        lanes = host().lanes(BYTES[self.compute])
        rows = s.minimum(const(plan.mc), self.sizes("m", p.m.size) - Var("row_start"))
        i, j, r = Var("i"), Var("j"), Var("r")
        row = s.minimum(Var("square"), rows - lanes) + i
        kept = Load("kept", row * plan.nc + Var("strip") + j, self.compute)
        turn = Loop("i", ZERO, const(lanes), (Store("turned", j * plan.mc + row, kept),), "unroll")
        squares = Loop("square", ZERO, rows, (
            Loop("j", ZERO, const(lanes), (turn,), "vector"),
        ), step=lanes)  # fmt: skip
        element = Load("turned", j * plan.mc + r, self.compute)
        written = self.end(pairs)(Var("row"), Var("column"), element)
        across = Loop("r", ZERO, rows, (Let("row", Var("row_start") + r), *written), "vector")
        column = Let("column", start + Var("strip") + j)
        return Loop("strip", ZERO, width, (
            Local("turned", self.compute, lanes * plan.mc),
            squares,
            Loop("j", ZERO, const(lanes), (column, across)),
        ), step=lanes)  # fmt: skip

    # The sums of the lines of a, where another value is their sum (operand_sums.py)

    def sums_lines(self) -> bool:
        """Whether a chunk has each line of a that it copies for itself, in the sum's order."""
        p, plan, wanted = self.problem, self.plan, self.context.operand_sum
        if wanted is None or wanted.total.dtype.code != self.compute or not plan.copy_a:
            return False
        if plan.parts > 1 or p.outer or len(p.k) > 1 or p.m.size % plan.mr:
            return False
        v, axis = wanted.of, wanted.axis
        step = self.context.strides(v)[axis]
        return p.a is v and p.a_offset == 0 and (p.m.size, p.m.a) == (v.shape[axis], step)

    def add_lines(self) -> list[Stmt]:
        """Add the lines of a panel of the copied block to their sums."""
        mr, j = self.plan.mr, Var("j")
        panel = Var("tile_row") - Var("row_start")
        start, stop = self.k_range()
        x = Load("a_block", panel * self.depth + Var("line_k") * mr + j, self.compute)
        turn = Loop("j", ZERO, const(mr), (Reduce("add", "panel_sums", j, x),), "vector")
        zero = Store("panel_sums", j, Const(0.0, self.compute))
        return [
            Local("panel_sums", self.compute, mr),
            Loop("j", ZERO, const(mr), (zero,), "vector"),
            Loop("line_k", ZERO, stop - start, (turn,)),
            Loop("j", ZERO, const(mr), (
                Reduce("add", "sums_here", panel + j, Load("panel_sums", j, self.compute)),
            ), "vector"),
        ]  # fmt: skip

    def with_lines(self, body: list[Stmt]) -> list[Stmt]:
        """A chunk's statements with the sums of its lines."""
        if self.line_sum is None:
            return body
        mc, j = self.plan.mc, Var("j")
        zero = Store("sums_here", j, Const(0.0, self.compute))
        rows = s.minimum(const(mc), self.sizes("m", self.problem.m.size) - Var("row_start"))
        total = Store("line_sums", Var("row_start") + j, Load("sums_here", j, self.compute))
        return [
            Let("row_start", Var("row_block") * mc),
            Local("sums_here", self.compute, mc),
            Loop("j", ZERO, const(mc), (zero,), "vector"),
            *body,
            If(s.eq(Var("column_block"), 0), (Loop("j", ZERO, rows, (total,), "vector"),)),
        ]

    # The sum of the parts

    def sum_of_parts(self) -> Step:
        p, plan = self.problem, self.plan
        self.sizes = size = Sizes()
        lets, pairs = self.outer_position()
        n, m = size("n", p.n.size), size("m", p.m.size)
        row, column = Var("row"), Var("column")
        position = (Var("o") * m + row) * n + column
        total: Expr | None = None
        for i in range(plan.parts):
            at = position + size("part", p.batch * p.m.size * p.n.size) * i
            x = Load("parts", at, self.compute)
            total = x if total is None else total + x
        assert total is not None
        buffers = [Buffer("parts", self.compute)]
        values: list[Any] = [self.sums]
        self.add_result(buffers, values)
        epilogue = self.context.epilogue
        if epilogue is None:
            place = self.result_place(row, column)
            body: list[Stmt] = [Store("out", place, s.cast(total, p.out.dtype.code))]
        else:
            index = output_index(p, [*pairs, (p.m, "row"), (p.n, "column")], self.opaque)
            body = [Let("sum", total), *epilogue.emit(index, Var("sum", self.compute))]
        rows = p.batch * p.m.size
        block = max(1, min(hint(rows), 8192 // hint(p.n.size)))
        blocks = -(-rows // block)
        first = Var("chunk") * block
        loop = Loop(
            "line", first, s.minimum(first + block, size("rows", rows)),
            (
                Let("o", Var("line") / m),
                Let("row", Var("line") % m),
                *lets,
                Loop("column", ZERO, n, tuple(body), "vector"),
            ),
        )  # fmt: skip
        name = f"{self.context.title}_sum"
        grid = size("blocks", blocks)
        kernel = Kernel(name, tuple(buffers), (loop,), tuple(size.names.values()), grid)
        work = plan.parts * rows * p.n.size
        parallel = hint(work) > 65536
        return Step(kernel, values, size.values, parallel, work, name, [self.node])


def tile_loop(mr: int, nr: int, *stmts: Stmt) -> Stmt:
    """The statements for each row r, written out, and all columns j, in lanes."""
    columns = Loop("j", ZERO, const(nr), stmts, "vector")
    return Loop("r", ZERO, const(mr), (columns,), "unroll")
