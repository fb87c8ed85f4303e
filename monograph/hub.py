"""Files of weights from the network, kept in a folder: `load_state_dict_from_url` of torch.hub.

The files are read by `mg.load`, which runs nothing that they hold.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from tqdm import tqdm

from .api.files import load
from .core.errors import FileFormatError

__all__ = ["download_url_to_file", "get_dir", "load_state_dict_from_url", "load_url", "set_dir"]

_folder: list[str] = []


def get_dir() -> str:
    """The folder of downloads: set_dir's, else hub in $MONOGRAPH_HOME or in ~/.cache/monograph."""
    if _folder:
        return _folder[0]
    home = os.environ.get("MONOGRAPH_HOME", "~/.cache/monograph")
    return str(Path(home).expanduser() / "hub")


def set_dir(d: Any) -> None:
    """Keep downloads in the folder `d`."""
    _folder[:] = [os.path.expanduser(d)]


def download_url_to_file(
    url: str, dst: Any, hash_prefix: str | None = None, progress: bool = True
) -> None:
    """Write what `url` has to the file `dst`, whole or not at all.

    hash_prefix  first digits of its SHA-256; FileFormatError if it has others
    """
    import urllib.request

    path = Path(dst).expanduser()
    digest = hashlib.sha256()
    with urllib.request.urlopen(url) as source:
        size = source.headers.get("Content-Length")
        handle, partial = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with (
                os.fdopen(handle, "wb") as file,
                tqdm(
                    total=size and int(size), unit="B", unit_scale=True, disable=not progress
                ) as bar,
            ):
                while part := source.read(1 << 20):
                    file.write(part)
                    digest.update(part)
                    bar.update(len(part))
            if hash_prefix and not digest.hexdigest().startswith(hash_prefix):
                raise FileFormatError(
                    f"download_url_to_file: the SHA-256 of {url} begins with "
                    f"{digest.hexdigest()[: len(hash_prefix)]}, not with {hash_prefix}",
                    hint="nothing was written",
                )
            os.replace(partial, path)
        except BaseException:
            Path(partial).unlink(missing_ok=True)
            raise


def load_state_dict_from_url(
    url: str,
    model_dir: Any = None,
    map_location: Any = None,
    progress: bool = True,
    check_hash: bool = False,
    file_name: str | None = None,
    weights_only: bool = True,
) -> Any:
    """What the file at `url` holds (see `load`); it is downloaded once.

    model_dir   folder to keep it in; None: checkpoints in `get_dir()`
    check_hash  the name ends in digits of its SHA-256, as resnet18-f37072fd.pth: compare them
    file_name   its name there; None: the last part of the URL
    """
    folder = Path(model_dir) if model_dir is not None else Path(get_dir()) / "checkpoints"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / (file_name or Path(urlparse(url).path).name)
    if not path.exists():
        digits = re.search(r"-([a-f0-9]{8,})\.", path.name) if check_hash else None
        download_url_to_file(url, path, digits and digits.group(1), progress)
    return load(path, map_location)


load_url = load_state_dict_from_url
