"""What programs ask about other processes before they speak to them: there are none.

if mg.distributed.is_available() and mg.distributed.is_initialized(): ...
"""

from __future__ import annotations

from typing import Any

from .core.errors import ArgumentError


def is_available() -> bool:
    """False."""
    return False


is_initialized = is_nccl_available = is_gloo_available = is_mpi_available = is_available
is_torchelastic_launched = is_available


def _missing(name: str) -> Any:
    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise ArgumentError(
            f"distributed.{name}: there is one process",
            hint="ask is_available() first; a program for one process needs no group",
        )

    refuse.__name__, refuse.__doc__ = name, "ArgumentError: there is one process."
    return refuse


init_process_group = _missing("init_process_group")
destroy_process_group = _missing("destroy_process_group")
new_group = _missing("new_group")
get_rank = _missing("get_rank")
get_world_size = _missing("get_world_size")
get_backend = _missing("get_backend")
barrier = _missing("barrier")
all_reduce = _missing("all_reduce")
all_gather = _missing("all_gather")
all_gather_object = _missing("all_gather_object")
broadcast = _missing("broadcast")
broadcast_object_list = _missing("broadcast_object_list")
reduce = _missing("reduce")
reduce_scatter = _missing("reduce_scatter")
gather = _missing("gather")
scatter = _missing("scatter")
send = _missing("send")
recv = _missing("recv")
