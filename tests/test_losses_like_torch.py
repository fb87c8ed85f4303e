"""Training curves against PyTorch: the same weights and data give the same losses for 20 steps.

Networks with BatchNorm on few places amplify rounding: two float32 runs of PyTorch itself (or one
in float32 and one in float64) part by several percent within ten steps of resnet18 on random
images. So resnet18 is compared in float64, where rounding stays out of the way, and in float32 for
the first steps.
"""

from __future__ import annotations

import importlib.util
import pathlib
import sys

import numpy as np
import pytest

import monograph as mg

torch = pytest.importorskip("torch", reason="PyTorch is the oracle of these tests")
pytestmark = pytest.mark.slow

STEPS = 20


def benchmark_models():
    path = pathlib.Path(__file__).parent.parent / "benchmarks" / "models.py"
    spec = importlib.util.spec_from_file_location("benchmark_models", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["benchmark_models"] = module
    spec.loader.exec_module(module)
    return module


def batches(workload, dtype):
    r = np.random.default_rng(1)
    for _ in range(STEPS):
        y_shape = workload.input_shape if workload.tokens else workload.input_shape[:1]
        if workload.tokens:
            x = r.integers(0, workload.classes, workload.input_shape)
        else:
            x = r.standard_normal(workload.input_shape).astype(dtype)
        yield x, r.integers(0, workload.classes, y_shape)


def optimizer(lib, workload, parameters):
    if workload.optimizer == "sgd":
        return lib.optim.SGD(parameters, lr=workload.lr, momentum=0.9)
    name = {"adam": "Adam", "adamw": "AdamW"}[workload.optimizer]
    return getattr(lib.optim, name)(parameters, lr=workload.lr)


def stepper(lib, model, workload):
    update = optimizer(lib, workload, model.parameters())

    def step(x, y):
        out = model(x)
        loss = lib.nn.functional.cross_entropy(out.reshape(-1, workload.classes), y.reshape(-1))
        update.zero_grad()
        loss.backward()
        update.step()
        return loss

    return step


def losses(name: str, dtype, steps: int = STEPS):
    """(PyTorch's, ours jitted) losses."""
    models = benchmark_models()
    workload = models.WORKLOADS[name]
    torch.manual_seed(0)
    theirs, ours = models.build(torch, name), models.build(mg, name)
    ours.load_state_dict({k: mg.tensor(v.numpy()) for k, v in theirs.state_dict().items()})
    if dtype == np.float64:
        theirs, ours = theirs.double(), ours.double()
    for m in (*theirs.modules(), *ours.modules()):
        if type(m).__name__ == "Dropout":
            m.p = 0.0  # masks differ between frameworks
    their_step, our_step = stepper(torch, theirs, workload), mg.jit(stepper(mg, ours, workload))
    pairs = []
    for x, y in list(batches(workload, dtype))[:steps]:
        a = their_step(torch.tensor(x), torch.tensor(y)).item()
        pairs.append((a, our_step(mg.tensor(x), mg.tensor(y)).item()))
    return np.array(pairs).T


@pytest.mark.parametrize("name", ["mlp-small", "cnn", "gpt-mini"])
def test_float32_losses_of_20_steps_agree_to_1e_4(name):
    theirs, ours = losses(name, np.float32)
    np.testing.assert_allclose(ours, theirs, rtol=1e-4)


def test_resnet18_losses_of_20_steps_agree_to_1e_4_in_float64():
    theirs, ours = losses("resnet18", np.float64)
    np.testing.assert_allclose(ours, theirs, rtol=1e-4)


def test_resnet18_first_losses_agree_in_float32():
    theirs, ours = losses("resnet18", np.float32, steps=2)
    np.testing.assert_allclose(ours, theirs, rtol=1e-4)
