"""How many threads run a program.

By default as many as there are cores that affinity and the container's CPU quota allow;
$MONOGRAPH_NUM_THREADS and `set_num_threads` override it. The threads themselves: pool.py.
"""

from __future__ import annotations

import math
import os
from pathlib import Path


def available_cpus() -> int:
    """Cores this process may use: affinity, the CPU quota of its container, one per SMT pair."""
    if hasattr(os, "sched_getaffinity"):
        allowed = os.sched_getaffinity(0)
        cores = {_siblings(cpu) for cpu in allowed}
        count = len(cores)
    else:
        count = os.cpu_count() or 1
    quota = _cpu_quota()
    if quota is not None:
        count = min(count, max(1, math.ceil(quota)))
    return max(1, count)


def _siblings(cpu: int) -> str:
    path = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
    try:
        return path.read_text().strip()
    except OSError:
        return str(cpu)


def _cpu_quota(root: Path = Path("/")) -> float | None:
    """CPUs that the control groups of this process grant, or None where there is no limit.

    A limit holds for a group and all below it: the least one counts. Source: the Linux kernel's
    documentation of cgroup v2 (cpu.max) and v1 (cpu.cfs_quota_us, cpu.cfs_period_us).
    """
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return None
    found = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        version_2 = controllers == ""
        if not version_2 and "cpu" not in controllers.split(","):
            continue
        top = root / "sys/fs/cgroup" / ("" if version_2 else "cpu")
        group = top / path.lstrip("/")
        for folder in (group, *group.parents):
            quota = _quota_of(folder, version_2)
            if quota is not None:
                found.append(quota)
            if folder == top:
                break
    return min(found, default=None)


def _quota_of(folder: Path, version_2: bool) -> float | None:
    try:
        if version_2:
            limit, period = (folder / "cpu.max").read_text().split()
        else:
            limit = (folder / "cpu.cfs_quota_us").read_text()
            period = (folder / "cpu.cfs_period_us").read_text()
        return int(limit) / int(period) if int(limit) > 0 else None
    except (OSError, ValueError):  # no such file, or "max"
        return None


_num_threads: int | None = None


def get_num_threads() -> int:
    """How many threads run a parallel kernel, the calling one included.

    >>> get_num_threads() >= 1
    True
    """
    global _num_threads
    if _num_threads is None:
        given = os.environ.get("MONOGRAPH_NUM_THREADS", "")
        if given and not (given.isdigit() and int(given) > 0):
            raise ValueError(f"MONOGRAPH_NUM_THREADS must be a positive number, got {given!r}")
        _num_threads = int(given) if given else available_cpus()
    return _num_threads


def set_num_threads(count: int) -> None:
    """Use `count` threads from now on. Results do not depend on it.

    ValueError unless count is a positive int. Workers of DataLoaders use one thread each.

    >>> set_num_threads(get_num_threads())
    """
    global _num_threads
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise ValueError(f"set_num_threads: count must be a positive int, got {count!r}")
    _num_threads = count
