"""Transforms of images: NumPy arrays (C, H, W), uint8 or floating in [0, 1]; the dtype is kept.

Random ones draw from numpy.random, which the DataLoader seeds for each batch: the same images for
any number of workers. Read next: augment.py (RandAugment), mixing.py (mixup, cutmix).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..core.errors import ArgumentError, ShapeError


def check_image(operation: str, image: Any) -> np.ndarray:
    """An image as an array (C, H, W); ShapeError if it is none."""
    array = np.asarray(image)
    if array.ndim != 3:
        raise ShapeError(f"{operation}: expected an image (C, H, W), got shape {array.shape}")
    return array


class Compose:
    """Several transforms, one after the other.

    >>> Compose([ToFloat(), Normalize([0.5], [0.5])])(np.full((1, 1, 1), 255, np.uint8)).item()
    1.0
    """

    def __init__(self, transforms: Sequence[Callable]):
        self.transforms = list(transforms)

    def __call__(self, image: Any) -> Any:
        for transform in self.transforms:
            image = transform(image)
        return image

    def __repr__(self) -> str:
        return f"Compose({self.transforms!r})"


class ToFloat:
    """uint8 in 0 .. 255 to float32 in [0, 1]; floating images stay."""

    def __call__(self, image: Any) -> np.ndarray:
        array = check_image("ToFloat", image)
        return as_float(array)


def as_float(image: np.ndarray) -> np.ndarray:
    """The image with elements in [0, 1]."""
    if image.dtype == np.uint8:
        return image.astype(np.float32) / np.float32(255)
    return image


def as_before(image: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """An image in [0, 1] in the dtype that it had."""
    clipped = np.clip(image, 0, 1)
    if dtype == np.uint8:
        return np.rint(clipped * 255).astype(np.uint8)
    return clipped.astype(dtype)


class Normalize:
    """(image - mean) / std by channel, as float32."""

    def __init__(self, mean: Sequence[float], std: Sequence[float]):
        self.mean = np.asarray(mean, np.float32).reshape(-1, 1, 1)
        self.std = np.asarray(std, np.float32).reshape(-1, 1, 1)
        if self.mean.shape != self.std.shape or not (self.std > 0).all():
            raise ArgumentError("Normalize: mean and std must be as long, and std above 0")

    def __call__(self, image: Any) -> np.ndarray:
        array = as_float(check_image("Normalize", image))
        if len(self.mean) not in (1, array.shape[0]):
            raise ShapeError(
                f"Normalize: has {len(self.mean)} channels, the image {array.shape} has "
                f"{array.shape[0]}"
            )
        return (array - self.mean) / self.std


class RandomHorizontalFlip:
    """Mirror the image left to right with probability p."""

    def __init__(self, p: float = 0.5):
        self.p = _probability("RandomHorizontalFlip", p)

    def __call__(self, image: Any) -> np.ndarray:
        array = check_image("RandomHorizontalFlip", image)
        return np.ascontiguousarray(array[:, :, ::-1]) if np.random.random() < self.p else array


class RandomVerticalFlip:
    """Mirror the image top to bottom with probability p."""

    def __init__(self, p: float = 0.5):
        self.p = _probability("RandomVerticalFlip", p)

    def __call__(self, image: Any) -> np.ndarray:
        array = check_image("RandomVerticalFlip", image)
        return np.ascontiguousarray(array[:, ::-1]) if np.random.random() < self.p else array


class RandomCrop:
    """A part of (height, width) = size at a random place, after padding each side.

    padding       pixels on each side; padding_mode  "constant" (fill), "reflect" or "edge"
    """

    def __init__(
        self,
        size: int | tuple[int, int],
        padding: int = 0,
        fill: float = 0,
        padding_mode: str = "constant",
    ):
        self.size = _pair(size)
        if padding_mode not in ("constant", "reflect", "edge"):
            raise ArgumentError(
                'RandomCrop: padding_mode must be "constant", "reflect" or "edge", '
                f"got {padding_mode!r}"
            )
        self.padding, self.fill, self.padding_mode = padding, fill, padding_mode

    def __call__(self, image: Any) -> np.ndarray:
        array = check_image("RandomCrop", image)
        if self.padding:
            sides = ((0, 0), (self.padding, self.padding), (self.padding, self.padding))
            options = {"constant_values": self.fill} if self.padding_mode == "constant" else {}
            array = np.pad(array, sides, self.padding_mode, **options)
        free = [n - m for n, m in zip(array.shape[1:], self.size)]
        if min(free) < 0:
            raise ShapeError(
                f"RandomCrop: size {self.size} is larger than the padded image {array.shape}"
            )
        top, left = (np.random.randint(n + 1) for n in free)
        height, width = self.size
        return np.ascontiguousarray(array[:, top : top + height, left : left + width])


class CenterCrop:
    """The middle part of (height, width) = size."""

    def __init__(self, size: int | tuple[int, int]):
        self.size = _pair(size)

    def __call__(self, image: Any) -> np.ndarray:
        array = check_image("CenterCrop", image)
        free = [n - m for n, m in zip(array.shape[1:], self.size)]
        if min(free) < 0:
            raise ShapeError(f"CenterCrop: size {self.size} is larger than image {array.shape}")
        top, left = (n // 2 for n in free)
        height, width = self.size
        return np.ascontiguousarray(array[:, top : top + height, left : left + width])


class Resize:
    """The image at another (height, width), bilinear; smaller images are averaged (antialiased)."""

    def __init__(self, size: int | tuple[int, int]):
        self.size = _pair(size)

    def __call__(self, image: Any) -> np.ndarray:
        array = check_image("Resize", image)
        return as_before(resize(as_float(array), self.size), array.dtype)


def resize(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Floating image (C, H, W) at (height, width), by triangle filters along each axis."""
    rows, columns = (_weights(n, m) for n, m in zip(image.shape[1:], size))
    return np.matmul(rows, np.matmul(image, columns.T)).astype(image.dtype)


def _weights(n: int, m: int) -> np.ndarray:
    """(m, n): how much each of n pixels counts for each of m."""
    scale = n / m
    centre = (np.arange(m) + 0.5) * scale - 0.5
    wide = max(scale, 1.0)
    weights = np.maximum(0.0, 1.0 - np.abs(np.arange(n) - centre[:, None]) / wide)
    return (weights / weights.sum(1, keepdims=True)).astype(np.float32)


class RandomResizedCrop:
    """A random part of the image, of random size and shape, resized to (height, width) = size.

    scale  of the part's area to the image's; ratio  of its width to its height
    Source: Szegedy et al., "Going Deeper with Convolutions" (2015).
    """

    def __init__(
        self,
        size: int | tuple[int, int],
        scale: tuple[float, float] = (0.08, 1.0),
        ratio: tuple[float, float] = (3 / 4, 4 / 3),
    ):
        self.size, self.scale, self.ratio = _pair(size), scale, ratio

    def __call__(self, image: Any) -> np.ndarray:
        array = check_image("RandomResizedCrop", image)
        height, width = array.shape[1:]
        for _ in range(10):
            area = height * width * np.random.uniform(*self.scale)
            ratio = math.exp(np.random.uniform(*map(math.log, self.ratio)))
            h, w = round(math.sqrt(area / ratio)), round(math.sqrt(area * ratio))
            if 0 < h <= height and 0 < w <= width:
                break
        else:
            h, w = min(height, width), min(height, width)
        top, left = np.random.randint(height - h + 1), np.random.randint(width - w + 1)
        part = as_float(array[:, top : top + h, left : left + w])
        return as_before(resize(part, self.size), array.dtype)


class ColorJitter:
    """Change brightness, contrast, saturation and hue at random, in random order.

    brightness, contrast, saturation  a number x: a factor from [max(0, 1 - x), 1 + x]; or a range
    hue                               a number x <= 0.5: a turn from [-x, x] of the colour circle
    """

    def __init__(self, brightness=0.0, contrast=0.0, saturation=0.0, hue=0.0):
        self.factors = {
            adjust_brightness: _range("brightness", brightness),
            adjust_contrast: _range("contrast", contrast),
            adjust_saturation: _range("saturation", saturation),
        }
        if not 0 <= hue <= 0.5:
            raise ArgumentError(f"ColorJitter: hue must be in [0, 0.5], got {hue}")
        self.hue = float(hue)

    def __call__(self, image: Any) -> np.ndarray:
        array = check_image("ColorJitter", image)
        result = as_float(array)
        steps: list = [*self.factors, adjust_hue]
        for i in np.random.permutation(len(steps)):
            step = steps[i]
            low, high = self.factors.get(step, (-self.hue, self.hue))
            draw = np.random.uniform(low, high)  # drawn always: the same draws for any settings
            if low != high:
                result = np.clip(step(result, draw), 0, 1)
        return as_before(result, array.dtype)


def luma(image: np.ndarray) -> np.ndarray:
    """Grey values (1, H, W) of an image; of three channels by ITU-R BT.601."""
    if image.shape[0] != 3:
        return image.mean(0, keepdims=True, dtype=image.dtype)
    weights = np.array([0.299, 0.587, 0.114], image.dtype).reshape(3, 1, 1)
    return (image * weights).sum(0, keepdims=True)


def adjust_brightness(image: np.ndarray, factor: float) -> np.ndarray:
    return image * image.dtype.type(factor)


def adjust_contrast(image: np.ndarray, factor: float) -> np.ndarray:
    mean = luma(image).mean()
    return mean + (image - mean) * image.dtype.type(factor)


def adjust_saturation(image: np.ndarray, factor: float) -> np.ndarray:
    grey = luma(image)
    return grey + (image - grey) * image.dtype.type(factor)


def adjust_hue(image: np.ndarray, turn: float) -> np.ndarray:
    """Turn the colours of an image (3, H, W) on the colour circle; others stay."""
    if image.shape[0] != 3:
        return image
    high, low = image.max(0), image.min(0)
    span = high - low
    safe = np.where(span > 0, span, 1)
    r, g, b = image
    hue = np.where(
        high == r, (g - b) / safe, np.where(high == g, 2 + (b - r) / safe, 4 + (r - g) / safe)
    )
    hue = (hue / 6 + turn) % 1.0
    parts = [np.clip(np.abs((hue * 6 - k) % 6 - 3) - 1, 0, 1) for k in (0, 2, 4)]
    return np.stack([low + span * p for p in parts]).astype(image.dtype)


class RandomErasing:
    """With probability p, fill a random rectangle.

    scale  of its area to the image's; ratio  of its height to its width; value  of its elements
    Source: Zhong et al., "Random Erasing Data Augmentation" (2020).
    """

    def __init__(self, p=0.5, scale=(0.02, 0.33), ratio=(0.3, 3.3), value=0.0):
        self.p = _probability("RandomErasing", p)
        self.scale, self.ratio, self.value = scale, ratio, value

    def __call__(self, image: Any) -> np.ndarray:
        array = check_image("RandomErasing", image)
        if np.random.random() >= self.p:
            return array
        height, width = array.shape[1:]
        for _ in range(10):
            area = height * width * np.random.uniform(*self.scale)
            ratio = math.exp(np.random.uniform(*map(math.log, self.ratio)))
            h, w = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if 0 < h < height and 0 < w < width:
                top, left = np.random.randint(height - h + 1), np.random.randint(width - w + 1)
                array = array.copy()
                array[:, top : top + h, left : left + w] = self.value
                return array
        return array


def _pair(size: int | tuple[int, int]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))


def _probability(owner: str, p: float) -> float:
    if not 0 <= p <= 1:
        raise ArgumentError(f"{owner}: p must be in [0, 1], got {p}")
    return p


def _range(name: str, given: Any) -> tuple[float, float]:
    low, high = (max(0.0, 1 - given), 1 + given) if np.ndim(given) == 0 else given
    if not 0 <= low <= high:
        raise ArgumentError(f"ColorJitter: {name} must give factors of at least 0, got {given}")
    return float(low), float(high)
