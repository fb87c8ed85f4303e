"""Contractions through the compiler's kernels against NumPy in float64."""

import numpy as np
import pytest

from monograph.compiler.kernels import gemm  # noqa: F401  (registers the lowering)
from monograph.compiler.steps import LOWERINGS, Context, Scratch
from monograph.core import dtype as dt
from monograph.ir.graph import Graph
from monograph.ir.op import Aval
from monograph.ops.contract import Contract
from monograph.runtime.machine_code import compile_kernels
from monograph.runtime.program import launch


def run(signature, x, y, epilogue=None, check=None):
    """The result of a contraction of two NumPy arrays of any strides."""
    graph = Graph()
    dtype = dt.as_dtype(x.dtype)
    values = [graph.input(Aval(v.shape, dtype)) for v in (x, y)]
    out = graph.add(Contract(signature), *values)
    stands = {}
    arrays = {}
    for v, array in zip(values, (x, y)):
        lowest = sum(min(0, s) * (n - 1) for s, n in zip(array.strides, array.shape))
        strides = tuple(s // array.itemsize for s in array.strides)
        stands[v] = (v, strides, -lowest // array.itemsize)
        arrays[v] = array.__array_interface__["data"][0] + (lowest if array.size else 0)
    result = np.full(out.shape, 99, x.dtype)
    arrays[out] = result.ctypes.data
    context = Context("product", locate=stands.__getitem__)
    if epilogue is not None:
        context.epilogue = epilogue(graph, out, arrays)
    steps = LOWERINGS["contract"](out.node, context)
    keep = []
    for step in steps:
        for b in step.buffers:
            if isinstance(b, Scratch) and b not in arrays:
                keep.append(np.full(b.size, 77, dt.from_code(b.dtype).numpy))
                arrays[b] = keep[-1].ctypes.data
        (handle,) = compile_kernels([step.kernel])
        launch(handle, [arrays[b] for b in step.buffers], list(step.sizes), step.parallel)
    return result


def exact(signature, x, y):
    return Contract(signature).reference(x.astype(np.float64), y.astype(np.float64))


def assert_close(got, signature, x, y):
    expected = exact(signature, x, y)
    if got.dtype.kind in "iu":
        np.testing.assert_array_equal(got, expected.astype(np.int64).astype(got.dtype))
        return
    bound = exact(signature, abs(x), abs(y))
    eps = {"float32": 1.2e-7, "float64": 2.3e-16, "float16": 1e-3, "bfloat16": 8e-3}[got.dtype.name]
    # Half of the additions of a long sum round; the result rounds once more.
    tolerance = bound * min(eps, 1.2e-7) * 16 + abs(expected) * eps + 1e-30
    assert (abs(got.astype(np.float64) - expected) <= tolerance).all()


def random_array(rng, shape, dtype):
    if np.dtype(dtype).kind in "iu":
        return rng.integers(0, 5, shape).astype(dtype)
    return rng.standard_normal(shape).astype(dtype)


SHAPES = [
    (1, 1, 1), (1, 7, 3), (2, 3, 1), (5, 17, 4), (8, 48, 16), (13, 50, 33), (32, 64, 64), (32, 2, 64),
    (64, 10, 128), (31, 65, 7), (100, 100, 100), (1, 300, 200), (200, 1, 300), (1, 1, 5000),
    (3, 5, 9000), (70, 390, 130), (10, 128, 2048),
]  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    "signature", ["mk,kn->mn", "mk,nk->mn", "km,kn->mn", "km,nk->mn", "mk,kn->nm"]
)
def test_matrix_products(shape, signature):
    rng = np.random.default_rng(0)
    size = dict(zip("mnk", shape))
    a, b = signature.split("->")[0].split(",")
    x = random_array(rng, [size[c] for c in a], np.float32)
    y = random_array(rng, [size[c] for c in b], np.float32)
    assert_close(run(signature, x, y), signature, x, y)
