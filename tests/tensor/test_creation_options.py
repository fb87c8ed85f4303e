"""Arguments of functions that make tensors which change no element, and rare integer dtypes."""

import numpy as np
import pytest

import monograph as mg
from monograph.nn import functional as F

LIKE = ("zeros_like", "ones_like", "empty_like", "rand_like", "randn_like")
SIZED = ("zeros", "ones", "empty", "rand", "randn")


@pytest.mark.parametrize("name", SIZED)
def test_what_says_how_a_tensor_lies_in_memory(name):
    made = getattr(mg, name)(2, 3, layout=mg.strided, pin_memory=True, dtype=mg.float64)
    assert made.shape == (2, 3) and made.dtype is mg.float64
    out = mg.zeros(2, 3)
    assert getattr(mg, name)(2, 3, out=out) is out


@pytest.mark.parametrize("name", LIKE)
def test_like_another_in_its_memory_format(name):
    x = mg.ones(2, 3, dtype=mg.float64)
    made = getattr(mg, name)(x, memory_format=mg.preserve_format, pin_memory=False)
    assert made.shape == x.shape and made.dtype is x.dtype


def test_methods_that_make_tensors():
    x = mg.ones(2)
    options = {"layout": mg.strided, "pin_memory": False}
    assert x.new_zeros(3, **options).tolist() == [0.0, 0.0, 0.0]
    assert x.new_full((1,), 4.0, **options).tolist() == [4.0]
    assert x.new_tensor([5], **options).tolist() == [5.0]
    assert x.new_empty_strided((2,), (1,), **options).shape == (2,)


def test_what_memory_options_refuse():
    with pytest.raises(TypeError, match="zeros: layout must be a layout, got str"):
        mg.zeros(2, layout="strided")
    with pytest.raises(ValueError, match="zeros: layout must be strided, got monograph.preserve"):
        mg.zeros(2, layout=mg.preserve_format)
    with pytest.raises(TypeError, match="ones_like: memory_format must be a memory format"):
        mg.ones_like(mg.ones(2), memory_format=mg.strided)


@pytest.mark.parametrize("dtype", ["int8", "int32", "int64", "float32"])
@pytest.mark.parametrize("args", [(0.0, -8.000001, -4.0), (0.5, 3.7), (5, 2), (1, 9, 3)])
def test_counting(args, dtype):
    torch = pytest.importorskip("torch", reason="compared with PyTorch")
    if args == (5, 2):
        assert mg.arange(*args, dtype=getattr(mg, dtype)).tolist() == []
        return
    got = mg.arange(*args, dtype=getattr(mg, dtype))
    assert got.tolist() == torch.arange(*args, dtype=getattr(torch, dtype)).tolist()
    assert got.dtype is getattr(mg, dtype)


def test_counting_in_steps_of_less_than_one():
    assert mg.arange(0.5, 3.2, 0.9, dtype=mg.int32).tolist() == [0, 0, 0]
    with pytest.raises(ValueError, match=r"arange: step 0.9 is 0 as a whole number"):
        mg.arange(0.5, 3.2, 0.9, dtype=mg.int64)


def test_integer_dtypes_of_results():
    x = mg.tensor([1, 2, 3], dtype=mg.int32)
    assert mg.triu_indices(2, 3, dtype=mg.int32).dtype is mg.int32
    assert mg.tril_indices(2, 2).tolist() == [[0, 1, 1], [0, 0, 1]]
    assert [c.dtype for c in mg.unravel_index(x, (2, 2))] == [mg.int64, mg.int64]
    assert mg.masked.cumsum(x, 0).dtype is mg.int32
    assert mg.masked.cumprod(x, 0, dtype=mg.int64).dtype is mg.int64


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
def test_images_of_bytes_are_resized(mode):
    image = mg.randint(0, 256, (1, 3, 6, 5), dtype=mg.uint8)
    made = F.interpolate(image, (4, 9), mode=mode)
    exact = F.interpolate(image.double(), (4, 9), mode=mode).clamp(0, 255)
    assert made.dtype is mg.uint8
    assert np.abs(made.numpy() - exact.numpy()).max() <= 0.501
