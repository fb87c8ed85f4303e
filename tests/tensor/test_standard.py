"""The array API standard's names in the main namespace."""

import inspect

import numpy as np
import pytest

import monograph as mg
from monograph.core.errors import ArgumentError, ShapeError
from monograph.testing import assert_close

X = mg.tensor([[3.0, 1.0], [2.0, 1.0]])


def test_a_tensor_names_its_namespace():
    assert X.__array_namespace__() is mg.array_api
    assert X.__array_namespace__(api_version=mg.__array_api_version__) is mg.array_api
    with pytest.raises(ArgumentError, match="1999.01"):
        X.__array_namespace__(api_version="1999.01")
    info = mg.__array_namespace_info__()
    assert info.devices() == [info.default_device()] == [X.device]
    assert info.default_dtypes()["complex floating"] is mg.complex64
    assert set(info.dtypes(kind="complex floating").values()) == {mg.complex64, mg.complex128}
    assert info.capabilities()["boolean indexing"]
    assert X.to_device("cpu") is X


def test_kinds_of_dtypes():
    assert mg.isdtype(mg.uint8, "integral") and not mg.isdtype(mg.uint8, "signed integer")
    assert mg.isdtype(mg.bfloat16, "real floating") and mg.isdtype(mg.bool, ("numeric", mg.bool))
    with pytest.raises(ArgumentError, match="kind must be"):
        mg.isdtype(mg.int8, "whole")
    assert mg.finfo(mg.tensor(1j)).dtype is mg.float32 and mg.iinfo(mg.int8).dtype is mg.int8
    assert mg.result_type(mg.int8, mg.float32) is mg.float32


def test_names_beside_pytorch_s():
    assert mg.permute_dims(X, (1, 0)).tolist() == mg.matrix_transpose(X).tolist() == X.T.tolist()
    assert mg.expand_dims(X, axis=1).shape == (2, 1, 2)
    assert [t.tolist() for t in mg.unstack(X, axis=1)] == [[3.0, 2.0], [1.0, 1.0]]
    assert mg.repeat(mg.tensor([1, 2]), 2).tolist() == [1, 1, 2, 2]
    assert mg.take(X, mg.tensor([1, -1]), axis=1).tolist() == [[1.0, 1.0], [1.0, 1.0]]
    assert mg.take(X, mg.tensor([2])).tolist() == [2.0]
    assert mg.take_along_axis(X, mg.tensor([[1], [0]])).tolist() == [[1.0], [2.0]]
    assert [t.shape for t in mg.broadcast_arrays(X, mg.tensor(1))] == [(2, 2), (2, 2)]
    assert mg.bitwise_invert(mg.tensor([0, 5])).tolist() == [-1, -6]
    assert mg.astype(X, mg.int64).dtype is mg.int64 and mg.astype(X, X.dtype, copy=False) is X
    assert mg.concat((X, X), axis=None).shape == (8,)
    assert mg.flip(mg.tensor([1, 2])).tolist() == [2, 1]
    assert mg.eye(2, 3, k=1).tolist() == [[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    assert_close(mg.linspace(0, 1, 4, endpoint=False), np.linspace(0, 1, 4, False, dtype="f4"))
    assert mg.vecdot(mg.tensor([1j]), mg.tensor([1j])).item() == 1
    assert mg.linalg.trace(mg.ones(2, 3, 3), offset=1).tolist() == [2.0, 2.0]
    assert mg.count_nonzero(X, axis=0, keepdims=True).shape == (1, 2)


def test_both_names_of_arguments_are_taken_and_shown():
    assert mg.zeros(shape=(2, 1)).shape == mg.zeros(size=(2, 1)).shape == mg.zeros(2, 1).shape
    assert mg.full(size=(2,), fill_value=1).tolist() == mg.full((2,), 1).tolist()
    assert mg.arange(1, end=3).tolist() == mg.arange(1, stop=3).tolist() == [1, 2]
    assert mg.linspace(0, 1, steps=2).tolist() == mg.linspace(0, 1, num=2).tolist()
    assert mg.tril(X, k=-1).tolist() == mg.tril(X, -1).tolist()
    assert mg.broadcast_to(X[0], size=(3, 2)).shape == (3, 2)
    assert mg.roll(X, shift=1, axis=0).tolist() == mg.roll(X, 1, 0).tolist()
    shown = inspect.signature(mg.sum).parameters
    assert {"dim", "keepdim", "axis", "keepdims"} <= set(shown)
    assert shown["keepdims"].kind is inspect.Parameter.KEYWORD_ONLY


def test_meanings_of_the_standard_where_pytorch_has_an_error():
    small = mg.tensor([[200, 100]], dtype=mg.uint8)
    wide = mg.tensor([1.5, 2.0])
    assert (small @ wide).tolist() == [500.0] and (small @ wide).dtype is mg.float32
    assert mg.matmul(wide, wide.double()).dtype is mg.float64
    assert mg.tensordot(small, wide.long(), axes=1).tolist() == [400]
    assert mg.vecdot(small, mg.tensor([1, 2])).tolist() == [400]
    assert mg.clip(X).tolist() == X.tolist() and mg.clip(X) is not X
    assert mg.max(X, axis=(0, 1)).item() == 3 and mg.min(X, axis=None).item() == 1
    assert mg.max(X, keepdims=True).tolist() == [[3.0]]
    assert mg.max(X, axis=0).indices.tolist() == [0, 0]  # one dimension: as in PyTorch


@pytest.mark.parametrize("name", ["sum", "prod", "mean", "max", "min", "any", "count_nonzero"])
def test_axis_of_no_dimensions_reduces_nothing(name):
    f = getattr(mg, name)
    assert f(X, axis=()).shape == (2, 2) == getattr(X, name)(axis=(), keepdims=True).shape
    assert f(mg.tensor(2.0), axis=()).shape == ()
    if name in ("sum", "mean"):
        assert f(X, dim=()).shape == ()  # PyTorch's spelling: all of them
    if name == "any":
        assert f(X, dim=()).shape == (2, 2)  # as in PyTorch


def test_infinities_divided_and_rounded_down():
    inf = float("inf")
    x = mg.tensor([inf, -inf, inf, -inf, inf, inf, -1.0, 1.0])
    y = mg.tensor([2.0, 2.0, -2.0, -2.0, inf, 0.0, inf, -inf])
    expected = np.array([inf, -inf, -inf, inf, np.nan, inf, -1, -1], np.float32)
    for f in (mg.floor_divide, mg.jit(lambda x, y: x // y)):
        np.testing.assert_array_equal(f(x, y).numpy(), expected)
    assert (mg.tensor(inf) // 2).item() == inf and (inf // mg.tensor([2.0])).item() == inf


def test_running_results_with_their_beginning():
    assert mg.cumulative_sum(X, axis=0, include_initial=True).tolist()[0] == [0.0, 0.0]
    assert mg.cumulative_prod(mg.tensor([2, 3]), include_initial=True).tolist() == [1, 2, 6]
    assert mg.cumulative_sum(mg.tensor([1, 2], dtype=mg.uint8)).dtype is mg.uint64
    with pytest.raises(ArgumentError, match="axis must be given"):
        mg.cumulative_sum(X)
    with pytest.raises(ShapeError):
        mg.cumulative_sum(mg.tensor(1))


def test_distinct_elements():
    x = mg.tensor([[2.0, 1.0], [2.0, float("nan")]])
    values, places, inverse, counts = mg.unique_all(x)
    assert values[:2].tolist() == [1.0, 2.0] and places.tolist() == [1, 0, 3]
    assert inverse.tolist() == [[1, 0], [1, 2]] and counts.tolist() == [1, 2, 1]
    assert mg.unique_counts(x).counts.tolist() == [1, 2, 1]
    assert mg.unique_inverse(x).inverse_indices.shape == (2, 2)
    two = mg.unique_values(mg.tensor([float("nan"), float("nan")]))
    assert two.shape == (2,)


def test_copies_are_made_or_refused_as_asked():
    array = np.arange(3.0)
    shared, copied = mg.asarray(array, copy=False), mg.asarray(array, copy=True)
    array[0] = 7.0
    assert shared[0].item() == 7.0 and copied[0].item() == 0.0
    with pytest.raises(ArgumentError, match="copy=False"):
        mg.asarray([1, 2], copy=False)
    assert mg.reshape(X, (4,), copy=True).data_ptr() != X.data_ptr()
    with pytest.raises(ArgumentError, match="takes a copy"):
        mg.reshape(X.T, (4,), copy=False)
