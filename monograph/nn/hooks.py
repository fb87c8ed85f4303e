"""Module hooks: the handle that removes one, and the path of `Module.__call__` that runs them."""

import inspect
import itertools
import warnings

import monograph as mg
from monograph.autograd import Function
from monograph.core.errors import ArgumentTypeError
from monograph.tensor import Tensor

_hook_ids = itertools.count()


class RemovableHandle:
    """Takes its hook out of the module again: `handle.remove()`, or leave a `with` block."""

    def __init__(self, hooks, entry, prepend=False):
        self._hooks = hooks
        self.id = next(_hook_ids)
        hooks[self.id] = entry
        if prepend:
            hooks.move_to_front(self.id)

    def remove(self):
        """Remove the hook; a second call does nothing."""
        self._hooks.pop(self.id, None)

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        self.remove()


def refuse_wrong_type(module, args, kwargs, error):
    """ArgumentTypeError if the AttributeError of a forward of ours is an argument's, not a tensor.

    The modules of programs and their attributes are their own affair.
    """
    if not type(module).__module__.startswith(Tensor.__module__.partition(".")[0] + "."):
        return
    names = itertools.chain(inspect.signature(module.forward).parameters, itertools.repeat("input"))
    for name, value in (*zip(names, args), *kwargs.items()):
        if value is error.obj and not isinstance(value, Tensor):
            raise ArgumentTypeError(
                f"{type(module).__name__}: {name} must be a tensor, got {type(value).__name__}"
            ) from error


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
    output, hooks = None, list(module._forward_hooks.values())
    try:
        output = module.forward(*args, **kwargs)
        while hooks:
            hook, with_kwargs, _ = hooks.pop(0)
            output = _after(hook, with_kwargs, module, args, kwargs, output)
    except Exception:
        for hook, with_kwargs, always in hooks:
            if always:
                output = _after_failure(hook, with_kwargs, module, args, kwargs, output)
        raise
    return output if backward is None else backward.watch_outputs(output)


def _after(hook, with_kwargs, module, args, kwargs, output):
    """The output after a forward hook saw it."""
    result = hook(module, args, kwargs, output) if with_kwargs else hook(module, args, output)
    return output if result is None else result


def _after_failure(hook, with_kwargs, module, args, kwargs, output):
    """The same while an exception is under way, which one of the hook must not hide."""
    try:
        return _after(hook, with_kwargs, module, args, kwargs, output)
    except Exception as error:
        warnings.warn(
            f"{type(module).__name__}: a forward hook with always_call=True raised "
            f"{type(error).__name__}, while another exception was raised before: {error}",
            stacklevel=2,
        )
        return output


class _Tap(Function):
    """Identity on several tensors whose backward hands all gradients to `ctx.on_grad` at once."""

    @staticmethod
    def forward(ctx, on_grad, *tensors):
        ctx.on_grad = on_grad
        ctx.set_materialize_grads(False)
        return tuple(t.view_as(t) for t in tensors)

    @staticmethod
    def backward(ctx, *grads):
        return (None, *ctx.on_grad(grads))


class _BackwardHooks:
    """One call of a module with backward hooks: taps on its inputs and on its outputs.

    Gradients reach the output tap first and the input tap last; where no input needs a gradient the
    hooks run at the output tap. Hooks see one entry per positional argument or output, None where
    there is no gradient.
    """

    def __init__(self, module):
        self.module = module
        self.grad_output = None
        self.tapped_inputs = ()
        self.n_inputs = 0

    def watch_inputs(self, args):
        args, self.tapped_inputs = _tap(self._on_grad_input, args)
        self.n_inputs = len(args)
        return args

    def watch_outputs(self, output):
        outputs = tuple(output) if isinstance(output, (tuple, list)) else (output,)
        self.n_outputs = len(outputs)
        outputs, self.tapped_outputs = _tap(self._on_grad_output, outputs)
        return type(output)(outputs) if isinstance(output, (tuple, list)) else outputs[0]

    def _on_grad_output(self, grads):
        grads = _spread(grads, self.tapped_outputs, self.n_outputs)
        for hook, _ in list(self.module._backward_pre_hooks.values()):
            grads = _replaced(grads, hook(self.module, grads))
        self.grad_output = grads
        if not self.tapped_inputs:
            self._run((None,) * self.n_inputs)
        return [grads[i] for i in self.tapped_outputs]

    def _on_grad_input(self, grads):
        grads = self._run(_spread(grads, self.tapped_inputs, self.n_inputs))
        return [grads[i] for i in self.tapped_inputs]

    def _run(self, grads):
        for hook, _ in list(self.module._backward_hooks.values()):
            grads = _replaced(grads, hook(self.module, grads, self.grad_output))
        return grads


def _replaced(grads, result):
    if result is None:
        return grads
    return tuple(result) if isinstance(result, (tuple, list)) else (result,)


def _spread(grads, positions, n):
    """A tuple of n entries with `grads` at `positions` and None elsewhere."""
    at = dict(zip(positions, grads))
    return tuple(at.get(i) for i in range(n))


def _tap(on_grad, values):
    """(values with those that require a gradient passed through one _Tap, their positions)."""
    positions = [i for i, v in enumerate(values) if isinstance(v, Tensor) and v.requires_grad]
    if not positions or not mg.is_grad_enabled():
        return values, ()
    values = list(values)
    for i, tapped in zip(positions, _Tap.apply(on_grad, *(values[i] for i in positions))):
        values[i] = tapped
    return tuple(values), positions
