"""Subnormal numbers in compiled code: kept, or taken for zero where that is asked for."""

import numpy as np
import pytest

import monograph as mg
from monograph.codegen.objects import compile_ir
from monograph.codegen.target import aarch64, host
from monograph.runtime import driver, system

pytestmark = pytest.mark.skipif(
    not system.can_flush(host().triple), reason="this processor has no mode that flushes"
)


@pytest.fixture
def flushing():
    assert mg.set_flush_denormal(True) is True
    yield
    assert mg.set_flush_denormal(False) is True


def halves(n):
    x = mg.full((n,), 2e-38)
    return mg.jit(lambda x: x * 0.5)(x).numpy()


@pytest.mark.parametrize("n", [100, 1 << 20], ids=["one thread", "all threads"])
def test_small_results_are_kept(n):
    np.testing.assert_array_equal(halves(n), np.full(n, 1e-38, np.float32))


@pytest.mark.parametrize("n", [100, 1 << 20], ids=["one thread", "all threads"])
def test_small_results_become_zero_on_every_thread(n, flushing):
    assert not halves(n).any()


def test_small_operands_become_zero(flushing):
    x = mg.tensor(np.full(100, 1e-39, np.float32))
    assert not mg.jit(lambda x: x * 1e10)(x).numpy().any()


def test_normal_numbers_and_doubles_of_their_range_stay(flushing):
    x = mg.tensor(np.array([1.2e-38, 1.0, -3.5, np.inf], np.float32))
    assert mg.jit(lambda x: x * 1)(x).tolist() == x.tolist()
    y = mg.full((100,), 1e-300, dtype=mg.float64)
    assert (mg.jit(lambda y: y * 0.5)(y).numpy() == 0.5e-300).all()


def test_python_and_numpy_outside_of_programs_are_as_before(flushing):
    halves(1 << 20)
    assert float(np.float32(2e-38) * np.float32(0.5)) > 0
    assert 1e-310 * 0.5 > 0


def test_it_can_be_taken_back(flushing):
    assert not halves(1000).any()
    mg.set_flush_denormal(False)
    assert halves(1000).all()


def test_loops_flush_too(flushing):
    x = mg.full((64,), 1e-30)
    total = mg.jit(lambda x: mg.scan(lambda c, _: (c * 0.01, c), x, mg.zeros(8))[0])(x)
    assert not total.numpy().any()


def test_the_driver_is_built_for_arm():
    target = aarch64()
    text = compile_ir(driver.driver_ir(target.triple), target, assembly=True)
    assert "FPCR" in text
