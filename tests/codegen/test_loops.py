"""Loops of every kind and length, reductions, masks, strides and local arrays."""

import numpy as np
import pytest
from random_kernels import ZERO, number, random_values
from test_differential import TARGETS, assert_same, run_both

from monograph.kernel.checker import BITS, FLOATS, REDUCTIONS, KernelError
from monograph.kernel.evaluate import NUMPY_DTYPES
from monograph.kernel.ir import (
    Buffer,
    Call,
    Const,
    If,
    Kernel,
    Let,
    Load,
    Local,
    Loop,
    Prefetch,
    Reduce,
    Store,
    Var,
)
from monograph.runtime.machine_code import compile_kernels

i, j, k, n, m = (Var(name) for name in "ijknm")
EVERY_TARGET = pytest.mark.parametrize("target", TARGETS.values(), ids=list(TARGETS))


def f32(*values):
    return np.array(values, np.float32)


def ramp(count, dtype="f32"):
    return (np.arange(count) % 7 + 1).astype(NUMPY_DTYPES[dtype])


@EVERY_TARGET
@pytest.mark.parametrize("dtype", ["f32", "f64", "u8", "f16", "bool"])
@pytest.mark.parametrize("constant", [False, True])
def test_every_extent_around_the_vector_width(dtype, constant, target):
    width = target.vector_bytes * 8 // BITS[dtype]
    if constant:
        extents = [0, 1, 2, 3, width - 1, width, width + 1, 8 * width, 8 * width + 3]
    else:
        extents = [0, 1, width - 1, width, width + 1, 2 * width, 3 * width + 1, 5 * width - 1]
    rng = np.random.default_rng(0)
    for extent in extents:
        stop = number(extent) if constant else n
        body = (Loop("i", ZERO, stop, (Store("y", i, Load("x", i, dtype)),), "vector"),)
        kernel = Kernel("copy", (Buffer("x", dtype), Buffer("y", dtype, True)), body, ("n",))
        x = random_values(rng, dtype, extent + 70)
        # What lies behind the end must stay as it is.
        y = random_values(rng, dtype, extent + 70)
        assert_same(kernel, {"x": x, "y": y}, {"n": extent}, target)


@EVERY_TARGET
def test_hints_reach_beyond_buffers_without_effect(target):
    far = Prefetch("x", j * 1_000_000_000 - 500_000_000)
    body = (
        Loop("j", ZERO, number(3), (far,)),
        Loop("i", ZERO, n, (Store("y", i, Load("x", i, "f32")), Prefetch("x", i)), "vector"),
    )
    kernel = Kernel("hints", (Buffer("x", "f32"), Buffer("y", "f32", True)), body, ("n",))
    assert_same(kernel, {"x": ramp(37), "y": f32(*[0] * 37)}, {"n": 37}, target)


REDUCED = [(op, dtype) for op in ("add", "mul", "min", "max") for dtype in ("f32", "f64")]
REDUCED += [(op, dtype) for op in sorted(REDUCTIONS) for dtype in ("i32", "i64", "u8")]


@EVERY_TARGET
@pytest.mark.parametrize(("op", "dtype"), REDUCED)
def test_reductions_over_all_extents(op, dtype, target):
    body = (Loop("i", ZERO, n, (Reduce(op, "out", number(1), Load("x", i, dtype)),), "vector"),)
    kernel = Kernel("reduce", (Buffer("x", dtype), Buffer("out", dtype, True)), body, ("n",))
    for extent in (0, 1, 5, 16, 17, 63, 64, 65, 200):
        x = (np.arange(extent) * 37 % 5 + (0.5 if dtype in FLOATS else 0)).astype(
            NUMPY_DTYPES[dtype]
        )
        if op == "mul" and dtype in FLOATS:
            x = np.where(x > 2, 2, 0.5).astype(x.dtype)  # exact products
        out = np.array([7, 3], NUMPY_DTYPES[dtype])
        assert_same(kernel, {"x": x, "out": out}, {"n": extent}, target)


@EVERY_TARGET
@pytest.mark.parametrize("op", ["min", "max"])
@pytest.mark.parametrize("place", [0, 40, 99])
def test_nan_wins_in_reductions(op, place, target):
    x = np.linspace(-1, 1, 100, dtype=np.float32)
    x[place] = np.nan
    body = (Loop("i", ZERO, n, (Reduce(op, "out", ZERO, Load("x", i, "f32")),), "vector"),)
    kernel = Kernel("reduce", (Buffer("x", "f32"), Buffer("out", "f32", True)), body, ("n",))
    (fast, _, _) = run_both(kernel, {"x": x, "out": f32(0)}, {"n": 100}, target)[0]
    assert np.isnan(fast[0])


@EVERY_TARGET
def test_row_sums_and_column_sums(target):
    row = Reduce("add", "rows", i, Load("x", i * n + j, "f32"))
    column = Reduce("add", "columns", j, Load("x", i * n + j, "f32"))
    body = (Loop("i", ZERO, m, (Loop("j", ZERO, n, (row, column), "vector"),)),)
    kernel = Kernel(
        "sums",
        (Buffer("x", "f32"), Buffer("rows", "f32", True), Buffer("columns", "f32", True)),
        body,
        ("m", "n"),
    )
    for rows, columns in ((0, 3), (3, 0), (1, 1), (5, 33), (4, 100)):
        x = ramp(rows * columns)
        zeros = {"rows": np.zeros(rows, "f"), "columns": np.zeros(columns, "f")}
        assert_same(kernel, {"x": x, **zeros}, {"m": rows, "n": columns}, target)


@EVERY_TARGET
def test_vector_loop_outside_of_a_serial_reduction(target):
    body = (
        Loop(
            "j",
            ZERO,
            n,
            (
                Local("sum", "f32", 1),
                Store("sum", ZERO, Const(0.0, "f32")),
                Loop("i", ZERO, m, (Reduce("add", "sum", ZERO, Load("x", i * n + j, "f32")),)),
                Store("out", j, Load("sum", ZERO, "f32")),
            ),
            "vector",
        ),
    )
    kernel = Kernel("columns", (Buffer("x", "f32"), Buffer("out", "f32", True)), body, ("m", "n"))
    for rows, columns in ((0, 3), (3, 1), (5, 33), (4, 70)):
        x = ramp(rows * columns)
        out = np.ones(columns, "f")
        assert_same(kernel, {"x": x, "out": out}, {"m": rows, "n": columns}, target)


@EVERY_TARGET
@pytest.mark.parametrize("dtype", ["f32", "u8", "bool", "f64"])
@pytest.mark.parametrize("stride", [-1, 2, 3, -2, 4, 5, -4])
def test_strided_and_reversed_loads_and_stores(stride, dtype, target):
    for extent in (1, 15, 16, 40, 67):
        shift = 0 if stride > 0 else -stride * (extent - 1)
        at = i * stride + shift
        bodies = [
            Store("y", i, Load("x", at, dtype)),
            Store("y", at, Load("x", i, dtype)),
        ]
        for store in bodies:
            body = (Loop("i", ZERO, n, (store,), "vector"),)
            kernel = Kernel("strided", (Buffer("x", dtype), Buffer("y", dtype, True)), body, ("n",))
            # The buffer ends with the last element that is used: a load beyond it would be seen
            # by a memory checker only, so the values are what this test sees.
            count = (extent - 1) * abs(stride) + 1
            x = random_values(np.random.default_rng(extent), dtype, count)
            y = np.zeros(count, NUMPY_DTYPES[dtype])
            assert_same(kernel, {"x": x, "y": y}, {"n": extent}, target)


@EVERY_TARGET
def test_gather_scatter_and_colliding_sums(target):
    at = Call("cast", (Load("index", i, "i32"),), "i64")
    body = (
        Loop("i", ZERO, n, (Store("y", i, Load("x", at * 2 + 1, "f32")),), "vector"),
        Loop("i", ZERO, n, (Store("z", at, Load("x", i, "f32")),), "vector"),
        Loop("i", ZERO, n, (Reduce("add", "w", at / 4, Load("x", i, "f32")),), "vector"),
    )
    kernel = Kernel(
        "gather",
        (
            Buffer("x", "f32"),
            Buffer("index", "i32"),
            Buffer("y", "f32", True),
            Buffer("z", "f32", True),
            Buffer("w", "f32", True),
        ),
        body,
        ("n",),
    )
    for extent in (1, 16, 37):
        index = np.random.default_rng(3).permutation(extent).astype(np.int32)
        zeros = {name: np.zeros(extent, "f") for name in "yzw"}
        assert_same(kernel, {"x": ramp(2 * extent), "index": index, **zeros}, {"n": extent}, target)


@EVERY_TARGET
@pytest.mark.parametrize("dtype", ["f32", "u8", "bool", "f16", "i64"])
def test_masks_never_touch_memory(dtype, target):
    """Loads and stores past the ends of their buffers, all masked off."""
    inside = Call("and", (i >= 4, i < 4 + m), "bool")
    load = Load("x", i - 4, dtype, mask=inside)
    body = (Loop("i", ZERO, n, (Store("y", i - 4, load, mask=inside),), "vector"),)
    kernel = Kernel("padded", (Buffer("x", dtype), Buffer("y", dtype, True)), body, ("m", "n"))
    serial = Kernel("padded", kernel.buffers, (Loop("i", ZERO, n, body[0].body),), ("m", "n"))
    rng = np.random.default_rng(1)
    for size in (0, 1, 30, 64, 100):
        x, y = random_values(rng, dtype, size), np.zeros(size, NUMPY_DTYPES[dtype])
        for tested in (kernel, serial):
            assert_same(tested, {"x": x, "y": y}, {"m": size, "n": size + 50}, target)


@EVERY_TARGET
def test_a_mask_on_a_shared_element(target):
    load = Load("x", j, "f32", mask=Call("lt", (i, m), "bool"))
    body = (Loop("j", ZERO, m, (Loop("i", ZERO, n, (Store("y", i, load),), "vector"),)),)
    kernel = Kernel("shared", (Buffer("x", "f32"), Buffer("y", "f32", True)), body, ("m", "n"))
    for size in (0, 3, 20):
        buffers = {"x": ramp(size), "y": np.zeros(40, "f")}
        assert_same(kernel, buffers, {"m": size, "n": 40}, target)


@EVERY_TARGET
@pytest.mark.parametrize("columns", [1, 3, 8, 16, 21, 48])
def test_register_tile(columns, target):
    """C += A @ B through a local tile, as matrix kernels do."""
    rows = 4
    tile = i * columns + j
    body = (
        Local("acc", "f32", rows * columns),
        Loop("i", ZERO, number(rows), (
            Loop("j", ZERO, number(columns), (Store("acc", tile, Const(0.0, "f32")),), "vector"),
        ), "unroll"),
        Loop("k", ZERO, n, (
            Loop("i", ZERO, number(rows), (
                Loop("j", ZERO, number(columns), (
                    Reduce("add", "acc", tile,
                           Load("a", k * rows + i, "f32") * Load("b", k * columns + j, "f32")),
                ), "vector"),
            ), "unroll"),
        )),
        Loop("i", ZERO, number(rows), (
            Loop("j", ZERO, number(columns), (
                Reduce("add", "c", tile, Load("acc", tile, "f32")),
            ), "vector"),
        ), "unroll"),
    )  # fmt: skip
    buffers = (Buffer("a", "f32"), Buffer("b", "f32"), Buffer("c", "f32", True))
    kernel = Kernel("tile", buffers, body, ("n",))
    for depth in (0, 1, 5):
        arrays = {"a": ramp(depth * rows), "b": ramp(depth * columns), "c": ramp(rows * columns)}
        assert_same(kernel, arrays, {"n": depth}, target)


@EVERY_TARGET
def test_if_let_unroll_and_chunks(target):
    chunk = Var("chunk")
    body = (
        Let("base", chunk * 10),
        Let("scale", Call("cast", (chunk,), "f32") + 1.0),
        If(
            chunk < 2,
            (
                Loop("i", ZERO, number(10), (
                    Store("y", Var("base") + i, Load("x", Var("base") + i, "f32")
                          * Var("scale", "f32")),
                ), "vector"),
            ),
            (
                Loop("i", ZERO, number(9), (
                    Store("y", Var("base") + i, Load("x", Var("base") + 9 - i, "f32")),
                ), "unroll", 3),
            ),
        ),
    )  # fmt: skip
    kernel = Kernel(
        "branches", (Buffer("x", "f32"), Buffer("y", "f32", True)), body, ("n",), grid=n
    )
    assert_same(kernel, {"x": ramp(50), "y": np.zeros(50, "f")}, {"n": 5}, target)


@EVERY_TARGET
def test_index_division(target):
    """Rows and columns recovered from a flat index, in vector loops and in serial ones."""
    for kind in ("vector", "serial"):
        at = (i % n) * m + i / n
        body = (Loop("i", ZERO, m * n, (Store("y", i, Load("x", at, "f32")),), kind),)
        kernel = Kernel("t", (Buffer("x", "f32"), Buffer("y", "f32", True)), body, ("m", "n"))
        x = np.arange(15 * 7, dtype=np.float32)
        assert_same(kernel, {"x": x, "y": x * 0}, {"m": 15, "n": 7}, target)
    constant = Store("y", i, Load("x", (i * 6 + 5) / 3 + (i + 64) % 8, "f32"))
    for kind in ("vector", "serial", "unroll"):
        kernel = Kernel(
            "t",
            (Buffer("x", "f32"), Buffer("y", "f32", True)),
            (Loop("i", ZERO, number(20), (constant,), kind),),
        )
        x = np.arange(100, dtype=np.float32)
        assert_same(kernel, {"x": x, "y": np.zeros(20, "f")}, {}, target)


@EVERY_TARGET
def test_index_as_value_and_integer_overflow(target):
    """Index arithmetic never overflows, but tensor arithmetic in i64 does, and wraps."""
    big = Const(1 << 62, "i64")
    body = (
        Loop("i", ZERO, n, (
            Store("y", i, Load("x", i, "i64") * 4 + i * 3),
            Store("f", i, Call("cast", (i,), "f32") * 0.5),
            Store("z", i, Load("x", i, "i64") + big + big),
        ), "vector"),
    )  # fmt: skip
    buffers = (Buffer("x", "i64"), Buffer("y", "i64", True), Buffer("z", "i64", True),
               Buffer("f", "f32", True))  # fmt: skip
    kernel = Kernel("iota", buffers, body, ("n",))
    x = random_values(np.random.default_rng(2), "i64", 41)
    arrays = {"x": x, "y": x * 0, "z": x * 0, "f": np.zeros(41, "f")}
    assert_same(kernel, arrays, {"n": 41}, target)


@EVERY_TARGET
def test_in_place_update_sees_its_own_stores(target):
    body = (
        Store("y", ZERO, Load("y", ZERO, "f32") + 1.0),
        Loop("i", number(1), n, (
            Store("y", i, Load("y", i, "f32") + Load("y", i - 1, "f32")),
        )),
    )  # fmt: skip
    kernel = Kernel("prefix", (Buffer("y", "f32", True),), body, ("n",))
    assert_same(kernel, {"y": ramp(20)}, {"n": 20}, target)


@EVERY_TARGET
def test_local_array_inside_a_vector_loop_is_private_to_each_lane(target):
    body = (
        Loop("i", ZERO, n, (
            Local("t", "f32", 3),
            Loop("j", ZERO, number(3), (Store("t", j, Load("x", i * 3 + j, "f32")),), "unroll"),
            Loop("j", ZERO, number(3), (
                Store("y", i * 3 + j, Load("t", number(2) - j, "f32")),
            ), "unroll"),
        ), "vector"),
    )  # fmt: skip
    kernel = Kernel("turn", (Buffer("x", "f32"), Buffer("y", "f32", True)), body, ("n",))
    for extent in (1, 16, 21):
        x = ramp(extent * 3)
        assert_same(kernel, {"x": x, "y": x * 0}, {"n": extent}, target)


def test_store_of_lanes_to_one_place_is_an_error():
    body = (Loop("i", ZERO, n, (Store("y", ZERO, Load("x", i, "f32")),), "vector"),)
    kernel = Kernel("bad", (Buffer("x", "f32"), Buffer("y", "f32", True)), body, ("n",))
    with pytest.raises(KernelError, match="writes different values to one place"):
        compile_kernels([kernel])


def test_if_on_lanes_is_an_error():
    body = (Loop("i", ZERO, n, (If(i < 3, (Store("y", i, Const(0.0, "f32")),)),), "vector"),)
    kernel = Kernel("bad", (Buffer("y", "f32", True),), body, ("n",))
    with pytest.raises(KernelError, match="use select or a mask"):
        compile_kernels([kernel])


@EVERY_TARGET
@pytest.mark.parametrize("op", ["lt", "le", "gt", "ge", "eq", "ne"])
def test_comparisons_of_indices_in_lanes(op, target):
    for x, y in ((i + m, n), (n, i - m), (i * 2, n), (n - i, i), (number(9) - i, number(3))):
        mask = Call(op, (x, y), "bool")
        body = (Loop("i", ZERO, number(40), (Store("y", i, mask),), "vector"),)
        kernel = Kernel("compare", (Buffer("y", "bool", True),), body, ("m", "n"))
        for limit in (-3, 0, 20, 37, 1000):
            assert_same(kernel, {"y": np.zeros(40, bool)}, {"m": 5, "n": limit}, target)


@EVERY_TARGET
def test_one_instruction_serves_signed_and_unsigned_values(target):
    """u8(x) and i8(x) are the same truncation, but what follows differs."""
    x = Load("x", i, "u64")
    unsigned, signed = Call("cast", (x,), "u8"), Call("cast", (x,), "i8")
    body = (
        Loop("i", ZERO, n, (
            Store("u", i, unsigned / Const(3, "u8")),
            Store("s", i, signed / Const(3, "i8")),
            Store("less", i, Call("lt", (signed, Const(5, "i8")), "bool")),
        ), "vector"),
    )  # fmt: skip
    buffers = (Buffer("x", "u64"), Buffer("u", "u8", True), Buffer("s", "i8", True),
               Buffer("less", "bool", True))  # fmt: skip
    kernel = Kernel("signs", buffers, body, ("n",))
    arrays = {"x": np.arange(256, dtype=np.uint64), "u": np.zeros(256, np.uint8),
              "s": np.zeros(256, np.int8), "less": np.zeros(256, bool)}  # fmt: skip
    assert_same(kernel, arrays, {"n": 256}, target)
