"""Two ops that the others are written with: conversion and choice."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..core import dtype as dt
from ..core.dtype import DType
from ..core.errors import DTypeError
from ..ir.op import Aval, Elementwise, is_value, op


@op
class Cast(Elementwise):
    """Convert to another dtype. Floats to ints truncate; nan and what does not fit is undefined.

    Of complex numbers a real dtype keeps the real part.
    """

    has_long_vjp = False
    dtype: DType
    saves = "none"
    onnx = "Cast"

    def result(self, *dtypes: DType) -> DType:
        return self.dtype

    def reference(self, x: Any) -> Any:
        if x.dtype.kind == "c" and self.dtype.category < dt.COMPLEX and self.dtype is not dt.bool_:
            x = x.real
        return x.astype(self.dtype.numpy)

    def vjp(self, g: Any, out: Any, x: Any) -> tuple[Any, ...]:
        if not x.dtype.is_inexact:
            return (None,)
        return (Cast(x.dtype)(g),)

    def scalar(self, s: Any, x: Any) -> Any:
        code = self.dtype.code
        if code == "bool":
            return s.ne(x, 0)
        rounded = s.cast(x, code)
        return s.cast(rounded, "f32") if code in ("f16", "bf16") else rounded


@op
class Where(Elementwise):
    """x where the condition is true, else y."""

    saves, reads = "inputs", ((), (0,), (0,))
    onnx = "Where"

    def result(self, *dtypes: DType) -> DType:
        return dtypes[1]

    def infer(self, cond: Any, x: Any, y: Any) -> Aval:
        aval = super().infer(cond, x, y)
        if cond.dtype.category or not (is_value(x) or is_value(y)):
            raise DTypeError(f"where: needs a bool condition and a value, got {cond.dtype.name}")
        return aval

    def reference(self, cond: Any, x: Any, y: Any) -> Any:
        return np.where(cond, x, y)

    def vjp(self, g: Any, out: Any, cond: Any, x: Any, y: Any) -> tuple[Any, ...]:
        return None, (lambda: Where()(cond, g, 0)), (lambda: Where()(cond, 0, g))

    def scalar(self, s: Any, cond: Any, x: Any, y: Any) -> Any:
        return s.select(cond, x, y)
