import numpy as np
import pytest
import torch.nn.functional as F

import monograph as mg
from monograph.core.errors import ArgumentError, ShapeError
from monograph.ops import pooling

from .messages import raises_message
from .oracle import check, close, rng, to_mg, to_torch

SHAPES = {1: (2, 3, 11), 2: (2, 3, 7, 9), 3: (2, 2, 5, 6, 7)}
WINDOWS = [
    dict(kernel_size=2), dict(kernel_size=3, stride=2), dict(kernel_size=3, stride=1),
    dict(kernel_size=3, padding=1), dict(kernel_size=3, stride=2, padding=1, ceil_mode=True),
    dict(kernel_size=2, ceil_mode=True), dict(kernel_size=3, stride=4, ceil_mode=True),
    dict(kernel_size=2, stride=3), dict(kernel_size=1), dict(kernel_size=5, stride=5),
]  # fmt: skip
DILATED = [
    dict(kernel_size=2, dilation=2), dict(kernel_size=3, dilation=2, padding=1, stride=2),
    dict(kernel_size=2, stride=2, dilation=3, ceil_mode=True),
]  # fmt: skip


def ids(options):
    return ",".join(f"{k}={v}" for k, v in options.items())


@pytest.mark.parametrize("options", WINDOWS + DILATED, ids=ids)
@pytest.mark.parametrize("n", [1, 2, 3])
def test_max_pool_agrees_with_torch(n, options):
    if n == 3 and options["kernel_size"] == 2 and options.get("dilation") == 3:
        options = {**options, "dilation": 2}
    ours, theirs = getattr(pooling, f"max_pool{n}d"), getattr(F, f"max_pool{n}d")
    x = rng().standard_normal(SHAPES[n])
    check(lambda a: ours(a, **options), lambda a: theirs(a, **options), x, double=True)
    values, places = ours(mg.tensor(x), **options, return_indices=True)
    expected, there = theirs(to_torch(x), **options, return_indices=True)
    close(values, expected)
    close(places, there)


@pytest.mark.parametrize("options", [dict(kernel_size=2), dict(kernel_size=3, stride=2)], ids=ids)
def test_max_pool_gives_tied_gradients_to_the_first(options):
    x = rng().integers(0, 2, (2, 3, 8, 8)).astype(np.float64)
    check(lambda a: pooling.max_pool2d(a, **options), lambda a: F.max_pool2d(a, **options), x)


def test_max_pool_of_nan_is_nan_and_of_minus_infinity_points_inside():
    x = rng().standard_normal((1, 1, 6, 6))
    x[0, 0, 2, 3] = np.nan
    x[0, 0, :2, :2] = -np.inf
    made = pooling.max_pool2d(to_mg(x), 3, 2, 1, return_indices=True)
    for a, b in zip(made, F.max_pool2d(to_torch(x), 3, 2, 1, return_indices=True)):
        close(a, b)


@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 3, 8, 8), (0, 3, 8, 8)])
def test_pooling_without_a_batch(shape):
    x = rng().standard_normal(shape)
    check(lambda a: pooling.max_pool2d(a, 2), lambda a: F.max_pool2d(a, 2), x)
    check(lambda a: pooling.avg_pool2d(a, 2), lambda a: F.avg_pool2d(a, 2), x)
    check(lambda a: pooling.avg_pool2d(a, 3, 2, 1), lambda a: F.avg_pool2d(a, 3, 2, 1), x)


def test_max_pool_of_integers():
    x = rng().integers(-9, 9, (1, 2, 6, 6)).astype(np.int32)
    made = pooling.max_pool2d(to_mg(x), 3, 1, 1)
    assert (made.numpy() == F.max_pool2d(to_torch(x).double(), 3, 1, 1).numpy()).all()


@pytest.mark.parametrize("include", [True, False])
@pytest.mark.parametrize("options", WINDOWS, ids=ids)
@pytest.mark.parametrize("n", [1, 2, 3])
def test_avg_pool_agrees_with_torch(n, options, include):
    ours, theirs = getattr(pooling, f"avg_pool{n}d"), getattr(F, f"avg_pool{n}d")
    options = {**options, "count_include_pad": include}
    x = rng().standard_normal(SHAPES[n])
    check(lambda a: ours(a, **options), lambda a: theirs(a, **options), x, double=True)


def test_avg_pool_with_another_divisor():
    x = rng().standard_normal((2, 3, 7, 8))
    check(
        lambda a: pooling.avg_pool2d(a, 3, 2, 1, divisor_override=5),
        lambda a: F.avg_pool2d(a, 3, 2, 1, divisor_override=5),
        x,
    )


@pytest.mark.parametrize("kind", ["avg", "max"])
@pytest.mark.parametrize(
    "n, shape, size",
    [
        (1, (2, 3, 10), 4), (1, (3, 10), 5), (2, (2, 3, 7, 9), (3, 4)), (2, (2, 3, 8, 6), 2),
        (2, (2, 3, 7, 9), 1), (2, (2, 3, 5, 9), (None, 3)), (2, (2, 3, 3, 4), (5, 7)),
        (3, (2, 2, 5, 6, 7), (2, 3, 4)), (3, (2, 5, 6, 7), 3), (2, (2, 3, 13, 11), (7, 7)),
    ],
)  # fmt: skip
def test_adaptive_pooling_agrees_with_torch(kind, n, shape, size):
    name = f"adaptive_{kind}_pool{n}d"
    ours, theirs = getattr(pooling, name), getattr(F, name)
    x = rng().standard_normal(shape)
    check(lambda a: ours(a, size), lambda a: theirs(a, size), x, double=True)
    if kind == "max":
        made = ours(to_mg(x), size, return_indices=True)
        for a, b in zip(made, theirs(to_torch(x), size, return_indices=True)):
            close(a, b)


@pytest.mark.parametrize("n, norm", [(1, 2), (2, 3), (2, 1), (3, 2)])
def test_lp_pool_agrees_with_torch(n, norm):
    ours, theirs = getattr(pooling, f"lp_pool{n}d"), getattr(F, f"lp_pool{n}d")
    x = rng().uniform(0.5, 1, SHAPES[n])
    check(lambda a: ours(a, norm, 3, 2), lambda a: theirs(a, norm, 3, 2), x)


@pytest.mark.parametrize("given", [False, True])
@pytest.mark.parametrize("n", [1, 2, 3])
def test_max_unpool_agrees_with_torch(n, given):
    ours, theirs = getattr(pooling, f"max_unpool{n}d"), getattr(F, f"max_unpool{n}d")
    shape = SHAPES[n] if given else (2, 3, *(6, 4, 8)[:n])
    x = rng().standard_normal(shape)
    values, places = getattr(F, f"max_pool{n}d")(to_torch(x), 2, return_indices=True)
    options = dict(output_size=shape[2:]) if given else {}
    check(
        lambda v, i: ours(v, i, 2, **options), lambda v, i: theirs(v, i, 2, **options),
        values.numpy(), places.numpy(),
    )  # fmt: skip


@pytest.mark.parametrize("dim", [0, 2])
def test_the_batch_rule_of_max_pool_equals_a_loop(dim):
    op = pooling.MaxPool((2, 2), (1, 1), (0, 0), (1, 1), (3, 3))
    x = rng().standard_normal((3, 2, 3, 4, 4) if dim == 0 else (2, 3, 3, 4, 4))
    outs, dims = op.batch((dim,), 3, mg.tensor(x))
    for i in range(3):
        expected = op.reference(x.take(i, dim))
        for out, d, e in zip(outs, dims, expected):
            assert (out.numpy().take(i, d) == e).all()


def test_pooling_explains_bad_arguments():
    x = mg.zeros(1, 1, 4, 4)
    with raises_message(
        ArgumentError,
        """max_pool2d: padding must be at most half of the window, got padding (2, 2) for
        kernel_size (3, 3)""",
    ):
        pooling.max_pool2d(x, 3, padding=2)
    with raises_message(
        ShapeError,
        "avg_pool2d: windows of (5, 5) do not fit into input (1, 1, 4, 4) with padding (0, 0)",
    ):
        pooling.avg_pool2d(x, 5)
    with raises_message(
        ShapeError, "max_pool1d: input must have 2 or 3 dimensions, got shape (1, 1, 4, 4)"
    ):
        pooling.max_pool1d(x, 2)
    with raises_message(
        ArgumentError, "adaptive_avg_pool2d: output_size must be an int or 2 ints, got (1, 2, 3)"
    ):
        pooling.adaptive_avg_pool2d(x, (1, 2, 3))
    with raises_message(ShapeError, "adaptive_max_pool2d: cannot pool (1, 1, 4, 4) to size (0, 2)"):
        pooling.adaptive_max_pool2d(x, (0, 2))
