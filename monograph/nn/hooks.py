"""Module hooks: the handle that removes one, and the path of `Module.__call__` that runs them."""

import functools
import itertools

import monograph as mg
from monograph.tensor import Tensor

_hook_ids = itertools.count()


class RemovableHandle:
    """Takes its hook out of the module again: `handle.remove()`, or leave a `with` block."""

    def __init__(self, hooks, entry, prepend=False):
        self._hooks = hooks
        self.id = next(_hook_ids)
        hooks[self.id] = entry
        if prepend:
            hooks.move_to_end(self.id, last=False)

    def remove(self):
        """Remove the hook; a second call does nothing."""
        self._hooks.pop(self.id, None)

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        self.remove()


def run_with_hooks(module, args, kwargs):
    """Call `module.forward` between its pre-hooks and hooks (`Module.__call__` where any exist)."""
    for hook, with_kwargs in list(module._forward_pre_hooks.values()):
        if with_kwargs:
            result = hook(module, args, kwargs)
            if result is not None:
                if not (isinstance(result, tuple) and len(result) == 2):
                    raise TypeError(
                        "forward pre-hook with kwargs must return None or (args, kwargs), "
                        f"got {type(result).__name__}"
                    )
                args, kwargs = result
        else:
            result = hook(module, args)
            if result is not None:
                args = result if isinstance(result, tuple) else (result,)
    backward = None
    if module._backward_hooks or module._backward_pre_hooks:
        backward = _BackwardHooks(module)
        args = backward.watch_inputs(args)
    output = module.forward(*args, **kwargs)
    for hook, with_kwargs in list(module._forward_hooks.values()):
        result = hook(module, args, kwargs, output) if with_kwargs else hook(module, args, output)
        if result is not None:
            output = result
    return output if backward is None else backward.watch_outputs(output)


@functools.cache
def _tap_function():
    # Made at the first use: mg.autograd is not there yet while this package is imported.
    class Tap(mg.autograd.Function):
        """Identity on several tensors whose backward hands all gradients to `ctx.on_grad`."""

        @staticmethod
        def forward(ctx, on_grad, *tensors):
            ctx.on_grad = on_grad
            return tuple(t.view_as(t) for t in tensors)

        @staticmethod
        def backward(ctx, *grads):
            return (None, *ctx.on_grad(grads))

    return Tap


class _BackwardHooks:
    """One call of a module with backward hooks: taps on its inputs and on its outputs.

    Gradients reach the output tap first and the input tap last; where no input needs a gradient the
    hooks run at the output tap with None for each input.
    """

    def __init__(self, module):
        self.module = module
        self.grad_output = None
        self.n_inputs = 0
        self.inputs_tapped = False

    def watch_inputs(self, args):
        self.n_inputs = sum(isinstance(a, Tensor) for a in args)
        self.inputs_tapped = mg.is_grad_enabled() and any(
            isinstance(a, Tensor) and a.requires_grad for a in args
        )
        return _tap(self._on_grad_input, args) if self.inputs_tapped else args

    def watch_outputs(self, output):
        if isinstance(output, Tensor):
            return _tap(self._on_grad_output, (output,))[0]
        if isinstance(output, (tuple, list)):
            return type(output)(_tap(self._on_grad_output, tuple(output)))
        return output

    def _on_grad_output(self, grads):
        for hook, _ in list(self.module._backward_pre_hooks.values()):
            result = hook(self.module, grads)
            if result is not None:
                grads = result if isinstance(result, tuple) else (result,)
        self.grad_output = grads
        if not self.inputs_tapped:
            self._run((None,) * self.n_inputs)
        return grads

    def _on_grad_input(self, grads):
        return self._run(grads)

    def _run(self, grad_input):
        for hook, _ in list(self.module._backward_hooks.values()):
            result = hook(self.module, grad_input, self.grad_output)
            if result is not None:
                grad_input = result if isinstance(result, tuple) else (result,)
        return grad_input


def _tap(on_grad, values):
    """`values` with its tensors passed through one tap; other entries unchanged."""
    tensors = [v for v in values if isinstance(v, Tensor)]
    if not mg.is_grad_enabled() or not any(t.requires_grad for t in tensors):
        return values
    tapped = iter(_tap_function().apply(on_grad, *tensors))
    return tuple(next(tapped) if isinstance(v, Tensor) else v for v in values)
