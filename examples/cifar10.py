"""Train a small residual network on CIFAR-10 out of tar files, with augmentation.

    python examples/cifar10.py --data-dir DIR      train.tar and test.tar that hold CLASS/NAME.jpg

Needs Pillow to decode the images. An interrupted run goes on with --resume. The 15 epochs end at
87 % of the test images.
"""

import argparse
from pathlib import Path

from monograph import nn, optim, train
from monograph.data import DataLoader, TarShards
from monograph.data import transforms as T
from monograph.nn import functional as F

CLASSES = "airplane automobile bird cat deer dog frog horse ship truck".split()
MEAN, STD = [0.491, 0.482, 0.447], [0.247, 0.243, 0.262]


class Labelled:
    """A sample of a tar file as (image, class number); the class is the member's folder."""

    def __init__(self, transform):
        self.transform = transform

    def __call__(self, sample):
        label = CLASSES.index(sample["__key__"].split("/")[-2])
        image = next(value for name, value in sample.items() if name != "__key__")
        return self.transform(image), label


def loaders(folder, batch_size, workers):
    plain = [T.ToFloat(), T.Normalize(MEAN, STD)]
    augmented = [T.RandomCrop(32, padding=4), T.RandomHorizontalFlip(), *plain]
    found = []
    for name, steps in (("train", augmented), ("test", plain)):
        data = TarShards([Path(folder) / f"{name}.tar"], transform=Labelled(T.Compose(steps)))
        training = name == "train"
        found.append(
            DataLoader(data, batch_size, shuffle=training, drop_last=training, num_workers=workers)
        )
    return found


class Block(nn.Module):
    """Two 3x3 convolutions around which the input is added."""

    def __init__(self, channels, out, stride=1):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, out, 3, stride, padding=1, bias=False)
        self.conv2 = nn.Conv2d(out, out, 3, padding=1, bias=False)
        self.norm1, self.norm2 = nn.BatchNorm2d(out), nn.BatchNorm2d(out)
        self.skip = nn.Identity()
        if stride != 1 or channels != out:
            conv = nn.Conv2d(channels, out, 1, stride, bias=False)
            self.skip = nn.Sequential(conv, nn.BatchNorm2d(out))

    def forward(self, x):
        y = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self.norm2(self.conv2(y)) + self.skip(x))


class ResNet(train.TrainModule):
    def __init__(self, width=32, lr=0.2, total_steps=1000):
        super().__init__()
        self.save_hyperparameters()
        stem = [nn.Conv2d(3, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
        blocks = [
            Block(width, width), Block(width, 2 * width, 2), Block(2 * width, 2 * width),
            Block(2 * width, 4 * width, 2), Block(4 * width, 4 * width),
        ]  # fmt: skip
        self.body = nn.Sequential(*stem, *blocks)
        self.head = nn.Linear(4 * width, len(CLASSES))

    def forward(self, images):
        return self.head(self.body(images).mean((2, 3)))

    def training_step(self, batch, batch_idx):
        loss = F.cross_entropy(self(batch[0]), batch[1], label_smoothing=0.05)
        self.log("train_loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch, batch_idx):
        scores = self(batch[0])
        self.log("val_loss", F.cross_entropy(scores, batch[1]))
        self.log("val_accuracy", (scores.argmax(1) == batch[1]).float().mean(), prog_bar=True)

    def configure_optimizers(self):
        optimizer = optim.SGD(
            self.parameters(), lr=self.hparams["lr"], momentum=0.9, nesterov=True, weight_decay=5e-4
        )
        schedule = optim.lr_scheduler.OneCycleLR(
            optimizer, self.hparams["lr"], total_steps=self.hparams["total_steps"] + 1
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def main(words=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", required=True)
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--output", default="runs/cifar10")
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--limit", type=int, help="batches per epoch, for a quick try")
    args = parser.parse_args(words)

    train.seed_everything(0)
    training, checks = loaders(args.data_dir, args.batch_size, args.workers)
    per_epoch = min(args.limit or len(training), len(training))
    model = ResNet(args.width, total_steps=args.epochs * per_epoch)
    trainer = train.Trainer(
        max_epochs=args.epochs,
        callbacks=[train.ModelCheckpoint(args.output, save_top_k=0, save_last=True)],
        logger=train.JSONLinesLogger(args.output, name="logs"),
        limit_train_batches=args.limit,
        limit_val_batches=args.limit,
    )
    trainer.fit(model, training, checks, ckpt_path="last" if args.resume else None)
    accuracy = trainer.callback_metrics["val_accuracy"]
    print(f"accuracy {accuracy:.4f}")
    return accuracy


if __name__ == "__main__":
    main()
