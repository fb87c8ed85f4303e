"""Object code on disk, so that a warm process compiles nothing.

One file per module in $MONOGRAPH_CACHE_DIR, or monograph/ in the user's cache directory
(XDG_CACHE_HOME): private (0700), written whole under another name and renamed, with a checksum. A
damaged or foreign file is ignored and written anew. A directory that cannot be used is no error:
then nothing is kept. $MONOGRAPH_CACHE_MAX_MB bounds the total (default 512); what was used longest
ago goes first.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path

MAGIC = b"monograph object 1\n"
_CHECKSUM = 32


def cache_directory() -> Path | None:
    """Where objects are kept, or None where caching is switched off (MONOGRAPH_CACHE_DIR="")."""
    given = os.environ.get("MONOGRAPH_CACHE_DIR")
    if given is not None:
        return Path(given) if given else None
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(base) / "monograph"


def _usable(directory: Path) -> bool:
    """Make the directory; refuse one that somebody else could have written into."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = directory.stat()
    except OSError:
        return False
    if hasattr(os, "getuid"):
        return status.st_uid == os.getuid() and not status.st_mode & 0o022
    return True


def load(key: str) -> bytes | None:
    """The object stored under a key (hex digits), or None."""
    directory = cache_directory()
    if directory is None or not _usable(directory):
        return None
    path = directory / f"{key}.o"
    try:
        data = path.read_bytes()
    except OSError:
        return None
    start = len(MAGIC) + _CHECKSUM
    body = data[start:]
    if not data.startswith(MAGIC) or hashlib.sha256(body).digest() != data[len(MAGIC) : start]:
        return None
    try:
        os.utime(path)  # the bound drops what was used longest ago
    except OSError:
        pass
    return body


def store(key: str, body: bytes) -> None:
    """Keep an object; failures are silent, since the cache only saves time."""
    directory = cache_directory()
    if directory is None or not _usable(directory):
        return
    try:
        handle, name = tempfile.mkstemp(dir=directory, suffix=".tmp")
        with os.fdopen(handle, "wb") as file:
            file.write(MAGIC + hashlib.sha256(body).digest() + body)
        os.replace(name, directory / f"{key}.o")
    except OSError:
        return
    _count_stores(directory)


_stores = 0


def _count_stores(directory: Path) -> None:
    """Look at the total once in a while: a scan per store would be slow."""
    global _stores
    if _stores % 256 == 0:
        trim(directory, int(os.environ.get("MONOGRAPH_CACHE_MAX_MB", "512")) << 20)
    _stores += 1


def trim(directory: Path, max_bytes: int) -> None:
    """Remove the objects used longest ago until at most three quarters of `max_bytes` are left."""
    entries = []
    try:
        with os.scandir(directory) as found:
            for entry in found:
                if entry.name.endswith((".o", ".tmp")):
                    status = entry.stat()
                    entries.append((status.st_mtime, status.st_size, entry.path))
    except OSError:
        return
    total = sum(size for _, size, _ in entries)
    if total <= max_bytes:
        return
    for _, size, path in sorted(entries):
        try:
            os.unlink(path)
        except OSError:
            pass
        total -= size
        if total <= max_bytes * 3 // 4:
            return
