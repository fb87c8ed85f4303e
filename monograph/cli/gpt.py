"""`monograph demo gpt`: a transformer learns to write, character by character.

The architecture is GPT-2's: Radford and others, "Language models are unsupervised multitask
learners", 2019; sizes and schedule of small runs after Karpathy's nanoGPT.
"""

from __future__ import annotations

import math
import sys
import time
from pathlib import Path
from typing import Any

import monograph as mg

from .. import nn, optim, train
from ..core.errors import ArgumentError, DataError
from ..data import CharText, CharVocabulary, DataLoader, RandomSampler, Subset
from ..nn import functional as F

STEPS = 600
WARM_UP = 100


class Attention(nn.Module):
    """Causal self-attention with several heads: (N, T, D) to (N, T, D)."""

    def __init__(self, width: int, heads: int, dropout: float):
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.drop = nn.Dropout(dropout)

    def forward(self, x):
        n, t, d = x.shape
        qkv = self.qkv(x).reshape(n, t, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        dropout = self.dropout if self.training else 0.0
        y = F.scaled_dot_product_attention(
            qkv[0], qkv[1], qkv[2], dropout_p=dropout, is_causal=True
        )
        return self.drop(self.out(y.transpose(1, 2).reshape(n, t, d)))


class Block(nn.Module):
    """Attention and a two-layer network, each after a norm and added to what came in."""

    def __init__(self, width: int, heads: int, dropout: float):
        super().__init__()
        self.norm1 = nn.LayerNorm(width, bias=False)
        self.attention = Attention(width, heads, dropout)
        self.norm2 = nn.LayerNorm(width, bias=False)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width, bias=False),
            nn.GELU(),
            nn.Linear(4 * width, width, bias=False),
            nn.Dropout(dropout),
        )

    def forward(self, x):
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class CharGPT(train.TrainModule):
    """A GPT over characters: tokens (N, T) to scores of the next one (N, T, vocabulary).

    Weights start normal with deviation 0.02, those that end a residual branch smaller by
    sqrt(2 * layers); the output shares the embedding's weights. AdamW with weight decay on
    matrices only, warm-up, then half a cosine down to a tenth of `lr` over `steps` updates.
    """

    def __init__(
        self, vocabulary: int, layers: int = 4, heads: int = 4, width: int = 128,
        context: int = 64, dropout: float = 0.0, lr: float = 3e-3, steps: int = STEPS,
    ):  # fmt: skip
        super().__init__()
        if width % heads:
            raise ArgumentError(f"CharGPT: width {width} is not a multiple of {heads} heads")
        self.save_hyperparameters()
        self.context, self.lr, self.steps = context, lr, steps
        self.token = nn.Embedding(vocabulary, width)
        self.position = nn.Embedding(context, width)
        self.drop = nn.Dropout(dropout)
        self.blocks = nn.Sequential(*(Block(width, heads, dropout) for _ in range(layers)))
        self.norm = nn.LayerNorm(width, bias=False)
        for name, parameter in self.named_parameters():
            if parameter.ndim == 2:
                ends_branch = name.endswith(("attention.out.weight", "mlp.2.weight"))
                scale = 1 / math.sqrt(2 * layers) if ends_branch else 1.0
                nn.init.normal_(parameter, std=0.02 * scale)

    def forward(self, tokens):
        positions = mg.arange(tokens.shape[1])
        x = self.drop(self.token(tokens) + self.position(positions))
        return F.linear(self.norm(self.blocks(x)), self.token.weight)

    def loss(self, batch):
        """The mean negative log-likelihood of the next characters, in nats."""
        tokens, targets = batch
        scores = self(tokens)
        return F.cross_entropy(scores.reshape(-1, scores.shape[-1]), targets.reshape(-1))

    def training_step(self, batch, batch_idx):
        return self.loss(batch)

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", self.loss(batch), prog_bar=True)

    def configure_optimizers(self):
        matrices = [p for p in self.parameters() if p.ndim >= 2]
        others = [p for p in self.parameters() if p.ndim < 2]
        groups = [{"params": matrices}, {"params": others, "weight_decay": 0.0}]
        optimizer = optim.AdamW(groups, lr=self.lr, betas=(0.9, 0.99), weight_decay=0.1)
        schedule = optim.lr_scheduler.LambdaLR(optimizer, self._rate)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _rate(self, step: int) -> float:
        """The learning rate at a step, as a part of the highest."""
        warm_up = min(WARM_UP, max(1, self.steps // 10))
        if step < warm_up:
            return (step + 1) / (warm_up + 1)
        done = min(1.0, (step - warm_up) / max(1, self.steps - warm_up))
        return 0.1 + 0.9 * (1 + math.cos(math.pi * done)) / 2

    def write(self, tokens: list[int], count: int, temperature: float = 0.8) -> list[int]:
        """`tokens` and `count` more, each drawn from what the model expects next."""
        self.eval()
        tokens = list(tokens)

        @mg.jit
        def scores(window, last):
            return self(window)[0].index_select(0, last)[0]

        with mg.no_grad():
            for _ in range(count):
                window = tokens[-self.context :]
                # Characters after the last one do not matter: attention is causal.
                padded = window + [0] * (self.context - len(window))
                found = scores(mg.tensor([padded]), mg.tensor([len(window) - 1]))
                chances = (found / temperature).softmax(-1)
                tokens.append(mg.multinomial(chances, 1).item())
        return tokens


def windows(data: CharText, count: int | None = None) -> Subset:
    """The text cut into windows that do not overlap (at most `count` of them)."""
    starts = range(0, len(data), data.block_size)
    if count is not None and count < len(starts):
        starts = range(0, len(data), data.block_size * (len(starts) // count))
    return Subset(data, list(starts))


def run(args: Any) -> int:
    """Train, measure, write."""
    started = time.monotonic()
    train.seed_everything(args.seed % 2**32)
    text = None if args.text is None else read_text(args.text)
    training = CharText(text, args.context, "train")
    held_out = CharText(text, args.context, "val", training.vocabulary)
    model = CharGPT(
        len(training.vocabulary), args.layers, args.heads, args.width, args.context, args.dropout,
        args.lr, args.steps,
    )  # fmt: skip
    count = sum(p.numel() for p in model.parameters())
    print(
        f"A GPT of {count:,} parameters learns {len(training.text):,} characters "
        f"({len(training.vocabulary)} different ones)."
    )
    sampler = RandomSampler(training, replacement=True, num_samples=args.steps * args.batch)
    loader = DataLoader(training, batch_size=args.batch, sampler=sampler)
    checks = DataLoader(windows(held_out, 240), batch_size=24)
    trainer = train.Trainer(
        max_epochs=1,
        max_steps=args.steps,
        gradient_clip_val=1.0,
        val_check_interval=max(1, args.steps // 4),
    )
    trainer.fit(model, loader, checks)
    if trainer.interrupted:
        raise KeyboardInterrupt
    whole = DataLoader(windows(held_out), batch_size=24)
    quiet = train.Trainer(enable_progress_bar=False)
    (measured,) = quiet.validate(model, whole)
    print(
        f"\nValidation loss {measured['val_loss']:.4f} nats per character over "
        f"{len(held_out.text):,} characters that it has not seen."
    )
    if args.sample > 0:
        print(f"It writes:\n\n{sample(model, training.vocabulary, args.sample)}\n")
    print(f"{time.monotonic() - started:.1f} s")
    return 0


def sample(model: CharGPT, vocabulary: CharVocabulary, count: int) -> str:
    """Text of the model, from an empty line on, that the terminal can show."""
    start = vocabulary.encode("\n").tolist() if "\n" in vocabulary.chars else [0]
    written = vocabulary.decode(model.write(start, count)[1:])
    encoding = sys.stdout.encoding or "ascii"
    return written.encode(encoding, "replace").decode(encoding)


def read_text(path: str) -> str:
    """The text of a file in UTF-8."""
    try:
        return Path(path).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}: not a text in UTF-8: {error.reason} at byte {error.start}"
        ) from None
