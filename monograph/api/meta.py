"""Making tensors on the device "meta": `zeros(3, device="meta")`, `with device("meta"):`.

A function that makes tensors is run while a capture that is thrown away records it, so that
nothing is computed; what is kept is the shape.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from ..core import device as devices
from ..core.device import META_DEVICE, device
from ..core.layouts import MEMORY, without_memory
from ..core.modes import modes
from ..ir.op import Aval
from ..ops.arguments import written
from ..tensor import Tensor, wrap
from ..transform.meta import META
from ..transform.trace import Trace

# Functions of the main namespace that make tensors and take a device.
CREATORS = """
arange as_tensor asarray empty empty_like empty_permuted empty_strided eye full full_like linspace
logspace ones ones_like rand rand_like randint randint_like randn randn_like randperm scalar_tensor
tensor zeros zeros_like
""".split()


def on_meta(x: Tensor) -> Tensor:
    """The shape and dtype of x, without elements."""
    if x.is_meta:
        return x
    made = wrap(META.symbol(Aval(tuple(x.shape), x.dtype)))
    made._requires = x._requires and x.is_leaf
    return made


def placed(create: Callable) -> Callable:
    """`create` that also makes tensors on the device "meta", and takes out= and what says how a
    tensor lies in memory."""

    @functools.wraps(create)
    def made(*args: Any, **kwargs: Any) -> Any:
        if kwargs and not MEMORY.isdisjoint(kwargs):
            kwargs = without_memory(create.__name__, kwargs)
        if "out" in kwargs:
            out = kwargs.pop("out")
            result = made(*args, **kwargs)
            return result if out is None else written(create.__name__, out, result)
        wanted = kwargs.get("device")
        if wanted is None:
            like = args and isinstance(args[0], Tensor) and args[0].is_meta
            if devices._default[0] is None and not like:
                return create(*args, **kwargs)
            wanted = META_DEVICE if like else devices._default[0]
        if device(wanted) != META_DEVICE or modes.trace is not None or modes.vmap is not None:
            return create(*args, **kwargs)
        kwargs.pop("device", None)
        requires_grad = kwargs.pop("requires_grad", False)
        trace = Trace()
        with trace:
            shown = create(*args, **kwargs)
            aval = Aval(tuple(shown.shape), shown.dtype)
        trace.finish()
        out = wrap(META.symbol(aval))
        return out.requires_grad_() if requires_grad else out

    return made
