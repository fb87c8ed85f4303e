"""Kernel generators: contraction, convolution, attention, pooling, gathering. See steps.py."""
