"""Checkpoints: what they hold, what interrupts a write, and training that resumes."""

import math
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections import Counter, OrderedDict
from pathlib import Path

import numpy as np
import pytest

import monograph as mg
from monograph import nn, optim, train
from monograph.core.errors import ArgumentTypeError, DataError, FileFormatError
from monograph.data import DataLoader
from monograph.runtime import buffers
from monograph.train import checkpoint as module
from monograph.train import load_checkpoint, save_checkpoint
from monograph.train.writer import CheckpointWriter

from .models import Regression, dataset, loader, quiet, same, weights

STATE = {
    "none": None,
    "numbers": [True, 3, -0.0, 1e-300, math.inf, -math.inf, 2**70],
    "text": "ä\n$tensor",
    "tuple": (1, (2.5, "x"), []),
    "keys": {0: "a", "0": "b", (1, 2): "c", None: "d"},
    "odd": {"$tensor": "not one"},
    "set": {1, 2},
    "counter": Counter({3: 2}),
    "ordered": OrderedDict(b=1, a=2),
    "array": np.arange(6, dtype=np.uint64).reshape(2, 3),
    "scalar": np.float32(0.1),
    "tensors": {1: mg.tensor([1, 2]), "1": mg.tensor(2.5, dtype=mg.bfloat16)},
}


def equal(a, b):
    if isinstance(a, (mg.Tensor, np.ndarray)):
        a, b = np.asarray(a), np.asarray(b)
        return a.dtype == b.dtype and a.shape == b.shape and (a == b).all()
    if isinstance(a, dict):
        return type(a) is type(b) and list(a) == list(b) and all(equal(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return type(a) is type(b) and len(a) == len(b) and all(map(equal, a, b))
    return a == b


def test_what_is_saved_comes_back(tmp_path):
    kept = {"w": mg.tensor([[1.0, 2.0]]), "empty": mg.zeros(0, 3), "b": mg.tensor(True)}
    save_checkpoint(tmp_path / "a.ckpt", kept, STATE)
    found, state = load_checkpoint(tmp_path / "a.ckpt")
    assert equal(kept, {name: found[name] for name in kept})
    assert equal({**STATE, "scalar": float(np.float32(0.1))}, state)


def test_nan_comes_back_as_nan(tmp_path):
    save_checkpoint(tmp_path / "a.ckpt", {}, {"x": math.nan})
    assert math.isnan(load_checkpoint(tmp_path / "a.ckpt")[1]["x"])


def test_a_state_that_cannot_be_written_is_named_and_nothing_is_touched(tmp_path):
    with pytest.raises(ArgumentTypeError, match=r"state\.a\.1 holds object, which cannot"):
        save_checkpoint(tmp_path / "a.ckpt", {}, {"a": [1, object()]})
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_is_no_checkpoint_is_not_overwritten(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "mine.txt").write_text("x")
    with pytest.raises(DataError, match="exists and is not a checkpoint"):
        save_checkpoint(tmp_path / "a", {}, {})
    assert (tmp_path / "a" / "mine.txt").read_text() == "x"


def test_saving_again_replaces_the_content_and_leaves_no_old_files(tmp_path):
    for value in (1.0, 2.0, 3.0):
        save_checkpoint(tmp_path / "a.ckpt", {"w": mg.tensor(value)}, {"value": value})
    found, state = load_checkpoint(tmp_path / "a.ckpt")
    assert found["w"].item() == state["value"] == 3.0
    assert len(list((tmp_path / "a.ckpt").iterdir())) == 3
    assert [p.name for p in tmp_path.iterdir()] == ["a.ckpt"]


@pytest.mark.parametrize("exists", [False, True])
@pytest.mark.parametrize("fails_at", [1, 2, 3])
def test_an_exception_while_writing_leaves_what_was_there(tmp_path, monkeypatch, exists, fails_at):
    path = tmp_path / "a.ckpt"
    if exists:
        save_checkpoint(path, {"w": mg.tensor(1.0)}, {})
    calls = []

    def failing(write, name):
        def wrapped(*args):
            calls.append(name)
            write(*args)
            if len(calls) == fails_at:
                raise OSError("No space left on device")

        return wrapped

    monkeypatch.setattr(module.mg, "save_file", failing(mg.save_file, "tensors"))
    monkeypatch.setattr(module, "_write_through", failing(module._write_through, "manifest"))
    with pytest.raises(OSError, match="No space"):
        save_checkpoint(path, {"w": mg.tensor(2.0)}, {})
    if exists:
        assert load_checkpoint(path)[0]["w"].item() == 1.0
        assert len(list(path.iterdir())) == 3
    else:
        assert list(tmp_path.iterdir()) == []


def test_a_process_killed_while_writing_never_leaves_a_broken_checkpoint(tmp_path):
    """kill -9 at random moments; whatever stands under the name is whole."""
    program = textwrap.dedent(
        f"""
        import itertools, monograph as mg
        from monograph.train import save_checkpoint
        print("ready", flush=True)
        for i in itertools.count():
            save_checkpoint({str(tmp_path / "new")!r} + str(i % 3), {{"w": mg.full((50_000,), i)}},
                            {{"i": i}})
            save_checkpoint({str(tmp_path / "same")!r}, {{"w": mg.full((50_000,), i)}}, {{"i": i}})
        """
    )
    for turn in range(4):
        process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
        assert process.stdout.readline() == b"ready\n"
        deadline = time.monotonic() + 30  # on a busy machine the first one takes its time
        while not (tmp_path / "same").is_dir() and time.monotonic() < deadline:
            time.sleep(0.005)
        time.sleep(0.05 + 0.037 * turn)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
        for path in tmp_path.iterdir():
            if not path.name.startswith("."):
                found, state = load_checkpoint(path)
                assert (found["w"].numpy() == state["i"]).all()
    assert (tmp_path / "same").is_dir()


def test_a_damaged_checkpoint_is_refused_by_name(tmp_path):
    path = tmp_path / "a.ckpt"
    save_checkpoint(path, {"w": mg.ones(100)}, {"x": 1})
    (data,) = path.glob("weights-*")
    content = bytearray(data.read_bytes())
    content[-1] ^= 1
    data.write_bytes(content)
    with pytest.raises(FileFormatError, match=r"a\.ckpt/weights-.* checksum is not the one"):
        load_checkpoint(path)
    manifest = path / "manifest.json"
    text = manifest.read_text()
    manifest.write_text(text.replace('\\"x\\": 1', '\\"x\\": 2'))
    assert manifest.read_text() != text
    with pytest.raises(FileFormatError, match=r"manifest\.json: damaged"):
        load_checkpoint(path)
    manifest.write_text(text[:50])
    with pytest.raises(FileFormatError, match=r"manifest\.json: damaged"):
        load_checkpoint(path)


def test_what_is_not_there_is_said(tmp_path):
    with pytest.raises(DataError, match="there is no such directory"):
        load_checkpoint(tmp_path / "none")
    save_checkpoint(tmp_path / "a.ckpt", {}, {})
    (data,) = (tmp_path / "a.ckpt").glob("state-*")
    data.unlink()
    with pytest.raises(DataError, match="cannot be read: No such file"):
        load_checkpoint(tmp_path / "a.ckpt")


# Training that resumes


def step_schedule(optimizer):
    return {"scheduler": optim.lr_scheduler.CosineAnnealingLR(optimizer, 20), "interval": "step"}


def epoch_schedule(optimizer):
    return optim.lr_scheduler.MultiStepLR(optimizer, [1, 3], 0.5)


def listening(optimizer):
    schedule = optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0, threshold=0.5)
    return {"scheduler": schedule, "monitor": "val_loss"}


def run(max_epochs, directory, ckpt_path=None, schedule=None, **options):
    train.seed_everything(3)
    model = Regression(schedule=schedule)
    callback = train.ModelCheckpoint(
        directory, save_top_k=-1, every_n_train_steps=options.pop("every", None)
    )
    trainer = quiet(max_epochs=max_epochs, callbacks=callback, **options)
    trainer.fit(model, loader(shuffle=True), loader(), ckpt_path=ckpt_path)
    return trainer, model


@pytest.mark.parametrize("jit", [True, False])
@pytest.mark.parametrize("schedule", [None, step_schedule, epoch_schedule, listening])
def test_training_that_resumes_after_an_epoch_equals_training_without_a_break(
    tmp_path, schedule, jit
):
    trainer, model = run(4, tmp_path / "a", schedule=schedule, jit=jit)
    again, resumed = run(
        4, tmp_path / "b", tmp_path / "a" / "epoch=1-step=10.ckpt", schedule=schedule, jit=jit
    )
    assert same(weights(model), weights(resumed))
    assert again.callback_metrics == trainer.callback_metrics
    assert again.global_step == 20 and again.current_epoch == 3


@pytest.mark.parametrize("step", [3, 5, 7])
def test_training_that_resumes_inside_an_epoch_equals_training_without_a_break(tmp_path, step):
    options = {"every": 1, "val_check_interval": 2, "schedule": step_schedule}
    trainer, model = run(2, tmp_path / "a", **options)
    epoch = (step - 1) // 5
    path = tmp_path / "a" / f"epoch={epoch}-step={step}.ckpt"
    again, resumed = run(2, tmp_path / "b", path, **options)
    assert same(weights(model), weights(resumed))
    assert again.callback_metrics == trainer.callback_metrics


def test_a_checkpoint_of_format_1_still_loads_and_goes_on(tmp_path):
    """formats/1.ckpt was written by the first version, after 7 of 10 steps; its losses are those
    that this version finds without a break."""
    path = Path(__file__).parent / "formats" / "1.ckpt"
    assert module.read_position(path) == (7, 1, 2)
    trainer, model = run(2, tmp_path, schedule=step_schedule)
    again, resumed = run(2, tmp_path / "b", path, schedule=step_schedule)
    for name, value in weights(model).items():
        np.testing.assert_allclose(value, weights(resumed)[name], rtol=1e-4, atol=1e-6)
    assert again.global_step == 10


def test_large_weights_are_written_in_shards(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "SHARD_BYTES", 1300)
    kept = {f"w{i}": mg.full((100 * (i + 1),), float(i)) for i in range(5)}
    save_checkpoint(tmp_path / "a.ckpt", kept, {"x": mg.ones(3)})
    assert len(list((tmp_path / "a.ckpt").glob("weights-*"))) == 4
    found, _ = load_checkpoint(tmp_path / "a.ckpt")
    assert equal(kept, {name: found[name] for name in kept})


def test_writing_in_a_thread_takes_the_state_as_it_was(tmp_path):
    w, path = mg.zeros(1000, 1000), tmp_path / "a.ckpt"
    writer = CheckpointWriter()
    for i in range(3):
        w.fill_(i)
        writer.save(path, {"w": w}, {"i": i})
        w.fill_(-1)
    writer.wait()
    found, state = load_checkpoint(path)
    assert state["i"] == 2 and (found["w"].numpy() == 2).all()


def test_the_first_checkpoint_finds_its_memory_ready(tmp_path):
    class Wide(Regression):
        def __init__(self):
            super().__init__()
            self.wide = nn.Parameter(mg.ones(700, 700))

        def loss(self, batch):
            return super().loss(batch) + self.wide.mean()

    class Saving(train.ModelCheckpoint):
        def on_train_batch_end(self, trainer, *rest):
            if trainer.global_step == 4:
                trainer._writer._preparing.join()
                before = buffers.memory_stats()
            super().on_train_batch_end(trainer, *rest)
            if trainer.global_step == 4:
                after = buffers.memory_stats()
                self.grown = after["held_bytes"] - before["held_bytes"]

    saving = Saving(tmp_path, every_n_train_steps=4)
    quiet(max_steps=5, callbacks=saving).fit(Wide(), loader())
    assert saving.grown < 1 << 16  # and not 6 MB of weights and Adam's state
    kept, state = load_checkpoint(saving.best_model_path)
    assert state["global_step"] == 4 and kept["wide"].shape == (700, 700)


def test_what_goes_wrong_in_the_thread_is_raised_by_the_next_call(tmp_path):
    (tmp_path / "a.ckpt").write_text("in the way")
    writer = CheckpointWriter()
    writer.save(tmp_path / "a.ckpt", {}, {})
    with pytest.raises(DataError, match="exists and is not a checkpoint") as error:
        writer.wait()
    assert "while the checkpoint" in error.value.__notes__[-1]
    writer.wait()


def test_training_with_workers_resumes_inside_an_epoch(tmp_path):
    found = []
    for directory, path in (("a", None), ("b", tmp_path / "a" / "epoch=1-step=7.ckpt")):
        train.seed_everything(3)
        model = Regression()
        callback = train.ModelCheckpoint(tmp_path / directory, save_top_k=-1, every_n_train_steps=1)
        data = DataLoader(dataset(), batch_size=8, shuffle=True, num_workers=2)
        quiet(max_epochs=2, callbacks=callback).fit(model, data, ckpt_path=path)
        found.append(weights(model))
    assert same(*found)


def test_training_that_resumes_inside_a_window_equals_training_without_a_break(tmp_path):
    options = {"val_check_interval": 1, "accumulate_grad_batches": 3}
    trainer, model = run(2, tmp_path / "a", **options)
    path = tmp_path / "a" / "epoch=0-step=1-v1.ckpt"  # after batch 4: one of three batches is in
    assert load_checkpoint(path)[1]["window"]["total"].item() == 8
    again, resumed = run(2, tmp_path / "b", path, **options)
    assert same(weights(model), weights(resumed))
    assert again.callback_metrics == trainer.callback_metrics


def test_training_cut_by_max_steps_goes_on_where_it_was(tmp_path):
    train.seed_everything(3)
    whole = Regression()
    quiet(max_epochs=2).fit(whole, loader(shuffle=True))
    second = Regression()
    train.seed_everything(3)
    first = Regression()
    trainer = quiet(max_steps=7)
    trainer.fit(first, loader(shuffle=True))
    assert trainer.global_step == 7
    trainer.save_checkpoint(tmp_path / "cut.ckpt")
    quiet(max_epochs=2).fit(second, loader(shuffle=True), ckpt_path=tmp_path / "cut.ckpt")
    assert same(weights(whole), weights(second))


def test_a_checkpoint_of_another_configuration_is_refused(tmp_path):
    run(1, tmp_path, schedule=step_schedule)
    path = tmp_path / "epoch=0-step=5.ckpt"
    with pytest.raises(DataError, match="state of 1 schedules, the module configures 0"):
        run(1, tmp_path, path)
    quiet_trainer = quiet(max_epochs=1)
    model = Regression()
    quiet_trainer.fit(model, loader())
    quiet_trainer.save_checkpoint(tmp_path / "w.ckpt", weights_only=True)
    with pytest.raises(DataError, match="holds weights only"):
        run(1, tmp_path, tmp_path / "w.ckpt")


def test_load_from_checkpoint_makes_the_model_with_its_arguments(tmp_path):
    model = Regression(rate=0.5, dropout=0.0)
    trainer = quiet(max_epochs=1)
    trainer.fit(model, loader())
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    found = Regression.load_from_checkpoint(tmp_path / "a.ckpt", dropout=0.1)
    assert found.rate == 0.5 and found.net[2].p == 0.1
    assert same(weights(model), weights(found))


def test_model_checkpoint_keeps_the_best_and_the_last(tmp_path):
    class Scripted(Regression):
        scores = [3.0, 1.0, math.nan, 2.0, 5.0]

        def validation_step(self, batch, batch_idx):
            pass

        def on_validation_epoch_end(self):
            self.log("score", self.scores[self.trainer.current_epoch])

    callback = train.ModelCheckpoint(
        tmp_path, "{epoch}-{score:.1f}", monitor="score", save_top_k=2, save_last=True
    )
    trainer = quiet(max_epochs=5, callbacks=callback)
    trainer.fit(Scripted(), loader(), loader())
    names = {p.name for p in tmp_path.iterdir()}
    assert names == {"epoch=1-score=1.0.ckpt", "epoch=3-score=2.0.ckpt", "last.ckpt"}
    assert callback.best_model_path == str(tmp_path / "epoch=1-score=1.0.ckpt")
    assert callback.best_model_score == 1.0
    assert load_checkpoint(tmp_path / "last.ckpt")[1]["epoch"] == 5
    model = Scripted()
    trainer.validate(model, loader(), ckpt_path="best")
    best = load_checkpoint(callback.best_model_path)[0]
    assert same(weights(model), {k: v.numpy() for k, v in best.items()})


def test_a_metric_that_was_not_logged_is_an_error_with_the_names_of_those_that_were(tmp_path):
    callback = train.ModelCheckpoint(tmp_path, monitor="accuracy")
    with pytest.raises(DataError, match="'accuracy' was not logged; logged so far: train_loss, "):
        quiet(max_epochs=1, callbacks=callback).fit(Regression(), loader(), loader())


def test_what_module_and_callbacks_keep_comes_back(tmp_path):
    class Keeping(Regression):
        kept = 0

        def on_save_checkpoint(self, checkpoint):
            checkpoint["kept"] = self.kept

        def on_load_checkpoint(self, checkpoint):
            self.kept = checkpoint["kept"]

    stopping = train.EarlyStopping("val_loss", patience=9)
    model = Keeping()
    model.kept = 5
    trainer = quiet(max_epochs=2, callbacks=stopping)
    trainer.fit(model, loader(), loader())
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    other, again = Keeping(), train.EarlyStopping("val_loss", patience=9)
    quiet(max_epochs=2, callbacks=again).fit(
        other, loader(), loader(), ckpt_path=tmp_path / "a.ckpt"
    )
    assert other.kept == 5
    assert again.best_score == stopping.best_score
