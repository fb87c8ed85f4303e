"""AdaptiveLogSoftmaxWithLoss: a softmax over very many classes, most of which are rare."""

from typing import NamedTuple

import monograph as mg
from monograph.core.errors import ArgumentError, ShapeError
from monograph.nn import functional as F
from monograph.nn.containers import ModuleList, Sequential
from monograph.nn.linear import Linear
from monograph.nn.module import Module
from monograph.tensor import Tensor


class ASMoutput(NamedTuple):
    """output: the log-probability of each target (N,); loss: minus their mean."""

    output: Tensor
    loss: Tensor


class AdaptiveLogSoftmaxWithLoss(Module):
    """Log-probabilities of classes in clusters: the frequent ones first, rare ones with less width.

    cutoffs    class numbers at which clusters begin, increasing; the classes below the first stand
               in the head, each other cluster is one entry of the head
    div_value  cluster i has width in_features / div_value**(i + 1)
    head_bias  whether the head has a bias

    input (N, in_features) or (in_features,), target (N,) or (): returns (output, loss).
    Source: Grave and others, Efficient softmax approximation for GPUs, 2016.
    """

    def __init__(
        self, in_features, n_classes, cutoffs, div_value=4.0, head_bias=False, device=None,
        dtype=None,
    ):  # fmt: skip
        super().__init__()
        cutoffs = list(cutoffs)
        if (
            not cutoffs
            or cutoffs != sorted(set(cutoffs))
            or any(int(c) != c or not 0 < c < n_classes for c in cutoffs)
        ):
            raise ArgumentError(
                "AdaptiveLogSoftmaxWithLoss: cutoffs must be increasing whole numbers in "
                f"[1, {n_classes - 1}], got {cutoffs}"
            )
        self.in_features = in_features
        self.n_classes = n_classes
        self.cutoffs = [*cutoffs, n_classes]
        self.div_value = div_value
        self.head_bias = head_bias
        self.shortlist_size = cutoffs[0]
        self.n_clusters = len(cutoffs)
        self.head_size = self.shortlist_size + self.n_clusters
        where = {"device": device, "dtype": dtype}
        self.head = Linear(in_features, self.head_size, bias=head_bias, **where)
        self.tail = ModuleList()
        for i in range(self.n_clusters):
            width = int(in_features // div_value ** (i + 1))
            size = self.cutoffs[i + 1] - self.cutoffs[i]
            self.tail.append(
                Sequential(
                    Linear(in_features, width, bias=False, **where),
                    Linear(width, size, bias=False, **where),
                )
            )

    def reset_parameters(self):
        """Draw all weights anew."""
        self.head.reset_parameters()
        for first, second in self.tail:
            first.reset_parameters()
            second.reset_parameters()

    def forward(self, input, target):
        if input.ndim - 1 != target.ndim or input.ndim not in (1, 2):
            raise ShapeError(
                "AdaptiveLogSoftmaxWithLoss: input (N, D) needs targets (N,), input (D,) one of "
                f"(); got {tuple(input.shape)} and {tuple(target.shape)}"
            )
        rows = input.reshape(-1, input.shape[-1])
        labels = target.reshape(-1)
        head = F.log_softmax(self.head(rows), 1)
        place = mg.where(labels < self.shortlist_size, labels, 0)
        place = mg.where(labels < self.n_classes, place, -1)  # which gather refuses
        output = head.gather(1, place.unsqueeze(1)).squeeze(1)
        for i, tail in enumerate(self.tail):
            low, high = self.cutoffs[i], self.cutoffs[i + 1]
            inside = (labels >= low) & (labels < high)
            place = mg.where(inside, labels - low, 0)
            found = F.log_softmax(tail(rows), 1).gather(1, place.unsqueeze(1)).squeeze(1)
            output = mg.where(inside, head[:, self.shortlist_size + i] + found, output)
        return ASMoutput(output.reshape(target.shape), -output.mean())

    def log_prob(self, input):
        """Log-probabilities of all classes, (N, n_classes)."""
        head = F.log_softmax(self.head(input), 1)
        parts = [head[:, : self.shortlist_size]]
        for i, tail in enumerate(self.tail):
            entry = head[:, self.shortlist_size + i].unsqueeze(1)
            parts.append(F.log_softmax(tail(input), 1) + entry)
        return mg.cat(parts, 1)

    def predict(self, input):
        """The most probable class of each row, (N,)."""
        return self.log_prob(input).argmax(1)
