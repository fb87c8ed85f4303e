"""Contractions through the compiler's kernels against NumPy in float64."""

import numpy as np
import pytest

from monograph.codegen.target import avx512
from monograph.compiler.index import flat
from monograph.compiler.kernels import blocking, gemm  # noqa: F401  (gemm registers itself)
from monograph.compiler.kernels.contract import analyse
from monograph.compiler.steps import LOWERINGS, Context, Epilogue, Scratch
from monograph.core import dtype as dt
from monograph.core.shape import contiguous_strides
from monograph.ir.graph import Graph
from monograph.ir.op import Aval
from monograph.kernel.ir import Buffer, Let, Load, Store, Var
from monograph.ops.contract import Contract
from monograph.runtime import threads
from monograph.runtime.machine_code import compile_kernels, kernel_text
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
    """NumPy's meaning in float64."""
    return Contract(signature).reference(x.astype(np.float64), y.astype(np.float64))


def assert_close(got, signature, x, y):
    expected = exact(signature, x, y)
    if got.dtype.kind in "iu":
        np.testing.assert_array_equal(got, expected.astype(np.int64).astype(got.dtype))
        return
    bound = exact(signature, abs(x), abs(y))
    eps = {"float32": 1.2e-7, "float64": 2.3e-16, "float16": 1e-3, "bfloat16": 8e-3}[got.dtype.name]
    tiny = 6e-8 if got.dtype == np.float16 else 1e-30  # spacing of subnormal numbers
    # Half of the additions of a long sum round; the result rounds once more.
    tolerance = bound * min(eps, 1.2e-7) * 16 + abs(expected) * eps + tiny
    assert (abs(got.astype(np.float64) - expected) <= tolerance).all()


def random_array(rng, shape, dtype):
    if np.dtype(dtype).kind in "iu":
        return rng.integers(0, 5, shape).astype(dtype)
    return rng.standard_normal(shape).astype(dtype)


SHAPES = [
    (1, 1, 1), (1, 7, 3), (2, 3, 1), (5, 17, 4), (8, 48, 16), (13, 50, 33), (32, 64, 64),
    (32, 2, 64), (64, 10, 128), (31, 65, 7), (100, 100, 100), (1, 300, 200), (200, 1, 300),
    (1, 1, 5000), (3, 5, 9000), (70, 390, 130), (10, 128, 2048),
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


@pytest.mark.parametrize("packed", [(False, True), (True, False), (True, True)])
@pytest.mark.parametrize("signature", ["mk,nk->mn", "km,kn->mn", "bmjk,kbjn->bmn", "ikm,ikn->mn"])
def test_packed_operands(packed, signature, monkeypatch):
    monkeypatch.setattr(blocking, "packs", lambda problem: packed)
    monkeypatch.setattr(blocking, "is_dots", lambda problem: False)
    rng = np.random.default_rng(7)
    for m, n, k in [(1, 1, 1), (13, 70, 5), (100, 33, 130)]:
        size = {"m": m, "n": n, "k": k, "b": 3, "j": 4, "i": 5}
        arrays = [
            random_array(rng, [size[c] for c in side], np.float32)
            for side in signature.split("->")[0].split(",")
        ]
        assert_close(run(signature, *arrays), signature, *arrays)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
@pytest.mark.parametrize(
    "signature",
    ["mk,nk->mn", "km,kn->mn", "mk,kn->mn", "kmj,kjn->mn", "mjk,kjn->mn", "bkm,bkn->bmn"],
)
def test_large_products(signature, dtype, monkeypatch):
    monkeypatch.setattr(blocking, "LARGE_FLOPS", 1)
    monkeypatch.setattr(blocking, "LARGE_SIDES", (20, 40, 1))
    rng = np.random.default_rng(3)
    for m, n, k in [(29, 70, 5), (43, 64, 1100), (600, 333, 100)]:
        size = {"m": m, "n": n, "k": k, "b": 2, "j": 3}
        arrays = [
            random_array(rng, [size[c] for c in side], dtype)
            for side in signature.split("->")[0].split(",")
        ]
        assert_close(run(signature, *arrays), signature, *arrays)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
@pytest.mark.parametrize("signature", ["km,kn->mn", "km,nk->mn", "bkm,bkn->bmn", "bkm,kn->bmn"])
def test_few_columns(signature, dtype, monkeypatch):
    monkeypatch.setattr(blocking, "FAR_BYTES", 1 << 16)
    rng = np.random.default_rng(5)
    turned = []
    turns = blocking.turns
    monkeypatch.setattr(gemm, "turns", lambda *x: turned.append(turns(*x)) or turned[-1])
    for m, n, k in [(70, 1, 40), (333, 3, 77), (129, 7, 300), (800, 5, 130), (65, 9, 31)]:
        size = {"m": m, "n": n, "k": k, "b": 3}
        arrays = [
            random_array(rng, [size[c] for c in side], dtype)
            for side in signature.split("->")[0].split(",")
        ]
        assert_close(run(signature, *arrays), signature, *arrays)
    assert True in turned


@pytest.mark.parametrize("depth", [1, 8])
def test_sums_in_blocks_and_parts(depth, monkeypatch):
    monkeypatch.setattr(blocking, "BLOCK_DEPTH", depth)
    monkeypatch.setattr(blocking, "SCATTERED_DEPTH", depth)
    monkeypatch.setattr(blocking, "LEAST_DEPTH", 3 * depth)
    monkeypatch.setattr(blocking, "CHUNK_CYCLES", 10)
    rng = np.random.default_rng(8)
    for m, n, k in [(5, 20, 7), (30, 70, 100), (20, 10, 61)]:
        x, y = random_array(rng, (k, m), np.float32), random_array(rng, (k, n), np.float32)
        assert_close(run("km,kn->mn", x, y), "km,kn->mn", x, y)
        x, y = x.astype(np.float16), y.astype(np.float16)
        assert_close(run("km,kn->mn", x, y), "km,kn->mn", x, y)


@pytest.mark.parametrize(
    "shape", [(m, n, k) for m in (1, 3, 5, 8) for n, k in [(1, 40), (37, 300)]]
)
def test_few_rows_of_long_sums(shape):
    rng = np.random.default_rng(1)
    m, n, k = shape
    x, y = random_array(rng, (m, k), np.float32), random_array(rng, (n, k), np.float32)
    assert_close(run("mk,nk->mn", x, y), "mk,nk->mn", x, y)


@pytest.mark.parametrize("dtype", [d.name for d in dt.ORDERED])
@pytest.mark.parametrize("signature", ["mk,kn->mn", "mk,nk->mn", "km,kn->mn"])
def test_dtypes(dtype, signature):
    rng = np.random.default_rng(2)
    size = {"m": 19, "n": 37, "k": 50}
    a, b = signature.split("->")[0].split(",")
    numpy_dtype = dt.as_dtype(dtype).numpy
    x = random_array(rng, [size[c] for c in a], numpy_dtype)
    y = random_array(rng, [size[c] for c in b], numpy_dtype)
    assert_close(run(signature, x, y), signature, x, y)


@pytest.mark.parametrize("dtype", ["int8", "int32", "float16", "float64"])
@pytest.mark.parametrize("signature", ["mk,kn->mn", "km,kn->mn"])
def test_large_products_of_other_dtypes(signature, dtype):
    rng = np.random.default_rng(3)
    size = {"m": 200, "n": 330, "k": 520}
    a, b = signature.split("->")[0].split(",")
    x = random_array(rng, [size[c] for c in a], np.dtype(dtype))
    y = random_array(rng, [size[c] for c in b], np.dtype(dtype))
    assert_close(run(signature, x, y), signature, x, y)


SIGNATURES = [
    "bmk,bkn->bmn",
    "bhtd,bhsd->bhts",
    "bthd,bshd->bhts",
    "bhts,bshd->bthd",
    "btk,nk->btn",
    "btn,btk->nk",
    "bij,jkl->bikl",
    "ijk,jil->kl",
    "i,i->",
    "ij,ji->",
    "i,j->ij",
    "mk,kn->nm",
    "abk,ckd->dbac",
    "bi,bi->b",
]


@pytest.mark.parametrize("signature", SIGNATURES)
def test_signatures_and_strides(signature):
    rng = np.random.default_rng(3)
    letters = sorted(set(signature) - set(",->"))
    a, b = signature.split("->")[0].split(",")
    for turn in range(6):
        size = {c: int(rng.integers(1, 24)) for c in letters}
        arrays = []
        for side in (a, b):
            shape = [size[c] for c in side]
            order = rng.permutation(len(side)) if turn else np.arange(len(side))
            array = random_array(rng, [shape[i] for i in order], np.float32)
            array = array.transpose(np.argsort(order))
            if turn == 3:  # every other element of a larger array
                array = np.repeat(array, 2, 0)[::2]
            if turn == 4:
                array = np.broadcast_to(array[..., :1], shape)
            arrays.append(array)
        assert_close(run(signature, *arrays), signature, *arrays)


def test_random_problems():
    rng = np.random.default_rng(4)
    for _ in range(25):
        m, n, k = (int(2 ** rng.uniform(0, 8)) for _ in range(3))
        signature = rng.choice(["mk,kn->mn", "mk,nk->mn", "km,kn->mn", "km,nk->mn", "mk,kn->nm"])
        size = {"m": m, "n": n, "k": k * int(rng.choice([1, 1, 20]))}
        a, b = signature.split("->")[0].split(",")
        dtype = rng.choice([np.float32, np.float64])
        x = random_array(rng, [size[c] for c in a], dtype)
        y = random_array(rng, [size[c] for c in b], dtype)
        assert_close(run(signature, x, y), signature, x, y)


def test_empty_sums_are_zero_and_empty_results_are_nothing():
    x, y = np.zeros((3, 0), np.float32), np.zeros((0, 20), np.float32)
    assert (run("mk,kn->mn", x, y) == 0).all()
    assert run("mk,nk->mn", np.zeros((0, 4), np.float32), np.zeros((5, 4), np.float32)).size == 0
    assert run("k,k->", np.zeros(0, np.float32), np.zeros(0, np.float32)) == 0


class AddRowAndSquare(Epilogue):
    """square(value + bias[last axis]) instead of the value, stored where the output would be."""

    def __init__(self, graph, out, arrays):
        self.out = out
        self.bias = graph.input(Aval(out.shape[-1:], out.dtype))
        self.array = np.arange(out.shape[-1], dtype=np.float32) / 8
        arrays[self.bias] = self.array.ctypes.data
        code = out.dtype.code
        self.buffers = [Buffer("bias", code), Buffer("result", code, True)]
        self.values = [self.bias, out]

    def emit(self, index, value):
        code = self.out.dtype.code
        bias = Load("bias", index[-1].expr(), code)
        at = flat(index, contiguous_strides(self.out.shape)).expr()
        return [
            Let("shifted", value + bias),
            Store("result", at, Var("shifted", code) * Var("shifted", code)),
        ]


@pytest.mark.parametrize("signature", ["mk,nk->mn", "btk,nk->btn", "btk,hdk->bthd", "mk,kn->nm"])
@pytest.mark.parametrize("depth", [7, 300, 5000])
def test_epilogues(signature, depth):
    rng = np.random.default_rng(5)
    size = {"m": 50, "n": 70, "k": depth, "b": 5, "t": 11, "h": 3, "d": 24}
    a, b = signature.split("->")[0].split(",")
    x = random_array(rng, [size[c] for c in a], np.float64).astype(np.float32)
    y = random_array(rng, [size[c] for c in b], np.float64).astype(np.float32)
    got = run(signature, x, y, AddRowAndSquare)
    expected = exact(signature, x, y)
    expected = (expected + np.arange(expected.shape[-1]) / 8) ** 2
    np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-3 * abs(expected).max())


@pytest.mark.parametrize("signature", ["mk,nk->mn", "km,bkn->bmn"])
def test_epilogues_after_blocks(signature, monkeypatch):
    monkeypatch.setattr(blocking, "BLOCK_DEPTH", 16)
    monkeypatch.setattr(blocking, "SCATTERED_DEPTH", 16)
    monkeypatch.setattr(blocking, "LEAST_DEPTH", 10**6)
    monkeypatch.setattr(blocking, "is_dots", lambda problem: False)
    test_epilogues(signature, 300)
    steps = lowered(signature, {"m": 50, "n": 70, "k": 300, "b": 5})
    assert len(steps) == 1


@pytest.mark.parametrize("signature", ["km,kn->mn", "kmj,kjn->mn", "bkm,bkn->bmn", "ktm,kn->tmn"])
@pytest.mark.parametrize("kept", [96, 384])
def test_epilogues_of_kept_blocks(signature, kept, monkeypatch):
    monkeypatch.setattr(blocking, "LARGE_FLOPS", 1)
    monkeypatch.setattr(blocking, "LARGE_SIDES", (20, 40, 1))
    monkeypatch.setattr(blocking, "BLOCK_COLUMNS", kept)
    rng = np.random.default_rng(9)
    for m, n, k in [(50, 96, 37), (29, 192, 900), (333, 480, 100), (48, 960, 50), (96, 104, 60)]:
        size = {"m": m, "n": n, "k": k, "b": 2, "j": 3, "t": 3}
        x, y = (
            random_array(rng, [size[c] for c in side], np.float32)
            for side in signature.split("->")[0].split(",")
        )
        got = run(signature, x, y, AddRowAndSquare)
        expected = exact(signature, x, y)
        expected = (expected + np.arange(n) / 8) ** 2
        np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-4 * abs(expected).max())


@pytest.mark.parametrize("shape", [(300, 200, 100), (64, 128, 4000), (4, 300, 2000), (2, 2, 50000)])
def test_results_do_not_depend_on_the_number_of_threads(shape):
    rng = np.random.default_rng(6)
    m, n, k = shape
    x, y = random_array(rng, (m, k), np.float32), random_array(rng, (n, k), np.float32)
    before = threads.get_num_threads()
    try:
        results = []
        for count in (1, 2, 3):
            threads.set_num_threads(count)
            results.append(run("mk,nk->mn", x, y))
    finally:
        threads.set_num_threads(before)
    assert results[0].tobytes() == results[1].tobytes() == results[2].tobytes()


# Few rows and a b that is far; few columns; rows that share lines of a cache; uneven blocks.
@pytest.mark.parametrize(
    "signature, m, n, k",
    [
        ("mk,kn->mn", 16, 801, 100), ("mk,kn->mn", 5, 400, 700), ("mk,nk->mn", 900, 3, 200),
        ("mk,nk->mn", 32, 33, 16384), ("mk,kn->mn", 100, 10, 1024), ("km,kn->mn", 257, 784, 512),
    ],
)  # fmt: skip
def test_products_whose_memory_decides_how(signature, m, n, k):
    rng = np.random.default_rng(8)
    size = {"m": m, "n": n, "k": k}
    x, y = (
        random_array(rng, [size[c] for c in side], np.float32)
        for side in signature.split("->")[0].split(",")
    )
    before = threads.get_num_threads()
    try:
        results = []
        for count in (1, 2):
            threads.set_num_threads(count)
            results.append(run(signature, x, y))
    finally:
        threads.set_num_threads(before)
    assert_close(results[0], signature, x, y)
    assert results[0].tobytes() == results[1].tobytes()
    got = run(signature, x, y, AddRowAndSquare)
    expected = (exact(signature, x, y) + np.arange(n) / 8) ** 2
    np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-4 * abs(expected).max())


# One term and many; rows and columns that fill no tile; b in place, copied, in blocks of columns.
@pytest.mark.parametrize("signature", ["mk,kn->mn", "mk,nk->mn", "km,bkn->bmn"])
@pytest.mark.parametrize("m, n, k", [(45, 517, 1), (301, 401, 9), (300, 2500, 64), (1, 3000, 5)])
def test_shallow_products_follow_rows(signature, m, n, k):
    rng = np.random.default_rng(10)
    size = {"m": m, "n": n, "k": k, "b": 2}
    x, y = (
        random_array(rng, [size[c] for c in side], np.float32)
        for side in signature.split("->")[0].split(",")
    )
    assert_close(run(signature, x, y), signature, x, y)
    got = run(signature, x, y, AddRowAndSquare)
    expected = (exact(signature, x, y) + np.arange(n) / 8) ** 2
    np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-4 * abs(expected).max())


# Many columns of a that few of b meet: copied in runs, in blocks of K, and in parts.
@pytest.mark.parametrize("signature", ["km,kn->mn", "bkm,bkn->bmn", "kmj,kjn->mn"])
@pytest.mark.parametrize("m, n, k", [(261, 40, 700), (500, 9, 5000), (160, 100, 413)])
def test_tall_products(signature, m, n, k):
    rng = np.random.default_rng(11)
    size = {"m": m, "n": n, "k": k, "b": 2, "j": 2}
    x, y = (
        random_array(rng, [size[c] for c in side], np.float32)
        for side in signature.split("->")[0].split(",")
    )
    assert_close(run(signature, x, y), signature, x, y)
    got = run(signature, x, y, AddRowAndSquare)
    expected = (exact(signature, x, y) + np.arange(n) / 8) ** 2
    np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-4 * abs(expected).max())


@pytest.mark.parametrize("cores, blocks", [(1, (1, 1)), (2, (2, 1)), (3, (1, 3)), (4, (2, 2))])
def test_blocks_are_as_many_and_as_even_as_cores_want(cores, blocks, monkeypatch):
    monkeypatch.setattr(blocking, "available_cpus", lambda: cores)
    graph = Graph()
    values = [graph.input(Aval(s, dt.float32)) for s in ((512, 256), (512, 784))]
    out = graph.add(Contract("km,kn->mn"), *values)
    problem = analyse(out.node, Context("product"), True)
    made = blocking.plan(problem, "f32", avx512())
    assert (-(-256 // made.mc), -(-784 // made.nc)) == blocks


def lowered(signature, size):
    """The steps of a contraction with an epilogue."""
    graph = Graph()
    sides = signature.split("->")[0].split(",")
    x, y = (graph.input(Aval(tuple(size[c] for c in side), dt.float32)) for side in sides)
    out = graph.add(Contract(signature), x, y)
    context = Context("product", AddRowAndSquare(graph, out, {}))
    return LOWERINGS["contract"](out.node, context)


def test_an_index_taken_apart_and_put_together_is_whole_again():
    for step in lowered("btk,hdk->bthd", {"b": 5, "t": 11, "h": 3, "d": 24, "k": 40}):
        text = kernel_text(step.kernel)
        assert "scatter" not in text and "sdiv" not in text
