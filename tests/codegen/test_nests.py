"""Random loop nests: every kind of loop in every other, compiled against the slow evaluator."""

import numpy as np
import pytest
from random_kernels import ZERO, number
from test_differential import TARGETS, run_compiled

from monograph.kernel.evaluate import evaluate
from monograph.kernel.ir import (
    Buffer,
    Call,
    Const,
    If,
    Kernel,
    Let,
    Load,
    Local,
    Loop,
    Reduce,
    Store,
    Var,
)
from monograph.kernel.printer import str_kernel

DATA = 512


class Nest:
    """A random kernel in i32 arithmetic, where the order of a sum does not matter.

    Results go to places that all enclosing loops decide; sums to places that some of them decide.
    """

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)
        self.sizes = {"n0": int(self.rng.integers(0, 5)), "n1": int(self.rng.integers(1, 40))}
        self.loops = [("chunk", number(3), 3)]  # name, extent as expression, extent
        self.lets, self.locals = [], []
        self.count = self.out_size = self.sum_size = 0
        self.in_vector = False
        body = self.body(0)
        buffers = (
            Buffer("x", "i32"),
            Buffer("out", "i32", True),
            Buffer("sums", "i32", True),
        )
        self.kernel = Kernel("nest", buffers, body, ("n0", "n1"), grid=number(3))

    def chance(self, p):
        return self.rng.random() < p

    def pick(self, items):
        return items[int(self.rng.integers(len(items)))]

    def place(self, loops):
        """A number that is different for all iterations of the loops, and how many there are."""
        at, total = ZERO, 1
        for name, extent, count in loops:
            at = at * extent + Var(name)
            total *= max(count, 1)
        return at, total

    def value(self, depth=0):
        roll = self.rng.random()
        if depth > 2 or roll < 0.15:
            return Const(int(self.rng.integers(-9, 9)), "i32")
        if roll < 0.25 and self.lets:
            return Var(self.pick(self.lets), "i32")
        if roll < 0.32 and self.locals:
            name, size = self.pick(self.locals)
            return Load(name, number(int(self.rng.integers(size))), "i32")
        if roll < 0.65:
            return self.load()
        op = self.pick(["add", "sub", "mul", "min", "max", "xor"])
        if self.chance(0.15):
            cond = Call("lt", (self.value(depth + 1), self.value(depth + 1)), "bool")
            return Call("select", (cond, self.value(depth + 1), self.value(depth + 1)), "i32")
        if self.chance(0.1):
            return Call("cast", (self.affine(),), "i32")
        return Call(op, (self.value(depth + 1), self.value(depth + 1)), "i32")

    def affine(self):
        at = number(int(self.rng.integers(4)))
        for name, _, _ in self.loops:
            if self.chance(0.6):
                at = at + Var(name) * int(self.pick([1, 1, 1, 2, 3]))
        if self.chance(0.2):
            at = at + Var("n1")
        if self.chance(0.15):
            at = at / int(self.pick([2, 3, 4])) + at % int(self.pick([2, 4, 5]))
        return at

    def load(self):
        at = self.affine()
        if self.chance(0.3):  # far outside where the mask is false
            inside = Call("lt", (self.affine(), number(int(self.rng.integers(30)))), "bool")
            away = Call("select", (inside, ZERO, number(1 << 40)), "i64")
            return Load("x", at + away, "i32", mask=inside)
        return Load("x", at, "i32")

    def body(self, depth):
        saved = list(self.lets), list(self.locals)
        stmts = []
        for _ in range(int(self.rng.integers(1, 4))):
            roll = self.rng.random()
            if roll < 0.2:
                self.count += 1
                stmts.append(Let(f"v{self.count}", self.value()))
                self.lets.append(f"v{self.count}")
            elif roll < 0.3 and not self.in_vector:
                self.count += 1
                name, size = f"t{self.count}", int(self.rng.integers(1, 4))
                stmts.append(Local(name, "i32", size))
                stmts += [Store(name, number(k), self.value()) for k in range(size)]
                self.locals.append((name, size))
            elif roll < 0.65 and depth < 3:
                stmts.append(self.loop(depth))
            elif roll < 0.75 and depth < 3:
                cond = Call("lt", (Var("chunk") + Var("n0"), number(3)), "bool")
                stmts.append(If(cond, self.body(depth + 1), self.body(depth + 1)))
            elif roll < 0.88:
                at, total = self.place(self.loops)
                base, self.out_size = self.out_size, self.out_size + total
                stmts.append(Store("out", at + base, self.value()))
            else:
                some = [self.loops[0], *(x for x in self.loops[1:] if self.chance(0.5))]
                at, total = self.place(some)
                base, self.sum_size = self.sum_size, self.sum_size + total
                op = self.pick(["add", "min", "max", "and", "or", "mul"])
                stmts.append(Reduce(op, "sums", at + base, self.value()))
        self.lets, self.locals = saved
        return tuple(stmts)

    def loop(self, depth):
        kind = self.pick(["serial", "unroll", "vector", "vector"])
        name = f"i{depth}_{self.count}"
        self.count += 1
        count = int(self.pick([0, 1, 2, 3, 5, 8, 17, 33]))
        extent = number(count)
        if kind == "unroll":
            count = min(count, 5)
            extent = number(count)
        elif self.chance(0.5):
            size = self.pick(["n0", "n1"])
            extent, count = Var(size), self.sizes[size]
        self.loops.append((name, extent, count))
        saved, self.in_vector = self.in_vector, self.in_vector or kind == "vector"
        body = self.body(depth + 1)
        self.in_vector = saved
        self.loops.pop()
        return Loop(name, ZERO, extent, body, kind)


@pytest.mark.parametrize("seed", range(12))
def test_random_nests_equal_the_evaluator(seed):
    for sub in range(5):
        nest = Nest(100 * seed + sub)
        rng = np.random.default_rng(seed)
        arrays = {
            "x": rng.integers(-100, 100, DATA).astype(np.int32),
            "out": np.full(nest.out_size + 1, 7, np.int32),
            "sums": np.full(nest.sum_size + 1, 3, np.int32),
        }
        made = {
            name: run_compiled(nest.kernel, arrays, nest.sizes, target)
            for name, target in TARGETS.items()
        }
        evaluate(nest.kernel, arrays, nest.sizes)  # slow: once for all targets
        for target, results in made.items():
            for name, fast in results.items():
                text = f"{target}: {name}\n{str_kernel(nest.kernel)}\n{fast}\n{arrays[name]}"
                assert np.array_equal(fast, arrays[name]), text
