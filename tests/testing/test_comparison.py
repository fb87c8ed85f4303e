"""assert_close, raises_message, gradcheck: they pass what is right and fail what is wrong."""

import numpy as np
import pytest

import monograph as mg
from monograph.core.errors import ArgumentError, ShapeError
from monograph.testing import assert_close, gradcheck, gradgradcheck, raises_message


def test_close_values_pass():
    assert_close(mg.tensor([1.0, 2.0]), mg.tensor([1.0 + 1e-7, 2.0]))
    assert_close(1.0, 1.0 + 1e-9)
    assert_close([mg.tensor(1), 2], [mg.tensor(1), 2])
    assert_close({"a": np.array(1.0)}, {"a": np.array(1.0)})
    assert_close(mg.tensor([1.0]), np.array([1.02], np.float32), rtol=0.05, atol=0)
    assert_close(mg.tensor([float("inf")]), mg.tensor([float("inf")]))
    assert_close(mg.tensor([1.0], dtype=mg.bfloat16), mg.tensor([1.01], dtype=mg.bfloat16))
    assert_close(mg.tensor([2**62]), mg.tensor([2**62]))


@pytest.mark.parametrize(
    "actual, expected, part",
    [
        (mg.tensor([1.0]), mg.tensor([1.001]), "1 of 1 elements differ"),
        (mg.tensor([1.0]), mg.tensor([[1.0]]), "shapes differ"),
        (mg.tensor([1.0]), mg.tensor([1]), "dtypes differ"),
        (mg.tensor([float("nan")]), mg.tensor([float("nan")]), "elements differ"),
        (mg.tensor([float("inf")]), mg.tensor([1.0]), "elements differ"),
        (mg.tensor([2**62]), mg.tensor([2**62 + 1]), "elements differ"),
        (mg.tensor([True, False]), mg.tensor([True, True]), r"first at \(1,\)"),
        ([1.0, 2.0], [1.0, 3.0], r"at \[1\]"),
        ([1.0], [1.0, 2.0], "lengths differ"),
        ({"a": 1.0}, {"b": 1.0}, "keys differ"),
        ({"a": 1.0}, {"a": 2.0}, r"at \['a'\]"),
    ],
)
def test_different_values_fail(actual, expected, part):
    with pytest.raises(AssertionError, match=part):
        assert_close(actual, expected)


def test_options():
    assert_close(mg.tensor([float("nan")]), mg.tensor([float("nan")]), equal_nan=True)
    assert_close(mg.tensor([1.0]), mg.tensor([1]), check_dtype=False)
    with pytest.raises(ValueError, match="both rtol and atol"):
        assert_close(1.0, 1.0, rtol=1.0)
    with pytest.raises(AssertionError, match="^why: 1 of 1"):
        assert_close(1.0, 2.0, msg="why")


def test_options_of_what_is_compared():
    x = mg.zeros(2, 3)
    assert_close(x, mg.zeros(3, 2).T, check_device=False, check_layout=False)
    with pytest.raises(AssertionError, match=r"strides differ: \(3, 1\) and \(1, 2\)"):
        assert_close(x, mg.zeros(3, 2).T, check_stride=True)
    with pytest.raises(AssertionError, match="types differ: Parameter, Tensor"):
        assert_close([mg.nn.Parameter(x)], [x], allow_subclasses=False)
    with pytest.raises(AssertionError, match="^loss: at .*differ.*!$"):
        assert_close([1.0], [2.0], msg=lambda text: f"loss: {text}!")


def test_raises_message_wants_type_message_and_hint():
    with raises_message(ShapeError, """
        a and
        b
          hint: c
    """):  # fmt: skip
        raise ShapeError("a and b", hint="c")
    with pytest.raises(AssertionError, match="the message differs"):
        with raises_message(ShapeError, "a and b"):
            raise ShapeError("a and b", hint="c")
    with pytest.raises(ArgumentError):
        with raises_message(ShapeError, "a"):
            raise ArgumentError("a")
    with pytest.raises(AssertionError, match="was not raised"):
        with raises_message(ShapeError, "a"):
            pass


def leaf(*values):
    return mg.tensor(values, dtype=mg.float64, requires_grad=True)


def test_gradcheck_finds_a_wrong_gradient():
    assert gradcheck(lambda x: x * x, leaf(1.0, -2.0))
    assert gradgradcheck(lambda x: x * x * x, leaf(1.0, -2.0))
    half = lambda x: x * x.detach()  # noqa: E731  its gradient is half of the true one
    assert not gradcheck(half, leaf(1.0, -2.0), raise_exception=False)
    with pytest.raises(AssertionError, match=r"gradient of input 0 at \(0,\) is"):
        gradcheck(half, leaf(1.0, -2.0))
    assert not gradgradcheck(lambda x: x * x * x.detach(), leaf(1.0), raise_exception=False)


def test_gradcheck_of_several_inputs_and_outputs():
    x, y = leaf(0.5, 1.5), leaf(2.0, -1.0)
    assert gradcheck(lambda a, b: (a * b, a.sin()), (x, y))
    assert gradgradcheck(lambda a, b: (a * b, a.sin()), (x, y))
    assert gradcheck(lambda a, b: a.exp(), (x, y))


def test_gradcheck_needs_float64():
    with raises_message(mg.core.errors.DTypeError, """
        gradcheck: input 0 is float32; differences need float64
    """):  # fmt: skip
        gradcheck(lambda x: x, mg.ones(2, requires_grad=True))
