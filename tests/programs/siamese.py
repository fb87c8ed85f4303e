"""A siamese network with triplet, contrastive and cosine losses."""

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from harness import compiled, load, noise, record
from torch.optim.lr_scheduler import StepLR


class EmbeddingNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.convnet = nn.Sequential(
            nn.Conv2d(1, 8, 5),
            nn.PReLU(),
            nn.MaxPool2d(2, stride=2),
            nn.Conv2d(8, 16, 5),
            nn.PReLU(),
            nn.MaxPool2d(2, stride=2),
        )
        self.fc = nn.Sequential(nn.Linear(16 * 4 * 4, 64), nn.PReLU(), nn.Linear(64, 8))

    def forward(self, x):
        output = self.convnet(x)
        output = output.view(output.size()[0], -1)
        return self.fc(output)

    def get_embedding(self, x):
        return self.forward(x)


class TripletNet(nn.Module):
    def __init__(self, e):
        super().__init__()
        self.embedding_net = e

    def forward(self, x1, x2, x3):
        return self.embedding_net(x1), self.embedding_net(x2), self.embedding_net(x3)


class ContrastiveLoss(nn.Module):
    def __init__(self, margin):
        super().__init__()
        self.margin = margin
        self.eps = 1e-9

    def forward(self, o1, o2, target):
        d = (o2 - o1).pow(2).sum(1)
        losses = 0.5 * (
            target.float() * d
            + (1 + -1 * target).float() * F.relu(self.margin - (d + self.eps).sqrt()).pow(2)
        )
        return losses.mean()


def pdist(v):
    return -2 * v.mm(torch.t(v)) + v.pow(2).sum(dim=1).view(1, -1) + v.pow(2).sum(dim=1).view(-1, 1)


net = TripletNet(EmbeddingNet())
load(net)
opt = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9, nesterov=True, weight_decay=1e-4)
sched = StepLR(opt, 8, gamma=0.1, last_epoch=-1)
crit, crit2 = nn.TripletMarginLoss(margin=1.0, p=2), ContrastiveLoss(1.0)
crit3 = nn.TripletMarginWithDistanceLoss(distance_function=nn.PairwiseDistance())
crit4 = nn.CosineEmbeddingLoss(margin=0.2)


@compiled
def step(a, p, n):
    opt.zero_grad()
    ea, ep, en = net(a, p, n)
    t = torch.from_numpy(np.array([0, 1] * 4))
    loss = (
        crit(ea, ep, en)
        + 0.1 * crit2(ea, en, t)
        + 0.1 * crit3(ea, ep, en)
        + crit4(ea, en, 2 * t - 1)
    )
    loss.backward()
    opt.step()
    return loss, pdist(ea).detach()


for i in range(12):
    loss, d = step(noise(8, 1, 28, 28), noise(8, 1, 28, 28), noise(8, 1, 28, 28))
    sched.step()
    record(loss)
    record(d.max())
    record(sched.get_last_lr()[0])
    pos = torch.cdist(d, d).argmin(dim=1)
    assert pos.shape == (8,)
