"""Super-resolution, LBFGS on sine waves, forecasting."""

from math import log10

import numpy as np
import torch
import torch.nn as nn
import torch.nn.init as init
import torch.optim as optim
from harness import compiled, load, noise, record


class Net(nn.Module):
    def __init__(self, upscale_factor):
        super().__init__()
        self.relu = nn.ReLU()
        self.conv1 = nn.Conv2d(1, 16, (5, 5), (1, 1), (2, 2))
        self.conv2 = nn.Conv2d(16, 16, (3, 3), (1, 1), (1, 1))
        self.conv4 = nn.Conv2d(16, upscale_factor**2, (3, 3), (1, 1), (1, 1))
        self.pixel_shuffle = nn.PixelShuffle(upscale_factor)
        self._initialize_weights()

    def forward(self, x):
        return self.pixel_shuffle(self.conv4(self.relu(self.conv2(self.relu(self.conv1(x))))))

    def _initialize_weights(self):
        init.orthogonal_(self.conv1.weight, init.calculate_gain("relu"))
        init.orthogonal_(self.conv2.weight, init.calculate_gain("relu"))
        init.orthogonal_(self.conv4.weight)


model = load(Net(upscale_factor=3))
crit = nn.MSELoss()
opt = optim.Adam(model.parameters(), lr=0.001)


@compiled
def sr(x, y):
    opt.zero_grad()
    loss = crit(model(x), y)
    loss.backward()
    opt.step()
    return loss


for i in range(10):
    y = noise(4, 1, 24, 24)
    x = nn.functional.interpolate(y, scale_factor=1 / 3, mode="bicubic", align_corners=False)
    l = sr(x, y)
    record(l)
    record(10 * log10(1 / l.item()))


# sine
class Sequence(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm1 = nn.LSTMCell(1, 21)
        self.lstm2 = nn.LSTMCell(21, 21)
        self.linear = nn.Linear(21, 1)

    def forward(self, input, future=0):
        outputs = []
        h_t = torch.zeros(input.size(0), 21, dtype=torch.double)
        c_t = torch.zeros(input.size(0), 21, dtype=torch.double)
        h_t2 = torch.zeros(input.size(0), 21, dtype=torch.double)
        c_t2 = torch.zeros(input.size(0), 21, dtype=torch.double)
        for input_t in input.split(1, dim=1):
            h_t, c_t = self.lstm1(input_t, (h_t, c_t))
            h_t2, c_t2 = self.lstm2(h_t, (h_t2, c_t2))
            output = self.linear(h_t2)
            outputs += [output]
        for i in range(future):
            h_t, c_t = self.lstm1(output, (h_t, c_t))
            h_t2, c_t2 = self.lstm2(h_t, (h_t2, c_t2))
            output = self.linear(h_t2)
            outputs += [output]
        return torch.cat(outputs, dim=1)


data = np.sin((np.arange(30)[None] + np.random.randint(-80, 80, (6, 1))) / 2.0).astype("float64")
inp, target = torch.from_numpy(data[3:, :-1]), torch.from_numpy(data[3:, 1:])
seq = Sequence()
seq.double()
load(seq)
o = optim.LBFGS(seq.parameters(), lr=0.8, max_iter=4)
for i in range(3):

    def closure():
        o.zero_grad()
        out = seq(inp)
        loss = crit(out, target)
        loss.backward()
        record(loss.item())
        return loss

    o.step(closure)
with torch.no_grad():
    pred = seq(torch.from_numpy(data[:3, :-1]), future=5)
    y = pred.detach().numpy()
    record(y[0, -1])
# forecasting
series = torch.sin(torch.arange(0, 120, dtype=torch.float32) * 0.3) + 0.1 * noise(120)
win = series.unfold(0, 13, 1)
X, Y = win[:, :12].unsqueeze(-1), win[:, 12:]
mean, std = X.mean(), X.std(unbiased=False)
X = (X - mean) / std


class F1(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(1, 16, num_layers=1, batch_first=True)
        self.head = nn.Linear(16, 1)
        self.tcn = nn.Conv1d(1, 4, 3, padding="same", dilation=2)

    def forward(self, x):
        out, (h, c) = self.lstm(x)
        t = self.tcn(x.transpose(1, 2)).mean(dim=(1, 2))
        return self.head(out[:, -1, :]) + t[:, None]


m = load(F1())
op = optim.RMSprop(m.parameters(), lr=1e-2)
sch = optim.lr_scheduler.OneCycleLR(op, max_lr=1e-2, total_steps=15)
best, patience = float("inf"), 0
hub = nn.HuberLoss()
for e in range(15):
    l = hub(m(X), Y)
    op.zero_grad()
    l.backward()
    op.step()
    sch.step()
    record(l)
    record(op.param_groups[0]["lr"])
    if l < best:
        best = l.item()
        patience = 0
    else:
        patience += 1
