"""How long it takes from starting Python to the end of the first training step.

    python benchmarks/first_step.py                            # tiny, gpt-mini and resnet18
    python benchmarks/first_step.py --workloads cnn --who jit,eager,torch --rounds 5
    python benchmarks/first_step.py --one jit cnn              # one step: what the others start

Seconds, imports included: with an empty cache of compiled code, and with a full one (the median of
the rounds). Python's own byte code is there in both cases, as where a package was installed.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]


def one(who: str, workload: str) -> None:
    """Run one step and print the time of day when it was finished."""
    from contenders import make
    from models import WORKLOADS

    contender = make(who, WORKLOADS[workload], None, len(os.sched_getaffinity(0)))
    loss = contender.finish(contender.step())
    print(time.time(), loss)


def seconds(who: str, workload: str, folder: str) -> float:
    """From starting Python to the end of the first step, with caches in `folder`."""
    env = os.environ | {
        "MONOGRAPH_CACHE_DIR": f"{folder}/monograph",
        "TORCHINDUCTOR_CACHE_DIR": f"{folder}/inductor",
        "JAX_COMPILATION_CACHE_DIR": f"{folder}/jax",
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }
    env.pop("PYTHONDONTWRITEBYTECODE", None)
    start = time.time()
    done = subprocess.run(
        [sys.executable, __file__, "--one", who, workload], env=env, capture_output=True, text=True
    )
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[-1])
    return float(done.stdout.split()[0]) - start


def cold_and_warm(who: str, workload: str, rounds: int) -> tuple[float, float]:
    """Seconds with an empty cache, and with a full one."""
    with tempfile.TemporaryDirectory() as folder:
        seconds(who, workload, folder)  # byte code
    with tempfile.TemporaryDirectory() as folder:
        cold = seconds(who, workload, folder)
        return cold, median(seconds(who, workload, folder) for _ in range(rounds))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workloads", default="tiny,gpt-mini,resnet18")
    parser.add_argument("--who", default="jit", help="of jit, eager, torch, torch-compile, jax")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--one", nargs=2, metavar=("WHO", "WORKLOAD"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        one(*args.one)
        return
    print(f"{'':12}{'':16}{'cold':>8}{'warm':>8}")
    for workload in args.workloads.split(","):
        for who in args.who.split(","):
            cold, warm = cold_and_warm(who, workload, args.rounds)
            print(f"{workload:12}{who:16}{cold:8.2f}{warm:8.2f}", flush=True)


if __name__ == "__main__":
    main()
