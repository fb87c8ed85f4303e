"""Averages of weights beside PyTorch's, eager and captured; batch norms brought up to date."""

import numpy as np
import pytest

import monograph as mg
from monograph import nn, optim
from monograph.optim import swa_utils

torch = pytest.importorskip("torch", reason="PyTorch is the oracle of these tests")

AVERAGES = {
    "mean": lambda lib: {},
    "ema": lambda lib: {"avg_fn": lib.get_ema_avg_fn(0.9)},
    "ema of lists": lambda lib: {"multi_avg_fn": lib.get_ema_multi_avg_fn(0.9)},
    "mean with buffers": lambda lib: {"use_buffers": True},
}


def network(lib):
    return lib.nn.Sequential(lib.nn.Linear(3, 4), lib.nn.BatchNorm1d(4), lib.nn.Linear(4, 2))


@pytest.mark.parametrize("captured", [False, True])
@pytest.mark.parametrize("name", AVERAGES)
def test_averaged_model_equals_torchs(name, captured):
    net, other = network(mg), network(torch)
    mine = swa_utils.AveragedModel(net, **AVERAGES[name](swa_utils))
    theirs = torch.optim.swa_utils.AveragedModel(other, **AVERAGES[name](torch.optim.swa_utils))
    update = lambda: mine.update_parameters(net)  # noqa: E731
    update = mg.jit(update) if captured else update
    rng = np.random.default_rng(0)
    for _ in range(4):
        state = {
            k: rng.standard_normal(tuple(v.shape)).astype("float32")
            for k, v in other.state_dict().items()
            if v.is_floating_point()
        }
        net.load_state_dict({k: mg.tensor(v) for k, v in state.items()}, strict=False)
        other.load_state_dict({k: torch.tensor(v) for k, v in state.items()}, strict=False)
        update()
        theirs.update_parameters(other)
        expected = theirs.state_dict()
        assert list(mine.state_dict()) == list(expected)
        for key, value in mine.state_dict().items():
            np.testing.assert_allclose(
                value.numpy(), expected[key].numpy(), rtol=1e-5, atol=1e-6, err_msg=key
            )
    assert mine.n_averaged.item() == 4


def test_update_bn_takes_the_statistics_of_all_batches():
    net, other = network(mg), network(torch)
    other.load_state_dict({k: torch.tensor(v.numpy()) for k, v in net.state_dict().items()})
    data = np.random.default_rng(0).standard_normal((5, 6, 3)).astype("float32")
    net.eval()
    swa_utils.update_bn([(mg.tensor(d), None) for d in data], net)
    torch.optim.swa_utils.update_bn([(torch.tensor(d), None) for d in data], other)
    assert not net.training and net[1].momentum == 0.1
    for key in ("1.running_mean", "1.running_var"):
        np.testing.assert_allclose(
            net.state_dict()[key].numpy(), other.state_dict()[key].numpy(), rtol=1e-4, atol=1e-6
        )


@pytest.mark.parametrize("strategy", ["cos", "linear"])
@pytest.mark.parametrize("epochs", [0, 1, 5])
def test_swalr_equals_torchs(strategy, epochs):
    def rates(lib, library):
        ps = [lib.zeros(1, requires_grad=True) for _ in range(2)]
        optimizer = library.SGD([{"params": ps[:1], "lr": 0.5}, {"params": ps[1:]}], lr=0.1)
        schedule = library.swa_utils.SWALR(optimizer, [0.05, 0.2], epochs, strategy)
        made = []
        for _ in range(8):
            optimizer.step()
            schedule.step()
            made.append(schedule.get_last_lr())
        return made

    np.testing.assert_allclose(rates(mg, optim), rates(torch, torch.optim), rtol=1e-9)


def test_bad_arguments_are_explained():
    with pytest.raises(ValueError, match="decay must be in"):
        swa_utils.get_ema_avg_fn(1.5)
    net = nn.Linear(1, 1)
    f = swa_utils.get_swa_avg_fn()
    with pytest.raises(ValueError, match="give avg_fn or multi_avg_fn, not both"):
        swa_utils.AveragedModel(net, avg_fn=f, multi_avg_fn=f)
    with pytest.raises(ValueError, match="anneal_strategy must be 'cos' or 'linear', got 'step'"):
        swa_utils.SWALR(optim.SGD(net.parameters()), 0.1, anneal_strategy="step")
