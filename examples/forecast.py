"""Forecast a time series: the next day from the last week, with a network of dilated convolutions.

    python examples/forecast.py --csv FILE --column NAME      equal steps, oldest first
    python examples/forecast.py                               a made-up series of hours

Reports the mean absolute error on the last fifth of the series, which training does not see, beside
that of taking each value from one period before.
"""

import argparse

import numpy as np

import monograph as mg
from monograph import nn, optim, train
from monograph.data import CSVDataset, DataLoader, Dataset
from monograph.nn import functional as F


def made_up(hours=8000):
    """Hours with a daily and a weekly rhythm, a slow drift and noise that lasts."""
    rng = np.random.default_rng(0)
    t = np.arange(hours)
    noise = np.zeros(hours)
    for i in range(1, hours):
        noise[i] = 0.8 * noise[i - 1] + rng.normal(0, 0.15)
    day, week = 2 * np.pi * t / 24, 2 * np.pi * t / 168
    rhythm = np.sin(day) * (1 + 0.6 * np.cos(week)) + 0.4 * np.sin(2 * day + 1)
    return (20 + 5 * (rhythm + noise) + 3 * np.sin(t / 1900)).astype(np.float32)


class Windows(Dataset):
    """(the past, the future) at each place of a series; the past's mean and spread are taken out
    of both, and come third."""

    def __init__(self, series, past, future):
        self.series, self.past, self.future = series, past, future

    def __len__(self):
        return len(self.series) - self.past - self.future + 1

    def __getitem__(self, i):
        x = self.series[i : i + self.past]
        y = self.series[i + self.past : i + self.past + self.future]
        mean, spread = x.mean(), x.std() + 1e-6
        return (x - mean) / spread, (y - mean) / spread, np.float32([mean, spread])


class Forecaster(train.TrainModule):
    def __init__(self, past, future, width=32, lr=2e-3, total_steps=1000):
        super().__init__()
        self.save_hyperparameters()
        self.stem = nn.Conv1d(1, width, 1)
        self.levels = nn.ModuleList(
            nn.Conv1d(width, width, 3, dilation=2**k, padding=2**k) for k in range(6)
        )
        self.head = nn.Sequential(
            nn.Linear(width + past, 128), nn.SiLU(), nn.Dropout(0.3), nn.Linear(128, future)
        )

    def forward(self, past):
        x = self.stem(past.unsqueeze(1))
        for level in self.levels:
            x = x + F.silu(level(x))
        return self.head(mg.cat([x.mean(2), past], 1))

    def training_step(self, batch, batch_idx):
        past, future, _ = batch
        loss = F.smooth_l1_loss(self(past), future)
        self.log("train_loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch, batch_idx):
        past, future, scale = batch
        self.log("val_mae", ((self(past) - future).abs() * scale[:, 1:]).mean(), prog_bar=True)

    def configure_optimizers(self):
        optimizer = optim.AdamW(self.parameters(), lr=self.hparams["lr"], weight_decay=0.05)
        schedule = optim.lr_scheduler.OneCycleLR(
            optimizer, self.hparams["lr"], total_steps=self.hparams["total_steps"] + 1
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def main(words=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--csv")
    parser.add_argument("--column")
    parser.add_argument("--past", type=int, default=168)
    parser.add_argument("--future", type=int, default=24)
    parser.add_argument("--period", type=int, default=168)
    parser.add_argument("--epochs", type=int, default=4)
    args = parser.parse_args(words)

    train.seed_everything(0)
    series = made_up()
    if args.csv:
        series = CSVDataset(args.csv, target=args.column).columns[args.column].astype(np.float32)
    cut = len(series) * 4 // 5
    known, unseen = series[:cut], series[cut - args.past :]
    loaders = [
        DataLoader(Windows(part, args.past, args.future), 64, shuffle=part is known)
        for part in (known, unseen)
    ]
    model = Forecaster(args.past, args.future, total_steps=args.epochs * len(loaders[0]))
    trainer = train.Trainer(max_epochs=args.epochs)
    trainer.fit(model, *loaders)
    error = trainer.callback_metrics["val_mae"]
    before = np.abs(series[cut:] - series[cut - args.period : -args.period]).mean()
    print(f"mean absolute error {error:.4f}; one period before: {before:.4f}")
    return error / before


if __name__ == "__main__":
    main()
