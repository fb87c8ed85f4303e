"""Sobol's sequence: PyTorch's numbers, and what makes it even."""

import numpy as np
import pytest

import monograph as mg
from monograph.quasirandom import SobolEngine


@pytest.mark.parametrize("dimension", [1, 2, 9, 200, 1111])
def test_the_numbers_are_pytorchs(dimension):
    torch = pytest.importorskip("torch", reason="compared with PyTorch")
    pair = SobolEngine(dimension), torch.quasirandom.SobolEngine(dimension)
    for n in (1, 3, 1, 20):
        ours, theirs = (engine.draw(n) for engine in pair)
        assert np.array_equal(ours.numpy(), theirs.numpy())
    ours, theirs = (engine.fast_forward(7).draw(5) for engine in pair)
    assert np.array_equal(ours.numpy(), theirs.numpy())
    ours, theirs = (engine.reset().draw_base2(4) for engine in pair)
    assert np.array_equal(ours.numpy(), theirs.numpy())


@pytest.mark.parametrize("scramble", [False, True])
def test_each_interval_gets_its_share(scramble):
    points = SobolEngine(12, scramble=scramble, seed=4).draw(256, dtype=mg.float64).numpy()
    for column in points.T:
        assert sorted((column * 256).astype(int)) == list(range(256))
    squares, _, _ = np.histogram2d(points[:, 0], points[:, 1], 16, [(0, 1), (0, 1)])
    assert (squares == 1).all()


def test_a_seed_gives_the_same_mixing():
    first, same, other = (SobolEngine(3, scramble=True, seed=s) for s in (5, 5, 6))
    one = first.draw(4)
    assert mg.equal(one, same.draw(4)) and not mg.equal(one, other.draw(4))
    assert mg.equal(one, first.reset().draw(4))
    assert repr(first) == "SobolEngine(dimension=3, scramble=True, seed=5)"


def test_forms_of_results():
    engine, out = SobolEngine(2), mg.empty(3, 2, dtype=mg.float64)
    assert engine.draw(0).shape == (0, 2)
    assert engine.draw(3, out=out) is out and out.tolist()[2] == [0.75, 0.25]
    assert engine.draw(dtype=mg.float64).dtype is mg.float64


def test_what_it_refuses():
    with pytest.raises(ValueError, match=r"dimension must be in \[1, 1111\], got 1112"):
        SobolEngine(1112)
    engine = SobolEngine(1).fast_forward(3)
    with pytest.raises(ValueError, match=r"3 \+ 4 points are no power of two"):
        engine.draw_base2(2)
    with pytest.raises(ValueError, match=r"n must be in \[0, 1073741821\] after 3 points"):
        engine.draw(1 << 30)
