"""LSTM, GRU and RNN language models with truncated backpropagation through time."""

import math

import torch
import torch.nn as nn
import torch.nn.functional as F
from harness import compiled, load, record


class RNNModel(nn.Module):
    def __init__(self, rnn_type, ntoken, ninp, nhid, nlayers, dropout=0.0, tie_weights=True):
        super().__init__()
        self.ntoken = ntoken
        self.drop = nn.Dropout(dropout)
        self.encoder = nn.Embedding(ntoken, ninp)
        if rnn_type in ["LSTM", "GRU"]:
            self.rnn = getattr(nn, rnn_type)(ninp, nhid, nlayers, dropout=dropout)
        else:
            self.rnn = nn.RNN(ninp, nhid, nlayers, nonlinearity="tanh", dropout=dropout)
        self.decoder = nn.Linear(nhid, ntoken)
        if tie_weights:
            self.decoder.weight = self.encoder.weight
        nn.init.uniform_(self.encoder.weight, -0.1, 0.1)
        nn.init.zeros_(self.decoder.bias)
        self.rnn_type, self.nhid, self.nlayers = rnn_type, nhid, nlayers

    def forward(self, input, hidden):
        emb = self.drop(self.encoder(input))
        self.rnn.flatten_parameters()
        output, hidden = self.rnn(emb, hidden)
        decoded = self.decoder(self.drop(output)).view(-1, self.ntoken)
        return F.log_softmax(decoded, dim=1), hidden

    def init_hidden(self, bsz):
        weight = next(self.parameters())
        if self.rnn_type == "LSTM":
            return (
                weight.new_zeros(self.nlayers, bsz, self.nhid),
                weight.new_zeros(self.nlayers, bsz, self.nhid),
            )
        return weight.new_zeros(self.nlayers, bsz, self.nhid)


def repackage_hidden(h):
    if isinstance(h, torch.Tensor):
        return h.detach()
    return tuple(repackage_hidden(v) for v in h)


def batchify(data, bsz):
    nbatch = data.size(0) // bsz
    data = data.narrow(0, 0, nbatch * bsz)
    return data.view(bsz, -1).t().contiguous()


import numpy as np

corpus = torch.from_numpy(np.random.randint(0, 50, 1000)).long()
train_data = batchify(corpus, 4)
for kind in ["LSTM", "GRU", "RNN_TANH"]:
    model = load(RNNModel(kind, 50, 32, 32, 2))
    criterion = nn.NLLLoss()
    hidden = model.init_hidden(4)
    lr = 1.0

    def step(data, targets, hidden):
        model.zero_grad()
        output, hidden = model(data, repackage_hidden(hidden))
        loss = criterion(output, targets)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.25)
        with torch.no_grad():
            for p in model.parameters():
                p.data.add_(p.grad, alpha=-lr)
        return loss, hidden

    f = compiled(step)
    for batch, i in enumerate(range(0, train_data.size(0) - 1, 25)):
        seq_len = min(25, len(train_data) - 1 - i)
        data, target = train_data[i : i + seq_len], train_data[i + 1 : i + 1 + seq_len].view(-1)
        loss, hidden = f(data, target, hidden)
        record(loss.item())
        record(math.exp(loss.item()))
