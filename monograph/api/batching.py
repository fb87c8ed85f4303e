"""`monograph.vmap`: run a function written for one example on a batch. Rules: transform/vmap.py."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from ..core import pytree
from ..core.errors import ArgumentError, ArgumentTypeError
from ..ops.align import FUNCTIONS
from ..ops.batching import batched as expand_batch
from ..ops.batching import move_axis
from ..ops.movement import Slice
from ..tensor import Tensor, wrap
from ..transform.vmap import Batched, Level, axis_size, entered, unwrap


def vmap(
    func: Callable, in_dims: Any = 0, out_dims: Any = 0, randomness: str = "error", *,
    chunk_size: int | None = None,
) -> Callable:  # fmt: skip
    """A function that runs `func`, written for one example, on a batch of them at once.

    in_dims     axis of each argument to map over, None for the same value in all: an int, or a
                tree that is a prefix of the arguments' tree; keyword arguments are never mapped
    out_dims    where the batch axis goes in the outputs: an int, or a prefix tree
    randomness  what random ops do: "error", "different" numbers for each example, or the "same"
    chunk_size  run at most so many examples at a time

    Inside func the values of batched tensors cannot be read (`if`, item()). Semantics of
    torch.vmap.

    >>> vmap(lambda x: x.sum())(tensor([[1.0, 2.0], [3.0, 4.0]]))
    tensor([3., 7.])
    """
    if not callable(func):
        raise ArgumentTypeError(f"vmap: expected a function, got {type(func).__name__}")
    if randomness not in ("error", "different", "same"):
        raise ArgumentError(
            f'vmap: randomness must be "error", "different" or "same", got {randomness!r}'
        )
    if chunk_size is not None and (not isinstance(chunk_size, int) or chunk_size < 1):
        raise ArgumentError(f"vmap: chunk_size must be a positive int, got {chunk_size!r}")

    @functools.wraps(func)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        leaves, treedef = pytree.flatten(args)
        dims = _normalized("in_dims", in_dims, args, treedef, leaves)
        for i, (x, d) in enumerate(zip(leaves, dims)):
            if d is None:
                continue
            if not isinstance(x, Tensor):
                raise ArgumentTypeError(
                    f"vmap: in_dims {d} for an argument that is no tensor but {type(x).__name__}",
                    hint="in_dims=None passes it as it is",
                )
            if not -x.ndim <= d < x.ndim:
                raise ArgumentError(
                    f"vmap: in_dims {d} is out of range for an argument of shape {tuple(x.shape)}"
                )
            dims[i] = d % x.ndim
        mapped = [(x, d) for x, d in zip(leaves, dims) if d is not None]
        if not mapped:
            raise ArgumentError("vmap: no argument is mapped: in_dims are all None")
        size = axis_size("vmap", mapped)

        def once(values: list[Any], n: int) -> Any:
            def run(inside: list[Any]) -> Any:
                return func(*treedef.unflatten(inside), **kwargs)

            return _vmap_once(run, values, dims, n, randomness, out_dims)

        if chunk_size is None or size <= chunk_size:
            return once(leaves, size)
        results = []
        for start in range(0, size, chunk_size):
            stop = min(start + chunk_size, size)
            part = [x if d is None else _along(x, d, start, stop) for x, d in zip(leaves, dims)]
            results.append(once(part, stop - start))
        return _concatenated(results, out_dims)

    return wrapper


def _normalized(what: str, dims: Any, tree: Any, treedef: Any, leaves: list[Any]) -> list[Any]:
    """One axis (or None) for each leaf of `tree` from a tree of axes that is a prefix of it."""
    if isinstance(dims, int) and not isinstance(dims, bool):
        return (
            [dims if isinstance(x, Tensor) else None for x in leaves]
            if what == "in_dims"
            else [dims] * len(leaves)
        )
    found: list[Any] = []
    _prefix(what, dims, tree, found)
    return found


def _prefix(what: str, dims: Any, tree: Any, found: list[Any]) -> None:
    if dims is None or (isinstance(dims, int) and not isinstance(dims, bool)):
        found.extend([dims] * len(pytree.flatten(tree)[0]))
        return
    if isinstance(dims, (tuple, list)) and isinstance(tree, (tuple, list)):
        if len(dims) == len(tree):
            for d, t in zip(dims, tree):
                _prefix(what, d, t, found)
            return
    elif isinstance(dims, dict) and isinstance(tree, dict) and set(dims) == set(tree):
        for key in tree:
            _prefix(what, dims[key], tree[key], found)
        return
    raise ArgumentError(
        f"vmap: {what} must be an int, None, or a tree of them that fits the "
        f"{'arguments' if what == 'in_dims' else 'outputs'}; {dims!r} does not fit a "
        f"{type(tree).__name__}"
        + (f" of length {len(tree)}" if isinstance(tree, (tuple, list, dict)) else "")
    )


def _along(x: Tensor, dim: int, start: int, stop: int) -> Tensor:
    lows, highs = [0] * x.ndim, list(x.shape)
    lows[dim], highs[dim] = start, stop
    return Slice(tuple(lows), tuple(highs), (1,) * x.ndim)(x)


def _vmap_once(
    run: Callable, values: list[Any], dims: list[Any], size: int, randomness: str, out_dims: Any
) -> Any:
    level = Level(size, randomness)
    pairs = zip(values, dims)
    try:
        with entered(level):
            result = run([x if d is None else wrap(Batched(x, d, level)) for x, d in pairs])
        outs, out_def = pytree.flatten(result)
        for o in outs:
            if not isinstance(o, Tensor):
                raise ArgumentTypeError(
                    f"vmap: the function must return tensors, got {type(o).__name__}"
                )
        places = _normalized("out_dims", out_dims, result, out_def, outs)
        return out_def.unflatten(
            [_outside(o, level, size, place) for o, place in zip(outs, places)]
        )
    finally:
        level.active = False


def _outside(x: Tensor, level: Level, size: int, place: int | None) -> Tensor:
    """A result of the function as vmap returns it."""
    x._value()
    value, dim = unwrap(x, level)
    if place is None:
        if dim is not None:
            raise ArgumentError("vmap: out_dims None for an output that differs along the batch")
        return value
    ndim = value.ndim if dim is not None else value.ndim + 1
    if not -ndim <= place < ndim:
        raise ArgumentError(
            f"vmap: out_dims {place} is out of range for an output of shape {tuple(x.shape)}"
        )
    if dim is None:
        value, dim = expand_batch(value, None, size), 0
    return move_axis(value, dim, place % ndim)


def _concatenated(results: list[Any], out_dims: Any) -> Any:
    """The chunks' results joined along the batch axes."""
    flat = [pytree.flatten(r)[0] for r in results]
    out_def = pytree.flatten(results[0])[1]
    places = _normalized("out_dims", out_dims, results[0], out_def, flat[0])
    return out_def.unflatten(
        [
            parts[0] if place is None else FUNCTIONS["cat"](parts, place)
            for parts, place in zip(zip(*flat), places)
        ]
    )
