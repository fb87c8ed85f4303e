"""Module: a tree of parameters, buffers and sub-modules with one `forward`.

Everything a layer or model shares: registration through attribute assignment, traversal, train and
eval mode, conversion, hooks, state dicts, printing. Parameters and buffers keep their identity for
the life of the module (conversion and loading write into them), so that optimizers and compiled
functions may hold references. Read next: containers.py, then any layer file.
"""

import itertools

import monograph as mg
from monograph.core.dtype import DType
from monograph.core.errors import ArgumentError, ArgumentTypeError, DeviceError, DTypeError
from monograph.core.modes import modes
from monograph.core.structure import Registry, changed, watch
from monograph.nn.hooks import RemovableHandle, refuse_wrong_type, run_with_hooks
from monograph.nn.parameter import Buffer, Parameter
from monograph.nn.state import StateDict
from monograph.tensor import Tensor
from monograph.transform.attributes import always_watched, note_assignment


@always_watched
class Module(StateDict):
    """Base class of all layers and models: define `__init__` and `forward`, call the instance.

    Assigning a Parameter, a Buffer or a Module to an attribute registers it; `parameters()`,
    `state_dict()`, `to()` and the rest then find it. Same meaning as torch.nn.Module.
    """

    def __init__(self):
        put = super().__setattr__
        put("_training", True)
        put("_parameters", Registry())
        put("_buffers", Registry())
        put("_non_persistent_buffers_set", set())
        put("_modules", Registry())
        put("_forward_pre_hooks", Registry())
        put("_forward_hooks", Registry())
        put("_backward_pre_hooks", Registry())
        put("_backward_hooks", Registry())
        put("_state_hooks", {})

    # ---- calling

    def forward(self, *args, **kwargs):
        """Compute the output; every subclass defines it. Call the module itself, not `forward`."""
        raise NotImplementedError(f"{type(self).__name__}.forward is not defined")

    def __call__(self, *args, **kwargs):
        watch(self)
        if not (
            self._forward_pre_hooks
            or self._forward_hooks
            or self._backward_hooks
            or self._backward_pre_hooks
        ):
            try:
                return self.forward(*args, **kwargs)
            except AttributeError as error:
                refuse_wrong_type(self, args, kwargs, error)
                raise
        return run_with_hooks(self, args, kwargs)

    # ---- attributes

    def __setattr__(self, name, value):
        kind = (
            "_parameters"
            if isinstance(value, Parameter)
            else "_modules"
            if isinstance(value, Module)
            else "_buffers"
            if isinstance(value, Buffer)
            else None
        )
        registries = self.__dict__.get("_parameters"), self.__dict__.get("_modules")
        if kind is not None:
            if registries[0] is None:
                raise AttributeError(
                    f"{type(self).__name__}.{name}: call super().__init__() before assigning "
                    "parameters, buffers or modules"
                )
            self._forget(name, keep=kind)
            if kind == "_parameters":
                self.register_parameter(name, value)
            elif kind == "_modules":
                self.register_module(name, value)
            else:
                self.register_buffer(name, value, persistent=value.persistent)
            return
        if registries[0] is not None:
            if name in self._parameters:
                self._refuse_unless_none("parameter", "Parameter", name, value)
                self._parameters[name] = None
                return
            if name in self._modules:
                self._refuse_unless_none("module", "Module", name, value)
                self._modules[name] = None
                return
            if name in self._buffers:
                if not isinstance(value, Tensor):
                    self._refuse_unless_none("buffer", "Tensor", name, value)
                if modes.trace is not None:
                    modes.trace.note_rebinding(self._buffers, name)
                self._buffers[name] = value
                return
        if modes.trace is not None and isinstance(value, Tensor):
            modes.trace.note_rebinding(self.__dict__, name)
        note_assignment(self, name, value)
        super().__setattr__(name, value)
        changed()

    def _refuse_unless_none(self, role, wanted, name, value):
        if value is not None:
            raise ArgumentTypeError(
                f"{type(self).__name__}.{name} is a {role}: assign a {wanted} or None, "
                f"not {type(value).__name__}"
            )

    def _forget(self, name, keep):
        """Remove `name` from the instance dictionary and from every registry but `keep`."""
        self.__dict__.pop(name, None)
        for registry in ("_parameters", "_buffers", "_modules"):
            if registry != keep:
                getattr(self, registry).pop(name, None)
        if keep != "_buffers":
            self._non_persistent_buffers_set.discard(name)

    def __getattr__(self, name):
        # Reached only when the normal look-up fails.
        for registry in ("_parameters", "_buffers", "_modules"):
            entries = self.__dict__.get(registry)
            if entries is not None and name in entries:
                watch(self)
                return entries[name]
        raise AttributeError(
            f"'{type(self).__name__}' object has no attribute '{name}'", name=name, obj=self
        )

    def __delattr__(self, name):
        for registry in ("_parameters", "_buffers", "_modules"):
            if name in getattr(self, registry):
                del getattr(self, registry)[name]
                self._non_persistent_buffers_set.discard(name)
                return
        super().__delattr__(name)
        changed()

    def __dir__(self):
        names = set(super().__dir__())
        names.update(self._parameters, self._buffers, self._modules)
        return sorted(name for name in names if not name[:1].isdigit())

    def register_parameter(self, name, param):
        """Add a parameter (or None, a slot that stays out of `parameters()`) under `name`."""
        self._check_name("register_parameter", name, self._parameters)
        if param is not None and not isinstance(param, Parameter):
            raise ArgumentTypeError(
                f"register_parameter: '{name}' must be a Parameter or None, "
                f"got {type(param).__name__}"
            )
        if param is not None and not param.is_leaf:
            raise ArgumentError(
                f"register_parameter: '{name}' is the result of a computation, not a leaf; "
                "compute it in forward() instead"
            )
        self._parameters[name] = param

    def register_buffer(self, name, tensor, persistent=True):
        """Add a tensor that is not trained; `persistent` puts it into the state dict."""
        self._check_name("register_buffer", name, self._buffers)
        if tensor is not None and not isinstance(tensor, Tensor):
            raise ArgumentTypeError(
                f"register_buffer: '{name}' must be a Tensor or None, got {type(tensor).__name__}"
            )
        self._buffers[name] = tensor
        if persistent:
            self._non_persistent_buffers_set.discard(name)
        else:
            self._non_persistent_buffers_set.add(name)

    def register_module(self, name, module):
        """Add a sub-module (or None) under `name`; the same as `add_module`."""
        self._check_name("register_module", name, self._modules)
        if module is not None and not isinstance(module, Module):
            raise ArgumentTypeError(
                f"register_module: '{name}' must be a Module or None, got {type(module).__name__}"
            )
        self._modules[name] = module

    def add_module(self, name, module):
        """Add a sub-module (or None) under `name`."""
        self.register_module(name, module)

    def _check_name(self, operation, name, registry):
        if "_parameters" not in self.__dict__:
            raise AttributeError(f"{operation}: call super().__init__() of the module first")
        if not isinstance(name, str):
            raise ArgumentTypeError(
                f"{operation}: the name must be a str, got {type(name).__name__}"
            )
        if "." in name or name == "":
            raise ArgumentError(
                f"{operation}: the name must not be empty or hold a dot, got '{name}'"
            )
        if name not in registry and hasattr(self, name):
            raise ArgumentError(
                f"{operation}: {type(self).__name__} already has an attribute '{name}'"
            )

    # ---- traversal

    def named_modules(self, memo=None, prefix="", remove_duplicate=True):
        """Yield (path, module) for this module (its path is `prefix`) and all below, each once."""
        memo = set() if memo is None else memo
        if self in memo:
            return
        if remove_duplicate:
            memo.add(self)
        yield prefix, self
        for name, module in self._modules.items():
            if module is not None:
                path = f"{prefix}.{name}" if prefix else name
                yield from module.named_modules(memo, path, remove_duplicate)

    def modules(self, remove_duplicate=True):
        """Yield this module and all modules below it, each once unless told otherwise."""
        for _, module in self.named_modules(remove_duplicate=remove_duplicate):
            yield module

    def named_children(self):
        """Yield (name, module) for the direct sub-modules, each once."""
        seen = set()
        for name, module in self._modules.items():
            if module is not None and module not in seen:
                seen.add(module)
                yield name, module

    def children(self):
        """Yield the direct sub-modules, each once."""
        for _, module in self.named_children():
            yield module

    def _named_members(self, registry, prefix, recurse, remove_duplicate):
        seen = set()
        modules = (
            self.named_modules(prefix=prefix, remove_duplicate=remove_duplicate)
            if recurse
            else [(prefix, self)]
        )
        for path, module in modules:
            for name, tensor in getattr(module, registry).items():
                if tensor is None or id(tensor) in seen:
                    continue
                if remove_duplicate:
                    seen.add(id(tensor))
                yield (f"{path}.{name}" if path else name), tensor

    def named_parameters(self, prefix="", recurse=True, remove_duplicate=True):
        """Yield (path, parameter) for this module and, with `recurse`, all below; each once."""
        return self._named_members("_parameters", prefix, recurse, remove_duplicate)

    def parameters(self, recurse=True):
        """Yield the parameters of this module and, with `recurse`, of all below; each once."""
        for _, param in self.named_parameters(recurse=recurse):
            yield param

    def named_buffers(self, prefix="", recurse=True, remove_duplicate=True):
        """Yield (path, buffer) for this module and, with `recurse`, all below; each once."""
        return self._named_members("_buffers", prefix, recurse, remove_duplicate)

    def buffers(self, recurse=True):
        """Yield the buffers of this module and, with `recurse`, of all below; each once."""
        for _, buffer in self.named_buffers(recurse=recurse):
            yield buffer

    def get_submodule(self, target):
        """Return the module at a dotted path such as 'encoder.layers.0'; '' is this module."""
        module = self
        if target == "":
            return module
        walked = []
        for name in target.split("."):
            found = getattr(module, name, None)
            if not isinstance(found, Module):
                place = ".".join(walked) or type(self).__name__
                known = ", ".join(module._modules) or "none"
                raise AttributeError(
                    f"get_submodule: {place} has no sub-module '{name}' (it has: {known})"
                )
            module = found
            walked.append(name)
        return module

    def set_submodule(self, target, module, strict=False):
        """Put `module` at a dotted path; with `strict` only where one is already."""
        path, _, name = target.rpartition(".")
        parent = self.get_submodule(path)
        if strict:
            self.get_submodule(target)
        if not isinstance(module, Module):
            raise ArgumentTypeError(
                f"set_submodule: needs a module for {target!r}, got {type(module).__name__}"
            )
        setattr(parent, name, module)

    def get_parameter(self, target):
        """Return the parameter at a dotted path such as 'encoder.layers.0.weight'."""
        return self._get_member("get_parameter", "parameter", "_parameters", target)

    def get_buffer(self, target):
        """Return the buffer at a dotted path such as 'norm.running_mean'."""
        return self._get_member("get_buffer", "buffer", "_buffers", target)

    def _get_member(self, operation, role, registry, target):
        path, _, name = target.rpartition(".")
        module = self.get_submodule(path)
        entries = getattr(module, registry)
        if entries.get(name) is None:
            known = ", ".join(k for k, v in entries.items() if v is not None) or "none"
            raise AttributeError(
                f"{operation}: {path or type(self).__name__} has no {role} '{name}' "
                f"(it has: {known})"
            )
        return entries[name]

    # ---- modes

    @property
    def training(self):
        """True in training mode (dropout active, batch statistics); see `train` and `eval`."""
        if "_training" not in self.__dict__:
            raise AttributeError(f"{type(self).__name__}: call super().__init__() first")
        return self._training

    @training.setter
    def training(self, mode):
        self.__dict__["_training"] = mode
        changed()

    def train(self, mode=True):
        """Put this module and all below into training mode (or, with False, evaluation mode)."""
        if not isinstance(mode, bool):
            raise ArgumentError(f"train: mode must be a bool, got {type(mode).__name__}")
        for module in self.modules():
            module.training = mode
        return self

    def eval(self):
        """Put this module and all below into evaluation mode."""
        return self.train(False)

    def requires_grad_(self, requires_grad=True):
        """Switch gradients on or off for all parameters."""
        for param in self.parameters():
            param.requires_grad_(requires_grad)
        return self

    def zero_grad(self, set_to_none=True):
        """Drop the gradients of all parameters (or fill them with zeros)."""
        for param in self.parameters():
            if set_to_none:
                param.grad = None
            elif param.grad is not None:
                param.grad.detach_().zero_()

    def apply(self, fn):
        """Call `fn(module)` for every module below and then for this one; returns this module."""
        for module in self.children():
            module.apply(fn)
        fn(self)
        return self

    # ---- conversion

    def _apply(self, fn, recurse=True):
        """Replace the value of every parameter, gradient and buffer by `fn(value)`, in place."""
        with mg.no_grad():
            for tensor in itertools.chain(self.parameters(recurse), self.buffers(recurse)):
                tensor.data = fn(tensor.data)
                if tensor.grad is not None:
                    tensor.grad = fn(tensor.grad.detach())
        return self

    def to(self, *args, **kwargs):
        """Convert parameters and buffers: `to(dtype)`, `to(device, dtype)` or `to(tensor)`.

        A dtype must be floating and changes floating tensors only. Tensors keep their identity.
        """
        device, dtype = _parse_to(args, kwargs)
        if dtype is not None and not dtype.is_floating_point:
            raise DTypeError(f"Module.to: dtype must be a floating-point dtype, got {dtype}")

        def convert(tensor):
            if dtype is not None and tensor.is_floating_point():
                tensor = tensor.to(dtype)
            return tensor if device is None else tensor.to(device)

        return self._apply(convert)

    def to_empty(self, *, device=None, recurse=True):
        """Give parameters and buffers memory on `device`; their elements are zeros until loaded.

        For modules that were made on the device "meta".
        """
        target = mg.device("cpu" if device is None else device)
        return self._apply(
            lambda t: mg.empty(tuple(t.shape), dtype=t.dtype, device=target), recurse=recurse
        )

    def type(self, dst_type):
        """Convert all parameters and buffers, integer ones included, to `dst_type`."""
        return self._apply(lambda t: t.to(dst_type))

    def float(self):
        """Convert floating parameters and buffers to float32."""
        return self.to(mg.float32)

    def double(self):
        """Convert floating parameters and buffers to float64."""
        return self.to(mg.float64)

    def half(self):
        """Convert floating parameters and buffers to float16."""
        return self.to(mg.float16)

    def bfloat16(self):
        """Convert floating parameters and buffers to bfloat16."""
        return self.to(mg.bfloat16)

    def cpu(self):
        """Move parameters and buffers to the CPU."""
        return self.to("cpu")

    def cuda(self, device=None):
        """DeviceError: version 0.1 computes on the CPU."""
        raise DeviceError(
            "Module.cuda: no CUDA device is available; this build computes on 'cpu'",
            hint="write model.to(device) with device = 'cuda' if cuda.is_available() else 'cpu'",
        )

    def share_memory(self):
        """This module: loaders and processes get copies."""
        return self

    def compile(self, *args, **kwargs):
        """Compile `forward`, as `mg.compile(module)` does."""
        mg.compile(self, *args, **kwargs)

    # ---- hooks

    def register_forward_pre_hook(self, hook, *, prepend=False, with_kwargs=False):
        """Call `hook(module, args)` before forward; what it returns, if not None, replaces args.

        With `with_kwargs` the hook is `hook(module, args, kwargs)` and returns None or (args,
        kwargs).
        """
        return RemovableHandle(self._forward_pre_hooks, (hook, with_kwargs), prepend)

    def register_forward_hook(self, hook, *, prepend=False, with_kwargs=False, always_call=False):
        """Call `hook(module, args, output)` after forward; a result not None replaces the output.

        With `with_kwargs` the hook is `hook(module, args, kwargs, output)`. With `always_call` it
        is called, too, where forward or another hook raises: with the output as far as it came, or
        None. The exception goes on after it.
        """
        return RemovableHandle(self._forward_hooks, (hook, with_kwargs, always_call), prepend)

    def register_full_backward_pre_hook(self, hook, prepend=False):
        """Call `hook(module, grad_output)` before the gradients of the inputs are computed.

        `grad_output` is a tuple; what the hook returns, if not None, replaces it.
        """
        return RemovableHandle(self._backward_pre_hooks, (hook, False), prepend)

    def register_full_backward_hook(self, hook, prepend=False):
        """Call `hook(module, grad_input, grad_output)` once the gradients of the inputs are known.

        Both are tuples over the positional tensor arguments and the outputs; a result that is not
        None replaces `grad_input`.
        """
        return RemovableHandle(self._backward_hooks, (hook, False), prepend)

    register_backward_hook = register_full_backward_hook  # PyTorch's older name

    # ---- printing

    def extra_repr(self):
        """What stands between the parentheses of `repr`; subclasses define it."""
        return ""

    def _get_name(self):
        return type(self).__name__

    def __repr__(self):
        extra = self.extra_repr()
        lines = extra.split("\n") if extra else []
        children = [f"({k}): {indent(repr(m))}" for k, m in self._modules.items()]
        return render_tree(self._get_name(), lines, children)


def indent(text, spaces=2):
    """Indent all lines of `text` but the first."""
    return text.replace("\n", "\n" + " " * spaces)


def render_tree(name, extra_lines, child_lines):
    """The text of `repr`: `Name(extra)` on one line, or one line per entry between parentheses."""
    lines = extra_lines + child_lines
    if not lines:
        return f"{name}()"
    if len(extra_lines) == 1 and not child_lines:
        return f"{name}({extra_lines[0]})"
    return f"{name}(\n  " + "\n  ".join(lines) + "\n)"


def _parse_to(args, kwargs):
    kwargs = dict(kwargs)
    device, dtype = kwargs.pop("device", None), kwargs.pop("dtype", None)
    kwargs.pop("non_blocking", None)
    kwargs.pop("memory_format", None)
    if kwargs:
        raise ArgumentTypeError(f"Module.to: unknown argument '{next(iter(kwargs))}'")
    for arg in args:
        if isinstance(arg, Tensor):
            device, dtype = arg.device, arg.dtype
        elif isinstance(arg, DType):
            dtype = arg
        elif arg is not None and not isinstance(arg, bool):
            device = arg
    return device, dtype
