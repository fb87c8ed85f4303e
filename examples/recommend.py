"""Recommend: ratings of items by users, predicted from an embedding of each.

    python examples/recommend.py --csv FILE      columns user, item, rating (numbers), in any order
    python examples/recommend.py                 made-up ratings

Reports the root of the mean squared error on a tenth of the ratings that training does not see,
beside that of the mean of each user and item.
"""

import argparse

import numpy as np

import monograph as mg
from monograph import nn, optim, train
from monograph.data import CSVDataset, DataLoader, TensorDataset


def made_up(users=600, items=400, ratings=60000, factors=6):
    """(user, item, rating): tastes of a few factors, some users and items above others, noise."""
    rng = np.random.default_rng(0)
    tastes, traits = rng.normal(size=(users, factors)), rng.normal(size=(items, factors))
    kind, fame = rng.normal(0, 0.4, users), rng.normal(0, 0.5, items)
    user = rng.integers(0, users, ratings)
    item = (rng.beta(1, 2, ratings) * items).astype(np.int64)  # some are rated more often
    liked = (tastes[user] * traits[item]).sum(1) / np.sqrt(factors)
    stars = 3 + kind[user] + fame[item] + 0.8 * liked + rng.normal(0, 0.3, ratings)
    return user, item, np.clip(stars, 1, 5).astype(np.float32)


def read(path):
    table = CSVDataset(path, target="rating").columns
    user, item = (np.unique(table[name], return_inverse=True)[1] for name in ("user", "item"))
    return user, item, table["rating"].astype(np.float32)


def baseline(user, item, rating, held):
    """The error of the overall mean plus what each user and item is above it."""
    known = slice(held, None)
    mean = rating[known].mean()
    above = {}
    for name, who in (("user", user), ("item", item)):
        count = np.bincount(who[known], minlength=who.max() + 1)
        rest = rating[known] - mean - (above["user"][user[known]] if above else 0)
        above[name] = np.bincount(who[known], rest, minlength=who.max() + 1) / (count + 5)
    found = mean + above["user"][user[:held]] + above["item"][item[:held]]
    return float(np.sqrt(((found - rating[:held]) ** 2).mean()))


class Recommender(train.TrainModule):
    """mean + user's bias + item's bias + <user, item>, and a small network beside it."""

    def __init__(self, users, items, mean, width=24, lr=3e-3, total_steps=1000):
        super().__init__()
        self.save_hyperparameters()
        self.mean = mean
        self.user, self.item = nn.Embedding(users, width + 1), nn.Embedding(items, width + 1)
        for table in (self.user, self.item):
            nn.init.normal_(table.weight, std=0.1)
        self.deep = nn.Sequential(
            nn.Linear(2 * width, 32), nn.ReLU(), nn.Dropout(0.3), nn.Linear(32, 1)
        )

    def forward(self, user, item):
        u, i = self.user(user), self.item(item)
        wide = (u[:, 1:] * i[:, 1:]).sum(1)
        deep = self.deep(mg.cat([u[:, 1:], i[:, 1:]], 1)).squeeze(1)
        return self.mean + u[:, 0] + i[:, 0] + wide + deep

    def training_step(self, batch, batch_idx):
        user, item, rating = batch
        loss = ((self(user, item) - rating) ** 2).mean()
        self.log("train_mse", loss, prog_bar=True)
        return loss

    def validation_step(self, batch, batch_idx):
        user, item, rating = batch
        self.log("val_mse", ((self(user, item) - rating) ** 2).mean(), prog_bar=True)

    def configure_optimizers(self):
        optimizer = optim.AdamW(self.parameters(), lr=self.hparams["lr"], weight_decay=0.3)
        schedule = optim.lr_scheduler.CosineAnnealingLR(optimizer, self.hparams["total_steps"])
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def main(words=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--csv")
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--batch-size", type=int, default=256)
    args = parser.parse_args(words)

    train.seed_everything(0)
    user, item, rating = read(args.csv) if args.csv else made_up()
    order = np.random.permutation(len(rating))
    user, item, rating = user[order], item[order], rating[order]
    held = len(rating) // 10
    sets = [
        TensorDataset(*(mg.from_numpy(np.ascontiguousarray(x[part])) for x in (user, item, rating)))
        for part in (slice(held, None), slice(held))
    ]
    loaders = [DataLoader(s, args.batch_size, shuffle=s is sets[0]) for s in sets]
    steps = args.epochs * len(loaders[0])
    model = Recommender(
        user.max() + 1, item.max() + 1, float(rating[held:].mean()), total_steps=steps
    )
    trainer = train.Trainer(max_epochs=args.epochs)
    trainer.fit(model, *loaders)
    error, simple = trainer.callback_metrics["val_mse"] ** 0.5, baseline(user, item, rating, held)
    print(f"error on {held} held-out ratings: {error:.4f}; means alone: {simple:.4f}")
    return error / simple


if __name__ == "__main__":
    main()
