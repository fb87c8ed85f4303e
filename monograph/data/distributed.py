"""DistributedSampler: each of several processes draws its own share of the same order."""

import math

from monograph.core.errors import ArgumentError

from .randomness import Stream
from .sampler import Sampler, check_bool, check_positive


class DistributedSampler(Sampler):
    """Every `num_replicas`-th index of one order, beginning with `rank`.

    drop_last  leave out what does not fill all shares; otherwise the order is continued from its
               beginning, so that all shares are of one length
    seed       with `set_epoch` it decides the order, the same in all processes

    ArgumentError without num_replicas and rank: this process knows of no others.

    >>> list(DistributedSampler(range(5), num_replicas=2, rank=1, shuffle=False))
    [1, 3, 0]
    """

    def __init__(
        self, dataset, num_replicas=None, rank=None, shuffle=True, seed=0, drop_last=False
    ):
        if num_replicas is None or rank is None:
            raise ArgumentError(
                "DistributedSampler: needs num_replicas and rank; this process knows of no others",
                hint="in a program for one process, shuffle=True in the DataLoader does it",
            )
        self.num_replicas = check_positive("DistributedSampler", "num_replicas", num_replicas)
        if not 0 <= rank < num_replicas:
            raise ArgumentError(
                f"DistributedSampler: rank must be from 0 to {num_replicas - 1}, got {rank}"
            )
        self.dataset, self.rank, self.seed, self.epoch = dataset, rank, seed, 0
        self.shuffle = check_bool("DistributedSampler", "shuffle", shuffle)
        self.drop_last = check_bool("DistributedSampler", "drop_last", drop_last)
        count = len(dataset)
        self.num_samples = (count // num_replicas) if drop_last else -(-count // num_replicas)
        self.total_size = self.num_samples * num_replicas

    def __iter__(self):
        count = len(self.dataset)
        order = (
            Stream(self.seed + self.epoch).permutation(count).tolist()
            if self.shuffle
            else [*range(count)]
        )
        order = (order * math.ceil(self.total_size / max(count, 1)))[: self.total_size]
        return iter(order[self.rank :: self.num_replicas])

    def __len__(self):
        return self.num_samples

    def set_epoch(self, epoch):
        """Take another order: call it before each epoch."""
        self.epoch = epoch
