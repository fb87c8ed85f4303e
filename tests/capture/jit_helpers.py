"""What the tests of `mg.jit` share: a count of captures, and comparisons."""

import numpy as np

import monograph as mg


def counted(function, **options):
    """jit of function, and the list that gets an element at each capture."""
    captures = []

    def wrapped(*args, **kwargs):
        captures.append(1)
        return function(*args, **kwargs)

    return mg.jit(wrapped, **options), captures


def same(a, b):
    np.testing.assert_array_equal(a.detach().numpy(), b.detach().numpy())


def close(a, b, rtol=1e-5, atol=1e-6):
    np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), rtol=rtol, atol=atol)
