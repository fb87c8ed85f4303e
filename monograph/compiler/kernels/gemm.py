"""Matrix products: tiles of the result held in registers, operands read in place or packed.

    chunk -> (outer loops, part of K, block of rows, block of columns)
      for each NR columns of the block:
        for each MR rows of the block:
          acc[MR, NR] = 0
          for k: acc[r, :] += a[r, k] * b[k, :]
          store acc, or run the epilogue on it

Tiles at the lower and right edges overlap their neighbours instead of being cut (only the rows and
columns that nobody else stores are stored), so there is one inner loop without masks. Where the
result is small and K is long, K is cut into parts, whose partial results are added in order.
After Goto and van de Geijn, Anatomy of High-Performance Matrix Multiplication (2008). Choice of
sizes: blocking.py. Loops and strides: contract.py. What becomes of a tile's sums: gemm_ends.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from ...codegen.builder import BYTES
from ...codegen.target import host
from ...core.symbolic import hint, is_symbolic
from ...ir.graph import Node
from ...kernel import scalar as s
from ...kernel.ir import (
    Buffer,
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
from .. import tuning
from ..index import NeedSplit
from ..reader import compute_type
from ..steps import Context, Scratch, Step, lowers
from .blocking import Plan, plan, turns
from .contract import Problem, analyse
from .gemm_ends import WIDEST_SQUARE, Ends, tile_loop
from .packing import ZERO, Matrix, const, copy_block, outer_pairs, pack
from .variants import Variants

# Panels of a that a chunk fills at a time: processors keep few pages at hand for stores (16 on
# recent Intel ones).
PANELS_ABREAST = 12
# Columns, at most, and K for which a tile asks for the next rows of a: of at most half a page.
NEXT_COLUMNS, NEXT_DEPTH, NEXT_BYTES = 16, 32, 2048


@dataclass
class Operand:
    """How a tile reads an operand: element (i, k) stands at base + tile + i*step + k*inner.

    `tile` is line*start for a tile that begins at the given line.
    """

    buffer: str
    dtype: str
    base: Expr  # of the outer loops
    start: Expr
    step: Expr
    inner: tuple[Expr, ...]  # per summed loop

    def load(
        self, tile: Expr, i: Expr, ks: tuple[Expr, ...], compute: str, mask: Expr | None = None
    ) -> Expr:
        at = self.base + tile + i * self.step
        for k, stride in zip(ks, self.inner):
            at = at + k * stride
        return s.cast(Load(self.buffer, at, self.dtype, mask), compute)


@lowers("contract", epilogue=True)
def lower_contract(node: Node, context: Context) -> list[Step] | None:
    """Steps of a contraction: tiles, and the sum of the parts where K is cut."""
    # An epilogue that reshapes may need loops of its own letters; or, failing that, divisions.
    for merges, opaque in ((True, False), (False, False), (False, True)):
        problem = analyse(node, context, merges)
        if problem is None:
            return None
        if 0 in problem.out.shape:
            return []
        compute = compute_type(problem.out.dtype)
        # Whether sums of blocks of K must wait in memory of their own.
        waits = context.epilogue is not None or problem.out.dtype.code != compute
        if turns(problem, compute, host(), context.epilogue is not None):
            problem, waits = problem.turned(), True
        chosen = plan(problem, compute, host(), waits)
        if chosen.keep and problem.n.size > problem.m.size and not problem.steady:
            # Many columns are better rows: each is read once, by one chunk.
            turned = problem.turned()
            other = plan(turned, compute, host(), waits)
            m, mc = turned.m.size, other.mc
            if other.keep and m % other.mr == 0 and (m - 1) % mc + 1 >= WIDEST_SQUARE:
                problem, chosen = turned, other

        def build(
            plan: Plan, problem: Problem = problem, compute: str = compute,
            waits: bool = waits, opaque: bool = opaque,
        ) -> list[Step]:  # fmt: skip
            return Writer(node, problem, plan, context, compute, waits, opaque).steps()

        try:
            if tuning.enabled() and problem.at_hint() is problem:
                choices = Variants(problem, compute, host())
                chosen = tuning.fastest(
                    chosen, build, choices.others, asdict, choices.read, context
                )
            return build(chosen)
        except NeedSplit:
            continue
    raise AssertionError("an opaque index asks for no split")


@dataclass
class Writer(Ends):
    """Writes the kernels of one contraction."""

    packed: Scratch | None = None  # b in panels

    def steps(self) -> list[Step]:
        p, plan, title = self.problem, self.plan, self.context.title
        self.a = Matrix(p.a, p.a_offset, outer_pairs(p.outer, "a"), (p.m.size, p.m.a),
                        tuple((d.size, d.a) for d in p.k))  # fmt: skip
        self.b = Matrix(p.b, p.b_offset, outer_pairs(p.outer, "b"), (p.n.size, p.n.b),
                        tuple((d.size, d.b) for d in p.k))  # fmt: skip
        if not plan.pack_b:
            return self.product()
        name = f"{title}_pack_b"
        step, self.packed = pack(self.b, plan.nr, self.compute, host(), name, plan.parallel)
        step.nodes.append(self.node)
        return [step, *self.product()]

    # The product of the parts

    def product(self) -> list[Step]:
        p, plan, size = self.problem, self.plan, self.sizes
        row_blocks = -(-p.m.size // plan.mc)
        column_blocks = -(-p.n.size // plan.nc)
        wanted = self.context.operand_sum if self.sums_lines() else None
        self.line_sum = None if wanted is None else wanted.total
        self.context.makes_sum = wanted is not None
        # Sums of parts, and of blocks if nothing but the end result may be in the output's memory,
        # stand in memory of their own.
        partial = plan.parts > 1
        if partial or (plan.blocks > 1 and self.waits and not plan.keep):
            self.sums = Scratch(self.compute, plan.parts * p.batch * p.m.size * p.n.size)
        rb, cb = size("rb", row_blocks), size("cb", column_blocks)
        parts = size("parts", plan.parts)
        chunk: Expr = Var("chunk")
        # Threads take runs of chunks: of rows, so that they meet the same rows of a weight in its
        # gradient and update as in the product before, or of columns where those are its rows.
        m, n, depth = hint(p.m.size), hint(p.n.size), hint(p.depth)
        if m * n >= depth * max(m, n) or m > n:
            blocks = [Let("column_block", chunk % cb), Let("row_block", (chunk / cb) % rb)]
        else:
            blocks = [Let("row_block", chunk % rb), Let("column_block", (chunk / rb) % cb)]
        body: list[Stmt] = [
            *blocks,
            Let("part", (chunk / (rb * cb)) % parts),
        ]
        outer_block = chunk / (rb * cb * parts)
        outers = -(-p.batch // plan.outer)
        inside = self.with_lines(self.tiles())
        if plan.outer == 1:
            body += [Let("o", outer_block), *inside]
        else:
            stop = s.minimum(outer_block * plan.outer + plan.outer, size("batch", p.batch))
            body += [Loop("o", outer_block * plan.outer, stop, tuple(inside))]
        grid = rb * cb * parts * size("outers", outers)
        values: list[Any] = [p.a, self.packed or p.b]
        buffers = [Buffer("lhs", _code(values[0])), Buffer("rhs", _code(values[1]))]
        if self.line_sum is not None:
            buffers.append(Buffer("line_sums", self.compute, True))
            values.append(self.line_sum)
        if self.sums is not None:
            buffers.append(Buffer("sums", self.compute, True))
            values.append(self.sums)
        if not partial:
            self.add_result(buffers, values)
        title = self.context.title
        kernel = Kernel(title, tuple(buffers), tuple(body), tuple(size.names.values()), grid)
        step = Step(kernel, values, size.values, plan.parallel, p.flops, title, [self.node])
        return [step, self.sum_of_parts()] if partial else [step]

    def operand(
        self, buffer: str, matrix: Matrix, width: int, packed: Scratch | None = None
    ) -> Operand:
        size = self.sizes
        base: Expr = ZERO if packed else size("offset", matrix.offset)
        following = matrix.panel_elements(width)
        for i, (n, stride) in reversed(list(enumerate(matrix.outer))):
            if stride:
                base = base + Var(f"o{i}") * size("so", following if packed else stride)
                following *= n
        if packed is None:
            in_place = tuple(const(stride) for _, stride in matrix.k)
            step = const(matrix.lines[1])
            return Operand(buffer, matrix.value.dtype.code, base, step, step, in_place)
        inner: tuple[Expr, ...] = ()
        following = width
        for n, _ in reversed(matrix.k):
            inner = (size("panel_step", following) if inner else const(width), *inner)
            following *= n
        depth = size("depth_all", matrix.depth)
        return Operand(buffer, packed.dtype, base, depth, const(1), inner)

    def copied(self, name: str, matrix: Matrix, width: int, start: Expr) -> Operand:
        """How a tile reads what its chunk has copied."""
        inner: list[Expr] = []
        following = width
        for n, _ in reversed(matrix.k):
            inner.insert(0, const(following))
            following *= n
        before = ZERO - self.k_range()[0] * inner[0]
        return Operand(name, self.compute, before, start, const(1), tuple(inner))

    def copy(
        self, name: str, source: str, matrix: Matrix, width: int, lines: int,
        panels_loop: Callable[[list[Stmt]], Stmt],
    ) -> list[Stmt]:  # fmt: skip
        """The Local of a block of an operand, and the loops that fill it."""
        at: Expr = self.sizes("offset", matrix.offset)
        for i, (_, stride) in enumerate(matrix.outer):
            if stride:
                at = at + Var(f"o{i}") * self.sizes("so", stride)
        shortest = self.plan.shortest_block(self.problem)
        loops = copy_block(
            matrix, width, self.compute, host(), self.k_range(), shortest, panels_loop, name, source
        )
        return [Local(name, self.compute, lines * self.depth), Let("source", at), *loops]

    def copy_a(self, over_rows: Callable[..., Stmt]) -> list[Stmt]:
        """Copy a chunk's rows of a, a few panels side by side: each is filled in another page."""
        rows = self.plan.mr * PANELS_ABREAST

        def panels(body: list[Stmt]) -> Stmt:
            start = (Var("tile_row") - Var("row_start")) * self.depth
            lets = (Let("first", Var("first_row")), Let("panel_start", start))
            return over_rows([*lets, *body], Var("abreast"), rows)

        copy = self.copy("a_block", "lhs", self.a, self.plan.mr, self.plan.mc, panels)
        stop = s.minimum(Var("row_start") + self.plan.mc, self.sizes("m", self.problem.m.size))
        copied = [*copy[:2], Loop("abreast", Var("row_start"), stop, tuple(copy[2:]), step=rows)]
        return copied if self.line_sum is None else [*copied, over_rows(self.add_lines())]

    def copy_b(self) -> list[Stmt]:
        """Copy the columns of b of one tile."""

        def panel(body: list[Stmt]) -> Stmt:
            lets = (Let("first", Var("first_column")), Let("panel_start", ZERO))
            return Loop("panel", ZERO, const(1), (*lets, *body))

        return self.copy("b_block", "rhs", self.b, self.plan.nr, self.plan.nr, panel)

    def tiles(self) -> list[Stmt]:
        p, plan, size = self.problem, self.plan, self.sizes
        mr, nr = plan.mr, plan.nr
        lets, pairs = self.outer_position()
        self.depth = plan.depth_of_block(p)
        a = self.operand("lhs", self.a, mr)
        b = self.operand("rhs", self.b, nr, self.packed)
        if plan.copy_a:
            a = self.copied("a_block", self.a, mr, const(self.depth))
        if plan.copy_b:
            b = self.copied("b_block", self.b, nr, ZERO)
        m_size, n_size = size("m", p.m.size), size("n", p.n.size)
        row_edge, column_edge = self.edges()
        first_row, first_column = Var("first_row"), Var("first_column")
        tile_row: Expr = Var("tile_row")
        tile_column: Expr = Var("tile_column")
        a_tile, b_tile = first_row * a.start, first_column * b.start
        if plan.copy_a:
            a_tile = (tile_row - Var("row_start")) * a.start
        if self.packed is not None or plan.copy_b:
            b_tile = tile_column * b.start
        row_start: Expr = Var("row_start")
        column_start = Var("column_block") * plan.nc

        def over_rows(body: list[Stmt], start: Expr = row_start, most: int = plan.mc) -> Stmt:
            first = s.minimum(tile_row, m_size - mr) if row_edge else tile_row
            stop = s.minimum(row_start + plan.mc, m_size)
            if most < plan.mc:
                stop = s.minimum(start + most, stop)
            return Loop("tile_row", start, stop, (Let("first_row", first), *body), step=mr)

        ask = [*self.results_ahead(pairs), *self.next_rows(a, a_tile)]
        tile = self.tile(a, b, a_tile, b_tile, ask)
        if plan.keep:
            tile.append(tile_loop(mr, nr, Store("kept", self.kept_place(), self.sum())))
        else:
            tile += self.store(pairs)
        if self.line_sum is None:
            lets.append(Let("row_start", Var("row_block") * plan.mc))

        def over_columns(body: list[Stmt]) -> Stmt:
            first = s.minimum(tile_column, n_size - nr) if column_edge else tile_column
            stop = s.minimum(column_start + plan.nc, n_size)
            inside = (Let("first_column", first), *body)
            return Loop("tile_column", column_start, stop, inside, step=nr)

        if plan.along:
            columns = over_rows([over_columns(tile)])
        else:
            columns = over_columns([*(self.copy_b() if plan.copy_b else []), over_rows(tile)])
        block = [*(self.copy_a(over_rows) if plan.copy_a else []), columns]
        if plan.keep:
            return [*lets, *self.kept_blocks(block, over_rows, pairs)]
        if plan.parts == 1 and plan.blocks == 1:
            return [*lets, *block]
        k_start, k_stop = self.part_range()
        lets.append(Let("part_start", k_start))
        if plan.blocks == 1:
            return [*lets, Let("block", k_start), *block]
        return [*lets, Loop("block", k_start, k_stop, tuple(block), step=plan.kc)]

    def tile(
        self, a: Operand, b: Operand, a_tile: Expr, b_tile: Expr, ask: list[Stmt]
    ) -> list[Stmt]:
        """acc[MR, NR] over this part of K, for tiles that begin at the given places.

        ask: requests for what the end of the tile needs of its row "asked".
        """
        p, plan, compute = self.problem, self.plan, self.compute
        mr, nr = plan.mr, plan.nr
        r: Expr = Var("r")
        j: Expr = Var("j")
        place = r * plan.row + j
        ks = tuple(Var(f"k{i}") for i in range(len(p.k)))
        x = a.load(a_tile, r, ks, compute)
        # Lanes that fill up the last vector of a row are summed too, and never stored.
        y = b.load(b_tile, j, ks, compute, j < nr if nr < plan.row else None)
        # Sums run in lanes along the columns, or along K where that is contiguous and rows are few.
        step: Stmt = tile_loop(mr, plan.row, Reduce("add", "acc", place, x * y))
        if plan.dots:
            turn = Reduce("add", "acc", place, x * y)
            across = Loop("j", ZERO, const(nr), (turn,), "unroll")
            step = Loop("r", ZERO, const(mr), (across,), "unroll")
        steps = [step]
        for i in reversed(range(len(p.k))):
            start: Expr = ZERO
            stop = self.sizes("depth", p.k[i].size)
            last = i == len(p.k) - 1
            if i == 0 and (plan.parts > 1 or plan.blocks > 1):
                start, stop = self.k_range()
            if i == 0 and plan.blocks > 1:
                before, asked = self.before()
                ask = [*asked, *self.next_block(), *ask]
            if i == 0 and ask:
                # A row at a time: more at once would keep the loop waiting for its own lines.
                turns = -(-plan.kc // (2 * mr)) * 2
                piece = const(turns) if plan.blocks > 1 else self.sizes("piece", turns)
                start = start + Var("asked") * piece
                stop = s.minimum(start + piece, stop)
                inside = self.k_loop("k0", start, stop, steps, last)
                steps = [Loop("asked", ZERO, const(mr), (Let("r", Var("asked")), *ask, *inside))]
            else:
                steps = self.k_loop(f"k{i}", start, stop, steps, last)
        begin = tile_loop(mr, plan.row, Store("acc", place, Const(0, compute)))
        found = [Local("acc", compute, mr * plan.row), begin, *steps]
        if plan.blocks > 1:
            resume = tile_loop(mr, nr, Reduce("add", "acc", place, before))
            found.append(If(Var("block") > Var("part_start"), (resume,)))
        return found

    def before(self) -> tuple[Expr, list[Stmt]]:
        """What the blocks of K before have summed; a request for row "asked" of it."""
        plan, row, column = self.plan, Var("first_row") + Var("r"), Var("first_column") + Var("j")
        if plan.keep:
            buffer, at = "kept", self.kept_place()
        elif self.sums is None:
            buffer, at = "out", self.result_place(row, column)
        else:
            buffer, at = "sums", self.sum_place(row, column)
        line = 64 // BYTES[self.compute]
        ask = Loop("j", ZERO, const(plan.nr), (Prefetch(buffer, at),), "unroll", line)
        return Load(buffer, at, self.compute), [ask]

    def next_rows(self, a: Operand, a_tile: Expr) -> list[Stmt]:
        """Ask for row r of the next tile of a, where few columns make reading a most of the work:
        many short runs side by side are not foreseen by the processor."""
        p, plan = self.problem, self.plan
        once = plan.parts == 1 and plan.blocks == 1 and not (plan.copy_a or plan.dots or plan.along)
        k = p.k[-1]
        if not once or len(p.k) > 1 or k.a != 1 or is_symbolic(k.size) or k.size < NEXT_DEPTH:
            return []
        if plan.nr > NEXT_COLUMNS or plan.nc > plan.nr or k.size * BYTES[a.dtype] > NEXT_BYTES:
            return []
        line = 64 // BYTES[a.dtype]
        at = a.base + a_tile + (Var("r") + plan.mr) * a.step + Var("j") * line
        return [Loop("j", ZERO, const(-(-k.size // line)), (Prefetch("lhs", at),))]

    def next_block(self) -> list[Stmt]:
        """Ask for some of the rows of a that the chunk copies for its next block of K."""
        p, plan = self.problem, self.plan
        if not plan.copy_a or len(p.k) > 1 or p.m.a != 1:
            return []
        a = self.operand("lhs", self.a, plan.mr)
        line = 64 // BYTES[a.dtype]
        lines, down = -(-plan.mc // line), plan.mc // plan.mr
        rows = -(-plan.kc // (down * (plan.nc // plan.nr)))  # for each tile
        each = -(-rows * lines // plan.mr)
        across = (Var("tile_column") - Var("column_block") * plan.nc) / plan.nr
        tile = across * down + (Var("tile_row") - Var("row_start")) / plan.mr
        row_start: Expr = Var("row_start")
        start: Expr = Var("block") + plan.kc
        if plan.nc >= hint(p.n.size) and plan.parts == 1:  # after the last, the next chunk's first
            last = start >= self.part_range()[1]
            row_start = s.select(last, row_start + plan.mc, row_start)
            start = s.select(last, Var("part_start"), start)
        found: list[Stmt] = []
        for i in range(each):
            number = Var("asked") * each + i
            k = start + tile * rows + number / lines
            at = (row_start + number % lines * line) * a.step + k * a.inner[0]
            found.append(Prefetch("lhs", a.base + at))
        return found

    def k_loop(
        self, name: str, start: Expr, stop: Expr, body: list[Stmt], last: bool
    ) -> list[Stmt]:
        """One of the loops over K, the innermost by two turns at a time (a tenth faster)."""
        if last and self.plan.dots:
            return [Loop(name, start, stop, tuple(body), "vector")]
        asks, steps = self.read_ahead(Var(name)) if self.plan.ahead else ([], 1)
        # Operands of two turns would push sums out of the registers where these are all in use.
        vectors = self.plan.row // host().lanes(BYTES[self.compute])
        tight = (self.plan.mr + 1) * vectors > 28 or not host().fma
        if tight or not last:
            return [Loop(name, start, stop, (*body, *asks))]
        turn = (Let(name, Var("pair") + Var("turn")), *body, *(asks if steps == 1 else []))
        even = stop - (stop - start) % 2
        twice: list[Stmt] = [Loop("turn", ZERO, const(2), turn, "unroll")]
        if steps > 1:
            twice += [Let(name, Var("pair")), *asks]
        pairs = Loop("pair", start, even, tuple(twice), step=2)
        return [pairs] if even == stop else [pairs, Loop(name, even, stop, tuple(body))]

    def read_ahead(self, k: Expr) -> tuple[list[Stmt], int]:
        """Requests, in step k, for some of the next tile's columns of b; one lasts so many steps.

        All tiles of a panel share its lines equally: those on their way take up room that the
        loop's own need.
        """
        plan, start = self.plan, self.k_range()[0]
        b = self.operand("rhs", self.b, plan.nr, self.packed)
        line = 64 // BYTES[b.dtype]
        across, tiles = -(-plan.nr // line), plan.mc // plan.mr
        # A tile asks for `each` lines of a row of b, or for one in `steps` rows.
        each, groups = -(-across // tiles), max(1, tiles // across)
        steps = 1 << groups.bit_length() - 1
        tile = (Var("tile_row") - Var("row_start")) / plan.mr
        turn = s.minimum(tile / across, const(steps - 1)) * -(-plan.kc // steps)
        row = start + turn + (k / steps - start / steps)
        if self.packed is not None:
            at = (Var("tile_column") + plan.nr) * b.start + row * plan.nr
        else:
            at = (Var("first_column") + plan.nr) * b.step + row * b.inner[0]
        columns = [(tile * each + i) % across * line for i in range(each)]
        return [Prefetch("rhs", b.base + at + column * b.step) for column in columns], steps


def _code(v: Any) -> str:
    """The dtype of a value or of scratch memory, in the loop language."""
    return v.dtype if isinstance(v, Scratch) else v.dtype.code
