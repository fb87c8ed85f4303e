"""DLPack: memory is shared with NumPy and PyTorch in both directions."""

import numpy as np
import pytest

import monograph as mg
from monograph.core.errors import ArgumentTypeError, DeviceError, GradError

torch = pytest.importorskip("torch", reason="PyTorch is the partner of these tests")

SHARED = [
    "bool", "uint8", "int8", "int16", "int32", "int64", "float16", "bfloat16", "float32",
    "float64",
]  # fmt: skip


@pytest.mark.parametrize("dtype", SHARED)
def test_memory_is_shared_with_torch_both_ways(dtype):
    theirs = torch.zeros(2, 3, dtype=getattr(torch, dtype)).T
    mine = mg.from_dlpack(theirs)
    assert mine.dtype is getattr(mg, dtype) and tuple(mine.shape) == (3, 2)
    mine[1, 0] = 1
    assert theirs.tolist() == [[0, 0], [1, 0], [0, 0]]
    back = torch.from_dlpack(mine)
    back[2, 1] = 1
    assert mine.tolist() == [[0, 0], [1, 0], [0, 1]]


def test_memory_is_shared_with_numpy_both_ways():
    array = np.arange(6.0).reshape(2, 3)
    mine = mg.from_dlpack(array)
    mine += 1
    assert array[0, 0] == 1
    assert np.from_dlpack(mine).base is not None
    assert np.shares_memory(np.from_dlpack(mine), array)


def test_views_and_capsules_travel_too():
    x = mg.arange(12).view(3, 4)[:, 1::2]
    assert torch.from_dlpack(x).tolist() == [[1, 3], [5, 7], [9, 11]]
    capsule = torch.utils.dlpack.to_dlpack(torch.ones(2))
    assert mg.from_dlpack(capsule).tolist() == [1, 1]


def test_a_copy_is_made_where_it_is_asked_for():
    array = np.zeros(2)
    mine = mg.from_dlpack(array, copy=True)
    mine += 1
    assert array.tolist() == [0, 0]


def test_read_only_memory_stays_so():
    array = np.zeros(2)
    array.flags.writeable = False
    with pytest.raises(Exception, match="read-only|readonly"):
        mg.from_dlpack(array).add_(1)


def test_messages_of_what_cannot_be_shared():
    with pytest.raises(GradError) as caught:
        np.from_dlpack(mg.ones(2, requires_grad=True))
    assert caught.value.message == (
        "dlpack: the tensor requires a gradient, which other libraries would not see"
    )
    with pytest.raises(ArgumentTypeError) as caught:
        mg.from_dlpack([1, 2])
    assert caught.value.message == "from_dlpack: list has no __dlpack__ and __dlpack_device__"

    class OnGpu:
        def __dlpack__(self):
            return None

        def __dlpack_device__(self):
            return (2, 1)

    with pytest.raises(DeviceError) as caught:
        mg.from_dlpack(OnGpu())
    assert caught.value.message == (
        "from_dlpack: the memory is on DLPack device (2, 1), not on the CPU"
    )
