"""Matrix products of the compiler beside NumPy (OpenBLAS) and PyTorch, in interleaved rounds.

    python benchmarks/gemm.py [--threads 1 2] [--family square,linear] [--only 2048x384]

A row is one product. Ours is what a jitted program runs: one native call of several products, each
on operands of its own, so that large ones come from memory as they do in a network (--warm: all on
the same operands). The peers get the same operands in a loop. `steady` is ours where b does not
change between calls, as a layer's weight at inference, and is packed beforehand.

GFLOP/s are from the best round; `share` is ours over the FMA peak with as many threads, the best
of three taken right before and after the rounds; `GB/s` the operands and the result once over our
time, `ratio` ours over the better peer.
"""

from __future__ import annotations

import argparse
import ctypes
import glob
import math
import os
import time
from dataclasses import dataclass

import numpy as np

from monograph.compiler.kernels import gemm  # noqa: F401
from monograph.compiler.steps import LOWERINGS, Context, Scratch
from monograph.core import dtype as dt
from monograph.core.shape import contiguous_strides
from monograph.ir.graph import Graph
from monograph.ir.op import Aval
from monograph.ops.contract import Contract
from monograph.runtime import buffers, machine, threads
from monograph.runtime.machine_code import compile_kernels
from monograph.runtime.program import Program, Task

NN, NT, TN, TT = "mk,kn->mn", "mk,nk->mn", "km,kn->mn", "km,nk->mn"
COLD_BYTES, MOST_COPIES = 32 << 20, 64
IN_CACHE_BYTES, IN_CACHE_COPIES = 128 << 10, 8


@dataclass(frozen=True)
class Product:
    family: str
    signature: str
    sizes: tuple[int, ...]  # of b (the batch, where there is one), m, k, n

    @property
    def size(self) -> dict[str, int]:
        return dict(zip("bmkn" if len(self.sizes) == 4 else "mkn", self.sizes))

    @property
    def title(self) -> str:
        a, b = self.signature.split("->")[0].replace("b", "").split(",")
        kind = {"mk": "N", "km": "T"}[a] + {"kn": "N", "nk": "T"}[b]
        return f"{self.family} {'x'.join(map(str, self.sizes))} {kind}"

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        return [
            tuple(self.size[c] for c in side) for side in self.signature.split("->")[0].split(",")
        ]

    @property
    def flops(self) -> float:
        return 2.0 * math.prod(self.sizes)


def grid() -> list[Product]:
    """The shapes (M, K, N), by family."""

    def rows(family, signature, *sizes):
        return [Product(family, signature, s) for s in sizes]

    weights = [(768, 3072), (3072, 768), (1024, 1000), (4096, 4096)]
    return [
        *rows("square", NN, *[(n, n, n) for n in (2048, 1024, 512, 256, 128, 64, 32, 16)]),
        *rows("odd", NN, *[(n, n, n) for n in (1000, 513, 77, 7)], (127, 255, 511), (300, 100, 77)),
        *[r for s in (NT, TN, TT) for r in rows("square", s, (2048,) * 3, (512,) * 3, (100,) * 3)],
        *rows("linear", NT, *[(m, *w) for m in (1, 4, 16, 64) for w in weights]),
        *rows("linear", NT, (2, 768, 3072), (8, 768, 3072), (32, 768, 3072), (128, 768, 768)),
        *rows("linear", NT, (128, 768, 3072), (128, 3072, 768), (1, 768, 50257), (64, 9216, 128)),
        *rows("linear", NN, (1, 768, 3072), (4, 3072, 768), (16, 768, 3072), (64, 784, 256)),
        *rows("train", NT, (2048, 384, 1536), (2048, 1536, 384), (512, 784, 256), (64, 256, 128)),
        *rows("train", NN, (2048, 384, 1536), (2048, 1536, 384), (512, 256, 784), (64, 128, 256)),
        *rows("train", TN, (384, 2048, 1536), (1536, 2048, 384), (256, 512, 784), (128, 64, 256)),
        *rows("narrow", NN, (4096, 512, 8), (2048, 1024, 10), (1024, 1024, 1), (4096, 64, 32)),
        *rows("narrow", NT, (512, 2048, 10), (4096, 256, 3)),
        *rows("tall", NN, (65536, 64, 64), (20000, 32, 128), (100000, 16, 16), (50176, 64, 256)),
        *rows("conv1x1", NT, (49, 2048, 512), (49, 512, 2048), (196, 1024, 256), (196, 256, 1024)),
        *rows("conv1x1", NN, (512, 2048, 49), (2048, 512, 49), (256, 1024, 196), (64, 256, 3136)),
        *rows("deep", TN, (64, 65536, 64), (10, 4096, 128), (16, 100000, 16), (3, 50000, 64)),
        *rows("deep", NT, (32, 16384, 32), (8, 8192, 8), (1, 100000, 1), (128, 20000, 128)),
        *rows("shallow", NN, (1024, 4, 1024), (512, 1, 512), (4096, 3, 64), (2000, 8, 2000)),
        *rows("batched", "bmk,bkn->bmn", (64, 32, 32, 32), (1000, 8, 8, 8), (256, 16, 64, 16)),
        *rows("batched", "bmk,bkn->bmn", (512, 4, 4, 4), (16, 128, 128, 128), (32, 100, 50, 100)),
        *rows("attention", "bmk,bnk->bmn", (48, 256, 64, 256), (12, 128, 64, 128)),
        *rows("attention", "bmk,bkn->bmn", (48, 256, 256, 64), (12, 128, 128, 64)),
        *rows("attention", "bmk,bnk->bmn", (12, 1, 64, 512)),
        *rows("attention", "bmk,bkn->bmn", (12, 1, 512, 64)),
        *rows("attention", "bkm,bkn->bmn", (48, 256, 256, 64)),
    ]  # fmt: skip


class Ours:
    """A contraction as tasks of one program, on `copies` sets of operands."""

    def __init__(self, product: Product, operands, results, steady: bool = False):
        graph = Graph()
        values = [graph.input(Aval(tuple(s), dt.float32)) for s in product.shapes]
        out = graph.add(Contract(product.signature), *values)
        context = Context("product", locate=lambda v: (v, contiguous_strides(v.shape), 0))
        if steady:
            context.constant = {values[1]}
        start = time.perf_counter()
        steps = LOWERINGS["contract"](out.node, context)
        handles = compile_kernels([step.kernel for step in steps])
        self.compile_ms = (time.perf_counter() - start) * 1e3
        first, tasks, shared = [], [], {}
        for pair, result in zip(operands, results):
            arrays = {**dict(zip(values, pair)), out: result}
            before = set(context.constant)
            for step, handle in zip(steps, handles):
                written = [b for b, k in zip(step.buffers, step.kernel.buffers) if k.written]
                read = [b for b in step.buffers if b not in written]
                once = steady and before.issuperset(read)
                if once:
                    before.update(written)
                for b in step.buffers:
                    if isinstance(b, Scratch) and b not in arrays:
                        room = arrays if once else shared
                        if b not in room:
                            room[b] = buffers.empty((b.size,), dt.from_code(b.dtype).numpy)
                        arrays[b] = room[b]
                places = [arrays[b].ctypes.data for b in step.buffers]
                task = Task(handle, places, list(step.sizes), step.parallel)
                (first if once else tasks).append(task)
                self.keep = [*getattr(self, "keep", []), arrays]
        if first:
            Program(first)()
        self.run = Program(tasks)


def numpy_threads(count):
    """Tell NumPy's OpenBLAS how many threads to use."""
    folder = os.path.join(os.path.dirname(np.__file__), "..", "numpy.libs")
    for path in glob.glob(os.path.join(folder, "*openblas*")):
        library = ctypes.CDLL(path)
        for name in ("scipy_openblas_set_num_threads64_", "openblas_set_num_threads64_"):
            if hasattr(library, name):
                getattr(library, name)(count)


def in_order(product: Product, arrays, permute):
    """The operands as matrices: batch, rows, summed; batch, summed, columns."""
    a, b = product.signature.split("->")[0].split(",")
    batch = "b" if "b" in a else ""
    left = [a.index(c) for c in batch + "mk"]
    right = [b.index(c) for c in batch + "kn"]
    return permute(arrays[0], left), permute(arrays[1], right)


def rounds(calls, seconds, count=6):
    """The best time of a call, for each: interleaved rounds, spinning peers asleep in between."""
    best, turns = {}, {}
    for name, call in calls.items():
        once = min(timed(call, 1) for _ in range(2))
        best[name], turns[name] = math.inf, max(1, int(seconds / count / 3 / once))
    for _ in range(count):
        for name, call in calls.items():
            time.sleep(0.04)  # OpenBLAS spins for 2**26 cycles
            call()
            for _ in range(3):
                best[name] = min(best[name], timed(call, turns[name]))
    return best


def timed(call, count):
    start = time.perf_counter()
    for _ in range(count):
        call()
    return (time.perf_counter() - start) / count


def compare(product: Product, count, options, torch):
    rng = np.random.default_rng(0)
    shapes = [*product.shapes, tuple(product.size[c] for c in product.signature.split("->")[1])]
    size_bytes = 4 * sum(math.prod(s) for s in shapes)
    copies = 1
    if not options.warm:
        small = size_bytes <= IN_CACHE_BYTES
        copies = IN_CACHE_COPIES if small else min(MOST_COPIES, -(-COLD_BYTES // size_bytes))
    if product.flops * copies > 4e10:
        copies = 1
    operands, results, outs = [], [], []
    for _ in range(copies):
        arrays = [buffers.empty(s, np.float32) for s in shapes]
        for x in arrays[:2]:
            x[...] = rng.standard_normal(x.shape, np.float32)
        operands.append(arrays[:2])
        results.append(arrays[2])
        outs.append((np.empty_like(arrays[2]), torch.empty(shapes[2])))
    ours = Ours(product, operands, results)
    arrays = [in_order(product, p, np.transpose) for p in operands]
    tensors = [
        in_order(product, [torch.from_numpy(x) for x in p], lambda t, o: t.permute(o))
        for p in operands
    ]

    def with_numpy():
        for (u, v), (out, _) in zip(arrays, outs):
            np.matmul(u, v, out=out)

    def with_torch():
        for (u, v), (_, out) in zip(tensors, outs):
            torch.matmul(u, v, out=out)

    calls = {"ours": ours.run, "numpy": with_numpy, "torch": with_torch}
    if "steady" in options.columns and product.family in ("linear", "conv1x1", "odd"):
        calls["steady"] = Ours(product, operands, results, True).run
    ours.run()
    with_numpy()
    error = float(abs(results[0] - outs[0][0]).max() / abs(outs[0][0]).max())
    peaks = [machine.fma_peak.__wrapped__("f32", count)]
    best = {name: t / copies for name, t in rounds(calls, options.seconds).items()}
    peaks += [machine.fma_peak.__wrapped__("f32", count) for _ in range(2)]
    rate = {name: product.flops / t / 1e9 for name, t in best.items()}
    ratio = rate["ours"] / max(rate["numpy"], rate["torch"])
    share = rate["ours"] * 1e9 / max(peaks)
    steady = f"{rate['steady']:8.1f}" if "steady" in rate else " " * 8
    wrong = "" if error < 1e-4 else f"WRONG by {error}"
    print(
        f"{product.title:32s} {count} {best['ours'] * 1e6:10.1f} us {rate['ours']:7.1f} {steady}"
        f"{rate['numpy']:8.1f} {rate['torch']:8.1f} {size_bytes / best['ours'] / 1e9:6.1f}"
        f" {share:6.2f} {ratio:6.2f} {ours.compile_ms:5.0f} ms {wrong}",
        flush=True,
    )
    return ratio


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, nargs="+", default=[2])
    parser.add_argument("--family", default="")
    parser.add_argument("--only", default="")
    parser.add_argument("--seconds", type=float, default=0.15)
    parser.add_argument("--warm", action="store_true")
    parser.add_argument("--columns", default="steady")
    options = parser.parse_args()
    import torch

    print(
        f"{'product':32s} T {'time':>13s}    ours   steady   numpy    torch   GB/s  share"
        "  ratio  compile"
    )
    ratios = []
    for product in grid():
        if options.family and product.family not in options.family.split(","):
            continue
        if not any(part in product.title for part in options.only.split("|")):
            continue
        for count in options.threads:
            threads.set_num_threads(count)
            torch.set_num_threads(count)
            numpy_threads(count)
            ratios.append(compare(product, count, options, torch))
    if ratios:
        good = sum(r >= 1 for r in ratios) / len(ratios)
        mean = math.exp(sum(map(math.log, ratios)) / len(ratios))
        print(
            f"{len(ratios)} products: as fast as the better peer in {good:.0%}, "
            f"least {min(ratios):.2f}, geometric mean {mean:.2f}"
        )


if __name__ == "__main__":
    main()
