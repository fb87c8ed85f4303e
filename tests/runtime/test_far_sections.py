"""Kernels load in a process whose free addresses lie far apart."""

import subprocess
import sys

import pytest

SCRIPT = """
import ctypes
import monograph as mg

PAGE, APART, NO_ACCESS_NO_RESERVE = 4096, 5 << 30, 0x4022
libc = ctypes.CDLL(None)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t] + 3 * [ctypes.c_int] + [ctypes.c_long]
libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]

def take(size):
    return libc.mmap(None, size, 0, NO_ACCESS_NO_RESERVE, -1, 0)

mg.jit(lambda x: x + 1)(mg.ones(3))
base = take(APART)
upper, lower = base + APART - 2 * PAGE, base + PAGE
for hole in (upper, lower):
    libc.munmap(hole, PAGE)
while take(PAGE) != upper:
    pass
libc.munmap(upper, PAGE)
print(mg.jit(lambda x: mg.exp(x).sum(-1))(mg.ones(7, 40))[0].item())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="fills the holes that Linux would give next")
def test_a_kernels_sections_stay_together():
    """Free are two pages, five gigabytes apart: code and constants of one kernel would go there."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) == pytest.approx(40 * 2.718281828, rel=1e-6)
