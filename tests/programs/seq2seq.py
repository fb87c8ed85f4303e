"""A bidirectional encoder of packed sequences and a decoder with attention."""

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from harness import load, record
from torch import optim
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence, pad_sequence
from torch.utils.data import DataLoader, TensorDataset

device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
SOS, EOS, MAX = 1, 2, 8


class EncoderRNN(nn.Module):
    def __init__(self, n, h, dropout_p=0.0):
        super().__init__()
        self.embedding = nn.Embedding(n, h, padding_idx=0)
        self.gru = nn.GRU(h, h, batch_first=True, bidirectional=True)
        self.dropout = nn.Dropout(dropout_p)
        self.red = nn.Linear(2 * h, h)

    def forward(self, input, lengths):
        e = self.dropout(self.embedding(input))
        packed = pack_padded_sequence(e, lengths.cpu(), batch_first=True, enforce_sorted=False)
        out, hidden = self.gru(packed)
        out, _ = pad_packed_sequence(out, batch_first=True, total_length=input.size(1))
        hidden = torch.tanh(self.red(torch.cat([hidden[0], hidden[1]], dim=-1))).unsqueeze(0)
        return self.red(out), hidden


class BahdanauAttention(nn.Module):
    def __init__(self, h):
        super().__init__()
        self.Wa, self.Ua, self.Va = nn.Linear(h, h), nn.Linear(h, h), nn.Linear(h, 1)

    def forward(self, query, keys, mask):
        scores = self.Va(torch.tanh(self.Wa(query) + self.Ua(keys))).squeeze(2).unsqueeze(1)
        scores.masked_fill_(mask.unsqueeze(1), -1e9)
        weights = F.softmax(scores, dim=-1)
        return torch.bmm(weights, keys), weights


class AttnDecoderRNN(nn.Module):
    def __init__(self, h, n):
        super().__init__()
        self.embedding = nn.Embedding(n, h)
        self.attention = BahdanauAttention(h)
        self.gru = nn.GRU(2 * h, h, batch_first=True)
        self.out = nn.Linear(h, n)

    def forward(self, enc, hidden, mask, target=None):
        b = enc.size(0)
        inp = torch.empty(b, 1, dtype=torch.long, device=device).fill_(SOS)
        outs, atts = [], []
        for i in range(MAX):
            query = hidden.permute(1, 0, 2)
            context, w = self.attention(query, enc, mask)
            o, hidden = self.gru(torch.cat((self.embedding(inp), context), dim=2), hidden)
            o = self.out(o)
            outs.append(o)
            atts.append(w)
            if target is not None:
                inp = target[:, i].unsqueeze(1)
            else:
                _, topi = o.topk(1)
                inp = topi.squeeze(-1).detach()
        return F.log_softmax(torch.cat(outs, dim=1), dim=-1), hidden, torch.cat(atts, dim=1)


srcs = [
    torch.from_numpy(np.random.randint(3, 20, np.random.randint(3, MAX + 1))) for _ in range(64)
]
lens = torch.tensor([len(s) for s in srcs])
src = pad_sequence(srcs, batch_first=True)
tgt = F.pad(src.flip(1), (0, MAX - src.size(1)), value=0)
loader = DataLoader(TensorDataset(src, lens, tgt), batch_size=16, shuffle=False, drop_last=True)
enc, dec = load(EncoderRNN(20, 24)).to(device), load(AttnDecoderRNN(24, 20)).to(device)
eo, do = optim.Adam(enc.parameters(), lr=1e-3), optim.Adam(dec.parameters(), lr=1e-3)
crit = nn.NLLLoss(ignore_index=0)
for epoch in range(3):
    for s, l, t in loader:
        eo.zero_grad()
        do.zero_grad()
        e, h = enc(s, l)
        out, _, att = dec(e, h, s == 0, t)
        loss = crit(out.view(-1, out.size(-1)), t.reshape(-1))
        loss.backward()
        eo.step()
        do.step()
        record(loss.item())
enc.eval()
dec.eval()
with torch.inference_mode():
    out, _, att = dec(*enc(src[:2], lens[:2]), src[:2] == 0)
    _, topi = out.topk(1)
    for idx in topi.squeeze()[0]:
        if idx.item() == EOS:
            break
        record(idx.item())
    record(att.sum())
