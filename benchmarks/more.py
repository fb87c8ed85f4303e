"""Training steps of more networks beside PyTorch, in interleaved rounds.

    python benchmarks/more.py [--only vit,lstm] [--rounds 5] [--compile] [--explain]

Networks are in zoo.py. Peers are PyTorch eager, PyTorch with fused optimizers and channels-last,
and (--compile) torch.compile. Given are milliseconds a step, medians of the rounds, and the ratio
of our jitted step to the best peer.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path
from statistics import median

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
THREADS = int(os.environ.get("MONOGRAPH_NUM_THREADS") or len(os.sched_getaffinity(0)))
for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[_name] = str(THREADS)

import zoo  # noqa: E402

R = np.random.default_rng(0)


def reals(*shape):
    return R.standard_normal(shape).astype(np.float32)


# name: (network, optimizer, inputs, targets (None: as the first input), has convolutions)
WORKLOADS = {
    "wide": (zoo.wide, "adam", lambda: [reals(256, 1024)], (1000, 256), False),
    "lstm": (zoo.lstm, "clipped", lambda: [R.integers(0, 10_000, (20, 35))], (10_000, 700), False),
    "vit": (zoo.vit, "adamw", lambda: [reals(64, 3, 32, 32)], (10, 64), True),
    "unet": (zoo.unet, "adam", lambda: [reals(16, 3, 32, 32), reals(16)], None, True),
    "recommender": (
        zoo.recommender, "sgd",
        lambda: [reals(1024, 13), R.integers(0, 50_000, (1024, 8))], (2, 1024), False,
    ),
    "recommender-sparse": (
        lambda lib: zoo.recommender(lib, sparse=True), "sgd",
        lambda: [reals(1024, 13), R.integers(0, 50_000, (1024, 8))], (2, 1024), False,
    ),
}  # fmt: skip


def contender(lib, name, who, data, targets):
    """One training step as a function that returns the loss."""
    network, how, _, classes, images = WORKLOADS[name]
    F = lib.nn.functional
    lib.manual_seed(0)
    model = network(lib)
    tuned = who in ("torch-tuned", "torch-compile")
    inputs = [lib.tensor(a) for a in data]
    target = lib.tensor(targets)
    if tuned and images:
        import torch

        model = model.to(memory_format=torch.channels_last)
        inputs[0] = inputs[0].to(memory_format=torch.channels_last)
    options = {"fused": True} if tuned and name != "recommender-sparse" else {}
    parameters = list(model.parameters())
    optimizer = {
        "sgd": lambda: lib.optim.SGD(parameters, lr=0.01, **options),
        "clipped": lambda: lib.optim.SGD(parameters, lr=0.1, **options),
        "adam": lambda: lib.optim.Adam(parameters, lr=1e-3, **options),
        "adamw": lambda: lib.optim.AdamW(parameters, lr=1e-3, **options),
    }[how]()

    def loss_of(*x):
        y = model(*x)
        if classes is None:
            return F.mse_loss(y, target)
        return F.cross_entropy(y.reshape(-1, classes[0]), target)

    if who == "torch-compile":
        import torch

        loss_of = torch.compile(loss_of)

    def step(*x):
        loss = loss_of(*x)
        optimizer.zero_grad()
        loss.backward()
        if how == "clipped":
            lib.nn.utils.clip_grad_norm_(parameters, 0.25)
        optimizer.step()
        return loss

    if who == "ours jit":
        captured = lib.jit(step)
        return lambda: captured(*inputs), lambda: lib.explain(step, *inputs, rounds=5)
    return lambda: step(*inputs), None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--eager", action="store_true", help="our eager steps too")
    parser.add_argument("--explain", action="store_true")
    options = parser.parse_args()
    import torch

    import monograph as mg
    import monograph.optim

    torch.set_num_threads(THREADS)
    mg.set_num_threads(THREADS)
    for name, (_, _, inputs, classes, _) in WORKLOADS.items():
        if options.only and name not in options.only.split(","):
            continue
        data = inputs()
        targets = data[0] if classes is None else R.integers(0, classes[0], classes[1])
        whos = ["ours jit", "torch", "torch-tuned"]
        whos += ["ours eager"] * options.eager + ["torch-compile"] * options.compile
        steps, first, report = {}, {}, None
        for who in whos:
            lib = torch if who.startswith("torch") else mg
            try:
                start = time.perf_counter()
                step, explain = contender(lib, name, who, data, targets)
                loss = float(step())
                first[who] = (time.perf_counter() - start, loss)
                steps[who] = step
                report = explain or report
            except Exception as error:
                print(
                    f"{name}: {who}: {type(error).__name__}: {' '.join(str(error).split())[:150]}"
                )
        times = {who: [] for who in steps}
        for _ in range(options.rounds):
            for who, step in steps.items():
                time.sleep(0.05)
                step()
                start, count = time.perf_counter(), 0
                while time.perf_counter() - start < 0.2 or count < 2:
                    loss = step()
                    count += 1
                float(loss)
                times[who].append((time.perf_counter() - start) / count * 1e3)
        print(f"\n{name}: {what(name)}")
        for who in times:
            seconds, loss = first[who]
            line = f"{median(times[who]):10.3f} ms   first {seconds:6.2f} s   first loss {loss:.5f}"
            print(f"  {who:14s} {line}")
        if "ours jit" in times and len(times) > 1:
            best = min(median(t) for who, t in times.items() if who.startswith("torch"))
            print(f"  ours jit / best peer: {median(times['ours jit']) / best:.2f}", flush=True)
        if options.explain and report is not None:
            made = report()
            print(made.families, made.memory, made.totals, made.table, sep="\n")


def what(name: str) -> str:
    return {"recommender-sparse": "the same with sparse gradients of the tables"}.get(
        name, (WORKLOADS[name][0].__doc__ or "").split("\n")[0]
    )


if __name__ == "__main__":
    main()
