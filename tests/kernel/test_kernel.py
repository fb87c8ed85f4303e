"""The loop language itself: text, rules, slow meaning."""

import ml_dtypes
import numpy as np
import pytest

from monograph.kernel import scalar as s
from monograph.kernel.checker import KernelError, check
from monograph.kernel.digest import digest
from monograph.kernel.evaluate import NUMPY_DTYPES, evaluate
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
from monograph.kernel.printer import str_expr, str_kernel
from monograph.runtime.machine_code import compile_kernels
from monograph.runtime.program import launch

ZERO, i, n = Const(0, "i64"), Var("i"), Var("n")
X, Y = Buffer("x", "f32"), Buffer("y", "f32", True)
x_i = Load("x", i, "f32")


def vector(*body):
    return Loop("i", ZERO, n, body, "vector")


def kernel(*body, buffers=(X, Y), sizes=("n",), name="k", **more):
    return Kernel(name, buffers, body, sizes, **more)


def test_a_kernel_prints_one_statement_a_line():
    body = (
        Local("sum", "f32", 4),
        Let("half", Const(0.5, "f32")),
        vector(
            Store("y", i, s.fma(x_i, Var("half", "f32"), (x_i + 1.0) * x_i), mask=i < 5),
            Reduce("max", "sum", ZERO, s.cast(s.bitcast(x_i, "u32") >> 3, "f32")),
        ),
        If(n < 3, (Store("y", ZERO, Load("x", i, "f32", mask=i < 2)),), (Let("a", n),)),
        Loop("j", ZERO, Const(8, "i64"), (), "unroll", 2),
        Prefetch("x", n + 64),
    )
    assert str_kernel(kernel(*body, grid=n / 4)) == (
        "kernel k(x: f32, y: f32 written) sizes(n) grid(n / 4)\n"
        "  local sum: f32[4]\n"
        "  half = 0.5\n"
        "  vector for i in 0 .. n\n"
        "    y[i] = fma(x[i], half, (x[i] + 1.0) * x[i]) where i < 5\n"
        "    sum[0] max= f32(bits_u32(x[i]) >> 3:u32)\n"
        "  if n < 3\n"
        "    y[0] = x[i where i < 2]\n"
        "  else\n"
        "    a = n\n"
        "  unroll for j in 0 .. 8 step 2\n"
        "  prefetch x[n + 64]\n"
    )


def test_parentheses_only_where_needed():
    a, b, c = Var("a"), Var("b"), Var("c")
    assert str_expr((a - b) - c) == "a - b - c"
    assert str_expr(a - (b - c)) == "a - (b - c)"
    assert str_expr((a + b) * c) == "(a + b) * c"


BAD = {
    "'z' is not defined here (defined: chunk, n)": kernel(Let("a", Var("z"))),
    "no buffer 'z' here (there are: x, y)": kernel(Let("a", Load("z", ZERO, "f32"))),
    "buffer x holds f32, not i32": kernel(Let("a", Load("x", ZERO, "i32"))),
    "buffer x is written, but not declared so": kernel(Store("x", ZERO, Const(0.0, "f32"))),
    "buffer y holds f32, not f64": kernel(Store("y", ZERO, Const(0.0, "f64"))),
    "expected i64, got f32": kernel(Store("y", Const(0.0, "f32"), Const(0.0, "f32"))),
    "unknown scalar operation 'exp'": kernel(Let("a", Call("exp", (Const(0.0, "f32"),), "f32"))),
    "add takes 2 arguments, got 1": kernel(Let("a", Call("add", (ZERO,), "i64"))),
    "operands differ in dtype (i64, f32)": kernel(
        Let("a", Call("add", (ZERO, Const(0.0, "f32")), "i64"))
    ),
    "add of i64 gives i64, not f32": kernel(Let("a", Call("add", (ZERO, ZERO), "f32"))),
    "add is not defined for f16 (compute in f32: cast first)": kernel(
        Let("a", Const(1.0, "f16") + Const(1.0, "f16"))
    ),
    "select's condition must be bool, got i64": kernel(
        Let("a", Call("select", (ZERO, ZERO, ZERO), "i64"))
    ),
    "bitcast from i64 to f32: sizes differ": kernel(Let("a", Call("bitcast", (ZERO,), "f32"))),
    "constant 300 does not fit u8": kernel(Let("a", Const(300, "u8"))),
    "constant 0.5 is not an integer, as i32 needs": kernel(Let("a", Const(0.5, "i32"))),
    "cannot reduce f32 with or": kernel(Reduce("or", "y", ZERO, Const(0.0, "f32"))),
    "'sub' is not one of add, and, max, min, mul, or": kernel(
        Reduce("sub", "y", ZERO, Const(0.0, "f32"))
    ),
    "loop kind 'fast' is not one of": kernel(Loop("i", ZERO, n, (), "fast")),
    "a vector loop's step must be 1, got 2": kernel(Loop("i", ZERO, n, (), "vector", 2)),
    "a loop's step must be at least 1, got 0": kernel(Loop("i", ZERO, n, (), "serial", 0)),
    "the name 'x' is given twice": kernel(buffers=(X, X)),
    "unknown dtype 'f8'": kernel(buffers=(Buffer("x", "f8"),)),
    "no buffer is named 'z'": kernel(Prefetch("z", n)),
    "'i' is not defined here": kernel(vector(), Store("y", i, Const(0.0, "f32"))),
    "a kernel's name must be letters": kernel(name="a b"),
}


@pytest.mark.parametrize("message", BAD)
def test_a_broken_rule_is_named(message):
    with pytest.raises(KernelError) as caught:
        check(BAD[message])
    assert message in str(caught.value)
    assert str(caught.value).startswith("kernel ")


def test_a_hint_changes_nothing_but_the_kernel():
    hinted = kernel(vector(Store("y", i, x_i)), Prefetch("x", n + 1_000_000))
    check(hinted)
    assert digest(hinted) != digest(kernel(*hinted.body[:1]))
    a, b = np.ones(2, "f"), np.zeros(2, "f")
    evaluate(hinted, {"x": a, "y": b}, {"n": 2})
    np.testing.assert_array_equal(b, a)


def test_checking_shared_expressions_takes_no_time():
    """Forty doublings: a tree of a million million nodes, a graph of forty."""
    x = x_i
    for _ in range(40):
        x = x + x
    doubled = kernel(vector(Store("y", i, x)))
    check(doubled)
    a, b = np.ones(2, "f"), np.zeros(2, "f")
    evaluate(doubled, {"x": a, "y": b}, {"n": 2})
    assert (b == 2.0**40).all()


def test_evaluation_runs_all_chunks_and_masks():
    chunk = Var("chunk")
    body = (Store("y", chunk, Load("x", chunk - 1, "f32", mask=chunk > 0), mask=chunk < 3),)
    x, y = np.arange(1, 5, dtype="f"), np.full(4, -1, "f")
    evaluate(kernel(*body, grid=Const(4, "i64")), {"x": x, "y": y}, {"n": 0})
    assert y.tolist() == [0, 1, 2, -1]


@pytest.mark.parametrize(
    ("expr", "want"),
    [
        (Const(-7, "i32") / Const(2, "i32"), -3),
        (Const(-7, "i32") % Const(2, "i32"), -1),
        (Const(7, "i32") / Const(0, "i32"), 0),
        (Const(-(2**31), "i32") / Const(-1, "i32"), -(2**31)),
        (Const(200, "u8") + Const(100, "u8"), 44),
        (Const(1, "u8") << Const(9, "u8"), 0),
        (Const(-8, "i8") >> Const(100, "i8"), -1),
        (s.mulhi(Const(2**31, "u32"), Const(6, "u32")), 3),
        (s.cast(Const(-1, "i8"), "u16"), 65535),
        (s.cast(Const(2.9, "f32"), "i32"), 2),
        (s.cast(Const(0.5, "f32"), "bool"), True),
        (s.rounded(Const(2.5, "f32")), 2.0),
        (s.bitcast(Const(1.0, "f32"), "u32"), 0x3F800000),
        (s.fma(Const(1e308, "f64"), 10.0, -1e308), np.inf),
    ],
)
def test_scalar_meanings(expr, want):
    buffer = Buffer("y", expr.dtype, True)
    y = np.zeros(1, NUMPY_DTYPES[expr.dtype])
    evaluate(kernel(Store("y", ZERO, expr), buffers=(buffer,), sizes=()), {"y": y})
    assert y[0] == want


def test_evaluation_refuses_wrong_arrays_and_indices():
    store = kernel(Store("y", n, Const(0.0, "f32")))
    x, y = np.zeros(3, "f"), np.zeros(3, "f")
    with pytest.raises(KernelError, match="no array for buffer y"):
        evaluate(store, {"x": x}, {"n": 0})
    with pytest.raises(KernelError, match="must be a flat f32 array, got float64"):
        evaluate(store, {"x": x, "y": y.astype("d")}, {"n": 0})
    with pytest.raises(IndexError, match="outside of the buffer's 3 elements"):
        evaluate(store, {"x": x, "y": y}, {"n": 3})


def test_a_prefetch_reads_nothing_anywhere():
    far = Const(10**6, "i64")
    body = (Prefetch("x", far), Store("x", ZERO, Const(2.0, "f32")))
    hint = Kernel("hint", (Buffer("x", "f32", True),), body)
    assert "prefetch x[1000000]" in str_kernel(hint)
    x = np.zeros(1, np.float32)
    evaluate(hint, {"x": x})
    assert x[0] == 2
    x[0] = 0
    (handle,) = compile_kernels([hint])
    launch(handle, [x])
    assert x[0] == 2
    with pytest.raises(KernelError, match="no buffer is named 'y'"):
        check(Kernel("hint", (), (Prefetch("y", far),)))


def test_bfloat16_constants_and_storage():
    buffers = (Buffer("y", "bf16", True),)
    y = np.zeros(1, ml_dtypes.bfloat16)
    evaluate(kernel(Store("y", ZERO, Const(1.5, "bf16")), buffers=buffers, sizes=()), {"y": y})
    assert y[0] == 1.5


def test_equal_kernels_have_equal_digests_and_others_do_not():
    def scaled(factor, name="k", mask=None, **more):
        return kernel(vector(Store("y", i, Load("x", i, "f32") * factor, mask)), name=name, **more)

    assert digest(scaled(2.0)) == digest(scaled(2.0)) == digest(scaled(2.0, "other"))
    different = [
        scaled(2.0),
        scaled(3.0),
        scaled(2.0, mask=i < 3),
        scaled(2.0, grid=n),
        scaled(2.0, sizes=("n", "m")),
        kernel(Loop("i", ZERO, n, scaled(2.0).body[0].body)),
        kernel(vector(Store("y", i, Load("x", i, "f32") + 2.0))),
        kernel(vector(Store("y", i, Const(0.0, "f32")))),
        kernel(vector(Store("y", i, Const(-0.0, "f32")))),
        kernel(vector(Reduce("add", "y", i, x_i))),
        kernel(vector(Reduce("max", "y", i, x_i))),
        kernel(If(n < 3, scaled(2.0).body)),
        kernel(If(n < 3, (), scaled(2.0).body)),
        kernel(Local("t", "f32", 3)),
        kernel(Local("t", "f32", 4)),
    ]
    assert len({digest(k) for k in different}) == len(different)


def test_the_digest_of_shared_expressions_takes_no_time():
    x = x_i
    for _ in range(60):
        x = x + x
    assert len(digest(kernel(vector(Store("y", i, x))))) == 64
