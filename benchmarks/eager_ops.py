"""What an eager operation costs beside PyTorch, in microseconds: mostly Python, on small tensors.

    python benchmarks/eager_ops.py                  # ours, and PyTorch where it is installed
    python benchmarks/eager_ops.py --rounds 50

Each row is one call (or call and backward) on tensors so small that arithmetic takes no time. Given
are medians over rounds in which both take turns; one thread, since none of this has work for two.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

for _name in ("MONOGRAPH_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

CALLS = 200  # in a turn


def cases(lib) -> dict[str, Callable]:
    """name -> a call, with `lib`: torch or monograph."""
    F = lib.nn.functional
    x, y = lib.ones(32, 64), lib.ones(32, 64)
    w, b = (lib.ones(*s, requires_grad=True) for s in ((64, 64), (64,)))
    leaf = lib.ones(32, 64, requires_grad=True)
    image = lib.ones(2, 4, 8, 8, requires_grad=True)
    filters = lib.ones(4, 4, 3, 3, requires_grad=True)
    classes = lib.zeros(32, dtype=lib.int64)
    layer = lib.nn.Linear(64, 64)
    adam = lib.optim.Adam(layer.parameters())
    for p in layer.parameters():
        p.grad = lib.ones(*p.shape)

    def chain():
        h = leaf
        for _ in range(10):
            h = h * y + x
        return h

    def pulled(f):
        def call():
            lib.autograd.grad(f().sum(), leaf)

        return call

    return {
        "x + y": lambda: x + y,
        "x * 2.0": lambda: x * 2.0,
        "x + row": lambda: x + b,
        "x.exp()": lambda: x.exp(),
        "x.sum()": lambda: x.sum(),
        "x.sum(1)": lambda: x.sum(1),
        "x.reshape(64, 32)": lambda: x.reshape(64, 32),
        "x[3:5]": lambda: x[3:5],
        "x.add_(y)": lambda: x.add_(y),
        "x @ w": lambda: x @ w,
        "linear": lambda: F.linear(x, w, b),
        "relu": lambda: F.relu(x),
        "gelu": lambda: F.gelu(x),
        "softmax": lambda: F.softmax(x, dim=-1),
        "layer_norm": lambda: F.layer_norm(x, (64,), b, b),
        "cross_entropy": lambda: F.cross_entropy(x, classes),
        "conv2d": lambda: F.conv2d(image, filters),
        "nn.Linear": lambda: layer(x),
        "20 operations": chain,
        "20 operations, backward": pulled(chain),
        "linear, backward": pulled(lambda: F.linear(leaf, w, b)),
        "layer_norm, backward": pulled(lambda: F.layer_norm(leaf, (64,), b, b)),
        "Adam.step, 2 tensors": adam.step,
    }


def turn(call: Callable) -> float:
    """Microseconds per call."""
    start = time.perf_counter()
    for _ in range(CALLS):
        call()
    return (time.perf_counter() - start) / CALLS * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    import monograph

    contenders = {"ours": cases(monograph)}
    try:
        import torch
    except ImportError:
        print("torch is not installed: ours alone")
    else:
        torch.set_num_threads(1)
        contenders["torch"] = cases(torch)
    print(f"  {'microseconds per call':26}" + "".join(f"{who:>9}" for who in contenders))
    for name in contenders["ours"]:
        times: dict[str, list[float]] = {who: [] for who in contenders}
        for n in range(rounds + 1):
            for who, calls in contenders.items():
                spent = turn(calls[name])
                if n:  # the first turn compiles
                    times[who].append(spent)
        middle = [median(times[who]) for who in contenders]
        ratio = f"{middle[0] / middle[1]:9.2f}" if len(middle) > 1 else ""
        print(f"  {name:26}" + "".join(f"{m:9.1f}" for m in middle) + ratio)


if __name__ == "__main__":
    main()
