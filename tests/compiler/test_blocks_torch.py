"""Blocks of well-known image networks: compiled losses and gradients beside PyTorch's."""

import numpy as np
import pytest

import monograph as mg

torch = pytest.importorskip("torch", reason="PyTorch is the oracle here")


def blocks(lib):
    """The same layers from either library."""
    nn, F = lib.nn, lib.nn.functional

    class Residual(nn.Module):
        def __init__(self, *layers):
            super().__init__()
            self.layers = nn.Sequential(*layers)

        def forward(self, x):
            return x + self.layers(x)

    class SqueezeExcite(nn.Module):
        def __init__(self, channels, squeezed):
            super().__init__()
            self.down, self.up = nn.Conv2d(channels, squeezed, 1), nn.Conv2d(squeezed, channels, 1)

        def forward(self, x):
            return x * self.up(F.silu(self.down(x.mean((2, 3), keepdim=True)))).sigmoid()

    class ConvNext(nn.Module):
        def __init__(self, channels):
            super().__init__()
            self.depthwise = nn.Conv2d(channels, channels, 7, padding=3, groups=channels)
            self.norm = nn.LayerNorm(channels)
            self.wide, self.narrow = nn.Linear(channels, 32), nn.Linear(32, channels)

        def forward(self, x):
            y = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
            return x + self.narrow(F.gelu(self.wide(y))).permute(0, 3, 1, 2)

    def unit(inputs, outputs, kernel, act=None, stride=1, groups=1):
        conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
        return [conv, nn.BatchNorm2d(outputs), *([act()] if act else [])]

    return {
        "mobilenet v2": nn.Sequential(
            *unit(3, 8, 3, nn.ReLU6, 2),
            Residual(
                *unit(8, 48, 1, nn.ReLU6), *unit(48, 48, 3, nn.ReLU6, groups=48), *unit(48, 8, 1)
            ),
            *unit(8, 32, 1, nn.ReLU6), *unit(32, 32, 3, nn.ReLU6, 2, 32), *unit(32, 12, 1),
        ),
        "efficientnet": nn.Sequential(
            *unit(3, 8, 3, nn.SiLU, 2), *unit(8, 40, 1, nn.SiLU), *unit(40, 40, 5, nn.SiLU, 2, 40),
            SqueezeExcite(40, 4), *unit(40, 12, 1),
        ),
        "convnext": nn.Sequential(nn.Conv2d(3, 20, 2, 2), ConvNext(20), nn.Conv2d(20, 12, 1)),
        "resnext": nn.Sequential(
            *unit(3, 16, 3, nn.ReLU),
            Residual(
                *unit(16, 32, 1, nn.ReLU), *unit(32, 32, 3, nn.ReLU, groups=8), *unit(32, 16, 1)
            ),
            *unit(16, 12, 3, nn.ReLU, 2, 2),
        ),
    }  # fmt: skip


@pytest.mark.parametrize("name", ["mobilenet v2", "efficientnet", "convnext", "resnext"])
def test_a_block_trains_as_in_torch(name):
    torch.manual_seed(0)
    theirs, ours = blocks(torch)[name].double(), blocks(mg)[name].double()
    ours.load_state_dict({k: mg.tensor(v.numpy()) for k, v in theirs.state_dict().items()})
    rng = np.random.default_rng(0)
    x, target = rng.standard_normal((2, 3, 13, 14)), np.array([3, 11])

    out = theirs(torch.tensor(x)).mean((2, 3))
    loss = torch.nn.functional.cross_entropy(out, torch.tensor(target))
    loss.backward()

    @mg.jit
    def gradients(x, target):
        loss = mg.nn.functional.cross_entropy(ours(x).mean((2, 3)), target)
        return (loss, *mg.autograd.grad(loss, list(ours.parameters())))

    got = gradients(mg.tensor(x), mg.tensor(target))
    wanted = [loss, *(p.grad for p in theirs.parameters())]
    for a, b in zip(got, wanted, strict=True):
        np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), rtol=1e-8, atol=1e-10)
    theirs.eval(), ours.eval()  # with the statistics of that one batch
    a, b = mg.jit(lambda x: ours(x))(mg.tensor(x)), theirs(torch.tensor(x))
    np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), rtol=1e-8, atol=1e-10)
