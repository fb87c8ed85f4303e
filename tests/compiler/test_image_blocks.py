"""Inference on a batch in blocks of images (compiler/blocks.py)."""

import numpy as np
import pytest

import monograph as mg
import monograph.nn.functional as F
from monograph import nn
from monograph.compiler import blocks, stored


@pytest.fixture(autouse=True)
def small_limits(monkeypatch):
    """Blocks for networks that a test can afford; plans are made anew."""
    monkeypatch.setattr(stored, "enabled", False)
    monkeypatch.setattr(blocks, "LEAST_BYTES", 1)
    monkeypatch.setattr(blocks, "MOST_BYTES", 420_000)
    monkeypatch.setattr(blocks, "BLOCK_PRODUCTS", 1)
    monkeypatch.setattr(blocks, "WORTH", 0)


class Net(nn.Module):
    """Convolutions of all kinds, BatchNorm, a residual, pooling, upsampling, concatenation."""

    def __init__(self):
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 32, 3, 1, 1), nn.BatchNorm2d(32)
        self.deep = nn.Conv2d(32, 32, 3, 1, 1, groups=32)
        self.mix, self.down = nn.Conv2d(32, 32, 1), nn.Conv2d(32, 48, 3, 2, 1)
        self.back = nn.ConvTranspose2d(48, 16, 2, 2)
        self.head = nn.Linear(64, 10)

    def forward(self, x):
        x = F.relu(self.norm(self.first(x)))
        a = F.hardswish(self.mix(F.relu6(self.deep(x))) + x)
        b = F.max_pool2d(F.silu(self.down(a)), 2)
        b = F.interpolate(b, scale_factor=2.0)
        c = mg.cat([self.back(b), a, a[:, :16].flip(2)], 1)
        return self.head(c.mean((2, 3)))


def jitted(model):
    @mg.jit
    def run(*x):
        with mg.no_grad():
            return model(*x)

    return run


def titles(run, *x):
    return [row.title for row in mg.explain(run.function, *x, rounds=1).rows]


def network():
    mg.manual_seed(1)
    model = Net()
    with mg.no_grad():
        model(mg.randn(8, 3, 16, 16))  # statistics that are not 0 and 1
    return model.eval()


def test_results_are_those_of_each_block_alone():
    model = network()
    run = jitted(model)
    x = mg.randn(12, 3, 16, 16)
    assert titles(run, x)[0] == "scan"
    step = mg.explain(run.function, x, rounds=1).rows[0].step
    size = 12 // step.trips
    assert 1 < step.trips < 12
    alone = np.concatenate([run(x[i : i + size]).numpy() for i in range(0, 12, size)])
    assert (run(x).numpy() == alone).all()


def test_results_are_the_eager_ones():
    model = network()
    x = mg.randn(6, 3, 16, 16)
    run = jitted(model)
    assert titles(run, x)[0] == "scan"
    with mg.no_grad():
        np.testing.assert_allclose(run(x).numpy(), model(x).numpy(), rtol=1e-4, atol=1e-5)


def test_weights_are_packed_once_and_again_when_they_change():
    model = network()
    x = mg.randn(12, 3, 16, 16)
    run = jitted(model)
    before = run(x).numpy().copy()
    made = mg.explain(run.function, x, rounds=1)
    assert any("pack" in line for line in made.once.splitlines())
    assert not any("pack" in row.title for row in made.every_row)
    with mg.no_grad():
        model.mix.weight.mul_(2.0)
        model.head.bias.add_(1.0)
        expected = model(x).numpy()
    assert abs(before - expected).max() > 0.5
    np.testing.assert_allclose(run(x).numpy(), expected, rtol=1e-4, atol=1e-5)


def test_what_couples_images_comes_after_the_loop():
    model = network()
    x = mg.randn(12, 3, 16, 16)
    run = jitted(lambda x: F.softmax(model(x), 0) @ mg.eye(10) + model(x).mean(0))
    assert titles(run, x)[0] == "scan"
    with mg.no_grad():
        y = model(x)
        expected = (F.softmax(y, 0) + y.mean(0)).numpy()
    np.testing.assert_allclose(run(x).numpy(), expected, rtol=1e-4, atol=1e-5)


def test_statistics_of_the_batch_are_those_of_the_whole_batch():
    model = network()
    model.norm.train()
    x = mg.randn(12, 3, 16, 16)
    twin = network()
    twin.norm.train()
    with mg.no_grad():
        expected = twin(x).numpy()
    np.testing.assert_allclose(jitted(model)(x).numpy(), expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(
        model.norm.running_mean.numpy(), twin.norm.running_mean.numpy(), rtol=1e-4, atol=1e-6
    )


def test_tables_of_the_batch_and_of_one_image_are_read_in_parts_and_whole():
    conv = nn.Conv2d(8, 32, 3, padding=1)
    each, same = mg.randn(12, 32, 1, 1), mg.randn(1, 32, 16, 16)
    attend = nn.MultiheadAttention(32, 2, batch_first=True).eval()

    def model(x, scale):
        y = conv(x) * scale[:, None, None, None] + each.exp() + same
        y = y + mg.zeros(12, 1, 1, 1)
        y = y.flatten(2).transpose(1, 2)
        return attend(y, y, y, need_weights=False)[0].sum(1)

    x, scale = mg.randn(12, 8, 16, 16), mg.rand(12)
    run = jitted(model)
    assert "scan" in titles(run, x, scale)
    with mg.no_grad():
        expected = model(x, scale).numpy()
    np.testing.assert_allclose(run(x, scale).numpy(), expected, rtol=1e-4, atol=1e-3)


def test_images_as_results_and_one_block_for_primes():
    mg.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 64, 3, padding=1), nn.ReLU(), nn.Conv2d(64, 64, 3, padding=1), nn.ReLU(),
        nn.Conv2d(64, 3, 3, padding=1),
    ).eval()  # fmt: skip
    for count, looped in ((10, True), (7, True), (1, False)):
        x = mg.randn(count, 3, 16, 16)
        run = jitted(model)
        assert (titles(run, x)[0] == "scan") == looped
        with mg.no_grad():
            expected = model(x).numpy()
        np.testing.assert_allclose(run(x).numpy(), expected, rtol=1e-4, atol=1e-5)


def test_small_networks_and_training_are_not_looped(monkeypatch):
    model = network()
    x = mg.randn(12, 3, 16, 16)
    monkeypatch.setattr(blocks, "MOST_BYTES", 1 << 30)
    monkeypatch.setattr(blocks, "LEAST_BYTES", 1 << 30)
    assert "scan" not in titles(jitted(model), x)
    monkeypatch.setattr(blocks, "MOST_BYTES", 420_000)
    monkeypatch.setattr(blocks, "LEAST_BYTES", 1)

    @mg.jit
    def step(x):
        model.zero_grad()
        loss = model(x).square().mean()
        loss.backward()
        return loss

    step(x)
    assert "scan" not in titles(step, x)


def test_threads_make_no_difference():
    model = network()
    x = mg.randn(12, 3, 16, 16)
    run = jitted(model)
    before = mg.get_num_threads()
    try:
        made = []
        for count in (1, 2):
            mg.set_num_threads(count)
            made.append(run(x).numpy().copy())
    finally:
        mg.set_num_threads(before)
    assert (made[0] == made[1]).all()
