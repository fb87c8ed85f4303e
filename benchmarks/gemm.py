"""Matrix products of the compiler beside NumPy (OpenBLAS) and PyTorch, in interleaved rounds.

    python benchmarks/gemm.py [--threads 1 2] [--only 2048x384] [--kinds forward,dx,dw]

A row is one product: `forward` x @ W.T, `dx` g @ W, `dw` g.T @ x for x (M, K), W (N, K), g (M, N).
GFLOP/s are from the best round; `share` is ours over the measured FMA peak of one core times the
threads, `ratio` ours over the better peer.
"""

from __future__ import annotations

import argparse
import ctypes
import glob
import os
import time

import numpy as np

from monograph.codegen.target import host
from monograph.compiler.kernels import gemm  # noqa: F401
from monograph.compiler.steps import LOWERINGS, Context, Scratch
from monograph.core import dtype as dt
from monograph.core.shape import contiguous_strides
from monograph.ir.graph import Graph
from monograph.ir.op import Aval
from monograph.kernel.ir import Buffer, Const, Kernel, Load, Local, Loop, Store, Var
from monograph.kernel.scalar import fma
from monograph.ops.contract import Contract
from monograph.runtime import buffers, threads
from monograph.runtime.machine_code import compile_kernels
from monograph.runtime.program import Program, Task, launch

SHAPES = [
    (2048, 2048, 2048),
    (512, 512, 512),
    (2048, 384, 1536),
    (2048, 1536, 384),
    (2048, 384, 1152),
    (64, 784, 256),
    (64, 256, 128),
    (64, 128, 10),
    (32, 4, 64),
    (32, 64, 64),
    (32, 64, 2),
    (64, 9216, 128),
]  # fmt: skip  (M, K, N)
KINDS = {"forward": "mk,nk->mn", "dx": "mn,nk->mk", "dw": "mn,mk->nk"}
ATTENTION = [
    ("scores", "bmk,bnk->bmn", (48, 256, 64, 256)),
    ("mix", "bmk,bkn->bmn", (48, 256, 256, 64)),
]


def lower(signature, shapes, dtype=np.float32, repeat=1):
    """(call, inputs, result, compile ms) of a contraction that one call computes `repeat` times."""
    graph = Graph()
    values = [graph.input(Aval(tuple(s), dt.as_dtype(dtype))) for s in shapes]
    out = graph.add(Contract(signature), *values)
    context = Context("product", locate=lambda v: (v, contiguous_strides(v.shape), 0))
    start = time.perf_counter()
    steps = LOWERINGS["contract"](out.node, context)
    arrays = {v: buffers.empty(v.shape, dtype) for v in (*values, out)}
    rng = np.random.default_rng(0)
    for v in values:
        arrays[v][...] = rng.standard_normal(v.shape)
    for step in steps:
        for b in step.buffers:
            if isinstance(b, Scratch) and b not in arrays:
                arrays[b] = buffers.empty((b.size,), dt.from_code(b.dtype).numpy)
    handles = compile_kernels([step.kernel for step in steps])
    elapsed = time.perf_counter() - start
    tasks = [
        Task(h, [arrays[b].ctypes.data for b in s.buffers], list(s.sizes), s.parallel)
        for h, s in zip(handles, steps)
    ]
    program = Program(tasks * repeat, keep=list(arrays.values()))
    return program, [arrays[v] for v in values], arrays[out], elapsed * 1e3


def fma_peak() -> float:
    """FLOP/s of one core in float32: independent fused multiply-adds on registers."""
    turns, size = 100_000, 12 * host().lanes(4)
    i, x = Var("i"), Load("acc", Var("i"), "f32")

    def loop(stmt):
        half = size // 2  # short vector loops are written out, so that the array is registers
        bounds = ((0, half), (half, size))
        return [Loop("i", Const(b, "i64"), Const(e, "i64"), (stmt,), "vector") for b, e in bounds]

    step = Store("acc", i, fma(x, Const(0.5, "f32"), Const(1.0, "f32")))
    body = (
        Local("acc", "f32", size),
        *loop(Store("acc", i, Load("x", i, "f32"))),
        Loop("t", Const(0, "i64"), Const(turns, "i64"), tuple(loop(step))),
        *loop(Store("x", i, x)),
    )
    (handle,) = compile_kernels([Kernel("peak", (Buffer("x", "f32", True),), body)])
    data = np.zeros(size, np.float32)
    best = min(timed(lambda: launch(handle, [data]), 1) for _ in range(20))
    return 2.0 * size * turns / best


def timed(call, count):
    start = time.perf_counter()
    for _ in range(count):
        call()
    return (time.perf_counter() - start) / count


def numpy_threads(count):
    """Tell NumPy's OpenBLAS how many threads to use."""
    folder = os.path.join(os.path.dirname(np.__file__), "..", "numpy.libs")
    for path in glob.glob(os.path.join(folder, "*openblas*")):
        library = ctypes.CDLL(path)
        for name in ("scipy_openblas_set_num_threads64_", "openblas_set_num_threads64_"):
            if hasattr(library, name):
                getattr(library, name)(count)


def compare(title, signature, size, count, seconds, peak, torch):
    letters, out = signature.split("->")
    a, b = letters.split(",")
    shapes = [tuple(size[c] for c in side) for side in (a, b)]
    flops = 2.0 * np.prod([size[c] for c in set(a + b)])
    # Inside a compiled function a product is one of many tasks of a call.
    repeat = 20 if flops < 4e6 else 1
    program, (x, y), result, compile_ms = lower(signature, shapes, repeat=repeat)
    tensors = [torch.from_numpy(v) for v in (x, y)]

    # As a matrix product: batch letters, then rows and summed, or summed and columns.
    batch = [c for c in out if c in a and c in b]
    summed = [c for c in a if c in b and c not in out]
    rows = [c for c in a if c not in b]
    columns = [c for c in b if c not in a]
    left = [a.index(c) for c in batch + rows + summed]
    right = [b.index(c) for c in batch + summed + columns]
    u, v = x.transpose(left), y.transpose(right)
    tu, tv = tensors[0].permute(left), tensors[1].permute(right)
    np_out, t_out = np.empty_like(result), torch.empty(result.shape)
    calls = {
        "ours": program,
        "numpy": lambda: np.matmul(u, v, out=np_out),
        "torch": lambda: torch.matmul(tu, tv, out=t_out),
    }
    program()
    np.matmul(u, v, out=np_out)
    error = float(abs(result - np_out).max() / abs(np_out).max())
    best = {}
    for name, call in calls.items():
        once = min(timed(call, 1) for _ in range(3))
        best[name] = (once, max(1, int(seconds / 5 / once)))
    for _ in range(5):
        for name, call in calls.items():
            t, n = best[name]
            best[name] = (min(t, timed(call, n)), n)
    best["ours"] = (best["ours"][0] / repeat, 1)
    rate = {name: flops / t / 1e9 for name, (t, _) in best.items()}
    ratio = rate["ours"] / max(rate["numpy"], rate["torch"])
    microseconds, share = best["ours"][0] * 1e6, rate["ours"] * 1e9 / peak / count
    rates = " ".join(f"{rate[name]:8.1f}" for name in ("ours", "numpy", "torch"))
    wrong = "" if error < 1e-4 else f"WRONG by {error}"
    print(
        f"{title:28s} {count} {microseconds:10.1f} us {rates}  {share:5.2f}  {ratio:5.2f}  "
        f"{compile_ms:5.0f} ms {wrong}",
        flush=True,
    )
    return ratio


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--only", default="")
    parser.add_argument("--kinds", default="forward,dx,dw,scores,mix")
    parser.add_argument("--seconds", type=float, default=0.1)
    options = parser.parse_args()
    import torch

    peak = fma_peak()
    print(f"FMA peak of one core: {peak / 1e9:.1f} GFLOP/s (float32)")
    names = " ".join(f"{name:>8s}" for name in ("GFLOP/s", "numpy", "torch"))
    print(f"{'product':28s} T {'ours':>13s} {names}  share  ratio  compile")
    products = [
        (f"{m}x{k}x{n} {kind}", kind, signature, {"m": m, "k": k, "n": n})
        for m, k, n in SHAPES
        for kind, signature in KINDS.items()
    ]
    for kind, signature, size in ATTENTION:
        title = f"{'x'.join(map(str, size))} {kind}"
        products.append((title, kind, signature, dict(zip("bmkn", size))))
    for title, kind, signature, sizes in products:
        if kind not in options.kinds.split(","):
            continue
        if not any(part in title for part in options.only.split("|")):
            continue
        for count in options.threads:
            threads.set_num_threads(count)
            torch.set_num_threads(count)
            numpy_threads(count)
            compare(title, signature, sizes, count, options.seconds, peak, torch)


if __name__ == "__main__":
    main()
