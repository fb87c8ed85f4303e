"""Transposing stores: unrolled neighbours from lanes that are far apart."""

import numpy as np
import pytest
from random_kernels import random_values
from test_differential import TARGETS, assert_same

from monograph.codegen.target import avx512
from monograph.kernel.evaluate import NUMPY_DTYPES
from monograph.kernel.ir import Buffer, Call, Const, Kernel, Load, Loop, Store, Var
from monograph.runtime.machine_code import kernel_assembly


def copy(dtype, columns, lanes, stride, result=None):
    """out[l*stride + j] = x[j*lanes + l] for l in lanes (a vector loop) and j (unrolled)."""
    j, lane, zero = Var("j"), Var("l"), Const(0, "i64")
    value = Load("x", j * lanes + lane, dtype)
    if result is not None:
        value = Call("cast", (value,), result)
    store = Store("out", lane * stride + j + 3, value)
    columns_loop = Loop("j", zero, Const(columns, "i64"), (store,), "unroll")
    body = (Loop("l", zero, Const(lanes, "i64"), (columns_loop,), "vector"),)
    return Kernel("copy", (Buffer("x", dtype), Buffer("out", result or dtype, True)), body, ("n",))


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("columns", [3, 16, 23, 40])
@pytest.mark.parametrize("dtype", ["f32", "f64", "u16", "bool"])
def test_transposed_copies(dtype, columns, target):
    rng = np.random.default_rng(columns)
    for lanes in (5, 37):
        for stride in (Const(columns, "i64"), Var("n")):
            kernel = copy(dtype, columns, lanes, stride)
            arrays = {
                "x": random_values(rng, dtype, columns * lanes),
                "out": np.zeros(lanes * (columns + 3) + 80, NUMPY_DTYPES[dtype]),
            }
            assert_same(kernel, arrays, {"n": columns + 3}, TARGETS[target])


@pytest.mark.parametrize("target", TARGETS)
def test_transposed_copies_convert(target):
    rng = np.random.default_rng(1)
    kernel = copy("f16", 16, 48, Const(20, "i64"), "f32")
    arrays = {"x": random_values(rng, "f16", 16 * 48), "out": np.zeros(1200, np.float32)}
    assert_same(kernel, arrays, {"n": 0}, TARGETS[target])


def test_whole_vectors_are_stored_not_scattered():
    text = kernel_assembly(copy("f32", 16, 16, Const(16, "i64")), avx512())
    assert "scatter" not in text and "vmovss" not in text
    assert "vperm" not in text  # orders in registers, which a product's sums would miss
