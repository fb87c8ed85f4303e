"""LBFGS and Muon beside PyTorch's; Lion, LAMB and AdamWScheduleFree beside their papers."""

import math

import numpy as np
import pytest

import monograph as mg
from monograph import nn, optim
from monograph.core.errors import render

torch = pytest.importorskip("torch", reason="PyTorch is the oracle of these tests")


def start(shape=(4, 3)):
    return np.random.default_rng(0).standard_normal(shape)


def gradient(step, shape=(4, 3)):
    return np.random.default_rng(100 + step).standard_normal(shape)


def trained(optimizer_of, steps=20, before_step=None):
    p = mg.tensor(start(), requires_grad=True)
    optimizer = optimizer_of([p])
    for step in range(steps):
        p.grad = mg.tensor(gradient(step))
        optimizer.step()
    return p, optimizer


def test_lion_is_that_of_the_paper():
    p, m = start(), 0.0
    for step in range(20):
        g = gradient(step)
        p = p - 0.1 * (np.sign(0.9 * m + 0.1 * g) + 0.2 * p)
        m = 0.8 * m + 0.2 * g
    made, optimizer = trained(lambda ps: optim.Lion(ps, lr=0.1, betas=(0.9, 0.8), weight_decay=0.2))
    np.testing.assert_allclose(made.detach().numpy(), p, rtol=1e-10)
    np.testing.assert_allclose(optimizer.state[made]["exp_avg"].numpy(), m, rtol=1e-10)


def test_lamb_is_that_of_the_paper():
    p, m, v = start(), 0.0, 0.0
    for t in range(1, 21):
        g = gradient(t - 1)
        m, v = 0.9 * m + 0.1 * g, 0.99 * v + 0.01 * g * g
        r = (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.99**t)) + 1e-6) + 0.1 * p
        p = p - 0.05 * np.linalg.norm(p) / np.linalg.norm(r) * r
    made, _ = trained(lambda ps: optim.LAMB(ps, lr=0.05, betas=(0.9, 0.99), weight_decay=0.1))
    np.testing.assert_allclose(made.detach().numpy(), p, rtol=1e-9)
    still = mg.zeros(3, requires_grad=True)  # a norm of 0: the step is not scaled
    still.grad = mg.ones(3)
    optim.LAMB([still], lr=0.5).step()
    np.testing.assert_allclose(still.detach().numpy(), -0.5, rtol=1e-5)


def test_schedule_free_adamw_is_that_of_the_paper():
    lr, beta1, beta2, eps, decay, warm_up = 0.1, 0.9, 0.99, 1e-8, 0.1, 4
    z = x = y = start()
    v = total = 0.0
    for t in range(1, 21):
        g = gradient(t - 1)
        rate = lr * min(1, t / warm_up)
        v = beta2 * v + (1 - beta2) * g * g
        d = g / (np.sqrt(v / (1 - beta2**t)) + eps) + decay * y
        total += rate**2
        z = z - rate * d
        x = (1 - rate**2 / total) * x + rate**2 / total * z
        y = beta1 * x + (1 - beta1) * z
    made, optimizer = trained(
        lambda ps: optim.AdamWScheduleFree(
            ps, lr, (beta1, beta2), eps, weight_decay=decay, warmup_steps=warm_up
        )
    )
    # The sum of weights is float32.
    np.testing.assert_allclose(made.detach().numpy(), y, rtol=1e-5)
    optimizer.eval()
    optimizer.eval()
    np.testing.assert_allclose(made.detach().numpy(), x, rtol=1e-5)
    with pytest.raises(ValueError, match=r"AdamWScheduleFree: step\(\) after eval"):
        optimizer.step()
    optimizer.train()
    np.testing.assert_allclose(made.detach().numpy(), y, rtol=1e-5)


@pytest.mark.parametrize("shape", [(6, 4), (4, 6), (5, 5)])
@pytest.mark.parametrize(
    "options", [{}, {"nesterov": False, "weight_decay": 0.0}, {"adjust_lr_fn": "match_rms_adamw"}]
)
def test_muon_is_near_torchs_which_rounds_to_bfloat16(shape, options):
    mine = mg.tensor(start(shape).astype("float32"), requires_grad=True)
    theirs = torch.tensor(start(shape).astype("float32"), requires_grad=True)
    ours, other = optim.Muon([mine], **options), torch.optim.Muon([theirs], **options)
    for step in range(5):
        g = gradient(step, shape).astype("float32")
        mine.grad, theirs.grad = mg.tensor(g), torch.tensor(g)
        ours.step()
        other.step()
    moved = np.abs(theirs.detach().numpy() - start(shape)).max()
    # Five steps of five iterations in bfloat16, which has 8 bits.
    difference = np.abs(mine.detach().numpy() - theirs.detach().numpy()).max()
    assert difference <= 0.06 * moved
    theirs = other.state_dict()["state"][0]["momentum_buffer"].numpy()
    made = ours.state_dict()["state"][0]["momentum_buffer"].numpy()
    np.testing.assert_allclose(made, theirs, rtol=1e-4, atol=1e-6)


def test_muon_makes_singular_values_near_one():
    p = mg.tensor(start((8, 6)), requires_grad=True)
    p.grad = mg.tensor(gradient(0, (8, 6)))
    optim.Muon([p], lr=1.0, weight_decay=0.0).step()
    values = np.linalg.svd(p.detach().numpy() - start((8, 6)), compute_uv=False)
    scale = math.sqrt(8 / 6)
    assert (values > 0.6 * scale).all() and (values < 1.3 * scale).all()
    with pytest.raises(ValueError) as caught:
        optim.Muon([mg.zeros(3, requires_grad=True)])
    assert render(caught.value).splitlines()[:2] == [
        "ArgumentError: Muon: parameter 0 has shape (3,); only matrices are taken",
        "  hint: give the others to AdamW",
    ]


def rosenbrock(lib, p):
    x, y = p[:-1], p[1:]
    return (100 * (y - x * x) ** 2 + (1 - x) ** 2).sum()


@pytest.mark.parametrize(
    "options",
    [
        {"line_search_fn": "strong_wolfe", "max_iter": 30},
        {"line_search_fn": "strong_wolfe", "max_iter": 10, "history_size": 3, "lr": 0.5},
        {"lr": 1e-3, "max_iter": 8},
        {"line_search_fn": "strong_wolfe", "max_eval": 7},
    ],
)
def test_lbfgs_goes_the_way_of_torchs(options):
    ways = []
    for lib, library in ((mg, optim), (torch, torch.optim)):
        p = lib.tensor([-1.2, 1.0, 0.5, 1.5], dtype=lib.float64, requires_grad=True)
        q = lib.tensor(2.0, dtype=lib.float64, requires_grad=True)
        optimizer = library.LBFGS([p, q], **options)
        way = []

        def closure(lib=lib, optimizer=optimizer, p=p, q=q, way=way):
            optimizer.zero_grad()
            loss = rosenbrock(lib, p) + (q - 3) ** 4
            loss.backward()
            way.append(loss.item())
            return loss

        losses = [optimizer.step(closure).item() for _ in range(4)]
        state = optimizer.state_dict()["state"][0]
        ways.append((way, losses, p.detach().numpy(), state["func_evals"], state["n_iter"]))
    mine, theirs = ways
    assert mine[3:] == theirs[3:] and len(mine[0]) == len(theirs[0])
    np.testing.assert_allclose(mine[0], theirs[0], rtol=1e-5, atol=1e-12)
    np.testing.assert_allclose(mine[2], theirs[2], rtol=1e-5)


def test_lbfgs_fits_a_network_and_goes_on_from_its_state_dict():
    mg.manual_seed(0)
    x = mg.linspace(-3, 3, 60).reshape(-1, 1)
    y = x.sin()
    net = nn.Sequential(nn.Linear(1, 16), nn.Tanh(), nn.Linear(16, 1))
    optimizer = optim.LBFGS(net.parameters(), line_search_fn="strong_wolfe", max_iter=40)

    def closure():
        optimizer.zero_grad()
        loss = ((net(x) - y) ** 2).mean()
        loss.backward()
        return loss

    losses = [optimizer.step(closure).item() for _ in range(5)]
    assert losses[-1] < 1e-3 < losses[0]
    twin = optim.LBFGS(net.parameters(), line_search_fn="strong_wolfe", max_iter=40)
    twin.load_state_dict(optimizer.state_dict())
    before = {k: v.clone() for k, v in net.state_dict().items()}
    optimizer.step(closure)
    after = {k: v.clone() for k, v in net.state_dict().items()}
    net.load_state_dict(before)
    optimizer = twin
    twin.step(closure)
    for key, value in net.state_dict().items():
        assert (value == after[key]).all()
    with pytest.raises(TypeError, match="LBFGS: step needs a closure"):
        twin.step()


@pytest.mark.parametrize("name", ["Adafactor", "NAdam", "ASGD", "Adadelta", "Rprop", "Adamax"])
def test_state_of_torch_is_taken_over(name):
    shapes = [(3, 4), (5,)]
    values = [start(s) for s in shapes]
    theirs = [torch.tensor(v, requires_grad=True) for v in values]
    other = getattr(torch.optim, name)(theirs)
    for step in range(3):
        for p, s in zip(theirs, shapes):
            p.grad = torch.tensor(gradient(step, s))
        other.step()
    mine = [mg.tensor(p.detach().numpy().copy(), requires_grad=True) for p in theirs]
    ours = getattr(optim, name)(mine)
    known = other.state_dict()
    state = {
        number: {k: mg.tensor(v.numpy().copy()) for k, v in entries.items()}
        for number, entries in known["state"].items()
    }
    groups = [{k: v for k, v in g.items() if k in ours.param_groups[0] or k == "params"}
              for g in known["param_groups"]]  # fmt: skip
    ours.load_state_dict({"state": state, "param_groups": groups})
    for step in range(3, 6):
        for ps, lib, optimizer in ((mine, mg, ours), (theirs, torch, other)):
            for p, s in zip(ps, shapes):
                p.grad = lib.tensor(gradient(step, s))
            optimizer.step()
    for a, b in zip(mine, theirs):
        # Scalars of the state are float32 there and take the parameter's dtype when loaded.
        np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), rtol=1e-6)
