"""Layers that resize and pad against PyTorch's of the same name."""

import pytest
from torch_oracle import check_same, draw

X4 = (draw(2, 4, 6, 5),)
X8 = (draw(2, 4, 8, 8),)

MOVES = [
    ("PixelShuffle", (2,), {}, X4),
    ("PixelUnshuffle", (2,), {}, X8),
    ("Upsample", (), {"scale_factor": 2}, X4),
    ("Upsample", (), {"size": (9, 4)}, X4),
    ("Upsample", (), {"scale_factor": 2, "mode": "bilinear"}, X4),
    ("Upsample", (), {"size": (9, 4), "mode": "bilinear", "align_corners": True}, X4),
    ("ZeroPad2d", (1,), {}, X4),
    ("ConstantPad1d", ((1, 2), 3.5), {}, X4),
    ("ReflectionPad2d", ((1, 2, 0, 1),), {}, X4),
    ("ReplicationPad2d", (1,), {}, X4),
    ("ReflectionPad1d", (2,), {}, (draw(2, 3, 5),)),
]


@pytest.mark.parametrize("name, args, kwargs, inputs", MOVES)
def test_resizing_and_padding_equal_torch(name, args, kwargs, inputs):
    check_same(name, args, kwargs, inputs)
