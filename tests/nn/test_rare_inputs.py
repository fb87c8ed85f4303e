"""Layers and losses at inputs that PyTorch's module samples brought to light."""

import numpy as np
import pytest

import monograph as mg
from monograph import nn
from monograph.nn import functional as F

torch = pytest.importorskip("torch", reason="compared with PyTorch")
RNG = np.random.default_rng(0)


def test_an_empty_batch_leaves_statistics_as_they_are():
    for lib in (mg, torch):
        norm = lib.nn.BatchNorm1d(5)
        assert norm(lib.zeros(0, 5, 9)).shape == (0, 5, 9)
        assert norm.running_var.tolist() == [1.0] * 5 and norm.running_mean.tolist() == [0.0] * 5


def test_places_of_more_images_than_there_are():
    x, places = RNG.standard_normal((4, 5, 5, 5)), RNG.random((2, 4, 3))
    found = [
        lib.nn.functional.fractional_max_pool3d(
            lib.tensor(x), 2, output_ratio=0.5, _random_samples=lib.tensor(places)
        )
        for lib in (mg, torch)
    ]
    np.testing.assert_array_equal(found[0].numpy(), found[1].numpy())


@pytest.mark.parametrize("shape", [(4, 3), (4,), (4, 1), (1, 3)])
def test_variances_of_gaussian_nll(shape):
    x, y, v = RNG.standard_normal((4, 3)), RNG.standard_normal((4, 3)), RNG.random(shape) + 0.5
    got = F.gaussian_nll_loss(*map(mg.tensor, (x, y, v)))
    expected = torch.nn.functional.gaussian_nll_loss(*map(torch.tensor, (x, y, v)))
    assert got.item() == pytest.approx(expected.item(), rel=1e-12)


def test_variances_of_no_shape_that_fits():
    with pytest.raises(ValueError, match=r"var must have input's shape"):
        F.gaussian_nll_loss(mg.ones(4, 3), mg.ones(4, 3), mg.ones(1, 1))


def test_divergence_from_what_is_no_probability_is_nan():
    target = mg.tensor([-0.5, 0.0, 0.5], requires_grad=True)
    loss = nn.KLDivLoss(reduction="none")(mg.tensor([0.3, 0.3, 0.3]), target)
    expected = torch.nn.KLDivLoss(reduction="none")(
        torch.tensor([0.3, 0.3, 0.3]), torch.tensor([-0.5, 0.0, 0.5])
    )
    np.testing.assert_allclose(loss.detach().numpy(), expected.numpy(), rtol=1e-6)
    loss[1:].sum().backward()
    assert target.grad.isfinite().tolist()[1:] == [True, True]
