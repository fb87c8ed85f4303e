"""Parameter and Buffer: tensors that a Module registers when they are assigned to an attribute."""

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
    _init(made, data.detach()._value())
