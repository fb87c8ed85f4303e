"""Invertible functions of random variables, with the logarithm of how much they stretch.

transform.py says what a transform is, and joins several into one.
"""

from __future__ import annotations

import math
from typing import Any

import monograph as mg
from monograph.core.errors import ShapeError
from monograph.nn import functional as F

from . import constraints
from .transform import (
    CatTransform,
    ComposeTransform,
    IndependentTransform,
    ReshapeTransform,
    StackTransform,
    Transform,
    identity_transform,
)
from .utils import broadcast_all, sum_rightmost

__all__ = [
    "AbsTransform", "AffineTransform", "CatTransform", "ComposeTransform", "CorrCholeskyTransform",
    "CumulativeDistributionTransform", "ExpTransform", "IndependentTransform",
    "LowerCholeskyTransform", "PositiveDefiniteTransform", "PowerTransform", "ReshapeTransform",
    "SigmoidTransform", "SoftmaxTransform", "SoftplusTransform", "StackTransform",
    "StickBreakingTransform", "TanhTransform", "Transform", "identity_transform",
]  # fmt: skip


class _Plain(Transform):
    """Transforms without parameters: two of a class are equal."""

    def __eq__(self, other: Any) -> bool:
        return type(self) is type(other)

    def __hash__(self) -> int:
        return hash(type(self))

    def with_cache(self, cache_size: int = 1) -> Any:
        return self if self._cache_size == cache_size else type(self)(cache_size)


class ExpTransform(_Plain):
    """y = exp(x)"""

    domain, codomain = constraints.real, constraints.positive
    bijective, sign = True, 1

    def _call(self, x: Any) -> Any:
        return x.exp()

    def _inverse(self, y: Any) -> Any:
        return y.log()

    def log_abs_det_jacobian(self, x: Any, y: Any) -> Any:
        return x


class PowerTransform(Transform):
    """y = x ** exponent for positive numbers."""

    domain = codomain = constraints.positive
    bijective = True

    def __init__(self, exponent: Any, cache_size: int = 0):
        super().__init__(cache_size)
        (self.exponent,) = broadcast_all(exponent)

    def with_cache(self, cache_size: int = 1) -> Any:
        return self if self._cache_size == cache_size else PowerTransform(self.exponent, cache_size)

    @property
    def sign(self) -> Any:
        return self.exponent.sign()

    def __eq__(self, other: Any) -> bool:
        return isinstance(other, PowerTransform) and bool((self.exponent == other.exponent).all())

    __hash__ = Transform.__hash__

    def _call(self, x: Any) -> Any:
        return x**self.exponent

    def _inverse(self, y: Any) -> Any:
        return y ** (1 / self.exponent)

    def log_abs_det_jacobian(self, x: Any, y: Any) -> Any:
        return (self.exponent * y / x).abs().log()

    def forward_shape(self, shape: Any) -> Any:
        return mg.broadcast_shapes(tuple(shape), tuple(self.exponent.shape))

    inverse_shape = forward_shape


class SigmoidTransform(_Plain):
    """y = 1 / (1 + exp(-x))"""

    domain, codomain = constraints.real, constraints.unit_interval
    bijective, sign = True, 1

    def _call(self, x: Any) -> Any:
        limits = mg.finfo(x.dtype)
        return mg.sigmoid(x).clamp(limits.tiny, 1 - limits.eps)

    def _inverse(self, y: Any) -> Any:
        limits = mg.finfo(y.dtype)
        y = y.clamp(limits.tiny, 1 - limits.eps)
        return y.log() - (-y).log1p()

    def log_abs_det_jacobian(self, x: Any, y: Any) -> Any:
        return -F.softplus(-x) - F.softplus(x)


class SoftplusTransform(_Plain):
    """y = log(1 + exp(x))"""

    domain, codomain = constraints.real, constraints.positive
    bijective, sign = True, 1

    def _call(self, x: Any) -> Any:
        return F.softplus(x)

    def _inverse(self, y: Any) -> Any:
        return (-(-y).expm1()).log() + y

    def log_abs_det_jacobian(self, x: Any, y: Any) -> Any:
        return -F.softplus(-x)


class TanhTransform(_Plain):
    """y = tanh(x)"""

    domain, codomain = constraints.real, constraints.interval(-1.0, 1.0)
    bijective, sign = True, 1

    def _call(self, x: Any) -> Any:
        return x.tanh()

    def _inverse(self, y: Any) -> Any:
        return mg.atanh(y)

    def log_abs_det_jacobian(self, x: Any, y: Any) -> Any:
        return 2 * (math.log(2) - x - F.softplus(-2 * x))


class AbsTransform(_Plain):
    """y = |x|; the inverse gives the positive one."""

    domain, codomain = constraints.real, constraints.positive

    def _call(self, x: Any) -> Any:
        return x.abs()

    def _inverse(self, y: Any) -> Any:
        return y


class AffineTransform(Transform):
    """y = loc + scale * x; event_dim dimensions of x are one event."""

    bijective = True

    def __init__(self, loc: Any, scale: Any, event_dim: int = 0, cache_size: int = 0):
        super().__init__(cache_size)
        self.loc, self.scale, self._event_dim = loc, scale, event_dim

    @property
    def event_dim(self) -> int:
        return self._event_dim

    @property
    def domain(self) -> Any:  # type: ignore[override]
        if not self._event_dim:
            return constraints.real
        return constraints.independent(constraints.real, self._event_dim)

    codomain = domain

    def with_cache(self, cache_size: int = 1) -> Any:
        if self._cache_size == cache_size:
            return self
        return AffineTransform(self.loc, self.scale, self._event_dim, cache_size)

    def __eq__(self, other: Any) -> bool:
        if not isinstance(other, AffineTransform):
            return False
        pairs = ((self.loc, other.loc), (self.scale, other.scale))
        return all(bool(mg.as_tensor(a == b).all()) for a, b in pairs)

    __hash__ = Transform.__hash__

    @property
    def sign(self) -> Any:
        if isinstance(self.scale, mg.Tensor):
            return self.scale.sign()
        return (self.scale > 0) - (self.scale < 0)

    def _call(self, x: Any) -> Any:
        return self.loc + self.scale * x

    def _inverse(self, y: Any) -> Any:
        return (y - self.loc) / self.scale

    def log_abs_det_jacobian(self, x: Any, y: Any) -> Any:
        if isinstance(self.scale, mg.Tensor):
            slope = self.scale.abs().log()
        else:
            slope = mg.full_like(x.detach(), math.log(abs(self.scale)))
        slope = slope.expand(*mg.broadcast_shapes(tuple(x.shape), tuple(slope.shape)))
        return sum_rightmost(slope, self._event_dim)

    def forward_shape(self, shape: Any) -> Any:
        given = [tuple(getattr(v, "shape", ())) for v in (self.loc, self.scale)]
        return mg.broadcast_shapes(tuple(shape), *given)

    inverse_shape = forward_shape


class SoftmaxTransform(_Plain):
    """y = softmax(x) along the last dimension; its inverse is the logarithm."""

    domain, codomain = constraints.real_vector, constraints.simplex

    def _call(self, x: Any) -> Any:
        return F.softmax(x, -1)

    def _inverse(self, y: Any) -> Any:
        return y.log()


class StickBreakingTransform(_Plain):
    """K numbers as a point of the simplex with K + 1 coordinates, each a share of what is left."""

    domain, codomain = constraints.real_vector, constraints.simplex
    bijective = True

    @staticmethod
    def _offset(x: Any) -> Any:
        """Centres the shares: log of how many pieces are still to come."""
        return mg.arange(x.shape[-1], 0, -1).to(x.dtype).log()

    def _call(self, x: Any) -> Any:
        share = SigmoidTransform()(x - self._offset(x))
        left = (1 - share).cumprod(-1)
        return F.pad(share, [0, 1], value=1.0) * F.pad(left, [1, 0], value=1.0)

    def _inverse(self, y: Any) -> Any:
        head = y[..., :-1]
        left = (1 - head.cumsum(-1)).clamp(min=mg.finfo(y.dtype).tiny)
        return head.log() - left.log() + self._offset(head)

    def log_abs_det_jacobian(self, x: Any, y: Any) -> Any:
        x = x - self._offset(x)
        return (-x + F.logsigmoid(x) + y[..., :-1].log()).sum(-1)

    def forward_shape(self, shape: Any) -> Any:
        return (*shape[:-1], shape[-1] + 1)

    def inverse_shape(self, shape: Any) -> Any:
        return (*shape[:-1], shape[-1] - 1)


class LowerCholeskyTransform(_Plain):
    """Any matrix as a lower triangle with a positive diagonal (exp of its own)."""

    domain = constraints.independent(constraints.real, 2)
    codomain = constraints.lower_cholesky

    def _call(self, x: Any) -> Any:
        return x.tril(-1) + mg.diag_embed(x.diagonal(dim1=-2, dim2=-1).exp())

    def _inverse(self, y: Any) -> Any:
        return y.tril(-1) + mg.diag_embed(y.diagonal(dim1=-2, dim2=-1).log())


class PositiveDefiniteTransform(_Plain):
    """Any matrix as a positive definite one: L times its transpose."""

    domain = constraints.independent(constraints.real, 2)
    codomain = constraints.positive_definite

    def _call(self, x: Any) -> Any:
        lower = LowerCholeskyTransform()(x)
        return lower @ lower.mT

    def _inverse(self, y: Any) -> Any:
        return LowerCholeskyTransform().inv(mg.linalg.cholesky(y))


class CorrCholeskyTransform(_Plain):
    """D (D - 1) / 2 numbers as the Cholesky factor of a D x D correlation matrix.

    Source: Lewandowski, Kurowicka, Joe, "Generating random correlation matrices based on vines and
    extended onion method", 2009.
    """

    domain, codomain = constraints.real_vector, constraints.corr_cholesky
    bijective = True

    @staticmethod
    def _size(count: int) -> int:
        return round((1 + math.sqrt(1 + 8 * count)) / 2)

    def _places(self, d: int) -> tuple[Any, Any]:
        rows, columns = mg.tril_indices(d, d, -1)
        return rows, columns

    def _call(self, x: Any) -> Any:
        eps = mg.finfo(x.dtype).eps
        d = self._size(x.shape[-1])
        rows, columns = self._places(d)
        r = x.tanh().clamp(-1 + eps, 1 - eps)
        lower = mg.zeros(*x.shape[:-1], d, d, dtype=x.dtype)
        flat = lower.reshape(*x.shape[:-1], d * d)
        place = (rows * d + columns).expand(*x.shape)
        lower = flat.scatter(-1, place, r).reshape(*x.shape[:-1], d, d)
        left = (1 - lower.square()).sqrt().cumprod(-1)
        return (lower + mg.eye(d, dtype=x.dtype)) * F.pad(left[..., :-1], [1, 0], value=1.0)

    def _inverse(self, y: Any) -> Any:
        d = y.shape[-1]
        rows, columns = self._places(d)
        left = (1 - y.square().cumsum(-1)).clamp(min=mg.finfo(y.dtype).tiny)
        left = F.pad(left[..., :-1], [1, 0], value=1.0)
        ratio = y / left.sqrt()
        place = (rows * d + columns).expand(*y.shape[:-2], -1)
        picked = ratio.reshape(*y.shape[:-2], d * d).gather(-1, place)
        return (picked.log1p() - (-picked).log1p()) / 2

    def log_abs_det_jacobian(self, x: Any, y: Any) -> Any:
        left = 1 - y.square().cumsum(-1)
        d = y.shape[-1]
        rows, columns = self._places(d)
        place = (rows * d + columns).expand(*x.shape)
        picked = left.reshape(*y.shape[:-2], d * d).gather(-1, place - 1)
        inside = mg.where(columns > 0, picked, 1.0)
        stretch = 0.5 * inside.clamp(min=mg.finfo(y.dtype).tiny).log().sum(-1)
        slope = -2 * (x + F.softplus(-2 * x) - math.log(2)).sum(-1)
        return stretch + slope

    def forward_shape(self, shape: Any) -> Any:
        d = self._size(shape[-1])
        if d * (d - 1) // 2 != shape[-1]:
            raise ShapeError(f"CorrCholeskyTransform: {shape[-1]} is not D (D - 1) / 2 for any D")
        return (*shape[:-1], d, d)

    def inverse_shape(self, shape: Any) -> Any:
        d = shape[-1]
        return (*shape[:-2], d * (d - 1) // 2)


class CumulativeDistributionTransform(Transform):
    """A variable as its distribution function's value, which is uniform."""

    bijective, codomain, sign = True, constraints.unit_interval, 1

    def __init__(self, distribution: Any, cache_size: int = 0):
        super().__init__(cache_size)
        self.distribution = distribution

    @property
    def domain(self) -> Any:  # type: ignore[override]
        return self.distribution.support

    def with_cache(self, cache_size: int = 1) -> Any:
        if self._cache_size == cache_size:
            return self
        return CumulativeDistributionTransform(self.distribution, cache_size)

    def _call(self, x: Any) -> Any:
        return self.distribution.cdf(x)

    def _inverse(self, y: Any) -> Any:
        return self.distribution.icdf(y)

    def log_abs_det_jacobian(self, x: Any, y: Any) -> Any:
        return self.distribution.log_prob(x)
