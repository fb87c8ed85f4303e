"""Gradients against central differences, to second order: gradcheck and gradgradcheck."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..api import autograd
from ..api.creation import as_tensor
from ..core.errors import DTypeError
from ..tensor import Tensor


def _outputs(result: Any) -> list[Tensor]:
    outs = list(result) if isinstance(result, (tuple, list)) else [result]
    return [o for o in outs if isinstance(o, Tensor) and o.dtype.is_inexact]


def gradcheck(
    func: Callable,
    inputs: Any,
    *,
    eps: float = 1e-6,
    atol: float = 1e-5,
    rtol: float = 1e-3,
    raise_exception: bool = True,
) -> bool:
    """Whether backward's gradients of `func` agree with central differences.

    inputs  one tensor or several, float64 or complex128; those with requires_grad are checked

    Each output is weighted by fixed random numbers; each input element is moved by eps either way,
    complex ones along both axes.
    AssertionError naming the input and the element, or False without raise_exception.

    >>> x = tensor([0.5, -1.0], dtype=float64, requires_grad=True)
    >>> gradcheck(lambda t: (t * t).sum(), (x,))
    True
    """
    tensors = list(inputs) if isinstance(inputs, (tuple, list)) else [inputs]
    checked = [i for i, t in enumerate(tensors) if isinstance(t, Tensor) and t.requires_grad]
    for i in checked:
        if tensors[i].dtype.itemsize < 8:
            raise DTypeError(
                f"gradcheck: input {i} is {tensors[i].dtype.name}; differences need float64"
            )
    outs = _outputs(func(*tensors))
    rng = np.random.default_rng(0)
    seeds = [as_tensor(_weights(rng, o)) for o in outs]
    live = [k for k, o in enumerate(outs) if o.requires_grad]
    grads: Sequence[Any] = [None] * len(checked)
    if live:
        grads = autograd.grad(
            [outs[k] for k in live],
            [tensors[i] for i in checked],
            [seeds[k] for k in live],
            allow_unused=True,
        )

    def weighted() -> float:
        made = _outputs(func(*tensors))
        pairs = ((o.detach().numpy(), s.numpy().conj()) for o, s in zip(made, seeds))
        return sum(float((o * s).sum().real) for o, s in pairs)

    for i, g in zip(checked, grads):
        array = tensors[i].detach().numpy()
        analytic = np.zeros(array.shape) if g is None else g.detach().numpy()
        if analytic.shape != array.shape:
            return _failed(raise_exception, f"gradient {i} has shape {analytic.shape}")
        numeric = np.zeros(array.shape, array.dtype)
        for place in np.ndindex(*array.shape):
            before = array[place]
            for way in (1, 1j) if tensors[i].dtype.is_complex else (1,):
                array[place] = before + eps * way
                above = weighted()
                array[place] = before - eps * way
                numeric[place] += way * (above - weighted()) / (2 * eps)
                array[place] = before
        bad = ~(np.abs(analytic - numeric) <= atol + rtol * np.abs(numeric))
        if bad.any():
            place = tuple(int(k) for k in np.argwhere(bad)[0])
            return _failed(
                raise_exception,
                f"gradient of input {i} at {place} is {analytic[place]!r}; differences give "
                f"{numeric[place]!r}",
            )
    return True


def _weights(rng: Any, like: Tensor) -> np.ndarray:
    """Random cotangents of the dtype and shape of `like`."""
    made = rng.uniform(0.5, 1.5, tuple(like.shape))
    if like.dtype.is_complex:
        made = made + 1j * rng.uniform(0.5, 1.5, tuple(like.shape))
    return np.asarray(made, like.dtype.numpy)


def _failed(raise_exception: bool, text: str) -> bool:
    if raise_exception:
        raise AssertionError(f"gradcheck: {text}")
    return False


def gradgradcheck(
    func: Callable,
    inputs: Any,
    *,
    eps: float = 1e-6,
    atol: float = 1e-5,
    rtol: float = 1e-3,
    raise_exception: bool = True,
) -> bool:
    """gradcheck of the gradient of `func`: whether second derivatives agree with differences.

    The cotangent is checked too: fixed random numbers that require a gradient.
    """
    tensors = list(inputs) if isinstance(inputs, (tuple, list)) else [inputs]
    checked = [i for i, t in enumerate(tensors) if isinstance(t, Tensor) and t.requires_grad]
    outs = [o for o in _outputs(func(*tensors)) if o.requires_grad]
    if not outs:
        return True
    rng = np.random.default_rng(1)
    seeds = [as_tensor(_weights(rng, o)).requires_grad_() for o in outs]

    def gradient(*args: Any) -> Any:
        values, cotangents = args[: len(tensors)], args[len(tensors) :]
        made = [o for o in _outputs(func(*values)) if o.requires_grad]
        grads = autograd.grad(
            made, [values[i] for i in checked], cotangents, create_graph=True, allow_unused=True
        )
        return [g for g in grads if g is not None]

    return gradcheck(
        gradient, [*tensors, *seeds], eps=eps, atol=atol, rtol=rtol, raise_exception=raise_exception
    )
