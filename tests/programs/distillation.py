"""A vision transformer, distilled into a MobileNet-like student, with hooks."""

from collections import OrderedDict

import torch
import torch.nn as nn
import torch.nn.functional as F
from harness import compiled, load, noise, record
from torch import Tensor


class ViT(nn.Module):
    def __init__(self, img=16, p=4, d=32, depth=2, heads=4, n=10):
        super().__init__()
        self.patch = nn.Conv2d(3, d, kernel_size=p, stride=p)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, d))
        self.pos = nn.Parameter(torch.randn(1, (img // p) ** 2 + 1, d) * 0.02)
        layer = nn.TransformerEncoderLayer(
            d,
            heads,
            dim_feedforward=64,
            dropout=0.0,
            activation="gelu",
            batch_first=True,
            norm_first=True,
        )
        self.encoder = nn.TransformerEncoder(layer, num_layers=depth, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(d)
        self.head = nn.Linear(d, n)
        nn.init.trunc_normal_(self.cls_token, std=0.02)

    def forward(self, x):
        B = x.shape[0]
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat((self.cls_token.expand(B, -1, -1), x), dim=1) + self.pos
        return self.head(self.norm(self.encoder(x))[:, 0])


def _make_divisible(v, d=8):
    return max(d, int(v + d / 2) // d * d)


class ConvBNReLU(nn.Sequential):
    def __init__(self, i, o, k=3, s=1, groups=1):
        super().__init__(
            nn.Conv2d(i, o, k, s, (k - 1) // 2, groups=groups, bias=False),
            nn.BatchNorm2d(o),
            nn.ReLU6(inplace=True),
        )


class InvertedResidual(nn.Module):
    def __init__(self, inp, oup, stride, expand_ratio):
        super().__init__()
        self.stride = stride
        assert stride in [1, 2]
        h = int(round(inp * expand_ratio))
        self.use_res_connect = stride == 1 and inp == oup
        layers: list[nn.Module] = []
        if expand_ratio != 1:
            layers.append(ConvBNReLU(inp, h, k=1))
        layers.extend(
            [
                ConvBNReLU(h, h, s=stride, groups=h),
                nn.Conv2d(h, oup, 1, 1, 0, bias=False),
                nn.BatchNorm2d(oup),
            ]
        )
        self.conv = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.use_res_connect else self.conv(x)


class SE(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.fc = nn.Sequential(
            nn.Linear(c, c // 4), nn.ReLU(), nn.Linear(c // 4, c), nn.Hardsigmoid()
        )

    def forward(self, x):
        b, c, _, _ = x.size()
        y = F.adaptive_avg_pool2d(x, 1).view(b, c)
        return x * self.fc(y).view(b, c, 1, 1).expand_as(x)


class Mobile(nn.Module):
    def __init__(self, n=10):
        super().__init__()
        self.features = nn.Sequential(
            OrderedDict(
                [
                    ("stem", ConvBNReLU(3, 8, s=2)),
                    ("b1", InvertedResidual(8, 8, 1, 1)),
                    ("b2", InvertedResidual(8, 16, 2, 4)),
                    ("se", SE(16)),
                    ("b3", InvertedResidual(16, 16, 1, 4)),
                ]
            )
        )
        self.classifier = nn.Sequential(nn.Dropout(0.0), nn.Linear(16, n))
        for m in self.modules():
            if isinstance(m, nn.Conv2d):
                nn.init.kaiming_normal_(m.weight, mode="fan_out", nonlinearity="relu")
                if m.bias is not None:
                    nn.init.zeros_(m.bias)
            elif isinstance(m, (nn.BatchNorm2d, nn.GroupNorm)):
                nn.init.ones_(m.weight)
                nn.init.zeros_(m.bias)

    def forward(self, x):
        return self.classifier(torch.flatten(self.features(x).mean([2, 3]), 1))


import numpy as np

teacher, student = load(ViT()), load(Mobile())
opt_t = torch.optim.AdamW(teacher.parameters(), lr=1e-3, weight_decay=0.05)
sched = torch.optim.lr_scheduler.SequentialLR(
    opt_t,
    [
        torch.optim.lr_scheduler.LinearLR(opt_t, 0.1, total_iters=3),
        torch.optim.lr_scheduler.CosineAnnealingLR(opt_t, T_max=7),
    ],
    milestones=[3],
)
ce = nn.CrossEntropyLoss(label_smoothing=0.1)


@compiled
def tstep(x, y):
    opt_t.zero_grad(set_to_none=True)
    l = ce(teacher(x), y)
    l.backward()
    opt_t.step()
    return l


X = [noise(16, 3, 16, 16) for _ in range(10)]
Y = [torch.from_numpy(np.random.randint(0, 10, 16)) for _ in range(10)]
for x, y in zip(X, Y):
    record(tstep(x, y))
    sched.step()
    record(opt_t.param_groups[0]["lr"])
for p in teacher.parameters():
    p.requires_grad = False
teacher.eval()
feats = {}


def get(name):
    def hook(model, input, output):
        feats[name] = output.detach()

    return hook


h = teacher.norm.register_forward_hook(get("norm"))
grads = {}
student.classifier.register_full_backward_hook(
    lambda m, gi, go: grads.__setitem__("c", go[0].norm().detach())
)
opt = torch.optim.SGD(
    [
        {"params": student.features.parameters()},
        {"params": student.classifier.parameters(), "lr": 0.05},
    ],
    lr=0.02,
    momentum=0.9,
)
T = 4.0
for x, y in zip(X, Y):
    with torch.no_grad():
        tl = teacher(x)
    sl = student(x)
    soft = nn.KLDivLoss(reduction="batchmean")(
        F.log_softmax(sl / T, dim=1), F.softmax(tl / T, dim=1)
    ) * (T * T)
    loss = 0.7 * soft + 0.3 * F.cross_entropy(sl, y)
    opt.zero_grad()
    loss.backward()
    opt.step()
    record(loss.item())
    record(feats["norm"].abs().mean())
    record(grads["c"])
h.remove()
student.eval()
with torch.no_grad():
    logits = student(X[0])
    probs, labels = torch.max(logits.softmax(-1), 1)
    correct = (labels == Y[0]).sum().item()
    record(correct)
    record(probs.sum())
    values, pred = logits.topk(3, 1, True, True)
    pred = pred.t()
    c = pred.eq(Y[0].view(1, -1).expand_as(pred))
    record(c[:3].reshape(-1).float().sum(0, keepdim=True).mul_(100.0 / 16))
n = sum(p.numel() for p in student.parameters() if p.requires_grad)
record(n)
str(student)
record(len(list(student.children())))
