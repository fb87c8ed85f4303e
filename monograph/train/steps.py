"""The steps that the Trainer repeats, each captured as one program.

TrainStep holds forward, backward, accumulation, clipping and optimizer; EvalStep runs a
validation, test or predict step. Both fall back to eager execution, with one warning, where the
module's Python cannot be captured. Read next: loop.py.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import monograph as mg

from ..capture_replay import NO
from ..core import pytree
from ..core.errors import ArgumentError, ArgumentTypeError, CompileError, TraceError
from ..core.modes import modes
from ..core.tracing import concrete
from ..metrics.base import Later, catch_up, postponed_updates
from ..transform.contents import Contents
from ..transform.trace import Symbol
from .batches import batch_size
from .logbook import LogBook

_PLAIN = (mg.Tensor, np.ndarray, bool, int, float, np.number, np.bool_)


class Compiled:
    """A function of (batch, batch number, choices...) -> (result, logged), captured unless that
    fails.

    A program takes the tensors of a batch as they are and reads the number from `index`, a tensor
    of its own: nothing is built or looked up for a call where the batch is like the last one, and
    the variant that took that one is asked first, past what else a call of `mg.jit` looks at.
    """

    def __init__(self, function: Callable, jit: bool, name: str, module: Any):
        self.function, self.module = function, module
        self.name = name
        self.jit = jit
        self.programs: dict[Any, Any] = {}  # (structure of the batch, choices) -> program
        self._kind: Any = None  # of the last batch, where it was a plain row of tensors
        self._choices: tuple = ()
        self._program: Any = None
        self.numbers: set[str] = set()  # what captured steps have logged as Python numbers
        self.number = 0  # of the batch
        self._samples: int | None = None  # in the batch, if known: short ways take equal shapes
        self.cell = np.zeros((), np.int64)  # the same where programs read it
        self.index = mg.from_numpy(self.cell)

    def __call__(self, batch: Any, batch_idx: int, *choices: Any) -> Any:
        """(result, what was logged: a dict, or a tuple of names whose value is the result)."""
        self.number = batch_idx
        if type(batch) is self._kind and choices == self._choices:
            program = self._program
            if program.reads_index:
                self.cell[()] = batch_idx
            made = program.jit.call_again(batch)
            if made is not NO:
                result = program.result
                if result.is_bare:
                    return made, result.names
                return program.finish(made)
        return self._slowly(batch, choices)

    def _slowly(self, batch: Any, choices: tuple) -> Any:
        """A batch that is not like the last one."""
        self._kind = self._samples = None
        if not self.jit:
            return self.function(batch, self.number, *choices)
        leaves, structure = pytree.flatten(batch)
        odd = next((x for x in leaves if not isinstance(x, _PLAIN)), None)
        if odd is not None:
            self._give_up(f"the batch holds {type(odd).__name__}, which varies")
            return self.function(batch, self.number, *choices)
        key = (structure, *choices)
        program = self.programs.get(key)
        if program is None:
            program = self.programs[key] = _Program(self, structure, choices)
        self.cell[()] = self.number
        try:
            made = program.jit(*leaves)
        except (TraceError, CompileError) as error:
            self._give_up(str(error))
            return self.function(batch, self.number, *choices)
        except _OtherResult:  # a guard changed, and with it what is returned or logged
            del self.programs[key]
            return self._slowly(batch, choices)
        latest = program.jit.latest
        if type(batch) in (list, tuple) and len(batch) == len(leaves) and latest is not None:
            self._kind, self._choices = type(batch), choices
            self._program = program
        return program.finish(made)

    def samples(self, batch: Any) -> int:
        """batch_size(batch) of the batch of the last call."""
        if self._samples is None:
            self._samples = batch_size(batch)
        return self._samples

    @property
    def captures(self) -> int:
        """How many programs were compiled."""
        jits = [program.jit for program in self.programs.values()]
        return sum(len(v) for jit in jits for v in jit.captures.values())

    def _give_up(self, reason: str) -> None:
        self.jit, self._kind = False, None
        warnings.warn(
            f"Trainer: {self.name} runs eagerly from now on, because it cannot be captured: "
            f"{reason}. What needs values can go into a hook (on_train_batch_end, "
            "on_validation_batch_end); Trainer(jit=False) silences this",
            RuntimeWarning,
            stacklevel=3,
        )


class _OtherResult(Exception):
    """A program was captured anew and gives something of another structure."""


class _Program:
    """A captured function of the tensors of a batch. It gives each tensor once, and bare if there
    is one alone (the loss, which is often logged too): that is what leaves a program quickest."""

    def __init__(self, owner: Compiled, structure: Any, choices: tuple):
        self.result: Any = None

        self.reads_index = False

        def run(*leaves: Any) -> Any:
            owner.cell[()] = owner.number
            with postponed_updates() as updates:
                made = owner.function(structure.unflatten(leaves), owner.index, *choices)
            if type(owner.index._payload) is Symbol:
                self.reads_index = True
            _refuse_reading(owner.index)
            _refuse_collections(owner.module)
            owner.numbers |= {name for name, x in made[1].items() if type(x) is float}
            result, tensors = _Result.of((made[0], updates), made[1])
            if self.result is None:
                self.result = result
            elif self.result != result:
                raise _OtherResult
            return tensors[0] if len(tensors) == 1 else tuple(tensors)

        run.__name__ = run.__qualname__ = owner.name
        self.jit = mg.jit(run)

    def finish(self, made: Any) -> tuple[Any, dict]:
        """(result, logged) of a call; metrics take in what it gave."""
        (result, updates), logged = self.result.rebuilt(made)
        if updates:
            catch_up(updates)
            logged = {k: v.value if type(v) is Later else v for k, v in logged.items()}
        return result, logged


def _refuse_reading(index: Any) -> None:
    """TraceError if the step in progress has seen the batch's number in Python: a program would be
    right for this batch alone."""
    for getter, *_ in modes.trace.guards if modes.trace is not None else ():
        if isinstance(getter, Contents) and getter.tensor is index:
            raise TraceError(f"it reads the batch's number in Python ({getter.operation})")


def _refuse_collections(module: Any) -> None:
    """TraceError if the step in progress has put tensors into a list or dict of the module: they
    are of this capture alone, and later calls would put none there. They are taken out again."""
    trace = modes.trace
    known = {id(c.tensor) for c in trace.captured} if trace is not None else set()

    def is_lost(x: Any) -> bool:
        return isinstance(x, mg.Tensor) and type(x._payload) is Symbol and id(x) not in known

    found: list[str] = []
    for path, part in module.named_modules():
        for name, kept in list(vars(part).items()):
            if isinstance(kept, list):
                sound = [x for x in kept if not any(map(is_lost, pytree.tree_leaves(x)))]
                lost = len(sound) < len(kept)
                if lost:
                    kept[:] = sound
            elif isinstance(kept, dict) and not name.startswith("_"):
                bad = [k for k, x in kept.items() if any(map(is_lost, pytree.tree_leaves(x)))]
                lost = bool(bad)
                for k in bad:
                    del kept[k]
            else:
                continue
            if lost:
                found.append(".".join(["self", *filter(None, [path, name])]))
    if found:
        raise TraceError(f"it keeps tensors of the step in {' and '.join(found)}")


@dataclass
class _Result:
    """How ((result, updates of metrics), logged) is put together from what a program gives."""

    structure: Any  # of the result
    leaves: list[tuple[bool, Any]]  # (is a tensor, its number) or (False, another value)
    logged: dict[str, tuple[bool, Any]]
    is_bare: bool  # one tensor, which is the result and all that was logged; no updates
    names: tuple[str, ...]  # of what was logged

    @classmethod
    def of(cls, result: Any, logged: dict[str, Any]) -> tuple[_Result, list[mg.Tensor]]:
        numbers: dict[Any, int] = {}
        tensors: list[mg.Tensor] = []

        def place(x: Any) -> tuple[bool, Any]:
            if not isinstance(x, mg.Tensor):
                return False, x
            payload = x._value()
            key = _origin(payload.value) if isinstance(payload, Symbol) else id(x)
            if key not in numbers:
                numbers[key] = len(tensors)
                tensors.append(x)
            return True, numbers[key]

        leaves, structure = pytree.flatten(result)
        places = [place(x) for x in leaves]
        known = {name: place(x) for name, x in logged.items()}
        is_bare = (
            type(result[0]) is mg.Tensor
            and not result[1]
            and len(tensors) == 1
            and all(is_tensor for is_tensor, _ in known.values())
        )
        return cls(structure, places, known, is_bare, tuple(known)), tensors

    def rebuilt(self, made: Any) -> tuple[Any, dict[str, Any]]:
        """(result, logged) around the tensors of a call."""
        if type(made) is mg.Tensor:
            made = (made,)
        logged = {name: made[x] if is_t else x for name, (is_t, x) in self.logged.items()}
        leaves = [made[x] if is_t else x for is_t, x in self.leaves]
        return self.structure.unflatten(leaves), logged


def _origin(value: Any) -> Any:
    """The value of the graph that `value` is, but for detach()."""
    while value.node is not None and value.node.op.name == "detach":
        value = value.node.inputs[0]
    return value


class TrainStep:
    """One batch of training.

    With accumulation the gradient of a window of batches is the mean over all its samples: each
    batch counts by its number of samples (or by the "weight" that training_step returns, say its
    number of tokens), also in a last window that is shorter.
    """

    def __init__(self, trainer: Any, module: Any, optimizers: list[Any]):
        self.trainer, self.module = trainer, module
        self.automatic = module.automatic_optimization
        if self.automatic and len(optimizers) > 1:
            raise ArgumentError(
                f"Trainer: {len(optimizers)} optimizers need manual optimization",
                hint="set automatic_optimization = False and call manual_backward, "
                "optimizer.step() and optimizer.zero_grad() in training_step",
            )
        if trainer.precision.scaler.is_enabled() and not self.automatic:
            raise ArgumentError(
                'Trainer: precision="16-mixed" scales losses, which needs automatic optimization',
                hint='use "bf16-mixed", or mg.autocast and a GradScaler in training_step',
            )
        self.optimizer = optimizers[0] if optimizers and self.automatic else None
        self.params = (
            [p for group in self.optimizer.param_groups for p in group["params"]]
            if self.optimizer
            else []
        )
        self.windows = trainer.accumulate_grad_batches > 1
        if self.windows and not self.automatic:
            raise ArgumentError("Trainer: accumulate_grad_batches needs automatic optimization")
        self.name = f"{type(module).__name__}.training_step"
        self.training_step = with_index(module.training_step)
        function = self._part if self.windows else self._whole
        self.compiled = Compiled(function, trainer.jit, self.name, module)
        self.sums: list[mg.Tensor] | None = None
        self.total: Any = None  # the weights of the window so far, a tensor
        self.touched: set[int] = set()
        self.inside = 0  # batches in the window so far

    def __call__(self, batch: Any, batch_idx: int, ends: bool) -> tuple[Any, Any, bool]:
        """(what training_step returned, what it logged, whether parameters were updated). What it
        logged is a dict, or a tuple of names whose value is what it returned."""
        if not self.windows:
            outputs, logged = self.compiled(batch, batch_idx)
            return outputs, logged, outputs is not None or not self.automatic
        if self.sums is None:
            self.sums = [mg.zeros_like(p, requires_grad=False) for p in self.params]
            self.total = mg.zeros((), dtype=mg.float64)
        outputs, logged = self.compiled(batch, batch_idx, self.inside == 0, ends)
        if ends and outputs is not None:
            self.inside = 0
        elif outputs is not None:
            self.inside += 1
        return outputs, logged, ends and outputs is not None

    # What is captured

    def _whole(self, batch: Any, batch_idx: Any) -> tuple[Any, dict]:
        precision = self.trainer.precision
        self.trainer._book.start(True, False)
        result = precision.run(self.training_step, batch, batch_idx)
        loss = self._loss_of(result)
        if loss is not None and self.optimizer is not None:
            self.module.on_before_zero_grad(self.optimizer)
            self.module.optimizer_zero_grad(self.optimizer)
            precision.scaler.scale(loss).backward()
            self._finish()
        return detached(result), self.trainer._book.take()

    def _part(self, batch: Any, batch_idx: Any, first: bool, ends: bool) -> tuple[Any, dict]:
        precision = self.trainer.precision
        self.trainer._book.start(True, False)
        result = precision.run(self.training_step, batch, batch_idx)
        loss = self._loss_of(result)
        if loss is None:
            return None, self.trainer._book.take()
        assert self.optimizer is not None and self.sums is not None
        weight = result.get("weight") if isinstance(result, dict) else None
        weight = mg.as_tensor(batch_size(batch) if weight is None else weight).detach()
        self.module.optimizer_zero_grad(self.optimizer)
        precision.scaler.scale(loss * weight.to(loss.dtype)).backward()
        with mg.no_grad():
            weight = weight.to(self.total.dtype)
            self.total.copy_(weight) if first else self.total.add_(weight)
            for p, kept in zip(self.params, self.sums):
                if p.grad is not None:
                    self.touched.add(id(p))
                    kept.copy_(p.grad) if first else kept.add_(p.grad)
                elif first:
                    kept.zero_()
            if ends:
                self.module.on_before_zero_grad(self.optimizer)
                for p, kept in zip(self.params, self.sums):
                    if id(p) in self.touched:
                        p.grad = kept / self.total.to(kept.dtype)
        if ends:
            self._finish()
        else:
            self.module.zero_grad()
        return detached(result), self.trainer._book.take()

    def _finish(self) -> None:
        """From gradients to new parameters. The gradients are dropped: none leaves the program."""
        module, trainer = self.module, self.trainer
        scaler = trainer.precision.scaler
        scaler.unscale_(self.optimizer)
        module.on_after_backward()
        module.configure_gradient_clipping(
            self.optimizer, trainer.gradient_clip_val, trainer.gradient_clip_algorithm
        )
        module.on_before_optimizer_step(self.optimizer)
        scaler.step(self.optimizer)
        scaler.update()
        module.zero_grad()

    def _loss_of(self, result: Any) -> Any:
        if not self.automatic:
            return None
        loss = result
        if isinstance(result, dict):
            if "loss" not in result:
                raise ArgumentError(
                    f"{self.name} returned a dict without 'loss'; it has {sorted(map(str, result))}"
                )
            loss = result["loss"]
        if loss is None:
            return None
        if not isinstance(loss, mg.Tensor):
            raise ArgumentTypeError(
                f"{self.name} must return the loss (a tensor), a dict with 'loss', or None; "
                f"got {type(loss).__name__}"
            )
        if loss.numel() != 1:
            raise ArgumentError(
                f"{self.name}: the loss must be one number, got a tensor of shape "
                f"{tuple(loss.shape)}"
            )
        if self.optimizer is not None and not loss.requires_grad:
            raise ArgumentError(
                f"{self.name}: the loss does not depend on any parameter that requires a gradient"
            )
        return loss

    # For checkpoints inside a window

    def state_dict(self) -> dict[str, Any] | None:
        if not self.inside or self.sums is None:
            return None
        touched = [i for i, p in enumerate(self.params) if id(p) in self.touched]
        return {
            "batches": self.inside,
            "total": self.total,
            "touched": touched,
            "sums": list(self.sums),
        }

    def load_state_dict(self, state: dict[str, Any] | None) -> None:
        if state is None or not self.windows:
            return
        with concrete():
            self.inside = state.get("batches", 1)
            self.total = mg.as_tensor(state["total"] if "total" in state else state["samples"])
            self.total = self.total.to(mg.float64)
            self.sums = list(state["sums"])
            self.touched = {id(self.params[i]) for i in state["touched"]}


class EvalStep:
    """One batch of validation, test or prediction: no gradients."""

    def __init__(self, trainer: Any, module: Any, kind: str, several: bool):
        self.module = module  # kept alive: the Trainer finds this step by the module's id
        self.book = LogBook()  # lives as long as the captured programs, which log into it
        step = with_index(getattr(module, f"{kind}_step"))

        def run(batch: Any, batch_idx: Any, loader: int) -> tuple[Any, dict]:
            self.book.start(False, True)
            rest = (batch_idx, loader) if several else (batch_idx,)
            result = trainer.precision.run(step, batch, *rest)
            return detached(result), trainer._book.take()

        name = f"{type(module).__name__}.{kind}_step"
        self.compiled = Compiled(run, trainer.jit, name, module)

    def __call__(self, batch: Any, batch_idx: int, loader: int) -> tuple[Any, dict]:
        """(what the step returned, what it logged)."""
        with mg.no_grad():
            result, logged = self.compiled(batch, batch_idx, loader)
        return result, dict.fromkeys(logged, result) if type(logged) is tuple else logged


def with_index(step: Callable) -> Callable:
    """A step as a function of (batch, batch number, ...): the user's may be one of batch alone."""
    try:
        accepted = inspect.signature(step).parameters.values()
    except (TypeError, ValueError):
        return step
    if len(accepted) == 1 and next(iter(accepted)).kind in (
        inspect.Parameter.POSITIONAL_ONLY,
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
    ):
        return lambda batch, *_: step(batch)
    return step


def detached(result: Any) -> Any:
    """The same structure with detached tensors."""
    return pytree.tree_map(lambda x: x.detach() if isinstance(x, mg.Tensor) else x, result)
