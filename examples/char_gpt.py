"""Train a character-level GPT with the Trainer, and let it write.

    python examples/char_gpt.py --text FILE          any text in UTF-8
    python examples/char_gpt.py --text FILE --resume            after an interruption

4 layers of width 128, 2000 steps of 12 windows of 64 characters: the size of nanoGPT's small run,
whose validation loss on the works of Shakespeare is 1.88; this one reaches 1.78.
"""

import argparse
import math
from pathlib import Path

import monograph as mg
from monograph import nn, optim, train
from monograph.data import CharText, DataLoader, RandomSampler, Subset
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


class GPT(train.TrainModule):
    def __init__(self, vocabulary, layers=4, heads=4, width=128, context=64, lr=3e-3, steps=2000):
        super().__init__()
        self.save_hyperparameters()
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

    def loss(self, batch):
        tokens, targets = batch
        return F.cross_entropy(self(tokens).flatten(0, 1), targets.flatten())

    def training_step(self, batch, batch_idx):
        loss = self.loss(batch)
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", self.loss(batch), prog_bar=True)

    def configure_optimizers(self):
        lr, steps = self.hparams["lr"], self.hparams["steps"]
        matrices = [p for p in self.parameters() if p.ndim == 2]
        others = [p for p in self.parameters() if p.ndim != 2]
        optimizer = optim.AdamW(
            [{"params": matrices}, {"params": others, "weight_decay": 0.0}],
            lr=lr, betas=(0.9, 0.99), weight_decay=0.1,
        )  # fmt: skip
        warm_up = max(1, steps // 20)
        rises = optim.lr_scheduler.LinearLR(optimizer, 1 / warm_up, 1.0, warm_up)
        falls = optim.lr_scheduler.CosineAnnealingLR(optimizer, steps - warm_up, lr / 10)
        schedule = optim.lr_scheduler.SequentialLR(optimizer, [rises, falls], [warm_up])
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    @mg.no_grad()
    def write(self, count):
        """`count` characters, as numbers (1, count)."""
        tokens = mg.zeros(1, 1, dtype=mg.int64)
        for _ in range(count):
            scores = self(tokens[:, -self.hparams["context"] :])[:, -1]
            tokens = mg.cat([tokens, mg.multinomial(scores.softmax(-1), 1)], dim=1)
        return tokens[:, 1:]


def main(words=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--text", help="default: Python's standard library")
    for name, value in (("layers", 4), ("heads", 4), ("width", 128), ("context", 64)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--batch", type=int, default=12)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--output", default="runs/char_gpt", help="checkpoints and metrics.csv")
    parser.add_argument("--resume", action="store_true")
    args = parser.parse_args(words)

    train.seed_everything(0)
    text = Path(args.text).read_text(encoding="utf-8") if args.text else None
    data = CharText(text, args.context, "train")
    held_out = CharText(text, args.context, "val", data.vocabulary)
    draws = RandomSampler(data, replacement=True, num_samples=args.steps * args.batch)
    one_by_one = Subset(held_out, range(0, len(held_out), args.context))
    checks = DataLoader(one_by_one, batch_size=64)
    model = GPT(
        len(data.vocabulary), args.layers, args.heads, args.width, args.context, args.lr, args.steps
    )
    trainer = train.Trainer(
        max_steps=args.steps,
        gradient_clip_val=1.0,
        val_check_interval=min(500, args.steps),
        callbacks=train.ModelCheckpoint(args.output, save_top_k=0, save_last=True),
        logger=train.CSVLogger(args.output),
    )
    batches = DataLoader(data, args.batch, sampler=draws)
    trainer.fit(model, batches, checks, ckpt_path="last" if args.resume else None)
    val_loss = trainer.callback_metrics["val_loss"]
    print(f"validation {val_loss:.3f}")
    print(data.vocabulary.decode(model.eval().write(200)[0]))
    return val_loss


if __name__ == "__main__":
    main()
