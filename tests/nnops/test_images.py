import pytest
import torch
import torch.nn.functional as F

import monograph as mg
from monograph.core.errors import ArgumentError, ShapeError
from monograph.ops import images

from .messages import raises_message
from .oracle import check, close, rng, to_mg, to_torch

SHAPES = {1: (2, 3, 7), 2: (2, 3, 5, 7), 3: (1, 2, 4, 5, 3)}
TARGETS = [
    dict(scale_factor=2), dict(scale_factor=1.6), dict(scale_factor=0.7), dict(size=4),
    dict(size=9), dict(size=1), dict(scale_factor=2.5, recompute_scale_factor=True),
]  # fmt: skip


def ids(options):
    return ",".join(f"{k}={v}" for k, v in options.items())


@pytest.mark.parametrize("options", TARGETS, ids=ids)
@pytest.mark.parametrize("mode", ["nearest", "nearest-exact", "area"])
@pytest.mark.parametrize("n", [1, 2, 3])
def test_exact_modes_of_interpolate_agree_with_torch(n, mode, options):
    x = rng().standard_normal(SHAPES[n])
    check(
        lambda a: images.interpolate(a, mode=mode, **options),
        lambda a: F.interpolate(a, mode=mode, **options),
        x, double=True,
    )  # fmt: skip


@pytest.mark.filterwarnings("ignore:The default behavior:UserWarning")
@pytest.mark.parametrize("corners", [False, True])
@pytest.mark.parametrize("options", TARGETS, ids=ids)
@pytest.mark.parametrize("mode", ["linear", "bilinear", "bicubic", "trilinear"])
def test_blending_modes_of_interpolate_agree_with_torch(mode, options, corners):
    n = {"linear": 1, "bilinear": 2, "bicubic": 2, "trilinear": 3}[mode]
    x = rng().standard_normal(SHAPES[n])
    options = {**options, "mode": mode, "align_corners": corners}
    check(lambda a: images.interpolate(a, **options), lambda a: F.interpolate(a, **options), x)


@pytest.mark.parametrize("corners", [False, True])
@pytest.mark.parametrize(
    "options",
    [
        {"size": (2, 3)}, {"size": (1, 12)}, {"size": (14, 3)}, {"scale_factor": 0.4},
        {"scale_factor": (0.31, 1.7)}, {"scale_factor": 0.4, "recompute_scale_factor": True},
    ],
)  # fmt: skip
@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
def test_antialiased_interpolate_agrees_with_torch(mode, options, corners):
    x = rng().standard_normal((2, 3, 7, 9))
    options = {**options, "mode": mode, "align_corners": corners, "antialias": True}
    check(lambda a: images.interpolate(a, **options), lambda a: F.interpolate(a, **options), x)


def test_interpolate_takes_sizes_of_each_dimension():
    x = rng().standard_normal(SHAPES[2])
    for options in (dict(size=(3, 9)), dict(scale_factor=(2.0, 0.5))):
        made = images.interpolate(to_mg(x), **options, mode="bilinear")
        close(made, F.interpolate(to_torch(x), **options, mode="bilinear"))


def test_interpolate_explains_bad_arguments():
    x = mg.zeros(1, 1, 4, 4)
    with raises_message(
        ShapeError, "interpolate: mode 'linear' needs 3 dimensions, got (1, 1, 4, 4)"
    ):
        images.interpolate(x, 2, mode="linear")
    with raises_message(
        ArgumentError, "interpolate: exactly one of size and scale_factor must be given"
    ):
        images.interpolate(x)
    with raises_message(
        ArgumentError,
        "interpolate: antialias=True needs mode 'bilinear' or 'bicubic', got 'nearest'",
    ):
        images.interpolate(x, 2, antialias=True)
    with raises_message(ShapeError, "interpolate: (1, 1, 4, 4) would get size (0, 0)"):
        images.interpolate(x, scale_factor=0.1)


@pytest.mark.parametrize("shape", [(2, 8, 3, 5), (8, 3, 5), (2, 3, 8, 4, 6)])
def test_pixel_shuffles_agree_with_torch_and_undo_each_other(shape):
    x = rng().standard_normal(shape)
    check(lambda a: images.pixel_shuffle(a, 2), lambda a: F.pixel_shuffle(a, 2), x, double=True)
    y = images.pixel_shuffle(to_mg(x), 2)
    close(images.pixel_unshuffle(y, 2), x)
    big = y.numpy()
    check(lambda a: images.pixel_unshuffle(a, 2), lambda a: F.pixel_unshuffle(a, 2), big)


@pytest.mark.parametrize("shape", [(1, 0, 1, 1), (1, 1, 0, 1), (0, 4, 2, 2)])
def test_captured_pixel_shuffle_of_nothing_is_nothing(shape):
    x = mg.zeros(*shape)
    factor = 2 if shape[1] == 4 else 1
    made = mg.jit(lambda x: images.pixel_shuffle(x, factor))(x)
    assert made.shape == images.pixel_shuffle(x, factor).shape


def test_channel_shuffle_agrees_with_torch():
    x = rng().standard_normal((2, 6, 3, 4))
    close(images.channel_shuffle(to_mg(x), 3), torch.nn.ChannelShuffle(3)(to_torch(x)))


def test_pixel_shuffle_explains_bad_arguments():
    with raises_message(
        ShapeError,
        "pixel_shuffle: the channels of (1, 6, 2, 2) do not divide by upscale_factor**2 = 4",
    ):
        images.pixel_shuffle(mg.zeros(1, 6, 2, 2), 2)


WINDOWS = [
    dict(kernel_size=2), dict(kernel_size=(3, 2), padding=1), dict(kernel_size=2, stride=2),
    dict(kernel_size=2, dilation=(2, 1), stride=(1, 3), padding=(0, 2)),
]  # fmt: skip


@pytest.mark.parametrize("shape", [(2, 3, 6, 7), (3, 6, 7)])
@pytest.mark.parametrize("options", WINDOWS, ids=ids)
def test_patches_agree_with_torch(shape, options):
    x = rng().standard_normal(shape)
    check(lambda a: images.unfold(a, **options), lambda a: F.unfold(a, **options), x, double=True)
    columns = images.unfold(to_mg(x), **options).numpy()
    check(
        lambda a: images.fold(a, (6, 7), **options), lambda a: F.fold(a, (6, 7), **options),
        columns, double=True,
    )  # fmt: skip


def test_fold_explains_bad_shapes():
    with raises_message(
        ShapeError,
        """fold: input (1, 5, 4) must have a multiple of 4 rows and 4 columns for output_size
        (4, 4) and kernel_size (2, 2)""",
    ):
        images.fold(mg.zeros(1, 5, 4), 4, 2, stride=2)


@pytest.mark.parametrize("corners", [False, True])
@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("mode", ["bilinear", "nearest", "bicubic"])
def test_grid_sample_agrees_with_torch(mode, padding, corners):
    x, grid = rng().standard_normal((2, 3, 4, 5)), rng(1).uniform(-1.7, 1.7, (2, 3, 6, 2))
    options = dict(mode=mode, padding_mode=padding, align_corners=corners)
    check(
        lambda a, b: images.grid_sample(a, b, **options),
        lambda a, b: F.grid_sample(a, b, **options),
        x, grid,
    )  # fmt: skip


@pytest.mark.parametrize("mode", ["bilinear", "nearest"])
def test_grid_sample_of_volumes_agrees_with_torch(mode):
    x, grid = rng().standard_normal((2, 2, 3, 4, 5)), rng(1).uniform(-1.2, 1.2, (2, 2, 3, 2, 3))
    check(
        lambda a, b: images.grid_sample(a, b, mode, align_corners=False),
        lambda a, b: F.grid_sample(a, b, mode, align_corners=False),
        x, grid,
    )  # fmt: skip


def test_grid_sample_explains_shapes():
    with raises_message(
        ShapeError,
        """grid_sample: input (1, 1, 4, 4) and grid (1, 3, 3, 3) do not fit mode 'bilinear': they
        must be (N, C, H, W) and (N, OH, OW, 2), or have three spatial dimensions""",
    ):
        images.grid_sample(mg.zeros(1, 1, 4, 4), mg.zeros(1, 3, 3, 3))


@pytest.mark.parametrize("corners", [False, True])
def test_affine_grid_agrees_with_torch(corners):
    check(
        lambda a: images.affine_grid(a, (2, 3, 4, 5), corners),
        lambda a: F.affine_grid(a, (2, 3, 4, 5), align_corners=corners),
        rng().standard_normal((2, 2, 3)),
    )
