"""DataLoader: batches of a dataset, in order, from this process or from workers.

Read next: sampler.py (which samples), fetch.py (samples to a batch), pool.py (workers).
"""

from __future__ import annotations

import itertools
import math
import statistics
import time
import warnings
from collections.abc import Callable, Iterable
from typing import Any, Generic

import numpy as np

from ..core.errors import ArgumentError, ArgumentTypeError, DataError
from ..runtime.threads import available_cpus
from .collate import default_collate, default_convert
from .dataset import IterableDataset, T_co
from .fetch import EndOfStream, StreamFetcher, StreamRequest, draws_nothing, make_fetcher
from .pipeline import Pipeline
from .pool import WorkerPool, choose_context
from .randomness import OwnRandomness, batch_seed, draw_seed
from .sampler import BatchSampler, RandomSampler, SequentialSampler, check_bool, check_positive
from .worker import WorkerSetup

AUTOTUNE: Any = -1  # for num_workers: as many as are needed
TRIED = 16  # batches that are timed before
SENDING_S = 5e-4  # what it takes to send a batch from another process


class DataLoader(Generic[T_co]):
    """Iterate over a dataset in batches. Each `iter()` starts a new epoch.

    dataset         map-style (indices) or IterableDataset (a stream)
    batch_size      samples per batch; None gives single samples, unbatched
    shuffle         a new random order for each epoch
    sampler         an iterable of indices, in place of shuffle
    batch_sampler   an iterable of lists of indices, in place of batch_size, shuffle, sampler
                    and drop_last
    num_workers     processes that fetch batches ahead; 0 fetches in this process. The order of
                    the batches is the same for any number. AUTOTUNE: the first batches are fetched
                    here, and so many workers started then as keep up with who takes them
    collate_fn      list of samples -> batch (default_collate)
    pin_memory      accepted and without effect, as pin_memory_device: there is no page-locked
                    memory to copy into
    drop_last       drop a last batch that is shorter than batch_size
    timeout         seconds to wait for a batch of a worker before DataError; 0 waits for ever
    worker_init_fn  called with the worker's id once in each worker, after seeding
    multiprocessing_context
                    how workers start: "fork", "spawn", "forkserver" or a context. Default: what
                    multiprocessing.set_start_method chose; else fork on Linux (workers start in
                    milliseconds and the dataset need not be picklable) and Python's default
                    elsewhere. Workers of this package are safe to fork; a program that holds
                    locks in threads of its own may prefer "spawn"
    generator       source of the shuffles and of the workers' seeds: a monograph.Generator or a
                    numpy.random.Generator; None is what mg.manual_seed seeds
    prefetch_factor batches that each worker fetches ahead (2)
    persistent_workers
                    keep the workers from one epoch to the next
    in_order        accepted; batches come in order in either case

    What a dataset or collate_fn draws from `random`, NumPy's global generator or mg's is seeded for
    each batch from the epoch's seed and the batch's number. So it is the same for any number of
    workers, 0 included, and neither persistent_workers nor breaking off an epoch changes what comes
    later. (An IterableDataset that shares its samples out among workers is the exception; a
    Pipeline does not depend on their number.)

    state_dict() taken before an epoch and skip_batches(n) continue it later after n batches, with
    the same batches as without a break and without fetching those passed over.

    Large arrays of a worker's batches stand in shared memory that goes back to the worker when the
    last tensor on it is gone. An exception of the dataset
    is raised here with its own type and, as notes, the sample and the worker's traceback. A worker
    that dies raises DataError within seconds. Workers end when the iterator is exhausted, broken
    off or collected.

    >>> loader = DataLoader(["a", "b", "c"], batch_size=2)
    >>> len(loader), list(loader)
    (2, [['a', 'b'], ['c']])
    """

    def __init__(
        self,
        dataset,
        batch_size: int | None = 1,
        shuffle: bool | None = None,
        sampler: Iterable | None = None,
        batch_sampler: Iterable | None = None,
        num_workers: int = 0,
        collate_fn: Callable | None = None,
        pin_memory: bool = False,
        drop_last: bool = False,
        timeout: float = 0,
        worker_init_fn: Callable | None = None,
        multiprocessing_context=None,
        generator=None,
        *,
        prefetch_factor: int | None = None,
        persistent_workers: bool = False,
        in_order: bool = True,
        pin_memory_device: str = "",
    ):
        is_stream = isinstance(dataset, IterableDataset)
        if not (is_stream or hasattr(dataset, "__getitem__") or hasattr(dataset, "__getitems__")):
            raise ArgumentTypeError(
                f"DataLoader: dataset must have __getitem__ or be an IterableDataset, got "
                f"{type(dataset).__name__}"
            )
        self.dataset = dataset
        self.in_order = in_order
        self._tunes = num_workers == AUTOTUNE
        shares = is_stream and not isinstance(dataset, Pipeline)
        if self._tunes and shares:
            raise ArgumentError(
                "DataLoader: num_workers=AUTOTUNE needs a map-style dataset or a Pipeline, whose "
                "samples do not depend on the number of workers"
            )
        self.num_workers = _check_workers(num_workers, timeout, prefetch_factor, persistent_workers)
        self.prefetch_factor = prefetch_factor or (2 if self._tunes or num_workers else None)
        self.timeout = timeout
        self.pin_memory = pin_memory
        self.worker_init_fn = worker_init_fn
        self.multiprocessing_context = multiprocessing_context
        self.generator = generator
        self.persistent_workers = persistent_workers
        if multiprocessing_context is not None:
            if num_workers == 0:
                raise ArgumentError("DataLoader: multiprocessing_context needs num_workers above 0")
            choose_context(multiprocessing_context)
        check_bool("DataLoader", "drop_last", drop_last)
        shuffle = bool(shuffle)
        if is_stream:
            for name, given in (
                ("shuffle", shuffle),
                ("sampler", sampler is not None),
                ("batch_sampler", batch_sampler is not None),
            ):
                if given:
                    raise ArgumentError(
                        f"DataLoader: an IterableDataset gives its own order; {name} cannot be "
                        "used with it"
                    )
        if sampler is not None and shuffle:
            raise ArgumentError("DataLoader: sampler and shuffle exclude each other")
        if batch_sampler is not None:
            if batch_size != 1 or shuffle or sampler is not None or drop_last:
                raise ArgumentError(
                    "DataLoader: batch_sampler excludes batch_size, shuffle, sampler and drop_last"
                )
            batch_size = None
        elif batch_size is None:
            if drop_last:
                raise ArgumentError("DataLoader: drop_last needs a batch_size")
        else:
            check_positive("DataLoader", "batch_size", batch_size)
        if sampler is None and batch_sampler is None and not is_stream:
            if shuffle:
                sampler = RandomSampler(dataset, generator=generator)
            else:
                sampler = SequentialSampler(dataset)
        if batch_size is not None and not is_stream:
            batch_sampler = BatchSampler(sampler, batch_size, drop_last)
        self.batch_size = batch_size
        self.drop_last = drop_last
        self.sampler = sampler
        self.batch_sampler = batch_sampler
        batched = batch_sampler is not None or batch_size is not None
        self.collate_fn = collate_fn or (default_collate if batched else default_convert)
        self._pool: WorkerPool | None = None
        self._batched = batched
        self._skips = 0

    def __len__(self) -> int:
        """Batches per epoch. TypeError if the dataset or sampler has no length."""
        if not isinstance(self.dataset, IterableDataset):
            return len(self.batch_sampler if self._batched else self.sampler)  # type: ignore
        samples = len(self.dataset)
        if self.batch_size is None:
            return samples
        full, rest = divmod(samples, self.batch_size)
        return full + (rest > 0 and not self.drop_last)

    def __iter__(self):
        seed = draw_seed(self.generator)  # drawn for any number of workers: the same order
        skips, self._skips = self._skips, 0
        if self._tunes:
            return _TunedIterator(self, seed, skips)
        if self.num_workers == 0:
            return _LocalIterator(self, seed, skips)
        return _WorkerIterator(self, self._workers(), seed, skips)

    def state_dict(self) -> dict[str, Any]:
        """Where the generators of the loader and its samplers stand (not mg's default one)."""
        return {"generators": [_generator_state(g) for g in self._generators()]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from what `state_dict` gave. DataError for a loader of other generators."""
        generators = self._generators()
        if len(generators) != len(state["generators"]):
            raise DataError(
                f"DataLoader: the state holds {len(state['generators'])} generators, this loader "
                f"has {len(generators)}"
            )
        for generator, kept in zip(generators, state["generators"]):
            if isinstance(generator, np.random.Generator):
                generator.bit_generator.state = kept
            else:
                generator.set_state(kept)

    def skip_batches(self, count: int) -> None:
        """Let the next epoch begin after its first `count` batches."""
        self._skips = count

    def _generators(self) -> list:
        """The generators that the order depends on, each once."""
        owners = [self, self.sampler, self.batch_sampler]
        owners.append(getattr(self.batch_sampler, "sampler", None))
        found = {id(g): g for o in owners if (g := getattr(o, "generator", None)) is not None}
        return list(found.values())

    def _workers(self) -> WorkerPool:
        """Those of the last epoch if they stay, else new ones."""
        if not self.persistent_workers:
            return self._make_pool()
        if self._pool is None or not self._pool.is_open:
            self._pool = self._make_pool()
        return self._pool

    def _make_pool(self) -> WorkerPool:
        setups = [
            WorkerSetup(
                id=i,
                num_workers=self.num_workers,
                dataset=self.dataset,
                collate_fn=self.collate_fn,
                batched=self._batched,
                drop_last=self.drop_last,
                worker_init_fn=self.worker_init_fn,
            )
            for i in range(self.num_workers)
        ]
        return WorkerPool(setups, choose_context(self.multiprocessing_context), self.timeout)

    def _requests(self):
        """What to ask the fetcher for, one request per batch; endless for a stream."""
        if isinstance(self.dataset, IterableDataset):
            request = StreamRequest(self.batch_size or 1)
            while True:
                yield request
        yield from self.batch_sampler if self._batched else self.sampler


class _Iterator:
    """One epoch. Warns where an IterableDataset gives more batches than its length promises."""

    def __init__(self, loader: DataLoader):
        self._loader = loader
        self._given = 0
        self._promised = None
        if isinstance(loader.dataset, IterableDataset) and hasattr(loader.dataset, "__len__"):
            try:
                self._promised = len(loader)
            except TypeError:  # the stream does not know
                pass

    def __iter__(self):
        return self

    def __len__(self) -> int:
        return len(self._loader)

    def __next__(self):
        batch = self._next_batch()
        self._given += 1
        if self._promised is not None and self._given == self._promised + 1:
            workers = self._loader.num_workers
            warnings.warn(
                f"DataLoader: {type(self._loader.dataset).__name__} gives more batches than the "
                f"{self._promised} that its length promises"
                + (
                    f"; each of the {workers} workers reads its own copy: does __iter__ share the "
                    "samples out with get_worker_info()?"
                    if workers > 1
                    else ""
                ),
                stacklevel=2,
            )
        return batch


class _LocalIterator(_Iterator):
    """Fetches in this process."""

    def __init__(self, loader: DataLoader, seed: int, skips: int):
        super().__init__(loader)
        self._given = skips
        self._requests = loader._requests()
        self._seed = seed
        self._batch = skips
        self._seeded = not draws_nothing(loader.dataset, loader.collate_fn)
        self._fetcher = make_fetcher(
            loader.dataset, loader.collate_fn, loader._batched, loader.drop_last, seed
        )
        for _ in range(skips):
            request = next(self._requests, None)
            if isinstance(self._fetcher, StreamFetcher):
                try:
                    self._fetcher.skip(request)
                except EndOfStream:
                    break
        # The first request now: what the sampler draws comes at the same time as with workers.
        first = list(itertools.islice(self._requests, 1))
        self._requests = itertools.chain(first, self._requests)

    def _next_batch(self):
        request = next(self._requests)
        batch, self._batch = self._batch, self._batch + 1
        try:
            if not self._seeded:
                return self._fetcher.fetch(request, batch)
            with OwnRandomness(batch_seed(self._seed, batch)):
                return self._fetcher.fetch(request, batch)
        except EndOfStream:
            raise StopIteration from None


class _WorkerIterator(_Iterator):
    """Takes batches from the workers in turn: batch i from worker i % num_workers.

    A worker whose stream is exhausted leaves the round. Order and assignment depend on nothing
    but the number of workers.
    """

    def __init__(
        self, loader: DataLoader, pool: WorkerPool, seed: int, skips: int, requests: Any = None
    ):
        """requests  what is left of them after `skips` batches; None: those of a new epoch"""
        super().__init__(loader)
        self._given = skips
        self._pool = pool
        self._requests = loader._requests() if requests is None else requests
        self._batch = 0
        self._skips = skips
        self._asked = [0] * loader.num_workers  # requests without an answer, by worker
        self._round = list(range(loader.num_workers))
        self._turn = 0
        pool.start_epoch(seed)
        self._epoch = pool.epoch
        reads_on = isinstance(loader.dataset, IterableDataset)
        if requests is not None:
            self._batch, self._skips = skips, 0
        elif skips and (not reads_on or isinstance(loader.dataset, Pipeline)):
            self._batch = sum(1 for _ in itertools.islice(self._requests, skips))
            self._skips = 0
        for _ in range(loader.prefetch_factor):
            for worker in self._round:
                self._ask(worker)

    def _ask(self, worker: int) -> None:
        for request in self._requests:
            self._pool.ask(worker, request, self._batch, self._batch < self._skips)
            self._batch += 1
            self._asked[worker] += 1
            return

    def _next_batch(self):
        if self._epoch != self._pool.epoch:
            raise DataError(
                "DataLoader: this iterator ended when a new one was started; with "
                "persistent_workers=True all iterators of a loader share the workers"
            )
        while self._round:
            self._turn %= len(self._round)
            worker = self._round[self._turn]
            if not self._asked[worker]:
                break  # requests are dealt out in turn: the others have none left either
            self._asked[worker] -= 1
            kind, answer = self._pool.receive(worker)
            if kind == "end":
                del self._round[self._turn]
                continue
            self._turn += 1
            self._ask(worker)
            if kind == "skipped":
                continue
            if kind == "error":  # of the dataset: the next batch can still be had
                try:
                    raise answer
                finally:
                    del answer  # no cycle of error, traceback and frame keeps the workers alive
            return answer
        if not self._loader.persistent_workers:
            self._pool.close()
        raise StopIteration


class _TunedIterator(_Iterator):
    """Fetches TRIED batches in this process and times them, and who takes them; then starts as many
    workers as are needed to keep up, and reads on from them."""

    def __init__(self, loader: DataLoader, seed: int, skips: int):
        super().__init__(loader)
        self._seed, self._given = seed, skips
        self._local = _LocalIterator(loader, seed, skips)
        self._inner: _LocalIterator | _WorkerIterator = self._local
        self._fetching: list[float] = []
        self._taking: list[float] = []
        self._left = 0.0

    def _next_batch(self):
        if not self._loader._tunes or self._inner is not self._local:
            return self._inner._next_batch()
        asked = time.perf_counter()
        if self._left:
            self._taking.append(asked - self._left)
        batch = self._local._next_batch()
        self._left = time.perf_counter()
        self._fetching.append(self._left - asked)
        if len(self._fetching) == TRIED:
            self._choose()
        return batch

    def _choose(self) -> None:
        loader = self._loader
        loader.num_workers = workers_needed(
            statistics.median(self._fetching), statistics.median(self._taking), available_cpus()
        )
        loader._tunes = False
        if loader.num_workers:
            local, done = self._local, self._local._batch
            pool = loader._workers()
            self._inner = _WorkerIterator(loader, pool, self._seed, done, local._requests)


def workers_needed(fetching_s: float, taking_s: float, cpus: int) -> int:
    """Workers that give batches of `fetching_s` seconds as fast as they are taken; none where a
    batch is quicker fetched than sent from another process, or next to nothing beside the rest.

    >>> workers_needed(0.03, 0.02, 8), workers_needed(0.0001, 0.0001, 8), workers_needed(1, 0.01, 8)
    (2, 0, 8)
    """
    if fetching_s < max(SENDING_S, 0.02 * taking_s):
        return 0
    return max(1, min(cpus, math.ceil(fetching_s / max(taking_s, 1e-6))))


def _check_workers(num_workers, timeout, prefetch_factor, persistent_workers) -> int:
    if num_workers == AUTOTUNE:
        return 0
    if isinstance(num_workers, bool) or not isinstance(num_workers, int):
        raise ArgumentTypeError(
            f"DataLoader: num_workers must be an integer, got {type(num_workers).__name__}"
        )
    if num_workers < 0:
        raise ArgumentError(f"DataLoader: num_workers must be at least 0, got {num_workers}")
    if timeout < 0:
        raise ArgumentError(f"DataLoader: timeout must be at least 0 seconds, got {timeout}")
    if num_workers == 0:
        for name, given in (
            ("timeout", timeout != 0),
            ("prefetch_factor", prefetch_factor is not None),
            ("persistent_workers", persistent_workers),
        ):
            if given:
                raise ArgumentError(f"DataLoader: {name} needs num_workers above 0")
    elif prefetch_factor is not None:
        check_positive("DataLoader", "prefetch_factor", prefetch_factor)
    return num_workers


def _generator_state(generator) -> Any:
    if isinstance(generator, np.random.Generator):
        return generator.bit_generator.state
    return generator.get_state()
