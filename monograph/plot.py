"""`mg.plot`: pictures of training with matplotlib (the extra `plot`).

    mg.plot.curves("runs/first")                      # what the loggers of a run wrote
    mg.plot.confusion_matrix(matrix, names)           # of metrics.ConfusionMatrix
    mg.plot.samples(images, captions)
    mg.plot.histograms(model); mg.plot.histograms(model, "activations", batch)
    mg.plot.plot_model(model, batch, to_file="model.png")

Each function returns the matplotlib Figure, which a notebook shows and `savefig` writes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

import monograph as mg

from .board.runs import Runs, Series
from .core import pytree
from .core.errors import ArgumentError, ShapeError
from .models import Model
from .nn import Module
from .train.model_graph import model_graph
from .train.png import as_pixels

KINDS = ("weights", "gradients", "activations")


def _matplotlib() -> Any:
    try:
        import matplotlib.pyplot as plt
    except ImportError:
        raise ArgumentError(
            "plot: needs matplotlib, which is not installed", hint="pip install monograph[plot]"
        ) from None
    return plt


def _grid(count: int, columns: int, width: float, height: float) -> tuple[Any, list[Any]]:
    """A figure and `count` axes in rows of `columns`."""
    plt = _matplotlib()
    columns = max(1, min(columns, count))
    rows = max(1, math.ceil(count / columns))
    size = (width * columns, height * rows)
    figure, axes = plt.subplots(rows, columns, figsize=size, squeeze=False, layout="constrained")
    flat = list(axes.flat)
    for ax in flat[count:]:
        ax.set_axis_off()
    return figure, flat[:count]


def curves(
    source: Any,
    names: str | Sequence[str] | None = None,
    smoothing: float = 0.0,
    log: bool = False,
    columns: int = 3,
) -> Any:
    """Logged numbers over steps, a panel for each metric.

    source     a directory with runs (or of one), a list of such, or a dict from metric to values
               (or to pairs of steps and values)
    names      of the metrics; None: all but "epoch"
    smoothing  in [0, 1): the weight of the past in a running average; what was logged is shown
               beside it, pale
    log        a logarithmic axis

    ArgumentError if there is nothing of these names.
    """
    if not 0 <= smoothing < 1:
        raise ArgumentError(f"curves: smoothing must be in [0, 1), got {smoothing}")
    runs = _series(source)
    found = sorted({name for series in runs.values() for name in series} - {"epoch"})
    wanted = found if names is None else [names] if isinstance(names, str) else list(names)
    missing = [name for name in wanted if name not in found]
    if missing or not wanted:
        raise ArgumentError(
            f"curves: nothing was logged as {', '.join(missing) or 'anything'}; there is "
            f"{', '.join(found) or 'nothing'}"
        )
    figure, axes = _grid(len(wanted), columns, 4.2, 2.9)
    for ax, name in zip(axes, wanted):
        for k, (run, series) in enumerate(runs.items()):
            if name not in series:
                continue
            steps, values = np.asarray(series[name][0]), np.asarray(series[name][1], np.float64)
            if smoothing:
                ax.plot(steps, values, color=f"C{k}", alpha=0.25)
            ax.plot(steps, _smoothed(values, smoothing), color=f"C{k}", label=run)
        ax.set_title(name, fontsize=10)
        ax.set_xlabel("step")
        ax.grid(alpha=0.3)
        if log:
            ax.set_yscale("log")
    if len(runs) > 1:
        axes[0].legend(fontsize=8)
    return figure


def _series(source: Any) -> dict[str, dict[str, tuple[Any, Any]]]:
    """run -> metric -> (steps, values)."""
    if isinstance(source, Mapping):
        made = {}
        for name, values in source.items():
            is_pair = len(values) == 2 and np.ndim(values[0]) == 1
            made[str(name)] = tuple(values) if is_pair else (np.arange(len(values)), values)
        return {"": made}
    found: dict[str, dict[str, tuple[Any, Any]]] = {}
    for directory in source if isinstance(source, (list, tuple)) else [source]:
        for run in Runs(directory).refresh():
            series: dict[str, Series] = run.series
            name = run.name if run.name not in found else f"{directory}/{run.name}"
            found[name] = {key: (s.steps, s.values) for key, s in series.items()}
    return found


def _smoothed(values: np.ndarray, keep: float) -> np.ndarray:
    """An average with exponentially falling weights, made right for its start."""
    total, weight, made = 0.0, 0.0, np.empty_like(values)
    for i, value in enumerate(values):
        if math.isfinite(value):
            total, weight = keep * total + (1 - keep) * value, keep * weight + 1 - keep
        made[i] = total / weight if weight else np.nan
    return made


def confusion_matrix(
    matrix: Any, names: Sequence[str] | None = None, normalize: bool = False
) -> Any:
    """A confusion matrix: rows are the true classes, columns what was predicted.

    matrix     counts (classes, classes), as metrics.ConfusionMatrix computes it
    names      of the classes; None: their numbers
    normalize  show each row's parts of one in place of counts
    """
    counts = np.asarray(_array(matrix), np.float64)
    if counts.ndim != 2 or counts.shape[0] != counts.shape[1]:
        raise ShapeError(f"confusion_matrix: needs (classes, classes), got {counts.shape}")
    n = len(counts)
    labels = [str(i) for i in range(n)] if names is None else [str(name) for name in names]
    if len(labels) != n:
        raise ArgumentError(f"confusion_matrix: {len(labels)} names for {n} classes")
    share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    side = max(3.0, 0.45 * n + 1.2)
    figure, (ax,) = _grid(1, 1, side, side)
    ax.imshow(share, cmap="Blues", vmin=0, vmax=1)
    ax.set_xticks(range(n), labels, rotation=45 if max(map(len, labels)) > 3 else 0)
    ax.set_yticks(range(n), labels)
    ax.set_xlabel("predicted")
    ax.set_ylabel("true")
    for i in range(n):
        for j in range(n):
            text = f"{share[i, j]:.2f}" if normalize else f"{counts[i, j]:g}"
            color = "white" if share[i, j] > 0.5 else "black"
            ax.text(j, i, text, ha="center", va="center", fontsize=8, color=color)
    return figure


def samples(images: Any, captions: Sequence[Any] | None = None, columns: int = 8) -> Any:
    """Images in rows, with captions.

    images    (N, C, H, W) or (N, H, W), or a list of (C, H, W) or (H, W); floats in [0, 1] or
              uint8; C is 1 or 3
    captions  one for each
    """
    pixels = [as_pixels(_array(image)) for image in images]
    if captions is not None and len(captions) != len(pixels):
        raise ArgumentError(f"samples: {len(captions)} captions for {len(pixels)} images")
    if not pixels:
        raise ArgumentError("samples: no images")
    figure, axes = _grid(len(pixels), columns, 1.3, 1.5)
    for i, (ax, image) in enumerate(zip(axes, pixels)):
        ax.imshow(image[..., 0] if image.shape[2] == 1 else image, cmap="gray", vmin=0, vmax=255)
        ax.set_axis_off()
        if captions is not None:
            ax.set_title(str(captions[i]), fontsize=8)
    return figure


def histograms(
    model: Any, what: str = "weights", batch: Any = None, bins: int = 60, columns: int = 4
) -> Any:
    """The distributions of a model's numbers, a panel for each parameter or layer.

    what   "weights"; "gradients", as the last backward left them; "activations", the outputs of
           the layers that hold no others when the model is called with `batch`
    batch  a tensor, or a tuple of arguments
    """
    if not isinstance(model, Module):
        raise ArgumentError(f"histograms: needs a Module, got {type(model).__name__}")
    if what not in KINDS:
        raise ArgumentError(f"histograms: what must be one of {', '.join(KINDS)}, got {what!r}")
    found: dict[str, np.ndarray] = {}
    if what == "activations":
        if batch is None:
            raise ArgumentError("histograms: activations need a batch")
        found = _activations(model, batch)
    else:
        for name, p in model.named_parameters():
            values = p if what == "weights" else p.grad
            if values is not None:
                found[name] = _array(values).reshape(-1)
    if not found:
        raise ArgumentError(f"histograms: the model has no {what}")
    figure, axes = _grid(len(found), columns, 3.0, 2.2)
    for ax, (name, values) in zip(axes, found.items()):
        values = values.astype(np.float64)
        finite = values[np.isfinite(values)]
        ax.hist(finite, bins=bins)
        odd = values.size - finite.size
        ax.set_title(name + (f" ({odd} not finite)" if odd else ""), fontsize=9)
        ax.tick_params(labelsize=7)
    return figure


def _activations(model: Module, batch: Any) -> dict[str, np.ndarray]:
    seen: dict[str, list[np.ndarray]] = {}

    def look(name: str) -> Callable:
        def hook(part: Any, inputs: Any, output: Any) -> None:
            for x in pytree.tree_leaves(output):
                if isinstance(x, mg.Tensor) and x.dtype.is_floating_point:
                    seen.setdefault(name, []).append(_array(x).reshape(-1).copy())

        return hook

    hooks = [
        part.register_forward_hook(look(name or type(part).__name__))
        for name, part in model.named_modules()
        if next(iter(part.children()), None) is None
    ]
    try:
        with mg.no_grad():
            model(*batch) if isinstance(batch, tuple) else model(batch)
    finally:
        for hook in hooks:
            hook.remove()
    return {name: np.concatenate(parts) for name, parts in seen.items()}


def plot_model(model: Any, batch: Any = None, to_file: Any = None) -> Any:
    """The graph of a model's layers, from top to bottom.

    batch    what the model is called with (only its shape matters); a model made of Inputs and
             layers (monograph.models) needs none
    to_file  where to write the picture, too (.png, .svg, .pdf)
    """
    if batch is None:
        nodes = model.__dict__.get("_order", ()) if isinstance(model, Model) else ()
        inputs = [mg.zeros(1, *node.shape) for node in nodes if not node.inputs]
        if not inputs:
            raise ArgumentError("plot_model: needs a batch, to know the shapes")
        batch = inputs[0] if len(inputs) == 1 else inputs
    graph = model_graph(model, batch)
    rows = max(layer.row for layer in graph.layers) + 1
    counts = [0] * rows
    for layer in graph.layers:
        counts[layer.row] += 1
    wide = max(counts)
    figure, (ax,) = _grid(1, 1, 3.0 * wide + 1.5, 0.75 * rows)
    places = [(x.column - (counts[x.row] - 1) / 2, -x.row) for x in graph.layers]
    boxes = []
    for layer, (x, y) in zip(graph.layers, places):
        title = f"{layer.name}: {layer.kind}" if layer.kind else layer.name
        count = f"  {layer.parameters:,}" if layer.parameters else ""
        style = {"boxstyle": "round", "fc": "white", "ec": "C0" if layer.kind else "gray"}
        text = f"{title}\n{layer.shape}{count}"
        boxes.append(ax.text(x, y, text, ha="center", va="center", fontsize=8, bbox=style))
    for edge in graph.edges:
        a, b = edge.source, edge.target
        is_far = graph.layers[b].row - graph.layers[a].row > 1
        arrow = {
            "arrowstyle": "->", "color": "gray", "shrinkA": 0, "shrinkB": 0,
            "patchA": boxes[a].get_bbox_patch(), "patchB": boxes[b].get_bbox_patch(),
            "connectionstyle": "arc3,rad=-0.5" if is_far else "arc3",
        }  # fmt: skip
        ax.annotate("", places[b], places[a], annotation_clip=False, arrowprops=arrow)
    ax.set_xlim(-wide / 2 - 0.2, wide / 2 + 0.6)
    ax.set_ylim(-rows + 0.4, 0.6)
    ax.set_axis_off()
    if to_file is not None:
        figure.savefig(to_file)
    return figure


def _array(x: Any) -> np.ndarray:
    return x.detach().numpy() if isinstance(x, mg.Tensor) else np.asarray(x)
