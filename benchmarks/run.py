"""Training steps beside PyTorch and JAX, in interleaved rounds.

    python benchmarks/run.py                                  # everything, one process per workload
    python benchmarks/run.py --workload cnn --rounds 20
    python benchmarks/run.py --workload start-up
    python benchmarks/run.py --peers torch,compile,jax --json results.json
    python benchmarks/run.py --workload cnn --explain         # where our time goes, by kernel

A step is forward, backward and optimizer, on one batch that stays the same. In each round every
contender takes a turn: one step that is not counted, then enough steps for a fifth of a second, or
three.
Given are medians over the rounds. GFLOP/s count matrix products and convolutions of the network on
paper (models.py), `peak` is their share of the float32 multiply-add peak measured in the same
rounds. torch-tuned: fused optimizer, channels-last for the networks with convolutions;
torch-compile: the same and torch.compile of network and loss. All start from the same weights, and
take subnormal numbers for zero, as JAX always does.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]
THREADS = int(os.environ.get("MONOGRAPH_NUM_THREADS") or len(os.sched_getaffinity(0)))
for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[_name] = str(THREADS)

from first_step import cold_and_warm  # noqa: E402
from models import WORKLOADS, weights  # noqa: E402

ROUNDS = {"tiny": 10, "mlp-small": 10, "cnn": 10, "resnet18": 5, "gpt-mini": 5, "start-up": 3}
TURN_S = 0.2
LEAST_STEPS = 3  # the first ones may find memory that the system has put away meanwhile
PAUSE_S = 0.05  # lets the threads of the contender before fall asleep
SLOW_S = 5.0  # a step longer than this is run twice only
PEERS = {"torch": ("torch", "torch-tuned"), "compile": ("torch-compile",), "jax": ("jax",)}


def one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:120]}"


# Steps


def prepare(name: str, who: str, threads: int) -> tuple:
    """(contender, first loss, seconds of the first two steps, seconds of a later step)."""
    from contenders import make

    contender = make(who, WORKLOADS[name], weights(name), threads)
    start = time.perf_counter()
    loss = contender.finish(contender.step())
    first = time.perf_counter() - start
    if first < SLOW_S:
        contender.finish(contender.step())
    start = time.perf_counter()
    contender.finish(contender.step())
    return contender, loss, first, time.perf_counter() - start


def turn(contender, steps: int) -> float:
    """Seconds per step."""
    contender.finish(contender.step())
    start = time.perf_counter()
    for _ in range(steps):
        loss = contender.step()
    contender.finish(loss)
    return (time.perf_counter() - start) / steps


def check_losses(name: str, losses: dict[str, float]) -> str:
    """A sentence if the first losses disagree."""
    middle = median(losses.values())
    bound = 0.2 if WORKLOADS[name].random else 1e-3
    wrong = {who: x for who, x in losses.items() if abs(x - middle) > bound * abs(middle)}
    return f"FIRST LOSSES DISAGREE: {wrong}, the others {middle:.6g}" if wrong else ""


def run_workload(name: str, rounds: int, peers: list[str]) -> dict:
    """All contenders of one workload; a dict of results."""
    from monograph.runtime import machine

    w = WORKLOADS[name]
    ready, notes, first, losses = {}, [], {}, {}
    for who in ["jit", "eager", *(p for key in peers for p in PEERS[key])]:
        try:
            contender, loss, first_s, step_s = prepare(name, who, THREADS)
        except Exception as error:  # a peer that is absent or fails is a sentence in the table
            notes.append(f"{who} left out: {one_line(error)}")
            continue
        steps = max(LEAST_STEPS, min(2000, round(TURN_S / step_s)))
        ready[contender.name] = (contender, steps, step_s)
        first[contender.name], losses[contender.name] = first_s, loss
    times: dict[str, list[float]] = {who: [] for who in ready}
    peaks = []
    for n in range(rounds):
        for who, (contender, steps, step_s) in ready.items():
            if step_s < SLOW_S or n < 1:
                time.sleep(PAUSE_S)
                times[who].append(turn(contender, steps))
        peaks.append(machine.fma_peak.__wrapped__("f32", THREADS))
    complaint = check_losses(name, losses)
    if complaint:
        notes.append(complaint)
    return {
        "workload": name,
        "what": w.what,
        "step_gflop": w.step_flops / 1e9,
        "peak_gflops": median(peaks) / 1e9,
        "rounds": rounds,
        "threads": THREADS,
        "contenders": {
            who: {
                "ms": median(times[who]) * 1e3,
                "best_ms": min(times[who]) * 1e3,
                "first_step_s": first[who],
                "first_loss": losses[who],
            }
            for who in ready
        },
        "notes": notes,
    }


def best_peer(result: dict) -> str | None:
    peers = {k: v["ms"] for k, v in result["contenders"].items() if not k.startswith("ours")}
    return min(peers, key=peers.__getitem__) if peers else None


def print_workload(result: dict) -> None:
    flop, peak = result["step_gflop"], result["peak_gflops"]
    print(
        f"\n{result['workload']}: {result['what']}\n"
        f"  {flop * 1e3:.4g} MFLOP a step; {peak:.0f} GFLOP/s FMA peak with {result['threads']} "
        f"threads; {result['rounds']} rounds"
    )
    print(
        f"  {'':14} {'ms/step':>9} {'best':>9} {'GFLOP/s':>8} {'peak':>5} {'first step s':>12} "
        f"{'first loss':>10}"
    )
    for who, c in sorted(result["contenders"].items(), key=lambda kv: kv[1]["ms"]):
        rate = flop / c["ms"] * 1e3
        print(
            f"  {who:14} {c['ms']:9.3f} {c['best_ms']:9.3f} {rate:8.1f} {rate / peak:5.0%} "
            f"{c['first_step_s']:12.2f} {c['first_loss']:10.5f}"
        )
    peer, ours = best_peer(result), result["contenders"].get("ours jit")
    if peer and ours:
        ratio = ours["ms"] / result["contenders"][peer]["ms"]
        print(f"  ours jit / best peer ({peer}): {ratio:.2f}")
    for note in result["notes"]:
        print(f"  {note}")


def print_explanation(name: str, whole: bool) -> None:
    """Our compiled step by kind of kernel; `whole`: with the table of all kernels."""
    from contenders import make

    report = make("jit", WORKLOADS[name], weights(name), THREADS).explain()
    print(f"\n{name}\n{report.families}\n{report.memory}\n{report.totals}")
    if whole:
        print(report.table)


# Start-up

IMPORTS = {"ours": "monograph", "torch": "torch", "jax": "jax"}
PACKAGES = {"torch": "torch", "jax": "jax"}
OUR_DEPENDENCIES = ["numpy", "ml_dtypes", "llvmlite", "safetensors", "tqdm"]


def python(arguments: list[str], env: dict[str, str]) -> str:
    path = f"{HERE.parent}{os.pathsep}{HERE}"
    done = subprocess.run(
        [sys.executable, *arguments],
        env=os.environ | {"PYTHONPATH": path} | env,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[-1])
    return done.stdout


def import_seconds(module: str) -> float:
    code = f"import time; t = time.perf_counter(); import {module}; print(time.perf_counter() - t)"
    return float(python(["-c", code], {}))


def installed_bytes(names: list[str]) -> int:
    """Files of the named distributions and of all that they require (without extras)."""
    import re
    from importlib import metadata

    total, seen, waiting = 0, set(), list(names)
    while waiting:
        name = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
        if name in seen:
            continue
        seen.add(name)
        try:
            found = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue
        for file in found.files or []:
            path = Path(found.locate_file(file))
            if path.is_file() and path.suffix != ".pyc":
                total += path.stat().st_size
        for need in found.requires or []:
            if "extra ==" not in need and "platform_system" not in need:
                waiting.append(re.match(r"[\w.-]+", need)[0])
    return total


def run_start_up(rounds: int, peers: list[str]) -> dict:
    """Import time, time to the first step, installed size."""
    result: dict = {"workload": "start-up", "rounds": rounds, "rows": {}, "notes": []}
    groups = {"jax": ["jax"], "torch": ["torch"], "compile": ["torch-compile"]}
    contenders = ["jit", "eager", *(who for key in peers for who in groups[key])]
    own = sum(p.stat().st_size for p in (HERE.parent / "monograph").rglob("*.py"))
    for who in contenders:
        kind = "ours" if who in ("jit", "eager") else who.split("-")[0]
        row = {}
        try:
            row["import_s"] = median(import_seconds(IMPORTS[kind]) for _ in range(rounds))
            row["cold_s"], row["warm_s"] = cold_and_warm(who, "cnn", rounds)
        except Exception as error:
            result["notes"].append(f"{who} left out: {one_line(error)}")
            continue
        size = installed_bytes(OUR_DEPENDENCIES if kind == "ours" else [PACKAGES[kind]])
        row["installed_mb"] = (size + (own if kind == "ours" else 0)) / 1e6
        result["rows"][f"ours {who}" if kind == "ours" else who] = row
    return result


def print_start_up(result: dict) -> None:
    print("\nstart-up: seconds of `import`; from starting Python to the end of the first cnn step")
    print(f"  {'':14} {'import':>7} {'cold cache':>10} {'warm cache':>10} {'installed MB':>12}")
    for who, r in result["rows"].items():
        print(
            f"  {who:14} {r['import_s']:7.2f} {r['cold_s']:10.2f} {r['warm_s']:10.2f} "
            f"{r['installed_mb']:12.0f}"
        )
    for note in result["notes"]:
        print(f"  {note}")


# Command


def run_one(name: str, rounds: int | None, peers: list[str]) -> dict:
    count = rounds or ROUNDS[name]
    return run_start_up(count, peers) if name == "start-up" else run_workload(name, count, peers)


def run_apart(name: str, args: argparse.Namespace) -> dict:
    """One workload in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        out = f"{folder}/result.json"
        command = [sys.executable, __file__, "--workload", name, "--peers", args.peers]
        command += ["--json", out, "--quiet"]
        command += ["--rounds", str(args.rounds)] if args.rounds else []
        subprocess.run(command, check=True)
        return json.loads(Path(out).read_text())[0]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workload", choices=list(ROUNDS), help="one only (default: all)")
    parser.add_argument("--rounds", type=int, help="rounds (default: by workload)")
    parser.add_argument("--peers", default="torch,compile,jax", help="of torch, compile, jax")
    parser.add_argument("--json", metavar="FILE", help="write the results here, too")
    parser.add_argument("--explain", action="store_true", help="our kernels instead of a race")
    parser.add_argument("--kernels", action="store_true", help="with --explain: every kernel")
    parser.add_argument("--quiet", action="store_true", help="print no table")
    args = parser.parse_args()
    peers = [p for p in args.peers.split(",") if p]
    if unknown := set(peers) - set(PEERS):
        parser.error(f"--peers: unknown {sorted(unknown)}; known: {sorted(PEERS)}")
    if args.explain or args.kernels:
        for name in [args.workload] if args.workload else list(WORKLOADS):
            print_explanation(name, args.kernels)
        return
    results = []
    for name in [args.workload] if args.workload else list(ROUNDS):
        result = run_one(name, args.rounds, peers) if args.workload else run_apart(name, args)
        results.append(result)
        if not args.quiet:
            (print_start_up if name == "start-up" else print_workload)(result)
            sys.stdout.flush()
    if args.json:
        Path(args.json).write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
