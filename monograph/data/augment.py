"""RandAugment: a few random distortions of one strength."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..core.errors import ArgumentError
from .transforms import (
    adjust_brightness,
    adjust_contrast,
    adjust_saturation,
    as_before,
    as_float,
    check_image,
)


def affine(image: np.ndarray, matrix: Any, fill: float = 0.0) -> np.ndarray:
    """The image (C, H, W) whose pixel at (x, y) from the centre is that at matrix @ (x, y, 1).

    Nearest pixels; `fill` where there is none.
    """
    height, width = image.shape[1:]
    y, x = np.mgrid[:height, :width].astype(np.float64)
    y -= (height - 1) / 2
    x -= (width - 1) / 2
    (a, b, c), (d, e, f) = matrix
    column = np.rint(a * x + b * y + c + (width - 1) / 2).astype(np.int64)
    row = np.rint(d * x + e * y + f + (height - 1) / 2).astype(np.int64)
    inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
    picked = image[:, np.clip(row, 0, height - 1), np.clip(column, 0, width - 1)]
    return np.where(inside, picked, image.dtype.type(fill))


def rotate(image: np.ndarray, degrees: float, fill: float = 0.0) -> np.ndarray:
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return affine(image, [(cos, -sin, 0), (sin, cos, 0)], fill)


def sharpness(image: np.ndarray, factor: float) -> np.ndarray:
    """Between a smoothed image (0), the image (1) and a sharpened one; edges stay."""
    smooth = image.copy()
    if min(image.shape[1:]) > 2:
        total = sum(
            image[:, 1 + i : image.shape[1] - 1 + i, 1 + j : image.shape[2] - 1 + j]
            * (5 if i == j == 0 else 1)
            for i in (-1, 0, 1)
            for j in (-1, 0, 1)
        )
        smooth[:, 1:-1, 1:-1] = total / 13
    return smooth + (image - smooth) * image.dtype.type(factor)


def posterize(image: np.ndarray, bits: int) -> np.ndarray:
    """Keep the `bits` highest of 8 bits."""
    mask = 256 - (1 << (8 - bits))
    return ((np.rint(image * 255).astype(np.int64) & mask) / 255).astype(image.dtype)


def solarize(image: np.ndarray, threshold: float) -> np.ndarray:
    """Invert what is at least `threshold`."""
    return np.where(image >= threshold, 1 - image, image).astype(image.dtype)


def autocontrast(image: np.ndarray) -> np.ndarray:
    """Stretch each channel to [0, 1]."""
    low, high = image.min((1, 2), keepdims=True), image.max((1, 2), keepdims=True)
    span = high - low
    return np.where(span > 0, (image - low) / np.where(span > 0, span, 1), image)


def equalize(image: np.ndarray) -> np.ndarray:
    """Make the values of each channel equally frequent."""
    levels = np.rint(image * 255).astype(np.int64)
    result = np.empty_like(image)
    for c, channel in enumerate(levels):
        ends = np.cumsum(np.bincount(channel.reshape(-1), minlength=256))
        first = ends[channel.min()]
        span = ends[-1] - first
        table = np.arange(256) / 255 if span == 0 else np.clip((ends - first) / span, 0, 1)
        result[c] = table[channel]
    return result


class RandAugment:
    """`num_ops` random distortions out of fourteen, each of the strength `magnitude` of 30.

    Those with a direction (rotate, shear, move, brighten, ...) go either way at random. Images are
    (C, H, W), uint8 or floating in [0, 1]; `fill` is for pixels from outside.

    Source: Cubuk et al., "RandAugment" (2020).
    """

    NAMES = (
        "identity", "autocontrast", "equalize", "rotate", "solarize", "color", "posterize",
        "contrast", "brightness", "sharpness", "shear_x", "shear_y", "translate_x", "translate_y",
    )  # fmt: skip

    def __init__(self, num_ops: int = 2, magnitude: int = 9, fill: float = 0.0):
        if num_ops < 0 or not 0 <= magnitude <= 30:
            raise ArgumentError(
                "RandAugment: num_ops must be at least 0 and magnitude in 0 .. 30, got "
                f"{num_ops} and {magnitude}"
            )
        self.num_ops, self.magnitude, self.fill = num_ops, magnitude, fill

    def __call__(self, image: Any) -> np.ndarray:
        array = check_image("RandAugment", image)
        result = as_float(array)
        for _ in range(self.num_ops):
            name = self.NAMES[np.random.randint(len(self.NAMES))]
            sign = 1.0 if np.random.random() < 0.5 else -1.0
            result = np.clip(self.apply(result, name, sign), 0, 1).astype(result.dtype)
        return as_before(result, array.dtype)

    def apply(self, image: np.ndarray, name: str, sign: float = 1.0) -> np.ndarray:
        """One distortion of a floating image, by name."""
        part = self.magnitude / 30
        factor = 1 + sign * 0.9 * part
        adjust: dict[str, Callable] = {
            "color": adjust_saturation,
            "contrast": adjust_contrast,
            "brightness": adjust_brightness,
            "sharpness": sharpness,
        }
        if name in adjust:
            return adjust[name](image, factor)
        if name == "identity":
            return image
        if name in ("autocontrast", "equalize"):
            return autocontrast(image) if name == "autocontrast" else equalize(image)
        if name == "solarize":
            return solarize(image, 1 - part)
        if name == "posterize":
            return posterize(image, 8 - round(4 * part))
        if name == "rotate":
            return rotate(image, sign * 30 * part, self.fill)
        x = sign * part * (0.3 if name.startswith("shear") else 150 / 331)
        height, width = image.shape[1:]
        matrix = {
            "shear_x": [(1, x, 0), (0, 1, 0)],
            "shear_y": [(1, 0, 0), (x, 1, 0)],
            "translate_x": [(1, 0, x * width), (0, 1, 0)],
            "translate_y": [(1, 0, 0), (0, 1, x * height)],
        }[name]
        return affine(image, matrix, self.fill)
