"""The 8x8 digits that come with scikit-learn: real data without a download.

Source: E. Alpaydin, C. Kaynak, "Optical Recognition of Handwritten Digits", UCI, 1998.
"""

from __future__ import annotations

import numpy as np

from ..core.errors import DataError
from .arrays import to_tensor
from .dataset import TensorDataset
from .randomness import Stream

_TRAIN_SIZE = 1437


class Digits(TensorDataset):
    """1,797 handwritten digits: 1,437 for training and 360 for testing.

    train   the training samples (True) or the test samples: a random choice, always the same
    flat    images as (64,) instead of (1, 8, 8)

    A sample is (image, label): float32 in [0, 1] and int64 in 0 .. 9. Needs scikit-learn;
    DataError if it is not installed.
    """

    classes = [str(digit) for digit in range(10)]

    def __init__(self, train: bool = True, flat: bool = False):
        try:
            from sklearn.datasets import load_digits
        except ImportError:
            raise DataError(
                "Digits: the samples come with scikit-learn, which is not installed",
                hint="pip install 'monograph[demo]'",
            ) from None
        digits = load_digits()
        # Chosen at random, for the file repeats 0, 1, 2, ... 9 and goes from writer to writer.
        order = Stream(0).permutation(len(digits.target))
        chosen = np.sort(order[:_TRAIN_SIZE] if train else order[_TRAIN_SIZE:])
        images = (digits.images[chosen] / 16.0).astype(np.float32)
        images = images.reshape(len(images), -1) if flat else images[:, None]
        super().__init__(
            to_tensor(np.ascontiguousarray(images)),
            to_tensor(digits.target[chosen].astype(np.int64)),
        )
