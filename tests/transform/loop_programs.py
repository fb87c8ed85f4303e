"""Loop bodies that tests run, and checks of what was compiled."""

import numpy as np

import monograph as mg
from monograph.compiler.control import ControlStep
from monograph.core import pytree


def draw(*shape, seed=0):
    return mg.tensor(np.random.default_rng(seed).uniform(-1, 1, shape))


def arrays(tree):
    return [t.detach().numpy() for t in pytree.tree_leaves(tree)]


def assert_trees(got, expected, tolerance=1e-12):
    got, expected = (pytree.flatten(t) for t in (got, expected))
    assert got[1] == expected[1]
    for a, b in zip(got[0], expected[0], strict=True):
        assert a.dtype is b.dtype
        np.testing.assert_allclose(
            a.detach().numpy(), b.detach().numpy(), rtol=tolerance, atol=tolerance
        )


def program_of(compiled):
    (variants,) = compiled.captures.values()
    return variants[-1].executable


def loops_of(executable):
    found = []
    for step in executable.plan.steps:
        if isinstance(step, ControlStep):
            found.append(step)
            for body in step.bodies:
                found += loops_of(body)
    return found


def assert_compiled_like_eager(f, *args, loops=1, native=True, tolerance=1e-12):
    """f under jit gives what it gives eagerly, twice, with `loops` loops that run natively."""
    expected = f(*args)
    compiled = mg.jit(f)
    for _ in range(2):
        assert_trees(compiled(*args), expected, tolerance)
    steps = loops_of(program_of(compiled))
    assert len(steps) == loops
    assert all(s.is_native == native for s in steps)
    return compiled


# The functions that are run


def layer(w, b):
    def step(h, x):
        h = mg.tanh(h @ w + x + b)
        return h, h * 2

    return step


def recurrent(h, xs, w, b, reverse=False):
    return mg.scan(layer(w, b), h, xs, reverse=reverse)


def inputs(t=5):
    return draw(2, 4), draw(t, 2, 4, seed=1), draw(4, 4, seed=2), draw(4, seed=3)


def loss(h, xs, w, b, reverse=False):
    h, ys = recurrent(h, xs, w, b, reverse)
    return (h * h).sum() + (ys * mg.sin(ys)).sum()
