"""f16 and bf16: every value in, and every rounding case out."""

import ml_dtypes
import numpy as np
import pytest
from random_kernels import ZERO
from test_differential import TARGETS

from monograph.kernel import scalar as s
from monograph.kernel.evaluate import NUMPY_DTYPES
from monograph.kernel.ir import Buffer, Const, Kernel, Load, Loop, Store, Var
from monograph.runtime.machine_code import compile_kernels
from monograph.runtime.program import launch

i, n = Var("i"), Var("n")


def converted(x, source, target_dtype, target):
    store = Store("y", i, s.cast(Load("x", i, source), target_dtype))
    body = (Loop("i", ZERO, n, (store,), "vector"),)
    buffers = (Buffer("x", source), Buffer("y", target_dtype, True))
    (handle,) = compile_kernels([Kernel("cast", buffers, body, ("n",))], target)
    y = np.zeros(len(x), NUMPY_DTYPES[target_dtype])
    launch(handle, [x, y], [len(x)])
    return y


@pytest.mark.parametrize("target", TARGETS.values(), ids=list(TARGETS))
@pytest.mark.parametrize("dtype", ["f16", "bf16"])
def test_every_half_becomes_the_same_float(dtype, target):
    halves = np.arange(1 << 16, dtype=np.uint32).astype(np.uint16).view(NUMPY_DTYPES[dtype])
    got, want = converted(halves, dtype, "f32", target), halves.astype(np.float32)
    assert np.array_equal(got, want, equal_nan=True)
    assert np.array_equal(np.signbit(got), np.signbit(want))


@pytest.mark.parametrize("target", TARGETS.values(), ids=list(TARGETS))
@pytest.mark.parametrize("dtype", ["f16", "bf16"])
def test_floats_round_to_the_nearest_half_ties_to_even(dtype, target):
    """Each half, the points midway to the next, and their neighbours in f32."""
    kind = NUMPY_DTYPES[dtype]
    halves = np.arange(1 << 16, dtype=np.uint32).astype(np.uint16).view(kind)
    at = halves.astype(np.float32)
    if dtype == "f16":
        following = np.roll(halves, -1).astype(np.float32)
        with np.errstate(all="ignore"):
            middle = ((at.astype(np.float64) + following) / 2).astype(np.float32)
    else:
        middle = (at.view(np.uint32) | 0x8000).view(np.float32)
    with np.errstate(all="ignore"):
        cases = [at, middle, np.nextafter(middle, -np.inf), np.nextafter(middle, np.inf)]
        x = np.concatenate([c.astype(np.float32) for c in cases])
        want = x.astype(kind)
    got = converted(x, "f32", dtype, target)
    nan = np.isnan(want.astype(np.float32))
    assert np.array_equal(got[~nan].view(np.uint16), want[~nan].view(np.uint16))
    assert np.isnan(got[nan].astype(np.float32)).all()


def test_the_reference_types_are_what_they_should_be():
    assert NUMPY_DTYPES["bf16"] is ml_dtypes.bfloat16 and NUMPY_DTYPES["f16"] is np.float16


@pytest.mark.parametrize("target", TARGETS.values(), ids=list(TARGETS))
@pytest.mark.parametrize("dtype", ["bf16", "f16", "i8", "u16"])
def test_conversions_of_a_constant_length_write_nothing_beyond_it(dtype, target):
    buffers = (Buffer("x", "f32"), Buffer("y", dtype, True))
    lengths = [1, 2, 3, 7, 8, 9, 15, 16, 17, 18, 31, 33, 65, 129, 145, 257]
    kernels = []
    for length in lengths:
        at = Var("row") * length + i
        store = Store("y", at, s.cast(Load("x", at, "f32"), dtype))
        columns = Loop("i", ZERO, Const(length, "i64"), (store,), "vector")
        kernels.append(Kernel("cast", buffers, (Loop("row", ZERO, n, (columns,)),), ("n",)))
    for length, handle in zip(lengths, compile_kernels(kernels, target)):
        x = np.arange(2 * length + 30, dtype=np.float32) % 50
        y = np.full(len(x), 77, NUMPY_DTYPES[dtype])
        launch(handle, [x, y], [2])
        np.testing.assert_array_equal(y[: 2 * length], x[: 2 * length].astype(y.dtype))
        assert (y[2 * length :] == 77).all(), length
