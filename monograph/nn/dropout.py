"""Dropout layers: zero elements or whole channels at random while training."""

from monograph.core.errors import ArgumentError
from monograph.nn import functional as F
from monograph.nn.module import Module


class _Dropout(Module):
    def __init__(self, p=0.5, inplace=False):
        super().__init__()
        if not 0 <= p <= 1:
            raise ArgumentError(f"{type(self).__name__}: p must be in [0, 1], got {p}")
        self.p = p
        self.inplace = inplace

    def _drop(self, drop, input):
        p = self.p
        return drop(input, p, self.training, self.inplace)

    def extra_repr(self):
        return f"p={self.p}, inplace={self.inplace}"


class Dropout(_Dropout):
    """In training, zero each element with probability p and divide the rest by 1 - p.

    Source: Srivastava and others, Dropout, 2014.
    """

    def forward(self, input):
        return self._drop(F.dropout, input)


class Dropout1d(_Dropout):
    """In training, zero whole channels of (N, C, L) with probability p."""

    def forward(self, input):
        return self._drop(F.dropout1d, input)


class Dropout2d(_Dropout):
    """In training, zero whole channels of (N, C, H, W) with probability p."""

    def forward(self, input):
        return self._drop(F.dropout2d, input)


class Dropout3d(_Dropout):
    """In training, zero whole channels of (N, C, D, H, W) with probability p."""

    def forward(self, input):
        return self._drop(F.dropout3d, input)


class AlphaDropout(_Dropout):
    """Dropout that keeps mean and variance of SELU activations."""

    def forward(self, input):
        return self._drop(F.alpha_dropout, input)


class FeatureAlphaDropout(_Dropout):
    """Alpha dropout of whole channels of (N, C, ...)."""

    def forward(self, input):
        return self._drop(F.feature_alpha_dropout, input)
