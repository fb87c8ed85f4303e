"""`monograph.autograd.functional`: jacobian, hessian, vjp and jvp of a function at given inputs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..core.errors import ArgumentError, ArgumentTypeError, GradError, ShapeError
from ..core.modes import enable_grad, no_grad
from ..ir.op import Full
from ..tensor import Tensor
from . import func as transforms

__all__ = ["jacobian", "hessian", "vjp", "jvp", "hvp", "vhp"]


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
    func: Callable,
    inputs: Any,
    create_graph: bool = False,
    strict: bool = False,
    vectorize: bool = False,
    strategy: str = "reverse-mode",
) -> Any:
    """The Jacobian of func at `inputs`: for output S and input T a tensor of shape (*S, *T).

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
    transform = transforms.jacrev if strategy == "reverse-mode" else transforms.jacfwd
    with _mode(create_graph):
        result = transform(func, argnums=0 if single else tuple(range(len(many))))(*many)
    return _finish(result, create_graph)


def hessian(
    func: Callable, inputs: Any, create_graph: bool = False, strict: bool = False,
    vectorize: bool = False, outer_jacobian_strategy: str = "reverse-mode",
) -> Any:  # fmt: skip
    """The matrix of second derivatives of func (a single element) at `inputs`."""
    many, single = _inputs("hessian", inputs)
    if outer_jacobian_strategy not in ("reverse-mode", "forward-mode"):
        raise ArgumentError(
            'hessian: outer_jacobian_strategy must be "reverse-mode" or "forward-mode", got '
            f"{outer_jacobian_strategy!r}"
        )
    outer = transforms.jacrev if outer_jacobian_strategy == "reverse-mode" else transforms.jacfwd
    numbers = 0 if single else tuple(range(len(many)))

    def scalar(*args: Any) -> Tensor:
        out = func(*args)
        if not isinstance(out, Tensor) or out.shape.numel() != 1:
            raise GradError("hessian: the function must return a tensor with a single element")
        return out.reshape(())  # type: ignore[attr-defined]

    with _mode(create_graph):
        result = outer(transforms.jacrev(scalar, numbers), numbers)(*many)
    return _finish(result, create_graph)


def _like_outputs(name: str, out: Any, v: Any, what: str) -> Any:
    if v is not None:
        return v
    if not isinstance(out, Tensor) or out.shape.numel() != 1:
        raise GradError(f"{name}: v is needed unless the {what} is a single element")
    return Full(tuple(out.shape), out.dtype, 1)()


def vjp(
    func: Callable, inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False
) -> tuple[Any, Any]:
    """(func(inputs), v times the Jacobian): the gradients of `inputs` for the cotangent v."""
    many, single = _inputs("vjp", inputs)
    with _mode(create_graph):
        out, pull = transforms.vjp(func, *many)
        found = pull(_like_outputs("vjp", out, v, "output"))
    return _finish(out, create_graph), _finish(found[0] if single else found, create_graph)


def jvp(
    func: Callable, inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False
) -> tuple[Any, Any]:
    """(func(inputs), the Jacobian times v): the derivative of func in the direction v."""
    many, single = _inputs("jvp", inputs)
    tangents = _like_outputs("jvp", many[0] if single else many, v, "input")
    tangents = (tangents,) if isinstance(tangents, Tensor) else tuple(tangents)
    with _mode(create_graph):
        out, pushed = transforms.jvp(func, many, tangents)
    return _finish(out, create_graph), _finish(pushed, create_graph)


def vhp(
    func: Callable, inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False
) -> tuple[Any, Any]:
    """(func(inputs), v times the Hessian) of a function with a single element as its result.

    v  like `inputs`; may be left out where that is a single element

    >>> vhp(lambda x: (x ** 3).sum(), tensor([1.0, 2.0]), tensor([1.0, 1.0]))
    (tensor(9.), tensor([ 6., 12.]))
    """
    return _hessian_product("vhp", func, inputs, v, create_graph)


def hvp(
    func: Callable, inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False
) -> tuple[Any, Any]:
    """(func(inputs), the Hessian times v): what `vhp` gives, as Hessians are symmetric.

    >>> hvp(lambda x: (x ** 3).sum(), tensor([1.0, 2.0]), tensor([1.0, 1.0]))
    (tensor(9.), tensor([ 6., 12.]))
    """
    return _hessian_product("hvp", func, inputs, v, create_graph)


def _hessian_product(name: str, func: Callable, inputs: Any, v: Any, create_graph: bool) -> Any:
    many, single = _inputs(name, inputs)
    v = _like_outputs(name, many[0] if single else many, v, "input")
    seeds, _ = _inputs(name, v)
    for i, (x, s) in enumerate(zip(many, seeds)):
        if tuple(x.shape) != tuple(s.shape):
            raise ShapeError(
                f"{name}: input {i} has shape {tuple(x.shape)}, its part of v {tuple(s.shape)}"
            )
    if len(many) != len(seeds):
        raise ArgumentError(f"{name}: v has {len(seeds)} parts for {len(many)} inputs")

    def gradients(*args: Any) -> Any:
        def scalar(*inner: Any) -> Tensor:
            out = func(*inner)
            if not isinstance(out, Tensor) or out.shape.numel() != 1:
                raise GradError(f"{name}: the function must return a tensor with a single element")
            return out.reshape(())  # type: ignore[attr-defined]

        return transforms.grad(scalar, tuple(range(len(many))))(*args)

    with _mode(create_graph):
        out = func(*many)
        _, pull = transforms.vjp(gradients, *many)
        found = pull(seeds)
    return _finish(out, create_graph), _finish(found[0] if single else found, create_graph)
