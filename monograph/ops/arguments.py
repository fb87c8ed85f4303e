"""What public functions share: errors that name the wrong argument, and `out=`.

Both are looked at only after a call failed, so that others pay nothing for them.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from ..core.errors import ArgumentTypeError, GradError, MonographError
from ..core.modes import modes
from ..core.shape import NoAxes
from ..ir.op import is_value

# Parameters that are tensors wherever they occur.
TENSORS = {
    "input", "tensor", "index", "indices", "src", "source", "mask", "weight", "target", "condition",
    "boundaries", "elements", "tensor1", "tensor2", "mat1", "mat2", "mat", "vec", "vec2", "query",
    "key", "value",
}  # fmt: skip
SEQUENCES = {"tensors"}  # these are tuples or lists of tensors
NUMPY_NAMES = {"axis": "dim", "keepdims": "keepdim"}  # taken in the place of PyTorch's


# Per function: other names of arguments -> ours. The array API standard's, or PyTorch's.
OTHER_NAMES: dict[str, dict[str, str]] = {
    "broadcast_to": {"size": "shape"}, "roll": {"shifts": "shift", "axis": "dims"},
    "flip": {"axis": "dims"}, "tensordot": {"axes": "dims"}, "tril": {"k": "diagonal"},
    "triu": {"k": "diagonal"}, "split": {"split_size": "split_size_or_sections"},
    "dot": {"tensor": "other"}, "swapaxes": {"axis0": "dim0", "axis1": "dim1"},
    "isin": {"element": "elements", "test_element": "test_elements"},
}  # fmt: skip
for _name in ("hsplit", "vsplit", "dsplit", "tensor_split"):
    OTHER_NAMES[_name] = dict.fromkeys(
        ("sections", "indices", "tensor_indices_or_sections"), "indices_or_sections"
    )


# What PyTorch's losses take after their positional arguments here; those
# of the others: `_positions`.
_POSITIONS = {
    "cross_entropy": ("size_average", "ignore_index", "reduce", "reduction", "label_smoothing"),
    "nll_loss": ("size_average", "ignore_index", "reduce", "reduction"),
    "poisson_nll_loss": ("size_average", "eps", "reduce", "reduction"),
    "gaussian_nll_loss": ("eps", "reduction"),
    "huber_loss": ("reduction", "delta", "weight"),
}


def _positions(function: str, keyword_only: tuple[str, ...]) -> tuple[str, ...]:
    """The names of a loss's further positional arguments."""
    rest = tuple(n for n in keyword_only if n != "reduction")
    return _POSITIONS.get(function) or ("size_average", "reduce", "reduction", *rest)


def older_reduction(size_average: Any, reduce: Any, reduction: str) -> str:
    """What a loss's `reduction` is where PyTorch's older arguments (None: not given) may decide."""
    if size_average is None and reduce is None:
        return reduction
    if reduce is not None and not reduce:
        return "none"
    return "mean" if size_average is None or size_average else "sum"


def both_names(**names: str) -> Callable:
    """A decorator: other names of arguments are taken, too."""

    def decorate(f: Callable) -> Callable:
        OTHER_NAMES[f.__name__] = names
        return explained(f, always=True)

    return decorate


class _Signature(inspect.Signature):
    """A function's signature with the other names of its arguments, read when it is asked for."""

    __slots__ = ("_of", "_names")

    def __init__(self, f: Callable, names: dict[str, str]):
        self._of, self._names = f, names

    def _read(self) -> inspect.Signature:
        own = inspect.signature(self._of)
        found = dict(own.parameters)
        rest = [p for p in found.values() if p.kind is p.VAR_KEYWORD]
        shown = [p for p in found.values() if p.kind is not p.VAR_KEYWORD]
        for other, name in self._names.items():
            if name in found and other not in found:
                p = found[name]
                default = None if p.default is p.empty else p.default
                shown.append(p.replace(name=other, kind=p.KEYWORD_ONLY, default=default))
        return inspect.Signature([*shown, *rest], return_annotation=own.return_annotation)

    @property
    def parameters(self) -> Any:
        return self._read().parameters

    @property
    def return_annotation(self) -> Any:
        return self._read().return_annotation


def explained(f: Callable, always: bool = False) -> Callable:
    """f, whose TypeError or AttributeError about a wrong argument names that argument.

    It takes NumPy's `axis` and `keepdims` for `dim` and `keepdim`; a loss's older `size_average`
    and `reduce`, and its options by position; and `out`, a tensor (or several) to write the result
    into, unless f has its own. A function without such arguments is f itself, unless `always`.
    """
    code = inspect.unwrap(f).__code__  # inspect.signature takes as long as importing half of ops/
    names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    all_names = set(names)
    others = NUMPY_NAMES | OTHER_NAMES.get(f.__name__, {})
    checks = [(i, n, False) for i, n in enumerate(names) if n in TENSORS or n in SEQUENCES]
    if code.co_flags & inspect.CO_VARARGS:
        n = code.co_varnames[len(names)]
        if n in TENSORS or n in SEQUENCES:
            checks.append((code.co_argcount, n, True))
    if not checks and not always and f.__name__ not in OTHER_NAMES:
        return f

    @functools.wraps(f)
    def checked(*args: Any, **kwargs: Any) -> Any:
        try:
            return f(*args, **kwargs)
        except (AttributeError, TypeError) as error:
            if isinstance(error, MonographError):
                raise
            if "out" in kwargs and "out" not in names:
                out = kwargs.pop("out")
                result = checked(*args, **kwargs)
                return result if out is None else written(f.__name__, out, result)
            count = code.co_argcount
            if "reduction" in names[count:] and len(args) > count:
                later = dict(zip(_positions(f.__name__, names[count:]), args[count:]))
                if len(later) == len(args) - count and not later.keys() & kwargs.keys():
                    return checked(*args[:count], **later, **kwargs)
            if "reduction" in names and ("size_average" in kwargs or "reduce" in kwargs):
                older = kwargs.pop("size_average", None), kwargs.pop("reduce", None)
                reduction = older_reduction(*older, kwargs.pop("reduction", "mean"))
                return checked(*args, **kwargs, reduction=reduction)
            ours = {others.get(k, k) if k not in names else k: v for k, v in kwargs.items()}
            axis = kwargs.get("axis")
            if isinstance(axis, tuple) and not axis and "axis" not in names:
                ours[others["axis"]] = NoAxes()
            if (
                len(ours) == len(kwargs)
                and ours.keys() != kwargs.keys()
                and ours.keys() <= all_names
            ):
                return checked(*args, **ours)
            for i, name, several in checks:
                given = args[i:] if several else args[i : i + 1]
                if name in kwargs:
                    given = (kwargs[name],)
                default = inspect.signature(f).parameters[name].default
                for x in given:
                    _blame(f.__name__, name, several, x, default, error)
            raise

    checked.__dict__["is_explained"] = True
    checked.__dict__["__signature__"] = _Signature(f, others)
    return checked


def _blame(function: str, name: str, several: bool, x: Any, default: Any, error: Exception) -> None:
    """ArgumentTypeError if x is not what the parameter takes."""
    if name in SEQUENCES and not several:
        items = x if isinstance(x, (tuple, list)) else None
        if items is None:
            raise ArgumentTypeError(
                f"{function}: {name} must be a tuple or list of tensors, got {type(x).__name__}"
            ) from error
        for k, item in enumerate(items):
            if not is_value(item):
                raise ArgumentTypeError(
                    f"{function}: {name}[{k}] must be a tensor, got {type(item).__name__}"
                ) from error
    elif not is_value(x) and x is not default:
        raise ArgumentTypeError(
            f"{function}: {name} must be a tensor, got {type(x).__name__}"
        ) from error


def written(name: str, out: Any, result: Any) -> Any:
    """`out` with the result in it: PyTorch's out=. An empty tensor takes the result's shape.

    GradError where a gradient would be lost; ShapeError and DTypeError where it does not fit.
    """
    if isinstance(result, tuple):
        if not isinstance(out, (tuple, list)) or len(out) != len(result):
            raise ArgumentTypeError(f"{name}: out must be {len(result)} tensors")
        made = [written(name, o, r) for o, r in zip(out, result)]
        return type(result)(*made) if hasattr(result, "_fields") else tuple(made)
    if not is_value(out) or not hasattr(out, "_write"):
        raise ArgumentTypeError(f"{name}: out must be a tensor, got {type(out).__name__}")
    if modes.grad and (out.requires_grad or result.requires_grad):
        raise GradError(
            f"{name}: no gradient passes through out=, and one is wanted here",
            hint="leave out= away, or call it under no_grad()",
        )
    if 0 in out.shape and tuple(out.shape) != tuple(result.shape):
        out.data = result.to(out.dtype)
        return out
    return out._write(result, name)
