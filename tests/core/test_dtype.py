"""Element types: names, promotion as PyTorch's, limits."""

import itertools

import numpy as np
import pytest

import monograph as mg
from monograph.core import dtype as dt
from monograph.core.errors import DTypeError
from monograph.testing import raises_message

torch = pytest.importorskip("torch", reason="PyTorch is the oracle of these tests")
SHARED = [d for d in dt.ALL if d.name not in ("uint16", "uint32", "uint64")]


def theirs(d):
    return getattr(torch, d.name)


def test_promotion_of_every_pair():
    for a, b in itertools.product(SHARED, repeat=2):
        expected = str(torch.promote_types(theirs(a), theirs(b))).split(".")[1]
        assert dt.promote_types(a, b).name == expected, (a, b)


def test_promotion_is_symmetric_and_idempotent():
    for a, b in itertools.product(dt.ALL, repeat=2):
        if mg.uint64 in (a, b) and (a.is_signed and a in dt.INTS or b.is_signed and b in dt.INTS):
            continue
        assert dt.promote_types(a, b) is dt.promote_types(b, a)
        assert dt.promote_types(a, a) is a


def test_result_type_of_tensors_and_numbers():
    operands = {
        "i64": np.ones(2, np.int64), "u8": np.ones(2, np.uint8), "f32": np.ones(2, np.float32),
        "f16": np.ones(2, np.float16), "bool": np.ones(2, bool), "i32()": np.array(1, np.int32),
        "f64()": np.array(1.0), "bool()": np.array(True),
    }  # fmt: skip
    numbers = [True, 1, 1.5]
    for x, y in itertools.product(operands.values(), repeat=2):
        expected = torch.result_type(torch.from_numpy(x), torch.from_numpy(y))
        got = dt.result_type(mg.tensor(x), mg.tensor(y))
        assert got.name == str(expected).split(".")[1], (x.dtype, y.dtype)
    for x, n in itertools.product(operands.values(), numbers):
        expected = torch.result_type(torch.from_numpy(x), n)
        assert dt.result_type(mg.tensor(x), n).name == str(expected).split(".")[1], (x.dtype, n)


def test_no_type_holds_uint64_and_int64():
    with raises_message(DTypeError, """
        promotion: no integer type holds both uint64 and int64
          hint: convert one operand first with .to(...)
    """):  # fmt: skip
        dt.promote_types(mg.uint64, mg.int64)


def test_dtypes_from_names_numpy_and_python():
    assert dt.as_dtype("float32") is mg.float32 and dt.as_dtype("half") is mg.float16
    assert dt.as_dtype(np.float64) is mg.float64 and dt.as_dtype(np.dtype("int8")) is mg.int8
    assert dt.as_dtype(float) is mg.float32 and dt.as_dtype(int) is mg.int64
    assert dt.as_dtype(bool) is mg.bool and repr(mg.bfloat16) == "monograph.bfloat16"
    with pytest.raises(DTypeError, match="is not an element type; known are"):
        dt.as_dtype("float33")


def test_default_dtype_is_used_for_floats():
    try:
        mg.set_default_dtype(mg.float64)
        assert mg.tensor(1.5).dtype is mg.float64 and mg.zeros(2).dtype is mg.float64
        assert mg.exp(mg.tensor([1])).dtype is mg.float64
    finally:
        mg.set_default_dtype(mg.float32)
    with raises_message(DTypeError, "set_default_dtype: needs a floating dtype, got int64"):
        mg.set_default_dtype(mg.int64)


@pytest.mark.parametrize("name", ["float16", "bfloat16", "float32", "float64"])
def test_limits_of_floats(name):
    ours, their = mg.finfo(getattr(mg, name)), torch.finfo(getattr(torch, name))
    for field in ("bits", "eps", "max", "min", "tiny", "smallest_normal"):
        assert getattr(ours, field) == pytest.approx(getattr(their, field), rel=1e-12), field


@pytest.mark.parametrize("name", ["int8", "int16", "int32", "int64", "uint8"])
def test_limits_of_integers(name):
    ours, their = mg.iinfo(getattr(mg, name)), torch.iinfo(getattr(torch, name))
    assert (ours.bits, ours.min, ours.max) == (their.bits, their.min, their.max)
