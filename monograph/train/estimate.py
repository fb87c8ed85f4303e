"""`mg.estimate`: what a training step will take, before it is run or compiled.

The step is captured and planned as `mg.jit` would do it, up to the static memory plan; no kernel is
compiled and nothing is computed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import monograph as mg

from ..capture import Capture, Jit
from ..compiler.executable import Executable
from ..compiler.steps import Step
from ..core import pytree
from ..core.errors import ArgumentTypeError
from ..kernel.digest import digest
from ..metrics.base import postponed_updates
from ..nn import Module
from ..runtime.buffers import touched_bytes
from ..runtime.machine import cache_sizes
from ..runtime.threads import get_num_threads
from .module import TrainModule
from .optimizers import parse
from .steps import TrainStep
from .trainer import Trainer

# Of each kernel: a few pages of code, the tables of its library in the linker, and what Python
# knows of its steps. 50 to 65 KiB were measured on networks of 40 to 220 kernels.
KERNEL_BYTES = 60 << 10


@dataclass(frozen=True)
class Estimate:
    """What `estimate` found.

    parameters, trainable   numbers of elements
    flops                   of one step, multiplications and additions counted apart
    parameter_bytes         parameters and buffers of the model
    optimizer_bytes         the optimizer's state
    batch_bytes             the batch
    workspace_bytes         everything that lives only inside the step: activations, gradients
    result_bytes            what the step returns
    program_bytes           machine code with what the linker and Python hold of it, and stacks
    rounding_bytes          what the blocks of parameters and optimizer hold beyond the arrays
    peak_bytes              all of it: what a process grows by that finds the kernels in the cache;
                            one that compiles them takes more (benchmarks/peak_memory.py)
    parts                   (name, kind, parameters) of each layer that has parameters of its own
    """

    parameters: int
    trainable: int
    flops: int
    parameter_bytes: int
    optimizer_bytes: int
    batch_bytes: int
    workspace_bytes: int
    result_bytes: int
    program_bytes: int
    rounding_bytes: int
    parts: tuple[tuple[str, str, int], ...]

    @property
    def peak_bytes(self) -> int:
        return (
            self.parameter_bytes
            + self.optimizer_bytes
            + self.batch_bytes
            + self.workspace_bytes
            + self.result_bytes
            + self.program_bytes
            + self.rounding_bytes
        )

    def __str__(self) -> str:
        wide = max([len(name) for name, _, _ in self.parts], default=0)
        lines = [f"{name:<{wide}}  {kind:<16} {count:>14,}" for name, kind, count in self.parts]
        lines.append(f"parameters: {self.parameters:,} ({self.trainable:,} trainable)")
        lines.append(f"one step: {self.flops / 1e9:.4g} GFLOP")
        for name in (
            "parameter",
            "optimizer",
            "batch",
            "workspace",
            "result",
            "program",
            "rounding",
            "peak",
        ):
            lines.append(f"{name + ':':<11} {getattr(self, name + '_bytes') / 2**20:>10.2f} MiB")
        return "\n".join(lines)


class _Planned(Executable):
    """An executable that stops at the memory plan."""

    def _link(self) -> None:
        pass


class _PlannedCapture(Capture):
    def compile(self) -> None:
        self.executable = _Planned(self.graph, self.donate)


def estimate(
    model: Any, batch: Any, loss: Callable | None = None, optimizer: Any = None
) -> Estimate:
    """Parameters, arithmetic and memory of one step of `model` on `batch`.

    model      a TrainModule (its training_step and configure_optimizers are taken), or any Module:
               then the step is model(batch), or with `loss` training on (inputs, targets)
    batch      as a loader gives it; only shapes and dtypes matter
    loss       function of (outputs, targets)
    optimizer  of the training; None: the gradients are computed and dropped

    TraceError if the step cannot be captured.

    >>> from monograph import nn
    >>> found = estimate(nn.Linear(100, 10), mg.zeros(32, 100))
    >>> found.parameters, found.flops, found.parameter_bytes, found.batch_bytes
    (1010, 64000, 4040, 12800)
    """
    if not isinstance(model, Module):
        raise ArgumentTypeError(f"estimate: needs a Module, got {type(model).__name__}")
    leaves, structure = pytree.flatten(batch)
    leaves = [mg.as_tensor(x) if isinstance(x, np.ndarray) else x for x in leaves]
    step, optimizers, restore = _step_of(model, loss, optimizer)
    try:

        def run(*given: Any) -> Any:
            with postponed_updates():
                return step(structure.unflatten(given))

        capture = _PlannedCapture(Jit(run), leaves, pytree.flatten((tuple(leaves), {}))[1], set())
    finally:
        restore()
    return _measure(model, capture, optimizers)


def _step_of(model: Any, loss: Callable | None, optimizer: Any) -> tuple[Any, list, Callable]:
    """(the function of a batch, its optimizers, what to call afterwards)."""
    if isinstance(model, TrainModule) and loss is None:
        before, modes = model.__dict__.get("trainer"), {m: m.training for m in model.modules()}
        trainer = Trainer(enable_progress_bar=False)
        trainer._attach(model, None)
        trainer.optimizers, trainer._schedules = parse(model.configure_optimizers())
        model.train()
        whole = TrainStep(trainer, model, trainer.optimizers)
        trainer._book.start(True, False)
        index = mg.tensor(0)

        def restore() -> None:
            model.__dict__["trainer"] = before
            for m, mode in modes.items():
                m.training = mode

        return lambda batch: whole._whole(batch, index), trainer.optimizers, restore

    def step(batch: Any) -> Any:
        if loss is None:
            with mg.no_grad():
                return model(batch)
        value = loss(model(batch[0]), batch[1])
        model.zero_grad()
        value.backward()
        if optimizer is not None:
            optimizer.step()
        model.zero_grad()
        return value.detach()

    return step, [] if optimizer is None else [optimizer], lambda: None


def _measure(model: Any, capture: Capture, optimizers: list) -> Estimate:
    plan = capture.executable.plan
    parameters = list(model.parameters())
    held = {id(t): t for t in [*parameters, *model.buffers()]}
    sources = {"batch": 0, "optimizer": 0}
    rounding = sum(touched_bytes(t.nbytes) - t.nbytes for t in held.values())
    for source in capture.inputs:
        size = int(np.prod(source.aval.shape)) * source.aval.dtype.itemsize
        if source.kind == "arg":
            sources["batch"] += size
        elif source.kind == "captured" and id(source.source) not in held:
            sources["optimizer"] += size
            rounding += touched_bytes(size) - size
    donated = set(capture.donate)
    results = sum(
        int(np.prod(v.aval.shape)) * v.aval.dtype.itemsize
        for o, v in enumerate(capture.graph.outputs)
        if o not in donated
    )
    parts = []
    for name, part in model.named_modules():
        own = sum(p.numel() for p in part.parameters(recurse=False))
        if own:
            parts.append((name or type(part).__name__, type(part).__name__, own))
    return Estimate(
        parameters=sum(p.numel() for p in parameters),
        trainable=sum(p.numel() for p in parameters if p.requires_grad),
        flops=sum(getattr(s, "flops", 0) for s in plan.steps),
        parameter_bytes=sum(t.nbytes for t in held.values()),
        optimizer_bytes=sources["optimizer"],
        batch_bytes=sources["batch"],
        workspace_bytes=touched_bytes(plan.arena_bytes),
        result_bytes=results,
        program_bytes=_program_bytes(plan),
        rounding_bytes=rounding,
        parts=tuple(parts),
    )


def _program_bytes(plan: Any) -> int:
    """Memory that the program itself takes.

    A thread keeps what a chunk works on in its stack: at most half of its second cache.
    """
    kernels = {digest(s.kernel) for s in plan.steps if isinstance(s, Step)}
    stack = min(cache_sizes().l2 // 2, plan.arena_bytes)
    return KERNEL_BYTES * len(kernels) + stack * get_num_threads()
