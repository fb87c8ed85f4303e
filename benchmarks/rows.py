"""Normalisation, softmax, losses, sums and elementwise functions beside PyTorch, in one run.

    python benchmarks/rows.py [--threads 1] [--only norm] [--kernels]

Forward alone, and forward with the gradient of every input. GB/s count the least traffic: each
input read and each result written once per direction; `ratio` is PyTorch's time over ours.
--kernels lists our kernels instead, each with its own time.
"""

from __future__ import annotations

import argparse
import os
import time

import numpy as np

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
parser.add_argument("--only", default="", help="cases whose name contains this")
parser.add_argument("--kernels", action="store_true", help="our kernels instead of a race")
TURN_S = 0.08


def cases(F, cat):
    """name: (function, shapes of its tensors, indices: (shape, limit) or None)."""
    tokens, width = 2048, 384
    image = (8, 64, 56, 56)
    found = {
        "layer_norm 2048x384": (lambda x, w, b: F.layer_norm(x, (width,), w, b),
                                [(tokens, width), (width,), (width,)]),
        "layer_norm 4096x1024": (lambda x, w, b: F.layer_norm(x, (1024,), w, b),
                                 [(4096, 1024), (1024,), (1024,)]),
        "rms_norm 2048x768": (lambda x, w: F.rms_norm(x, (768,), w), [(2048, 768), (768,)]),
        "group_norm 8x64x56x56": (lambda x, w, b: F.group_norm(x, 8, w, b), [image, (64,), (64,)]),
        "instance_norm 8x64x56x56": (lambda x: F.instance_norm(x), [image]),
        "batch_norm 8x64x56x56": (lambda x, w, b: F.batch_norm(x, None, None, w, b, training=True),
                                  [image, (64,), (64,)]),
        "softmax 2048x256": (lambda x: F.softmax(x, -1), [(tokens, 256)]),
        "softmax 512x10000": (lambda x: F.softmax(x, -1), [(512, 10000)]),
        "softmax dim 1": (lambda x: F.softmax(x, 1), [(8, 21, 128, 128)]),
        "masked softmax 96x256x256": (lambda x, m: F.softmax(x + m, -1),
                                      [(96, 256, 256), (256, 256)]),
        "log_softmax 2048x1000": (lambda x: F.log_softmax(x, -1), [(tokens, 1000)]),
        "cross_entropy 2048x65": (F.cross_entropy, [(tokens, 65)], ((tokens,), 65)),
        "cross_entropy 2048x10000": (F.cross_entropy, [(tokens, 10000)], ((tokens,), 10000)),
        "cross_entropy 512x50257": (F.cross_entropy, [(512, 50257)], ((512,), 50257)),
        "pixel cross_entropy": (F.cross_entropy, [(4, 21, 128, 128)], ((4, 128, 128), 21)),
        "bias 2048x1536": (lambda x, b: x + b, [(tokens, 1536), (1536,)]),
        "bias gelu 2048x1536": (lambda x, b: F.gelu(x + b), [(tokens, 1536), (1536,)]),
        "column sums 2048x384": (lambda x: x.sum(0), [(tokens, width)]),
        "column sums 65536x64": (lambda x: x.sum(0), [(65536, 64)]),
        "row sums 2048x1024": (lambda x: x.sum(1), [(tokens, 1024)]),
        "mean of all 4M": (lambda x: x.mean(), [(2048, 2048)]),
        "mse 4M": (F.mse_loss, [(2048, 2048), (2048, 2048)]),
        "gelu 4M": (F.gelu, [(2048, 2048)]),
        "gelu tanh 4M": (lambda x: F.gelu(x, approximate="tanh"), [(2048, 2048)]),
        "silu 4M": (F.silu, [(2048, 2048)]),
        "tanh 4M": (lambda x: x.tanh(), [(2048, 2048)]),
        "sigmoid 4M": (lambda x: x.sigmoid(), [(2048, 2048)]),
        "exp 4M": (lambda x: x.exp(), [(2048, 2048)]),
        "dropout 4M": (lambda x: F.dropout(x, 0.1, True), [(2048, 2048)]),
        "add 4M": (lambda x, y: x + y, [(2048, 2048), (2048, 2048)]),
    }  # fmt: skip
    return {name: (*case, None)[:3] for name, case in found.items()}


def seconds(call) -> float:
    """The best of the calls of one turn."""
    call()
    best, end = float("inf"), time.perf_counter() + TURN_S
    while time.perf_counter() < end:
        start = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - start)
    return best


def ours(name: str, shapes, index, threads: int):
    """(forward, forward and gradients): calls that take nothing."""
    import monograph as mg
    import monograph.nn.functional as F

    function = cases(F, mg.cat)[name][0]
    x, extra = inputs(shapes, index)
    tensors = [mg.tensor(a) for a in x]
    extra = [mg.tensor(a) for a in extra]
    out_shape = tuple(function(*tensors, *extra).shape)
    g = mg.tensor(np.random.default_rng(1).standard_normal(out_shape).astype(np.float32))

    def both(g, *x):
        out, pull = mg.func.vjp(lambda *x: function(*x, *extra), *x)
        return out, *pull(g)

    forward = mg.jit(lambda *x: function(*x, *extra))
    gradient = mg.jit(both)
    return (lambda: forward(*tensors)), (lambda: gradient(g, *tensors)), gradient, (g, *tensors)


def theirs(name: str, shapes, index, threads: int):
    import torch
    import torch.nn.functional as F

    torch.set_num_threads(threads)
    function = cases(F, torch.cat)[name][0]
    x, extra = inputs(shapes, index)
    tensors = [torch.from_numpy(a).requires_grad_() for a in x]
    extra = [torch.from_numpy(a) for a in extra]
    with torch.no_grad():
        out_shape = tuple(function(*tensors, *extra).shape)
    g = torch.from_numpy(np.random.default_rng(1).standard_normal(out_shape).astype(np.float32))

    def forward():
        with torch.no_grad():
            function(*tensors, *extra)

    return forward, lambda: torch.autograd.grad(function(*tensors, *extra), tensors, g)


def inputs(shapes, index):
    r = np.random.default_rng(0)
    x = [r.standard_normal(s).astype(np.float32) for s in shapes]
    extra = [] if index is None else [r.integers(0, index[1], index[0])]
    return x, extra


def main() -> None:
    args = parser.parse_args()
    os.environ["MONOGRAPH_NUM_THREADS"] = str(args.threads)
    import monograph as mg
    import monograph.nn.functional as F

    try:
        import torch  # noqa: F401
    except ImportError:
        torch = None
    print(f"{'':26} {'forward ms':>10} {'GB/s':>6} {'torch':>8} {'ratio':>6}"
          f" {'+ grad ms':>10} {'GB/s':>6} {'torch':>8} {'ratio':>6}")  # fmt: skip
    for name, (_, shapes, index) in cases(F, mg.cat).items():
        if args.only not in name:
            continue
        forward, gradient, jitted, operands = ours(name, shapes, index, args.threads)
        if args.kernels:
            gradient()
            print(name)
            print(jitted.explain(*operands) if hasattr(jitted, "explain") else
                  mg.explain(jitted, *operands))  # fmt: skip
            continue
        size = 4 * sum(int(np.prod(s)) for s in shapes)
        result = 4 * int(np.prod(forward().shape))
        mine = seconds(forward), seconds(gradient)
        peer = (float("nan"),) * 2
        if torch is not None:
            peer = tuple(seconds(f) for f in theirs(name, shapes, index, args.threads))
        # Forward: inputs, result; gradient: inputs and the result's cotangent again, cotangents.
        traffic = size + result, (size + result) + (2 * size + result)
        line = f"{name:26}"
        for ms, bytes_, other in zip(mine, traffic, peer):
            line += (
                f" {ms * 1e3:10.3f} {bytes_ / ms / 1e9:6.1f} {other * 1e3:8.3f} {other / ms:6.2f}"
            )
        print(line, flush=True)


if __name__ == "__main__":
    main()
