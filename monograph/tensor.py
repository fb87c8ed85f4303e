"""Tensor: a payload (array, symbol, or batched value), a place on the tape, and PyTorch's methods.

Views share memory: a view knows its base and the movement ops that lead there. In-place operations
are computed out of place and written through `_write`, which keeps memory, tape and versions right,
for arrays and for symbols alike. Methods that are also functions are attached by api/methods.py.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .core import dtype as dt
from .core.device import CPU, META_DEVICE, device
from .core.dtype import DType
from .core.errors import ArgumentTypeError, BatchError, DTypeError, GradError, ShapeError
from .core.modes import modes, no_grad, untaped
from .core.shape import Size, contiguous_strides
from .ops.align import cast
from .ops.movement import Alias, Detach, Overwrite, write_through
from .transform import replay, tape, trace, vmap
from .transform.meta import is_meta, no_elements
from .transform.tape import Node
from .transform.trace import Symbol, known, needs_value
from .transform.vmap import Batched, level_of, not_batched, overwrite

_DTYPES = dt.BY_NUMPY


class Tensor:
    """An n-dimensional array that can require gradients. Make one with mg.tensor, mg.zeros, ...

    >>> x = tensor([1.0, 2.0], requires_grad=True)
    >>> (x * x).sum().backward()
    >>> x.grad
    tensor([2., 4.])
    """

    __slots__ = (
        "_payload", "_version", "_node", "_index", "_requires", "_grad", "_base", "_view",
        "_seen", "_inference", "__dict__", "__weakref__",
    )  # fmt: skip
    __array_priority__ = 1000  # NumPy leaves `array * tensor` to us

    # Seldom set, hence in __dict__: hooks (id -> function), whether retain_grad() was called.
    _hooks: dict | None = None
    _after_grad: dict | None = None
    _weak = False  # a number that a capture made an input: it never decides a dtype
    _closed = 0  # for an input of a differentiation (mg.func) that is over: the tape's number then
    _retain = False

    # Payload, views, versions

    def _value(self) -> Any:
        """The payload, brought up to date if another view of the same memory was written."""
        if self._base is not None and self._seen != self._version[0]:
            self._refresh()
        return self._payload

    def _storage_owner(self) -> Tensor:
        return self if self._base is None else self._base

    def _become_view(self, source: Tensor, op: Any) -> None:
        """Note that this is `op` read of `source`, in the same memory (if it is)."""
        payload, base = self._payload, source._payload
        if type(payload) is np.ndarray:
            owner = base if base.base is None else base.base
            shared = payload.base is owner or not payload.size
            if not shared and not np.may_share_memory(payload, base):
                return
        elif type(payload) is Symbol:
            if source._strides_of_view(op) is None:
                return
        elif payload.value._storage_owner() is not base.value._storage_owner():
            return  # Batched: what is inside is not a view
        self._base = source if source._base is None else source._base
        self._view = (op,) if source._base is None else (*source._view, op)
        self._version = source._version
        self._seen = self._version[0]

    def _refresh(self) -> None:
        """Make payload (symbols) and tape follow the base, which was written since."""
        base = self._base
        self._seen = self._version[0]
        if type(base._payload) is not Symbol and not base.requires_grad:
            return
        current = base
        mode, modes.grad = modes.grad, True
        try:
            for op in self._view:
                current = op(current)
        finally:
            modes.grad = mode
        if type(base._payload) is Symbol:
            mine = self._payload
            if modes.trace is not None and getattr(mine, "trace", None) is not modes.trace:
                modes.trace.keep(self)
            self._payload = current._payload
        if not any(isinstance(op, Detach) for op in self._view):  # else its tape is its own
            self._node, self._index = current._node, current._index
            self._requires = current._requires

    def _strides_of_view(self, last: Any = None) -> tuple[int, ...] | None:
        """Element strides of this tensor (then read through `last`), or None if it takes a copy."""
        base = self if self._base is None else self._base
        shape = tuple(base._payload.shape)
        if last is None and type(self._payload) is np.ndarray:
            return tuple(s // self._payload.itemsize for s in self._payload.strides)
        if type(base._payload) is np.ndarray:
            strides: Any = tuple(s // base._payload.itemsize for s in base._payload.strides)
        else:
            strides = contiguous_strides(shape)
        dtype = base.dtype
        for op in (*(self._view or ()), *((last,) if last is not None else ())):
            strides = op.strides(shape, strides)
            if strides is None:
                return None
            aval = op.infer(_Like(shape, dtype))
            shape, dtype = aval.shape, aval.dtype
        return strides

    def _write(self, value: Tensor, name: str) -> Tensor:
        """Overwrite this tensor's elements with `value` (same shape): every in-place operation."""
        owner = self._storage_owner()
        if replay.recording[0] and modes.steps is not None:
            modes.steps.ok = False  # what is written in place is not among the steps
        if is_meta(value._payload) is not is_meta(self._payload):
            if self.is_meta:
                return self
            raise no_elements(name)
        if modes.trace is not None:
            modes.trace.note_write(self)
        if tuple(value.shape) != tuple(self.shape):
            raise ShapeError(
                f"{name}: the result has shape {tuple(value.shape)}, the tensor that it is "
                f"written into has {tuple(self.shape)}"
            )
        if value.dtype is not self.dtype:
            if not dt.can_cast(value.dtype, self.dtype):
                raise DTypeError(
                    f"{name}: a result of {value.dtype.name} cannot be written into a tensor of "
                    f"{self.dtype.name}"
                )
            value = cast(value, self.dtype)
        mine = self._value()
        if type(mine) is Batched or type(value._payload) is Batched:
            value = self._at_my_level(value, name)
        if value._requires and value._node is None:
            value = Alias()(value)  # a leaf stays one; what is written is an operation on it
        detached = self._is_detached()
        recording = modes.grad and not detached and (value.requires_grad or self.requires_grad)
        self._may_write(name)
        payload = value._value()
        symbolic = type(payload) is Symbol or type(mine) is Symbol
        if modes.trace is not None and type(payload) is np.ndarray and type(mine) is np.ndarray:
            payload, symbolic = modes.trace.lift(value), True  # both come from outside
        if owner is self:
            if symbolic:
                if modes.trace is not None:
                    modes.trace.lift(self)
                if type(payload) is np.ndarray:
                    payload = modes.trace.lift(value)
                self._payload = payload
            else:
                self._fill(value, name)
            if recording:
                if not value._requires:  # as PyTorch: it still requires a gradient, of zeros
                    value = self._recorded_write((), value)
                self._node, self._index, self._requires = value._node, value._index, True
        elif recording or symbolic:
            if symbolic and modes.trace is not None:
                modes.trace.lift(self)
            made = owner._recorded_write(self._view, value) if recording else None
            if symbolic:
                with untaped():
                    owner._payload = write_through(self._view, _bare(owner), value)._payload
            elif type(mine) is np.ndarray:
                self._fill(value, name)
            else:  # Batched: the tape outside must see operations
                made = write_through(self._view, _bare(owner), value)
                self._fill(value, name)
            if made is not None:
                owner._node, owner._index = made._node, made._index
                owner._requires = made._requires
        else:
            self._fill(value, name)
        if detached and modes.grad and value.requires_grad:
            self._record_detached(value, name)
        self._version[0] += 1
        if owner is not self:
            self._refresh()
        return self

    def _become(self, value: Tensor, name: str) -> Tensor:
        """`_write` what was computed from this tensor; nodes in between keep what they saved."""
        if value._node is not None or modes.vmap is not None:
            node = self.grad_fn
            tape.keep_saved(value, self, 0 if node is None else node.seq + 1)
        return self._write(value, name)

    def _at_my_level(self, value: Tensor, name: str) -> Tensor:
        """`value` as a tensor of the vmap level (or of none) that this tensor belongs to."""
        payload, level = value._value(), level_of(self)
        if level_of(value) is level:
            return value
        if level is not None and (level_of(value) is None or level_of(value).number < level.number):
            return wrap(Batched(value, None, level))
        if payload.dim is not None:
            raise not_batched(name)
        return self._at_my_level(payload.value, name)

    def _fill(self, value: Tensor, name: str) -> None:
        """Put the elements of `value` into the memory of an array or of a batched tensor."""
        if type(self._payload) is np.ndarray:
            np.copyto(self._payload, value._payload)
        else:
            overwrite(self._payload, value, name)

    def _record_detached(self, value: Tensor, name: str) -> None:
        """A detached tensor has a tape of its own, which begins with what is written into it."""
        if not isinstance(self._view[-1], Detach):
            raise GradError(
                f"{name}: a value that requires a gradient was written into a view of a detached "
                "tensor, which would not know of it",
                hint="take the view of detach().clone(), or detach the value",
            )
        self._node, self._index, self._requires = value._node, value._index, True

    def _recorded_write(self, view: tuple, value: Tensor) -> Tensor:
        """This tensor's place on the tape after `value` is written through `view`."""
        made = _bare(self)
        made._node, made._index = Node(Overwrite(view), (_bare(self), value), (made,)), 0
        made._requires = True
        return made

    def _is_detached(self) -> bool:
        return self._view is not None and any(isinstance(o, Detach) for o in self._view)

    def _may_write(self, name: str) -> bool:
        """True; GradError where an in-place operation is not allowed now."""
        owner = self._storage_owner()
        if modes.grad and owner.is_leaf and owner.requires_grad and not self._is_detached():
            raise GradError(
                f"{name}: a {'view of a ' if owner is not self else ''}leaf that requires a "
                "gradient cannot be changed in place",
                hint="wrap the update in `with mg.no_grad():`",
            )
        payload = self._payload
        if type(payload) is np.ndarray and not payload.flags.writeable:
            raise ShapeError(
                f"{name}: the tensor of shape {tuple(self.shape)} is an expanded view or read-only "
                "memory: several elements share one location",
                hint="clone() it before writing",
            )
        if self._inference and not modes.inference:
            raise GradError(
                f"{name}: a tensor made in inference_mode cannot be changed outside of it",
                hint="clone() it first",
            )
        return True

    # Facts

    @property
    def shape(self) -> Size:
        return Size(self._payload.shape)

    @property
    def dtype(self) -> DType:
        d = self._payload.dtype
        return d if type(d) is DType else _DTYPES[d]

    @property
    def device(self) -> device:
        return META_DEVICE if is_meta(self._payload) else CPU

    @property
    def is_meta(self) -> bool:
        """Whether this is a tensor of the device "meta": a shape without elements."""
        return is_meta(self._payload)

    @property
    def ndim(self) -> int:
        return len(self._payload.shape)

    @property
    def requires_grad(self) -> bool:
        if self._base is not None and self._seen != self._version[0]:
            self._refresh()
        return self._requires

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        self.requires_grad_(value) if value != self._requires else None

    def requires_grad_(self, requires_grad: bool = True) -> Tensor:
        """Start (or stop) recording operations on this leaf for gradients."""
        if requires_grad and not self.dtype.is_inexact:
            raise DTypeError(
                f"requires_grad_: only floating tensors have gradients, this is {self.dtype.name}"
            )
        if not requires_grad and self._node is not None:
            raise GradError(
                "requires_grad_: only a leaf can stop requiring a gradient",
                hint="use detach() for a tensor that does not",
            )
        self._requires = bool(requires_grad)
        return self

    @property
    def is_leaf(self) -> bool:
        return self._node is None

    @property
    def grad_fn(self) -> Any:
        self._value()
        return self._node

    @property
    def grad(self) -> Tensor | None:
        """The accumulated gradient of a leaf (or after retain_grad), or None."""
        if modes.trace is not None:
            return modes.trace.read_grad(self)
        return self._grad

    @grad.setter
    def grad(self, value: Tensor | None) -> None:
        if value is not None:
            if not isinstance(value, Tensor) and not getattr(value, "is_sparse", False):
                raise ArgumentTypeError(
                    f"grad: must be a tensor or None, got {type(value).__name__}"
                )
            if value.shape != self.shape:
                raise ShapeError(
                    f"grad: has shape {tuple(value.shape)}, the tensor {tuple(self.shape)}"
                )
        if modes.trace is not None:
            modes.trace.write_grad(self, value)
        else:
            self._grad = value

    @property
    def data(self) -> Tensor:
        """The same memory without the tape."""
        return self.detach()

    @data.setter
    def data(self, value: Tensor) -> None:
        if modes.trace is not None:
            with no_grad():
                self._write(value, "data")
        else:
            self._payload = value._value()
            self._base = self._view = None
            self._version = value._version  # in the same memory

    @property
    def _version_number(self) -> int:
        return self._version[0]

    # Gradients

    def detach(self) -> Tensor:
        """The same memory, outside the tape."""
        out = Detach()(self)
        out._node, out._requires = None, False
        return out

    def detach_(self) -> Tensor:
        """Take this tensor off the tape: it becomes a leaf that requires no gradient."""
        if modes.trace is not None and modes.trace.inner and self._base is None:
            modes.trace.lift(self)
            self._payload = Detach()(self)._payload
        self._node, self._index, self._requires = None, 0, False
        return self

    # Out of the tensor world

    def _lend(self) -> Tensor:
        """Note that others know this memory and may write to it, which no version tells."""
        if len(self._version) == 1:
            self._version.append(True)
        return self

    def _array(self, operation: str) -> np.ndarray:
        """The array, or an error that names `operation` where there is none."""
        p = self._value()
        if type(p) is np.ndarray:
            if modes.trace is not None:
                modes.trace.read(self, p, operation)
            return p
        if is_meta(p):
            raise no_elements(operation)
        if type(p) is Symbol:
            array = known(p, operation)
            if array is None:
                raise needs_value(p, operation)
            return array
        raise BatchError(
            f"{operation}: the elements of a batched tensor cannot be read inside vmap",
            hint="use mg.where instead of `if`, or loop over the batch in Python",
        )

    def numpy(self, *, force: bool = False) -> np.ndarray:
        """The elements as a NumPy array that shares this tensor's memory.

        GradError if the tensor requires a gradient (force=True detaches).
        """
        if self.requires_grad and not force:
            raise GradError("numpy: the tensor requires a gradient", hint="call .detach().numpy()")
        array = self._array("numpy")
        self._lend()
        return array

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        array = self._array("numpy") if copy and not self.requires_grad else self.numpy()
        return np.array(array, dtype=dtype, copy=copy)

    def item(self) -> Any:
        """The single element as a Python number."""
        a = self._array("item")
        if a.size != 1:
            raise ShapeError(f"item: needs a single element, the shape is {tuple(self.shape)}")
        return a.item()

    def tolist(self) -> Any:
        """The elements as nested Python lists (a number for a 0-d tensor)."""
        return self._array("tolist").tolist()

    def __complex__(self) -> complex:
        return complex(self.item())

    def __bool__(self) -> bool:
        a = self._array("bool")
        if a.size != 1:
            raise ShapeError(
                f"bool: the truth of a tensor of shape {tuple(self.shape)} is ambiguous",
                hint="use .any() or .all()",
            )
        return bool(a.item())

    def __int__(self) -> int:
        return int(self.item())

    def __float__(self) -> float:
        return float(self.item())

    def __index__(self) -> int:
        if self.dtype.is_inexact or self.dtype is dt.bool_:
            raise DTypeError(f"index: needs an integer tensor, got {self.dtype.name}")
        return self.item()

    def __len__(self) -> int:
        if not self.ndim:
            raise ShapeError("len: a 0-d tensor has no length")
        return self.shape[0]

    def __iter__(self) -> Any:
        if not self.ndim:
            raise ShapeError("iter: a 0-d tensor cannot be iterated")
        return iter(self.unbind(0))

    def __contains__(self, x: Any) -> bool:
        return bool((self == x).any())

    __hash__ = object.__hash__

    def __format__(self, spec: str) -> str:
        return format(self.item(), spec) if spec else repr(self)

    def __deepcopy__(self, memo: dict) -> Tensor:
        if self._node is not None:
            raise GradError(
                "deepcopy: only leaves can be copied deeply", hint="detach() the tensor first"
            )
        made = type(self).__new__(type(self))
        memo[id(self)] = made
        copied = self._payload if self.is_meta else np.array(self._array("deepcopy"))
        _init(made, copied, self._requires)
        made.__dict__.update(self._attributes())
        if self._grad is not None:
            made._grad = self._grad.detach().clone()
        return made

    def __reduce__(self) -> Any:
        return (_rebuild, (type(self), self._array("pickle"), self._requires, self._attributes()))

    def _attributes(self) -> dict:
        """What the user set on this object, without hooks."""
        ours = ("_hooks", "_after_grad", "_closed", "_retain")
        return {k: v for k, v in self.__dict__.items() if k not in ours}


class _Like:
    __slots__ = ("shape", "dtype")

    def __init__(self, shape: Any, dtype: Any):
        self.shape, self.dtype = shape, dtype


def _init(t: Tensor, payload: Any, requires_grad: bool = False) -> None:
    t._payload = payload
    t._version = [0]
    t._node = None
    t._index = 0
    t._requires = requires_grad
    t._grad = None
    t._base = None
    t._view = None
    t._seen = 0
    t._inference = modes.inference


def _rebuild(cls: type, array: np.ndarray, requires_grad: bool, extra: dict) -> Tensor:
    made = cls.__new__(cls)
    _init(made, array, requires_grad)
    made.__dict__.update(extra)
    return made


def wrap(payload: Any) -> Tensor:
    """A fresh tensor around a payload."""
    t = _new(Tensor)
    t._payload = payload  # as _init, whose call would take a third of the time
    t._version = [0]
    t._node = t._grad = t._base = t._view = None
    t._index = t._seen = 0
    t._requires = False
    t._inference = modes.inference
    return t


_new = object.__new__


def _bare(t: Tensor) -> Tensor:
    """The same value and place on the tape under a new identity (an owner before it is written)."""
    other = wrap(t._payload)
    other._node, other._index, other._requires = t._node, t._index, t._requires
    return other


def _rewrap(payload: Any, node: Any, index: int, requires_grad: bool) -> Tensor:
    t = wrap(payload)
    t._node, t._index, t._requires = node, index, requires_grad
    return t


class _Unreadable(Tensor):
    """A saved value that was overwritten: it has a shape, and raises where it is read."""

    __slots__ = ("_error",)

    def _value(self) -> Any:
        raise self._error


def _unreadable(payload: Any, error: GradError) -> Tensor:
    t = _Unreadable.__new__(_Unreadable)
    _init(t, payload)
    t._base, t._error = wrap(payload), error  # a base makes every reader ask _value
    return t


tape.install(_rewrap, _unreadable)
trace.install(wrap)
vmap.install(wrap)
