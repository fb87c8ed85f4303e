"""Draw digits: a diffusion model with a small U-Net (Ho and others, Denoising Diffusion
Probabilistic Models; the cosine schedule is Nichol and Dhariwal's, sampling is DDIM's).

    python examples/diffusion.py --data-dir DIR      MNIST's four files
    python examples/diffusion.py                     the 8x8 digits of scikit-learn

What is drawn is written to <output>/samples and shown by `monograph board <output>`.
"""

import argparse
import math

import monograph as mg
from monograph import nn, optim, train
from monograph.data import MNIST, DataLoader, Digits, TensorDataset
from monograph.nn import functional as F


class Block(nn.Module):
    """Two convolutions, with the step and the class added between, around which the input goes."""

    def __init__(self, inner, outer, hints):
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(8, inner), nn.GroupNorm(8, outer)
        self.conv1 = nn.Conv2d(inner, outer, 3, padding=1)
        self.conv2 = nn.Conv2d(outer, outer, 3, padding=1)
        self.hint = nn.Linear(hints, outer)
        self.skip = nn.Conv2d(inner, outer, 1) if inner != outer else nn.Identity()

    def forward(self, x, hint):
        y = self.conv1(F.silu(self.norm1(x))) + self.hint(hint)[:, :, None, None]
        return self.skip(x) + self.conv2(F.silu(self.norm2(y)))


class UNet(nn.Module):
    """Images (N, 1, S, S), steps in [0, 1] and classes -> the noise in the images."""

    def __init__(self, width, hints=64):
        super().__init__()
        self.hints = hints
        self.digit = nn.Embedding(10, hints)
        self.hint = nn.Sequential(nn.Linear(hints, hints), nn.SiLU(), nn.Linear(hints, hints))
        self.stem = nn.Conv2d(1, width, 3, padding=1)
        self.down1, self.down2 = Block(width, width, hints), Block(width, 2 * width, hints)
        self.middle = Block(2 * width, 2 * width, hints)
        self.up2, self.up1 = Block(4 * width, width, hints), Block(2 * width, width, hints)
        self.head = nn.Sequential(
            nn.GroupNorm(8, width), nn.SiLU(), nn.Conv2d(width, 1, 3, padding=1)
        )

    def forward(self, x, t, digit):
        rates = mg.exp(mg.linspace(0.0, math.log(1000.0), self.hints // 2))
        angles = t[:, None] * rates
        hint = self.hint(mg.cat([angles.sin(), angles.cos()], 1) + self.digit(digit))
        a = self.down1(self.stem(x), hint)
        b = self.down2(F.avg_pool2d(a, 2), hint)
        c = self.middle(F.avg_pool2d(b, 2), hint)
        b = self.up2(mg.cat([b, F.interpolate(c, scale_factor=2)], 1), hint)
        return self.head(self.up1(mg.cat([a, F.interpolate(b, scale_factor=2)], 1), hint))


def signal(t):
    """The share of the image's variance that is left at step t in [0, 1]."""
    return mg.cos((t * 0.98 + 0.01) * math.pi / 2) ** 2


class Diffusion(train.TrainModule):
    def __init__(self, size, width=32, lr=2e-3, total_steps=1000, draw_steps=30):
        super().__init__()
        self.save_hyperparameters()
        self.net = UNet(width)

    def training_step(self, batch, batch_idx):
        images, digits = batch
        t, noise = mg.rand(images.shape[0]), mg.randn(*images.shape)
        left = signal(t)[:, None, None, None]
        noisy = left.sqrt() * images + (1 - left).sqrt() * noise
        loss = F.mse_loss(self.net(noisy, t, digits), noise)
        self.log("train_loss", loss, prog_bar=True, on_step=True, on_epoch=True)
        return loss

    def draw(self, digits):
        """Images of these digits, out of noise."""
        steps, size = self.hparams["draw_steps"], self.hparams["size"]
        net = mg.jit(self.net)
        x = mg.randn(len(digits), 1, size, size)
        with mg.no_grad():
            for k in range(steps, 0, -1):
                t = mg.full((len(digits),), k / steps)
                left, then = signal(t)[0], signal(t - 1 / steps)[0]
                noise = net(x, t, digits)
                image = ((x - (1 - left).sqrt() * noise) / left.sqrt()).clamp(-1, 1)
                x = then.sqrt() * image + (1 - then).sqrt() * noise
        return image

    def on_train_epoch_end(self):
        if self.trainer.logger is not None:
            self.eval()
            for i, image in enumerate(self.draw(mg.arange(10))):
                self.trainer.logger.log_image(
                    f"digit/{i}", image / 2 + 0.5, self.trainer.global_step
                )
            self.train()

    def configure_optimizers(self):
        optimizer = optim.AdamW(self.parameters(), lr=self.hparams["lr"])
        schedule = optim.lr_scheduler.OneCycleLR(
            optimizer, self.hparams["lr"], total_steps=self.hparams["total_steps"] + 1
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def main(words=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--limit", type=int, help="batches per epoch, for a quick try")
    parser.add_argument("--output", default="runs/diffusion")
    args = parser.parse_args(words)

    train.seed_everything(0)
    images, digits = (MNIST(args.data_dir) if args.data_dir else Digits())[:]
    data = TensorDataset(images.float() * 2 - 1, digits)
    loader = DataLoader(data, args.batch_size, shuffle=True, drop_last=True)
    count = min(len(loader), args.limit or len(loader))
    model = Diffusion(images.shape[2], args.width, total_steps=args.epochs * count)
    trainer = train.Trainer(
        max_epochs=args.epochs,
        limit_train_batches=args.limit,
        callbacks=[train.EMA(0.995)],
        logger=train.JSONLinesLogger(args.output),
    )
    trainer.fit(model, loader)
    loss = trainer.callback_metrics["train_loss_epoch"]
    print(f"loss {loss:.4f}; see {trainer.logger.log_dir}")
    return loss


if __name__ == "__main__":
    main()
