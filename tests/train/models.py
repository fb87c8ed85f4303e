"""Small models and data that the tests of train/ share."""

import monograph as mg
from monograph import nn, optim
from monograph.data import DataLoader, TensorDataset
from monograph.train import Trainer, TrainModule


class Regression(TrainModule):
    """A two-layer network with dropout, so that random numbers matter; logs its losses."""

    def __init__(self, rate=0.01, dropout=0.2, optimizer="Adam", schedule=None):
        super().__init__()
        self.save_hyperparameters(ignore="schedule")
        self.net = nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Dropout(dropout), nn.Linear(16, 1))
        self.rate, self.optimizer, self.schedule = rate, optimizer, schedule

    def loss(self, batch):
        x, y = batch
        return ((self.net(x) - y) ** 2).mean()

    def training_step(self, batch, batch_idx):
        loss = self.loss(batch)
        self.log("train_loss", loss, on_step=True, on_epoch=True)
        return loss

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", self.loss(batch), prog_bar=True)

    def test_step(self, batch, batch_idx):
        self.log("test_loss", self.loss(batch))

    def predict_step(self, batch, batch_idx):
        return self.net(batch[0])

    def configure_optimizers(self):
        optimizer = getattr(optim, self.optimizer)(self.parameters(), lr=self.rate)
        if self.schedule is None:
            return optimizer
        return {"optimizer": optimizer, "lr_scheduler": self.schedule(optimizer)}


def dataset(samples=40):
    g = mg.Generator().manual_seed(7)
    x = mg.randn(samples, 4, generator=g)
    return TensorDataset(x, (x * x).sum(1, keepdim=True))


def loader(samples=40, batch_size=8, shuffle=False):
    return DataLoader(dataset(samples), batch_size=batch_size, shuffle=shuffle)


def quiet(**options):
    """A Trainer without a progress bar."""
    return Trainer(enable_progress_bar=False, **options)


def weights(model):
    return {name: value.numpy().copy() for name, value in model.state_dict().items()}


def same(a, b):
    return a.keys() == b.keys() and all((a[k] == b[k]).all() for k in a)
