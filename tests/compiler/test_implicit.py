"""Convolutions with pixels copied into rows: strides, dilation, padding, epilogues, threads."""

import itertools

import numpy as np
import pytest

import monograph as mg
import monograph.nn.functional as F
from monograph.codegen.target import host
from monograph.compiler.kernels import implicit, implicit_weight

CASES = [  # images, channels, outputs, sizes, kernel, stride, padding, dilation
    (2, 16, 24, (9, 11), (3, 3), (2, 2), (1, 1), (1, 1)),
    (1, 64, 100, (14, 14), (3, 3), (2, 2), (1, 1), (1, 1)),
    (3, 20, 17, (8, 7), (1, 1), (2, 3), (0, 0), (1, 1)),
    (1, 256, 300, (7, 7), (1, 1), (2, 2), (0, 0), (1, 1)),
    (2, 33, 40, (12, 10), (5, 3), (1, 2), (4, 0), (1, 3)),
    (9, 18, 16, (37,), (4,), (3,), (2,), (2,)),
    (1, 16, 32, (5, 6, 7), (2, 3, 3), (1, 2, 2), (1, 0, 1), (1, 1, 1)),
    (1, 520, 64, (5, 5), (3, 3), (2, 2), (1, 1), (1, 1)),
    (40, 16, 16, (6, 6), (2, 2), (2, 2), (0, 0), (1, 1)),
]


def exact(x, w, stride, padding, dilation):
    """The convolution in float64, tap by tap, and the same of absolute values."""
    x, w = x.astype(np.float64), w.astype(np.float64)
    x = np.pad(x, ((0, 0), (0, 0), *((p, p) for p in padding)))
    sizes = zip(x.shape[2:], w.shape[2:], stride, dilation)
    counts = [(n - (k - 1) * d - 1) // s + 1 for n, k, s, d in sizes]
    total = bound = 0
    for tap in itertools.product(*map(range, w.shape[2:])):
        cut = [
            slice(t * d, t * d + (n - 1) * s + 1, s)
            for t, d, s, n in zip(tap, dilation, stride, counts)
        ]
        seen = x[(slice(None), slice(None), *cut)]
        taken = w[(slice(None), slice(None), *tap)]
        total = total + np.einsum("nc...,oc->no...", seen, taken, optimize=True)
        bound = bound + np.einsum("nc...,oc->no...", abs(seen), abs(taken), optimize=True)
    return total, bound


def exact_filters(x, g, kernel, stride, padding, dilation):
    """The filter's gradient in float64, tap by tap, and the same of absolute values."""
    x, g = x.astype(np.float64), g.astype(np.float64)
    x = np.pad(x, ((0, 0), (0, 0), *((p, p) for p in padding)))
    total, bound = (np.zeros((g.shape[1], x.shape[1], *kernel)) for _ in range(2))
    for tap in itertools.product(*map(range, kernel)):
        cut = [
            slice(t * d, t * d + (n - 1) * s + 1, s)
            for t, d, s, n in zip(tap, dilation, stride, g.shape[2:])
        ]
        seen = x[(slice(None), slice(None), *cut)]
        at = (slice(None), slice(None), *tap)
        total[at] = np.einsum("nc...,no...->oc", seen, g, optimize=True)
        bound[at] = np.einsum("nc...,no...->oc", abs(seen), abs(g), optimize=True)
    return total, bound


@pytest.fixture
def used(monkeypatch):
    """The nodes for which a lowering has been taken."""
    calls = []

    def count(module):
        lower = module.lower
        monkeypatch.setattr(module, "lower", lambda n, c: calls.append(n.op.name) or lower(n, c))

    count(implicit)
    count(implicit_weight)
    return calls


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", CASES)
def test_values(case, dtype, used):
    n, c, o, sizes, kernel, *window = case
    rng = np.random.default_rng(0)
    x = rng.standard_normal((n, c, *sizes)).astype(dtype)
    w = rng.standard_normal((o, c, *kernel)).astype(dtype)
    conv = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}[len(sizes)]
    stride, padding, dilation = window
    f = mg.jit(lambda x, w: conv(x, w, None, stride, padding, dilation))
    got = f(mg.tensor(x), mg.tensor(w)).numpy()
    assert used
    expected, bound = exact(x, w, *window)
    assert (abs(got - expected) <= 2 * np.finfo(dtype).eps * bound).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", CASES)
def test_gradients_of_filters(case, dtype, used):
    n, c, o, sizes, kernel, *window = case
    rng = np.random.default_rng(3)
    x = rng.standard_normal((n, c, *sizes)).astype(dtype)
    w = rng.standard_normal((o, c, *kernel)).astype(dtype)
    conv = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}[len(sizes)]
    g = rng.standard_normal(conv(mg.tensor(x), mg.tensor(w), None, *window).shape).astype(dtype)
    used.clear()

    @mg.jit
    def gradient(x, w, g):
        return mg.autograd.grad(conv(x, w, None, *window), (w,), g)[0]

    got = gradient(mg.tensor(x), mg.tensor(w).requires_grad_(), mg.tensor(g)).numpy()
    assert used == ["conv_weight"]
    expected, bound = exact_filters(x, g, kernel, *window)
    assert (abs(got - expected) <= 2 * np.finfo(dtype).eps * bound).all()


def test_the_epilogue_sees_every_element(used):
    rng = np.random.default_rng(1)
    x = rng.standard_normal((3, 32, 9, 13)).astype(np.float32)
    w = rng.standard_normal((50, 32, 3, 3)).astype(np.float32)
    b = rng.standard_normal(50).astype(np.float32)
    other = rng.standard_normal((3, 50, 5, 7)).astype(np.float32)

    def f(x, w, b, other):
        y = F.relu(F.conv2d(x, w, b, stride=2, padding=1) + other)
        return y, (y * 2).flatten(1)

    y, flat = mg.jit(f)(*map(mg.tensor, (x, w, b, other)))
    assert used
    total = exact(x, w, (2, 2), (1, 1), (1, 1))[0] + b[:, None, None] + other
    np.testing.assert_allclose(y.numpy(), np.maximum(total, 0), atol=1e-4, rtol=1e-5)
    np.testing.assert_array_equal(flat.numpy(), 2 * y.numpy().reshape(3, -1))


def test_padding_hides_nothing_of_the_image(used):
    """A nan at the edge reaches the places that see it, and no other."""
    x = np.zeros((1, 16, 6, 6), np.float32)
    x[0, 3, 0, 5] = np.nan
    y = mg.jit(lambda x, w: F.conv2d(x, w, stride=2, padding=1))(
        mg.tensor(x), mg.ones(16, 16, 3, 3)
    )
    assert used
    found = np.isnan(y.numpy()).all((0, 1))
    assert found.tolist() == [[False, False, True], [False] * 3, [False] * 3]


def test_any_number_of_threads_gives_the_same_bits():
    rng = np.random.default_rng(2)
    x = mg.tensor(rng.standard_normal((4, 48, 20, 20)).astype(np.float32), requires_grad=True)
    w = mg.tensor(rng.standard_normal((70, 48, 3, 3)).astype(np.float32), requires_grad=True)
    before = mg.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 3):
            mg.set_num_threads(threads)
            results.append([])
            for stride in (1, 2):

                @mg.jit
                def both(x, w):
                    y = F.conv2d(x, w, stride=stride, padding=1)  # noqa: B023
                    return y, *mg.autograd.grad((y * y).sum(), (x, w))

                results[-1] += [v.numpy() for v in both(x, w)]
    finally:
        mg.set_num_threads(before)
    for other in results[1:]:
        for got, expected in zip(other, results[0]):
            np.testing.assert_array_equal(got, expected)


def test_few_channels_and_groups_are_computed_in_place(used):
    mg.jit(lambda x, w: F.conv2d(x, w, stride=2))(mg.ones(1, 3, 8, 8), mg.ones(32, 3, 3, 3))
    grouped = mg.jit(lambda x, w: F.conv2d(x, w, stride=2, groups=2))
    grouped(mg.ones(1, 64, 8, 8), mg.ones(64, 32, 3, 3))
    assert not used


@pytest.mark.parametrize("outputs", [16, 17, 24, 31, 33, 100])
def test_sums_are_whole_vectors_for_any_number_of_channels(outputs):
    lanes = host().vector_bytes // 4
    for plan in (implicit.plan(500, 180, outputs, 4), implicit_weight.plan(500, 9, 20, outputs, 4)):
        assert plan.nr % lanes == 0
        assert plan.width == min(plan.nr, outputs)
