"""The main process's side of loader workers: start, ask, receive, notice deaths, stop.

One pipe per worker, no threads, no locks: a worker that dies can leave nothing half locked, and
its closed pipe tells at once. Read next: worker.py, the other end of the pipe.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import pickle
import signal
import socket
import sys
import textwrap
import time
import warnings
import weakref
from collections import deque
from multiprocessing import connection as mp_connection

from ..core.errors import ArgumentError, ArgumentTypeError, DataError
from .fetch import StreamRequest, name_request
from .transfer import Inbox
from .worker import Fetch, NewEpoch, RemoteError, WorkerSetup, worker_main

LIFE_CHECK_S = 1.0
STUCK_S = 60.0  # with timeout=0: when a worker that gives nothing is reported
STOP_S = 3.0


def choose_context(given):
    """The multiprocessing context of the workers.

    given   None, a start method's name, or a context. None means what the program has chosen with
            multiprocessing.set_start_method; else fork on Linux, and Python's default elsewhere.
    """
    if given is None:
        chosen = multiprocessing.get_start_method(allow_none=True)
        given = chosen or ("fork" if sys.platform == "linux" else None)
    if given is None or isinstance(given, str):
        if given is not None and given not in multiprocessing.get_all_start_methods():
            raise ArgumentError(
                f"DataLoader: multiprocessing_context must be one of "
                f"{', '.join(multiprocessing.get_all_start_methods())}, got {given!r}"
            )
        return multiprocessing.get_context(given)
    if not isinstance(given, multiprocessing.context.BaseContext):
        raise ArgumentTypeError(
            "DataLoader: multiprocessing_context must be None, a start method's name or a "
            f"multiprocessing context, got {type(given).__name__}"
        )
    return given


class WorkerPool:
    """Worker processes of one loader, each with a queue of requests that it answers in order."""

    def __init__(self, setups: list[WorkerSetup], context, timeout_s: float):
        self._timeout_s = timeout_s
        self._processes: list = []
        self._connections: list = []
        self._inboxes: list[Inbox] = []
        self._pending: list[deque] = [deque() for _ in setups]  # requests without a message yet
        self._arrived: list[deque] = [deque() for _ in setups]  # messages, not unpacked
        self._stacks: list = []  # pipes on which workers write where they are
        self.epoch = 0
        self.close = weakref.finalize(
            self, _stop, self._processes, self._connections, self._inboxes, self._stacks,
            os.getpid(),
        )  # fmt: skip
        self._dataset_name = type(setups[0].dataset).__name__
        try:
            for setup in setups:
                self._start(setup, context)
        except BaseException:
            self.close()
            raise

    def _start(self, setup: WorkerSetup, context) -> None:
        ours, theirs = context.Pipe(duplex=True)
        self._connections.append(ours)
        self._inboxes.append(Inbox(ours))
        stacks, setup.stacks = context.Pipe(duplex=False)
        self._stacks.append(stacks)
        # Not asked of the system in the worker: by then this process may be dead.
        setup.parent = None if context.get_start_method() == "forkserver" else os.getpid()
        process = context.Process(
            target=worker_main,
            args=(setup, theirs),
            name=f"DataLoader worker {setup.id}",
            daemon=True,
        )
        try:
            with warnings.catch_warnings():
                # Python 3.12 and later warn of any fork in a process with threads. The child runs
                # this package's code, whose thread pool starts afresh after a fork.
                warnings.filterwarnings(
                    "ignore", "This process .*multi-threaded", DeprecationWarning
                )
                process.start()
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            if context.get_start_method() != "fork":
                error.add_note(
                    f"  in DataLoader: worker {setup.id} is started with "
                    f"{context.get_start_method()!r}, so {self._dataset_name}, collate_fn and "
                    "worker_init_fn must be picklable"
                )
                error.add_note("  hint: define them at the top level of a module, without lambdas")
            raise
        finally:
            theirs.close()
            setup.stacks.close()
            setup.stacks = None
        self._processes.append(process)

    @property
    def is_open(self) -> bool:
        return self.close.alive

    def start_epoch(self, seed: int) -> None:
        """Forget all requests; the workers seed themselves and iterate anew."""
        self.epoch += 1
        for worker in range(len(self._processes)):
            # A worker answers in order, so that a late answer cannot spoil a slot's next content.
            for order in self._pending[worker]:
                self._inboxes[worker].release(order.slot)
            for message in self._arrived[worker]:
                self._inboxes[worker].release(message.slot)
            self._pending[worker].clear()
            self._arrived[worker].clear()
            self._send(worker, NewEpoch(self.epoch, seed))

    def ask(self, worker: int, request, batch: int, skips: bool = False) -> None:
        """Add a request to the worker's queue: batch number `batch`, or (skips) pass it over."""
        order = Fetch(self.epoch, request, batch, self._inboxes[worker].slot(), skips)
        self._pending[worker].append(order)
        self._send(worker, order)

    def _send(self, worker: int, order) -> None:
        if not self.is_open:
            raise DataError("DataLoader: the workers were stopped")
        try:
            self._connections[worker].send(order)
        except BaseException as problem:  # KeyboardInterrupt too: the order may be half sent
            try:
                if isinstance(problem, (BrokenPipeError, ConnectionResetError)):
                    raise self._death(worker) from None
                raise
            finally:
                self.close()

    def receive(self, worker: int):
        """The answer to the worker's oldest request: (kind, value).

        kind is "batch", "error" (the value is an exception of the dataset), "end" (an
        IterableDataset is exhausted) or "skipped". Raises DataError, and closes the pool, if any
        worker is dead or this one takes longer than the timeout.
        """
        if not self.is_open:
            raise DataError("DataLoader: the workers were stopped")
        try:
            self._wait_for(worker)
        except BaseException:  # KeyboardInterrupt too: a message may be half read
            self.close()
            raise
        message = self._arrived[worker].popleft()
        value = self._inboxes[worker].unpack(message)
        return message.kind, self._remote(value, worker) if message.kind == "error" else value

    def _wait_for(self, worker: int) -> None:
        deadline = time.monotonic() + self._timeout_s if self._timeout_s else None
        report_at = time.monotonic() + STUCK_S
        while not self._arrived[worker]:
            if self._connections[worker].poll():  # the common case, without a selector
                self._read(worker)
                continue
            left = LIFE_CHECK_S if deadline is None else deadline - time.monotonic()
            ready = mp_connection.wait(self._connections, min(max(left, 0), LIFE_CHECK_S))
            for connection in ready:
                self._read(self._connections.index(connection))
            if ready:
                continue
            for other, process in enumerate(self._processes):
                if not process.is_alive():  # and something else holds its end of the pipe
                    raise self._death(other)
            if deadline is not None and time.monotonic() >= deadline:
                raise self._timeout(worker)
            if time.monotonic() >= report_at:
                report_at = math.inf
                warnings.warn(
                    f"DataLoader: worker {worker} (pid {self._processes[worker].pid}) has given no "
                    f"batch for {STUCK_S:g} seconds; {self._holding(worker)}{self._stack(worker)}",
                    RuntimeWarning,
                    stacklevel=2,
                )

    def _stack(self, worker: int) -> str:
        """Where the worker's threads are, as text; empty if it does not say (it may be dead)."""
        process = self._processes[worker]
        if not hasattr(signal, "SIGUSR1") or process.pid is None:
            return ""
        try:
            os.kill(process.pid, signal.SIGUSR1)
        except OSError:
            return ""
        text = b""
        while self._stacks[worker].poll(0.5) and len(text) < 1 << 16:
            part = os.read(self._stacks[worker].fileno(), 1 << 16)
            if not part:
                break
            text += part
        return "\n" + textwrap.indent(text.decode(errors="replace").rstrip(), "    ")

    def _read(self, worker: int) -> None:
        """Take one message off the worker's pipe."""
        try:
            message = self._inboxes[worker].receive()
        except (EOFError, OSError):
            raise self._death(worker) from None
        if message.epoch == self.epoch:
            self._pending[worker].popleft()
            self._arrived[worker].append(message)

    def _holding(self, worker: int) -> str:
        """What the worker had been asked for, in words."""
        pending = self._pending[worker]
        if not pending:
            return "it held no samples"
        if isinstance(pending[0].request, StreamRequest):
            return f"it was reading from its {self._dataset_name}"
        held = f"it held {name_request(pending[0].request)}"
        if len(pending) > 1:
            held += " and, queued, " + "; ".join(
                name_request(order.request) for order in list(pending)[1:]
            )
        return held

    def _death(self, worker: int) -> DataError:
        process = self._processes[worker]
        process.join(LIFE_CHECK_S)
        code, hint = process.exitcode, None
        if code is None:
            how = "closed its pipe"
        elif code < 0:
            try:
                how = f"was killed by {signal.Signals(-code).name}"
            except ValueError:
                how = f"was killed by signal {-code}"
            if -code == getattr(signal, "SIGKILL", None):
                hint = (
                    "the system kills processes when memory runs out: fewer workers, a smaller "
                    "prefetch_factor or smaller batches need less"
                )
        else:
            how = f"exited with code {code}"
            hint = "what it printed may say why; num_workers=0 runs the dataset in this process"
        return DataError(
            f"DataLoader: worker {worker} (pid {process.pid}) {how}; {self._holding(worker)}",
            hint=hint,
        )

    def _timeout(self, worker: int) -> DataError:
        error = DataError(
            f"DataLoader: worker {worker} (pid {self._processes[worker].pid}) gave no batch within "
            f"timeout={self._timeout_s:g} seconds; {self._holding(worker)}",
            hint="timeout=0 waits for ever",
        )
        stack = self._stack(worker)
        if stack:
            error.add_note(f"  in DataLoader worker {worker}, which stands at{stack}")
        return error

    def _remote(self, remote: RemoteError, worker: int) -> Exception:
        """The worker's exception, with its traceback as a note."""
        if remote.pickled is not None:
            error = pickle.loads(remote.pickled)
        else:
            error = DataError(remote.text)
        present = list(getattr(error, "__notes__", ()))
        for note in remote.notes:
            if note not in present:
                error.add_note(note)
        error.add_note(
            f"  in DataLoader worker {worker} (pid {self._processes[worker].pid}):\n"
            + textwrap.indent(remote.traceback.rstrip(), "    ")
        )
        return error


def _stop(
    processes: list, connections: list, inboxes: list[Inbox], stacks: list, owner: int
) -> None:
    """End the workers and reap them: politely, then by signals. Runs once per pool."""
    if os.getpid() != owner:
        return  # a forked child collects its copy of the pool: the workers are not its own
    for connection in connections:
        # Copies of this end may live in workers that were forked later: shut down, not just close.
        if hasattr(socket, "AF_UNIX"):
            try:
                with socket.socket(fileno=os.dup(connection.fileno())) as end:
                    end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # the worker is gone already
        connection.close()
    deadline = time.monotonic() + STOP_S
    for process in processes:
        process.join(max(deadline - time.monotonic(), 0.01))
    for end in ("terminate", "kill"):
        alive = [process for process in processes if process.is_alive()]
        for process in alive:
            getattr(process, end)()
        for process in alive:
            process.join(1.0)
    for process in processes:
        if not process.is_alive():
            process.close()
    for pipe in stacks:
        pipe.close()
    stacks.clear()
    processes.clear()
    connections.clear()
    inboxes.clear()  # and with them the blocks of shared memory
