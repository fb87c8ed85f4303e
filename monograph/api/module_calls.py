"""Modules as functions of their parameters: functional_call, stack_module_state, and batch norm
without statistics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..core.errors import ArgumentError
from ..core.structure import watch
from ..ops.align import FUNCTIONS
from ..tensor import Tensor


def functional_call(
    module: Any,
    parameters_and_buffers: Any,
    args: Any = None,
    kwargs: dict | None = None,
    *,
    tie_weights: bool = True,
    strict: bool = False,
) -> Any:
    """Call a module with other tensors in place of its parameters and buffers.

    parameters_and_buffers  name -> tensor, or several such dicts
    tie_weights             replace a tensor that the module holds under several names everywhere
    strict                  every parameter and buffer must be given

    The module is as before afterwards, whatever happens.
    """
    if isinstance(parameters_and_buffers, dict):
        given = dict(parameters_and_buffers)
    else:
        given = {}
        for d in parameters_and_buffers:
            repeated = sorted(given.keys() & d.keys())
            if repeated:
                raise ArgumentError(f"functional_call: {repeated[0]!r} is given twice")
            given |= d
    homes = _homes(module)
    unknown = sorted(given.keys() - homes.keys())
    if unknown:
        raise ArgumentError(
            f"functional_call: the module has no parameter or buffer {unknown[0]!r}"
        )
    if strict:
        missing = sorted(homes.keys() - given.keys())
        if missing:
            raise ArgumentError(f"functional_call: no value for {missing[0]!r} (strict=True)")
    swaps: list[tuple[dict, str, Any]] = []
    by_tensor = {id(homes[name][0][homes[name][1]]): name for name in given} if tie_weights else {}
    for name, (registry, key) in homes.items():
        source = name if name in given else by_tensor.get(id(registry[key]))
        if source is not None:
            swaps.append((registry, key, given[source]))
    before = [(registry, key, registry[key]) for registry, key, _ in swaps]
    if args is None:
        args = ()
    elif not isinstance(args, tuple):
        args = (args,)
    watch(module)  # as it is without these values
    try:
        for registry, key, value in swaps:
            registry[key] = value
        return module(*args, **(kwargs or {}))
    finally:
        for registry, key, value in before:
            registry[key] = value


def _homes(module: Any, prefix: str = "") -> dict[str, tuple[dict, str]]:
    """Where each parameter and buffer lives: dotted name -> (registry, key)."""
    homes: dict[str, tuple[dict, str]] = {}
    for registry in (module._parameters, module._buffers):
        for key, value in registry.items():
            if value is not None:
                homes[prefix + key] = (registry, key)
    for name, child in module._modules.items():
        if child is not None:
            homes |= _homes(child, f"{prefix}{name}.")
    return homes


def stack_module_state(models: Sequence[Any]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """(parameters, buffers) of equal modules, each stacked along a new first axis, for vmap."""
    if not models:
        raise ArgumentError("stack_module_state: at least one module is needed")
    stack = FUNCTIONS["stack"]
    made = []
    for kind in ("named_parameters", "named_buffers"):
        trees = [dict(getattr(m, kind)()) for m in models]
        if any(t.keys() != trees[0].keys() for t in trees):
            raise ArgumentError("stack_module_state: the modules have different parameters")
        stacked = {}
        for name in trees[0]:
            joined = stack([t[name].detach() for t in trees])
            if all(t[name].requires_grad for t in trees):
                joined.requires_grad_()
            stacked[name] = joined
        made.append(stacked)
    return made[0], made[1]


def replace_all_batch_norm_modules_(root: Any) -> Any:
    """Let every batch norm in `root` normalise with the batch's own statistics and keep none.

    So no buffer is written under vmap. In place; returns root. Same meaning as torch.func's.

    >>> net = func.replace_all_batch_norm_modules_(nn.Sequential(nn.BatchNorm1d(3)))
    >>> net[0].running_mean is None
    True
    """
    for module in root.modules():
        if any(kind.__name__ == "_BatchNorm" for kind in type(module).__mro__):
            module.running_mean = module.running_var = module.num_batches_tracked = None
            module.track_running_stats = False
    return root
