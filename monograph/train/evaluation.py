"""The loop of validation, testing and prediction."""

from __future__ import annotations

from typing import Any

from .batches import batch_size, count_batches, limited
from .steps import EvalStep


class EvalLoop:
    """One pass over the loaders of a kind ("validation", "test" or "predict")."""

    def __init__(self, trainer: Any, kind: str, loaders: list[Any]):
        self.trainer, self.kind, self.loaders = trainer, kind, loaders

    def run(
        self, limit: int | None = None, quiet: bool = False
    ) -> tuple[dict[str, float], list[list[Any]]]:
        """(what was logged, what predict_step returned by loader).

        limit  batches of each loader, in place of the Trainer's
        quiet  log and publish nothing (sanity checks)
        """
        trainer, kind, hooks = self.trainer, self.kind, self.trainer.hooks
        module = trainer.module
        modes = {m: m.__dict__["_training"] for m in module.modules()}
        module.eval()
        step = trainer.eval_step(kind, len(self.loaders) > 1)
        outer, trainer._book = trainer._book, step.book
        step.book.begin()
        outputs = []
        limit = trainer.limits[kind] if limit is None else limit
        counts = [count_batches(loader, limit, kind) for loader in self.loaders]
        trainer.num_evaluation_batches = None if None in counts else sum(counts)  # type: ignore
        try:
            hooks.tell(f"on_{kind}_start")
            hooks.tell(f"on_{kind}_epoch_start")
            for number, (loader, count) in enumerate(zip(self.loaders, counts)):
                outputs.append(self._pass(step, loader, count, number))
            hooks.tell_module(f"on_{kind}_epoch_end")
            if len(self.loaders) == 1:
                step.book.finish_metrics()
            values = step.book.epoch_values()
            if not quiet:
                trainer.publish(step.book, values)
                trainer.log_metrics(step.book.for_loggers(values))
            hooks.tell_callbacks(f"on_{kind}_epoch_end")
            hooks.tell_module(f"on_{kind}_end")
            if not quiet:
                hooks.tell_callbacks(f"on_{kind}_end")
        finally:
            trainer._book = outer
            for m, mode in modes.items():
                m.training = mode
        return values, outputs

    def _pass(self, step: EvalStep, loader: Any, count: int | None, number: int) -> list[Any]:
        kind, hooks, book = self.kind, self.trainer.hooks, step.book
        suffix = f"/dataloader_idx_{number}" if len(self.loaders) > 1 else ""
        starts, ends = f"on_{kind}_batch_start", f"on_{kind}_batch_end"
        collected = []
        for index, batch in enumerate(limited(loader, count)):
            hooks.tell(starts, batch, index)
            result, logged = step(batch, index, number)
            size = batch_size(batch)
            book.add(logged, size, suffix)
            hooks.tell(ends, result, batch, index, weight=size)
            if kind == "predict":
                collected.append(result)
        if suffix:
            book.finish_metrics(suffix)
        return collected
