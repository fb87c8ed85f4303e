"""How a tensor looks: PyTorch's layout, element by element.

All elements of a tensor have one width and one style (plain, whole numbers with a point, or
scientific), chosen from what is shown; large tensors show their edges only.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..core import dtype as dt
from ..tensor import Tensor

_options: dict[str, Any] = {"precision": 4, "threshold": 1000, "edgeitems": 3, "linewidth": 80}
_sci_mode: list[bool | None] = [None]


def set_printoptions(
    precision: int | None = None,
    threshold: float | None = None,
    edgeitems: int | None = None,
    linewidth: int | None = None,
    profile: str | None = None,
    sci_mode: bool | None = None,
) -> None:
    """Set how tensors print: digits, elements before summarising, edge elements, line width.

    sci_mode  always (True), never (False) or where numbers differ much (None) 1.0000e+00
    """
    given = {
        "precision": precision, "threshold": threshold,
        "edgeitems": edgeitems, "linewidth": linewidth,
    }  # fmt: skip
    _options.update({k: v for k, v in given.items() if v is not None})
    _sci_mode[0] = sci_mode


def _shown(a: np.ndarray) -> np.ndarray:
    """The elements that a summary shows."""
    edge = _options["edgeitems"]
    for axis, n in enumerate(a.shape):
        if n > 2 * edge:
            a = np.take(a, [*range(edge), *range(n - edge, n)], axis)
    return a


def _style(values: list[Any]) -> tuple[Callable[[Any], str], int]:
    """(how to print one of these numbers, the width that they get)."""
    if values and isinstance(values[0], complex):
        return _complex_style(values)
    if not values or not isinstance(values[0], float):
        wide = max((len(str(v)) for v in values), default=1)
        return (lambda v: str(v).rjust(wide)), wide
    digits = _options["precision"]
    sizes = [abs(v) for v in values if v and math.isfinite(v)]
    whole = all(v == math.ceil(v) for v in sizes)
    low, high = min(sizes, default=1.0), max(sizes, default=1.0)
    scientific = high / low > 1000 or high > 1e8 or (not whole and low < 1e-4)
    if _sci_mode[0] is not None:
        scientific = _sci_mode[0]

    def text(v: float) -> str:
        if scientific:
            return f"{v:.{digits}e}"
        if whole:
            return f"{v:.0f}." if math.isfinite(v) else str(v)
        return f"{v:.{digits}f}"

    # Zeros and what is not finite do not widen the others.
    width = max((len(text(v)) for v in values if v and math.isfinite(v)), default=1)
    return (lambda v: text(v).rjust(width)), width


def _complex_style(values: list[complex]) -> tuple[Callable[[Any], str], int]:
    """Both parts, each in a style of its own: 0.5000-1.2000j."""
    real, wide = _style([v.real for v in values])
    imag, high = _style([v.imag for v in values])

    def text(v: complex) -> str:
        second = imag(v.imag).lstrip()
        return real(v.real) + ("" if second[0] == "-" else "+") + second + "j"

    return text, wide + high + 2


def _body(a: np.ndarray, style: Callable, indent: int, summary: bool, length: int) -> str:
    """Nested brackets; lines after the first start `indent` columns further right."""
    if not a.ndim:
        return style(a.item())
    edge = _options["edgeitems"]
    cut = summary and len(a) > 2 * edge
    chosen = [*range(edge), *range(len(a) - edge, len(a))] if cut else range(len(a))
    if a.ndim == 1:
        items = [style(v) for v in a[list(chosen)].tolist()]
        if cut:
            items.insert(edge, " ...")
        per_line = max(1, (_options["linewidth"] - indent) // (length + 2))
        lines = [", ".join(items[i : i + per_line]) for i in range(0, len(items), per_line)]
        return "[" + (",\n" + " " * (indent + 1)).join(lines) + "]"
    rows = [_body(a[i], style, indent + 1, summary, length) for i in chosen]
    if cut:
        rows.insert(edge, "...")
    return "[" + ("," + "\n" * (a.ndim - 1) + " " * (indent + 1)).join(rows) + "]"


def _format_meta(t: Tensor) -> str:
    dtype = "" if t.dtype is dt.get_default_dtype() else f", dtype={t.dtype}"
    return f"tensor(..., device='meta', size={tuple(t.shape)}{dtype})"


def format_tensor(t: Tensor) -> str:
    """The text of `repr(t)`."""
    payload = t._value()
    if t.is_meta:
        return _format_meta(t)
    if type(payload) is not np.ndarray:
        return f"tensor({payload!r})"
    a = payload.astype(np.float32) if t.dtype in (dt.float16, dt.bfloat16) else payload
    indent = len("tensor(")
    extra = []
    if a.size == 0:
        text = "[]"
        if a.ndim != 1:
            extra.append(f"size={tuple(a.shape)}")
    else:
        summary = a.size > _options["threshold"]
        values = (_shown(a) if summary else a).reshape(-1).tolist()
        style, width = _style(values)
        text = _body(a, style, indent, summary, width)
    d = dt.get_default_dtype()
    default = (d, d.to_complex(), dt.int64, dt.bool_)
    if t.dtype not in default or (a.size == 0 and t.dtype is not dt.get_default_dtype()):
        extra.append(f"dtype={t.dtype!r}")
    if t._node is not None:
        extra.append(f"grad_fn={t._node!r}")
    elif t.requires_grad:
        extra.append("requires_grad=True")
    text = "tensor(" + text
    column = len(text) - text.rfind("\n") - 1
    for part in extra:
        if column + len(part) + 2 > _options["linewidth"]:
            text += ",\n" + " " * indent + part
            column = indent + len(part)
        else:
            text += ", " + part
            column += len(part) + 2
    return text + ")"


Tensor.__repr__ = format_tensor  # type: ignore[method-assign, assignment]
