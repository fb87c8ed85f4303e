"""Predict a column of a CSV file from the others, with the model-shaped interface.

    python examples/tabular.py --csv FILE --target COLUMN      all other columns must be numbers
    python examples/tabular.py                                 on a made-up table

Missing numbers become the column's mean. Reports the share of the variance that is explained.
"""

import argparse

import numpy as np

from monograph import models, train
from monograph.data import CSVDataset
from monograph.metrics import R2Score
from monograph.models import layers


def made_up(samples=2000):
    """Features (N, 6) and a target with products and a threshold in it."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(samples, 6)).astype(np.float32)
    y = x[:, 0] * x[:, 1] + np.where(x[:, 2] > 0, 2, 0) + 0.1 * rng.normal(size=samples)
    return x, y.astype(np.float32)


def main(words=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--csv")
    parser.add_argument("--target")
    parser.add_argument("--epochs", type=int, default=40)
    args = parser.parse_args(words)

    train.seed_everything(0)
    if args.csv:
        table = CSVDataset(args.csv, target=args.target)
        x, y = table.features, table.columns[args.target].astype(np.float32)
    else:
        x, y = made_up()
    order = np.random.permutation(len(x))
    x, y = x[order], y[order]
    held = len(x) // 5
    mean, std = np.nanmean(x[held:], 0), np.nanstd(x[held:], 0) + 1e-6
    x = (np.where(np.isnan(x), mean, x) - mean) / std
    centre, spread = y[held:].mean(), y[held:].std()

    model = models.Sequential(
        [
            models.Input((x.shape[1],)),
            layers.Dense(64, activation="silu"),
            layers.Dense(64, activation="silu"),
            layers.Dense(1),
        ]
    )
    print(model.summary())
    model.compile("adamw", loss="mse", learning_rate=3e-3)
    target = ((y - centre) / spread)[:, None]
    stop = train.EarlyStopping("val_loss", patience=10)
    model.fit(
        x[held:], target[held:], batch_size=64, epochs=args.epochs, verbose=0, callbacks=[stop],
        validation_data=(x[:held], target[:held]),
    )  # fmt: skip
    score = R2Score()
    score.update(model.predict(x[:held])[:, 0] * spread + centre, y[:held])
    print(f"explained variance on {held} held-out rows: {score.compute():.4f}")
    return score.compute()


if __name__ == "__main__":
    main()
