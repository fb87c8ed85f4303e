"""Attach to Tensor: operators, the functions that are also methods, and their in-place forms."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..core import dtype as dt
from ..core.device import META_DEVICE, device, usable
from ..core.dtype import DType, as_dtype
from ..core.errors import ShapeError
from ..core.modes import modes, no_grad
from ..core.shape import broadcast_shapes, is_number
from ..ir import dispatch
from ..ops import arith, composite
from ..ops.align import FUNCTIONAL, FUNCTIONS, broadcast_to, cast
from ..tensor import Tensor, wrap
from ..transform import replay, vmap
from ..transform.meta import no_elements
from ..transform.tape import keep_saved, next_number
from . import batched, compiled, composites, interpreter, quick
from .creation import as_tensor
from .meta import on_meta

# Functions whose first argument is not a tensor, or that PyTorch has as functions only.
NOT_METHODS = {
    "cat", "concat", "concatenate", "stack", "hstack", "vstack", "dstack", "meshgrid", "einsum",
    "broadcast_tensors", "tensordot", "searchsorted", "cartesian_prod", "combinations",
    "block_diag", "chain_matmul", "cdist", "cosine_similarity", "pairwise_distance", "complex",
    "polar", "view_as_real", "view_as_complex",
}  # fmt: skip

# Methods with an in-place twin `name_`: computed out of place, then written (Tensor._write).
IN_PLACE = """
add sub mul div pow neg abs sign exp log log1p expm1 sqrt rsqrt sin cos tan tanh sigmoid erf
floor ceil round trunc clamp clamp_min clamp_max relu reciprocal square lerp addcmul addcdiv
remainder floor_divide fmod masked_fill scatter scatter_add index_add index_fill index_copy
index_put logical_and logical_or logical_xor logical_not bitwise_and bitwise_or bitwise_xor
bitwise_not eq ne lt le gt ge atan2 tril triu cumsum cumprod addmm addmv addr addbmm baddbmm
nan_to_num
scatter_reduce masked_scatter sinh cosh asin acos atan asinh acosh atanh exp2 log2 log10 frac
hypot maximum minimum put absolute conj_physical
arccos arccosh arcsin arcsinh arctan arctan2 arctanh
gcd lcm i0 igamma igammac nextafter
bitwise_left_shift bitwise_right_shift index_reduce mvlgamma polygamma
clip copysign deg2rad digamma divide erfc erfinv fix
float_power greater greater_equal heaviside ldexp less less_equal lgamma logit multiply negative
not_equal rad2deg renorm sgn sinc subtract true_divide xlogy
""".split()


# What functions with options are without them.
_PLAIN = {"add": arith.add_, "sub": arith.sub_, "div": arith.div_}


def _operator(function: Callable, swap: bool = False) -> Callable:
    plain = getattr(_PLAIN.get(function.__name__, function), "quick", None)
    quick = plain[0] if plain is not None else lambda x, y: None

    def method(self: Tensor, other: Any) -> Any:
        made = quick(other, self) if swap else quick(self, other)
        if made is not None:
            return made
        if not isinstance(other, Tensor) and not is_number(other):
            if not hasattr(other, "__array__"):
                return NotImplemented
            other = as_tensor(other)
        return function(other, self) if swap else function(self, other)

    return method


def _in_place(name: str, function: Callable) -> Callable:
    def method(self: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if self._weak:  # a number of Python: `n += 1` makes another
            return function(self, *args, **kwargs)
        since = next_number()
        value = function(self, *args, **kwargs)
        if value._node is not None or modes.vmap is not None:
            keep_saved(value, self, since)
        return self._write(value, name)

    method.__name__ = name
    method.__qualname__ = f"Tensor.{name}"
    method.__doc__ = f"In-place version of `{name[:-1]}`."
    return method


def _part_setter(part: str) -> Callable:
    def setter(self: Tensor, value: Any) -> None:
        FUNCTIONS[part](self).copy_(value)

    return setter


def _is_unwatched(run: Callable = interpreter.run) -> bool:
    """Whether operations run as usual: nobody watches them, and compiled code is allowed."""
    return (
        dispatch.handler() is interpreter.interpret
        and interpreter.run is run
        and compiled.is_enabled()
    )


def attach() -> None:
    """Give Tensor its methods. Called once, when all functions are registered."""
    composite.install(composites.run)
    quick.install()
    vmap.install_rules(batched.again)
    replay.install(interpreter.quietly, interpreter.run, _is_unwatched, wrap)
    for name, f in FUNCTIONS.items():
        if name not in NOT_METHODS and not hasattr(Tensor, name):
            setattr(Tensor, name, f)
    Tensor.hardshrink = FUNCTIONAL["hardshrink"]  # type: ignore[attr-defined]
    for name in IN_PLACE:
        if name in FUNCTIONS:
            setattr(Tensor, name + "_", _in_place(name + "_", FUNCTIONS[name]))
    binary = {
        "add": "add", "sub": "sub", "mul": "mul", "truediv": "div", "floordiv": "floor_divide",
        "mod": "remainder", "pow": "pow", "matmul": "matmul", "and": "bitwise_and",
        "or": "bitwise_or", "xor": "bitwise_xor", "lshift": "bitwise_left_shift",
        "rshift": "bitwise_right_shift",
    }  # fmt: skip
    for symbol, name in binary.items():
        f = FUNCTIONS.get(name)
        if f is not None:
            setattr(Tensor, f"__{symbol}__", _operator(f))
            setattr(Tensor, f"__r{symbol}__", _operator(f, swap=True))
            setattr(Tensor, f"__i{symbol}__", _in_place(name + "_", f))
    for name in ("eq", "ne", "lt", "le", "gt", "ge"):
        setattr(Tensor, f"__{name}__", _operator(FUNCTIONS[name]))
    for part in ("real", "imag"):  # properties, as in PyTorch
        setattr(Tensor, part, property(FUNCTIONS[part], _part_setter(part)))
    Tensor.__rdiv__ = _operator(FUNCTIONS["div"], swap=True)  # type: ignore[attr-defined]
    Tensor.__neg__ = FUNCTIONS["neg"]  # type: ignore[attr-defined]
    Tensor.__abs__ = FUNCTIONS["abs"]  # type: ignore[attr-defined]
    Tensor.__invert__ = FUNCTIONS["bitwise_not"]  # type: ignore[attr-defined]
    Tensor.__pos__ = lambda self: self  # type: ignore[attr-defined]


def _to(self: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """This tensor in another dtype: to(mg.float64), to(other), to("cpu"); itself if equal."""
    dtype = kwargs.pop("dtype", None)
    target = kwargs.pop("device", None)
    copy = kwargs.pop("copy", False)
    kwargs.pop("non_blocking", None)
    kwargs.pop("memory_format", None)
    for a in args:
        if isinstance(a, Tensor):
            dtype = a.dtype
        elif isinstance(a, device):
            target = a
        elif isinstance(a, str):
            target = a
        elif isinstance(a, bool):
            continue
        elif a is not None:
            dtype = a
    if target is not None and device(target) == META_DEVICE:
        return on_meta(self if dtype is None else cast(self, as_dtype(dtype)))
    usable(target, "to")
    if target is not None and self.is_meta:
        raise no_elements("to")
    out = self if dtype is None else cast(self, as_dtype(dtype))
    return out.clone() if copy and out is self else out


def _convert(d: DType) -> Callable:
    def method(self: Tensor, memory_format: Any = None) -> Tensor:
        return cast(self, d)

    method.__doc__ = f"This tensor in {d.name}."
    return method


for _name, _dtype in {
    "float": dt.float32, "double": dt.float64, "half": dt.float16, "bfloat16": dt.bfloat16,
    "int": dt.int32, "long": dt.int64, "short": dt.int16, "char": dt.int8, "byte": dt.uint8,
    "bool": dt.bool_, "cfloat": dt.complex64, "cdouble": dt.complex128,
}.items():  # fmt: skip
    setattr(Tensor, _name, _convert(_dtype))


def _copy_(self: Tensor, src: Any, non_blocking: bool = False) -> Tensor:
    """Overwrite with `src`, which broadcasts to this shape and converts to this dtype."""
    value = cast(src if isinstance(src, Tensor) else as_tensor(src), self.dtype)
    own = self.shape
    if value.shape != own and broadcast_shapes("copy_", value.shape, own) != tuple(own):
        raise ShapeError(
            f"copy_: src of shape {tuple(value.shape)} does not fit into {tuple(self.shape)}"
        )
    return self._write(broadcast_to(value, tuple(self.shape)), "copy_")


def _fill_(self: Tensor, value: Any) -> Tensor:
    """Set every element to a number (or a 0-d tensor)."""
    return _copy_(self, value if isinstance(value, Tensor) else _scalar(value, self.dtype))


def _scalar(value: Any, dtype: DType) -> Tensor:
    return as_tensor(value, dtype=dtype)


def _zero_(self: Tensor) -> Tensor:
    """Set every element to 0."""
    return _fill_(self, 0)


def _where(self: Tensor, condition: Tensor, other: Any) -> Tensor:
    """This tensor where `condition` is true, else `other`; all three broadcast."""
    return FUNCTIONS["where"](condition, self, other)


Tensor.where = _where  # type: ignore[attr-defined]
Tensor.to = _to  # type: ignore[attr-defined]
Tensor.copy_ = _copy_  # type: ignore[attr-defined]
Tensor.fill_ = _fill_  # type: ignore[attr-defined]
Tensor.zero_ = _zero_  # type: ignore[attr-defined]
Tensor.cpu = lambda self: self  # type: ignore[attr-defined]
Tensor.type_as = lambda self, other: cast(self, other.dtype)  # type: ignore[attr-defined]
Tensor.numel = lambda self: self.shape.numel()  # type: ignore[attr-defined]
Tensor.nelement = Tensor.numel  # type: ignore[attr-defined]
Tensor.dim = lambda self: self.ndim  # type: ignore[attr-defined]
Tensor.size = lambda self, dim=None: self.shape if dim is None else self.shape[dim]  # type: ignore[attr-defined]
Tensor.element_size = lambda self: self.dtype.itemsize  # type: ignore[attr-defined]
Tensor.is_floating_point = lambda self: self.dtype.is_floating_point  # type: ignore[attr-defined]
Tensor.stride = lambda self, dim=None: (  # type: ignore[attr-defined]
    self._strides_of_view() if dim is None else self._strides_of_view()[dim]
)

__all__ = ["attach", "no_grad", "arith"]
