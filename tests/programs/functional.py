"""word2vec, a neural ODE, autograd.Function, MAML, ensembles, gradients per sample, a penalty."""

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from harness import compiled, load, noise, record
from torch.autograd import Function
from torch.func import (
    functional_call,
    grad,
    grad_and_value,
    jacrev,
    stack_module_state,
    vmap,
)


class SkipGram(nn.Module):
    def __init__(self, v, d):
        super().__init__()
        self.u = nn.Embedding(v, d, sparse=False)
        self.v = nn.Embedding(v, d)
        r = 0.5 / d
        self.u.weight.data.uniform_(-r, r)
        self.v.weight.data.uniform_(-0, 0.0)

    def forward(self, pu, pv, nv):
        eu, ev, en = self.u(pu), self.v(pv), self.v(nv)
        score = torch.clamp(torch.sum(torch.mul(eu, ev), dim=1), max=10, min=-10)
        score = -F.logsigmoid(score)
        neg = torch.clamp(torch.bmm(en, eu.unsqueeze(2)).squeeze(), max=10, min=-10)
        neg = -torch.sum(F.logsigmoid(-neg), dim=1)
        return torch.mean(score + neg)


m = SkipGram(50, 16)
load(m)
opt = torch.optim.Adagrad(m.parameters(), lr=0.1)


@compiled
def w2v(a, b, c):
    opt.zero_grad()
    l = m(a, b, c)
    l.backward()
    opt.step()
    return l


freq = torch.rand(50) ** 0.75
torch.multinomial(freq, 8 * 5, replacement=True).view(8, 5)
for i in range(10):
    record(w2v(*[torch.LongTensor(np.random.randint(0, 50, s)) for s in [(8,), (8,), (8, 5)]]))


# ODE with RK4 and custom function
class MySwish(Function):
    @staticmethod
    def forward(ctx, i):
        ctx.save_for_backward(i)
        return i * torch.sigmoid(i)

    @staticmethod
    def backward(ctx, g):
        (i,) = ctx.saved_tensors
        s = torch.sigmoid(i)
        return g * (s * (1 + i * (1 - s)))


class Quant(Function):
    @staticmethod
    def forward(ctx, x, levels):
        ctx.levels = levels
        ctx.mark_non_differentiable()
        return torch.round(x * levels) / levels

    @staticmethod
    def backward(ctx, g):
        return (g.clone(), None) if ctx.needs_input_grad[0] else (None, None)


class ODEF(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 2))

    def forward(self, t, y):
        return self.net(y**3)


def rk4(f, y, t0, t1):
    h = t1 - t0
    k1 = f(t0, y)
    k2 = f(t0 + h / 2, y + h * k1 / 2)
    k3 = f(t0 + h / 2, y + h * k2 / 2)
    k4 = f(t1, y + h * k3)
    return y + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)


f = load(ODEF())
o = torch.optim.RMSprop(f.parameters(), lr=1e-3)
ts = torch.linspace(0.0, 1.0, 6)
true = noise(6, 4, 2)


@compiled
def ode(y0, target):
    o.zero_grad()
    ys = [y0]
    for i in range(len(ts) - 1):
        ys.append(rk4(f, ys[-1], ts[i], ts[i + 1]))
    out = torch.stack(ys)
    out = MySwish.apply(out) + Quant.apply(out, 8) * 0.01
    l = torch.mean(torch.abs(out - target))
    l.backward()
    o.step()
    return l


for i in range(8):
    record(ode(noise(4, 2), true))
# exact divergence by jacrev, vmap
div = vmap(lambda y: torch.trace(jacrev(lambda z: f(0.0, z))(y)))(noise(5, 2))
record(div.sum())
# MAML
net = load(nn.Sequential(nn.Linear(1, 16), nn.ReLU(), nn.Linear(16, 1)))
params = dict(net.named_parameters())
mo = torch.optim.Adam(net.parameters(), lr=1e-2)


def inner(params, x, y):
    return F.mse_loss(functional_call(net, params, (x,)), y)


def maml(xs, ys, xq, yq):
    p = dict(net.named_parameters())
    for _ in range(2):
        g = grad(inner)(p, xs, ys)
        p = {k: p[k] - 0.05 * g[k] for k in p}
    return inner(p, xq, yq)


def meta(a, b, c, d):
    losses = vmap(maml)(a, b, c, d)
    loss = losses.mean()
    mo.zero_grad()
    loss.backward()
    mo.step()
    return loss


meta = compiled(meta)
for i in range(8):
    record(meta(noise(4, 5, 1), noise(4, 5, 1), noise(4, 5, 1), noise(4, 5, 1)))
# MAML, classic way
fast = None
x, y = noise(5, 1), noise(5, 1)
loss = F.mse_loss(net(x), y)
gs = torch.autograd.grad(loss, net.parameters(), create_graph=True)
w = [p - 0.1 * g for p, g in zip(net.parameters(), gs)]
out = F.linear(F.relu(F.linear(x, w[0], w[1])), w[2], w[3])
l2 = F.mse_loss(out, y)
l2.backward()
record(l2)
record(net[0].weight.grad.norm())
# ensembling + per-sample grads
models = [load(nn.Linear(3, 2)) for _ in range(3)]
ps, bs = stack_module_state(models)
import copy

base = copy.deepcopy(models[0])
record(
    vmap(lambda p, b, x: functional_call(base, (p, b), (x,)), in_dims=(0, 0, None))(
        ps, bs, noise(4, 3)
    ).sum()
)
gv = vmap(
    grad_and_value(
        lambda p, x, y: F.mse_loss(functional_call(base, p, (x.unsqueeze(0),)), y.unsqueeze(0))
    ),
    in_dims=(None, 0, 0),
)
g, v = gv(dict(base.named_parameters()), noise(4, 3), noise(4, 2))
record(v.sum())
record(g["weight"].pow(2).sum())
# WGAN-GP penalty
D = load(nn.Sequential(nn.Linear(4, 8), nn.LeakyReLU(0.2), nn.Linear(8, 1)))
xi = noise(6, 4).requires_grad_(True)
di = D(xi)
gp = torch.autograd.grad(
    outputs=di,
    inputs=xi,
    grad_outputs=torch.ones(di.size()),
    create_graph=True,
    retain_graph=True,
    only_inputs=True,
)[0]
pen = ((gp.norm(2, dim=1) - 1) ** 2).mean() * 10
pen.backward()
record(pen)
record(D[0].weight.grad.norm())
