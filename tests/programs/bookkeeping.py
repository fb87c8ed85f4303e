"""A Dataset, workers, samplers, early stopping, averaged weights, checkpoints, schedulers."""

import os
import random
import tempfile

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from harness import load, record
from torch.optim.lr_scheduler import (
    CosineAnnealingWarmRestarts,
    ExponentialLR,
    LambdaLR,
    MultiStepLR,
    ReduceLROnPlateau,
)
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import (
    DataLoader,
    Dataset,
    Subset,
    SubsetRandomSampler,
    WeightedRandomSampler,
    random_split,
)
from torch.utils.data.sampler import BatchSampler, SequentialSampler


def seed_everything(seed):
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    torch.cuda.manual_seed_all(seed)
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False
    os.environ["PYTHONHASHSEED"] = str(seed)
    torch.use_deterministic_algorithms(True)


seed_everything(42)


class ToTensor:
    def __call__(self, s):
        return {"x": torch.from_numpy(s["x"]), "y": torch.tensor(s["y"])}


class DS(Dataset):
    def __init__(self, n, transform=None):
        r = np.random.RandomState(0)
        self.x = r.randn(n, 10).astype(np.float32)
        self.y = (self.x.sum(1) > 0).astype(np.int64)
        self.transform = transform

    def __len__(self):
        return len(self.y)

    def __getitem__(self, i):
        if torch.is_tensor(i):
            i = i.tolist()
        s = {"x": self.x[i], "y": self.y[i]}
        return self.transform(s) if self.transform else s


def collate(batch):
    return torch.stack([b["x"] for b in batch]), torch.tensor([b["y"] for b in batch])


def worker_init_fn(worker_id):
    np.random.seed(np.random.get_state()[1][0] + worker_id)


ds = DS(200, ToTensor())
a, b = random_split(ds, [160, 40], generator=torch.Generator().manual_seed(42))
assert len(a) == 160
random_split(ds, [0.8, 0.2])
train_dl = DataLoader(
    Subset(ds, list(range(160))),
    batch_size=32,
    shuffle=False,
    num_workers=2,
    pin_memory=torch.cuda.is_available(),
    worker_init_fn=worker_init_fn,
    collate_fn=collate,
    persistent_workers=True,
)
val_dl = DataLoader(
    Subset(ds, range(160, 200)), batch_size=16, sampler=SequentialSampler(range(40))
)
w = 1.0 / torch.tensor([3.0, 1.0])
sw = w[torch.from_numpy(ds.y)]
next(iter(DataLoader(ds, batch_size=8, sampler=WeightedRandomSampler(sw, len(sw)))))
next(iter(DataLoader(ds, batch_sampler=BatchSampler(SubsetRandomSampler([1, 2, 3, 4]), 2, False))))


class MLP(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(10, 32, bias=False), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 2)
        )

    def forward(self, x):
        return self.layers(x)


class EarlyStopping:
    def __init__(self, patience, path):
        self.patience, self.counter, self.best, self.stop, self.path = (
            patience,
            0,
            None,
            False,
            path,
        )

    def __call__(self, val_loss, model):
        score = -val_loss
        if self.best is None or score > self.best:
            self.best = score
            torch.save(model.state_dict(), self.path)
            self.counter = 0
        else:
            self.counter += 1
            self.stop = self.counter >= self.patience


class EMA:
    def __init__(self, model, decay):
        self.decay = decay
        self.shadow = {n: p.data.clone() for n, p in model.named_parameters() if p.requires_grad}

    def update(self, model):
        for n, p in model.named_parameters():
            self.shadow[n] = ((1.0 - self.decay) * p.data + self.decay * self.shadow[n]).clone()


d = tempfile.mkdtemp()
model = load(MLP())
ema = EMA(model, 0.9)
avg = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9))
opt = torch.optim.Adam(model.parameters(), lr=1e-2)
plateau = ReduceLROnPlateau(opt, mode="min", factor=0.5, patience=1)
es = EarlyStopping(3, os.path.join(d, "best.pt"))
for epoch in range(4):
    model.train()
    running = 0.0
    for i, (x, y) in enumerate(train_dl, 0):
        opt.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        opt.step()
        ema.update(model)
        avg.update_parameters(model)
        running += loss.item() * x.size(0)
    model.eval()
    vl, correct, preds = 0.0, 0, []
    with torch.no_grad():
        for batch in val_dl:
            out = model(batch["x"])
            vl += F.cross_entropy(out, batch["y"], reduction="sum").item()
            pred = out.argmax(dim=1, keepdim=True)
            correct += pred.eq(batch["y"].view_as(pred)).sum().item()
            preds.extend(pred.cpu().numpy().ravel().tolist())
    vl /= len(val_dl.dataset)
    plateau.step(vl)
    es(vl, model)
    record(running)
    record(vl)
    record(correct)
    record(opt.param_groups[0]["lr"])
    if es.stop:
        break
record(sum(v.sum().item() for v in ema.shadow.values()))
record(avg.module.layers[0].weight.sum())
torch.save(
    {
        "epoch": epoch,
        "model_state_dict": model.state_dict(),
        "optimizer_state_dict": opt.state_dict(),
        "loss": vl,
        "args": {"lr": 1e-2},
        "sched": plateau.state_dict(),
    },
    os.path.join(d, "ck.pth"),
)
m2 = MLP()
o2 = torch.optim.Adam(m2.parameters(), lr=5.0)
ck = torch.load(os.path.join(d, "ck.pth"), map_location="cpu", weights_only=False)
m2.load_state_dict(ck["model_state_dict"], strict=True)
o2.load_state_dict(ck["optimizer_state_dict"])
m2.train()
x, y = collate([ds[i] for i in range(32)])
for k in range(3):
    o2.zero_grad()
    loss = F.cross_entropy(m2(x), y)
    loss.backward()
    o2.step()
    record(loss)
record(ck["epoch"])
missing, unexpected = m2.load_state_dict({"layers.0.weight": torch.zeros(32, 10)}, strict=False)
record("layers.3.bias" in missing)
try:
    m2.load_state_dict({"foo": torch.zeros(1)})
except RuntimeError:
    pass
m2.layers[0].weight.requires_grad_(False)
torch.save(m2.state_dict(), d + "/x.pt")
for s in (
    LambdaLR(o2, lambda e: 0.9**e),
    CosineAnnealingWarmRestarts(o2, 5),
    MultiStepLR(o2, [2, 4]),
    ExponentialLR(o2, 0.9),
):
    s.step()
    record(o2.param_groups[0]["lr"])
