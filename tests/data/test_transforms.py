"""Transforms of images: values against hand-written ones, dtypes, seeds, errors."""

import numpy as np
import pytest

from monograph.core.errors import ArgumentError, ShapeError
from monograph.data import CutMix, DataLoader, Mixup, RandAugment
from monograph.data import augment as A
from monograph.data import transforms as T


def image(dtype=np.float32, shape=(3, 8, 10)):
    x = np.random.default_rng(0).random(shape)
    return (x * 255).astype(np.uint8) if dtype == np.uint8 else x.astype(dtype)


RANDOM = [
    T.RandomHorizontalFlip(), T.RandomVerticalFlip(), T.RandomCrop(6, padding=2),
    T.RandomCrop((8, 5), 1, padding_mode="reflect"), T.ColorJitter(0.4, 0.4, 0.4, 0.1),
    T.RandomResizedCrop(5), T.RandomErasing(1.0), RandAugment(2, 9), RandAugment(3, 30),
]  # fmt: skip


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("transform", RANDOM, ids=lambda t: type(t).__name__)
def test_random_transforms_keep_dtype_and_range_and_follow_the_seed(transform, dtype):
    x = image(dtype)
    before = x.copy()
    results = []
    for seed in (1, 1, 2, 3, 4):
        np.random.seed(seed)
        results.append([transform(x) for _ in range(5)])
    top = 255 if dtype == np.uint8 else 1
    for y in results[0]:
        assert y.dtype == dtype and y.shape[0] == 3 and 0 <= y.min() and y.max() <= top
    assert (x == before).all()
    for a, b in zip(results[0], results[1]):
        np.testing.assert_array_equal(a, b)
    assert any((a != b).any() for r in results[2:] for a, b in zip(results[0], r))


def test_flips_and_crops():
    x = image()
    np.testing.assert_array_equal(T.RandomHorizontalFlip(1.0)(x), x[:, :, ::-1])
    np.testing.assert_array_equal(T.RandomVerticalFlip(1.0)(x), x[:, ::-1])
    assert T.RandomHorizontalFlip(0.0)(x) is x
    np.testing.assert_array_equal(T.CenterCrop((4, 4))(x), x[:, 2:6, 3:7])
    found = {T.RandomCrop(7)(x).tobytes() for _ in range(200)}
    assert found == {x[:, i : i + 7, j : j + 7].tobytes() for i in range(2) for j in range(4)}
    with pytest.raises(ShapeError, match=r"size \(9, 9\) is larger than the padded image"):
        T.RandomCrop(9)(x)
    with pytest.raises(ShapeError, match=r"expected an image \(C, H, W\), got shape \(8, 10\)"):
        T.RandomHorizontalFlip()(x[0])


def test_colours():
    x = image(np.float64)
    np.testing.assert_allclose(T.adjust_hue(x, 0.0), x, atol=1e-12)
    np.testing.assert_allclose(T.adjust_hue(x, 1 / 3), x[[2, 0, 1]], atol=1e-12)
    np.testing.assert_allclose(T.adjust_saturation(x, 0.0), np.repeat(T.luma(x), 3, 0))
    np.testing.assert_allclose(T.adjust_contrast(x, 1.0), x)
    assert T.adjust_contrast(x, 0.0).std() < 1e-12
    np.testing.assert_allclose(T.adjust_brightness(x, 0.5), x / 2)
    np.testing.assert_allclose(T.Normalize([0.5] * 3, [0.25] * 3)(x), (x - 0.5) / 0.25, rtol=1e-6)
    with pytest.raises(ArgumentError, match="hue must be in"):
        T.ColorJitter(hue=0.7)


def test_resize_keeps_constants_ramps_and_means():
    assert np.allclose(T.Resize((3, 17))(np.full((1, 8, 10), 0.25, np.float32)), 0.25)
    ramp = np.broadcast_to(np.linspace(0, 1, 8, dtype=np.float32)[:, None], (1, 8, 4))
    up = T.Resize((16, 4))(ramp)[0, :, 0]
    np.testing.assert_allclose(np.diff(up[1:-1]), np.diff(up[1:-1])[0], atol=1e-6)
    x = image(shape=(1, 16, 16))
    blocks = x.reshape(1, 4, 4, 4, 4).mean((2, 4))
    assert np.abs(T.Resize(4)(x) - blocks).max() < 0.25
    assert T.Resize(4)(x).mean() == pytest.approx(x.mean(), abs=0.03)


def test_the_distortions_of_randaugment():
    x = image(np.float64)
    np.testing.assert_array_equal(A.rotate(x[:, :, :8], 90), np.rot90(x[:, :, :8], 1, (1, 2)))
    np.testing.assert_array_equal(A.rotate(x, 180), x[:, ::-1, ::-1])
    moved = A.affine(x, [(1, 0, 2), (0, 1, 0)], fill=0.5)
    np.testing.assert_array_equal(moved[:, :, :8], x[:, :, 2:])
    assert (moved[:, :, 8:] == 0.5).all()
    np.testing.assert_allclose(A.solarize(x, 0.5), np.where(x >= 0.5, 1 - x, x))
    assert set(np.unique(A.posterize(x, 1))) <= {0.0, 128 / 255}
    stretched = A.autocontrast(x * 0.5 + 0.1)
    assert stretched.min() == 0.0 and stretched.max() == 1.0
    np.testing.assert_allclose(A.sharpness(x, 1.0), x)
    flat = A.equalize(np.linspace(0, 0.2, 100).reshape(1, 10, 10))
    assert np.abs(np.sort(flat.reshape(-1)) - np.linspace(0, 1, 100)).max() < 0.06
    for name in RandAugment.NAMES:
        for sign in (1.0, -1.0):
            y = RandAugment(magnitude=15).apply(image(), name, sign)
            assert y.shape == (3, 8, 10) and np.isfinite(y).all()
    constant = np.full((1, 4, 4), 0.5)
    assert (A.autocontrast(constant) == constant).all() and np.isfinite(A.equalize(constant)).all()


@pytest.mark.parametrize("kind", [Mixup, CutMix])
def test_mixtures_say_what_they_hold(kind):
    samples = [(np.full((1, 12, 12), i, np.float32), i) for i in range(4)]
    np.random.seed(0)
    for _ in range(20):
        images, targets = kind(4, alpha=1.0)(samples)
        images, targets = images.numpy(), targets.numpy()
        np.testing.assert_allclose(targets.sum(1), 1.0, rtol=1e-6)
        # The mean of an image is the mean of its targets: image i is i everywhere.
        np.testing.assert_allclose(images.mean((1, 2, 3)), targets @ np.arange(4), atol=1e-5)
    (x, y), *_ = DataLoader([(s[0], s[1]) for s in samples], 2, collate_fn=kind(4))
    assert x.shape == (2, 1, 12, 12) and y.shape == (2, 4)
    with pytest.raises(ArgumentError, match="alpha must be above 0"):
        kind(4, alpha=0)
