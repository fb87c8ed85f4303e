"""State dicts of modules: {path: tensor}, what is loaded from them, and hooks around both."""

import monograph as mg
from monograph.core.errors import ArgumentTypeError, StateDictError
from monograph.nn.hooks import RemovableHandle
from monograph.nn.parameter import Parameter, is_lazy

EXTRA = "_extra_state"  # the last part of the key of what get_extra_state gives
REGISTRIES = frozenset(
    """
    _parameters _buffers _modules _non_persistent_buffers_set _forward_pre_hooks _forward_hooks
    _backward_pre_hooks _backward_hooks _state_hooks
    """.split()
)


class IncompatibleKeys(tuple):
    """What `load_state_dict` found: `missing_keys` and `unexpected_keys`, two lists."""

    __slots__ = ()

    def __new__(cls, missing_keys, unexpected_keys):
        return super().__new__(cls, (missing_keys, unexpected_keys))

    missing_keys = property(lambda self: self[0])
    unexpected_keys = property(lambda self: self[1])

    def __repr__(self):
        if not self[0] and not self[1]:
            return "<All keys matched successfully>"
        return f"_IncompatibleKeys(missing_keys={self[0]}, unexpected_keys={self[1]})"


class StateDict:
    """The part of Module that saves and loads."""

    def state_dict(self, *, destination=None, prefix="", keep_vars=False):
        """Return {path: tensor} of all parameters and persistent buffers.

        The tensors share memory with the module (detached unless `keep_vars`); clone them to keep a
        copy.
        """
        destination = {} if destination is None else destination
        self._run_state_hooks("before saving", prefix, keep_vars)
        for path, tensor in self._own_state(prefix):
            destination[path] = tensor if keep_vars else tensor.detach()
        extra = self.get_extra_state()
        if extra is not None:
            destination[prefix + EXTRA] = extra
        for name, module in self._modules.items():
            if module is not None:
                module.state_dict(
                    destination=destination, prefix=f"{prefix}{name}.", keep_vars=keep_vars
                )
        self._run_state_hooks("after saving", destination, prefix, {})
        return destination

    def get_extra_state(self):
        """What the state dict keeps beside tensors; subclasses define it, with set_extra_state."""

    def set_extra_state(self, state):
        """Take what get_extra_state gave; subclasses define it."""
        raise NotImplementedError(f"{type(self).__name__}.set_extra_state is not defined")

    def _own_state(self, prefix):
        """Yield (path, tensor): own parameters, then own buffers."""
        for name, param in self._parameters.items():
            if param is not None:
                yield prefix + name, param
        for name, buffer in self._buffers.items():
            if buffer is not None and name not in self._non_persistent_buffers_set:
                yield prefix + name, buffer

    def _named_state(self, prefix=""):
        """Yield (path, tensor) of this module, then those of sub-modules."""
        yield from self._own_state(prefix)
        for name, module in self._modules.items():
            if module is not None:
                yield from module._named_state(f"{prefix}{name}.")

    def load_state_dict(self, state_dict, strict=True, assign=False):
        """Copy the values of `state_dict` (tensors or arrays) into this module, all or nothing.

        assign  take the tensors themselves, with their dtype, in place of copying their elements

        StateDictError lists every key that is missing or unexpected (only with `strict`) and every
        shape that differs; then nothing has been loaded. Returns the missing and unexpected keys.
        """
        if not hasattr(state_dict, "items"):
            raise ArgumentTypeError(
                f"load_state_dict: state_dict must be a mapping, got {type(state_dict).__name__}"
            )
        state_dict = dict(state_dict)
        added_missing, added_unexpected, errors = [], [], []
        places = [(f"{p}." if p else "", m) for p, m in self.named_modules(remove_duplicate=False)]
        for prefix, module in places:
            module._run_state_hooks(
                "before loading", state_dict, prefix, {}, strict, added_missing, added_unexpected,
                errors,
            )  # fmt: skip
        extras = {prefix + EXTRA: m for prefix, m in places if m.get_extra_state() is not None}
        wanted = dict(self._named_state())
        # Checkpoints from before batch norms counted their batches have no such numbers.
        missing = [
            key
            for key in [*wanted, *extras]
            if key not in state_dict and not key.endswith("num_batches_tracked")
        ]
        unexpected = [key for key in state_dict if key not in wanted and key not in extras]
        shared = [key for key in wanted if key in state_dict]
        problems = [("error", "", text) for text in errors]
        missing, unexpected = missing + added_missing, unexpected + added_unexpected
        if strict:
            problems += [("missing", key, f"{_shape(wanted.get(key))}") for key in missing]
            problems += [("unexpected", key, _shape(state_dict.get(key))) for key in unexpected]
        problems += [
            (
                "shape differs",
                key,
                f"{_shape(state_dict[key])} in the state dict, {_shape(wanted[key])} in the module",
            )
            for key in shared
            if _shape(state_dict[key]) != _shape(wanted[key]) and not is_lazy(wanted[key])
        ]
        if problems:
            raise _state_dict_error(type(self).__name__, problems, len(wanted))
        for prefix, module in places:
            give = getattr(module, "_given_shapes", None)  # a lazy layer's
            if give is not None:
                give(state_dict, prefix)
        with mg.no_grad():
            for key in shared:
                value = mg.as_tensor(state_dict[key])
                if assign:
                    self._assign(key, value)
                else:
                    wanted[key].copy_(value)
        for key, module in extras.items():
            if key in state_dict:
                module.set_extra_state(state_dict[key])
        found = IncompatibleKeys(missing, unexpected)
        for _, module in reversed(places):
            module._run_state_hooks("after loading", found)
        return found

    def _assign(self, key, value):
        """Put a tensor in the place of the parameter or buffer at a dotted path."""
        path, _, name = key.rpartition(".")
        module = self.get_submodule(path)
        old = module._parameters.get(name)
        if old is None:
            module._buffers[name] = value
        elif isinstance(value, Parameter):
            module._parameters[name] = value
        else:
            module._parameters[name] = Parameter(value, requires_grad=old.requires_grad)

    # ---- hooks

    def register_state_dict_pre_hook(self, hook):
        """Call `hook(module, prefix, keep_vars)` before this module's state is saved."""
        return RemovableHandle(self._state_hooks, ("before saving", hook))

    def register_state_dict_post_hook(self, hook):
        """Call `hook(module, state_dict, prefix, {})` after it is; the hook may change the dict."""
        return RemovableHandle(self._state_hooks, ("after saving", hook))

    _register_state_dict_hook = register_state_dict_post_hook  # PyTorch's older name

    def register_load_state_dict_pre_hook(self, hook):
        """Call a hook before this module's state is looked for: to rename keys, for example.

        hook(module, state_dict, prefix, {}, strict, missing_keys, unexpected_keys, error_msgs) may
        change the dict, and add to the lists.
        """
        return RemovableHandle(self._state_hooks, ("before loading", hook))

    def _register_load_state_dict_pre_hook(self, hook, with_module=False):
        """PyTorch's older name; such a hook is not given the module."""
        if with_module:
            return self.register_load_state_dict_pre_hook(hook)
        return self.register_load_state_dict_pre_hook(lambda module, *args: hook(*args))

    def register_load_state_dict_post_hook(self, hook):
        """Call `hook(module, incompatible_keys)` once all is loaded."""
        return RemovableHandle(self._state_hooks, ("after loading", hook))

    def _run_state_hooks(self, when, *args):
        for moment, hook in list(self._state_hooks.values()):
            if moment == when:
                hook(self, *args)

    # ---- copies

    def __getstate__(self):
        """Registries are copied, so that a shallow copy can be changed without the original."""
        return {k: v.copy() if k in REGISTRIES else v for k, v in self.__dict__.items()}

    def __setstate__(self, state):
        self.__dict__.update(state)


def _shape(value):
    return tuple(getattr(value, "shape", ()))


def _state_dict_error(name, problems, known):
    kinds = max(len(kind) for kind, _, _ in problems)
    keys = max(len(key) for _, key, _ in problems)
    rows = "\n".join(f"    {kind:<{kinds}}  {key:<{keys}}  {what}" for kind, key, what in problems)
    count = f"{len(problems)} problem{'s' if len(problems) > 1 else ''}"
    return StateDictError(
        f"load_state_dict: {count} with the state dict of {name} ({known} tensors):\n{rows}",
        hint="nothing was loaded; strict=False ignores missing and unexpected keys",
    )
