"""`monograph.autograd.functional`: jacobian, hessian, vjp and jvp of a function at given inputs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..core.errors import ArgumentError, ArgumentTypeError, GradError
from ..core.modes import enable_grad, no_grad
from ..ir.op import Full
from ..tensor import Tensor
from . import func

__all__ = ["jacobian", "hessian", "vjp", "jvp"]


def _inputs(name: str, inputs: Any) -> tuple[tuple[Tensor, ...], bool]:
    single = not isinstance(inputs, (tuple, list))
    many = (inputs,) if single else tuple(inputs)
    for x in many:
        if not isinstance(x, Tensor):
            raise ArgumentTypeError(f"{name}: inputs must be tensors, got {type(x).__name__}")
    return many, single


def _finish(x: Any, create_graph: bool) -> Any:
    if isinstance(x, tuple):
        return tuple(_finish(y, create_graph) for y in x)
    return x if create_graph else x.detach()


def _mode(create_graph: bool) -> Any:
    return enable_grad() if create_graph else no_grad()


def jacobian(
    f: Callable,
    inputs: Any,
    create_graph: bool = False,
    strict: bool = False,
    vectorize: bool = False,
    strategy: str = "reverse-mode",
) -> Any:
    """The Jacobian of f at `inputs`: for output S and input T a tensor of shape (*S, *T).

    Several inputs or outputs give tuples (of outputs, each of inputs). create_graph keeps it
    differentiable. Always vectorized; strategy is "reverse-mode" or "forward-mode".

    >>> jacobian(lambda x: x * x, tensor([1.0, 2.0]))
    tensor([[2., 0.],
            [0., 4.]])
    """
    many, single = _inputs("jacobian", inputs)
    if strategy not in ("reverse-mode", "forward-mode"):
        raise ArgumentError(
            f'jacobian: strategy must be "reverse-mode" or "forward-mode", got {strategy!r}'
        )
    transform = func.jacrev if strategy == "reverse-mode" else func.jacfwd
    with _mode(create_graph):
        result = transform(f, argnums=0 if single else tuple(range(len(many))))(*many)
    return _finish(result, create_graph)


def hessian(
    f: Callable, inputs: Any, create_graph: bool = False, strict: bool = False,
    vectorize: bool = False, outer_jacobian_strategy: str = "reverse-mode",
) -> Any:  # fmt: skip
    """The matrix of second derivatives of f (a single element) at `inputs`."""
    many, single = _inputs("hessian", inputs)
    if outer_jacobian_strategy not in ("reverse-mode", "forward-mode"):
        raise ArgumentError(
            'hessian: outer_jacobian_strategy must be "reverse-mode" or "forward-mode", got '
            f"{outer_jacobian_strategy!r}"
        )
    outer = func.jacrev if outer_jacobian_strategy == "reverse-mode" else func.jacfwd
    numbers = 0 if single else tuple(range(len(many)))

    def scalar(*args: Any) -> Tensor:
        out = f(*args)
        if not isinstance(out, Tensor) or out.shape.numel() != 1:
            raise GradError("hessian: the function must return a tensor with a single element")
        return out.reshape(())  # type: ignore[attr-defined]

    with _mode(create_graph):
        result = outer(func.jacrev(scalar, numbers), numbers)(*many)
    return _finish(result, create_graph)


def _like_outputs(name: str, out: Any, v: Any, what: str) -> Any:
    if v is not None:
        return v
    if not isinstance(out, Tensor) or out.shape.numel() != 1:
        raise GradError(f"{name}: v is needed unless the {what} is a single element")
    return Full(tuple(out.shape), out.dtype, 1)()


def vjp(
    f: Callable, inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False
) -> tuple[Any, Any]:
    """(f(inputs), v times the Jacobian): the gradients of `inputs` for the cotangent v."""
    many, single = _inputs("vjp", inputs)
    with _mode(create_graph):
        out, pull = func.vjp(f, *many)
        found = pull(_like_outputs("vjp", out, v, "output"))
    return _finish(out, create_graph), _finish(found[0] if single else found, create_graph)


def jvp(
    f: Callable, inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False
) -> tuple[Any, Any]:
    """(f(inputs), the Jacobian times v): the derivative of f in the direction v."""
    many, single = _inputs("jvp", inputs)
    tangents = _like_outputs("jvp", many[0] if single else many, v, "input")
    tangents = (tangents,) if isinstance(tangents, Tensor) else tuple(tangents)
    with _mode(create_graph):
        out, pushed = func.jvp(f, many, tangents)
    return _finish(out, create_graph), _finish(pushed, create_graph)
