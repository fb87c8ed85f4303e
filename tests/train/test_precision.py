"""Mixed precision in a Trainer: steps under autocast, scaled losses, resumed scales."""

import pytest

import monograph as mg
from monograph.core.errors import ArgumentError

from .models import Regression, loader, quiet, same, weights


class Watched(Regression):
    """Notes the dtype of the first layer's result, in training and in validation."""

    def __init__(self):
        super().__init__(dropout=0.0)
        self.seen = set()
        self.net[0].register_forward_hook(
            lambda layer, args, out: self.seen.add((self.training, out.dtype.name))
        )


@pytest.mark.parametrize("jit", [True, False])
@pytest.mark.parametrize("name, dtype", [("bf16-mixed", "bfloat16"), (16, "float16")])
def test_steps_are_cast_and_parameters_are_not(name, dtype, jit):
    mg.manual_seed(0)
    model, plain = Watched(), Watched()
    plain.load_state_dict(model.state_dict())
    trainer = quiet(max_epochs=3, precision=name, jit=jit, gradient_clip_val=1.0)
    trainer.precision.scaler.update(64.0)  # from 65536 the first steps would be left out
    trainer.fit(model, loader(), loader())
    quiet(max_epochs=3, jit=jit, gradient_clip_val=1.0).fit(plain, loader())
    assert model.seen == {(True, dtype), (False, dtype)}
    for a, b in zip(model.parameters(), plain.parameters()):
        assert a.dtype is mg.float32 and mg.allclose(a, b, atol=0.02) and not mg.equal(a, b)


def test_an_overflow_leaves_a_step_out():
    model = Regression(dropout=0.0)
    trainer = quiet(max_steps=1, precision="16-mixed")
    trainer.precision.scaler.update(3e38)
    before = weights(model)
    trainer.fit(model, loader())
    assert same(before, weights(model))
    assert trainer.precision.scaler.get_scale() == pytest.approx(1.5e38)


@pytest.mark.parametrize("accumulate", [1, 3])
def test_training_in_float16_resumes_with_its_scale(tmp_path, accumulate):
    def run(steps, path=None):
        mg.manual_seed(0)
        model = Regression(dropout=0.0)
        trainer = quiet(
            max_steps=steps, precision="16-mixed", accumulate_grad_batches=accumulate,
        )  # fmt: skip
        trainer.precision.scaler.update(16.0)
        trainer.precision.scaler.set_growth_interval(2)
        trainer.fit(model, loader(), ckpt_path=path)
        return trainer, weights(model), trainer.precision.scaler.state_dict()

    run(3)[0].save_checkpoint(tmp_path / "three")
    _, resumed, resumed_scale = run(6, tmp_path / "three")
    _, straight, scale = run(6)
    assert resumed_scale == scale and scale["scale"] == 128.0
    assert same(resumed, straight)


def test_manual_optimization_scales_by_itself():
    class Manual(Regression):
        automatic_optimization = False

    with pytest.raises(ArgumentError, match="needs automatic optimization"):
        quiet(max_epochs=1, precision="16-mixed").fit(Manual(), loader())
