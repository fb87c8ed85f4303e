"""In-place methods that change a tensor's shape, and small questions about tensors."""

from __future__ import annotations

from typing import Any

from ..core.errors import ArgumentTypeError, DeviceError, GradError
from ..core.layouts import strided
from ..core.shape import as_shape
from ..core.tracing import refused
from ..ops.align import FUNCTIONS
from ..ops.movement import Reshape
from ..tensor import Tensor, wrap
from .creation import as_tensor, empty, zeros

_SHAPES = ("transpose", "squeeze", "unsqueeze", "swapaxes", "swapdims", "t", "as_strided")


def _become(self: Tensor, made: Tensor) -> Tensor:
    """`self` with the elements, the shape and the place on the tape of `made`."""
    refused("a change of a tensor's shape in place")
    for slot in ("_payload", "_node", "_index", "_requires", "_base", "_view", "_version", "_seen"):
        setattr(self, slot, getattr(made, slot))
    return self


def _shaped(name: str) -> Any:
    function = FUNCTIONS[name]

    def method(self: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if self.is_leaf and self.requires_grad:
            raise GradError(f"{name}_: a leaf that requires a gradient cannot change its shape")
        before = wrap(self._value())
        for slot in ("_node", "_index", "_requires", "_base", "_view", "_version", "_seen"):
            setattr(before, slot, getattr(self, slot))
        return _become(self, function(before, *args, **kwargs))

    method.__name__ = f"{name}_"
    method.__doc__ = f"`{name}` of this tensor itself, in the same memory."
    return method


def _resize_(self: Tensor, *sizes: Any, memory_format: Any = None) -> Tensor:
    """Take another shape: the elements in their order, cut off, or followed by zeros."""
    if self.requires_grad:
        raise GradError("resize_: a tensor that requires a gradient cannot be resized")
    shape = as_shape("resize_", sizes)
    count, flat = 1, self.detach().reshape(-1)
    for n in shape:
        count *= n
    made = flat[:count]
    if count > flat.shape[0]:
        made = FUNCTIONS["cat"]([flat, zeros(count - flat.shape[0], dtype=self.dtype)])
    return _become(self, Reshape(shape)(made))


def _resize_as_(self: Tensor, other: Tensor, memory_format: Any = None) -> Tensor:
    """resize_ to the shape of `other`."""
    return _resize_(self, tuple(other.shape))


def _set_(self: Tensor, source: Tensor | None = None, *rest: Any) -> Tensor:
    """Share the memory, shape and strides of `source` from now on (None: no elements)."""
    if rest or not isinstance(source, Tensor | None):
        raise ArgumentTypeError("set_: expected a tensor; there are no storages here")
    return _become(self, empty(0, dtype=self.dtype) if source is None else source.detach())


def _new(self: Tensor, *data: Any, device: Any = None) -> Tensor:
    """A tensor of this dtype: of sizes, or of the elements of a sequence (old form)."""
    if data and not all(isinstance(n, int) for n in data):
        return as_tensor(data[0], dtype=self.dtype)
    return empty(*(data or (0,)), dtype=self.dtype)


def _elsewhere(name: str) -> Any:
    def method(self: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        raise DeviceError(f"{name}: device {name!r} is not available; this build computes on 'cpu'")

    method.__name__ = name
    method.__doc__ = f"DeviceError: there is no device {name!r}."
    return method


def _apply_(self: Tensor, callable: Any) -> Tensor:
    """Replace each element by callable(element); slow, for trying things out."""
    array = self._array("apply_")
    made = [callable(x) for x in array.reshape(-1).tolist()]
    return self._write(as_tensor(made, dtype=self.dtype).reshape(self.shape), "apply_")


def _map_(self: Tensor, tensor: Tensor, callable: Any) -> Tensor:
    """Replace each element by callable(element, the one of `tensor`); slow."""
    pairs = zip(*(t._array("map_").reshape(-1).tolist() for t in (self, tensor.expand(self.shape))))
    made = [callable(a, b) for a, b in pairs]
    return self._write(as_tensor(made, dtype=self.dtype).reshape(self.shape), "map_")


def attach() -> None:
    """Give Tensor these methods. Called once."""
    for name in _SHAPES:
        setattr(Tensor, f"{name}_", _shaped(name))
    for name in ("cuda", "xpu", "mtia", "ipu"):
        setattr(Tensor, name, _elsewhere(name))
    for f in (_resize_, _resize_as_, _set_, _new, _apply_, _map_):
        setattr(Tensor, f.__name__[1:], f)
    for (
        name
    ) in """cuda xpu mps mtia ipu xla vulkan maia mkldnn nested quantized sparse_csr""".split():
        if not hasattr(Tensor, f"is_{name}"):
            setattr(Tensor, f"is_{name}", False)
    questions: dict[str, Any] = {
        "is_pinned": lambda self, device=None: False,
        "is_shared": lambda self: False,
        "is_distributed": lambda self: False,
        "is_inference": lambda self: self._inference,
        "is_nonzero": lambda self: bool(self),
        "is_signed": lambda self: self.dtype.is_signed,
        "pin_memory": lambda self, device=None: self,
        "share_memory_": lambda self: self,
        "is_set_to": lambda self, tensor: self.data_ptr() == tensor.data_ptr()
        and self.shape == tensor.shape and self.stride() == tensor.stride(),
        "as_subclass": lambda self, cls: cls(self),
    }  # fmt: skip
    for name, answer in questions.items():
        if not hasattr(Tensor, name):
            setattr(Tensor, name, answer)
    for name, value in {"layout": strided, "name": None, "volatile": False}.items():
        if not hasattr(Tensor, name):
            setattr(Tensor, name, value)
    if not hasattr(Tensor, "output_nr"):
        Tensor.output_nr = property(lambda self: self._index)  # type: ignore[attr-defined]
