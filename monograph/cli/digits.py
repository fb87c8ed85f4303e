"""`monograph demo`: a convolutional network learns handwritten digits."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np

import monograph as mg

from .. import nn, optim, train
from ..core.errors import ArgumentError
from ..data import MNIST, DataLoader, Digits
from ..nn import functional as F
from . import drawing


class DigitNet(train.TrainModule):
    """Two convolutions and two linear layers: images (N, 1, size, size) to scores (N, 10).

    size   pixels of a side: a multiple of 2, from 16 on a multiple of 4
    width  channels of the first convolution

    Trained with cross entropy (a tenth of the target spread over all classes), AdamW and one cycle
    of the learning rate over `steps` updates.
    """

    def __init__(self, size: int = 8, width: int = 32, steps: int = 1000, lr: float = 3e-3):
        super().__init__()
        self.steps, self.lr = steps, lr
        self.register_buffer("size", mg.tensor(size))  # so that a file of weights tells it
        small = size < 16
        side = size // 2 if small else size // 4
        self.features = nn.Sequential(
            nn.Conv2d(1, width, 3, padding=1),
            nn.ReLU(),
            nn.Identity() if small else nn.MaxPool2d(2),
            nn.Conv2d(width, 2 * width, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
        )
        self.head = nn.Sequential(
            nn.Dropout(0.25),
            nn.Linear(2 * width * side**2, 4 * width),
            nn.ReLU(),
            nn.Dropout(0.25),
            nn.Linear(4 * width, 10),
        )

    def forward(self, images):
        return self.head(self.features(images))

    def training_step(self, batch, batch_idx):
        images, labels = batch
        return F.cross_entropy(self(images), labels, label_smoothing=0.1)

    def validation_step(self, batch, batch_idx):
        images, labels = batch
        scores = self(images)
        self.log("val_loss", F.cross_entropy(scores, labels))
        self.log("accuracy", (scores.argmax(1) == labels).float().mean(), prog_bar=True)

    def configure_optimizers(self):
        optimizer = optim.AdamW(self.parameters(), lr=self.lr, weight_decay=1e-2)
        cycle = optim.lr_scheduler.OneCycleLR(optimizer, self.lr, total_steps=self.steps + 1)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": cycle, "interval": "step"}}

    def classify(self, images) -> list[int]:
        """The digits that images (N, 1, size, size) with values in [0, 1] show."""
        self.eval()
        with mg.no_grad():
            return self(images).argmax(1).tolist()

    @classmethod
    def load(cls, path) -> DigitNet:
        """A trained network out of a file that the demo wrote."""
        weights = mg.load(path)
        model = cls(size=weights["size"].item(), width=weights["features.0.weight"].shape[0])
        model.load_state_dict(weights)
        return model.eval()


def run(args: Any) -> int:
    """Train, show, save."""
    started = time.monotonic()
    train.seed_everything(args.seed % 2**32)
    if args.data == "mnist":
        if not args.data_dir:
            raise ArgumentError(
                "demo: --data mnist needs --data-dir DIR, the directory of its four files",
                hint="monograph.data.MNIST(DIR, download=True) fetches them",
            )
        training, held_out = MNIST(args.data_dir, train=True), MNIST(args.data_dir, train=False)
        size, batch_size, epochs = 28, 128, args.epochs or 5
        usage = f"MNIST({str(args.data_dir)!r}, train=False)[0][0][None]", "MNIST"
    else:
        training, held_out = Digits(train=True), Digits(train=False)
        size, batch_size, epochs = 8, 32, args.epochs or 20
        usage = "Digits(train=False)[:10][0]", "Digits"
    output = Path(args.output or "digits.safetensors")
    if not output.parent.is_dir():
        raise ArgumentError(f"demo: --output {output}: there is no directory {output.parent}")

    loader = DataLoader(training, batch_size=batch_size, shuffle=True, drop_last=True)
    checks = DataLoader(held_out, batch_size=min(500, len(held_out)))
    model = DigitNet(size, steps=epochs * len(loader))
    count = sum(p.numel() for p in model.parameters())
    print(
        f"A convolutional network of {count:,} parameters learns {len(training):,} handwritten "
        f"digits of {size}x{size} pixels."
    )
    trainer = train.Trainer(max_epochs=epochs)
    trainer.fit(model, loader, checks)
    if trainer.interrupted:
        raise KeyboardInterrupt
    accuracy = trainer.callback_metrics["accuracy"]
    right = round(accuracy * len(held_out))
    print(
        f"\nOf {len(held_out):,} digits that it has not seen it reads {right:,} correctly: "
        f"accuracy {100 * accuracy:.2f}%. Some of them:\n"
    )
    print(_show(model, held_out, 8 if size == 8 else 4))
    mg.save(model.state_dict(), output)
    print(f"Wrote {output} ({output.stat().st_size / 1000:,.0f} kB). To use it:\n")
    print(f"    from monograph.cli.digits import {usage[1]}, DigitNet")
    print(f"    model = DigitNet.load({str(output)!r})")
    print(f"    print(model.classify({usage[0]}))\n")
    print(f"{time.monotonic() - started:.1f} s")
    return 0


def _show(model: DigitNet, data: Any, count: int) -> str:
    """The first digits of the data and what the model reads."""
    samples = [data[i] for i in range(count)]
    images = mg.stack([mg.as_tensor(image) for image, _ in samples])
    labels = [int(label) for _, label in samples]
    captions = [
        f"reads {guess}" if guess == label else f"reads {guess}, is {label}"
        for guess, label in zip(model.classify(images), labels)
    ]
    pictures = [np.asarray(image.numpy()[0]) for image in images]
    return drawing.gallery(pictures, captions, levels=drawing.shades())
