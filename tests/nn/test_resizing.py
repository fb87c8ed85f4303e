"""Layers that resize and pad against PyTorch's of the same name."""

import pytest
from torch_oracle import check_same, draw, torch

import monograph as mg
from monograph import nn

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
    ("UpsamplingNearest2d", (), {"scale_factor": 2}, X4),
    ("UpsamplingBilinear2d", (), {"size": (3, 9)}, X4),
    ("ChannelShuffle", (2,), {}, X4),
    ("Unfold", (2,), {"stride": 2, "padding": 1}, X4),
    ("Fold", ((6, 5), 2), {}, (draw(2, 12, 20),)),
    ("CircularPad1d", (2,), {}, (draw(2, 3, 5),)),
    ("CircularPad2d", ((1, 2, 0, 1),), {}, X4),
    ("CircularPad3d", (1,), {}, (draw(1, 2, 3, 2, 3),)),
    ("ReflectionPad3d", (1,), {}, (draw(1, 2, 3, 2, 3),)),
    ("ReplicationPad3d", (1,), {}, (draw(1, 2, 3, 2, 3),)),
    ("ZeroPad1d", ((1, 2),), {}, (draw(2, 3, 5),)),
    ("ConstantPad3d", (1, -1.0), {}, (draw(1, 2, 3, 2, 3),)),
]


@pytest.mark.parametrize("name, args, kwargs, inputs", MOVES)
def test_resizing_and_padding_equal_torch(name, args, kwargs, inputs):
    check_same(name, args, kwargs, inputs)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_unpooling_puts_maxima_back_like_torch(n):
    x = draw(2, 3, *(6, 4, 4)[:n])

    def run(lib, tensor):
        a = tensor.tensor(x, requires_grad=True)
        pooled, places = getattr(lib, f"MaxPool{n}d")(2, return_indices=True)(a)
        unpool = getattr(lib, f"MaxUnpool{n}d")(2)
        out = unpool(pooled, places, output_size=a.shape)
        (out * out).sum().backward()
        return repr(unpool), places.tolist(), out.tolist(), a.grad.tolist()

    assert run(nn, mg) == run(torch.nn, torch)
