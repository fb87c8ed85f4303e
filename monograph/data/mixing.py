"""Mixtures of the samples of a batch: mixup and cutmix, with targets that say the shares."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..core.errors import ArgumentError, ShapeError
from .arrays import as_array, to_tensor
from .collate import default_collate


class _Mixing:
    """A collate_fn: default_collate, then each image mixed with that of another sample."""

    def __init__(self, num_classes: int, alpha: float = 1.0):
        if alpha <= 0:
            raise ArgumentError(f"{type(self).__name__}: alpha must be above 0, got {alpha}")
        self.num_classes, self.alpha = num_classes, alpha

    def __call__(self, samples: Any) -> list:
        """[images (N, C, H, W), targets (N, num_classes) float32] of samples (image, class)."""
        images, labels = (as_array(x) for x in default_collate(samples))
        if images.ndim != 4:
            raise ShapeError(
                f"{type(self).__name__}: expected images (C, H, W), got a batch {images.shape}"
            )
        targets = np.eye(self.num_classes, dtype=np.float32)[labels]
        order = np.random.permutation(len(images))
        share = float(np.random.beta(self.alpha, self.alpha))
        images, share = self._mix(images, images[order], share)
        share = np.float32(share)
        return [to_tensor(images), to_tensor(share * targets + (1 - share) * targets[order])]


class Mixup(_Mixing):
    """Weighted means of two samples; the weight is drawn from a Beta(alpha, alpha) distribution.

    Use it as collate_fn of a DataLoader; cross_entropy takes the targets, which are probabilities.

    Source: Zhang et al., "mixup: Beyond Empirical Risk Minimization" (2018).
    """

    def _mix(self, images, others, share):
        weight = images.dtype.type(share)
        return weight * images + (1 - weight) * others, share


class CutMix(_Mixing):
    """A random rectangle of each image comes from another; targets are weighted by area.

    Use it as collate_fn of a DataLoader; cross_entropy takes the targets, which are probabilities.

    Source: Yun et al., "CutMix" (2019).
    """

    def _mix(self, images, others, share):
        height, width = images.shape[2:]
        side = math.sqrt(1 - share)
        h, w = int(height * side), int(width * side)
        y, x = np.random.randint(height), np.random.randint(width)
        top, bottom = max(y - h // 2, 0), min(y + (h + 1) // 2, height)
        left, right = max(x - w // 2, 0), min(x + (w + 1) // 2, width)
        images = images.copy()
        images[:, :, top:bottom, left:right] = others[:, :, top:bottom, left:right]
        return images, 1 - (bottom - top) * (right - left) / (height * width)
