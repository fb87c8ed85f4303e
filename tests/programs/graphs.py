"""Graph convolution and graph attention with index_add and scatter."""

import math

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from harness import compiled, load, noise, record
from torch.nn.modules.module import Module
from torch.nn.parameter import Parameter


class GraphConvolution(Module):
    def __init__(self, i, o, bias=True):
        super().__init__()
        self.weight = Parameter(torch.FloatTensor(i, o))
        if bias:
            self.bias = Parameter(torch.FloatTensor(o))
        else:
            self.register_parameter("bias", None)
        self.reset_parameters()

    def reset_parameters(self):
        stdv = 1.0 / math.sqrt(self.weight.size(1))
        self.weight.data.uniform_(-stdv, stdv)
        if self.bias is not None:
            self.bias.data.uniform_(-stdv, stdv)

    def forward(self, input, edge, norm):
        support = torch.mm(input, self.weight)
        out = torch.zeros_like(support).index_add_(
            0, edge[1], support[edge[0]] * norm.unsqueeze(-1)
        )
        return out + self.bias if self.bias is not None else out

    def __repr__(self):
        return self.__class__.__name__ + str(self.weight.shape)


class GATLayer(nn.Module):
    def __init__(self, i, o, heads):
        super().__init__()
        self.lin = nn.Linear(i, heads * o, bias=False)
        self.a_src = nn.Parameter(torch.empty(1, heads, o))
        self.a_dst = nn.Parameter(torch.empty(1, heads, o))
        nn.init.xavier_uniform_(self.lin.weight, gain=nn.init.calculate_gain("relu"))
        nn.init.xavier_uniform_(self.a_src)
        nn.init.xavier_uniform_(self.a_dst)
        self.heads, self.o = heads, o

    def forward(self, x, edge):
        n = x.size(0)
        h = self.lin(x).view(n, self.heads, self.o)
        src, dst = edge
        e = F.leaky_relu((h * self.a_src).sum(-1)[src] + (h * self.a_dst).sum(-1)[dst], 0.2)
        m = torch.full((n, self.heads), float("-inf")).scatter_reduce(
            0, dst[:, None].expand_as(e), e, reduce="amax", include_self=True
        )
        e = (e - m[dst]).exp()
        s = torch.zeros(n, self.heads).scatter_add_(0, dst.unsqueeze(1).expand(-1, self.heads), e)
        a = e / (s[dst] + 1e-16)
        out = torch.zeros(n, self.heads, self.o)
        out = out.index_add(0, dst, h[src] * a.unsqueeze(-1))
        return F.elu(out.flatten(1))


class Net(nn.Module):
    def __init__(self, f, h, c):
        super().__init__()
        self.gc1 = GraphConvolution(f, h)
        self.gat = GATLayer(h, 8, 4)
        self.gc2 = GraphConvolution(32, c)

    def forward(self, x, edge, norm):
        x = F.relu(self.gc1(x, edge, norm))
        x = F.dropout(x, 0.0, training=self.training)
        x = self.gat(x, edge)
        return F.log_softmax(self.gc2(x, edge, norm), dim=1)


n = 200
src = np.random.randint(0, n, 800)
dst = np.random.randint(0, n, 800)
edge = torch.LongTensor(
    np.stack([np.concatenate([src, np.arange(n)]), np.concatenate([dst, np.arange(n)])])
)
deg = torch.bincount(edge[1], minlength=n).float()
dinv = deg.pow(-0.5)
dinv[torch.isinf(dinv)] = 0.0
norm = dinv[edge[0]] * dinv[edge[1]]
x = noise(n, 32)
y = torch.from_numpy(np.random.randint(0, 5, n))
mask = torch.zeros(n, dtype=torch.bool)
mask[torch.arange(0, n, 2)] = True
idx_train = torch.nonzero(mask).squeeze()
model = load(Net(32, 16, 5))
opt = torch.optim.Adam(model.parameters(), lr=0.01, weight_decay=5e-4)


def accuracy(output, labels):
    preds = output.max(1)[1].type_as(labels)
    correct = preds.eq(labels).double()
    return correct.sum() / len(labels)


@compiled
def step():
    model.train()
    opt.zero_grad()
    out = model(x, edge, norm)
    loss = F.nll_loss(out[idx_train], y[idx_train])
    acc = accuracy(out[idx_train], y[idx_train])
    loss.backward()
    opt.step()
    return loss, acc


for e in range(20):
    l, a = step()
    record(l.item())
    record(a.item())
model.eval()
out = model(x, edge, norm)
record(F.nll_loss(out[~mask], y[~mask]))
