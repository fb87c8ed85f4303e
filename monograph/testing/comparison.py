"""assert_close with tolerances from the dtype, and raises_message for whole error messages."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from ..core import dtype as dt
from ..core.errors import render
from ..ir.op import is_value

# (rtol, atol), as torch.testing.assert_close; other dtypes must be equal.
TOLERANCES = {
    dt.float16: (1e-3, 1e-5),
    dt.bfloat16: (1.6e-2, 1e-5),
    dt.float32: (1.3e-6, 1e-5),
    dt.float64: (1e-7, 1e-7),
    dt.complex64: (1.3e-6, 1e-5),
    dt.complex128: (1e-7, 1e-7),
}


def as_numpy(x: Any) -> np.ndarray:
    """A tensor (of this package or torch's), array or number as an array."""
    if hasattr(x, "detach"):
        x = x.detach()
        if "bfloat16" in str(x.dtype):
            return np.asarray(x.float().numpy()).astype(dt.bfloat16.numpy)
        return x.numpy()
    return np.asarray(x)


def assert_close(
    actual: Any,
    expected: Any,
    *,
    rtol: float | None = None,
    atol: float | None = None,
    equal_nan: bool = False,
    allow_subclasses: bool = True,
    check_device: bool = True,
    check_dtype: bool = True,
    check_layout: bool = True,
    check_stride: bool = False,
    msg: str | Callable[[str], str] | None = None,
) -> None:
    """AssertionError unless |actual - expected| <= atol + rtol * |expected| everywhere.

    Tensors, arrays, numbers, or equal structures of them. Shapes must be equal, dtypes too unless
    check_dtype is False. rtol and atol (both or none) default to what the dtype allows.

    allow_subclasses  False: types must be equal, too
    check_stride      strides must be equal, too
    check_device, check_layout
                      accepted: there is one device, and tensors are dense
    msg               what the error begins with, or a function of its text that gives another

    >>> assert_close(tensor([1.0]), tensor([1.0 + 1e-7]))
    """
    if (rtol is None) != (atol is None):
        raise ValueError("assert_close: give both rtol and atol, or none")
    options: Any = dict(
        rtol=rtol, atol=atol, equal_nan=equal_nan, check_dtype=check_dtype,
        check_stride=check_stride, allow_subclasses=allow_subclasses,
    )  # fmt: skip
    try:
        _compare_all(actual, expected, options)
    except AssertionError as error:
        if msg is None:
            raise
        text = f"{msg}: {error}" if isinstance(msg, str) else msg(str(error))
        raise AssertionError(text) from None


def _compare_all(actual: Any, expected: Any, options: Any) -> None:
    if isinstance(actual, Mapping) and isinstance(expected, Mapping):
        if actual.keys() != expected.keys():
            raise AssertionError(f"keys differ: {sorted(actual)} and {sorted(expected)}")
        for key in actual:
            _within(f"[{key!r}]", actual[key], expected[key], options)
    elif _is_sequence(actual) and _is_sequence(expected):
        if len(actual) != len(expected):
            raise AssertionError(f"lengths differ: {len(actual)} and {len(expected)}")
        for i, pair in enumerate(zip(actual, expected)):
            _within(f"[{i}]", *pair, options)
    else:
        _compare(actual, expected, **options)


def _is_sequence(x: Any) -> bool:
    return isinstance(x, Sequence) and not isinstance(x, str)


def _within(place: str, actual: Any, expected: Any, options: Any) -> None:
    try:
        _compare_all(actual, expected, options)
    except AssertionError as error:
        raise AssertionError(f"at {place}: {error}") from None


def _compare(
    actual: Any, expected: Any, rtol: Any, atol: Any, equal_nan: bool, check_dtype: bool,
    check_stride: bool, allow_subclasses: bool,
) -> None:  # fmt: skip
    if not allow_subclasses and type(actual) is not type(expected):
        raise AssertionError(f"types differ: {type(actual).__name__}, {type(expected).__name__}")
    a, e = as_numpy(actual), as_numpy(expected)
    if a.shape != e.shape:
        raise AssertionError(f"shapes differ: {a.shape} and {e.shape}")
    both = is_value(actual) and is_value(expected)
    if check_dtype and both and a.dtype != e.dtype:
        raise AssertionError(f"dtypes differ: {a.dtype} and {e.dtype}")
    if check_stride and both and actual.stride() != expected.stride():
        raise AssertionError(f"strides differ: {actual.stride()} and {expected.stride()}")
    if rtol is None:
        known = [TOLERANCES.get(dt.BY_NUMPY.get(x.dtype), (0.0, 0.0)) for x in (a, e)]  # type: ignore[arg-type]
        rtol, atol = (max(pair) for pair in zip(*known))
    if {a.dtype.kind, e.dtype.kind} <= set("iub"):
        good = a == e
        gap = np.abs(a.astype(object) - e.astype(object)) if not good.all() else np.zeros(a.shape)
    else:
        wide: Any = np.complex128 if "c" in (a.dtype.kind, e.dtype.kind) else np.float64
        a, e = a.astype(wide), e.astype(wide)
        with np.errstate(all="ignore"):
            gap = np.abs(a - e)
            good = (a == e) | (gap <= atol + rtol * np.abs(e)) & np.isfinite(e)
        if equal_nan:
            good |= np.isnan(a) & np.isnan(e)
    if good.all():
        return
    where = np.unravel_index(int(np.argmin(good)), good.shape) if good.shape else ()
    worst = np.max(np.where(good, 0, gap.astype(np.float64)))
    raise AssertionError(
        f"{good.size - int(good.sum())} of {good.size} elements differ; the largest gap "
        f"is {worst:.6g}; first at {tuple(int(i) for i in where)}: got {a[where]!r}, expected "
        f"{e[where]!r} (rtol {rtol:g}, atol {atol:g})"
    )


@contextmanager
def raises_message(error: type[BaseException], text: str) -> Iterator[None]:
    """The body must raise exactly `error` with this message and hint; the "at ..." line is free.

    Line breaks and indentation of `text` do not count, except before "hint:".
    """
    try:
        yield
    except BaseException as raised:
        if type(raised) is not error:
            raise
        lines = render(raised).splitlines()
        got = " ".join(line for line in lines if not line.startswith("  at "))
        expected = f"{error.__name__}: {inspect.cleandoc(text)}"
        assert " ".join(got.split()) == " ".join(expected.split()), (
            f"the message differs\n  got:      {' '.join(got.split())}\n"
            f"  expected: {' '.join(expected.split())}"
        )
        return
    raise AssertionError(f"{error.__name__} was not raised")
