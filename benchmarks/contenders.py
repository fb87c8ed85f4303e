"""One training step of a workload by each framework: what run.py and first_step.py time.

`make(who, workload, weights)` gives a Contender: calling it starts one step and returns the loss as
the framework has it; `finish(loss)` waits and gives a float. Weights None: the framework's own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from models import Workload, build
from models import weights as initial_weights

OURS = ("eager", "jit")
PEERS = ("torch", "torch-tuned", "torch-compile", "jax")


@dataclass
class Contender:
    """step() -> loss; finish(loss) -> float; explain() -> mg.explain's report, for ours."""

    name: str
    step: Callable
    finish: Callable[[object], float]
    explain: Callable | None = None


def make(who: str, w: Workload, weights: dict[str, np.ndarray] | None, threads: int) -> Contender:
    """The contender `who` of OURS or PEERS."""
    if who in OURS:
        return _ours(who, w, weights)
    if who == "jax":
        return _jax(w, weights)
    return _torch(who, w, weights, threads)


def _ours(who: str, w: Workload, weights) -> Contender:
    import monograph as mg
    import monograph.nn.functional as F
    from monograph import optim

    mg.set_flush_denormal(True)
    mg.manual_seed(0)
    model = build(mg, w.name)
    if weights is not None:
        model.load_state_dict({k: mg.tensor(a) for k, a in weights.items()}, strict=False)
    x, y = (mg.tensor(a) for a in w.data())
    optimizer = {
        "sgd": lambda p: optim.SGD(p, lr=w.lr, momentum=0.9),
        "adam": lambda p: optim.Adam(p, lr=w.lr),
        "adamw": lambda p: optim.AdamW(p, lr=w.lr),
    }[w.optimizer](model.parameters())

    def step(x, y):
        loss = F.cross_entropy(model(x).reshape(-1, w.classes), y.reshape(-1))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    run = mg.jit(step) if who == "jit" else step
    return Contender(
        f"ours {who}",
        lambda: run(x, y),
        lambda loss: loss.item(),
        lambda: mg.explain(step, x, y, rounds=10),
    )


def _torch(who: str, w: Workload, weights, threads: int) -> Contender:
    import torch
    import torch.nn.functional as F

    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
    torch.manual_seed(0)
    model = build(torch, w.name)
    if weights is not None:
        model.load_state_dict({k: torch.tensor(a) for k, a in weights.items()}, strict=False)
    x, y = (torch.tensor(a) for a in w.data())
    tuned = who != "torch"
    if tuned and w.images:
        model = model.to(memory_format=torch.channels_last)
        x = x.to(memory_format=torch.channels_last)
    options = {"fused": True} if tuned else {}
    parameters = list(model.parameters())
    optimizer = {
        "sgd": lambda p: torch.optim.SGD(p, lr=w.lr, momentum=0.9, **options),
        "adam": lambda p: torch.optim.Adam(p, lr=w.lr, **options),
        "adamw": lambda p: torch.optim.AdamW(p, lr=w.lr, **options),
    }[w.optimizer](parameters)

    def loss_of(x, y):
        return F.cross_entropy(model(x).reshape(-1, w.classes), y.reshape(-1))

    if who == "torch-compile":
        loss_of = torch.compile(loss_of)

    def step():
        loss = loss_of(x, y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    return Contender(who, step, lambda loss: loss.item())


def _jax(w: Workload, weights) -> Contender:
    from jax_models import make_step

    if weights is None:
        weights = initial_weights(w.name)
    state, step, x, y = make_step(w, weights, *w.data())
    kept = [state]

    def run():
        kept[0], loss = step(kept[0], x, y)
        return loss

    return Contender("jax", run, float)
