"""Trainer: the loop, what is logged, accumulation, clipping, capture and its limits."""

import copy
from pathlib import Path

import numpy as np
import pytest

import monograph as mg
from monograph import nn, optim, train
from monograph.core.errors import ArgumentError, ArgumentTypeError, DataError
from monograph.data import DataLoader, TensorDataset

from .models import Regression, dataset, loader, quiet, same, weights


def plain_training(model, batches, epochs, clip=None):
    """The same training, written out with eager operations."""
    optimizer = model.configure_optimizers()
    losses = []
    for _ in range(epochs):
        for x, y in batches:
            loss = ((model.net(x) - y) ** 2).mean()
            optimizer.zero_grad()
            loss.backward()
            if clip is not None:
                nn.utils.clip_grad_norm_(list(model.parameters()), clip)
            optimizer.step()
            losses.append(loss.item())
    return losses


@pytest.mark.parametrize("jit", [True, False])
@pytest.mark.parametrize("clip", [None, 0.5])
def test_training_does_what_a_loop_written_out_does(jit, clip):
    model = Regression(dropout=0.0)
    other = copy.deepcopy(model)
    seen = []

    class Watch(train.Callback):
        def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
            seen.append(float(outputs))

    quiet(max_epochs=3, jit=jit, gradient_clip_val=clip, callbacks=Watch()).fit(model, loader())
    np.testing.assert_allclose(seen, plain_training(other, loader(), 3, clip), rtol=2e-5)
    for name, value in weights(model).items():
        np.testing.assert_allclose(value, weights(other)[name], rtol=1e-4, atol=1e-6)


def test_a_step_is_captured_once_per_shape_whatever_the_batch_number():
    model = Regression()
    trainer = quiet(max_epochs=3)
    trainer.fit(model, loader(samples=44), loader(samples=44))
    assert trainer._loop.step.compiled.captures == 2  # 8 samples and the last 4
    (evaluation,) = trainer._eval_steps.values()
    assert evaluation.compiled.captures == 2


def test_gradient_clipping_by_value():
    model = Regression(rate=1.0, dropout=0.0, optimizer="SGD")
    before = weights(model)
    trainer = quiet(
        max_steps=1, gradient_clip_val=0.001, gradient_clip_algorithm="value", max_epochs=1
    )
    trainer.fit(model, loader())
    for name, value in weights(model).items():
        assert np.abs(value - before[name]).max() <= 0.001001


@pytest.mark.parametrize("jit", [True, False])
def test_accumulation_weighs_batches_by_their_samples(jit):
    """Batches of 8, 8, 8 | 8, 4 samples train like batches of 24 and 12."""
    model = Regression(dropout=0.0, optimizer="SGD")
    other = copy.deepcopy(model)
    trainer = quiet(max_epochs=2, accumulate_grad_batches=3, jit=jit)
    trainer.fit(model, loader(samples=36))
    assert trainer.global_step == 4
    plain_training(other, loader(samples=36, batch_size=24), 2)
    for name, value in weights(model).items():
        np.testing.assert_allclose(value, weights(other)[name], rtol=1e-4, atol=1e-6)


def test_means_over_an_epoch_are_weighted_by_batch_size():
    class Log(Regression):
        def training_step(self, batch, batch_idx):
            self.log("size", mg.tensor(float(len(batch[0]))), on_step=True, on_epoch=True)
            self.log("total", mg.tensor(1.0), on_epoch=True, on_step=False, reduce_fx="sum")
            self.log("most", batch[0].sum() * 0 + len(batch[0]), on_epoch=True, reduce_fx="max")
            self.log("plain", mg.tensor(float(len(batch[0]))), on_epoch=True, batch_size=1)
            return super().training_step(batch, batch_idx)

    trainer = quiet(max_epochs=1)
    trainer.fit(Log(), loader(samples=20))
    metrics = trainer.callback_metrics
    assert metrics["size_epoch"] == metrics["size"] == pytest.approx((8 * 8 + 8 * 8 + 4 * 4) / 20)
    assert metrics["size_step"] == 4
    assert metrics["total"] == 3
    assert metrics["most_epoch"] == 8
    assert metrics["plain_epoch"] == pytest.approx(20 / 3)


def test_validation_is_the_mean_over_all_samples_without_dropout_or_gradients():
    class Check(Regression):
        def validation_step(self, batch, batch_idx):
            assert not mg.is_grad_enabled() and not self.training
            super().validation_step(batch, batch_idx)

    model = Check(dropout=0.5)
    model.net[0].eval()
    trainer = quiet()
    (found,) = trainer.validate(model, loader(samples=44))
    x, y = dataset(44)[:]
    model.eval()
    assert found["val_loss"] == pytest.approx(((model.net(x) - y) ** 2).mean().item(), rel=1e-5)
    model.train()
    model.net[0].eval()
    trainer.validate(model, loader())
    assert model.training and not model.net[0].training


def test_test_and_predict():
    model = Regression()
    trainer = quiet()
    (found,) = trainer.test(model, loader())
    assert set(found) == {"test_loss"}
    outputs = trainer.predict(model, loader(samples=20))
    assert [tuple(o.shape) for o in outputs] == [(8, 1), (8, 1), (4, 1)]
    model.eval()
    assert np.allclose(outputs[0].numpy(), model.net(dataset(20)[:8][0]).detach().numpy())


def test_several_validation_loaders_have_metrics_of_their_own():
    class Several(Regression):
        def validation_step(self, batch, batch_idx, dataloader_idx):
            self.log("count", batch[0].sum() * 0 + 10 * dataloader_idx)

    found = quiet().validate(Several(), [loader(), loader()])
    assert found == [{"count/dataloader_idx_0": 0.0}, {"count/dataloader_idx_1": 10.0}]


def test_hooks_come_in_order():
    calls = []

    class Model(Regression):
        pass

    class Watch(train.Callback):
        pass

    names = [n for n in vars(train.TrainModule) if n.startswith("on_")]
    skipped = ("on_before_zero_grad", "on_after_backward", "on_before_optimizer_step")
    for name in names:

        def in_module(self, *args, name=name):
            calls.append(f"module {name}")

        setattr(Model, name, in_module)
        if name not in skipped:

            def in_callback(self, trainer, module, *args, name=name):
                calls.append(f"callback {name}")

            setattr(Watch, name, in_callback)
    quiet(max_epochs=1, limit_train_batches=1, limit_val_batches=1, callbacks=Watch()).fit(
        Model(), loader(), loader()
    )

    def start(name):
        return [f"callback {name}", f"module {name}"]

    def end(name):
        return [f"module {name}", f"callback {name}"]

    assert calls == [
        *start("on_fit_start"),
        *start("on_train_start"),
        *start("on_train_epoch_start"),
        *start("on_train_batch_start"),
        "module on_before_zero_grad",
        "module on_after_backward",
        "module on_before_optimizer_step",
        *end("on_train_batch_end"),
        *start("on_validation_start"),
        *start("on_validation_epoch_start"),
        *start("on_validation_batch_start"),
        *end("on_validation_batch_end"),
        *end("on_validation_epoch_end"),
        *end("on_validation_end"),
        *end("on_train_epoch_end"),
        *end("on_train_end"),
        *end("on_fit_end"),
    ]


def test_a_step_that_needs_a_value_runs_eagerly_with_one_warning():
    class Branching(Regression):
        def training_step(self, batch, batch_idx):
            loss = self.loss(batch)
            return loss * 2 if loss.item() > 1e9 else loss

    model = Branching(dropout=0.0)
    other = copy.deepcopy(model)
    with pytest.warns(RuntimeWarning, match="Branching.training_step runs eagerly") as caught:
        quiet(max_epochs=2).fit(model, loader())
    assert len(caught) == 1
    quiet(max_epochs=2, jit=False).fit(other, loader())
    assert same(weights(model), weights(other))


def test_a_branch_on_the_batch_number_falls_back_and_arithmetic_does_not():
    class Scaled(Regression):
        def training_step(self, batch, batch_idx):
            scale = (self.global_step + 1) * (self.current_epoch + 1) + batch_idx
            self.log("scale", scale * mg.ones(()))
            return self.loss(batch) * scale

    seen = []

    class Watch(train.Callback):
        def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
            seen.append(trainer.callback_metrics["scale"])

    for jit in (True, False):
        seen.clear()
        trainer = quiet(max_epochs=2, limit_train_batches=3, callbacks=Watch(), jit=jit)
        trainer.fit(Scaled(), loader())
        assert seen == [1, 3, 5, 8, 11, 14]

    class Branch(Regression):
        def training_step(self, batch, batch_idx):
            return self.loss(batch) * (1 if batch_idx == 0 else 2)

    class Number(Regression):
        def training_step(self, batch, batch_idx):
            return self.loss(batch) * (int(batch_idx) + 1)

    for kind in (Branch, Number):
        found = []
        for jit in (True, False):
            mg.manual_seed(0)
            model = kind(dropout=0.0)
            if jit:
                with pytest.warns(RuntimeWarning, match="reads the batch's number in Python"):
                    quiet(max_epochs=2).fit(model, loader())
            else:
                quiet(max_epochs=2, jit=False).fit(model, loader())
            found.append(weights(model))
        assert same(*found)


def test_batches_with_text_run_eagerly():
    class Named(Regression):
        def training_step(self, batch, batch_idx):
            return self.loss(batch["data"])

    batches = [{"data": dataset(8)[:], "name": f"batch {i}"} for i in range(3)]
    with pytest.warns(RuntimeWarning, match="the batch holds str"):
        quiet(max_epochs=1).fit(Named(), batches)


def test_a_number_logged_in_a_captured_step_is_warned_of():
    class Number(Regression):
        def training_step(self, batch, batch_idx):
            self.log("constant", 3)
            return self.loss(batch)

    with pytest.warns(RuntimeWarning, match="'constant' is a Python number") as caught:
        quiet(max_epochs=2).fit(Number(), loader())
    assert len(caught) == 1


def test_numbers_of_hooks_are_no_cause_for_a_warning(tmp_path):
    class Hook(Regression):
        def on_train_batch_end(self, outputs, batch, batch_idx):
            self.log("number", float(batch_idx))

    trainer = quiet(max_epochs=2)
    trainer.fit(Hook(), loader())
    assert trainer.callback_metrics["number"] == len(loader()) - 1


def test_callbacks_log_as_the_module_does(tmp_path):
    class Logs(train.Callback):
        def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
            module.log("of_step", float(batch_idx))
            module.log("of_epoch", float(batch_idx), on_step=False, on_epoch=True)

        def on_train_epoch_end(self, trainer, module):
            module.log("at_the_end", 10.0 + trainer.current_epoch)

        def on_validation_end(self, trainer, module):
            module.log("validated", 20.0 + trainer.current_epoch)

    stop = train.EarlyStopping("validated", patience=1)
    logger = train.CSVLogger(tmp_path)
    trainer = quiet(
        max_epochs=3, callbacks=[Logs(), stop], logger=logger, log_every_n_steps=len(loader())
    )
    trainer.fit(Regression(), loader(), loader())
    last = len(loader()) - 1
    expected = {"of_step": last, "of_epoch": last / 2, "at_the_end": 11, "validated": 21}
    assert {name: trainer.callback_metrics[name] for name in expected} == expected
    header, *rows = (Path(logger.log_dir) / "metrics.csv").read_text().splitlines()
    table = dict(zip(header.split(","), rows[-1].split(",")))
    assert {name: float(table[name]) for name in expected} == expected


def test_a_gradient_norm_can_be_logged_inside_the_step():
    class Norm(Regression):
        def on_before_optimizer_step(self, optimizer):
            self.log("norm", nn.utils.get_total_norm([p.grad for p in self.parameters()]))

    trainer = quiet(max_epochs=1, gradient_clip_val=0.25)
    trainer.fit(Norm(), loader())
    assert trainer.callback_metrics["norm"] == pytest.approx(0.25, rel=1e-4)


def test_manual_optimization_of_two_optimizers():
    class Two(train.TrainModule):
        automatic_optimization = False

        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(4, 1), nn.Linear(4, 1)

        def training_step(self, batch, batch_idx):
            x, y = batch
            for layer, optimizer in zip((self.a, self.b), self.optimizers()):
                loss = ((layer(x) - y) ** 2).mean()
                optimizer.zero_grad()
                self.manual_backward(loss)
                optimizer.step()
            self.log("last", loss)

        def configure_optimizers(self):
            return [optim.SGD(m.parameters(), lr=0.01) for m in (self.a, self.b)]

    model = Two()
    before = weights(model)
    quiet(max_epochs=2).fit(model, loader())
    assert all((weights(model)[k] != before[k]).any() for k in before)
    with pytest.raises(ArgumentError, match="2 optimizers need manual optimization"):
        Two.automatic_optimization = True
        quiet(max_epochs=1).fit(Two(), loader())


def test_keyboard_interrupt_ends_in_good_order():
    class Interrupting(train.Callback):
        ended = False

        def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
            if trainer.global_step == 7:
                raise KeyboardInterrupt

        def on_fit_end(self, trainer, module):
            self.ended = True

    callback = Interrupting()
    trainer = quiet(max_epochs=5, callbacks=callback)
    trainer.fit(Regression(), loader())
    assert trainer.interrupted and callback.ended and trainer.global_step == 7
    assert not trainer.is_training


def test_an_error_of_the_user_reaches_the_user_and_the_callbacks():
    seen = []

    class Watch(train.Callback):
        def on_exception(self, trainer, module, exception):
            seen.append(type(exception))

        def teardown(self, trainer, module, stage):
            seen.append(stage)

    class Broken(Regression):
        def training_step(self, batch, batch_idx):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        quiet(max_epochs=1, callbacks=Watch()).fit(Broken(), loader())
    assert seen == [ZeroDivisionError, "fit"]


def test_limits_and_fast_dev_run():
    trainer = quiet(max_epochs=2, limit_train_batches=0.4, limit_val_batches=3)
    trainer.fit(Regression(), loader(), loader())
    assert trainer.global_step == 4 and trainer.num_evaluation_batches == 3
    trainer = quiet(fast_dev_run=True, max_epochs=9, lint=False)
    trainer.fit(Regression(), loader(), loader())
    assert trainer.global_step == 1 and trainer.num_evaluation_batches == 1
    trainer = quiet(max_steps=7)
    trainer.fit(Regression(), loader())
    assert trainer.global_step == 7


@pytest.mark.parametrize(
    "options, expected",
    [
        ({}, [5, 10]),
        ({"val_check_interval": 2}, [2, 4, 7, 9]),
        ({"val_check_interval": 0.4}, [2, 4, 7, 9]),
        ({"check_val_every_n_epoch": 2}, [10]),
        ({"num_sanity_val_steps": 1}, [0, 5, 10]),
    ],
)
def test_when_validation_runs(options, expected):
    seen = []

    class Watch(train.Callback):
        def on_validation_start(self, trainer, module):
            seen.append(trainer.global_step)

    quiet(max_epochs=2, callbacks=Watch(), **options).fit(Regression(), loader(), loader())
    assert seen == expected


def test_schedules_step_when_they_should():
    rates = []

    class Watch(train.Callback):
        def on_train_batch_start(self, trainer, module, batch, batch_idx):
            rates.append(trainer.optimizers[0].param_groups[0]["lr"])

    def halve(optimizer):
        return optim.lr_scheduler.ExponentialLR(optimizer, 0.5)

    quiet(max_epochs=2, limit_train_batches=2, callbacks=Watch()).fit(
        Regression(rate=1.0, schedule=halve), loader()
    )
    assert rates == [1.0, 1.0, 0.5, 0.5]
    rates.clear()
    every_two = {"interval": "step", "frequency": 2}
    trainer = quiet(max_epochs=1, limit_train_batches=5, callbacks=Watch())
    trainer.fit(
        Regression(rate=1.0, schedule=lambda o: {"scheduler": halve(o), **every_two}), loader()
    )
    assert rates == [1.0, 1.0, 0.5, 0.5, 0.25]
    assert trainer._loop.step.compiled.captures == 1


@pytest.mark.parametrize(
    "configured, message",
    [
        (3, "expected an Optimizer, got int"),
        ([1], "expected an Optimizer, got int"),
        ({"optimiser": 1}, r"must have 'optimizer' and may have .*, got \['optimiser'\]"),
    ],
)
def test_what_configure_optimizers_may_not_return(configured, message):
    class Wrong(Regression):
        def configure_optimizers(self):
            return configured

    with pytest.raises((ArgumentError, ArgumentTypeError), match=message):
        quiet(max_epochs=1).fit(Wrong(), loader())


@pytest.mark.parametrize(
    "result, message",
    [
        (lambda loss: {"los": loss}, r"a dict without 'loss'; it has \['los'\]"),
        (lambda loss: 3.0, "must return the loss .*; got float"),
        (lambda loss: loss + mg.zeros(2), r"must be one number, got a tensor of shape \(2,\)"),
        (lambda loss: loss.detach(), "does not depend on any parameter"),
    ],
)
def test_what_training_step_may_not_return(result, message):
    class Wrong(Regression):
        def training_step(self, batch, batch_idx):
            return result(self.loss(batch))

    with pytest.raises((ArgumentError, ArgumentTypeError), match=message):
        quiet(max_epochs=1).fit(Wrong(), loader())


def test_a_dict_with_loss_reaches_the_hooks_and_none_skips_the_batch():
    seen = []

    class Dict(Regression):
        def training_step(self, batch, batch_idx):
            if len(batch[0]) < 8:
                return None
            return {"loss": self.loss(batch), "sum": batch[0].sum()}

        def on_train_batch_end(self, outputs, batch, batch_idx):
            seen.append(None if outputs is None else outputs["sum"].item() - batch[0].sum().item())

    trainer = quiet(max_epochs=1)
    trainer.fit(Dict(), loader(samples=20))
    assert seen[2] is None and np.allclose(seen[:2], 0, atol=1e-5)
    assert trainer.global_step == 2


def test_a_number_that_a_step_returns_is_not_taken_for_what_it_logs():
    class Counting(Regression):
        def validation_step(self, batch, batch_idx):
            super().validation_step(batch, batch_idx)
            return 7

    class Keep(train.Callback):
        def __init__(self):
            self.outputs = []

        def on_validation_batch_end(self, trainer, module, outputs, batch, batch_idx):
            self.outputs.append(outputs)

    keep = Keep()
    trainer = quiet(callbacks=[keep])
    trainer.validate(Counting(), loader())
    assert keep.outputs == [7] * 5 and trainer.callback_metrics["val_loss"] > 0


def test_values_that_are_logged_in_some_steps_only_stay_the_newest():
    class Sometimes(Regression):
        def on_train_batch_end(self, outputs, batch, batch_idx):
            if batch_idx == 1:
                self.log("rare", mg.tensor(5.0))
            self.log("often", mg.tensor(float(batch_idx)))

        def training_step(self, batch, batch_idx):
            return self.loss(batch)

    trainer = quiet(max_epochs=1)
    trainer.fit(Sometimes(), loader())
    assert trainer.callback_metrics["rare"] == 5 and trainer.callback_metrics["often"] == 4


def test_data_without_batches_is_an_error():
    with pytest.raises(DataError, match="the training data gave no batches in epoch 0"):
        quiet(max_epochs=1).fit(Regression(), [])


def test_a_model_that_is_no_train_module_is_refused():
    with pytest.raises(ArgumentTypeError, match="must be a TrainModule, got Linear"):
        quiet().fit(nn.Linear(1, 1), loader())


def test_seed_everything_makes_runs_equal():
    found = []
    for _ in range(2):
        train.seed_everything(11)
        model = Regression()
        quiet(max_epochs=2).fit(model, loader(shuffle=True))
        found.append(weights(model))
    assert same(*found)


def test_batch_norm_statistics_follow_training():
    class Normed(Regression):
        def __init__(self):
            super().__init__()
            self.norm = nn.BatchNorm1d(4)

        def loss(self, batch):
            return super().loss((self.norm(batch[0]), batch[1]))

    model = Normed()
    quiet(max_epochs=3).fit(model, DataLoader(TensorDataset(*dataset(40)[:]), 8), loader())
    assert model.norm.num_batches_tracked.item() == 15
    other = nn.BatchNorm1d(4)
    for _ in range(3):
        for x, _ in loader():
            other(x)
    np.testing.assert_allclose(
        model.norm.running_mean.numpy(), other.running_mean.numpy(), rtol=1e-4, atol=1e-6
    )


@pytest.mark.parametrize("name", ["max_epochs", "max_steps", "min_epochs", "min_steps"])
def test_limits_are_whole_numbers(name):
    assert quiet(min_epochs=None, min_steps=None, max_steps=np.int64(3)).max_steps == 3
    for value in ("3", 1.5, True, -2):
        with pytest.raises(ArgumentError, match=f"{name} must be an int of at least -1"):
            quiet(**{name: value})
