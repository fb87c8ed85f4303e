"""SummaryWriter: event files for TensorBoard, which need not be installed to write them."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path
from typing import Any

import numpy as np

import monograph as mg

from ..train.tensorboard import TensorBoardLogger

__all__ = ["SummaryWriter"]


class _Events(TensorBoardLogger):
    """A logger whose directory is given."""

    def __init__(self, directory: Path):
        self._directory = directory

    @property
    def log_dir(self) -> Path:  # type: ignore[override]
        return self._directory


def _array(x: Any) -> Any:
    return x.detach().numpy() if isinstance(x, mg.Tensor) else np.asarray(x)


class SummaryWriter:
    """Write values under names ("tags") for TensorBoard, as torch.utils.tensorboard's.

    log_dir  a directory; runs/<date>_<host><comment> without one

    >>> import tempfile
    >>> with SummaryWriter(tempfile.mkdtemp()) as writer:
    ...     writer.add_scalar("loss", 0.5, 1)
    """

    def __init__(
        self, log_dir: Any = None, comment: str = "", purge_step: int | None = None,
        max_queue: int = 10, flush_secs: int = 120, filename_suffix: str = "",
    ):  # fmt: skip
        if not log_dir:
            stamp = time.strftime("%b%d_%H-%M-%S")
            log_dir = os.path.join("runs", f"{stamp}_{socket.gethostname()}{comment}")
        self.log_dir = str(log_dir)
        self._events = _Events(Path(log_dir))
        self._parts: dict[str, _Events] = {}

    def get_logdir(self) -> str:
        """The directory that is written to."""
        return self.log_dir

    def add_scalar(
        self, tag: str, scalar_value: Any, global_step: int | None = None, walltime: Any = None,
        new_style: bool = False, double_precision: bool = False,
    ) -> None:  # fmt: skip
        """A number."""
        self._events.log_metrics({tag: float(scalar_value)}, global_step or 0)

    def add_scalars(
        self, main_tag: str, tag_scalar_dict: dict, global_step: int | None = None,
        walltime: Any = None,
    ) -> None:  # fmt: skip
        """Several numbers for one chart: each in a run of its own beside this one."""
        for tag, value in tag_scalar_dict.items():
            name = f"{main_tag.replace('/', '_')}_{tag}"
            if name not in self._parts:
                self._parts[name] = _Events(Path(self.log_dir) / name)
            self._parts[name].log_metrics({main_tag: float(value)}, global_step or 0)

    def add_histogram(
        self, tag: str, values: Any, global_step: int | None = None, bins: Any = "tensorflow",
        walltime: Any = None, max_bins: int | None = None,
    ) -> None:  # fmt: skip
        """The distribution of numbers; `bins` may be their number."""
        count = bins if isinstance(bins, int) else max_bins or 64
        self._events.log_histogram(tag, _array(values), global_step or 0, count)

    def add_image(
        self, tag: str, img_tensor: Any, global_step: int | None = None, walltime: Any = None,
        dataformats: str = "CHW",
    ) -> None:  # fmt: skip
        """An image; dataformats says what its dimensions are ("CHW", "HWC" or "HW")."""
        image = _array(img_tensor)
        if dataformats.upper() == "HWC":
            image = image.transpose(2, 0, 1)
        elif dataformats.upper() == "HW":
            image = image[None]
        self._events.log_image(tag, image, global_step or 0)

    def add_images(
        self, tag: str, img_tensor: Any, global_step: int | None = None, walltime: Any = None,
        dataformats: str = "NCHW",
    ) -> None:  # fmt: skip
        """A batch of images, side by side."""
        images = _array(img_tensor)
        if dataformats.upper() == "NHWC":
            images = images.transpose(0, 3, 1, 2)
        self._events.log_image(tag, np.concatenate(list(images), axis=-1), global_step or 0)

    def add_figure(
        self, tag: str, figure: Any, global_step: int | None = None, close: bool = True,
        walltime: Any = None,
    ) -> None:  # fmt: skip
        """A figure of matplotlib."""
        figure.canvas.draw()
        pixels = np.asarray(figure.canvas.buffer_rgba())[..., :3]
        self._events.log_image(tag, pixels.transpose(2, 0, 1), global_step or 0)

    def add_text(
        self, tag: str, text_string: str, global_step: int | None = None, walltime: Any = None
    ) -> None:
        """A text, in Markdown."""
        self._events.log_text(tag, text_string, global_step or 0)

    def add_hparams(
        self, hparam_dict: dict, metric_dict: dict, hparam_domain_discrete: Any = None,
        run_name: str | None = None, global_step: int | None = None,
    ) -> None:  # fmt: skip
        """Hyper-parameters as a table, and the metrics that they led to."""
        self._events.log_hyperparams(hparam_dict)
        self._events.log_metrics({k: float(v) for k, v in metric_dict.items()}, global_step or 0)

    def add_graph(self, model: Any, input_to_model: Any = None, verbose: bool = False) -> None:
        """The operations of a model, as a text."""
        inputs = input_to_model if isinstance(input_to_model, tuple) else (input_to_model,)
        self._events.log_text("graph", f"```\n{mg.explain(model, *inputs)}\n```", 0)

    def flush(self) -> None:
        """Nothing: what is added stands in the file at once."""

    def close(self) -> None:
        """Close the files; what is added later opens them again."""
        for events in (self._events, *self._parts.values()):
            events.finalize()

    def __enter__(self) -> SummaryWriter:
        return self

    def __exit__(self, *error: Any) -> None:
        self.close()
