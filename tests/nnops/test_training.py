"""A small network of this area's functions trained beside PyTorch: eager and captured."""

import numpy as np
import torch
import torch.nn.functional as TF

import monograph as mg
from monograph.nn import functional as F

from .oracle import rng

SHAPES = [(8, 1, 3, 3), (8,), (8,), (8,), (16, 8, 3, 3), (16,), (64, 32), (32,), (32, 5), (5,)]


def forward(f, x, p, mean, var, t):
    h = f.conv2d(x, p[0], p[1], padding=1)
    h = f.relu(f.batch_norm(h, mean, var, p[2], p[3], training=True, momentum=0.2))
    h = f.max_pool2d(h, 2)
    h = f.relu(f.conv2d(h, p[4], p[5], stride=2, padding=1))
    h = f.avg_pool2d(h, 2, 1, 1, count_include_pad=False)
    h = f.adaptive_avg_pool2d(h, 2).reshape(x.shape[0], -1)
    h = f.relu(f.layer_norm(h @ p[6] + p[7], (32,)))
    return f.cross_entropy(h @ p[8] + p[9], t, label_smoothing=0.1)


def start():
    r = rng(0)
    parameters = [(0.3 * r.standard_normal(s)).astype(np.float32) for s in SHAPES]
    data = [
        (r.standard_normal((6, 1, 12, 12)).astype(np.float32), r.integers(0, 5, 6))
        for _ in range(8)
    ]
    return parameters, data


def by_torch():
    parameters, data = start()
    p = [torch.tensor(a, requires_grad=True) for a in parameters]
    mean, var, losses = torch.zeros(8), torch.ones(8), []
    for x, t in data:
        loss = forward(TF, torch.tensor(x), p, mean, var, torch.tensor(t))
        losses.append(loss.item())
        for v, g in zip(p, torch.autograd.grad(loss, p)):
            v.data -= 0.1 * g
    return losses, [v.detach().numpy() for v in (*p, mean, var)]


def by_us(captured):
    parameters, data = start()
    p = [mg.tensor(a, requires_grad=True) for a in parameters]
    mean, var = mg.zeros(8), mg.ones(8)

    def step(x, t):
        loss = forward(F, x, p, mean, var, t)
        gradients = mg.autograd.grad(loss, p)
        with mg.no_grad():
            for v, g in zip(p, gradients):
                v -= 0.1 * g
        return loss.detach()

    step = mg.jit(step) if captured else step
    losses = [step(mg.tensor(x), mg.tensor(t)).item() for x, t in data]
    return losses, [v.detach().numpy() for v in (*p, mean, var)]


def agrees(made, expected):
    np.testing.assert_allclose(made[0], expected[0], rtol=1e-4)
    for a, b in zip(made[1], expected[1]):
        # Eight steps amplify differences in the last place.
        np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-4)


def test_eager_training_follows_torch():
    agrees(by_us(False), by_torch())


def test_captured_training_follows_torch():
    agrees(by_us(True), by_torch())
