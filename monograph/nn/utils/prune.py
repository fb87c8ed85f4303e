"""Pruning: parameters multiplied by masks of zeros and ones.

    prune.l1_unstructured(layer, "weight", amount=0.3)
    layer.weight                 # weight_orig * weight_mask, computed before each forward
    prune.remove(layer, "weight")  # an ordinary parameter again, with the zeros in it

State dicts hold "weight_orig" and "weight_mask". Same meaning as torch.nn.utils.prune.
"""

import monograph as mg
from monograph.core.errors import ArgumentError, ArgumentTypeError

__all__ = [
    "BasePruningMethod", "CustomFromMask", "Identity", "L1Unstructured", "LnStructured",
    "PruningContainer", "RandomStructured", "RandomUnstructured", "custom_from_mask",
    "global_unstructured", "identity", "is_pruned", "l1_unstructured", "ln_structured",
    "random_structured", "random_unstructured", "remove",
]  # fmt: skip


class BasePruningMethod:
    """A way to prune: subclasses define `compute_mask(scores, default_mask)`.

    PRUNING_TYPE "unstructured" chooses among the elements that are left, "structured" among rows
    along a dimension, "global" among all elements.
    """

    PRUNING_TYPE = "unstructured"

    def __call__(self, module, inputs):
        setattr(module, self._tensor_name, self.apply_mask(module))

    def compute_mask(self, t, default_mask):
        """The mask for scores t: zeros where to prune, also where default_mask is zero."""
        raise NotImplementedError(f"{type(self).__name__}.compute_mask is not defined")

    def apply_mask(self, module):
        """The pruned tensor."""
        name = self._tensor_name
        original, mask = getattr(module, f"{name}_orig"), getattr(module, f"{name}_mask")
        return original * mask.to(original.dtype)

    @classmethod
    def apply(cls, module, name, *args, importance_scores=None, **kwargs):
        """Prune the parameter `name` of `module`; on top of what is pruned already."""
        return _prune(cls(*args, **kwargs), module, name, importance_scores)

    def prune(self, t, default_mask=None, importance_scores=None):
        """t with what this method chooses set to zero."""
        scores = t if importance_scores is None else importance_scores
        default = mg.ones_like(t) if default_mask is None else default_mask
        return t * self.compute_mask(scores, default).to(t.dtype)

    def remove(self, module):
        """Make the tensor an ordinary parameter again, with its zeros."""
        name = self._tensor_name
        with mg.no_grad():
            weight = self.apply_mask(module)
            original = module._parameters.pop(f"{name}_orig")
            original.data = weight
        del module._buffers[f"{name}_mask"]
        module.__dict__.pop(name, None)
        module.register_parameter(name, original)


def _prune(method, module, name, scores):
    found = None
    for key, (hook, _) in module._forward_pre_hooks.items():
        if isinstance(hook, BasePruningMethod) and hook._tensor_name == name:
            found = key, hook
    method._tensor_name = name
    if found is None:
        original = module._parameters.get(name)
        if original is None:
            raise ArgumentError(f"prune: {type(module).__name__} has no parameter '{name}'")
        default, current = mg.ones_like(original).detach(), original.detach()
    else:
        original, current = getattr(module, f"{name}_orig"), getattr(module, name).detach()
        default = getattr(module, f"{name}_mask")
    if scores is None:
        scores = current
    elif tuple(scores.shape) != tuple(original.shape):
        raise ArgumentError(
            f"prune: importance_scores have shape {tuple(scores.shape)}, '{name}' has "
            f"{tuple(original.shape)}"
        )
    with mg.no_grad():
        if found is None:
            mask = method.compute_mask(scores, default.clone())
            del module._parameters[name]
            module.register_parameter(f"{name}_orig", original)
            module.register_buffer(f"{name}_mask", mask.to(original.dtype))
            module.register_forward_pre_hook(method)
        else:
            key, before = found
            container = before if isinstance(before, PruningContainer) else PruningContainer(before)
            container._tensor_name = name
            container.add_pruning_method(method)
            mask = container.compute_mask(scores, default)
            getattr(module, f"{name}_mask").copy_(mask)
            module._forward_pre_hooks[key] = (container, False)
    setattr(module, name, method.apply_mask(module))
    return method


class PruningContainer(BasePruningMethod):
    """Several methods applied one after the other to one tensor."""

    def __init__(self, *methods):
        self._methods = []
        self._tensor_name = methods[0]._tensor_name if methods else None
        for method in methods:
            self.add_pruning_method(method)

    def add_pruning_method(self, method):
        """Add a method for the same tensor."""
        if not isinstance(method, BasePruningMethod):
            raise ArgumentTypeError(
                f"PruningContainer: needs a BasePruningMethod, got {type(method).__name__}"
            )
        self._methods.append(method)

    def __len__(self):
        return len(self._methods)

    def __iter__(self):
        return iter(self._methods)

    def __getitem__(self, index):
        return self._methods[index]

    def compute_mask(self, t, default_mask):
        """default_mask with what the newest method chooses among the elements that are left."""
        method, mask = self._methods[-1], default_mask
        if method.PRUNING_TYPE == "unstructured":
            left = mg.nonzero(mask.reshape(-1)).reshape(-1)
            flat = mask.reshape(-1).clone()
            chosen = method.compute_mask(t.reshape(-1)[left], mg.ones_like(flat[left]))
            flat[left] = chosen.to(flat.dtype)
            return flat.reshape(mask.shape)
        if method.PRUNING_TYPE == "structured":
            dim = method.dim % t.ndim
            others = [d for d in range(t.ndim) if d != dim]
            kept = mask.sum(others) if others else mask
            left = mg.nonzero(kept != 0).reshape(-1)
            part = method.compute_mask(t.index_select(dim, left), mask.index_select(dim, left))
            return mask.clone().index_copy(dim, left, part.to(mask.dtype))
        return method.compute_mask(t, mask)


class Identity(BasePruningMethod):
    """A mask of ones."""

    def compute_mask(self, t, default_mask):
        return default_mask


class CustomFromMask(BasePruningMethod):
    """A mask that is given."""

    PRUNING_TYPE = "global"

    def __init__(self, mask):
        self.mask = mask

    def compute_mask(self, t, default_mask):
        return default_mask * self.mask.to(default_mask.dtype)


class _Amount(BasePruningMethod):
    def __init__(self, amount):
        is_number = isinstance(amount, (int, float)) and not isinstance(amount, bool)
        if not is_number or amount < 0 or (isinstance(amount, float) and amount > 1):
            raise ArgumentError(
                f"prune: amount must be an int of at least 0 or a float in [0, 1], got {amount}"
            )
        self.amount = amount

    def _count(self, size):
        if isinstance(self.amount, float):
            return round(self.amount * size)
        if self.amount > size:
            raise ArgumentError(f"prune: amount {self.amount} is more than the {size} there are")
        return self.amount

    def _zeroed(self, default_mask, places):
        mask = default_mask.reshape(-1).clone()
        mask[places] = 0
        return mask.reshape(default_mask.shape)


class RandomUnstructured(_Amount):
    """Elements at random."""

    def compute_mask(self, t, default_mask):
        count = self._count(t.numel())
        if not count:
            return default_mask
        return self._zeroed(default_mask, mg.rand(t.numel()).topk(count).indices)


class L1Unstructured(_Amount):
    """The elements that are smallest in size."""

    def compute_mask(self, t, default_mask):
        count = self._count(t.numel())
        if not count:
            return default_mask
        places = t.abs().reshape(-1).topk(count, largest=False).indices
        return self._zeroed(default_mask, places)


class _Rows(_Amount):
    PRUNING_TYPE = "structured"

    def _mask_rows(self, t, default_mask, scores):
        dim = self.dim % t.ndim
        count = self._count(t.shape[dim])
        if not count:
            return default_mask
        rows = mg.ones(t.shape[dim], dtype=default_mask.dtype)
        rows[scores.topk(count, largest=False).indices] = 0
        return default_mask * rows.reshape([-1 if d == dim else 1 for d in range(t.ndim)])


class RandomStructured(_Rows):
    """Rows along `dim` at random."""

    def __init__(self, amount, dim=-1):
        super().__init__(amount)
        self.dim = dim

    def compute_mask(self, t, default_mask):
        return self._mask_rows(t, default_mask, mg.rand(t.shape[self.dim]))


class LnStructured(_Rows):
    """The rows along `dim` with the smallest norm of order n."""

    def __init__(self, amount, n, dim=-1):
        super().__init__(amount)
        self.n, self.dim = n, dim

    def compute_mask(self, t, default_mask):
        dim = self.dim % t.ndim
        others = [d for d in range(t.ndim) if d != dim]
        norms = mg.norm(t, p=self.n, dim=others) if others else t.abs()
        return self._mask_rows(t, default_mask, norms)


def identity(module, name):
    """Give `name` a mask of ones; returns the module."""
    Identity.apply(module, name)
    return module


def random_unstructured(module, name, amount):
    """Prune elements at random: `amount` of them, or that share (a float); returns the module."""
    RandomUnstructured.apply(module, name, amount)
    return module


def l1_unstructured(module, name, amount, importance_scores=None):
    """Prune the smallest elements (by importance_scores, if given); returns the module."""
    L1Unstructured.apply(module, name, amount, importance_scores=importance_scores)
    return module


def random_structured(module, name, amount, dim):
    """Prune rows along `dim` at random; returns the module."""
    RandomStructured.apply(module, name, amount, dim)
    return module


def ln_structured(module, name, amount, n, dim, importance_scores=None):
    """Prune the rows along `dim` with the smallest norm of order n; returns the module."""
    LnStructured.apply(module, name, amount, n, dim, importance_scores=importance_scores)
    return module


def custom_from_mask(module, name, mask):
    """Prune where `mask` is zero; returns the module."""
    CustomFromMask.apply(module, name, mask)
    return module


def global_unstructured(parameters, pruning_method, importance_scores=None, **kwargs):
    """Prune elements of several (module, name) pairs together, compared with one another.

    importance_scores  {(module, name): scores} for some of them
    """
    scores = importance_scores or {}
    pairs = list(parameters)
    values = [scores.get((m, n), getattr(m, n)).detach() for m, n in pairs]
    masks = [getattr(m, f"{n}_mask", None) if f"{n}_mask" in m._buffers else None for m, n in pairs]
    masks = [mg.ones_like(v) if mask is None else mask for v, mask in zip(values, masks)]
    container = PruningContainer()
    method = pruning_method(**kwargs)
    if method.PRUNING_TYPE != "unstructured":
        raise ArgumentError("global_unstructured: the method must be unstructured")
    container.add_pruning_method(method)
    with mg.no_grad():
        mask = container.compute_mask(
            mg.cat([v.reshape(-1) for v in values]), mg.cat([x.reshape(-1) for x in masks])
        )
    start = 0
    for (module, name), value in zip(pairs, values):
        part = mask[start : start + value.numel()].reshape(value.shape)
        custom_from_mask(module, name, part)
        start += value.numel()


def remove(module, name):
    """Make the pruned `name` an ordinary parameter again, with its zeros; returns the module."""
    for key, (hook, _) in list(module._forward_pre_hooks.items()):
        if isinstance(hook, BasePruningMethod) and hook._tensor_name == name:
            hook.remove(module)
            del module._forward_pre_hooks[key]
            return module
    raise ArgumentError(f"prune.remove: '{name}' of {type(module).__name__} is not pruned")


def is_pruned(module):
    """Whether the module or one below it has a pruned parameter."""
    return any(
        isinstance(hook, BasePruningMethod)
        for m in module.modules()
        for hook, _ in m._forward_pre_hooks.values()
    )
