"""Containers: Sequential, ModuleList, ModuleDict, ParameterList, ParameterDict."""

import itertools
import operator

from monograph.core.errors import ArgumentTypeError, IndexRangeError
from monograph.core.structure import watch
from monograph.nn.module import Module, indent, render_tree
from monograph.nn.parameter import Parameter
from monograph.tensor import Tensor


def _position(index, length, owner):
    index = operator.index(index)
    if not -length <= index < length:
        raise IndexRangeError(f"{owner}: index {index} is out of range for {length} entries")
    return index % length


class _Numbered(Module):
    """Modules stored under the names "0", "1", ...: what Sequential and ModuleList share."""

    def _name_at(self, index):
        if isinstance(index, str):
            return index
        position = _position(index, len(self), type(self).__name__)
        return next(itertools.islice(self._modules, position, None))

    def __len__(self):
        watch(self)
        return len(self._modules)

    def __iter__(self):
        watch(self)
        return iter(self._modules.values())

    def __getitem__(self, index):
        watch(self)
        if isinstance(index, slice):
            return self._rebuilt(list(self._modules.items())[index])
        return self._modules[self._name_at(index)]

    def __setitem__(self, index, module):
        setattr(self, self._name_at(index), module)

    def __delitem__(self, index):
        names = list(self._modules)
        gone = names[index] if isinstance(index, slice) else [self._name_at(index)]
        for name in gone:
            delattr(self, name)
        self._renumber()

    def _renumber(self):
        # Names that a user gave (Sequential of a dict) stay.
        if all(name.isdigit() for name in self._modules):
            kept = list(self._modules.values())
            self._modules.clear()
            self._modules.update((str(i), m) for i, m in enumerate(kept))

    def append(self, module):
        """Add a module at the end."""
        self.add_module(str(len(self)), module)
        return self

    def insert(self, index, module):
        """Insert a module before position `index`."""
        kept = list(self._modules.values())
        kept.insert(index, _checked(type(self).__name__ + ".insert", module))
        self._modules.clear()
        self._modules.update((str(i), m) for i, m in enumerate(kept))
        return self

    def extend(self, modules):
        """Add several modules at the end."""
        for module in list(modules):
            self.append(module)
        return self

    def pop(self, index=-1):
        """Remove and return the module at `index`."""
        module = self[index]
        del self[index]
        return module

    def __iadd__(self, modules):
        return self.extend(modules)

    def __add__(self, other):
        return type(self)._from_modules([*self, *other])

    def __dir__(self):
        return [name for name in super().__dir__() if not name.isdigit()]


def _checked(operation, module):
    if not isinstance(module, Module):
        raise ArgumentTypeError(f"{operation}: expected a Module, got {type(module).__name__}")
    return module


class Sequential(_Numbered):
    """Modules applied one after the other: `Sequential(a, b)` or `Sequential({"first": a})`."""

    def __init__(self, *args):
        super().__init__()
        if len(args) == 1 and isinstance(args[0], dict):
            for name, module in args[0].items():
                self.add_module(name, module)
        else:
            for i, module in enumerate(args):
                self.add_module(str(i), _checked("Sequential", module))

    @classmethod
    def _from_modules(cls, modules):
        return cls(*modules)

    def _rebuilt(self, items):
        return type(self)(dict(items))

    def forward(self, input):
        for module in self._modules.values():
            input = module(input)
        return input


class ModuleList(_Numbered):
    """A list of modules that are registered; it has no forward of its own."""

    def __init__(self, modules=None):
        super().__init__()
        if modules is not None:
            self.extend(modules)

    @classmethod
    def _from_modules(cls, modules):
        return cls(modules)

    def _rebuilt(self, items):
        return type(self)(module for _, module in items)

    def __repr__(self):
        """Like Module's, with a run of modules that print alike shown once: `(0-3): 4 x ReLU()`."""
        lines, start = [], 0
        texts = [repr(module) for module in self]
        for text, run in itertools.groupby(texts):
            count = len(list(run))
            if count == 1:
                lines.append(f"({start}): {indent(text)}")
            else:
                lines.append(f"({start}-{start + count - 1}): {count} x {indent(text)}")
            start += count
        return render_tree(self._get_name(), [], lines)


class ModuleDict(Module):
    """A dictionary of modules that are registered; it has no forward of its own."""

    def __init__(self, modules=None):
        super().__init__()
        if modules is not None:
            self.update(modules)

    def __getitem__(self, key):
        watch(self)
        return self._modules[key]

    def __setitem__(self, key, module):
        self.add_module(key, module)

    def __delitem__(self, key):
        del self._modules[key]

    def __len__(self):
        watch(self)
        return len(self._modules)

    def __iter__(self):
        watch(self)
        return iter(self._modules)

    def __contains__(self, key):
        watch(self)
        return key in self._modules

    def clear(self):
        """Remove all modules."""
        self._modules.clear()

    def pop(self, key):
        """Remove and return the module under `key`."""
        return self._modules.pop(key)

    def keys(self):
        """The names."""
        watch(self)
        return self._modules.keys()

    def items(self):
        """(name, module) pairs."""
        watch(self)
        return self._modules.items()

    def values(self):
        """The modules."""
        watch(self)
        return self._modules.values()

    def update(self, modules):
        """Add modules from a mapping or from (name, module) pairs."""
        pairs = modules.items() if hasattr(modules, "items") else modules
        for name, module in pairs:
            self[name] = module


class _Parameters(Module):
    """Parameters and other values under names: what ParameterList and ParameterDict share.

    Tensors become Parameters; values of other types are kept as plain attributes.
    """

    def _put(self, name, value):
        if isinstance(value, Tensor) and not isinstance(value, Parameter):
            value = Parameter(value)
        if name in self.__dict__ or name in self._parameters:
            delattr(self, name)
        if isinstance(value, Parameter):
            self.register_parameter(name, value)
        else:
            self.__dict__[name] = value

    def _take(self, name):
        watch(self)
        return self._parameters[name] if name in self._parameters else self.__dict__[name]

    def _entry_repr(self, value):
        if isinstance(value, Tensor):
            kind = "Parameter" if isinstance(value, Parameter) else "Tensor"
            size = "x".join(map(str, value.shape))
            return f"{kind} containing: [{value.dtype} of size {size}]"
        return f"Object of type: {type(value).__name__}"

    def forward(self, *args, **kwargs):
        raise NotImplementedError(f"{type(self).__name__} is not callable")


class ParameterList(_Parameters):
    """A list of parameters that are registered."""

    def __init__(self, values=None):
        super().__init__()
        self.__dict__["_size"] = 0
        if values is not None:
            self.extend(values)

    def __len__(self):
        return self._size

    def __iter__(self):
        return (self._take(str(i)) for i in range(self._size))

    def __getitem__(self, index):
        if isinstance(index, slice):
            return type(self)(self._take(str(i)) for i in range(*index.indices(self._size)))
        return self._take(str(_position(index, self._size, "ParameterList")))

    def __setitem__(self, index, value):
        self._put(str(_position(index, self._size, "ParameterList")), value)

    def append(self, value):
        """Add a value at the end; a tensor becomes a Parameter."""
        self._put(str(self._size), value)
        self.__dict__["_size"] += 1
        return self

    def extend(self, values):
        """Add several values at the end."""
        for value in list(values):
            self.append(value)
        return self

    def pop(self, index=-1):
        """Remove and return the value at `index`."""
        position = _position(index, self._size, "ParameterList")
        values = list(self)
        gone = values.pop(position)
        for i in range(position, self._size):
            delattr(self, str(i))
        self.__dict__["_size"] = position
        self.extend(values[position:])
        return gone

    def __iadd__(self, values):
        return self.extend(values)

    def __repr__(self):
        lines = [f"  ({i}): {self._entry_repr(value)}" for i, value in enumerate(self)]
        return render_tree(self._get_name(), [], lines)


class ParameterDict(_Parameters):
    """A dictionary of parameters that are registered."""

    def __init__(self, parameters=None):
        super().__init__()
        self.__dict__["_keys"] = {}
        if parameters is not None:
            self.update(parameters)

    def __len__(self):
        return len(self._keys)

    def __iter__(self):
        return iter(self._keys)

    def __contains__(self, key):
        return key in self._keys

    def __getitem__(self, key):
        if key not in self._keys:
            raise KeyError(key)
        return self._take(key)

    def __setitem__(self, key, value):
        self._put(key, value)
        self._keys[key] = None

    def __delitem__(self, key):
        del self._keys[key]
        delattr(self, key)

    def keys(self):
        """The names, in order."""
        return self._keys.keys()

    def values(self):
        """The values, in order."""
        return (self[key] for key in self._keys)

    def items(self):
        """(name, value) pairs, in order."""
        return ((key, self[key]) for key in self._keys)

    def get(self, key, default=None):
        """The value under `key`, or `default`."""
        return self[key] if key in self._keys else default

    def pop(self, key):
        """Remove and return the value under `key`."""
        value = self[key]
        del self[key]
        return value

    def popitem(self):
        """Remove and return the last (name, value) pair."""
        key = next(reversed(self._keys))
        return key, self.pop(key)

    def setdefault(self, key, default=None):
        """The value under `key`, which is `default` from now on if there is none."""
        if key not in self._keys:
            self[key] = default
        return self[key]

    def fromkeys(self, keys, default=None):
        """A new dictionary with `default` under each of `keys`."""
        return ParameterDict((key, default) for key in keys)

    def copy(self):
        """A new dictionary of the same values."""
        return ParameterDict(self.items())

    def clear(self):
        """Remove all values."""
        for key in list(self._keys):
            del self[key]

    def update(self, parameters):
        """Add values from a mapping or from (name, value) pairs."""
        pairs = parameters.items() if hasattr(parameters, "items") else parameters
        for key, value in pairs:
            self[key] = value

    def __repr__(self):
        lines = [f"  ({key}): {self._entry_repr(value)}" for key, value in self.items()]
        return render_tree(self._get_name(), [], lines)
