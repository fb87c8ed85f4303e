"""Functions from functions: grad, vjp, jvp, jacrev, jacfwd, hessian, vmap, functional_call.

The names and meanings of torch.func; all compose in any order.
"""

from .api.checkpointing import checkpointed as checkpoint
from .api.func import (
    functional_call,
    functionalize,
    grad,
    grad_and_value,
    hessian,
    jacfwd,
    jacrev,
    jvp,
    linearize,
    replace_all_batch_norm_modules_,
    stack_module_state,
    vjp,
    vmap,
)

__all__ = [
    "checkpoint", "functional_call", "functionalize", "grad", "grad_and_value", "hessian", "jacfwd",
    "jacrev", "jvp", "linearize", "replace_all_batch_norm_modules_", "stack_module_state", "vjp",
    "vmap",
]  # fmt: skip
