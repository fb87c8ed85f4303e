"""Kernel generators: contraction, convolution, attention, pooling, gathering. See steps.py."""

from . import gemm as _gemm  # noqa: F401
