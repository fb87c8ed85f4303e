"""Compiled kernels against the slow evaluator."""

import numpy as np
import pytest
from random_kernels import ALL, elementwise_kernel, random_values, same_values

from monograph.codegen import target as targets
from monograph.kernel.evaluate import NUMPY_DTYPES, evaluate
from monograph.kernel.printer import str_kernel
from monograph.runtime.machine_code import compile_kernels
from monograph.runtime.program import launch


def usable_targets():
    """The fixed targets that this machine can run, and itself."""
    host = targets.host()
    found = {"host": host}
    if host.triple.startswith("x86_64"):
        found["baseline"] = targets.x86_64_baseline(host.triple)
        if host.vector_bytes >= 32 and host.fma:
            found["avx2"] = targets.avx2(host.triple)
        if host.vector_bytes >= 64:
            found["avx512"] = targets.avx512(host.triple)
    return found


TARGETS = usable_targets()


def run_compiled(kernel, buffers, sizes, target=None):
    """The written buffers, by name, after a run of the compiled kernel on copies."""
    made = {b.name: buffers[b.name].copy() for b in kernel.buffers}
    (handle,) = compile_kernels([kernel], target)
    launch(handle, list(made.values()), [sizes[s] for s in kernel.sizes])
    return {b.name: made[b.name] for b in kernel.buffers if b.written}


def run_both(kernel, buffers, sizes, target=None):
    """(compiled results, evaluated results) of the written buffers."""
    fast = run_compiled(kernel, buffers, sizes, target)
    slow = {b.name: buffers[b.name].copy() for b in kernel.buffers}
    evaluate(kernel, slow, sizes)
    return [(fast[b.name], slow[b.name], b.dtype) for b in kernel.buffers if b.written]


def assert_same(kernel, buffers, sizes, target=None):
    for fast, slow, dtype in run_both(kernel, buffers, sizes, target):
        assert same_values(fast, slow, dtype), f"{str_kernel(kernel)}\n{fast}\n{slow}"


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dtype", ALL)
def test_random_expressions_equal_the_evaluator(dtype, target):
    rng = np.random.default_rng(ALL.index(dtype) + 100)
    for _ in range(4):
        kernel = elementwise_kernel(rng, dtype)
        n = 83
        buffers = {f"x_{d}": random_values(rng, d, n) for d in ALL}
        buffers["out"] = np.zeros(n, NUMPY_DTYPES[dtype])
        if not TARGETS[target].fma and "fma" in str_kernel(kernel):
            continue  # the product is rounded there
        assert_same(kernel, buffers, {"n": n}, TARGETS[target])
