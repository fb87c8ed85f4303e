"""A linter for training: bugs that raise no error, looked for before the first step.

`Trainer(lint=True)` runs the training step once, eagerly, on the first batch, and watches: every
operation at the door, every call of a loss, every module. Weights, optimizers, random state and
loaders are as before afterwards. Each finding is a LintWarning with a line of the user's, where one
is to blame, and what to do.
"""

from __future__ import annotations

import inspect
import random
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

import monograph as mg

from ..core import pytree
from ..core.errors import PACKAGE_DIR, Place, user_place
from ..ir import dispatch
from ..nn import BatchNorm1d, BatchNorm2d, BatchNorm3d, Dropout
from ..ops.cross_entropy import cross_entropy
from .batches import batch_size
from .seeding import random_state, set_random_state
from .state import own_state, unchanged_metrics

SAMPLES = 2048  # from the head of each split, that are compared for leaks
LARGE_INPUT, LARGE_ACTIVATION = 50.0, 1e4


class LintWarning(UserWarning):
    """Something that trains, but probably not as it was meant."""


@dataclass(frozen=True)
class Finding:
    """One thing that the linter found."""

    rule: str
    message: str
    place: Place | None = None

    def __str__(self) -> str:
        return f"{self.rule}: {self.message}" + (f"\n  at {self.place}" if self.place else "")


def lint(trainer: Any, loader: Any, val_loaders: list[Any]) -> list[Finding]:
    """Look for silent bugs of the training that `trainer` is about to begin; warn of each."""
    module, found = trainer.module, []
    found += unoptimized(trainer)
    found += eval_slips(trainer)
    found += shared_generators(loader)
    before = random_state()
    loader_state = own_state(loader)
    batch = _first(loader)
    if batch is not None:
        found += odd_inputs(batch)
        with unchanged_metrics(module):
            found += _watch_step(trainer, batch)
    found += leaks(loader, val_loaders)
    if loader_state is not None:
        loader.load_state_dict(loader_state)
    set_random_state(before)
    module.zero_grad()
    for finding in found:
        warnings.warn(str(finding), LintWarning, stacklevel=2)
    return found


def _first(loader: Any) -> Any:
    """A first batch, if the loader can give it again later; else None."""
    if iter(loader) is loader:
        return None
    return next(iter(loader), None)


# What needs no run


def unoptimized(trainer: Any) -> Iterator[Finding]:
    """Parameters that require a gradient and that no optimizer has."""
    known = {id(p) for o in trainer.optimizers for g in o.param_groups for p in g["params"]}
    if not trainer.optimizers:
        return
    names = [
        name
        for name, p in trainer.module.named_parameters()
        if p.requires_grad and id(p) not in known
    ]
    if names:
        yield Finding(
            "unoptimized",
            f"{_listed(names)} in no optimizer of {type(trainer.module).__name__}, so never "
            "trained; give the optimizer self.parameters(), or set requires_grad=False",
        )


def eval_slips(trainer: Any) -> Iterator[Finding]:
    """Layers in eval mode at the start of training, though they act otherwise in training."""
    kinds = (BatchNorm1d, BatchNorm2d, BatchNorm3d, Dropout)
    names = [
        name
        for name, part in trainer.module.named_modules()
        if isinstance(part, kinds) and not part.training
    ]
    if names:
        yield Finding(
            "eval-mode",
            f"{_listed(names)} in eval mode when training starts; call .train() where .eval() was "
            "called before",
        )


def shared_generators(loader: Any) -> Iterator[Finding]:
    """A random generator that a data set holds: every worker gets a copy in the same state."""
    dataset = getattr(loader, "dataset", None)
    kinds = (np.random.Generator, np.random.RandomState, random.Random, mg.Generator)
    for name, value in getattr(dataset, "__dict__", {}).items():
        if isinstance(value, kinds) and getattr(loader, "num_workers", 0) > 0:
            yield Finding(
                "worker-seeds",
                f"{type(dataset).__name__}.{name} is a generator of its own, of which each of the "
                f"{loader.num_workers} workers has a copy that draws the same numbers; draw from "
                "numpy.random, random or mg, which the loader seeds for each batch",
            )


def odd_inputs(batch: Any) -> Iterator[Finding]:
    """Inputs that are constant, not finite, or far from the scale that networks expect."""
    leaves = [x for x in pytree.tree_leaves(batch) if isinstance(x, (mg.Tensor, np.ndarray))]
    if not leaves or leaves[0].ndim < 2:
        return
    x = leaves[0].detach().numpy() if isinstance(leaves[0], mg.Tensor) else leaves[0]
    is_float = isinstance(leaves[0], np.ndarray) and x.dtype.kind == "f"
    is_float = is_float or isinstance(leaves[0], mg.Tensor) and leaves[0].dtype.is_floating_point
    if not is_float or not x.size:
        return
    x = x.astype(np.float64)
    if not np.isfinite(x).all():
        yield Finding("inputs", "the first batch holds nan or infinite inputs; clean the data")
        return
    if len(x) > 1 and (x == x.reshape(-1)[0]).all():
        yield Finding("inputs", f"all inputs of the first batch are {x.reshape(-1)[0]:g}")
        return
    if x.ndim == 2 and len(x) >= 8:
        constant = np.flatnonzero((x == x[0]).all(axis=0))
        if 0 < len(constant) < x.shape[1] and len(constant) <= x.shape[1] // 4:
            yield Finding(
                "inputs",
                f"features {_listed(map(str, constant.tolist()))} the same in every sample of the "
                "first batch; leave them out, or see why",
            )
    scale = np.sqrt((x**2).mean())
    if scale > LARGE_INPUT:
        yield Finding(
            "inputs",
            f"inputs are in [{x.min():.4g}, {x.max():.4g}]; networks expect a mean near 0 and a "
            "deviation near 1: divide by 255 (images) or subtract the mean and divide by the "
            "deviation",
        )


def leaks(loader: Any, val_loaders: list[Any]) -> Iterator[Finding]:
    """Validation samples that are training samples too."""
    known = _digests(getattr(loader, "dataset", None))
    if not known:
        return
    for number, other in enumerate(val_loaders):
        dataset = getattr(other, "dataset", None)
        mine = _digests(dataset)
        same = len(known & mine)
        if mine and same > max(1, len(mine) // 20):
            whose = "the training data itself" if dataset is loader.dataset else "training samples"
            yield Finding(
                "leak",
                f"{same} of {len(mine)} validation samples looked at (loader {number}) are "
                f"{whose}; split the data so that no sample is in both",
            )


def _digests(dataset: Any) -> set[bytes]:
    """What the first samples of a map-style data set hold, as bytes."""
    if dataset is None or not hasattr(dataset, "__len__") or not hasattr(dataset, "__getitem__"):
        return set()
    found = set()
    for i in range(min(len(dataset), SAMPLES)):
        leaves = pytree.tree_leaves(dataset[i])
        arrays = [x for x in leaves if isinstance(x, (mg.Tensor, np.ndarray)) and x.ndim]
        if not arrays:
            return set()
        first = arrays[0].detach().numpy() if isinstance(arrays[0], mg.Tensor) else arrays[0]
        if first.size < 4:
            return set()
        found.add(first.tobytes())
    return found


# What is seen in one step


def _watch_step(trainer: Any, batch: Any) -> list[Finding]:
    module, step = trainer.module, trainer._loop.step
    weights = {k: v.detach().clone() for k, v in module.state_dict().items()}
    optimizers = [pytree.tree_map(_copied, o.state_dict()) for o in trainer.optimizers]
    found: list[Finding] = []
    before = random_state()
    trainer._book.start(True, False)
    with _Watch(module, batch_size(batch)) as watch:
        result = trainer.precision.run(step.training_step, batch, 0)
        loss = result.get("loss") if isinstance(result, dict) else result
        if step.automatic and isinstance(loss, mg.Tensor) and loss.requires_grad:
            module.zero_grad()
            loss.backward()
    found += watch.found.values()
    if step.automatic and isinstance(loss, mg.Tensor):
        found += _gradients(step)
        if step.windows and not (isinstance(result, dict) and "weight" in result):
            set_random_state(before)
            found += _sums(trainer, batch)
    module.load_state_dict(weights)
    for optimizer, kept in zip(trainer.optimizers, optimizers):
        optimizer.load_state_dict(kept)
    trainer._book.start(True, False)
    return found


def _copied(x: Any) -> Any:
    return x.detach().clone() if isinstance(x, mg.Tensor) else x


def _gradients(step: Any) -> Iterator[Finding]:
    """Parameters of the optimizer that the loss does not reach, or reaches with zeros."""
    names = {id(p): name for name, p in step.module.named_parameters()}
    wanted = [p for p in step.params if p.requires_grad]
    missing = [names.get(id(p), "?") for p in wanted if p.grad is None]
    zero = [
        names.get(id(p), "?")
        for p in wanted
        if p.grad is not None and not p.grad.numpy().astype(np.float64).any()
    ]
    if missing:
        yield Finding(
            "disconnected",
            f"the loss does not depend on {_listed(missing, are=False)}; use them in "
            "training_step, or leave them out of the optimizer (watch for detach() and no_grad())",
        )
    if zero:
        yield Finding(
            "dead",
            f"the gradients of {_listed(zero)} zero for the whole first batch, as behind units "
            "that never fire; look at the initial weights and the scale of what comes in",
        )


def _sums(trainer: Any, batch: Any) -> Iterator[Finding]:
    """With accumulation a loss must be a mean over the batch: it is not, if twice the batch gives
    twice the loss."""
    module, step = trainer.module, trainer._loop.step
    size = batch_size(batch)

    def double(x: Any) -> Any:
        if isinstance(x, (mg.Tensor, np.ndarray)) and x.ndim and x.shape[0] == size:
            x = mg.as_tensor(x)
            return mg.cat([x, x])
        return x

    modes = {m: m.training for m in module.modules()}
    module.eval()
    values = []
    with mg.no_grad():
        for b in (batch, pytree.tree_map(double, batch)):
            trainer._book.start(True, False)
            result = trainer.precision.run(step.training_step, b, 0)
            loss = result.get("loss") if isinstance(result, dict) else result
            values.append(float(loss))
    for m, mode in modes.items():
        m.training = mode
    if abs(values[1] - 2 * values[0]) < 1e-3 * abs(values[1]) and values[0]:
        yield Finding(
            "accumulation",
            "the loss is a sum over the batch, but batches that are accumulated are weighted by "
            'their samples; return a mean, or {"loss": mean, "weight": what the batch counts}',
        )


class _Watch:
    """Sees every operation, every call of cross_entropy and every module's output in its body."""

    def __init__(self, module: Any, size: int):
        self.module, self.size = module, size
        self.found: dict[tuple[str, Any], Finding] = {}
        self._expanded: dict[int, tuple[Any, tuple[int, ...]]] = {}

    def __enter__(self) -> _Watch:
        self._handling = dispatch.handling(self._handler(dispatch._handler[0]))
        self._handling.__enter__()
        self._hooks = [
            part.register_forward_hook(self._output(name))
            for name, part in self.module.named_modules()
            if name
        ]
        self._profile = sys.getprofile()
        sys.setprofile(self._call)
        return self

    def __exit__(self, *exc: Any) -> None:
        sys.setprofile(self._profile)
        for hook in self._hooks:
            hook.remove()
        self._handling.__exit__(*exc)

    def _add(self, rule: str, message: str, place: Place | None) -> None:
        self.found.setdefault((rule, place), Finding(rule, message, place))

    def _handler(self, handler: Any) -> Any:
        def handle(op: Any, args: tuple) -> Any:
            result = handler(op, args)
            if op.name == "expand" and isinstance(result, mg.Tensor):
                # Kept with the tensor, so that its id is nobody else's.
                self._expanded[id(result)] = (result, op.axes)
            elif op.kind == "elementwise" and len(args) > 1:
                self._look_at(result, args)
            return result

        return handle

    def _look_at(self, result: Any, args: tuple) -> None:
        both = [self._expanded[id(a)] for a in args if id(a) in self._expanded]
        if len(both) < 2 or self.size < 2 or not isinstance(result, mg.Tensor):
            return
        (first, axes), (second, others) = both[:2]
        grown = {a for a in (*axes, *others) if first.shape[a] == self.size}
        if set(axes) == set(others) or len(grown) < 2 or not result.requires_grad:
            return
        if first.requires_grad and second.requires_grad:
            return
        shapes = [
            tuple(1 if a in axes_ else n for a, n in enumerate(t.shape)) for t, axes_ in both[:2]
        ]
        self._add(
            "broadcast",
            f"a prediction and a target of shapes {shapes[0]} and {shapes[1]} broadcast to "
            f"{tuple(first.shape)}: every sample is compared with every other; give both the same "
            "shape, as with target.reshape(prediction.shape)",
            user_place(),
        )

    def _output(self, name: str) -> Any:
        def look(part: Any, inputs: Any, output: Any) -> None:
            for x in pytree.tree_leaves(output):
                if not isinstance(x, mg.Tensor) or not x.dtype.is_floating_point or not x.numel():
                    continue
                largest = float(np.abs(x.detach().numpy().astype(np.float64)).max())
                if not largest < LARGE_ACTIVATION and not any(
                    rule == "activations" for rule, _ in self.found
                ):
                    self._add(
                        "activations",
                        f"the output of {name} ({type(part).__name__}) reaches {largest:.3g} "
                        "before training; scale its inputs or its initial weights down",
                        None,
                    )

        return look

    def _call(self, frame: Any, event: str, argument: Any) -> None:
        if event != "call" or frame.f_code is not _CROSS_ENTROPY:
            return
        scores = frame.f_locals.get(frame.f_code.co_varnames[0])
        if not isinstance(scores, mg.Tensor) or scores.ndim < 2:
            return
        values = scores.detach().numpy().astype(np.float64)
        if values.shape[1] > 1 and (values >= 0).all():
            if np.allclose(values.sum(axis=1), 1.0, atol=1e-4):
                self._add(
                    "softmax",
                    "cross_entropy receives probabilities, but applies softmax itself; give it "
                    "the scores before softmax",
                    _place_of(frame),
                )


# The function itself, under whatever wraps it for the public name.
_CROSS_ENTROPY = inspect.unwrap(cross_entropy).__code__


def _place_of(frame: Any) -> Place | None:
    while frame is not None and frame.f_code.co_filename.startswith(PACKAGE_DIR):
        frame = frame.f_back
    if frame is None:
        return None
    return Place(frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name)


def _listed(names: Any, are: bool = True) -> str:
    """Names in words: `a is`, `a and b are`, `a, b and 5 more are`."""
    names = list(names)
    shown = names if len(names) <= 4 else [*names[:3], f"{len(names) - 3} more"]
    text = shown[0] if len(shown) == 1 else ", ".join(shown[:-1]) + f" and {shown[-1]}"
    return text + ((" is" if len(names) == 1 else " are") if are else "")
