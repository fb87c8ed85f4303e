"""Callbacks that record how a run looks inside: distributions, the machine, samples, the model.

They hand it to the Trainer's loggers, which keep what they can show (`JSONLinesLogger` and
`TensorBoardLogger` all of it); `monograph board` shows it while training goes on.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

import monograph as mg

from ..core import pytree
from ..core.errors import ArgumentError, TraceError
from .callbacks import Callback
from .logbook import LogBook
from .model_graph import model_graph
from .seeding import random_state, set_random_state
from .state import module_metrics

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]


class HistogramMonitor(Callback):
    """Give loggers the distributions of weights, gradients and activations every n steps.

    every_n_steps  updates between two records; the first is after the first update
    weights        of the trainable parameters, as weights/<name>
    gradients      as gradients/<name>
    activations    outputs of the layers that hold no others, as activations/<name>

    Gradients and activations are those of the batch just trained on, with the weights after the
    update: training_step is run on it once more, eagerly, and nothing of it is kept. With manual
    optimization the optimizers do nothing then, and gradients are taken when they are asked to.
    """

    def __init__(
        self,
        every_n_steps: int = 100,
        weights: bool = True,
        gradients: bool = True,
        activations: bool = True,
    ):
        if every_n_steps < 1:
            raise ArgumentError(
                f"HistogramMonitor: every_n_steps must be at least 1, got {every_n_steps}"
            )
        self.every_n_steps = every_n_steps
        self.weights, self.gradients, self.activations = weights, gradients, activations
        self._recorded = -1

    def on_train_batch_end(
        self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        step = trainer.global_step
        if step == self._recorded or (step != 1 and step % self.every_n_steps):
            return
        self._recorded = step
        found: dict[str, Any] = {}
        if self.weights:
            found.update(
                (f"weights/{name}", p.detach().numpy())
                for name, p in module.named_parameters()
                if p.requires_grad
            )
        if self.gradients or self.activations:
            found.update(self._watch(trainer, module, batch))
        for logger in trainer.loggers:
            for name, values in found.items():
                logger.log_histogram(name, values, step)

    def _watch(self, trainer: Any, module: Any, batch: Any) -> dict[str, np.ndarray]:
        seen: dict[str, list[np.ndarray]] = {}

        def look(name: str) -> Callable:
            def hook(part: Any, inputs: Any, output: Any) -> None:
                for x in pytree.tree_leaves(output):
                    if isinstance(x, mg.Tensor) and x.dtype.is_floating_point:
                        seen.setdefault(name, []).append(x.detach().numpy().reshape(-1))

            return hook

        hooks = []
        if self.activations:
            hooks = [part.register_forward_hook(look(name)) for name, part in leaf_modules(module)]
        names = {id(p): name for name, p in module.named_parameters()}
        gradients: dict[str, np.ndarray] = {}

        def keep(params: Any) -> None:
            for p in params:
                if self.gradients and p.grad is not None:
                    gradients[f"gradients/{names.get(id(p), '?')}"] = p.grad.detach().numpy().copy()

        try:
            with undisturbed(trainer, keep):
                result = trainer.precision.run(trainer._loop.step.training_step, batch, 0)
                loss = result.get("loss") if isinstance(result, dict) else result
                wanted = self.gradients and module.automatic_optimization
                if wanted and isinstance(loss, mg.Tensor) and loss.requires_grad:
                    loss.backward()
                    keep(module.parameters())
        finally:
            for hook in hooks:
                hook.remove()
        activations = {f"activations/{name}": np.concatenate(x) for name, x in seen.items()}
        return {**gradients, **activations}


def leaf_modules(module: Any) -> Iterator[tuple[str, Any]]:
    """(name, module) of those that hold no other modules, but for the module itself."""
    for name, part in module.named_modules():
        if name and next(iter(part.children()), None) is None:
            yield name, part


@contextmanager
def undisturbed(trainer: Any, stepped: Callable | None = None) -> Iterator[None]:
    """Run a step of the module aside: weights, gradients, metrics, random numbers and what is
    logged are as before afterwards. Optimizers and schedules do nothing when they are asked to
    step; `stepped` is called with the optimizer's parameters instead."""
    module, book, random = trainer.module, trainer._book, random_state()
    buffers = [(b, b.detach().clone()) for b in module.buffers()]
    gradients = [(p, p.grad) for p in module.parameters()]
    metrics = [(m, m.state_dict()) for _, m in module_metrics(module)]

    def instead(params: list) -> Callable:
        def step(closure: Any = None) -> Any:
            result = closure() if callable(closure) else None
            if stepped is not None:
                stepped(params)
            return result

        return step

    idle: list[Any] = []
    for optimizer in trainer.optimizers:
        params = [p for group in optimizer.param_groups for p in group["params"]]
        idle.append((optimizer, instead(params)))
    idle += [(s.scheduler, lambda *args: None) for s in trainer._schedules]
    trainer._book = LogBook()
    trainer._book.start(True, False)
    before = [(owner, vars(owner).get("step")) for owner, _ in idle]
    for p, _ in gradients:
        p.grad = None
    try:
        for owner, step in idle:
            owner.step = step
        yield
    finally:
        for owner, own in before:
            if own is None:
                vars(owner).pop("step", None)
            else:  # a step that was wrapped before
                owner.step = own
        trainer._book = book
        for p, grad in gradients:
            p.grad = grad
        with mg.no_grad():
            for b, kept in buffers:
                b.copy_(kept)
        for metric, kept in metrics:
            metric.load_state_dict(kept)
        set_random_state(random)


class SystemMonitor(Callback):
    """Log what the process takes of the machine, at the Trainer's log steps.

    system/cpu_percent   processor time of the process and of its children that ended, over the
                         clock's since the last record: 100 is one core at work
    system/memory_mib    of the process: resident memory where /proc tells it, else its peak
    system/workers_mib   of its child processes (loader workers), where /proc tells it
    system/load          processes that want to run on the machine, over the last minute
    """

    def on_train_start(self, trainer: Any, module: Any) -> None:
        self._mark()

    def _mark(self) -> None:
        self._clock, self._cpu = time.perf_counter(), _cpu_s()

    def on_train_batch_end(
        self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.loggers and trainer.logs_at(trainer.global_step):
            elapsed_s = time.perf_counter() - self._clock
            if elapsed_s < 0.05:  # the processor's clock is too coarse for less
                return
            values = {"cpu_percent": 100.0 * (_cpu_s() - self._cpu) / elapsed_s, **machine_use()}
            self._mark()
            trainer.log_metrics({f"system/{name}": value for name, value in values.items()})


def _cpu_s() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def machine_use() -> dict[str, float]:
    """memory_mib, and where the system tells them workers_mib and load."""
    values: dict[str, float] = {}
    own = _resident_bytes(os.getpid())
    if own is None:
        if resource is None:
            return values
        unit = 1 if sys.platform == "darwin" else 1024
        own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    values["memory_mib"] = own / 2**20
    children = [_resident_bytes(pid) for pid in _children(os.getpid())]
    if children:
        values["workers_mib"] = sum(size or 0 for size in children) / 2**20
    if hasattr(os, "getloadavg"):
        values["load"] = os.getloadavg()[0]
    return values


def _resident_bytes(pid: int) -> int | None:
    try:
        with open(f"/proc/{pid}/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, AttributeError):
        return None


def _children(pid: int) -> list[int]:
    try:
        with open(f"/proc/{pid}/task/{pid}/children") as file:
            return [int(child) for child in file.read().split()]
    except OSError:
        return []


class SampleMonitor(Callback):
    """Give loggers the first validation images after each validation, with what is predicted.

    count    images of the first batch
    names    of the classes; None: numbers
    predict  function of (module, inputs) -> captions or scores (N, classes); None: the module's
             forward
    mean, std   of the normalization that is undone for showing; numbers, or one per channel
    """

    def __init__(
        self,
        count: int = 16,
        names: Sequence[str] | None = None,
        predict: Callable | None = None,
        mean: Any = 0.0,
        std: Any = 1.0,
    ):
        if count < 1:
            raise ArgumentError(f"SampleMonitor: count must be at least 1, got {count}")
        self.count, self.names, self.predict = count, names, predict
        self.mean, self.std = (
            np.reshape(np.asarray(v, np.float32), (-1, 1, 1)) for v in (mean, std)
        )

    def on_validation_batch_end(
        self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if batch_idx or not trainer.is_training or not isinstance(batch, (list, tuple)):
            return
        batch = trainer.precision.batch(batch)
        inputs = mg.as_tensor(batch[0])[: self.count]
        if inputs.ndim != 4 or inputs.shape[1] not in (1, 3):
            raise ArgumentError(
                "SampleMonitor: needs batches of images (N, 1 or 3, H, W) and their classes, got "
                f"inputs of shape {tuple(inputs.shape)}"
            )
        with mg.no_grad():
            found = (self.predict or (lambda m, x: m(x)))(module, inputs)
        if isinstance(found, mg.Tensor):
            found = [self._name(k) for k in found.argmax(1).tolist()]
        captions = [str(caption) for caption in found]
        if len(batch) > 1 and mg.as_tensor(batch[1]).ndim == 1:
            truth = mg.as_tensor(batch[1]).tolist()
            captions = [
                c if c == self._name(t) else f"{c} (is {self._name(t)})"
                for c, t in zip(captions, truth)
            ]
        images = inputs.float().numpy() * self.std + self.mean
        for logger in trainer.loggers:
            for i, (image, caption) in enumerate(zip(images, captions)):
                logger.log_image(f"validation/{i}", image, trainer.global_step, caption)

    def _name(self, number: Any) -> str:
        return str(self.names[int(number)] if self.names is not None else int(number))


class GraphMonitor(Callback):
    """Give loggers the graph of the model's layers, as the first training batch goes through them.

    A step that cannot be captured has no graph; then nothing is recorded.
    """

    _done = False

    def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, batch_idx: int) -> None:
        if self._done or not trainer.loggers:
            return
        self._done = True
        try:
            with undisturbed(trainer):
                graph = model_graph(module, trainer.precision.batch(batch), training=True)
        except TraceError:
            return
        for logger in trainer.loggers:
            logger.log_graph(graph)
