"""Broadcasting, dimension numbers, reshapes, strides."""

import itertools

import numpy as np
import pytest

from monograph.core import shape as sh
from monograph.core.errors import ArgumentError, ArgumentTypeError, IndexRangeError, ShapeError
from monograph.testing import raises_message


def test_broadcast_is_numpys():
    shapes = [(), (1,), (3,), (2, 3), (2, 1), (4, 1, 3), (0,), (1, 0)]
    for a, b in itertools.product(shapes, repeat=2):
        try:
            expected = np.broadcast_shapes(a, b)
        except ValueError:
            with pytest.raises(ShapeError):
                sh.broadcast_shapes("f", a, b)
        else:
            assert sh.broadcast_shapes("f", a, b) == expected


def test_broadcast_error_names_the_dimension():
    with raises_message(ShapeError, """
        add: shapes (2, 3) and (2, 4) do not broadcast: dimension -1 is 3 in one and 4 in another
    """):  # fmt: skip
        sh.broadcast_shapes("add", (2, 3), (2, 4))


def test_dimension_numbers():
    assert sh.normalize_dim("f", -1, 3) == 2
    assert sh.normalize_dims("f", None, 3) == (0, 1, 2) == sh.normalize_dims("f", (), 3)
    assert sh.normalize_dims("f", (-1, 0), 3) == (0, 2)
    assert sh.normalize_dims("f", 0, 0) == ()
    with raises_message(IndexRangeError, "f: dim must be in [-3, 2] for 3 dimensions, got 3"):
        sh.normalize_dim("f", 3, 3)
    with raises_message(ArgumentError, "f: dim (0, -3) names the same dimension twice"):
        sh.normalize_dims("f", (0, -3), 3)
    with raises_message(ArgumentTypeError, "f: dim must be an int, got float 1.0"):
        sh.normalize_dim("f", 1.0, 3)


def test_reshape_targets():
    assert sh.resolve_reshape("f", (2, 6), (3, -1)) == (3, 4)
    assert sh.resolve_reshape("f", (0, 3), (0, 5)) == (0, 5)
    for target in ((5, -1), (-1, -1), (7,), (0, -1)):
        with pytest.raises(ShapeError):
            sh.resolve_reshape("f", (2, 6), target)


def test_view_strides_are_those_of_numpy_views():
    rng = np.random.default_rng(0)
    for _ in range(300):
        base = np.zeros(rng.integers(1, 5, rng.integers(1, 4)))
        x = base.transpose(rng.permutation(base.ndim))
        x = x[tuple(slice(None, None, int(rng.integers(1, 3))) for _ in x.shape)]
        sizes = [n for n in x.shape if n > 1]
        split = [f for n in sizes for f in ((2, n // 2) if n % 2 == 0 else (n,))]
        target = tuple(split if rng.random() < 0.5 else (int(np.prod(x.shape)),))
        strides = tuple(s // x.itemsize for s in x.strides)
        got = sh.view_strides(x.shape, strides, target)
        y = x.reshape(target)
        if got is None:
            assert not np.may_share_memory(y, base)
            continue
        assert np.may_share_memory(y, base)
        expected = tuple(s // x.itemsize for s in y.strides)
        assert [g for g, n in zip(got, target) if n > 1] == [
            e for e, n in zip(expected, target) if n > 1
        ]


def test_numbers():
    assert sh.is_number(1) and sh.is_number(1.5) and sh.is_number(True)
    assert sh.is_number(np.float32(1)) and sh.is_number(np.int64(1)) and sh.is_number(np.True_)
    assert not sh.is_number("1") and not sh.is_number(np.zeros(1))
