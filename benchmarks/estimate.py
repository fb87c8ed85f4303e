"""`mg.estimate` beside what training really takes: the highest resident memory, less before.

    python benchmarks/estimate.py                          # cnn, resnet18, gpt-mini
    python benchmarks/estimate.py --workloads mlp-small

Each workload is trained for four steps by a Trainer, in a process of its own that has trained
something small before; `measured` is what memory grows by from before the model is made, where the
process finds all kernels and plans in the cache. `cold`: with an empty cache, where what the
compiler leaves behind counts, too. Megabytes. Linux.
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

from models import WORKLOADS  # noqa: E402
from peak_memory import resident_mb  # noqa: E402
from trainer import Module  # noqa: E402

import monograph as mg  # noqa: E402
from monograph import train  # noqa: E402


class Watch(train.Callback):
    """Forgets the peak of what came before training."""

    def on_train_start(self, trainer, module):
        Path("/proc/self/clear_refs").write_text("5")


def fit(workload: str) -> tuple[Module, tuple]:
    w = WORKLOADS[workload]
    module = Module(w, logs="logged")
    batch = tuple(mg.tensor(a) for a in w.data())
    trainer = train.Trainer(max_epochs=1, callbacks=Watch(), enable_progress_bar=False)
    trainer.fit(module, [batch] * 4)
    return module, batch


def measure(workload: str) -> None:
    """Print (measured, estimated) of this process."""
    fit("tiny")
    before = resident_mb()
    module, batch = fit(workload)
    print(resident_mb("VmHWM") - before, mg.estimate(module, batch).peak_bytes / 1e6)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workloads", default="cnn,resnet18,gpt-mini")
    parser.add_argument("--measure", metavar="WORKLOAD", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        measure(args.measure)
        return
    print(f"{'MB':12}{'cold':>10}{'measured':>10}{'estimated':>11}")
    for workload in args.workloads.split(","):
        with tempfile.TemporaryDirectory() as folder:
            found = []
            for _ in range(3):
                done = subprocess.run(
                    [sys.executable, __file__, "--measure", workload],
                    env=os.environ | {"MONOGRAPH_CACHE_DIR": folder},
                    stdout=subprocess.PIPE,
                    text=True,
                    check=True,
                )
                found.append([float(x) for x in done.stdout.split()])
        (cold, _), _, (measured, estimated) = found
        print(
            f"{workload:12}{cold:10.1f}{measured:10.1f}{estimated:11.1f}"
            f"  {100 * (estimated / measured - 1):+5.1f} %",
            flush=True,
        )


if __name__ == "__main__":
    main()
