"""Memory that training steps take, beside PyTorch: one process per contender.

    python benchmarks/peak_memory.py                       # cnn, resnet18, gpt-mini
    python benchmarks/peak_memory.py --workloads tiny,cnn --peers torch,jax

`before`: resident memory after import, with model, optimizer and batch made. `cold`: the highest
that is reached in four steps, less that; what compiling takes counts, since the kernel cache is
empty. `steps`: the same in a process that finds all kernels in the cache. `plan`: our static plan,
one place for everything that lives only inside the program. Megabytes. Linux only.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]
STEPS = 4
WHO = {"jit": "ours jit", "eager": "ours eager"}


def resident_mb(field: str = "VmRSS") -> float:
    """A field of this process's status, in megabytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024 / 1e6
    raise RuntimeError(f"/proc/self/status has no {field}")


def measure(who: str, workload: str) -> None:
    """Print (before, growth, plan) of this process."""
    from contenders import make
    from models import WORKLOADS

    contender = make(who, WORKLOADS[workload], None, 2)
    before = resident_mb()
    Path("/proc/self/clear_refs").write_text("5")  # the highest so far is forgotten
    for _ in range(STEPS):
        contender.finish(contender.step())
    growth = resident_mb("VmHWM") - before
    plan = contender.explain().executable.plan.arena_bytes / 1e6 if who == "jit" else 0.0
    print(before, growth, plan)


def apart(who: str, workload: str, folder: str) -> list[float]:
    """`measure` in a process of its own."""
    done = subprocess.run(
        [sys.executable, __file__, "--measure", who, "--workloads", workload],
        env=os.environ
        | {"MONOGRAPH_CACHE_DIR": f"{folder}/monograph", "TORCHINDUCTOR_CACHE_DIR": folder},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[-1])
    return [float(x) for x in done.stdout.split()]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workloads", default="cnn,resnet18,gpt-mini")
    parser.add_argument("--peers", default="torch", help="of torch, torch-tuned, jax")
    parser.add_argument("--measure", metavar="WHO", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        measure(args.measure, args.workloads)
        return
    print(f"{'MB':12}{'':14}{'before':>8}{'cold':>8}{'steps':>8}{'plan':>8}")
    for workload in args.workloads.split(","):
        for who in ["jit", "eager", *(p for p in args.peers.split(",") if p)]:
            with tempfile.TemporaryDirectory() as folder:
                _, cold, _ = apart(who, workload, folder)
                before, growth, plan = apart(who, workload, folder)
            shown = f"{plan:8.0f}" if plan else f"{'':8}"
            print(
                f"{workload:12}{WHO.get(who, who):14}{before:8.0f}{cold:8.0f}{growth:8.0f}{shown}",
                flush=True,
            )


if __name__ == "__main__":
    main()
