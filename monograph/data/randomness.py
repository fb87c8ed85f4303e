"""Random draws of samplers and splits: one seed from a generator, then a Philox stream.

Orders are sorted raw Philox words rather than `numpy.random.Generator.permutation`, whose results
may change from one NumPy version to the next: a seed gives one order everywhere.
Relies on NumPy and on the public random state of monograph. Read next: sampler.py.
"""

from __future__ import annotations

import random

import numpy as np

import monograph as mg

from ..core.errors import ArgumentTypeError

_WORD = 2**64 - 1


def draw_seed(generator=None) -> int:
    """Draw a number in [0, 2**63) from a generator; None is what `mg.manual_seed` seeds.

    generator   None, a monograph.Generator or a numpy.random.Generator
    """
    if isinstance(generator, np.random.Generator):
        return int(generator.integers(2**63))
    if generator is None or isinstance(generator, mg.Generator):
        return int(mg.randint(2**63 - 1, (), generator=generator))
    raise ArgumentTypeError(
        "generator must be None, a monograph.Generator or a numpy.random.Generator, "
        f"got {type(generator).__name__}"
    )


def seed_worker(seed: int) -> None:
    """Seed Python's, NumPy's and monograph's generators of a worker process."""
    random.seed(seed)
    np.random.seed(np.random.SeedSequence(seed).generate_state(4))
    mg.manual_seed(seed)


def batch_seed(epoch_seed: int, batch: int) -> int:
    """The seed of what a dataset draws for one batch of an epoch, whoever fetches it.

    The finaliser of SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number
    generators", 2014), so that neighbouring batches share no bits.
    """
    word = (epoch_seed + (batch + 1) * 0x9E3779B97F4A7C15) & _WORD
    word = ((word ^ (word >> 30)) * 0xBF58476D1CE4E5B9) & _WORD
    word = ((word ^ (word >> 27)) * 0x94D049BB133111EB) & _WORD
    return (word ^ (word >> 31)) >> 1


class OwnRandomness:
    """`with OwnRandomness(seed):` the three global generators start from `seed`; what they were
    before goes on afterwards. For what is fetched in the main process, or ahead of its batch.

    NumPy's generator is exchanged rather than copied, which is ten times quicker; only the second
    of a pair of numpy.random.normal draws, which NumPy keeps apart, is drawn anew afterwards.
    """

    def __init__(self, seed: int):
        self._seed = seed

    def __enter__(self) -> None:
        self._before = random.getstate(), np.random.get_bit_generator(), mg.get_rng_state()
        np.random.set_bit_generator(_spare.pop() if _spare else np.random.MT19937(0))
        seed_worker(self._seed)

    def __exit__(self, *exc) -> None:
        state, bits, ours = self._before
        random.setstate(state)
        _spare.append(np.random.get_bit_generator())
        np.random.set_bit_generator(bits)
        mg.set_rng_state(ours)


_spare: list = []  # bit generators of OwnRandomness that are not in use


class Stream:
    """Reproducible draws from one seed."""

    def __init__(self, seed: int):
        self._philox = np.random.Philox(key=seed)

    def words(self, count: int) -> np.ndarray:
        """`count` independent uint64 words, all values equally likely."""
        return self._philox.random_raw(count)

    def permutation(self, n: int) -> np.ndarray:
        """0 .. n-1 in random order."""
        return np.argsort(self.words(n), kind="stable")

    def integers(self, high: int, count: int) -> np.ndarray:
        """`count` numbers in [0, high); the bias is below high / 2**64."""
        return (self.words(count) % np.uint64(high)).astype(np.int64)

    def uniform(self, count: int) -> np.ndarray:
        """`count` float64 numbers in [0, 1)."""
        return (self.words(count) >> np.uint64(11)) * 2.0**-53
