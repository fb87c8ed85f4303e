"""Sets of values that parameters and outcomes come from, with PyTorch's names.

`constraint.check(value)` gives a bool tensor, one element for each event of `value`.
"""

from __future__ import annotations

from typing import Any

import monograph as mg

__all__ = [
    "Constraint", "boolean", "cat", "corr_cholesky", "dependent", "dependent_property",
    "greater_than", "greater_than_eq", "half_open_interval", "independent", "integer_interval",
    "interval", "is_dependent", "less_than", "lower_cholesky", "lower_triangular", "multinomial",
    "nonnegative", "nonnegative_integer", "one_hot", "positive", "positive_definite",
    "positive_integer", "positive_semidefinite", "real", "real_vector", "simplex", "square",
    "stack", "symmetric", "unit_interval",
]  # fmt: skip


class Constraint:
    """A set. is_discrete: its elements are whole numbers; event_dim: dimensions of an element."""

    is_discrete = False
    event_dim = 0
    takes_arrays = False  # whether check() takes NumPy arrays, too, and gives one

    def check(self, value: Any) -> Any:
        """Whether each event of `value` is in the set."""
        raise NotImplementedError(f"{type(self).__name__}.check is not defined")

    def __repr__(self) -> str:
        return type(self).__name__[1:] + "()"


class _Dependent(Constraint):
    """A set that depends on other values; it cannot be checked by itself."""

    def __init__(self, *, is_discrete: bool = False, event_dim: int = 0):
        self.is_discrete, self.event_dim = is_discrete, event_dim

    def check(self, x: Any) -> Any:
        raise ValueError("a dependent constraint cannot be checked by itself")

    def __call__(self, *, is_discrete: bool = False, event_dim: int = 0) -> _Dependent:
        return _Dependent(is_discrete=is_discrete, event_dim=event_dim)


class dependent_property(property, _Dependent):
    """A property that gives a constraint: a support that depends on parameters."""

    def __init__(self, fn: Any = None, *, is_discrete: bool = False, event_dim: int = 0):
        property.__init__(self, fn)
        _Dependent.__init__(self, is_discrete=is_discrete, event_dim=event_dim)

    def __call__(self, fn: Any) -> Any:  # type: ignore[override]
        return dependent_property(fn, is_discrete=self.is_discrete, event_dim=self.event_dim)


def is_dependent(constraint: Any) -> bool:
    """Whether a constraint cannot be checked by itself."""
    return isinstance(constraint, _Dependent)


class _Boolean(Constraint):
    is_discrete = True
    takes_arrays = True

    def check(self, value: Any) -> Any:
        return (value == 0) | (value == 1)


class _OneHot(Constraint):
    is_discrete, event_dim = True, 1
    takes_arrays = True

    def check(self, value: Any) -> Any:
        return ((value == 0) | (value == 1)).all(-1) & (value.sum(-1) == 1)


class _Real(Constraint):
    takes_arrays = True

    def check(self, value: Any) -> Any:
        return value == value  # no nan


class _Bounded(Constraint):
    """Values between two bounds (None: none), which belong to the set or not."""

    closed = (True, True)

    def __init__(self, lower_bound: Any = None, upper_bound: Any = None):
        self.lower_bound, self.upper_bound = lower_bound, upper_bound
        bounds = lower_bound, upper_bound
        self.takes_arrays = all(b is None or isinstance(b, (int, float)) for b in bounds)

    def check(self, value: Any) -> Any:
        good = value == value
        if self.lower_bound is not None:
            above = value >= self.lower_bound if self.closed[0] else value > self.lower_bound
            good = good & above
        if self.upper_bound is not None:
            below = value <= self.upper_bound if self.closed[1] else value < self.upper_bound
            good = good & below
        if self.is_discrete:
            good = good & (value % 1 == 0)
        return good

    def __repr__(self) -> str:
        names = ("lower_bound", "upper_bound")
        given = [f"{n}={getattr(self, n)}" for n in names if getattr(self, n) is not None]
        return f"{type(self).__name__[1:]}({', '.join(given)})"


class _Interval(_Bounded):
    pass


class _HalfOpenInterval(_Bounded):
    closed = (True, False)


class _IntegerInterval(_Bounded):
    is_discrete = True


class _IntegerGreaterThan(_Bounded):
    is_discrete = True


class _GreaterThan(_Bounded):
    closed = (False, False)


class _GreaterThanEq(_Bounded):
    pass


class _LessThan(_Bounded):
    closed = (False, False)

    def __init__(self, upper_bound: Any):
        super().__init__(None, upper_bound)


class _Simplex(Constraint):
    event_dim = 1
    takes_arrays = True

    def check(self, value: Any) -> Any:
        return (value >= 0).all(-1) & (abs(value.sum(-1) - 1) < 1e-6)


class _Multinomial(Constraint):
    """Counts that sum to upper_bound."""

    is_discrete, event_dim = True, 1

    def __init__(self, upper_bound: Any):
        self.upper_bound = upper_bound

    def check(self, x: Any) -> Any:
        return (x >= 0).all(-1) & (x.sum(-1) <= self.upper_bound)


class _LowerTriangular(Constraint):
    event_dim = 2

    def check(self, value: Any) -> Any:
        return (value.tril() == value).flatten(-2).all(-1)


class _LowerCholesky(_LowerTriangular):
    def check(self, value: Any) -> Any:
        return super().check(value) & (value.diagonal(dim1=-2, dim2=-1) > 0).all(-1)


class _CorrCholesky(_LowerCholesky):
    def check(self, value: Any) -> Any:
        tolerance = mg.finfo(value.dtype).eps * value.shape[-1] * 10
        rows = (value * value).sum(-1)
        return super().check(value) & ((rows - 1).abs() <= tolerance).all(-1)


class _Square(Constraint):
    event_dim = 2

    def check(self, value: Any) -> Any:
        return mg.full(tuple(value.shape[:-2]), value.shape[-2] == value.shape[-1])


class _Symmetric(_Square):
    def check(self, value: Any) -> Any:
        good = super().check(value)
        if value.shape[-2] != value.shape[-1]:
            return good
        return mg.isclose(value, value.mT, atol=1e-6).all(-2).all(-1)


class _PositiveSemidefinite(_Symmetric):
    def check(self, value: Any) -> Any:
        good = super().check(value)
        return good & (mg.linalg.eigvalsh(value) >= 0).all(-1) if good.all() else good


class _PositiveDefinite(_Symmetric):
    def check(self, value: Any) -> Any:
        good = super().check(value)
        return good & (mg.linalg.cholesky_ex(value).info == 0) if good.all() else good


class _Independent(Constraint):
    """base_constraint with some more dimensions in an event, all of whose parts must fit."""

    def __init__(self, base_constraint: Constraint, reinterpreted_batch_ndims: int):
        self.base_constraint = base_constraint
        self.reinterpreted_batch_ndims = reinterpreted_batch_ndims
        self.is_discrete = base_constraint.is_discrete
        self.takes_arrays = base_constraint.takes_arrays
        self.event_dim = base_constraint.event_dim + reinterpreted_batch_ndims

    def check(self, value: Any) -> Any:
        good = self.base_constraint.check(value)
        n = self.reinterpreted_batch_ndims
        if good.ndim < n:
            raise ValueError(f"expected a value of at least {self.event_dim} dimensions")
        return good.reshape(*good.shape[: good.ndim - n], -1).all(-1) if n else good

    def __repr__(self) -> str:
        return f"Independent({self.base_constraint!r}, {self.reinterpreted_batch_ndims})"


class _Cat(Constraint):
    """Parts of a value along `dim`, each with its constraint."""

    def __init__(self, cseq: Any, dim: int = 0, lengths: Any = None):
        self.cseq = list(cseq)
        self.lengths = [1] * len(self.cseq) if lengths is None else list(lengths)
        self.dim = dim
        self.is_discrete = any(c.is_discrete for c in self.cseq)
        self.event_dim = max(c.event_dim for c in self.cseq)

    def check(self, value: Any) -> Any:
        parts = value.split(self.lengths, self.dim)
        return mg.cat([c.check(part) for c, part in zip(self.cseq, parts)], self.dim)


class _Stack(Constraint):
    """Slices of a value along `dim`, each with its constraint."""

    def __init__(self, cseq: Any, dim: int = 0):
        self.cseq, self.dim = list(cseq), dim
        self.is_discrete = any(c.is_discrete for c in self.cseq)
        self.event_dim = max(c.event_dim for c in self.cseq) + (dim < 0)

    def check(self, value: Any) -> Any:
        parts = value.unbind(self.dim)
        return mg.stack([c.check(part) for c, part in zip(self.cseq, parts)], self.dim)


dependent = _Dependent()
boolean, one_hot = _Boolean(), _OneHot()
nonnegative_integer, positive_integer = _IntegerGreaterThan(0), _IntegerGreaterThan(1)
integer_interval, interval, half_open_interval = _IntegerInterval, _Interval, _HalfOpenInterval
real, real_vector = _Real(), _Independent(_Real(), 1)
positive, nonnegative = _GreaterThan(0.0), _GreaterThanEq(0.0)
greater_than, greater_than_eq, less_than = _GreaterThan, _GreaterThanEq, _LessThan
multinomial, unit_interval, simplex = _Multinomial, _Interval(0.0, 1.0), _Simplex()
lower_triangular, lower_cholesky = _LowerTriangular(), _LowerCholesky()
corr_cholesky, square, symmetric = _CorrCholesky(), _Square(), _Symmetric()
positive_semidefinite, positive_definite = _PositiveSemidefinite(), _PositiveDefinite()
independent, cat, stack = _Independent, _Cat, _Stack
