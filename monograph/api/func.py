"""`monograph.func`: functions from functions. grad, vjp, jvp, jacobians, vmap, functional_call.

A differentiation is a `_Scope`: its inputs get a fresh identity on the tape (leaves of the scope,
or aliases where they are on the tape already), and what leaves the scope keeps only the connections
that lead outside. Transforms compose in any order because all are ordinary ops through the door.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from ..core import pytree
from ..core.errors import ArgumentError, ArgumentTypeError, DTypeError, GradError
from ..core.modes import modes, no_grad
from ..ir.op import Full
from ..ops.align import FUNCTIONS
from ..ops.movement import Alias, Reshape, Slice
from ..tensor import Tensor, wrap
from ..transform import tape, walk
from ..transform.vmap import Batched, any_requires_grad, level_of
from .batching import vmap
from .creation import eye
from .module_calls import (
    functional_call,
    replace_all_batch_norm_modules_,
    stack_module_state,
)

__all__ = [
    "grad", "grad_and_value", "vjp", "jvp", "linearize", "jacrev", "jacfwd", "hessian", "vmap",
    "functional_call", "functionalize", "replace_all_batch_norm_modules_", "stack_module_state",
]  # fmt: skip


@contextmanager
def _recording() -> Iterator[None]:
    """Record gradients in the body, whatever no_grad or inference_mode say outside."""
    before = modes.grad, modes.inference
    modes.grad, modes.inference = True, False
    try:
        yield
    finally:
        modes.grad, modes.inference = before


class _Scope:
    """One differentiation in progress: which tensors are its inputs, what is older than it."""

    def __init__(self, name: str):
        self.name = name
        self.since = tape.next_number()
        self.outer = modes.grad  # whether anything outside records
        self.leaves: list[Tensor] = []

    def input(self, x: Any) -> Tensor:
        """x under an identity of its own, requiring a gradient in this scope."""
        if not isinstance(x, Tensor):
            raise ArgumentTypeError(
                f"{self.name}: can only differentiate with respect to tensors, got "
                f"{type(x).__name__}"
            )
        if not x.dtype.is_inexact:
            raise DTypeError(
                f"{self.name}: only floating tensors have gradients, got {x.dtype.name}"
            )
        level = modes.vmap
        if level is not None and level_of(x) is not level:
            x = wrap(Batched(x, None, level))
        if x.requires_grad and self.outer:
            with _recording():
                made = Alias()(x)
            return made
        payload = x._value() if modes.trace is None or level is not None else modes.trace.lift(x)
        made = wrap(payload)
        made._version = x._version
        made._requires = True
        self.leaves.append(made)
        return made

    def inputs(self, tree: Any) -> tuple[list[Tensor], Any]:
        leaves, treedef = pytree.flatten(tree)
        return [self.input(x) for x in leaves], treedef

    def connected(self, tensors: Sequence[Tensor]) -> bool:
        """Whether derivatives of these may be asked for outside of the scope."""
        if not self.outer:
            return False
        for t in tensors:
            payload = t._value()
            if type(payload) is Batched and any_requires_grad(payload.value):
                return True
        return walk.reaches_outside(tensors, self._inner(), self.since)

    def _inner(self) -> set[int]:
        return {id(x) for x in self.leaves}

    def release(self, x: Any) -> Any:
        """A result as the caller sees it: without the connections to this scope's own leaves."""
        if not isinstance(x, Tensor):
            return x
        if not self.outer:
            return x.detach() if any_requires_grad(x) else x
        if not x.requires_grad or walk.reaches_outside((x,), self._inner(), self.since):
            return x
        made = wrap(x._value())
        made._version = x._version
        return made

    def close(self) -> None:
        """Nothing accumulates into this scope's leaves any more."""
        number = tape.next_number()
        for x in self.leaves:
            x._closed = number

    def pull(
        self, roots: Sequence[Tensor], seeds: Sequence[Any], inputs: Sequence[Tensor],
        create: bool, linked: bool = True,
    ) -> list[Tensor]:  # fmt: skip
        """Gradients of the roots that depend on something, with respect to the scope's inputs."""
        pairs = [(r, walk.seed(self.name, r, g)) for r, g in zip(roots, seeds) if r.requires_grad]
        found = walk.run_backward(
            [r for r, _ in pairs], [g for _, g in pairs], inputs, True, create, None,
            linked, self.since,
        )  # fmt: skip
        return [found[i] if i in found else _zeros_like(x) for i, x in enumerate(inputs)]


def _zeros_like(x: Tensor) -> Tensor:
    return Full(tuple(x.shape), x.dtype, 0)()


def _callable(name: str, func: Any) -> None:
    if not callable(func):
        raise ArgumentTypeError(f"{name}: expected a function, got {type(func).__name__}")


def _argnums(name: str, argnums: Any, count: int) -> tuple[tuple[int, ...], bool]:
    """(positions, whether one was meant) of the arguments to differentiate."""
    single = isinstance(argnums, int)
    numbers = (argnums,) if single else tuple(argnums)
    for n in numbers:
        if not isinstance(n, int) or isinstance(n, bool):
            raise ArgumentTypeError(f"{name}: argnums must be an int or a tuple of ints, got {n!r}")
        if not -count <= n < count:
            raise ArgumentError(
                f"{name}: argnums {n} is out of range for {count} positional arguments"
            )
    numbers = tuple(n % count for n in numbers)
    if not numbers or len(set(numbers)) != len(numbers):
        raise ArgumentError(f"{name}: argnums must name different arguments, got {argnums!r}")
    return numbers, single


def _with_aux(name: str, result: Any, has_aux: bool) -> tuple[Any, Any]:
    if not has_aux:
        return result, None
    if not isinstance(result, tuple) or len(result) != 2:
        raise ArgumentTypeError(
            f"{name}: with has_aux=True the function must return (output, aux), got "
            f"{type(result).__name__}"
        )
    return result


def _tensors(name: str, leaves: Sequence[Any], what: str) -> list[Tensor]:
    for x in leaves:
        if not isinstance(x, Tensor):
            raise ArgumentTypeError(
                f"{name}: {what} must be tensors or trees of them, got {type(x).__name__}"
            )
    if not leaves:
        raise ArgumentError(f"{name}: {what} must hold at least one tensor")
    return list(leaves)


def grad_and_value(func: Callable, argnums: Any = 0, has_aux: bool = False) -> Callable:
    """A function that gives (gradient, value) of `func`, whose result must be a 0-d tensor.

    With has_aux func returns (value, aux) and the result is (gradient, (value, aux)).

    >>> grad_and_value(lambda x: x * x)(tensor(3.0))
    (tensor(6.), tensor(9.))
    """
    return _grad_and_value("grad_and_value", func, argnums, has_aux)


def _grad_and_value(name: str, func: Callable, argnums: Any, has_aux: bool) -> Callable:
    _callable(name, func)

    @functools.wraps(func)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        numbers, single = _argnums(name, argnums, len(args))
        scope = _Scope(name)
        with _recording():
            inputs, treedef = scope.inputs(tuple(args[n] for n in numbers))
            changed = list(args)
            for n, x in zip(numbers, treedef.unflatten(inputs)):
                changed[n] = x
            value, aux = _with_aux(name, func(*changed, **kwargs), has_aux)
            if not isinstance(value, Tensor):
                raise ArgumentTypeError(
                    f"{name}: the function must return a tensor, got {type(value).__name__}"
                )
            if value.ndim:
                raise GradError(
                    f"{name}: the function must return a 0-d tensor, got shape "
                    f"{tuple(value.shape)}",
                    hint="sum() or mean() it, or use mg.func.vjp or mg.func.jacrev",
                )
            if not value.dtype.is_inexact:
                raise DTypeError(
                    f"{name}: the function must return a floating tensor, got {value.dtype.name}"
                )
            gradients = scope.pull([value], [None], inputs, scope.connected([value]))
        result = treedef.unflatten([scope.release(g) for g in gradients])
        value = scope.release(value)
        aux = pytree.tree_map(scope.release, aux)
        scope.close()
        return (result[0] if single else result), ((value, aux) if has_aux else value)

    return wrapper


def grad(func: Callable, argnums: Any = 0, has_aux: bool = False) -> Callable:
    """A function that gives the gradient of `func`, whose result must be a 0-d tensor.

    argnums   which positional argument(s), each a tensor or a tree of tensors
    has_aux   func returns (value, aux), the result is (gradient, aux)

    >>> grad(lambda x: x * x * x)(tensor(2.0))
    tensor(12.)
    """
    both = _grad_and_value("grad", func, argnums, has_aux)

    @functools.wraps(func)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        gradient, value = both(*args, **kwargs)
        return (gradient, value[1]) if has_aux else gradient

    return wrapper


def vjp(func: Callable, *primals: Any, has_aux: bool = False) -> Any:
    """(func(*primals), pull) where pull(cotangents) gives the gradients of the primals.

    pull takes a tree like the output and returns a tree like the primals (a tuple, or the gradient
    itself for a single primal). With has_aux: (output, pull, aux).

    >>> out, pull = vjp(lambda x: x * 3, tensor([1.0, 2.0]))
    >>> pull(tensor([1.0, 10.0]))
    (tensor([ 3., 30.]),)
    """
    out, pull, aux = _vjp("vjp", func, primals, has_aux)
    return (out, pull, aux) if has_aux else (out, pull)


def _vjp(name: str, func: Callable, primals: tuple, has_aux: bool) -> tuple[Any, Callable, Any]:
    _callable(name, func)
    scope = _Scope(name)
    with _recording():
        inputs, treedef = scope.inputs(primals)
        result, aux = _with_aux(name, func(*treedef.unflatten(inputs)), has_aux)
        leaves, out_def = pytree.flatten(result)
        outs = _tensors(name, leaves, "outputs of the function")
        connected = scope.connected(outs)

    def pull(*cotangents: Any, create_graph: bool | None = None) -> Any:
        tree = cotangents[0] if len(cotangents) == 1 else cotangents
        given, given_def = pytree.flatten(tree)
        if given_def != out_def:
            raise ArgumentError(
                f"{name}: the cotangents must have the structure of the output, {out_def}, got "
                f"{given_def}"
            )
        given = _tensors(name, given, "cotangents")
        seeded = any(any_requires_grad(g) for g in given)
        create = modes.grad and (connected or seeded) if create_graph is None else create_graph
        found = scope.pull(outs, given, inputs, create, linked=connected)
        if not modes.grad:
            found = [g.detach() if any_requires_grad(g) else g for g in found]
        return treedef.unflatten([scope.release(g) for g in found])

    released = out_def.unflatten([scope.release(o) for o in outs])
    aux = pytree.tree_map(scope.release, aux)
    scope.close()
    return released, pull, aux


def linearize(func: Callable, *primals: Any) -> tuple[Any, Callable]:
    """(func(*primals), push) where push(*tangents) gives the derivative in a direction.

    func runs once; push can be called for many tangents. It is the pull-back of the pull-back,
    which is linear in its cotangent.
    """
    out, push, _ = _linearize("linearize", func, primals, False)
    return out, push


def _linearize(
    name: str, func: Callable, primals: tuple, has_aux: bool
) -> tuple[Any, Callable, Any]:
    _callable(name, func)
    scope = _Scope(name)
    with _recording():
        inputs, treedef = scope.inputs(primals)
        result, aux = _with_aux(name, func(*treedef.unflatten(inputs)), has_aux)
        leaves, out_def = pytree.flatten(result)
        outs = _tensors(name, leaves, "outputs of the function")
        connected = scope.connected(outs)
        second = _Scope(name)
        second.outer = scope.outer
        live = [i for i, o in enumerate(outs) if o.requires_grad]
        dummies = {i: second.input(_zeros_like(outs[i])) for i in live}
        back = scope.pull(
            [outs[i] for i in live], [dummies[i] for i in live], inputs, True, linked=connected
        )
    scope.leaves += second.leaves

    def push(*tangents: Any) -> Any:
        given, given_def = pytree.flatten(tangents)
        if given_def != treedef:
            raise ArgumentError(
                f"{name}: the tangents must have the structure of the primals, {treedef}, got "
                f"{given_def}"
            )
        given = _tensors(name, given, "tangents")
        for x, t in zip(inputs, given):
            if tuple(x.shape) != tuple(t.shape) or x.dtype is not t.dtype:
                raise ArgumentError(
                    f"{name}: a tangent of {t.dtype.name}{tuple(t.shape)} was given for a primal "
                    f"of {x.dtype.name}{tuple(x.shape)}"
                )
        seeded = any(any_requires_grad(t) for t in given)
        create = modes.grad and (connected or seeded)
        pairs = [(b, t) for b, t in zip(back, given) if b.requires_grad]
        pushed = [_zeros_like(o) for o in outs]
        if pairs and live:
            made = second.pull(
                [b for b, _ in pairs], [t for _, t in pairs], [*dummies.values()], create, connected
            )
            for i, t in zip(live, made):
                pushed[i] = t
        if not modes.grad:
            pushed = [t.detach() if any_requires_grad(t) else t for t in pushed]
        return out_def.unflatten([scope.release(t) for t in pushed])

    released = out_def.unflatten([scope.release(o) for o in outs])
    aux = pytree.tree_map(scope.release, aux)
    scope.close()
    return released, push, aux


def jvp(func: Callable, primals: tuple, tangents: tuple, *, has_aux: bool = False) -> Any:
    """(func(*primals), derivative of func at the primals in the direction of the tangents).

    With has_aux: (output, derivative, aux).

    >>> jvp(lambda x: x * x, (tensor(3.0),), (tensor(1.0),))
    (tensor(9.), tensor(6.))
    """
    for what, given in (("primals", primals), ("tangents", tangents)):
        if not isinstance(given, (tuple, list)):
            raise ArgumentTypeError(f"jvp: {what} must be a tuple, got {type(given).__name__}")
    out, push, aux = _linearize("jvp", func, tuple(primals), has_aux)
    pushed = push(*tangents)
    return (out, pushed, aux) if has_aux else (out, pushed)


# Jacobians


def _flat_size(tensors: Sequence[Tensor]) -> list[int]:
    return [t.shape.numel() for t in tensors]


def _part(x: Tensor, start: int, stop: int) -> Tensor:
    """Rows start:stop of axis 0."""
    rest = tuple(x.shape[1:])
    zeros, ones = (0,) * len(rest), (1,) * len(rest)
    return Slice((start, *zeros), (stop, *rest), (1, *ones))(x)


def _basis(tensors: Sequence[Tensor]) -> list[Tensor]:
    """For each tensor (total, *shape): the unit vectors of all the tensors' elements in turn."""
    sizes = _flat_size(tensors)
    total, made, start = sum(sizes), [], 0
    with no_grad():
        for t, n in zip(tensors, sizes):
            rows = eye(total, dtype=t.dtype)
            columns = Slice((0, start), (total, start + n), (1, 1))(rows)
            made.append(Reshape((total, *t.shape))(columns))
            start += n
    return made


def _rows(x: Tensor, owners: Sequence[Tensor]) -> list[Tensor]:
    """Axis 0 of x (one row for each element of the owners) cut up and shaped as the owners."""
    parts, start = [], 0
    for t, n in zip(owners, _flat_size(owners)):
        part = _part(x, start, start + n)
        parts.append(Reshape((*t.shape, *x.shape[1:]))(part))
        start += n
    return parts


def _select(args: tuple, numbers: tuple[int, ...], func: Callable, kwargs: dict) -> Callable:
    def chosen(*picked: Any) -> Any:
        changed = list(args)
        for n, x in zip(numbers, picked):
            changed[n] = x
        return func(*changed, **kwargs)

    return chosen


def jacrev(
    func: Callable, argnums: Any = 0, *, has_aux: bool = False, chunk_size: int | None = None
) -> Callable:
    """A function that gives the Jacobian of `func` by reverse mode: a pull-back per output element.

    For an output of shape S and an argument of shape T the result has shape (*S, *T); trees give
    trees (of the output, each with the tree of the arguments). All pull-backs run as one batch, or
    `chunk_size` at a time.

    >>> jacrev(lambda x: x * x)(tensor([1.0, 2.0]))
    tensor([[2., 0.],
            [0., 4.]])
    """
    _callable("jacrev", func)

    @functools.wraps(func)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        numbers, single = _argnums("jacrev", argnums, len(args))
        picked = tuple(args[n] for n in numbers)
        out, pull, aux = _vjp("jacrev", _select(args, numbers, func, kwargs), picked, has_aux)
        outs, out_def = pytree.flatten(out)
        for o in outs:
            if not o.dtype.is_inexact:
                raise DTypeError(f"jacrev: outputs must be floating, got {o.dtype.name}")
        basis = out_def.unflatten(_basis(outs))
        gradients = vmap(lambda b: pull(b), chunk_size=chunk_size)(basis)
        leaves, in_def = pytree.flatten(gradients)
        cut = [_rows(g, outs) for g in leaves]  # per input, per output
        trees = [in_def.unflatten([c[k] for c in cut]) for k in range(len(outs))]
        result = out_def.unflatten([t[0] if single else t for t in trees])
        return (result, aux) if has_aux else result

    return wrapper


def jacfwd(
    func: Callable, argnums: Any = 0, has_aux: bool = False, *, randomness: str = "error",
    chunk_size: int | None = None,
) -> Callable:  # fmt: skip
    """A function that gives the Jacobian of `func` by forward mode: one push per input element.

    Shapes and trees as in jacrev; better where there are fewer inputs than outputs.
    """
    _callable("jacfwd", func)

    @functools.wraps(func)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        numbers, single = _argnums("jacfwd", argnums, len(args))
        picked = tuple(args[n] for n in numbers)
        chosen = _select(args, numbers, func, kwargs)
        out, push, aux = _linearize("jacfwd", chosen, picked, has_aux)
        inputs, in_def = pytree.flatten(picked)
        basis = in_def.unflatten(_basis(inputs))
        pushed = vmap(lambda b: push(*b), randomness=randomness, chunk_size=chunk_size)(basis)
        outs, out_def = pytree.flatten(out)
        per_out = []
        for o, p in zip(outs, pytree.flatten(pushed)[0]):
            columns = []
            for x, part in zip(inputs, _rows(p, inputs)):  # (*in, *out) -> (*out, *in)
                n, m = x.ndim, o.ndim
                order = (*range(n, n + m), *range(n))
                columns.append(FUNCTIONS["permute"](part, order) if n and m else part)
            tree = in_def.unflatten(columns)
            per_out.append(tree[0] if single else tree)
        result = out_def.unflatten(per_out)
        return (result, aux) if has_aux else result

    return wrapper


def hessian(func: Callable, argnums: Any = 0) -> Callable:
    """A function that gives the matrix of second derivatives of `func`: forward over reverse mode.

    >>> hessian(lambda x: (x * x * x).sum())(tensor([1.0, 2.0]))
    tensor([[ 6.,  0.],
            [ 0., 12.]])
    """
    return jacfwd(jacrev(func, argnums), argnums)


def functionalize(func: Callable, *, remove: str = "mutations") -> Callable:
    """`func` itself: operations in place are computed out of place under every transform anyway.

    remove  "mutations" or "mutations_and_views"; has no effect

    >>> vmap(functionalize(lambda x: x.clone().add_(1)))(tensor([1.0, 2.0]))
    tensor([2., 3.])
    """
    _callable("functionalize", func)
    if remove not in ("mutations", "mutations_and_views"):
        raise ArgumentError(
            f'functionalize: remove must be "mutations" or "mutations_and_views", got {remove!r}'
        )
    return func
