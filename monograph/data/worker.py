"""A loader worker: the process that fetches batches for a DataLoader.

It reads requests from its pipe (in a thread of its own, so that the two ends never wait for each
other) and answers them in order. It ends when the pipe closes or the main process dies.
Read next: pool.py, the other end of the pipe.
"""

from __future__ import annotations

import faulthandler
import os
import pickle
import queue
import signal
import threading
import traceback
from dataclasses import dataclass
from typing import Any

from ..runtime.threads import set_num_threads
from .fetch import EndOfStream, make_fetcher
from .randomness import batch_seed, seed_worker
from .transfer import Outbox

PARENT_CHECK_S = 2.0
GRACE_S = 5.0


@dataclass
class WorkerInfo:
    """What `get_worker_info()` tells: this worker's id of num_workers, its seed, its dataset."""

    id: int
    num_workers: int
    seed: int
    dataset: Any


@dataclass
class WorkerSetup:
    """What a worker process starts from; pickled where workers are spawned."""

    id: int
    num_workers: int
    dataset: Any
    collate_fn: Any
    batched: bool
    drop_last: bool
    worker_init_fn: Any
    parent: int | None = None  # the main process, where it starts the workers itself
    stacks: Any = None  # a pipe for the stacks of this process, on SIGUSR1


@dataclass
class NewEpoch:
    """Drop what was requested before; iterate the dataset anew with this seed."""

    number: int
    seed: int


@dataclass
class Fetch:
    """Fetch batch `batch` of epoch `number`, into a slot of shared memory; or only pass it over."""

    number: int
    request: Any
    batch: int
    slot: int
    skips: bool = False


@dataclass
class RemoteError:
    """An exception on its way to the main process."""

    pickled: bytes | None  # None: the exception does not survive pickling
    text: str
    notes: list[str]
    traceback: str


_info: WorkerInfo | None = None


def get_worker_info() -> WorkerInfo | None:
    """In a loader worker its WorkerInfo (id, num_workers, seed, dataset); elsewhere None.

    >>> get_worker_info() is None
    True
    """
    return _info


def worker_main(setup: WorkerSetup, connection) -> None:
    """The main function of a worker process."""
    # Ctrl-C reaches every process of the terminal; the main process decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # A handler of the main process (say, one that saves a checkpoint) is not for the worker.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if setup.stacks is not None and hasattr(faulthandler, "register"):
        faulthandler.register(signal.SIGUSR1, setup.stacks.fileno(), all_threads=True)
    set_num_threads(1)  # there are other workers, and the main process
    orders: queue.SimpleQueue = queue.SimpleQueue()
    latest_epoch = [0]
    finished = threading.Event()
    reader = threading.Thread(
        target=_read_orders,
        args=(connection, orders, latest_epoch, finished, setup.parent or os.getppid()),
        daemon=True,
    )
    reader.start()
    try:
        _serve(setup, Outbox(connection), orders, latest_epoch)
    except (BrokenPipeError, ConnectionResetError):
        pass  # the main process went away while a batch was sent
    finally:
        finished.set()


def _read_orders(
    connection, orders, latest_epoch: list[int], finished: threading.Event, parent: int
) -> None:
    """Queue what the main process sends, until it closes the pipe or is gone."""
    try:
        while True:
            # A sibling forked later may hold a copy of the main process's end of the pipe, which
            # then does not close with its death.
            while not connection.poll(PARENT_CHECK_S):
                if os.getppid() != parent:
                    os._exit(1)
            order = connection.recv()
            latest_epoch[0] = order.number
            orders.put(order)
    except (EOFError, OSError):
        orders.put(None)
        if not finished.wait(GRACE_S):  # busy in the dataset, perhaps for ever
            os._exit(1)


def _serve(setup: WorkerSetup, outbox: Outbox, orders, latest_epoch: list[int]) -> None:
    global _info
    failure: Exception | None = None
    fetcher: Any = None
    epoch_seed = 0
    while (order := orders.get()) is not None:
        if order.number != latest_epoch[0]:
            continue  # of an epoch that was abandoned
        if isinstance(order, NewEpoch):
            epoch_seed = order.seed
            seed = (order.seed + setup.id) % 2**63
            seed_worker(seed)
            if _info is None:
                _info = WorkerInfo(setup.id, setup.num_workers, seed, setup.dataset)
                failure = _call_init(setup)
            _info.seed = seed
            fetcher = make_fetcher(
                setup.dataset, setup.collate_fn, setup.batched, setup.drop_last, epoch_seed
            )
            continue
        try:
            if failure is not None:
                raise failure
            if order.skips:
                fetcher.skip(order.request)
                kind, value = "skipped", None
            else:
                seed_worker(batch_seed(epoch_seed, order.batch))
                kind, value = "batch", fetcher.fetch(order.request, order.batch)
        except EndOfStream:
            kind, value = "end", None
        except Exception as error:
            kind, value = "error", _describe(error)
        try:
            outbox.send(order.number, kind, value, order.slot)
        except (BrokenPipeError, ConnectionResetError):
            raise
        except Exception as error:  # the batch cannot be pickled, or there is no memory for it
            error.add_note("  in DataLoader: sending a batch to the main process")
            outbox.send(order.number, "error", _describe(error), order.slot)
        value = None  # do not hold a batch while waiting


def _call_init(setup: WorkerSetup) -> Exception | None:
    """Run worker_init_fn; its exception is the answer to the first request."""
    try:
        if setup.worker_init_fn is not None:
            setup.worker_init_fn(setup.id)
    except Exception as error:
        error.add_note("  in DataLoader: worker_init_fn")
        return error
    return None


def _describe(error: Exception) -> RemoteError:
    text = "".join(traceback.format_exception(error))
    try:
        pickled = pickle.dumps(error)
        if type(pickle.loads(pickled)) is not type(error):
            pickled = None
    except Exception:
        pickled = None
    summary = "".join(traceback.format_exception_only(type(error), error)).splitlines()[0]
    return RemoteError(pickled, summary, list(getattr(error, "__notes__", ())), text)
