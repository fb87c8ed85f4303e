"""A training program to be killed and started again; test_killed.py runs it.

python killed.py DIRECTORY WORKERS      prints the weights' digest and the metrics when done
"""

import hashlib
import random
import sys
import time

import numpy as np

from monograph import nn, optim, train
from monograph.data import DataLoader, Dataset
from monograph.metrics import MeanSquaredError


class Noisy(Dataset):
    """Samples with augmentation from every generator there is."""

    def __len__(self):
        return 48

    def __getitem__(self, index):
        x = np.random.normal(index, 1.0, 4).astype(np.float32)
        return x * np.float32(random.random()), np.float32([index / 48])


class Model(train.TrainModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.2), nn.Linear(8, 1)
        )
        self.error = MeanSquaredError()

    def training_step(self, batch, batch_idx):
        loss = ((self.net(batch[0]) - batch[1]) ** 2).mean()
        self.log("loss", loss, on_step=True, on_epoch=True)
        return loss

    def on_train_batch_end(self, outputs, batch, batch_idx):
        time.sleep(0.01)  # so that most of the time there is something to interrupt
        self.error.update([float(outputs)], [0.0])
        self.log("error", self.error)

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", ((self.net(batch[0]) - batch[1]) ** 2).mean())

    def configure_optimizers(self):
        optimizer = optim.AdamW(self.parameters(), lr=0.01)
        schedule = optim.lr_scheduler.OneCycleLR(optimizer, 0.01, total_steps=50)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def main(directory, workers):
    train.seed_everything(1)
    model = Model()
    callbacks = [
        train.ModelCheckpoint(directory, every_n_train_steps=2, save_top_k=2, monitor="loss_step"),
        train.ModelCheckpoint(directory, save_top_k=0, save_last=True, every_n_train_steps=1),
        train.EarlyStopping("val_loss", patience=50),
    ]
    trainer = train.Trainer(
        max_epochs=4,
        accumulate_grad_batches=2,
        val_check_interval=3,
        callbacks=callbacks,
        enable_progress_bar=False,
    )
    data = DataLoader(Noisy(), batch_size=4, shuffle=True, num_workers=workers)
    checks = DataLoader(Noisy(), batch_size=12, num_workers=workers)
    print("ready", flush=True)
    trainer.fit(model, data, checks, ckpt_path="last")
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(name.encode() + value.numpy().tobytes())
    metrics = sorted(trainer.callback_metrics.items())
    print(digest.hexdigest(), metrics, trainer.global_step, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
