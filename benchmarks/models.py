"""The workloads: networks that run on `torch` and on `monograph` alike, their weights and data.

`build(lib, name)` makes the network with `lib` (either module); jax_models.py has the same
functions of the same weights in JAX. Weights and data are NumPy's, equal for everybody.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# Channels and stride of the residual blocks of resnet18.
BLOCKS = [(64, 1), (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), (512, 1)]
LAYERS, WIDTH, HEADS, CONTEXT, VOCABULARY = 6, 384, 6, 256, 65


@dataclass(frozen=True)
class Workload:
    """A network, the data of one step, and how it is trained."""

    name: str
    what: str
    input_shape: tuple[int, ...]
    classes: int
    optimizer: str  # "sgd" (momentum 0.9), "adam" or "adamw"
    lr: float
    forward_flops: int  # matrix products and convolutions of one forward pass
    images: bool = False  # has convolutions
    tokens: bool = False  # inputs are token numbers
    random: bool = False  # has dropout: losses differ between frameworks

    @property
    def step_flops(self) -> int:
        """Forward, and twice as much for the gradients by inputs and by weights."""
        return 3 * self.forward_flops

    def data(self) -> tuple[np.ndarray, np.ndarray]:
        """One batch: inputs and targets (int64)."""
        r = np.random.default_rng(0)
        if self.tokens:
            x = r.integers(0, self.classes, self.input_shape)
            return x, r.integers(0, self.classes, self.input_shape)
        x = r.standard_normal(self.input_shape).astype(np.float32)
        return x, r.integers(0, self.classes, self.input_shape[0])


def _dense(batch: int, *widths: int) -> int:
    return 2 * batch * sum(a * b for a, b in zip(widths, widths[1:]))


def _conv(batch: int, size: int, channels: int, outputs: int, kernel: int) -> int:
    return 2 * batch * size * size * channels * outputs * kernel * kernel


def _resnet_flops(batch: int) -> int:
    size, channels = 32, 64
    total = _conv(batch, size, 3, 64, 3)
    for outputs, stride in BLOCKS:
        size //= stride
        total += _conv(batch, size, channels, outputs, 3) + _conv(batch, size, outputs, outputs, 3)
        if stride != 1 or channels != outputs:
            total += _conv(batch, size, channels, outputs, 1)
        channels = outputs
    return total + _dense(batch, 512, 10)


def _gpt_flops(batch: int) -> int:
    tokens = batch * CONTEXT
    layer = 2 * tokens * 12 * WIDTH * WIDTH
    attention = 2 * 2 * batch * CONTEXT * CONTEXT * WIDTH // 2  # half of the scores are masked
    return LAYERS * (layer + attention) + 2 * tokens * WIDTH * VOCABULARY


WORKLOADS = {
    w.name: w
    for w in [
        Workload(
            "tiny", "MLP 4-64-64-2, batch 32, Adam",
            (32, 4), 2, "adam", 1e-3, _dense(32, 4, 64, 64, 2),
        ),
        Workload(
            "mlp-small", "MLP 784-256-128-10, batch 64, SGD with momentum",
            (64, 784), 10, "sgd", 0.01, _dense(64, 784, 256, 128, 10),
        ),
        Workload(
            "cnn", "two 3x3 convolutions, dropout, two dense layers; 28x28, batch 64, Adam",
            (64, 1, 28, 28), 10, "adam", 1e-3,
            _conv(64, 26, 1, 32, 3) + _conv(64, 24, 32, 64, 3) + _dense(64, 9216, 128, 10),
            images=True, random=True,
        ),
        Workload(
            "resnet18", "ResNet-18 for 32x32 images, batch 32, SGD with momentum",
            (32, 3, 32, 32), 10, "sgd", 0.01, _resnet_flops(32), images=True,
        ),
        Workload(
            "gpt-mini", "GPT of 6 layers, width 384, 6 heads, context 256, batch 8, AdamW",
            (8, CONTEXT), VOCABULARY, "adamw", 1e-3, _gpt_flops(8), tokens=True,
        ),
    ]
}  # fmt: skip


def build(lib, name: str):
    """The network of workload `name`, made with `lib`: torch or monograph."""
    nn = lib.nn
    if name == "tiny":
        return nn.Sequential(
            nn.Linear(4, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 2)
        )
    if name == "mlp-small":
        return nn.Sequential(
            nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 128), nn.ReLU(), nn.Linear(128, 10)
        )
    if name == "cnn":
        return nn.Sequential(
            nn.Conv2d(1, 32, 3), nn.ReLU(), nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2),
            nn.Dropout(0.25), nn.Flatten(), nn.Linear(9216, 128), nn.ReLU(), nn.Dropout(0.5),
            nn.Linear(128, 10),
        )  # fmt: skip
    return {"resnet18": resnet18, "gpt-mini": gpt}[name](lib)


def resnet18(lib):
    """ResNet-18 with a 3x3 stem and no pooling before the blocks."""
    nn, F = lib.nn, lib.nn.functional

    class Block(nn.Module):
        def __init__(self, channels, outputs, stride):
            super().__init__()
            self.conv1 = nn.Conv2d(channels, outputs, 3, stride, 1, bias=False)
            self.norm1 = nn.BatchNorm2d(outputs)
            self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
            self.norm2 = nn.BatchNorm2d(outputs)
            self.shortcut = nn.Sequential()
            if stride != 1 or channels != outputs:
                self.shortcut = nn.Sequential(
                    nn.Conv2d(channels, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
                )

        def forward(self, x):
            y = F.relu(self.norm1(self.conv1(x)))
            y = self.norm2(self.conv2(y))
            return F.relu(y + self.shortcut(x))

    class ResNet(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 64, 3, 1, 1, bias=False)
            self.norm = nn.BatchNorm2d(64)
            channels, blocks = 64, []
            for outputs, stride in BLOCKS:
                blocks.append(Block(channels, outputs, stride))
                channels = outputs
            self.blocks = nn.Sequential(*blocks)
            self.head = nn.Linear(512, 10)

        def forward(self, x):
            x = self.blocks(F.relu(self.norm(self.conv(x))))
            return self.head(x.mean((2, 3)))

    return ResNet()


def gpt(lib):
    """A decoder with tied embedding, pre-norm blocks and GELU (tanh form)."""
    nn, F = lib.nn, lib.nn.functional

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm1 = nn.LayerNorm(WIDTH)
            self.qkv = nn.Linear(WIDTH, 3 * WIDTH)
            self.mix = nn.Linear(WIDTH, WIDTH)
            self.norm2 = nn.LayerNorm(WIDTH)
            self.up = nn.Linear(WIDTH, 4 * WIDTH)
            self.down = nn.Linear(4 * WIDTH, WIDTH)

        def forward(self, x):
            n, t, d = x.shape
            parts = self.qkv(self.norm1(x)).split(d, dim=2)
            q, k, v = (p.view(n, t, HEADS, d // HEADS).transpose(1, 2) for p in parts)
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + self.mix(y.transpose(1, 2).reshape(n, t, d))
            return x + self.down(F.gelu(self.up(self.norm2(x)), approximate="tanh"))

    class GPT(nn.Module):
        def __init__(self):
            super().__init__()
            self.tokens = nn.Embedding(VOCABULARY, WIDTH)
            self.places = nn.Embedding(CONTEXT, WIDTH)
            self.blocks = nn.Sequential(*[Block() for _ in range(LAYERS)])
            self.norm = nn.LayerNorm(WIDTH)

        def forward(self, x):
            h = self.tokens(x) + self.places(lib.arange(x.shape[1]))
            return F.linear(self.norm(self.blocks(h)), self.tokens.weight)

    return GPT()


def weights(name: str) -> dict[str, np.ndarray]:
    """Initial parameters of workload `name` by the names of `build`'s networks."""
    r = np.random.default_rng(1)
    made: dict[str, np.ndarray] = {}

    def uniform(key: str, *shape: int, bias: bool = True) -> None:
        bound = 1 / np.sqrt(np.prod(shape[1:]))
        made[f"{key}.weight"] = r.uniform(-bound, bound, shape).astype(np.float32)
        if bias:
            made[f"{key}.bias"] = r.uniform(-bound, bound, shape[0]).astype(np.float32)

    def norm(key: str, size: int) -> None:
        made[f"{key}.weight"] = np.ones(size, np.float32)
        made[f"{key}.bias"] = np.zeros(size, np.float32)

    def table(key: str, *shape: int) -> None:
        made[f"{key}.weight"] = (0.02 * r.standard_normal(shape)).astype(np.float32)

    if name in ("tiny", "mlp-small"):
        sizes = (4, 64, 64, 2) if name == "tiny" else (784, 256, 128, 10)
        for i in range(3):
            uniform(str(2 * i), sizes[i + 1], sizes[i])
    elif name == "cnn":
        uniform("0", 32, 1, 3, 3)
        uniform("2", 64, 32, 3, 3)
        uniform("7", 128, 9216)
        uniform("10", 10, 128)
    elif name == "resnet18":
        uniform("conv", 64, 3, 3, 3, bias=False)
        norm("norm", 64)
        channels = 64
        for i, (outputs, stride) in enumerate(BLOCKS):
            at = f"blocks.{i}"
            uniform(f"{at}.conv1", outputs, channels, 3, 3, bias=False)
            norm(f"{at}.norm1", outputs)
            uniform(f"{at}.conv2", outputs, outputs, 3, 3, bias=False)
            norm(f"{at}.norm2", outputs)
            if stride != 1 or channels != outputs:
                uniform(f"{at}.shortcut.0", outputs, channels, 1, 1, bias=False)
                norm(f"{at}.shortcut.1", outputs)
            channels = outputs
        uniform("head", 10, 512)
    else:
        table("tokens", VOCABULARY, WIDTH)
        table("places", CONTEXT, WIDTH)
        for i in range(LAYERS):
            at = f"blocks.{i}"
            norm(f"{at}.norm1", WIDTH)
            uniform(f"{at}.qkv", 3 * WIDTH, WIDTH)
            uniform(f"{at}.mix", WIDTH, WIDTH)
            norm(f"{at}.norm2", WIDTH)
            uniform(f"{at}.up", 4 * WIDTH, WIDTH)
            uniform(f"{at}.down", WIDTH, 4 * WIDTH)
        norm("norm", WIDTH)
    return made
