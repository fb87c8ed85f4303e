"""weight_norm and spectral_norm as hooks, with the state-dict keys of older PyTorch checkpoints.

New code takes those of parametrizations.py. Here the weight is a plain attribute, computed before
each forward from the parameters `weight_g` and `weight_v`, or `weight_orig`.
"""

import monograph as mg
from monograph.core.errors import ArgumentError
from monograph.nn import functional as F
from monograph.nn.parameter import Parameter
from monograph.nn.utils.parametrizations import PowerIteration, norm_except_dim

__all__ = ["remove_spectral_norm", "remove_weight_norm", "spectral_norm", "weight_norm"]


class _Computed:
    """A forward pre-hook that sets module.<name> to what `compute(module)` gives."""

    def __init__(self, kind, name, compute):
        self.kind, self.name, self.compute = kind, name, compute

    def __call__(self, module, args):
        setattr(module, self.name, self.compute(module))


def _find(module, kind, name):
    for key, (hook, _) in module._forward_pre_hooks.items():
        if isinstance(hook, _Computed) and hook.kind == kind and hook.name == name:
            return key, hook
    raise ArgumentError(f"{kind} of '{name}' not found in {type(module).__name__}")


def _install(module, kind, name, compute):
    for hook, _ in module._forward_pre_hooks.values():
        if isinstance(hook, _Computed) and hook.kind == kind and hook.name == name:
            raise ArgumentError(f"{kind}: '{name}' of {type(module).__name__} has it already")
    weight = module._parameters.get(name)
    if weight is None:
        raise ArgumentError(f"{kind}: {type(module).__name__} has no parameter '{name}'")
    del module._parameters[name]
    return weight, _Computed(kind, name, compute)


def weight_norm(module, name="weight", dim=0):
    """Train the length `<name>_g` and the direction `<name>_v` of a weight apart.

    dim  the dimension along which lengths differ; None: one length for all. Returns the module.
    """

    def compute(module):
        v = getattr(module, f"{name}_v")
        return v * (getattr(module, f"{name}_g") / norm_except_dim(v, dim))

    weight, hook = _install(module, "weight_norm", name, compute)
    with mg.no_grad():
        length = norm_except_dim(weight, dim)
    module.register_parameter(f"{name}_g", Parameter(length.detach()))
    module.register_parameter(f"{name}_v", Parameter(weight.detach()))
    hook(module, ())
    module.register_forward_pre_hook(hook)
    return module


def remove_weight_norm(module, name="weight"):
    """Make `name` an ordinary parameter again; returns the module."""
    return _remove(module, "weight_norm", name, (f"{name}_g", f"{name}_v"))


def _remove(module, kind, name, parts):
    key, hook = _find(module, kind, name)
    was_training = module.training
    with mg.no_grad():
        module.eval()  # so that no estimate moves
        weight = hook.compute(module)
        module.train(was_training)
    for part in parts:
        delattr(module, part)
    module.__dict__.pop(name, None)
    module.register_parameter(name, Parameter(weight.detach().clone()))
    del module._forward_pre_hooks[key]
    return module


def spectral_norm(module, name="weight", n_power_iterations=1, eps=1e-12, dim=None):
    """Divide a weight, `<name>_orig`, by its largest singular value before each forward.

    `<name>_u` and `<name>_v` are the estimate of the singular vectors. Returns the module.
    """
    if dim is None:
        dim = 1 if "ConvTranspose" in type(module).__name__ else 0

    def compute(module):
        weight = getattr(module, f"{name}_orig")
        u, v = getattr(module, f"{name}_u"), getattr(module, f"{name}_v")
        matrix = weight.movedim(dim, 0).flatten(1)
        if module.training:
            with mg.no_grad():
                for _ in range(n_power_iterations):
                    v.copy_(F.normalize(mg.mv(matrix.detach().T, u), dim=0, eps=eps))
                    u.copy_(F.normalize(mg.mv(matrix.detach(), v), dim=0, eps=eps))
        return weight / mg.vdot(u.clone(), mg.mv(matrix, v.clone()))  # the next call overwrites

    weight, hook = _install(module, "spectral_norm", name, compute)
    start = PowerIteration(weight.detach(), n_power_iterations, dim, eps)
    module.register_parameter(f"{name}_orig", weight)
    module.register_buffer(f"{name}_u", start._u)
    module.register_buffer(f"{name}_v", start._v)
    setattr(module, name, weight.detach().clone())
    module.register_forward_pre_hook(hook)
    return module


def remove_spectral_norm(module, name="weight"):
    """Make `name` an ordinary parameter again, with its present value; returns the module."""
    return _remove(module, "spectral_norm", name, (f"{name}_orig", f"{name}_u", f"{name}_v"))
