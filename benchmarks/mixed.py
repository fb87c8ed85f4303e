"""Training steps in float32 and under autocast, ours and PyTorch's, in interleaved rounds.

    python benchmarks/mixed.py                                   # cnn and gpt-mini, bfloat16
    python benchmarks/mixed.py --workload cnn --dtype float16 --explain
    python benchmarks/mixed.py --train DATA --steps 600          # validation losses after training

DATA has mnist/ and tinyshakespeare/input.txt; both trainings see the same batches.

The steps are those of run.py; under autocast the forward and the loss are cast. Given are medians
over the rounds, and how the losses of the first 30 steps differ from float32's.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from statistics import median

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import numpy as np  # noqa: E402
from models import WORKLOADS, build, weights  # noqa: E402

TURN_S = 0.3


def make(lib, name: str, dtype: str | None, compiled: bool):
    """A training step of workload `name` with `lib`, torch or monograph; it gives a loss."""
    w = WORKLOADS[name]
    lib.manual_seed(0)
    model = build(lib, name)
    model.load_state_dict({k: lib.tensor(a) for k, a in weights(name).items()}, strict=False)
    x, y = (lib.tensor(a) for a in w.data())
    options = {} if compiled else {"fused": True}
    optimizer = {
        "adam": lambda p: lib.optim.Adam(p, lr=w.lr, **options),
        "adamw": lambda p: lib.optim.AdamW(p, lr=w.lr, **options),
    }[w.optimizer](model.parameters())

    def step(x, y):
        casts = lib.autocast("cpu", dtype=getattr(lib, dtype)) if dtype else nullcontext()
        with casts:
            out = model(x).reshape(-1, w.classes)
            loss = lib.nn.functional.cross_entropy(out, y.reshape(-1))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    run = lib.jit(step) if compiled else step
    run.explain = lambda: lib.explain(step, x, y, rounds=10)
    return lambda: run(x, y), run


def batches(mg, name: str, data: Path, steps: int, seed: int):
    """(a function that gives the batch of a step, the batches of a fixed validation set)."""
    r = np.random.default_rng(seed)
    shape = WORKLOADS[name].input_shape
    if name == "cnn":
        train, test = (mg.data.MNIST(data / "mnist", train=t) for t in (True, False))
        arrays = [
            (np.asarray(d.data).reshape(-1, 1, 28, 28).astype(np.float32) / 255, d.targets)
            for d in (train, test)
        ]
        order = r.permutation(np.tile(np.arange(60000), -(-steps * shape[0] // 60000)))

        def train_batch(step):
            rows = order[step * shape[0] : (step + 1) * shape[0]]
            return arrays[0][0][rows], np.asarray(arrays[0][1])[rows].astype(np.int64)

        images, labels = arrays[1]
        held_out = [
            (images[i : i + 500], np.asarray(labels)[i : i + 500].astype(np.int64))
            for i in range(0, 10000, 500)
        ]
        return train_batch, held_out
    text = (data / "tinyshakespeare" / "input.txt").read_text()
    codes = mg.data.CharVocabulary(text).encode(text).astype(np.int64)
    cut, (rows, length) = len(codes) * 9 // 10, shape
    starts = r.integers(0, cut - length - 1, (steps, rows))

    def windows(places):
        both = np.stack([codes[p : p + length + 1] for p in places])
        return both[:, :-1].copy(), both[:, 1:].copy()

    places = r.integers(cut, len(codes) - length - 1, (12, rows))
    return lambda step: windows(starts[step]), [windows(p) for p in places]


def train(name: str, data: Path, steps: int, dtype: str | None, seed: int) -> float:
    """The validation loss, in float32, after `steps` steps whose rate falls to 0 by a cosine."""
    import monograph as mg

    F, w = mg.nn.functional, WORKLOADS[name]
    batch, held_out = batches(mg, name, data, steps, seed)
    mg.manual_seed(seed)
    model = build(mg, name)
    kind = {"adam": mg.optim.Adam, "adamw": mg.optim.AdamW}[w.optimizer]
    optimizer = kind(model.parameters(), lr=w.lr)
    schedule = mg.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    scaler = mg.amp.GradScaler("cpu", enabled=dtype == "float16")

    @mg.jit
    def step(x, y):
        casts = mg.autocast("cpu", dtype=getattr(mg, dtype)) if dtype else nullcontext()
        with casts:
            loss = F.cross_entropy(model(x).reshape(-1, w.classes), y.reshape(-1))
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        return loss

    @mg.jit
    def validate(x, y):
        return F.cross_entropy(model(x).reshape(-1, w.classes), y.reshape(-1))

    for i in range(steps):
        step(*map(mg.tensor, batch(i)))
        schedule.step()
    model.eval()
    with mg.no_grad():
        return float(np.mean([validate(*map(mg.tensor, b)).item() for b in held_out]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workload", action="append", choices=["cnn", "gpt-mini"])
    parser.add_argument("--dtype", default="bfloat16", choices=["bfloat16", "float16"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--explain", action="store_true", help="our kernels under autocast")
    parser.add_argument("--train", type=Path, metavar="DATA", help="train, compare losses")
    parser.add_argument("--steps", type=int, default=600, help="of --train")
    parser.add_argument("--seeds", type=int, default=3, help="of --train; losses are averaged")
    parser.add_argument("--first-seed", type=int, default=0, help="of --train")
    parser.add_argument("--alone", action="store_true", help="without PyTorch")
    options = parser.parse_args()
    import monograph as mg

    threads = len(os.sched_getaffinity(0))
    if options.train:
        kinds = None, options.dtype
        for name in options.workload or ["cnn", "gpt-mini"]:
            losses = []
            for seed in range(options.first_seed, options.first_seed + options.seeds):
                pair = [train(name, options.train, options.steps, d, seed) for d in kinds]
                print(f"{name}, seed {seed}: {pair[0]:.5f} {pair[1]:.5f}", flush=True)
                losses.append(pair)
            exact, cast = np.mean(losses, 0)
            print(
                f"{name}, {options.steps} steps, {options.seeds} seeds: validation loss "
                f"{exact:.4f} in float32, {cast:.4f} under {options.dtype} autocast: "
                f"{cast / exact - 1:+.2%}; seed by seed "
                + ", ".join(f"{a:.4f} {b:.4f}" for a, b in losses),
                flush=True,
            )
        return
    for name in options.workload or ["cnn", "gpt-mini"]:
        contenders = {
            "ours float32": make(mg, name, None, True),
            f"ours {options.dtype}": make(mg, name, options.dtype, True),
        }
        if options.explain:
            print(contenders[f"ours {options.dtype}"][1].explain())
            continue
        if not options.alone:
            import torch

            torch.set_num_threads(threads)
            contenders["torch float32"] = make(torch, name, None, False)
            contenders[f"torch {options.dtype}"] = make(torch, name, options.dtype, False)
        losses = {who: [step().item() for _ in range(30)] for who, (step, _) in contenders.items()}
        times: dict[str, list[float]] = {who: [] for who in contenders}
        for _ in range(options.rounds):
            for who, (step, _) in contenders.items():
                time.sleep(0.05)
                step().item()
                start, count = time.perf_counter(), 0
                while count == 0 or time.perf_counter() - start < TURN_S:
                    step().item()
                    count += 1
                times[who].append((time.perf_counter() - start) / count)
        print(f"\n{name}: {WORKLOADS[name].what}; {threads} threads, {options.rounds} rounds")
        for who, values in times.items():
            lib = who.split()[0]
            base = median(times[f"{lib} float32"])
            apart = np.subtract(losses[who], losses[f"{lib} float32"]) / losses[f"{lib} float32"]
            print(
                f"  {who:16} {median(values) * 1e3:9.2f} ms {base / median(values):6.2f}x float32"
                f"   losses differ by {np.abs(apart).max():.1%} at most"
            )


if __name__ == "__main__":
    main()
