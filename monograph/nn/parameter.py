"""Parameter and Buffer: tensors that a Module registers when they are assigned to an attribute."""

import monograph as mg
from monograph.core.errors import ArgumentTypeError
from monograph.tensor import Tensor, _init


class Parameter(Tensor):
    """A tensor that a Module trains: found by `parameters()`, requires a gradient by default.

    It shares the memory of `data`.
    """

    def __init__(self, data=None, requires_grad=True):
        _adopt(self, "Parameter", data)
        if requires_grad:
            self.requires_grad_(True)

    def __repr__(self):
        return "Parameter containing:\n" + super().__repr__()


class Buffer(Tensor):
    """A tensor that a Module keeps without training it; `persistent` puts it into state dicts."""

    def __init__(self, data=None, *, persistent=True):
        _adopt(self, "Buffer", data)
        self.persistent = persistent


def _adopt(made, kind, data):
    if data is None:
        data = Tensor()
    if not isinstance(data, Tensor):
        raise ArgumentTypeError(f"{kind}: data must be a Tensor, got {type(data).__name__}")
    source = data.detach()
    _init(made, source._value())
    made._version = source._version


class UninitializedParameter(Parameter):
    """A Parameter of a lazy layer that has no shape yet; `materialize(shape)` gives it one."""

    def __init__(self, requires_grad=True, device=None, dtype=None):
        super().__init__(mg.empty(0, device=device, dtype=dtype), requires_grad)

    def materialize(self, shape, device=None, dtype=None):
        """Become an ordinary Parameter of the given shape, its elements not set."""
        self.data = mg.empty(shape, dtype=dtype or self.dtype)
        self.__class__ = Parameter

    def __repr__(self):
        return "<UninitializedParameter>"


class UninitializedBuffer(Tensor):
    """A buffer of a lazy layer that has no shape yet; `materialize(shape)` gives it one."""

    def __init__(self, requires_grad=False, device=None, dtype=None):
        _adopt(self, "UninitializedBuffer", mg.empty(0, device=device, dtype=dtype))

    def materialize(self, shape, device=None, dtype=None):
        """Become an ordinary tensor of the given shape, its elements not set."""
        self.data = mg.empty(shape, dtype=dtype or self.dtype)
        self.__class__ = _PlainBuffer

    def __repr__(self):
        return "<UninitializedBuffer>"


class _PlainBuffer(Tensor):
    """What an UninitializedBuffer becomes (it keeps its identity, so it cannot become a Tensor)."""


def is_lazy(tensor):
    """Whether a tensor of a lazy layer has no shape yet."""
    return isinstance(tensor, (UninitializedParameter, UninitializedBuffer))
