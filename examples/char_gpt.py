"""A character-level GPT in one file, with a training loop written out around mg.jit.

    python examples/char_gpt.py --text FILE          any text in UTF-8

4 layers of width 128, 2000 steps of 12 windows: the size of nanoGPT's small run, without a Trainer.
"""

import argparse
import math
import time
from pathlib import Path

import monograph as mg
from monograph import nn, optim
from monograph.data import CharText
from monograph.nn import functional as F


class Block(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x):  # (N, T, D)
        n, t, d = x.shape
        qkv = self.qkv(self.norm1(x)).reshape(n, t, 3, self.heads, d // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(attended.transpose(1, 2).reshape(n, t, d))
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class GPT(nn.Module):
    def __init__(self, vocabulary, layers=4, heads=4, width=128, context=64):
        super().__init__()
        self.context = context
        self.token, self.position = nn.Embedding(vocabulary, width), nn.Embedding(context, width)
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(layers)))
        self.norm = nn.LayerNorm(width)
        for name, p in self.named_parameters():
            if p.ndim == 2:
                ends_branch = name.endswith(("out.weight", "down.weight"))
                nn.init.normal_(p, std=0.02 / (math.sqrt(2 * layers) if ends_branch else 1))
            elif name.endswith("bias"):
                nn.init.zeros_(p)

    def forward(self, tokens):  # (N, T) -> (N, T, vocabulary)
        x = self.token(tokens) + self.position(mg.arange(tokens.shape[1]))
        return F.linear(self.norm(self.blocks(x)), self.token.weight)

    def loss(self, tokens, targets):
        return F.cross_entropy(self(tokens).flatten(0, 1), targets.flatten())


def main(words=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--text", help="default: Python's standard library")
    for name, value in (("layers", 4), ("heads", 4), ("width", 128), ("context", 64)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--batch", type=int, default=12)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--lr", type=float, default=3e-3)
    args = parser.parse_args(words)

    mg.manual_seed(0)
    text = Path(args.text).read_text(encoding="utf-8") if args.text else None
    data = CharText(text, args.context, "train")
    held_out = CharText(text, args.context, "val", data.vocabulary)
    model = GPT(len(data.vocabulary), args.layers, args.heads, args.width, args.context)
    matrices = [p for p in model.parameters() if p.ndim == 2]
    others = [p for p in model.parameters() if p.ndim != 2]
    optimizer = optim.AdamW(
        [{"params": matrices}, {"params": others, "weight_decay": 0.0}],
        lr=args.lr, betas=(0.9, 0.99), weight_decay=0.1,
    )  # fmt: skip
    warm_up = max(1, args.steps // 20)
    schedule = optim.lr_scheduler.SequentialLR(
        optimizer,
        [
            optim.lr_scheduler.LinearLR(optimizer, 1 / warm_up, 1.0, warm_up),
            optim.lr_scheduler.CosineAnnealingLR(optimizer, args.steps - warm_up, args.lr / 10),
        ],
        [warm_up],
    )

    @mg.jit
    def step(tokens, targets):
        loss = model.loss(tokens, targets)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return loss

    evaluate = mg.jit(mg.no_grad(model.loss))
    start = time.monotonic()
    for i in range(1, args.steps + 1):
        loss = step(*data.batch(args.batch))
        schedule.step()
        if i % 200 == 0 or i == args.steps:
            checks = [evaluate(*held_out.batch(64)).item() for _ in range(8)]
            val_loss = sum(checks) / len(checks)
            elapsed_s = time.monotonic() - start
            print(f"step {i}: loss {loss.item():.3f}, validation {val_loss:.3f}, {elapsed_s:.0f} s")

    tokens = mg.zeros(1, 1, dtype=mg.int64)
    with mg.no_grad():
        for _ in range(200):
            scores = model(tokens[:, -args.context :])[:, -1]
            tokens = mg.cat([tokens, mg.multinomial(scores.softmax(-1), 1)], dim=1)
    print(data.vocabulary.decode(tokens[0, 1:]))
    return val_loss


if __name__ == "__main__":
    main()
