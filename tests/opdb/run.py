"""The table of PyTorch's operator samples: which of them our functions of the same names pass.

    python tests/opdb/run.py [--op NAME] [--methods] [--json FILE] [--jobs N] [-v]

Each entry of PyTorch's operator database (torch.testing._internal...op_db) gives samples for
float32, float64, int64, bool and the complex dtypes; values, dtypes, shapes and first gradients are
compared. With --methods the entries are called as methods of tensors, out of place and in place.
Subprocesses do the work, so that an operator that hangs or crashes costs only itself.
"""

import argparse
import json
import os
import queue
import subprocess
import sys
import threading
from pathlib import Path

from exclusions import (
    DTYPES_LEFT_OUT,
    EXCLUDED,
    GRADIENTS_DIFFER,
    LOOSER,
    SAMPLES_LEFT_OUT,
    UNSPECIFIED,
)

HERE = Path(__file__).parent
WORKER = [sys.executable, str(HERE / "worker.py")]
SHARD = 40  # entries for one subprocess


def environment():
    path = os.pathsep.join([str(HERE.parents[1]), os.environ.get("PYTHONPATH", "")])
    return {**os.environ, "PYTHONPATH": path, "PYTHONWARNINGS": "ignore"}


def listed():
    done = subprocess.run(
        [*WORKER, "--list"], capture_output=True, text=True, env=environment(), timeout=300
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    return [line for line in done.stdout.splitlines() if line]


def run_shard(keys, limit, made):
    """Results of the entries, in order; an entry that takes longer than `limit` seconds fails."""
    left = list(keys)
    while left:
        process = subprocess.Popen(
            [*WORKER, *left],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(),
        )
        lines: queue.Queue = queue.Queue()
        errors: list[str] = []
        readers = [
            threading.Thread(target=forward, args=(process.stdout, lines.put), daemon=True),
            threading.Thread(target=forward, args=(process.stderr, errors.append), daemon=True),
        ]
        for r in readers:
            r.start()
        reason = ""
        wait = limit + 60  # the first line comes after the imports
        while left and not reason:
            try:
                line = lines.get(timeout=wait)
            except queue.Empty:
                reason = f"longer than {limit} s"
                break
            wait = limit
            if line is None:
                reason = "the process ended: " + " ".join("".join(errors[-3:]).split())[-200:]
            else:
                made(json.loads(line))
                left.pop(0)
        process.kill()
        process.wait()
        if left and reason:
            made({"key": left.pop(0), "samples": 1, "passed": 0, "status": "fail",
                  "reason": reason})  # fmt: skip


def forward(stream, put):
    for line in stream:
        put(line)
    put(None)


def table(keys, limit, jobs, progress=print):
    """{key: result} of the entries."""
    results = {}
    shards: queue.Queue = queue.Queue()
    for start in range(0, len(keys), SHARD):
        shards.put(keys[start : start + SHARD])

    def made(result):
        results[result["key"]] = result
        progress(f"{len(results)}/{len(keys)} {result['status']:8} {result['key']}")

    def work():
        while True:
            try:
                shard = shards.get_nowait()
            except queue.Empty:
                return
            run_shard(shard, limit, made)

    threads = [threading.Thread(target=work) for _ in range(jobs)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    return results


def summary(results):
    tried = [r for r in results.values() if r["status"] not in ("empty", "excluded")]
    passing = [r for r in tried if r["status"] == "pass"]
    attempted = [r for r in tried if r["status"] != "missing"]
    samples = sum(r["samples"] for r in attempted)
    passed = sum(r["passed"] for r in attempted)
    return {
        "entries": len(tried),
        "pass": len(passing),
        "fail": sum(r["status"] == "fail" for r in tried),
        "missing": sum(r["status"] == "missing" for r in tried),
        "excluded": sum(r["status"] == "excluded" for r in results.values()),
        "empty": sum(r["status"] == "empty" for r in results.values()),
        "entries passing": round(len(passing) / max(len(tried), 1), 4),
        "samples": samples,
        "samples passing": round(passed / max(samples, 1), 4),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--op", action="append", help="a name, with or without its variant")
    parser.add_argument("--dtype", action="append", help="only these, as complex64")
    parser.add_argument("--methods", action="store_true", help="methods, also those in place")
    parser.add_argument("--json", help="write the results to this file")
    parser.add_argument("--jobs", type=int, default=1, help="subprocesses at once")
    parser.add_argument("--limit", type=float, default=120, help="seconds for one entry")
    parser.add_argument("-v", action="store_true", help="print each failing sample")
    options = parser.parse_args()
    if options.dtype:
        os.environ["OPDB_DTYPES"] = ",".join(options.dtype)
    if options.methods:
        os.environ["OPDB_METHODS"] = "1"
    keys = listed()
    parts = (UNSPECIFIED, GRADIENTS_DIFFER, LOOSER, DTYPES_LEFT_OUT, SAMPLES_LEFT_OUT)
    unknown = {*EXCLUDED}.union(*parts) - {*keys}
    if unknown:
        raise SystemExit(f"exclusions.py names what is not in the database: {sorted(unknown)}")
    if options.op:
        wanted = {*options.op}
        keys = [k for k in keys if k in wanted or k.split("|")[0] in wanted]
        if not keys:
            raise SystemExit(f"no entry is named {', '.join(sorted(wanted))}")
        if options.v:
            subprocess.run([*WORKER, *keys, "-v"], env=environment(), check=False)
            return
    quiet = len(keys) > 20
    results = table(
        [k for k in keys if k not in EXCLUDED],
        options.limit,
        options.jobs,
        (lambda text: print(text, file=sys.stderr)) if quiet else (lambda text: None),
    )
    for k in keys:
        if k in EXCLUDED:
            results[k] = {"key": k, "samples": 0, "passed": 0, "status": "excluded",
                          "reason": EXCLUDED[k]}  # fmt: skip
    for k in sorted(keys, key=lambda k: (results[k]["status"], k)):
        r = results[k]
        counts = f"{r['passed']}/{r['samples']}" if r["samples"] else ""
        note = r["reason"] or UNSPECIFIED.get(k, "") or GRADIENTS_DIFFER.get(k, "")
        note = note or DTYPES_LEFT_OUT.get(k, ((), ""))[1] or SAMPLES_LEFT_OUT.get(k, ("", ""))[1]
        print(f"{r['status']:9}{k:48}{counts:>10}  {note}".rstrip())
    print()
    for name, value in summary(results).items():
        print(f"{name:16} {value}")
    if options.json:
        text = json.dumps({"summary": summary(results), "results": results}, indent=1)
        Path(options.json).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
