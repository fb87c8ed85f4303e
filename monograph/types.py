"""Names for annotations."""

from __future__ import annotations

import os
from typing import IO, Any

from .core.device import device

Number = int | float | bool
Device = device | str | int | None
FileLike = str | os.PathLike | IO[bytes]
Storage = Any
