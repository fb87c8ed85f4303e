"""Python's multiprocessing under PyTorch's name; tensors are copied between processes."""

from __future__ import annotations

import multiprocessing as _python
from collections.abc import Callable
from multiprocessing import *  # noqa: F403
from typing import Any

from .core.errors import ArgumentError

_strategy = ["file_system"]


def get_all_sharing_strategies() -> set[str]:
    """{"file_system"}: what is shared is a file in memory (data.DataLoader)."""
    return {"file_system"}


def get_sharing_strategy() -> str:
    """ "file_system"."""
    return _strategy[0]


def set_sharing_strategy(new_strategy: str) -> None:
    """Accept "file_system" or "file_descriptor": there is one way here."""
    if new_strategy not in ("file_system", "file_descriptor"):
        raise ArgumentError(
            "set_sharing_strategy: expected 'file_system' or 'file_descriptor', got "
            f"{new_strategy!r}"
        )


def spawn(
    fn: Callable, args: tuple = (), nprocs: int = 1, join: bool = True, daemon: bool = False,
    start_method: str = "spawn",
) -> Any:  # fmt: skip
    """Run fn(i, *args) in `nprocs` processes; wait for them, or return them (join=False).

    ChildProcessError if one of them fails.
    """
    context = _python.get_context(start_method)
    made = [
        context.Process(target=fn, args=(i, *args), daemon=daemon)  # type: ignore[attr-defined]
        for i in range(nprocs)
    ]
    for process in made:
        process.start()
    if not join:
        return made
    for process in made:
        process.join()
    failed = [i for i, process in enumerate(made) if process.exitcode]
    if failed:
        raise ChildProcessError(f"spawn: processes {failed} of {nprocs} failed")
    return None


def __getattr__(name: str) -> Any:
    return getattr(_python, name)
