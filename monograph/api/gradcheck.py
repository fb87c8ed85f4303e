"""gradcheck and gradgradcheck: gradients against central differences."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np

from ..core.errors import ArgumentError, GradError
from ..core.modes import no_grad
from ..tensor import Tensor, wrap
from . import autograd

__all__ = ["gradcheck", "gradgradcheck"]


def _outputs(f: Callable, inputs: tuple) -> list[Tensor]:
    out = f(*inputs)
    many = out if isinstance(out, (tuple, list)) else (out,)
    return [o for o in many if isinstance(o, Tensor) and o.dtype.is_inexact]


def _numeric(f: Callable, inputs: tuple, k: int, eps: float) -> list[np.ndarray]:
    """For each output the Jacobian (input elements, output elements) by central differences.

    A complex number counts as two elements, its parts.
    """
    x = inputs[k]
    columns: list[list[np.ndarray]] = []
    base = np.array(x.detach()._array("gradcheck"))
    for i, way in itertools.product(range(base.size), _ways(base)):
        ends = []
        for step in (eps * way, -eps * way):
            moved = base.copy()
            moved.reshape(-1)[i] += step
            args = (*inputs[:k], wrap(moved), *inputs[k + 1 :])
            with no_grad():
                ends.append([np.array(o._array("gradcheck")) for o in _outputs(f, args)])
        columns.append([_parts((a - b) / (2 * eps)) for a, b in zip(*ends)])
    count = len(_outputs(f, inputs))
    return [np.array([c[j] for c in columns]).reshape(len(columns), -1) for j in range(count)]


def _ways(array: np.ndarray) -> tuple:
    """Directions in which an element can move."""
    return (1, 1j) if array.dtype.kind == "c" else (1,)


def _parts(array: np.ndarray) -> np.ndarray:
    """The elements in a line, complex ones as their two parts."""
    flat = np.array(array).reshape(-1)
    return np.stack([flat.real, flat.imag], -1).reshape(-1) if flat.dtype.kind == "c" else flat


def _analytic(out: Tensor, x: Tensor) -> np.ndarray:
    rows = []
    zeros = np.zeros(out.shape, out.dtype.numpy)
    for j, way in itertools.product(range(zeros.size), _ways(zeros)):
        seed = zeros.copy()
        seed.reshape(-1)[j] = way
        (g,) = autograd.grad(out, x, wrap(seed), retain_graph=True, materialize_grads=True)
        rows.append(_parts(g.detach()._array("gradcheck")))
    return np.array(rows).reshape(len(rows), -1).T


def gradcheck(
    func: Callable, inputs: Any, eps: float = 1e-6, atol: float = 1e-5, rtol: float = 1e-3,
    raise_exception: bool = True, nondet_tol: float = 0.0, check_undefined_grad: bool = True,
    check_grad_dtypes: bool = False, check_batched_grad: bool = False,
    check_batched_forward_grad: bool = False, check_forward_ad: bool = False,
    check_backward_ad: bool = True, fast_mode: bool = False, masked: bool | None = None,
) -> bool:  # fmt: skip
    """Compare the gradients of `func` with central differences of step eps.

    Inputs that are checked require gradients and should be float64 or complex128. GradError (or
    False) names the first output and input that differ. The whole Jacobian is always compared, in
    reverse mode; the arguments from nondet_tol on choose among PyTorch's checks and change nothing.
    """
    given = (inputs,) if isinstance(inputs, Tensor) else tuple(inputs)
    checked = [k for k, x in enumerate(given) if isinstance(x, Tensor) and x.requires_grad]
    if not checked:
        raise ArgumentError("gradcheck: at least one input must require a gradient")
    outs = _outputs(func, given)
    for k in checked:
        expected = _numeric(func, given, k, eps)
        for j, out in enumerate(outs):
            wanted = out.requires_grad
            got = _analytic(out, given[k]) if wanted else np.zeros(expected[j].shape)
            if not np.allclose(got, expected[j], rtol, atol, equal_nan=True):
                if not raise_exception:
                    return False
                raise GradError(
                    f"gradcheck: the Jacobian of output {j} for input {k} is wrong:\n"
                    f"numerical:\n{expected[j]}\nanalytical:\n{got}"
                )
    return True


def gradgradcheck(
    func: Callable, inputs: Any, grad_outputs: Any = None, eps: float = 1e-6, atol: float = 1e-5,
    rtol: float = 1e-3, raise_exception: bool = True, gen_non_contig_grad_outputs: bool = False,
    nondet_tol: float = 0.0, check_undefined_grad: bool = True, check_grad_dtypes: bool = False,
    check_batched_grad: bool = False, check_fwd_over_rev: bool = False,
    check_rev_over_rev: bool = True, fast_mode: bool = False, masked: bool = False,
) -> bool:  # fmt: skip
    """gradcheck of the gradients: second derivatives against differences of first ones.

    The arguments from gen_non_contig_grad_outputs on change nothing.
    """
    given = (inputs,) if isinstance(inputs, Tensor) else tuple(inputs)
    outs = [o for o in _outputs(func, given) if o.requires_grad]
    if grad_outputs is None:
        rng = np.random.default_rng(0)
        normal = rng.standard_normal
        seeds = [
            wrap(
                np.asarray(normal(o.shape) + 1j * normal(o.shape), o.dtype.numpy)
                if o.dtype.is_complex
                else np.asarray(normal(o.shape), o.dtype.numpy)
            )
            for o in outs
        ]
        for s in seeds:
            s.requires_grad_()
    else:
        seeds = list(grad_outputs) if isinstance(grad_outputs, (tuple, list)) else [grad_outputs]
    wanted = [k for k, x in enumerate(given) if isinstance(x, Tensor) and x.requires_grad]

    def gradients(*args: Any) -> tuple[Tensor, ...]:
        inner, cotangents = list(args[: len(given)]), args[len(given) :]
        for k in wanted:
            if not inner[k].requires_grad:
                inner[k] = inner[k].detach().requires_grad_()
        with autograd.enable_grad():
            made = [o for o in _outputs(func, tuple(inner)) if o.requires_grad]
            return autograd.grad(
                made, [inner[k] for k in wanted], cotangents, create_graph=True,
                materialize_grads=True,
            )  # fmt: skip

    return gradcheck(gradients, (*given, *seeds), eps, atol, rtol, raise_exception)
