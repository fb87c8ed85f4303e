"""Copies between orders of axes, against NumPy; what lies behind the result is left alone."""

import math

import numpy as np
import pytest

from monograph.compiler.kernels.copy import lower_copy
from monograph.compiler.steps import Context
from monograph.core import dtype as dt
from monograph.ir.graph import Graph
from monograph.ir.op import Aval
from monograph.ops.movement import Copy
from monograph.runtime.machine_code import compile_kernels
from monograph.runtime.program import Program, Slot, Task


def strides_of(shape, order, gap=0):
    """Steps of an array that stands in `order`, rows `gap` apart; and the elements it takes."""
    steps, step = [0] * len(shape), 1
    for i, axis in enumerate(reversed(order)):
        steps[axis] = step
        step *= shape[axis] + (gap if i == 0 else 0)
    return steps, step


def check(shape, steps_x, steps_out, taken, dtype=dt.float32, offset=0):
    graph = Graph()
    x = graph.input(Aval(shape, dtype))
    out = graph.add(Copy(), x)
    context = Context(
        "copy", None, lambda v: (x, tuple(steps_x), offset), lambda v: tuple(steps_out), set()
    )
    (step,) = lower_copy(out.node, context)
    source = np.random.default_rng(0).integers(-99, 99, taken[0]).astype(dtype.numpy)
    result = np.full(taken[1] + 32, 77).astype(dtype.numpy)
    handle = compile_kernels([step.kernel])[0]
    Program([Task(handle, [Slot(0), Slot(1)], [], True)], slots=2)(
        [source.ctypes.data, result.ctypes.data]
    )
    size, view = source.itemsize, np.lib.stride_tricks.as_strided
    expected = view(source[offset:], shape, [s * size for s in steps_x])
    np.testing.assert_array_equal(view(result, shape, [s * size for s in steps_out]), expected)
    assert (result[taken[1] :] == 77).all()


@pytest.mark.parametrize(
    "shape",
    [
        (2, 24, 16, 16), (3, 100, 9, 9), (1, 512, 8, 8), (2, 16, 13, 17), (1, 20, 30, 30),
        (9, 40, 13, 13), (2, 145, 3, 5), (2, 3, 31, 31), (5, 1, 7, 7), (4, 150, 4), (3, 200),
    ],
)  # fmt: skip
def test_images_to_channels_last_and_back(shape):
    rows = list(range(len(shape)))
    last = [0, *rows[2:], 1]
    count = math.prod(shape)
    for one, other in ((rows, last), (last, rows)):
        check(shape, strides_of(shape, one)[0], strides_of(shape, other)[0], (count, count))


def test_orders_of_axes():
    r = np.random.default_rng(1)
    sizes = [1, 2, 3, 7, 8, 15, 16, 17, 20, 33, 40, 64, 100, 144, 145, 200]
    for _ in range(40):
        ndim = int(r.integers(1, 5))
        shape = tuple(int(n) for n in r.choice(sizes, ndim))
        while math.prod(shape) > 100_000:
            shape = tuple(max(1, n // 2) for n in shape)
        steps_x, taken_x = strides_of(shape, r.permutation(ndim), int(r.choice([0, 0, 3])))
        steps_out, taken_out = strides_of(shape, r.permutation(ndim))
        offset = 0
        for axis in range(ndim):  # reversed or repeated
            how = r.random()
            if how < 0.1:
                offset += steps_x[axis] * (shape[axis] - 1)
                steps_x[axis] = -steps_x[axis]
            elif how < 0.2:
                steps_x[axis] = 0
        dtype = [dt.float32, dt.float64, dt.int8, dt.bfloat16][int(r.integers(4))]
        check(shape, steps_x, steps_out, (taken_x, taken_out), dtype, offset)
