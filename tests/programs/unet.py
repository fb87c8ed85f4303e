"""Diffusion with a small U-Net, an EMA of its weights, and sampling."""

import copy
import math

import torch
import torch.nn.functional as F
from harness import compiled, load, noise, record
from torch import einsum, nn


def linear_beta_schedule(T):
    return torch.linspace(1e-4, 0.02, T)


def cosine_beta_schedule(timesteps, s=0.008):
    x = torch.linspace(0, timesteps, timesteps + 1)
    a = torch.cos(((x / timesteps) + s) / (1 + s) * torch.pi * 0.5) ** 2
    a = a / a[0]
    return torch.clip(1 - (a[1:] / a[:-1]), 0.0001, 0.9999)


def extract(a, t, x_shape):
    out = a.gather(-1, t.cpu())
    return out.reshape(t.shape[0], *((1,) * (len(x_shape) - 1))).to(t.device)


class SinusoidalPositionEmbeddings(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.dim = dim

    def forward(self, time):
        half = self.dim // 2
        e = torch.exp(torch.arange(half, device=time.device) * -(math.log(10000) / (half - 1)))
        e = time[:, None] * e[None, :]
        return torch.cat((e.sin(), e.cos()), dim=-1)


class Block(nn.Module):
    def __init__(self, i, o, t):
        super().__init__()
        self.proj = nn.Conv2d(i, o, 3, padding=1)
        self.norm = nn.GroupNorm(4, o)
        self.act = nn.SiLU()
        self.mlp = nn.Sequential(nn.SiLU(), nn.Linear(t, o * 2))
        self.res = nn.Conv2d(i, o, 1) if i != o else nn.Identity()

    def forward(self, x, t):
        scale, shift = self.mlp(t)[:, :, None, None].chunk(2, dim=1)
        return self.act(self.norm(self.proj(x)) * (scale + 1) + shift) + self.res(x)


class Attn(nn.Module):
    def __init__(self, dim, heads=2, dh=8):
        super().__init__()
        self.scale = dh**-0.5
        self.heads = heads
        self.to_qkv = nn.Conv2d(dim, heads * dh * 3, 1, bias=False)
        self.to_out = nn.Conv2d(heads * dh, dim, 1)

    def forward(self, x):
        b, c, h, w = x.shape
        q, k, v = map(lambda t: t.reshape(b, self.heads, -1, h * w), self.to_qkv(x).chunk(3, dim=1))
        sim = einsum("b h d i, b h d j -> b h i j", q * self.scale, k)
        sim = sim - sim.amax(dim=-1, keepdim=True).detach()
        out = einsum("b h i j, b h d j -> b h i d", sim.softmax(dim=-1), v)
        return self.to_out(out.permute(0, 1, 3, 2).reshape(b, -1, h, w))


class UNet(nn.Module):
    def __init__(self, d=8):
        super().__init__()
        self.time = nn.Sequential(
            SinusoidalPositionEmbeddings(d), nn.Linear(d, 32), nn.GELU(), nn.Linear(32, 32)
        )
        self.inc = nn.Conv2d(3, d, 7, padding=3)
        self.d1 = Block(d, d, 32)
        self.down = nn.Conv2d(d, 2 * d, 4, 2, 1)
        self.mid = Block(2 * d, 2 * d, 32)
        self.attn = Attn(2 * d)
        self.up = nn.ConvTranspose2d(2 * d, d, 4, 2, 1)
        self.u1 = Block(2 * d, d, 32)
        self.out = nn.Conv2d(d, 3, 1)
        self.up2 = nn.Upsample(scale_factor=2, mode="nearest")

    def forward(self, x, t):
        t = self.time(t)
        x = self.inc(x)
        h = self.d1(x, t)
        x = self.mid(self.down(h), t)
        x = x + self.attn(x)
        x = self.up(x) + 0.0 * self.up2(x)[:, :8]
        return self.out(self.u1(torch.cat((x, h), dim=1), t))


T = 50
betas = linear_beta_schedule(T)
cosine_beta_schedule(T)
alphas = 1.0 - betas
acp = torch.cumprod(alphas, axis=0)
acp_prev = F.pad(acp[:-1], (1, 0), value=1.0)
sqrt_recip = torch.sqrt(1.0 / alphas)
sa, so = torch.sqrt(acp), torch.sqrt(1.0 - acp)
post_var = betas * (1.0 - acp_prev) / (1.0 - acp)
model = load(UNet())
ema = copy.deepcopy(model).eval().requires_grad_(False)
opt = torch.optim.AdamW(model.parameters(), lr=1e-3)


@compiled
def step(x, t, n):
    xt = extract(sa, t, x.shape) * x + extract(so, t, x.shape) * n
    loss = F.smooth_l1_loss(n, model(xt, t))
    opt.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    opt.step()
    with torch.no_grad():
        for pe, p in zip(ema.parameters(), model.parameters()):
            pe.mul_(0.9).add_(p, alpha=0.1)
    return loss


import numpy as np

for i in range(10):
    t = torch.from_numpy(np.random.randint(0, T, (4,))).long()
    record(step(noise(4, 3, 16, 16), t, noise(4, 3, 16, 16)))


@torch.no_grad()
def p_sample(m, x, t, i):
    mean = extract(sqrt_recip, t, x.shape) * (
        x - extract(betas, t, x.shape) * m(x, t) / extract(so, t, x.shape)
    )
    return mean if i == 0 else mean + torch.sqrt(extract(post_var, t, x.shape)) * noise(*x.shape)


img = noise(2, 3, 16, 16)
for i in reversed(range(0, 6)):
    img = p_sample(ema, img, torch.full((2,), i, dtype=torch.long), i)
img = img.clamp_(-1, 1)
img = (img + 1) * 0.5
record(img.mean())
record(img.std())
arr = (img[0].permute(1, 2, 0).cpu().numpy() * 255).astype("uint8")
record(len(arr))
