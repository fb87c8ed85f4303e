"""Complex example inputs: of the ops about complex numbers, and of the others as they are real."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..core import dtype as dt
from ..ir.region import regions_of
from .samples import TABLE, Sample, _op, _reals


def complexes(rng: Any, shape: tuple[int, ...], low: float = -2.0, high: float = 2.0) -> np.ndarray:
    """Distinct numbers, away from the axes and from 0."""
    imag = _reals(rng, shape, 0.2, 1.2) * np.where(rng.integers(0, 2, shape), 1, -1)
    return _reals(rng, shape, low, high) + 1j * imag


def _on(name: str, *fields: Any, shape: tuple[int, ...] = (2, 3), real: bool = False) -> Callable:
    def make(rng: Any) -> list[Sample]:
        x = _reals(rng, shape) if real else complexes(rng, shape)
        narrow = x.astype(np.float32 if real else np.complex64)
        return [Sample(_op(name, *fields), (x,)), Sample(_op(name, *fields), (narrow,), False)]

    return make


def _from_parts(rng: Any) -> list[Sample]:
    pair = _reals(rng, (2, 3)), _reals(rng, (2, 3))
    narrow = tuple(x.astype(np.float32) for x in pair)
    return [Sample(_op("from_parts"), pair), Sample(_op("from_parts"), narrow, False)]


def _eig(rng: Any) -> list[Sample]:
    # Eigenvectors have a free phase: their derivatives are tested by hand.
    real, wide = _reals(rng, (2, 3, 3)), complexes(rng, (2, 3, 3))
    return [Sample(_op("eig"), (real,), gradient=False), Sample(_op("eig"), (wide,), False)]


def _spectra(rng: Any) -> list[Sample]:
    x = complexes(rng, (2, 3, 4))
    return [
        Sample(_op("fourier", axes, inverse, scale), (x,))
        for axes, inverse, scale in (((1,), False, 1.0), ((0, 2), True, 0.5))
    ] + [Sample(_op("fourier", (2,), False, 1.0), (x.astype(np.complex64),), False)]


def _half_spectra(rng: Any) -> list[Sample]:
    x = _reals(rng, (3, 4))
    return [Sample(_op("real_fourier", a, s), (x,)) for a, s in ((0, 1.0), (1, 0.5))]


def _from_half_spectra(rng: Any) -> list[Sample]:
    x = complexes(rng, (3, 2))
    return [Sample(_op("inverse_real", 0, n, 0.5), (x,)) for n in (4, 5)]


TABLE |= {
    "fourier": _spectra,
    "real_fourier": _half_spectra,
    "inverse_real": _from_half_spectra,
    "eig": _eig,
    "conjugate": _on("conjugate"),
    "real_part": _on("real_part"),
    "imaginary_part": _on("imaginary_part"),
    "angle": _on("angle"),
    "view_as_real": _on("view_as_real"),
    "view_as_complex": _on("view_as_complex", shape=(3, 2), real=True),
    "from_parts": _from_parts,
}


_FREE = {"cholesky", "qr", "eigh", "svd", "pseudo_inverse"}


def complex_version(sample: Sample) -> Sample | None:
    """The sample with complex numbers for its float64 ones; None where the op does not take them.

    Derivatives of decompositions of complex matrices, which leave a phase free or read triangles,
    are tested by hand.
    """
    accepts = sample.op.accepts
    floats = [a.dtype == np.float64 for a in sample.arrays]
    if not any(floats) or (accepts is not None and dt.complex128 not in accepts):
        return None
    if sample.op.name == "cast" or regions_of(sample.op):
        return None
    rng = np.random.default_rng(3)

    def of(a: Any) -> Any:
        if not isinstance(a, np.ndarray) or a.dtype != np.float64:
            return a
        return np.asarray(a + 1j * _reals(rng, a.shape, 0.2, 0.9))

    gradient = sample.gradient and sample.op.name not in _FREE
    return Sample(sample.op, tuple(of(a) for a in sample.args), gradient, sample.batch)
