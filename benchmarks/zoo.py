"""More networks that run on `torch` and on `monograph` alike: for more.py and inference.py.

Every function takes the library and gives a module.
"""

from __future__ import annotations


def wide(lib):
    """MLP 1024-4096-4096-1000."""
    nn = lib.nn
    return nn.Sequential(
        nn.Linear(1024, 4096), nn.ReLU(), nn.Linear(4096, 4096), nn.ReLU(), nn.Linear(4096, 1000)
    )


def small(lib):
    """MLP 64-128-128-10, for inference."""
    nn = lib.nn
    return nn.Sequential(
        nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 10)
    )


def lstm(lib, words=10_000, width=650, layers=2):
    """Language model: embedding, LSTM, projection to words."""
    nn = lib.nn

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.words = nn.Embedding(words, width)
            self.lstm = nn.LSTM(width, width, layers, batch_first=True)
            self.head = nn.Linear(width, words)

        def forward(self, x):
            return self.head(self.lstm(self.words(x))[0])

    return Model()


def encoder_block(lib, width, heads, norm_first=True, activation="gelu"):
    """Transformer block: attention and a feed-forward network of four times the width."""
    nn, F = lib.nn, lib.nn.functional

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
            self.qkv, self.mix = nn.Linear(width, 3 * width), nn.Linear(width, width)
            self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

        def attend(self, x):
            n, t, d = x.shape
            parts = self.qkv(x).split(d, dim=2)
            q, k, v = (p.view(n, t, heads, d // heads).transpose(1, 2) for p in parts)
            y = F.scaled_dot_product_attention(q, k, v)
            return self.mix(y.transpose(1, 2).reshape(n, t, d))

        def feed(self, x):
            return self.down(F.gelu(self.up(x)))

        def forward(self, x):
            if norm_first:
                x = x + self.attend(self.norm1(x))
                return x + self.feed(self.norm2(x))
            x = self.norm1(x + self.attend(x))
            return self.norm2(x + self.feed(x))

    return Block()


def vit(lib, size=32, patch=4, width=192, depth=6, heads=3, classes=10):
    """Vision transformer with a class token."""
    nn = lib.nn

    class ViT(nn.Module):
        def __init__(self):
            super().__init__()
            self.patches = nn.Conv2d(3, width, patch, patch)
            self.first = nn.Parameter(lib.zeros(1, 1, width))
            self.places = nn.Parameter(0.02 * lib.randn(1, (size // patch) ** 2 + 1, width))
            self.blocks = nn.Sequential(*[encoder_block(lib, width, heads) for _ in range(depth)])
            self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, classes)

        def forward(self, x):
            x = self.patches(x).flatten(2).transpose(1, 2)
            x = lib.cat([self.first.expand(x.shape[0], -1, -1), x], dim=1) + self.places
            return self.head(self.norm(self.blocks(x))[:, 0])

    return ViT()


def bert(lib, words=30_522, width=768, depth=12, heads=12, length=512):
    """BERT-base's encoder: post-norm blocks over word and place embeddings."""
    nn = lib.nn

    class Bert(nn.Module):
        def __init__(self):
            super().__init__()
            self.words, self.places = nn.Embedding(words, width), nn.Embedding(length, width)
            self.norm = nn.LayerNorm(width)
            blocks = [encoder_block(lib, width, heads, norm_first=False) for _ in range(depth)]
            self.blocks = nn.Sequential(*blocks)

        def forward(self, x):
            return self.blocks(self.norm(self.words(x) + self.places(lib.arange(x.shape[1]))))

    return Bert()


def unet(lib, channels=64):
    """U-Net of diffusion models: GroupNorm, SiLU, attention at the lowest size, upsampling."""
    nn, F = lib.nn, lib.nn.functional

    class Residual(nn.Module):
        def __init__(self, a, b):
            super().__init__()
            self.norm1, self.conv1 = nn.GroupNorm(8, a), nn.Conv2d(a, b, 3, 1, 1)
            self.norm2, self.conv2 = nn.GroupNorm(8, b), nn.Conv2d(b, b, 3, 1, 1)
            self.time = nn.Linear(4 * channels, b)
            self.skip = nn.Conv2d(a, b, 1) if a != b else nn.Identity()

        def forward(self, x, t):
            y = self.conv1(F.silu(self.norm1(x))) + self.time(t)[:, :, None, None]
            return self.conv2(F.silu(self.norm2(y))) + self.skip(x)

    class Attention(nn.Module):
        def __init__(self, a):
            super().__init__()
            self.norm, self.qkv, self.out = (
                nn.GroupNorm(8, a),
                nn.Conv2d(a, 3 * a, 1),
                nn.Conv2d(a, a, 1),
            )

        def forward(self, x):
            n, c, h, w = x.shape
            q, k, v = self.qkv(self.norm(x)).reshape(n, 3, c, h * w).transpose(2, 3).unbind(1)
            y = F.scaled_dot_product_attention(q, k, v)
            return x + self.out(y.transpose(1, 2).reshape(n, c, h, w))

    class UNet(nn.Module):
        def __init__(self):
            super().__init__()
            c = channels
            self.time = nn.Sequential(nn.Linear(c, 4 * c), nn.SiLU(), nn.Linear(4 * c, 4 * c))
            self.first = nn.Conv2d(3, c, 3, 1, 1)
            self.down1, self.shrink1 = Residual(c, c), nn.Conv2d(c, c, 3, 2, 1)
            self.down2, self.shrink2 = Residual(c, 2 * c), nn.Conv2d(2 * c, 2 * c, 3, 2, 1)
            self.middle1, self.attend, self.middle2 = (
                Residual(2 * c, 4 * c),
                Attention(4 * c),
                Residual(4 * c, 2 * c),
            )
            self.up2, self.up1 = Residual(4 * c, c), Residual(2 * c, c)
            self.norm, self.last = nn.GroupNorm(8, c), nn.Conv2d(c, 3, 3, 1, 1)

        def forward(self, x, t):
            steps = lib.arange(channels // 2) * (-9.21 / (channels // 2))
            angles = t[:, None] * lib.exp(steps)[None]
            t = self.time(lib.cat([lib.sin(angles), lib.cos(angles)], dim=1))
            a = self.down1(self.first(x), t)
            b = self.down2(self.shrink1(a), t)
            y = self.middle2(self.attend(self.middle1(self.shrink2(b), t)), t)
            y = self.up2(lib.cat([F.interpolate(y, scale_factor=2.0), b], dim=1), t)
            y = self.up1(lib.cat([F.interpolate(y, scale_factor=2.0), a], dim=1), t)
            return self.last(F.silu(self.norm(y)))

    return UNet()


def recommender(lib, tables=8, rows=50_000, width=32, sparse=False):
    """DLRM: embeddings of categories and an MLP of numbers, their pairwise products, an MLP."""
    nn = lib.nn
    options = {"sparse": True} if sparse else {}

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.tables = nn.ModuleList(
                [nn.Embedding(rows, width, **options) for _ in range(tables)]
            )
            self.bottom = nn.Sequential(
                nn.Linear(13, 128), nn.ReLU(), nn.Linear(128, width), nn.ReLU()
            )
            pairs = (tables + 1) * (tables + 1)
            self.top = nn.Sequential(nn.Linear(pairs + width, 256), nn.ReLU(), nn.Linear(256, 2))

        def forward(self, numbers, categories):
            x = self.bottom(numbers)
            rows = [table(categories[:, i]) for i, table in enumerate(self.tables)]
            every = lib.stack([x, *rows], dim=1)
            products = lib.bmm(every, every.transpose(1, 2)).flatten(1)
            return self.top(lib.cat([x, products], dim=1))

    return Model()


def resnet50(lib, classes=1000):
    """ResNet-50 (torchvision's v1.5: the stride in the 3x3 convolution)."""
    nn, F = lib.nn, lib.nn.functional

    class Block(nn.Module):
        def __init__(self, a, width, stride):
            super().__init__()
            b = 4 * width
            self.conv1, self.norm1 = nn.Conv2d(a, width, 1, bias=False), nn.BatchNorm2d(width)
            self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
            self.norm2 = nn.BatchNorm2d(width)
            self.conv3, self.norm3 = nn.Conv2d(width, b, 1, bias=False), nn.BatchNorm2d(b)
            self.skip = nn.Identity()
            if stride != 1 or a != b:
                self.skip = nn.Sequential(nn.Conv2d(a, b, 1, stride, bias=False), nn.BatchNorm2d(b))

        def forward(self, x):
            y = F.relu(self.norm1(self.conv1(x)))
            y = F.relu(self.norm2(self.conv2(y)))
            return F.relu(self.norm3(self.conv3(y)) + self.skip(x))

    blocks, a = [], 64
    for width, count, stride in ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)):
        for i in range(count):
            blocks.append(Block(a, width, stride if i == 0 else 1))
            a = 4 * width
    return nn.Sequential(
        nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(3, 2, 1),
        *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2048, classes),
    )  # fmt: skip


def mobilenet(lib, classes=1000):
    """MobileNetV2."""
    nn = lib.nn

    def unit(a, b, kernel, stride, groups=1):
        return nn.Sequential(
            nn.Conv2d(a, b, kernel, stride, kernel // 2, groups=groups, bias=False),
            nn.BatchNorm2d(b), nn.ReLU6(),
        )  # fmt: skip

    class Block(nn.Module):
        def __init__(self, a, b, stride, factor):
            super().__init__()
            inner = a * factor
            parts = [unit(a, inner, 1, 1)] if factor != 1 else []
            parts += [unit(inner, inner, 3, stride, inner), nn.Conv2d(inner, b, 1, bias=False)]
            self.parts = nn.Sequential(*parts, nn.BatchNorm2d(b))
            self.adds = stride == 1 and a == b

        def forward(self, x):
            return x + self.parts(x) if self.adds else self.parts(x)

    blocks, a = [], 32
    plan = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1),
            (6, 160, 3, 2), (6, 320, 1, 1))  # fmt: skip
    for factor, b, count, stride in plan:
        for i in range(count):
            blocks.append(Block(a, b, stride if i == 0 else 1, factor))
            a = b
    return nn.Sequential(
        unit(3, 32, 3, 2), *blocks, unit(320, 1280, 1, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(1280, classes),
    )  # fmt: skip


def gpt2(lib, words=50_257, width=768, depth=12, heads=12, length=256):
    """GPT-2-small, one token at a time: keys and values of earlier tokens stand in buffers.

    forward(token (N, 1), place (1,) int64) -> logits (N, words)
    """
    nn, F = lib.nn, lib.nn.functional

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
            self.qkv, self.mix = nn.Linear(width, 3 * width), nn.Linear(width, width)
            self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
            for name in ("keys", "values"):
                self.register_buffer(name, lib.zeros(1, heads, length, width // heads))

        def forward(self, x, place, mask):
            n, t, d = x.shape
            parts = self.qkv(self.norm1(x)).split(d, dim=2)
            q, k, v = (p.view(n, t, heads, d // heads).transpose(1, 2) for p in parts)
            self.keys.index_copy_(2, place, k)
            self.values.index_copy_(2, place, v)
            y = F.scaled_dot_product_attention(q, self.keys, self.values, attn_mask=mask)
            x = x + self.mix(y.transpose(1, 2).reshape(n, t, d))
            return x + self.down(F.gelu(self.up(self.norm2(x)), approximate="tanh"))

    class GPT(nn.Module):
        def __init__(self):
            super().__init__()
            self.tokens, self.places = nn.Embedding(words, width), nn.Embedding(length, width)
            self.blocks = nn.ModuleList([Block() for _ in range(depth)])
            self.norm = nn.LayerNorm(width)

        def forward(self, token, place):
            x = self.tokens(token) + self.places(place)
            mask = (lib.arange(length) <= place)[None, None, None]
            for block in self.blocks:
                x = block(x, place, mask)
            return F.linear(self.norm(x)[:, 0], self.tokens.weight)

    return GPT()
