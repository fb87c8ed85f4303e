"""CUDA's switches: programs may set them; nothing here reads them."""

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

matmul = SimpleNamespace(allow_tf32=False)


def is_built() -> bool:
    """False."""
    return False


def _kept(enabled: bool) -> None:
    """Nothing: attention is one kernel, which never holds the scores."""


enable_flash_sdp = enable_mem_efficient_sdp = enable_math_sdp = enable_cudnn_sdp = _kept


def flash_sdp_enabled() -> bool:
    """True: attention never holds the scores."""
    return True


mem_efficient_sdp_enabled = math_sdp_enabled = flash_sdp_enabled


@contextmanager
def sdp_kernel(*choices: Any, **more: Any) -> Iterator[None]:
    """A context without effect: there is one kernel of attention."""
    yield
