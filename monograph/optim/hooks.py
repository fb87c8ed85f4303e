"""Hooks of optimizers: functions that run before or after a step, or with state dicts.

An optimizer without hooks pays nothing: the first hook puts the method that runs them in front of
the optimizer's own.
"""

from collections import OrderedDict

from monograph.core.errors import ArgumentTypeError
from monograph.nn.hooks import RemovableHandle


class _Hooks(OrderedDict):
    def move_to_front(self, key):
        self.move_to_end(key, last=False)


class HasHooks:
    """What gives an optimizer its hooks. In a captured function they run while it is captured."""

    def register_step_pre_hook(self, hook):
        """Call hook(optimizer, args, kwargs) before each step; it may return other (args, kwargs).

        The handle that is returned takes it away again: `remove()`.
        """
        return self._add("step", "before", hook)

    def register_step_post_hook(self, hook):
        """Call hook(optimizer, args, kwargs) after each step."""
        return self._add("step", "after", hook)

    def register_state_dict_pre_hook(self, hook, prepend=False):
        """Call hook(optimizer) before `state_dict`."""
        return self._add("state_dict", "before", hook, prepend)

    def register_state_dict_post_hook(self, hook, prepend=False):
        """Call hook(optimizer, state_dict) after `state_dict`; it may return another dict."""
        return self._add("state_dict", "after", hook, prepend)

    def register_load_state_dict_pre_hook(self, hook, prepend=False):
        """Call hook(optimizer, state_dict) before `load_state_dict`; it may return another dict."""
        return self._add("load_state_dict", "before", hook, prepend)

    def register_load_state_dict_post_hook(self, hook, prepend=False):
        """Call hook(optimizer) after `load_state_dict`."""
        return self._add("load_state_dict", "after", hook, prepend)

    def _add(self, method, when, hook, prepend=False):
        if not callable(hook):
            raise ArgumentTypeError(
                f"{type(self).__name__}: a hook must be a function, got {type(hook).__name__}"
            )
        self.__dict__.setdefault(method, getattr(self, f"_{method}_with_hooks"))
        every = self.__dict__.setdefault("_hooks_of", {})
        return RemovableHandle(every.setdefault((method, when), _Hooks()), hook, prepend)

    def _hooks(self, method, when):
        return [*self._hooks_of.get((method, when), {}).values()]

    def _step_with_hooks(self, *args, **kwargs):
        for hook in self._hooks("step", "before"):
            changed = hook(self, args, kwargs)
            if changed is not None:
                if not (isinstance(changed, tuple) and len(changed) == 2):
                    raise ArgumentTypeError(
                        f"{type(self).__name__}: a hook before step must return None or (args, "
                        f"kwargs), got {type(changed).__name__}"
                    )
                args, kwargs = changed
        result = type(self).step(self, *args, **kwargs)
        for hook in self._hooks("step", "after"):
            hook(self, args, kwargs)
        return result

    def _state_dict_with_hooks(self):
        for hook in self._hooks("state_dict", "before"):
            hook(self)
        made = type(self).state_dict(self)
        for hook in self._hooks("state_dict", "after"):
            made = _or(hook(self, made), made)
        return made

    def _load_state_dict_with_hooks(self, state_dict):
        state_dict = dict(state_dict)
        for hook in self._hooks("load_state_dict", "before"):
            state_dict = _or(hook(self, state_dict), state_dict)
        type(self).load_state_dict(self, state_dict)
        for hook in self._hooks("load_state_dict", "after"):
            hook(self)


def _or(changed, before):
    return before if changed is None else changed
