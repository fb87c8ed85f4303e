"""What a code generator needs to know about the machine it writes for.

`host()` is this machine; `x86_64_baseline()`, `avx2()`, `avx512()` and `aarch64()` are fixed
targets. $MONOGRAPH_CPU (a CPU name such as "x86-64" or "haswell") and $MONOGRAPH_CPU_FEATURES
("+avx2,-fma") override the host. llvmlite is imported at the first call, not with this module.
"""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass


@dataclass(frozen=True)
class Target:
    """A processor: `features` is LLVM's list ("+avx2,+fma,..."), empty for the CPU's own."""

    triple: str
    cpu: str
    features: str
    vector_bytes: int
    fma: bool = False
    masked: bool = False  # masked loads and stores of every element size cost nothing (AVX-512)
    f16c: bool = False  # hardware conversion between f16 and f32
    rounds: bool = True  # hardware floor, ceil, trunc, round
    registers: int = 16

    @property
    def key(self) -> str:
        """What distinguishes object code for this target from others."""
        return f"{self.triple}|{self.cpu}|{self.features}|{self.vector_bytes}"

    def lanes(self, element_bytes: int) -> int:
        return max(1, self.vector_bytes // element_bytes)


def _x86(triple: str, cpu: str, features: str, has: set[str]) -> Target:
    wide = {"avx512f", "avx512bw", "avx512vl", "avx512dq"} <= has
    size = 64 if wide else 32 if "avx2" in has else 16
    # LLVM prefers 256-bit vectors on several AVX-512 CPUs; our IR already states its widths.
    if wide and "prefer-256-bit" not in features:
        features = ",".join(x for x in (features, "-prefer-256-bit") if x)
    return Target(
        triple=triple,
        cpu=cpu,
        features=features,
        vector_bytes=size,
        fma="fma" in has,
        masked=wide,
        f16c="f16c" in has,
        rounds="sse4.1" in has,
        registers=32 if wide else 16,
    )


_AVX2 = {"sse4.1", "avx", "avx2", "fma", "f16c"}
_AVX512 = _AVX2 | {"avx512f", "avx512bw", "avx512vl", "avx512dq"}
_LINUX = "x86_64-unknown-linux-gnu"


def x86_64_baseline(triple: str = _LINUX) -> Target:
    """Any 64-bit x86 processor (SSE2)."""
    return _x86(triple, "x86-64", "", set())


def avx2(triple: str = _LINUX) -> Target:
    """x86-64-v3: AVX2, FMA, F16C (2013 and later)."""
    return _x86(triple, "x86-64-v3", "", _AVX2)


def avx512(triple: str = _LINUX) -> Target:
    """x86-64-v4: AVX-512 F, BW, VL, DQ."""
    return _x86(triple, "x86-64-v4", "", _AVX512)


def aarch64(triple: str = "aarch64-unknown-linux-gnu") -> Target:
    """64-bit Arm with NEON."""
    return Target(triple, "generic", "+neon", 16, fma=True, f16c=True, registers=32)


_NAMED = {
    "x86-64": set(), "x86-64-v2": {"sse4.1"}, "x86-64-v3": _AVX2, "haswell": _AVX2,
    "x86-64-v4": _AVX512, "skylake-avx512": _AVX512,
}  # fmt: skip


@functools.cache
def host() -> Target:
    """This machine, or what $MONOGRAPH_CPU and $MONOGRAPH_CPU_FEATURES say instead."""
    import llvmlite.binding as llvm

    triple = llvm.get_process_triple()
    cpu = os.environ.get("MONOGRAPH_CPU", "")
    extra = os.environ.get("MONOGRAPH_CPU_FEATURES", "")
    if cpu:
        features = extra
        has = set(_NAMED.get(cpu, ()))
    else:
        cpu = llvm.get_host_cpu_name()
        found = llvm.get_host_cpu_features()
        features = ",".join(x for x in (found.flatten(), extra) if x)
        has = {name for name, present in found.items() if present}
    for item in extra.split(","):
        if item.startswith("+"):
            has.add(item[1:])
        elif item.startswith("-"):
            has.discard(item[1:])
    if triple.startswith(("aarch64", "arm64")):
        return Target(triple, cpu, features, 16, fma=True, f16c=True, registers=32)
    if "avx2" not in has:
        has -= _AVX512
    return _x86(triple, cpu, features, has)
