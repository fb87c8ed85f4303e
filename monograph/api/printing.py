"""How a tensor looks: PyTorch's layout, from NumPy's formatter."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..core import dtype as dt
from ..tensor import Tensor

_options: dict[str, Any] = {"precision": 4, "threshold": 1000, "edgeitems": 3, "linewidth": 80}


def set_printoptions(
    precision: int | None = None,
    threshold: int | None = None,
    edgeitems: int | None = None,
    linewidth: int | None = None,
) -> None:
    """Set how tensors print: digits, elements before summarising, edge elements, line width."""
    given = {
        "precision": precision, "threshold": threshold,
        "edgeitems": edgeitems, "linewidth": linewidth,
    }  # fmt: skip
    _options.update({k: v for k, v in given.items() if v is not None})


def _number(formatter: dict[str, Any], a: np.ndarray) -> dict[str, Any]:
    finite = a[np.isfinite(a)] if a.size else a
    digits = _options["precision"]
    if finite.size and np.all(finite == np.trunc(finite)) and np.abs(finite).max() < 1e8:
        return {"float_kind": lambda x: f"{x:.0f}." if np.isfinite(x) else str(x)}
    largest = np.abs(finite).max() if finite.size else 0
    nonzero = np.abs(finite[finite != 0]) if finite.size else finite
    smallest = nonzero.min() if nonzero.size else 1
    if largest >= 1e8 or smallest < 1e-4 or (largest / smallest) > 1e5:
        return {"float_kind": lambda x: f"{x:.{digits}e}" if np.isfinite(x) else str(x)}
    return {"float_kind": lambda x: f"{x:.{digits}f}" if np.isfinite(x) else str(x)}


def format_tensor(t: Tensor) -> str:
    """The text of `repr(t)`."""
    payload = t._value()
    if type(payload) is not np.ndarray:
        return f"tensor({payload!r})"
    a = payload
    if t.dtype in (dt.float16, dt.bfloat16):
        a = a.astype(np.float32)
    formatter: dict[str, Any] = {}
    if a.dtype.kind == "f":
        shown = a
        if a.size > _options["threshold"]:
            edge = _options["edgeitems"]
            for axis, n in enumerate(a.shape):
                if n > 2 * edge:
                    shown = np.take(shown, [*range(edge), *range(n - edge, n)], axis)
        with np.errstate(all="ignore"):
            formatter = _number(formatter, shown.astype(np.float64))
        width = max((len(formatter["float_kind"](x)) for x in shown.reshape(-1)), default=0)
        plain = formatter["float_kind"]
        formatter = {"float_kind": lambda x: plain(x).rjust(width if a.ndim else 0)}
    with np.printoptions(
        threshold=_options["threshold"],
        edgeitems=_options["edgeitems"],
        linewidth=_options["linewidth"],
    ):
        body = np.array2string(a, separator=", ", prefix="tensor(", formatter=formatter or None)
    extra = []
    if a.size == 0 and a.ndim != 1:
        extra.append(f"size={tuple(a.shape)}")
    default = (dt.get_default_dtype(), dt.int64, dt.bool_)
    if t.dtype not in default or (a.size == 0 and t.dtype is not dt.get_default_dtype()):
        extra.append(f"dtype={t.dtype!r}")
    if t._node is not None:
        extra.append(f"grad_fn={t._node!r}")
    elif t.requires_grad:
        extra.append("requires_grad=True")
    name = "tensor(" if type(t) is Tensor else "tensor("
    return name + ", ".join([body, *extra]) + ")"


Tensor.__repr__ = format_tensor  # type: ignore[method-assign, assignment]
