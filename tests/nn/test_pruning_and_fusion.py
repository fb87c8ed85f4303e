"""Pruning, folded batch norms, and the older hook-based norms, beside PyTorch's."""

import numpy as np
import pytest

import monograph as mg
from monograph import nn
from monograph.nn import utils
from monograph.nn.utils import prune

torch = pytest.importorskip("torch", reason="PyTorch is the oracle of these tests")
tprune = pytest.importorskip("torch.nn.utils.prune")


def pair(make):
    mg.manual_seed(0)
    mine, theirs = make(nn), make(torch.nn)
    theirs.load_state_dict({k: torch.tensor(v.numpy()) for k, v in mine.state_dict().items()})
    return mine, theirs


def same(mine, theirs, shape):
    x = np.random.default_rng(0).standard_normal(shape).astype("float32")
    a, b = mine(mg.tensor(x)), theirs(torch.tensor(x))
    np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), rtol=1e-4, atol=1e-5)
    (a * a).sum().backward()
    (b * b).sum().backward()
    ours, others = dict(mine.named_parameters()), dict(theirs.named_parameters())
    assert ours.keys() == others.keys()
    for name, p in ours.items():
        assert p.requires_grad == others[name].requires_grad
        if not p.requires_grad:
            continue
        np.testing.assert_allclose(
            p.grad.numpy(), others[name].grad.numpy(), rtol=1e-3, atol=1e-4, err_msg=name
        )
    assert mine.state_dict().keys() == theirs.state_dict().keys()
    for key, value in theirs.state_dict().items():
        np.testing.assert_allclose(
            mine.state_dict()[key].numpy(), value.numpy(), rtol=1e-5, atol=1e-6, err_msg=key
        )


def linear(lib):
    return lib.Linear(8, 6)


def conv(lib):
    return lib.Conv2d(4, 6, 3)


PRUNINGS = {
    "identity": lambda p, m: p.identity(m, "weight"),
    "l1": lambda p, m: p.l1_unstructured(m, "weight", 0.3),
    "l1 count": lambda p, m: p.l1_unstructured(m, "bias", 2),
    "rows": lambda p, m: p.ln_structured(m, "weight", 0.5, 2, 0),
    "columns": lambda p, m: p.ln_structured(m, "weight", 2, 1, 1),
    "again": lambda p, m: p.l1_unstructured(p.l1_unstructured(m, "weight", 0.3), "weight", 0.5),
    "rows, then elements": lambda p, m: p.l1_unstructured(
        p.ln_structured(m, "weight", 2, 2, 0), "weight", 5
    ),
    "elements, then rows": lambda p, m: p.ln_structured(
        p.l1_unstructured(m, "weight", 10), "weight", 1, 2, 0
    ),
}


@pytest.mark.parametrize("make, shape", [(linear, (3, 8)), (conv, (2, 4, 5, 5))])
@pytest.mark.parametrize("name", PRUNINGS)
def test_pruned_layers_equal_torchs(name, make, shape):
    mine, theirs = pair(make)
    PRUNINGS[name](prune, mine)
    PRUNINGS[name](tprune, theirs)
    assert prune.is_pruned(mine)
    same(mine, theirs, shape)
    part = "bias" if name == "l1 count" else "weight"
    prune.remove(mine, part)
    tprune.remove(theirs, part)
    assert not prune.is_pruned(mine) and set(mine.state_dict()) == {"weight", "bias"}
    np.testing.assert_array_equal(mine.weight.detach().numpy(), theirs.weight.detach().numpy())


def test_random_pruning_takes_the_share_asked_for():
    layer = prune.random_unstructured(nn.Linear(10, 10), "weight", 0.37)
    assert (layer.weight == 0).sum().item() == 37
    layer = prune.random_structured(nn.Linear(10, 10), "weight", 3, dim=0)
    assert (layer.weight == 0).all(1).sum().item() == 3


def test_global_pruning_compares_all_layers():
    mine, theirs = pair(lambda lib: lib.Sequential(linear(lib), lib.Linear(6, 4)))
    for p, net in ((prune, mine), (tprune, theirs)):
        p.global_unstructured(
            [(net[0], "weight"), (net[1], "weight")], p.L1Unstructured, amount=0.4
        )
    same(mine, theirs, (3, 8))


def test_custom_masks_and_bad_amounts():
    layer = prune.custom_from_mask(nn.Linear(2, 2), "weight", mg.eye(2))
    assert layer.weight[0, 1].item() == 0 and layer.weight[0, 0].item() != 0
    for amount in (1.5, -1, "a", True):
        with pytest.raises(ValueError, match="prune: amount must be"):
            prune.l1_unstructured(nn.Linear(2, 2), "weight", amount)
    with pytest.raises(ValueError, match="amount 9 is more than the 4 there are"):
        prune.l1_unstructured(nn.Linear(2, 2), "weight", 9)
    with pytest.raises(ValueError, match="Linear has no parameter 'w'"):
        prune.l1_unstructured(nn.Linear(2, 2), "w", 1)


def norms(lib, layer, norm):
    net = lib.Sequential(layer, norm)
    for t in (norm.running_mean, norm.running_var, norm.weight.detach(), norm.bias.detach()):
        t.copy_((lib_of(lib).arange(t.numel()) + 1.0) / 3)
    return net.eval()


def lib_of(lib):
    return mg if lib is nn else torch


@pytest.mark.parametrize(
    "make, shape",
    [
        (lambda lib: norms(lib, lib.Conv2d(4, 6, 3), lib.BatchNorm2d(6)), (2, 4, 5, 5)),
        (lambda lib: norms(lib, lib.Conv1d(4, 6, 3, bias=False), lib.BatchNorm1d(6)), (2, 4, 5)),
        (lambda lib: norms(lib, lib.Linear(4, 6), lib.BatchNorm1d(6)), (3, 4)),
        (lambda lib: norms(lib, lib.ConvTranspose2d(4, 6, 3), lib.BatchNorm2d(6)), (2, 4, 5, 5)),
    ],
)
def test_a_folded_batch_norm_changes_nothing(make, shape):
    mine, theirs = pair(make)
    if isinstance(mine[0], nn.Linear):
        fused = utils.fuse_linear_bn_eval(mine[0], mine[1])
        other = torch.nn.utils.fusion.fuse_linear_bn_eval(theirs[0], theirs[1])
    else:
        transpose = isinstance(mine[0], nn.ConvTranspose2d)
        fused = utils.fuse_conv_bn_eval(mine[0], mine[1], transpose)
        other = torch.nn.utils.fusion.fuse_conv_bn_eval(theirs[0], theirs[1], transpose)
    same(fused, other, shape)
    x = mg.randn(*shape)
    np.testing.assert_allclose(
        fused(x).detach().numpy(), mine(x).detach().numpy(), rtol=1e-4, atol=1e-4
    )
    with pytest.raises(ValueError, match="both must be in evaluation mode"):
        utils.fuse_conv_bn_eval(mine[0].train(), mine[1])


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("make, shape", [(linear, (3, 8)), (conv, (2, 4, 5, 5))])
def test_older_norms_equal_torchs(make, shape):
    mine, theirs = pair(make)
    for dim in (1, None):
        utils.weight_norm(mine, dim=dim)
        torch.nn.utils.weight_norm(theirs, dim=dim)
        same(mine, theirs, shape)
        utils.remove_weight_norm(mine)
        torch.nn.utils.remove_weight_norm(theirs)
        mine.zero_grad()
        theirs.zero_grad()
        same(mine, theirs, shape)
    utils.spectral_norm(mine)
    torch.nn.utils.spectral_norm(theirs)
    state = {k: mg.tensor(v.numpy().copy()) for k, v in theirs.state_dict().items()}
    assert set(state) == {"weight_orig", "weight_u", "weight_v", "bias"}
    mine.load_state_dict(state)
    mine.zero_grad()
    theirs.zero_grad()
    same(mine, theirs, shape)
    utils.remove_spectral_norm(mine)
    torch.nn.utils.remove_spectral_norm(theirs)
    same(mine, theirs, shape)
    with pytest.raises(ValueError, match="weight_norm of 'weight' not found in"):
        utils.remove_weight_norm(mine)
