"""Learn features of images without labels: two augmented views of an image are to be alike
(SimCLR: Chen and others, A Simple Framework for Contrastive Learning of Visual Representations).

    python examples/contrastive.py --data-dir DIR      MNIST's four files
    python examples/contrastive.py                     the 8x8 digits of scikit-learn

Reports how well a linear classifier reads the digit from the features, beside one on the pixels.
"""

import argparse

import numpy as np

import monograph as mg
from monograph import nn, optim, train
from monograph.data import MNIST, DataLoader, Dataset, Digits
from monograph.data.augment import affine
from monograph.nn import functional as F


def arrays(data_dir, part):
    """(images (N, 1, H, W) in [0, 1], labels)."""
    data = MNIST(data_dir, train=part) if data_dir else Digits(train=part)
    images, labels = data[:]
    return images.numpy().astype(np.float32), labels.numpy()


class Views(Dataset):
    """Two random views of each image: turned, moved, scaled, with noise and a patch left out."""

    def __init__(self, images):
        self.images = images

    def __len__(self):
        return len(self.images)

    def view(self, image):
        size = image.shape[1]
        angle, scale = np.random.uniform(-0.35, 0.35), np.random.uniform(0.85, 1.15)
        c, s = np.cos(angle) * scale, np.sin(angle) * scale
        dx, dy = np.random.uniform(-0.1, 0.1, 2) * size
        image = affine(image, [(c, -s, dx), (s, c, dy)])
        y, x = np.random.randint(0, size, 2)
        patch = max(1, size // 4)
        image[:, y : y + patch, x : x + patch] = 0
        return image + np.random.normal(0, 0.05, image.shape).astype(np.float32)

    def __getitem__(self, i):
        return self.view(self.images[i].copy()), self.view(self.images[i].copy())


class SimCLR(train.TrainModule):
    def __init__(self, width=32, temperature=0.2, lr=2e-3, total_steps=1000):
        super().__init__()
        self.save_hyperparameters()

        def level(inner, outer, stride):
            conv = nn.Conv2d(inner, outer, 3, stride, padding=1, bias=False)
            return [conv, nn.BatchNorm2d(outer), nn.ReLU()]

        self.encoder = nn.Sequential(
            *level(1, width, 1), *level(width, 2 * width, 2), *level(2 * width, 4 * width, 2),
            nn.AdaptiveAvgPool2d(2), nn.Flatten(),
        )  # fmt: skip
        features = 16 * width
        self.project = nn.Sequential(nn.Linear(features, 128), nn.ReLU(), nn.Linear(128, 64))

    def forward(self, images):
        return self.encoder(images)

    def training_step(self, batch, batch_idx):
        first, second = batch
        n = first.shape[0]
        z = F.normalize(self.project(self.encoder(mg.cat([first, second]))), dim=1)
        alike = z @ z.T / self.hparams["temperature"]
        alike = alike.masked_fill(mg.eye(2 * n, dtype=mg.bool), -1e9)  # nothing with itself
        other = (mg.arange(2 * n) + n) % (2 * n)
        loss = F.cross_entropy(alike, other)
        self.log("train_loss", loss, prog_bar=True)
        return loss

    def configure_optimizers(self):
        optimizer = optim.AdamW(self.parameters(), lr=self.hparams["lr"], weight_decay=1e-4)
        schedule = optim.lr_scheduler.CosineAnnealingLR(optimizer, self.hparams["total_steps"])
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def probe(known, labels, unseen, truth, steps=300):
    """The accuracy of a linear classifier, trained on `known`, on `unseen`."""
    mean, std = known.mean(0), known.std(0) + 1e-4
    known, unseen = (mg.from_numpy((x - mean) / std) for x in (known, unseen))
    layer, labels = nn.Linear(known.shape[1], 10), mg.from_numpy(labels)
    optimizer = optim.AdamW(layer.parameters(), lr=0.01, weight_decay=0.1)

    @mg.jit
    def step():
        loss = F.cross_entropy(layer(known), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    for _ in range(steps):
        step()
    return float((layer(unseen).argmax(1).numpy() == truth).mean())


def features(model, images):
    model.eval()
    encode = mg.jit(model.encoder)
    with mg.no_grad():
        parts = [encode(mg.from_numpy(images[i : i + 500])) for i in range(0, len(images), 500)]
    return np.concatenate([part.numpy() for part in parts])


def main(words=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--samples", type=int, default=10000, help="images to train on")
    parser.add_argument("--labels", type=int, default=500, help="labels for the classifier")
    args = parser.parse_args(words)

    train.seed_everything(0)
    images, labels = arrays(args.data_dir, True)
    images = images[: args.samples]
    unseen, truth = arrays(args.data_dir, False)
    loader = DataLoader(Views(images), args.batch_size, shuffle=True, drop_last=True)
    model = SimCLR(args.width, total_steps=args.epochs * len(loader))
    train.Trainer(max_epochs=args.epochs).fit(model, loader)
    few = slice(0, args.labels)
    found = probe(features(model, images[few]), labels[few], features(model, unseen), truth)
    pixels = probe(images[few].reshape(len(images[few]), -1), labels[few],
                   unseen.reshape(len(unseen), -1), truth)  # fmt: skip
    print(f"accuracy with {args.labels} labels: features {found:.4f}, pixels {pixels:.4f}")
    return found, pixels


if __name__ == "__main__":
    main()
