"""Classify names by their letters with an LSTM.

    python examples/names.py --names FILE      lines of NAME, or of NAME,CLASS

Without classes the question is whether a word is a name, or the letters of one in another order.
Reports the accuracy on a tenth of the names that training does not see.
"""

import argparse
import random
from pathlib import Path

from monograph import nn, optim, train
from monograph.data import BucketBatchSampler, DataLoader, pad_collate
from monograph.nn import functional as F


def read(path):
    """([name, ...], [class, ...]) of a file; made-up non-names where it has no classes."""
    lines = [line.strip().lower() for line in Path(path).read_text().splitlines() if line.strip()]
    if "," in lines[0]:
        names, classes = zip(*(line.rsplit(",", 1) for line in lines))
        return list(names), list(classes)
    draw, known = random.Random(0), set(lines)
    others = ["".join(draw.sample(name, len(name))) for name in lines]
    others = [word for word in others if word not in known]
    return lines + others, ["a name"] * len(lines) + ["no name"] * len(others)


class Names(train.TrainModule):
    """Letters -> embedding -> LSTM in both directions -> the largest of each feature -> classes."""

    def __init__(self, letters, classes, width=64, lr=3e-3, total_steps=1000):
        super().__init__()
        self.save_hyperparameters()
        self.embed = nn.Embedding(letters + 1, width, padding_idx=0)
        self.lstm = nn.LSTM(width, width, batch_first=True, bidirectional=True)
        self.drop = nn.Dropout(0.2)
        self.head = nn.Linear(2 * width, classes)

    def forward(self, letters):
        states, _ = self.lstm(self.embed(letters))
        states = states.masked_fill((letters == 0).unsqueeze(-1), -1e9)
        return self.head(self.drop(states.amax(1)))

    def training_step(self, batch, batch_idx):
        letters, _, classes = batch
        loss = F.cross_entropy(self(letters), classes)
        self.log("train_loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch, batch_idx):
        letters, _, classes = batch
        right = (self(letters).argmax(1) == classes).float().mean()
        self.log("val_accuracy", right, prog_bar=True)

    def configure_optimizers(self):
        optimizer = optim.AdamW(self.parameters(), lr=self.hparams["lr"], weight_decay=0.01)
        schedule = optim.lr_scheduler.OneCycleLR(
            optimizer, self.hparams["lr"], total_steps=self.hparams["total_steps"] + 1
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def main(words=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--names", required=True)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--width", type=int, default=64)
    args = parser.parse_args(words)

    train.seed_everything(0)
    names, classes = read(args.names)
    alphabet = {letter: i for i, letter in enumerate(sorted(set("".join(names))), 1)}
    numbers = {name: i for i, name in enumerate(sorted(set(classes)))}
    samples = [([alphabet[x] for x in n], numbers[c]) for n, c in zip(names, classes)]
    random.Random(1).shuffle(samples)
    held = len(samples) // 10
    loaders = []
    for part, shuffle in ((samples[held:], True), (samples[:held], False)):
        lengths = [len(letters) for letters, _ in part]
        batches = BucketBatchSampler(lengths, args.batch_size, shuffle=shuffle)
        loaders.append(DataLoader(part, batch_sampler=batches, collate_fn=pad_collate))
    model = Names(
        len(alphabet), len(numbers), args.width, total_steps=args.epochs * len(loaders[0])
    )
    trainer = train.Trainer(max_epochs=args.epochs)
    trainer.fit(model, *loaders)
    accuracy = trainer.callback_metrics["val_accuracy"]
    print(f"accuracy on {held} held-out words: {accuracy:.4f}")
    return accuracy


if __name__ == "__main__":
    main()
