"""Small eager programs beside PyTorch: many tiny operations, gradients of gradients, transforms.

    python benchmarks/small_programs.py                  # every program, ours and PyTorch
    python benchmarks/small_programs.py --only pinn maml
    python benchmarks/small_programs.py --profile pinn   # where our time goes

No jit anywhere: each program is written as for PyTorch and gets the library as an argument. A turn
is some steps of it; both libraries take turns, in one thread, on the same numbers. Given are
milliseconds a step (the best turn of each) and ours over PyTorch's.
"""

from __future__ import annotations

import argparse
import cProfile
import os
import pstats
import sys
import time
from collections.abc import Callable
from pathlib import Path

for _name in ("MONOGRAPH_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np  # noqa: E402

TURN_S = 0.1
PROGRAMS: dict[str, Callable] = {}


def program(make: Callable) -> Callable:
    """Register make(lib), which gives one step of a program: it returns a number to compare."""
    PROGRAMS[make.__name__] = make
    return make


def numbers(lib, *shape: int, seed: int = 0, scale: float = 1.0):
    """Normal numbers, the same for both libraries."""
    made = np.random.default_rng(seed).standard_normal(shape) * scale
    return lib.from_numpy(made.astype(np.float32))


def set_weights(lib, module):
    """The module with weights that are the same for both libraries."""
    with lib.no_grad():
        for i, p in enumerate(module.parameters()):
            p.copy_(numbers(lib, *p.shape, seed=100 + i, scale=0.3))
    return module


@program
def pinn(lib):
    """Physics-informed net for Burgers' equation: second derivatives by create_graph."""
    nn, grad = lib.nn, lib.autograd.grad
    layers = [nn.Linear(2, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 1)]
    net = set_weights(lib, nn.Sequential(*layers))
    optimizer = lib.optim.Adam(net.parameters(), lr=1e-3)
    x = numbers(lib, 128, 1, seed=1).requires_grad_()
    t = numbers(lib, 128, 1, seed=2).requires_grad_()

    def step():
        optimizer.zero_grad()
        u = net(lib.cat([x, t], dim=1))
        ones = lib.ones_like(u)
        u_x = grad(u, x, ones, create_graph=True)[0]
        u_t = grad(u, t, ones, create_graph=True)[0]
        u_xx = grad(u_x, x, lib.ones_like(u_x), create_graph=True)[0]
        residual = u_t + u * u_x - 0.01 / np.pi * u_xx
        loss = (residual**2).mean() + ((u + lib.sin(np.pi * x)) ** 2).mean()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


@program
def gaussian_process(lib):
    """Marginal likelihood of a Gaussian process: cholesky, its gradient, three parameters."""
    x = lib.linspace(0, 4, 40).unsqueeze(1)
    y = lib.sin(2 * x).squeeze(1) + 0.1 * numbers(lib, 40, seed=3)
    raw = {k: lib.zeros((), requires_grad=True) for k in ("scale", "length", "noise")}
    optimizer = lib.optim.Adam(raw.values(), lr=0.01)

    def step():
        optimizer.zero_grad()
        scale, length, noise = (lib.nn.functional.softplus(v) for v in raw.values())
        distance = ((x.unsqueeze(1) - x.unsqueeze(0)) / length).pow(2).sum(-1)
        kernel = scale * lib.exp(-0.5 * distance) + (noise + 1e-4) * lib.eye(40)
        factor = lib.linalg.cholesky(kernel)
        alpha = lib.cholesky_solve(y.unsqueeze(1), factor)
        loss = 0.5 * (y @ alpha.squeeze(1)) + lib.log(lib.diagonal(factor)).sum()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


@program
def dp_sgd(lib):
    """Differentially private SGD: gradients of each example by vmap(grad(functional_call))."""
    nn, func = lib.nn, lib.func
    net = set_weights(lib, nn.Sequential(nn.Linear(20, 32), nn.ReLU(), nn.Linear(32, 5)))
    params = {k: v.detach() for k, v in net.named_parameters()}
    data, labels = numbers(lib, 32, 20, seed=4), lib.arange(32) % 5

    def loss_of(params, x, y):
        out = func.functional_call(net, params, (x.unsqueeze(0),))
        return nn.functional.cross_entropy(out, y.unsqueeze(0))

    each = func.vmap(func.grad_and_value(loss_of), in_dims=(None, 0, 0))

    def step():
        nonlocal params
        grads, losses = each(params, data, labels)
        norms = lib.sqrt(sum((g.flatten(1) ** 2).sum(1) for g in grads.values()))
        factor = (1.0 / (norms + 1e-6)).clamp(max=1.0)
        params = {
            k: p - 0.01 * lib.einsum("n,n...->...", factor, grads[k]) / 32
            for k, p in params.items()
        }
        return losses.mean().item()

    return step


@program
def sharpness_aware(lib):
    """SAM: two gradients a step and loops over the parameters in Python."""
    nn = lib.nn
    net = set_weights(lib, nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 3)))
    params = list(net.parameters())
    optimizer = lib.optim.SGD(params, lr=0.05, momentum=0.9)
    data, labels = numbers(lib, 32, 10, seed=5), lib.arange(32) % 3

    def step():
        loss = nn.functional.cross_entropy(net(data), labels)
        loss.backward()
        with lib.no_grad():
            norm = lib.norm(lib.stack([p.grad.norm(2) for p in params]), 2)
            moved = []
            for p in params:
                e = p.grad * (0.05 / (norm + 1e-12))
                p.add_(e)
                moved.append(e)
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(data), labels).backward()
        with lib.no_grad():
            for p, e in zip(params, moved):
                p.sub_(e)
        optimizer.step()
        optimizer.zero_grad()
        return loss.item()

    return step


@program
def maml(lib):
    """MAML: three inner steps by create_graph, for four sine tasks."""
    F = lib.nn.functional
    shapes = [(40, 1), (40,), (40, 40), (40,), (1, 40), (1,)]
    weights = [numbers(lib, *s, seed=10 + i, scale=0.3) for i, s in enumerate(shapes)]
    weights = [w.requires_grad_() for w in weights]
    optimizer = lib.optim.Adam(weights, lr=1e-3)
    x = numbers(lib, 10, 1, seed=6)

    def forward(w, x):
        h = F.relu(F.linear(x, w[0], w[1]))
        return F.linear(F.relu(F.linear(h, w[2], w[3])), w[4], w[5])

    def step():
        optimizer.zero_grad()
        total = 0.0
        for task in range(4):
            y = lib.sin(x + 0.5 * task)
            fast = weights
            for _ in range(3):
                loss = F.mse_loss(forward(fast, x), y)
                found = lib.autograd.grad(loss, fast, create_graph=True)
                fast = [w - 0.01 * g for w, g in zip(fast, found)]
            total = total + F.mse_loss(forward(fast, x), y)
        total.backward()
        optimizer.step()
        return total.item()

    return step


@program
def spectral_norm(lib):
    """A critic whose layers are parametrized by spectral_norm."""
    nn = lib.nn
    norm = lib.nn.utils.parametrizations.spectral_norm
    layers = [nn.Linear(8, 32), nn.LeakyReLU(0.1), nn.Linear(32, 32), nn.LeakyReLU(0.1)]
    net = nn.Sequential(*[norm(m) if hasattr(m, "weight") else m for m in layers], nn.Linear(32, 1))
    optimizer = lib.optim.Adam(net.parameters(), lr=1e-3)
    x, y = numbers(lib, 32, 8, seed=7), numbers(lib, 32, 1, seed=8)

    def step():
        optimizer.zero_grad()
        loss = ((net(x) - y) ** 2).mean()
        loss.backward()
        optimizer.step()
        return None  # the power iteration starts from random vectors

    return step


@program
def gradient_penalty(lib):
    """A step of WGAN-GP's critic."""
    nn = lib.nn
    layers = [nn.Linear(2, 64), nn.LeakyReLU(0.2), nn.Linear(64, 64), nn.LeakyReLU(0.2)]
    critic = set_weights(lib, nn.Sequential(*layers, nn.Linear(64, 1)))
    optimizer = lib.optim.Adam(critic.parameters(), lr=1e-4, betas=(0.0, 0.9))
    real, fake = numbers(lib, 64, 2, seed=1), numbers(lib, 64, 2, seed=2)
    share = numbers(lib, 64, 1, seed=3).sigmoid()

    def step():
        optimizer.zero_grad()
        between = (share * real + (1 - share) * fake).requires_grad_(True)
        out = critic(between)
        slope = lib.autograd.grad(out, between, lib.ones_like(out), create_graph=True)[0]
        penalty = ((slope.norm(2, dim=1) - 1) ** 2).mean()
        loss = critic(fake).mean() - critic(real).mean() + 10.0 * penalty
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


@program
def conjugate_gradient(lib):
    """Newton's direction by conjugate gradients on Hessian-vector products (double backward)."""
    nn = lib.nn
    net = set_weights(lib, nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 1)))
    params = list(net.parameters())
    x, y = numbers(lib, 32, 6, seed=1), numbers(lib, 32, 1, seed=2)

    def flat(tensors):
        return lib.cat([t.reshape(-1) for t in tensors])

    def step():
        loss = nn.functional.mse_loss(net(x), y)
        g = flat(lib.autograd.grad(loss, params, create_graph=True))

        def product(v):
            return flat(lib.autograd.grad((g * v).sum(), params, retain_graph=True)) + 0.1 * v

        b = -g.detach()
        solution, r, p = lib.zeros_like(b), b.clone(), b.clone()
        rr = r @ r
        for _ in range(8):
            hp = product(p)
            alpha = rr / (p @ hp)
            solution = solution + alpha * p
            r = r - alpha * hp
            new = r @ r
            p, rr = r + (new / rr) * p, new
        return solution.sum().item()

    return step


@program
def neural_ode(lib):
    """Runge-Kutta steps of a small net in a Python loop, differentiated through."""
    nn = lib.nn
    net = set_weights(lib, nn.Sequential(nn.Linear(2, 32), nn.Tanh(), nn.Linear(32, 2)))
    optimizer = lib.optim.Adam(net.parameters(), lr=1e-3)
    start, goal = numbers(lib, 16, 2, seed=1), numbers(lib, 16, 2, seed=2)

    def step():
        optimizer.zero_grad()
        y, h = start, 0.1
        for _ in range(10):
            k1 = net(y)
            k2 = net(y + h / 2 * k1)
            k3 = net(y + h / 2 * k2)
            k4 = net(y + h * k3)
            y = y + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        loss = ((y - goal) ** 2).mean()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


@program
def many_scalars(lib):
    """A mechanistic model of 20 scalar parameters, fitted with Adam."""
    params = [lib.tensor(0.1 * (i + 1), requires_grad=True) for i in range(20)]
    optimizer = lib.optim.Adam(params, lr=1e-3)
    t = lib.linspace(0, 1, 50)
    y = lib.sin(6 * t)

    def step():
        optimizer.zero_grad()
        out = lib.zeros_like(t)
        for i in range(0, 20, 4):
            a, b, c, d = params[i : i + 4]
            out = out + a * lib.exp(-b * t) + c * lib.sin(d * t * i)
        loss = (out - y).pow(2).mean()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


@program
def reinforce(lib):
    """Policy gradients on a made-up environment, with distributions."""
    nn, Categorical = lib.nn, lib.distributions.Categorical
    policy = set_weights(lib, nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 2)))
    optimizer = lib.optim.Adam(policy.parameters(), lr=1e-3)

    def step():
        state, logs, rewards = numbers(lib, 4, seed=1), [], []
        for i in range(20):
            chosen = Categorical(logits=policy(state))
            action = chosen.sample()
            logs.append(chosen.log_prob(action))
            rewards.append(float(action.item() == i % 2))
            state = 0.9 * state + 0.1
        returns, total = [], 0.0
        for r in reversed(rewards):
            total = r + 0.99 * total
            returns.insert(0, total)
        returns = lib.tensor(returns)
        returns = (returns - returns.mean()) / (returns.std() + 1e-6)
        loss = -(lib.stack(logs) * returns).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return None  # drawn at random

    return step


@program
def lstm_by_hand(lib):
    """An LSTM cell written out, 20 steps in a Python loop."""
    nn = lib.nn
    inp, hid = set_weights(lib, nn.Linear(8, 64)), set_weights(lib, nn.Linear(16, 64))
    params = [*inp.parameters(), *hid.parameters()]
    optimizer = lib.optim.SGD(params, lr=0.01)
    xs = numbers(lib, 20, 8, 8, seed=1)

    def step():
        optimizer.zero_grad()
        h, c = lib.zeros(8, 16), lib.zeros(8, 16)
        for x in xs:
            i, f, g, o = (inp(x) + hid(h)).chunk(4, dim=1)
            c = lib.sigmoid(f) * c + lib.sigmoid(i) * lib.tanh(g)
            h = lib.sigmoid(o) * lib.tanh(c)
        loss = (h**2).mean()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


@program
def k_means(lib):
    """Ten iterations of Lloyd's algorithm."""
    points = numbers(lib, 200, 2, seed=1)

    def step():
        centers = points[:5].clone()
        for _ in range(10):
            nearest = lib.cdist(points, centers).argmin(dim=1)
            for k in range(5):
                mine = points[nearest == k]
                if len(mine):
                    centers[k] = mine.mean(dim=0)
        return centers.sum().item()

    return step


@program
def sinkhorn(lib):
    """Optimal transport in the log domain, 20 iterations, differentiated through."""
    x = numbers(lib, 20, 2, seed=1).requires_grad_()
    y = numbers(lib, 20, 2, seed=2)

    def step():
        cost = ((x[:, None] - y[None]) ** 2).sum(-1)
        f, g, eps = lib.zeros(20), lib.zeros(20), 0.1
        for _ in range(20):
            f = -eps * lib.logsumexp((g[None, :] - cost) / eps, dim=1)
            g = -eps * lib.logsumexp((f[:, None] - cost) / eps, dim=0)
        plan = lib.exp((f[:, None] + g[None, :] - cost) / eps)
        loss = (plan * cost).sum()
        return lib.autograd.grad(loss, x)[0].abs().sum().item()

    return step


@program
def tree_lstm(lib):
    """Child-sum Tree-LSTM on a small binary tree, one node at a time."""
    nn = lib.nn
    gates, forget = set_weights(lib, nn.Linear(16, 48)), set_weights(lib, nn.Linear(16, 16))
    params = [*gates.parameters(), *forget.parameters()]
    optimizer = lib.optim.SGD(params, lr=0.01)
    leaves = numbers(lib, 8, 16, seed=1)

    def visit(nodes):
        if len(nodes) == 1:
            return leaves[nodes[0]], lib.zeros(16)
        pairs = [visit(nodes[: len(nodes) // 2]), visit(nodes[len(nodes) // 2 :])]
        i, o, u = gates(sum(h for h, _ in pairs)).chunk(3)
        c = lib.sigmoid(i) * lib.tanh(u)
        for h_k, c_k in pairs:
            c = c + lib.sigmoid(forget(h_k)) * c_k
        return lib.sigmoid(o) * lib.tanh(c), c

    def step():
        optimizer.zero_grad()
        loss = visit(list(range(8)))[0].pow(2).sum()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


@program
def metropolis(lib):
    """A random walk over four numbers, accepted or not by a Python `if`."""
    data = numbers(lib, 50, 4, seed=1)
    steps = numbers(lib, 50, 4, seed=2, scale=0.1)
    luck = np.random.default_rng(3).random(50)

    def log_density(x):
        return -0.5 * ((data - x) ** 2).sum() - 0.5 * (x**2).sum()

    def step():
        x = lib.zeros(4)
        now, total = log_density(x), 0.0
        for k in range(50):
            other = x + steps[k]
            there = log_density(other)
            if np.log(luck[k]) < (there - now).item():
                x, now = other, there
            total = total + x.sum().item()
        return total

    return step


@program
def langevin(lib):
    """Sampling with gradients of an energy, one small tensor."""
    energy = set_weights(lib, lib.nn.Sequential(lib.nn.Linear(2, 32), lib.nn.SiLU()))
    noise = numbers(lib, 20, 16, 2, seed=1)
    start = numbers(lib, 16, 2, seed=2)

    def step():
        x = start.clone().requires_grad_()
        for k in range(20):
            slope = lib.autograd.grad(energy(x).sum(), x)[0]
            x = (x - 0.01 * slope + 0.1 * noise[k]).detach().requires_grad_()
        return x.sum().item()

    return step


@program
def einsums(lib):
    """Attention with relative positions written in einsum."""
    q, k, v = (numbers(lib, 2, 8, 4, 8, seed=i).requires_grad_() for i in range(3))
    relative = numbers(lib, 8, 8, 8, seed=4).requires_grad_()

    def step():
        scores = lib.einsum("bihd,bjhd->bhij", q, k) + lib.einsum("bihd,ijd->bhij", q, relative)
        weights = lib.softmax(scores / 8**0.5, dim=-1)
        out = lib.einsum("bhij,bjhd->bihd", weights, v)
        loss = lib.einsum("bihd,bihd->", out, out)
        found = lib.autograd.grad(loss, [q, k, v, relative])
        return sum(g.abs().sum().item() for g in found)

    return step


@program
def hessian(lib):
    """The Hessian and a Jacobian of small functions by mg.func."""
    w = numbers(lib, 6, 6, seed=1)
    x = numbers(lib, 6, seed=2)

    def f(x):
        return lib.tanh(w @ x).pow(2).sum() + lib.exp(-x).sum()

    def step():
        h = lib.func.hessian(f)(x)
        j = lib.func.jacrev(lambda x: lib.sin(w @ x))(x)
        return (h.sum() + j.sum()).item()

    return step


@program
def bayes_by_backprop(lib):
    """A Bayesian regression with Normal distributions, rsample and kl_divergence."""
    Normal, kl = lib.distributions.Normal, lib.distributions.kl_divergence
    mean = lib.zeros(5, requires_grad=True)
    raw = lib.zeros(5, requires_grad=True)
    optimizer = lib.optim.Adam([mean, raw], lr=0.01)
    x = numbers(lib, 64, 5, seed=1)
    y = x @ numbers(lib, 5, seed=2)

    def step():
        optimizer.zero_grad()
        posterior = Normal(mean, lib.nn.functional.softplus(raw))
        w = posterior.rsample()
        likelihood = Normal(x @ w, 0.1).log_prob(y).sum()
        loss = kl(posterior, Normal(lib.zeros(5), lib.ones(5))).sum() - likelihood
        loss.backward()
        optimizer.step()
        return None  # drawn at random

    return step


def turn(step: Callable, calls: int) -> float:
    """Milliseconds per call."""
    start = time.perf_counter()
    for _ in range(calls):
        step()
    return (time.perf_counter() - start) / calls * 1e3


def libraries() -> dict:
    import monograph

    found = {"ours": monograph}
    try:
        import torch
    except ImportError:
        print("torch is not installed: ours alone")
    else:
        torch.set_num_threads(1)
        found["torch"] = torch
    return found


def profile(name: str, calls: int) -> None:
    """Print where our time goes in a step of `name`."""
    step = PROGRAMS[name](libraries()["ours"])
    for _ in range(10):
        step()
    watch = cProfile.Profile()
    watch.enable()
    for _ in range(calls):
        step()
    watch.disable()
    pstats.Stats(watch).sort_stats("tottime").print_stats(40)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=PROGRAMS, default=list(PROGRAMS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--profile", choices=PROGRAMS)
    given = parser.parse_args()
    if given.profile:
        profile(given.profile, 50)
        return
    found = libraries()
    ratios = []
    print(f"  {'milliseconds a step':22}" + "".join(f"{who:>10}" for who in found) + "     ratio")
    for name in given.only:
        steps = {who: PROGRAMS[name](lib) for who, lib in found.items()}
        values = {who: [step() for _ in range(20)] for who, step in steps.items()}
        if len(found) == 2 and values["ours"][0] is not None:
            np.testing.assert_allclose(values["ours"], values["torch"], rtol=2e-3, err_msg=name)
        calls = {who: max(1, int(TURN_S * 1e3 / turn(s, 3))) for who, s in steps.items()}
        best = dict.fromkeys(found, float("inf"))
        for _ in range(given.rounds):
            for who, step in steps.items():
                best[who] = min(best[who], turn(step, calls[who]))
        line = f"  {name:22}" + "".join(f"{best[who]:10.3f}" for who in found)
        if len(found) == 2:
            ratios.append(best["ours"] / best["torch"])
            line += f"{ratios[-1]:10.2f}"
        print(line, flush=True)
    if ratios:
        print(f"  geometric mean {np.exp(np.mean(np.log(ratios))):.2f}")


if __name__ == "__main__":
    main()
