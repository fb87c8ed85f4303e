"""Parametrizations: a parameter that is computed from others each time it is read.

    parametrize.register_parametrization(layer, "weight", Symmetric())
    layer.weight                                   # Symmetric()(original)
    layer.parametrizations.weight.original         # what is trained

The layer gets a class of its own, whose `weight` is a property; state dicts hold
"parametrizations.weight.original" (or original0, original1, ... where `right_inverse` gives a
tuple). Same meaning as torch.nn.utils.parametrize. Ready-made ones: parametrizations.py.
"""

from contextlib import contextmanager

import monograph as mg
from monograph.core.errors import ArgumentError, ArgumentTypeError, ShapeError
from monograph.nn.containers import ModuleDict, ModuleList
from monograph.nn.parameter import Buffer, Parameter
from monograph.tensor import Tensor

__all__ = [
    "ParametrizationList", "cached", "is_parametrized", "register_parametrization",
    "remove_parametrizations", "type_before_parametrizations",
]  # fmt: skip

_cache: list = [0, {}]  # how many `cached` blocks are open, and what they have computed


@contextmanager
def cached():
    """Within the block each parametrized tensor is computed once and then kept."""
    _cache[0] += 1
    try:
        yield
    finally:
        _cache[0] -= 1
        if not _cache[0]:
            _cache[1] = {}


class ParametrizationList(ModuleList):
    """The parametrizations of one tensor, applied in order, and the tensors that are trained."""

    def __init__(self, modules, original):
        super().__init__(modules)
        value = original.detach()
        with mg.no_grad():
            for module in reversed(list(self)):
                if hasattr(module, "right_inverse"):
                    value = module.right_inverse(value)
                elif isinstance(value, (tuple, list)):
                    raise ArgumentError(
                        "register_parametrization: only the first parametrization may have several "
                        "originals"
                    )
        self.is_tensor = isinstance(value, Tensor)
        self.ntensors = 1 if self.is_tensor else len(value)
        for name, part in self._named(value):
            # An original that is the same tensor stays the same parameter: optimizers know it.
            if self.is_tensor and part.shape == original.shape and part.dtype is original.dtype:
                with mg.no_grad():
                    original.copy_(part)
                self._put(name, original)
            elif isinstance(original, Parameter):
                trained = original.requires_grad and part.is_floating_point()
                self._put(name, Parameter(part.clone(), requires_grad=trained))
            else:
                self._put(name, part.clone())

    def _put(self, name, value):
        if isinstance(value, Parameter):
            self.register_parameter(name, value)
        else:
            self.register_buffer(name, value)

    def _named(self, value):
        if self.is_tensor:
            return [("original", value)]
        return [(f"original{i}", part) for i, part in enumerate(value)]

    def right_inverse(self, value):
        """Set the originals so that the parametrized tensor becomes `value`."""
        with mg.no_grad():
            for module in reversed(list(self)):
                if not hasattr(module, "right_inverse"):
                    raise ArgumentTypeError(
                        f"the parametrization {type(module).__name__} has no right_inverse: the "
                        "tensor cannot be assigned"
                    )
                value = module.right_inverse(value)
            for name, part in self._named(value):
                own = getattr(self, name)
                if tuple(own.shape) != tuple(part.shape):
                    raise ShapeError(
                        f"right_inverse gave {name} the shape {tuple(part.shape)}, it has "
                        f"{tuple(own.shape)}"
                    )
                own.copy_(part)

    def forward(self):
        modules = list(self)
        if self.is_tensor:
            value = modules[0](self.original)
        else:
            value = modules[0](*(getattr(self, f"original{i}") for i in range(self.ntensors)))
        for module in modules[1:]:
            value = module(value)
        return value


def register_parametrization(module, tensor_name, parametrization, *, unsafe=False):
    """Compute the parameter or buffer `tensor_name` by `parametrization` from now on.

    parametrization  a module whose forward gives a tensor of the same shape and dtype; its
                     right_inverse(value), if there is one, gives what forward needs for `value`: a
                     tensor, or a tuple of tensors that forward takes one by one
    unsafe           skip the check of shape and dtype

    Several can be registered for one tensor: they are applied in order. Returns the module.
    """
    if is_parametrized(module, tensor_name):
        known = module.parametrizations[tensor_name]
        if not unsafe:
            _check(tensor_name, parametrization(getattr(module, tensor_name)), module)
        if hasattr(parametrization, "right_inverse"):
            value = parametrization.right_inverse(getattr(module, tensor_name))
            if not isinstance(value, Tensor):
                raise ArgumentError(
                    "register_parametrization: only the first parametrization may have several "
                    "originals"
                )
            if len(known) and all(hasattr(p, "right_inverse") for p in known):
                known.right_inverse(value)
        known.append(parametrization)
        return module
    own = tensor_name in module._parameters or tensor_name in module._buffers
    original = getattr(module, tensor_name, None)
    if not own or original is None:
        raise ArgumentError(
            f"register_parametrization: {type(module).__name__} has no parameter or buffer "
            f"'{tensor_name}'"
        )
    made = ParametrizationList([parametrization], original)
    if not unsafe:
        with mg.no_grad():
            _check(tensor_name, made(), module, original)
    if not is_parametrized(module):
        _give_class(module)
        module.parametrizations = ModuleDict()
    delattr(module, tensor_name)
    _give_property(type(module), tensor_name)
    module.parametrizations[tensor_name] = made
    return module


def _check(name, made, module, original=None):
    original = getattr(module, name) if original is None else original
    if not isinstance(made, Tensor):
        raise ArgumentTypeError(
            f"register_parametrization: the parametrization of '{name}' gave a "
            f"{type(made).__name__}, not a tensor"
        )
    if tuple(made.shape) != tuple(original.shape) or made.dtype is not original.dtype:
        raise ShapeError(
            f"register_parametrization: the parametrization of '{name}' gave {made.dtype.name} of "
            f"shape {tuple(made.shape)}; the tensor is {original.dtype.name} of shape "
            f"{tuple(original.shape)}",
            hint="unsafe=True allows it",
        )


def _give_class(module):
    """Let `module` be of a class of its own, derived from the one that it has."""
    base = type(module)

    def reduce(self, protocol):
        plain = base.__new__(base)
        return _restore, (plain, base, self.__getstate__(), list(self.parametrizations))

    members = {"__module__": base.__module__, "__doc__": base.__doc__, "__reduce_ex__": reduce}
    module.__class__ = type(f"Parametrized{base.__name__}", (base,), members)


def _restore(module, base, state, names):
    """A copied or unpickled parametrized module."""
    module.__setstate__(state)
    _give_class(module)
    for name in names:
        _give_property(type(module), name)
    return module


def _give_property(cls, name):
    def read(self):
        compute = self.parametrizations[name]
        if not _cache[0]:
            return compute()
        key = (id(self), name)
        if key not in _cache[1]:
            _cache[1][key] = compute()
        return _cache[1][key]

    def write(self, value):
        self.parametrizations[name].right_inverse(value)

    setattr(cls, name, property(read, write))


def is_parametrized(module, tensor_name=None):
    """Whether the module has parametrizations (of `tensor_name`)."""
    known = module.__dict__.get("_modules", {}).get("parametrizations")
    if not isinstance(known, ModuleDict):
        return False
    return len(known) > 0 if tensor_name is None else tensor_name in known


def remove_parametrizations(module, tensor_name, leave_parametrized=True):
    """Make `tensor_name` an ordinary parameter or buffer again; returns the module.

    leave_parametrized  keep the computed value; False: the original one (if it is one tensor)
    """
    if not is_parametrized(module, tensor_name):
        raise ArgumentError(
            f"remove_parametrizations: '{tensor_name}' of {type(module).__name__} is not "
            "parametrized"
        )
    known = module.parametrizations[tensor_name]
    if not leave_parametrized and not known.is_tensor:
        raise ArgumentError(
            "remove_parametrizations: leave_parametrized=False needs a tensor with one original, "
            f"'{tensor_name}' has {known.ntensors}"
        )
    original = known.original if known.is_tensor else known.original0
    trained = any(p.requires_grad for p in known.parameters(recurse=False))
    with mg.no_grad():
        value = getattr(module, tensor_name).detach().clone()
    if known.is_tensor:
        kept = original
        if leave_parametrized:
            with mg.no_grad():
                kept.copy_(value)
    else:
        is_parameter = isinstance(original, Parameter)
        kept = Parameter(value, requires_grad=trained) if is_parameter else Buffer(value)
    del module.parametrizations[tensor_name]
    cls = type(module)
    delattr(cls, tensor_name)
    if not len(module.parametrizations):
        delattr(module, "parametrizations")
        module.__class__ = cls.__bases__[0]
    if isinstance(kept, Parameter):
        module.register_parameter(tensor_name, kept)
    else:
        module.register_buffer(tensor_name, kept)
    return module


def type_before_parametrizations(module):
    """The class that the module had before it was parametrized."""
    return type(module).__bases__[0] if is_parametrized(module) else type(module)
