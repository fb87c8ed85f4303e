"""Vectors and matrices: MultivariateNormal, LowRankMultivariateNormal, Wishart, LKJCholesky."""

from __future__ import annotations

import math
from typing import Any

import monograph as mg
from monograph.core.errors import ArgumentError, ShapeError

from . import constraints
from .distribution import Distribution, ExponentialFamily
from .gamma import Beta, Chi2
from .utils import lazy_property

__all__ = ["LKJCholesky", "LowRankMultivariateNormal", "MultivariateNormal", "Wishart"]


def _diagonal(x: Any) -> Any:
    return x.diagonal(dim1=-2, dim2=-1)


def _half_log_det(lower: Any) -> Any:
    return _diagonal(lower).log().sum(-1)


def _solved(lower: Any, b: Any) -> Any:
    return mg.linalg.solve_triangular(lower, b, upper=False)


def _squared_distance(lower: Any, x: Any) -> Any:
    """|lower^-1 x|^2 for vectors x that broadcast with the matrices."""
    shape = mg.broadcast_shapes(tuple(x.shape[:-1]), tuple(lower.shape[:-2]))
    n = x.shape[-1]
    lower = lower.expand(*shape, n, n)
    return _solved(lower, x.expand(*shape, n).unsqueeze(-1)).squeeze(-1).square().sum(-1)


def _precision_to_tril(precision: Any) -> Any:
    """The lower factor of the inverse of a matrix."""
    flipped = mg.linalg.cholesky(precision.flip(-2, -1))
    upper = flipped.flip(-2, -1).mT
    n = precision.shape[-1]
    eye = mg.eye(n, dtype=precision.dtype).expand(*precision.shape)
    return _solved(upper, eye)


class _MatrixForms(Distribution):
    """One of three matrices: the covariance, its inverse, or its lower factor."""

    _forms: dict[str, Any] = {
        "covariance_matrix": constraints.positive_definite,
        "precision_matrix": constraints.positive_definite,
        "scale_tril": constraints.lower_cholesky,
    }

    def _take(self, **matrices: Any) -> Any:
        given = [n for n, v in matrices.items() if v is not None]
        if len(given) != 1:
            raise ArgumentError(
                f"{type(self).__name__}: give exactly one of {', '.join(matrices)}, "
                f"got {', '.join(given) or 'none'}"
            )
        self._form = given[0]
        value = matrices[self._form]
        if value.ndim < 2 or value.shape[-1] != value.shape[-2]:
            raise ShapeError(
                f"{type(self).__name__}: {self._form} must be square matrices, "
                f"got {tuple(value.shape)}"
            )
        return value

    def _keep(self, value: Any) -> None:
        self.__dict__[self._form] = value

    def _own_constraints(self) -> dict[str, Any]:
        own = {n: c for n, c in self.arg_constraints.items() if n not in self._forms}
        return {self._form: self._forms[self._form], **own}

    def _given(self) -> list[str]:
        return list(self._own_constraints())

    @lazy_property
    def scale_tril(self) -> Any:
        return self._lower

    @lazy_property
    def covariance_matrix(self) -> Any:
        return self._lower @ self._lower.mT

    @lazy_property
    def precision_matrix(self) -> Any:
        n = self._lower.shape[-1]
        eye = mg.eye(n, dtype=self._lower.dtype).expand(*self._lower.shape)
        inverse = _solved(self._lower, eye)
        return inverse.mT @ inverse

    @lazy_property
    def _lower(self) -> Any:
        if self._form == "scale_tril":
            return self.__dict__["scale_tril"]
        if self._form == "covariance_matrix":
            return mg.linalg.cholesky(self.__dict__["covariance_matrix"])
        return _precision_to_tril(self.__dict__["precision_matrix"])


class MultivariateNormal(_MatrixForms):
    """Normal vectors with mean `loc` (..., D) and one of three matrices (..., D, D).

    covariance_matrix, precision_matrix (its inverse) or scale_tril (its lower Cholesky factor)

    >>> MultivariateNormal(zeros(2), eye(2)).log_prob(zeros(2))
    tensor(-1.8379)
    """

    arg_constraints = {"loc": constraints.real_vector, **_MatrixForms._forms}
    support = constraints.real_vector
    has_rsample = True

    def __init__(
        self,
        loc: Any,
        covariance_matrix: Any = None,
        precision_matrix: Any = None,
        scale_tril: Any = None,
        validate_args: bool | None = None,
    ):
        if not loc.ndim:
            raise ShapeError("MultivariateNormal: loc must have at least 1 dimension")
        matrix = self._take(
            covariance_matrix=covariance_matrix, precision_matrix=precision_matrix,
            scale_tril=scale_tril,
        )  # fmt: skip
        n = loc.shape[-1]
        if matrix.shape[-1] != n:
            raise ShapeError(
                f"MultivariateNormal: loc has {n} elements, {self._form} is {tuple(matrix.shape)}"
            )
        shape = mg.broadcast_shapes(tuple(matrix.shape[:-2]), tuple(loc.shape[:-1]))
        self._keep(matrix.expand(*shape, n, n))
        self.loc = loc.expand(*shape, n)
        super().__init__(shape, (n,), validate_args=validate_args)

    @property
    def mean(self) -> Any:
        return self.loc

    mode = mean

    @property
    def variance(self) -> Any:
        return self._lower.square().sum(-1)

    def rsample(self, sample_shape: Any = ()) -> Any:
        drawn = mg.randn(self._extended_shape(sample_shape), dtype=self.loc.dtype)
        return self.loc + (self._lower @ drawn.unsqueeze(-1)).squeeze(-1)

    def log_prob(self, value: Any) -> Any:
        if self._validate_args:
            self._validate_sample(value)
        distance = _squared_distance(self._lower, value - self.loc)
        size = self.event_shape[0] * math.log(2 * math.pi)
        return -0.5 * (size + distance) - _half_log_det(self._lower)

    def entropy(self) -> Any:
        n = self.event_shape[0]
        return 0.5 * n * (1 + math.log(2 * math.pi)) + _half_log_det(self._lower)


class LowRankMultivariateNormal(Distribution):
    """Normal vectors whose covariance is cov_factor @ cov_factor.T + diag(cov_diag).

    loc (..., D), cov_factor (..., D, R), cov_diag (..., D); only R x R matrices are factored.
    Source: the Woodbury identity and the matrix determinant lemma.
    """

    arg_constraints = {
        "loc": constraints.real_vector,
        "cov_factor": constraints.independent(constraints.real, 2),
        "cov_diag": constraints.independent(constraints.positive, 1),
    }
    support = constraints.real_vector
    has_rsample = True

    def __init__(self, loc: Any, cov_factor: Any, cov_diag: Any, validate_args: bool | None = None):
        n = loc.shape[-1] if loc.ndim else 0
        if not loc.ndim or cov_factor.shape[-2:-1] != (n,) or cov_diag.shape[-1:] != (n,):
            raise ShapeError(
                f"LowRankMultivariateNormal: loc {tuple(loc.shape)}, cov_factor "
                f"{tuple(cov_factor.shape)} and cov_diag {tuple(cov_diag.shape)} must be (..., D), "
                "(..., D, R) and (..., D)"
            )
        shape = mg.broadcast_shapes(
            tuple(loc.shape[:-1]), tuple(cov_factor.shape[:-2]), tuple(cov_diag.shape[:-1])
        )
        self.loc = loc.expand(*shape, n)
        self.cov_factor = cov_factor.expand(*shape, *cov_factor.shape[-2:])
        self.cov_diag = cov_diag.expand(*shape, n)
        super().__init__(shape, (n,), validate_args=validate_args)

    @lazy_property
    def _capacitance(self) -> Any:
        """The lower factor of I + W.T D^-1 W."""
        scaled = self.cov_factor.mT / self.cov_diag.unsqueeze(-2)
        rank = self.cov_factor.shape[-1]
        return mg.linalg.cholesky(scaled @ self.cov_factor + mg.eye(rank, dtype=self.loc.dtype))

    @property
    def mean(self) -> Any:
        return self.loc

    mode = mean

    @property
    def variance(self) -> Any:
        return self.cov_factor.square().sum(-1) + self.cov_diag

    @property
    def covariance_matrix(self) -> Any:
        return self.cov_factor @ self.cov_factor.mT + mg.diag_embed(self.cov_diag)

    @property
    def scale_tril(self) -> Any:
        return mg.linalg.cholesky(self.covariance_matrix)

    @property
    def precision_matrix(self) -> Any:
        scaled = self.cov_factor.mT / self.cov_diag.unsqueeze(-2)
        half = _solved(self._capacitance, scaled)
        return mg.diag_embed(self.cov_diag.reciprocal()) - half.mT @ half

    def rsample(self, sample_shape: Any = ()) -> Any:
        shape, dtype = self._extended_shape(sample_shape), self.loc.dtype
        along = mg.randn((*shape[:-1], self.cov_factor.shape[-1]), dtype=dtype)
        own = mg.randn(shape, dtype=dtype)
        moved = (self.cov_factor @ along.unsqueeze(-1)).squeeze(-1)
        return self.loc + moved + self.cov_diag.sqrt() * own

    def log_prob(self, value: Any) -> Any:
        if self._validate_args:
            self._validate_sample(value)
        apart = value - self.loc
        scaled = apart / self.cov_diag
        inner = (self.cov_factor.mT @ scaled.unsqueeze(-1)).squeeze(-1)
        distance = (apart * scaled).sum(-1) - _squared_distance(self._capacitance, inner)
        size = self.event_shape[0] * math.log(2 * math.pi)
        return -0.5 * (size + self._log_det() + distance)

    def _log_det(self) -> Any:
        return 2 * _half_log_det(self._capacitance) + self.cov_diag.log().sum(-1)

    def entropy(self) -> Any:
        return 0.5 * (self.event_shape[0] * (1 + math.log(2 * math.pi)) + self._log_det())


class Wishart(_MatrixForms, ExponentialFamily):
    """Sums of `df` outer products of normal vectors: positive definite matrices (..., D, D).

    Sampled by Bartlett's decomposition.
    """

    arg_constraints = {"df": constraints.greater_than(0), **_MatrixForms._forms}
    support = constraints.positive_definite
    has_rsample = True

    def __init__(
        self,
        df: Any,
        covariance_matrix: Any = None,
        precision_matrix: Any = None,
        scale_tril: Any = None,
        validate_args: bool | None = None,
    ):
        matrix = self._take(
            covariance_matrix=covariance_matrix, precision_matrix=precision_matrix,
            scale_tril=scale_tril,
        )  # fmt: skip
        n = matrix.shape[-1]
        df = df if isinstance(df, mg.Tensor) else mg.tensor(float(df), dtype=matrix.dtype)
        shape = mg.broadcast_shapes(tuple(matrix.shape[:-2]), tuple(df.shape))
        self._keep(matrix.expand(*shape, n, n))
        self.df = df.expand(*shape)
        super().__init__(shape, (n, n), validate_args=validate_args)
        if self._validate_args:
            self._check("df", self.df, constraints.greater_than(n - 1))

    @property
    def mean(self) -> Any:
        return self.df[..., None, None] * self.covariance_matrix

    @property
    def mode(self) -> Any:
        factor = self.df - self.covariance_matrix.shape[-1] - 1
        factor = mg.where(factor > 0, factor, math.nan)
        return factor[..., None, None] * self.covariance_matrix

    @property
    def variance(self) -> Any:
        v = self.covariance_matrix
        d = _diagonal(v)
        return self.df[..., None, None] * (v.square() + d.unsqueeze(-1) * d.unsqueeze(-2))

    def rsample(self, sample_shape: Any = ()) -> Any:
        n = self.event_shape[0]
        shape, dtype = self._extended_shape(sample_shape), self.df.dtype
        freedom = self.df.unsqueeze(-1) - mg.arange(n, dtype=dtype)
        diagonal = Chi2(freedom, validate_args=False).rsample(sample_shape).sqrt()
        noise = mg.randn(shape, dtype=dtype).tril(-1) + mg.diag_embed(diagonal)
        lower = self._lower @ noise
        return lower @ lower.mT

    def log_prob(self, value: Any) -> Any:
        if self._validate_args:
            self._validate_sample(value)
        n, nu = self.event_shape[0], self.df
        shape = mg.broadcast_shapes(tuple(value.shape[:-2]), tuple(self.batch_shape))
        lower = self._lower.expand(*shape, n, n)
        solved = mg.cholesky_solve(value.expand(*shape, n, n), lower)
        trace = _diagonal(solved).sum(-1)
        constant = nu * (n * math.log(2) / 2 + _half_log_det(self._lower))
        constant = constant + mg.special.multigammaln(nu / 2, n)
        return 0.5 * (nu - n - 1) * mg.linalg.slogdet(value)[1] - 0.5 * trace - constant

    def entropy(self) -> Any:
        n, nu = self.event_shape[0], self.df
        halves = nu.unsqueeze(-1) / 2 - 0.5 * mg.arange(n, dtype=nu.dtype)
        log_det = 2 * _half_log_det(self._lower) + n * math.log(2)
        found = (n + 1) / 2 * log_det + mg.special.multigammaln(nu / 2, n) + nu * n / 2
        return found - (nu - n - 1) / 2 * mg.digamma(halves).sum(-1)


class LKJCholesky(Distribution):
    """Cholesky factors of correlation matrices, whose density is in proportion to det ** (c - 1).

    dim  size of the matrices, at least 2; concentration c 1 makes all alike

    Source: Lewandowski, Kurowicka, Joe, "Generating random correlation matrices based on vines and
    extended onion method", 2009.
    """

    arg_constraints = {"concentration": constraints.positive}
    support = constraints.corr_cholesky

    def __init__(self, dim: int, concentration: Any = 1.0, validate_args: bool | None = None):
        if dim < 2:
            raise ArgumentError(f"LKJCholesky: dim must be at least 2, got {dim}")
        if not isinstance(concentration, mg.Tensor):
            concentration = mg.tensor(float(concentration))
        self.dim, self.concentration = dim, concentration
        marginal = concentration.unsqueeze(-1) + 0.5 * (dim - 2)
        offset = 0.5 * mg.arange(dim - 1, dtype=concentration.dtype)
        self._beta = Beta(offset + 0.5, marginal - offset, validate_args=False)
        super().__init__(concentration.shape, (dim, dim), validate_args=validate_args)

    def _given(self) -> list[str]:
        return ["dim", "concentration"]

    def sample(self, sample_shape: Any = ()) -> Any:
        with mg.no_grad():
            shape, dtype = self._extended_shape(sample_shape), self.concentration.dtype
            y = self._beta.sample(sample_shape).unsqueeze(-1)
            y = mg.cat([mg.zeros_like(y[..., :1, :]), y], -2)
            normal = mg.randn(shape, dtype=dtype).tril(-1)
            sizes = normal.square().sum(-1, keepdim=True).sqrt()
            direction = mg.where(sizes > 0, normal / sizes.clamp(min=1e-30), 0.0)
            w = y.sqrt() * direction
            rest = (1 - w.square().sum(-1)).clamp(min=mg.finfo(dtype).tiny).sqrt()
            return w + mg.diag_embed(rest)

    def log_prob(self, value: Any) -> Any:
        if self._validate_args:
            self._validate_sample(value)
        diagonal = _diagonal(value)[..., 1:]
        c, n = self.concentration, self.dim
        order = 2 * (c - 1).unsqueeze(-1) + n - mg.arange(2, n + 1, dtype=c.dtype)
        found = (order * diagonal.log()).sum(-1)
        alpha = c + 0.5 * (n - 1)
        top = mg.lgamma(alpha) * (n - 1)
        bottom = mg.special.multigammaln(alpha - 0.5, n - 1)
        return found - (0.5 * (n - 1) * math.log(math.pi) + bottom - top)
