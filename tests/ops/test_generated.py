"""Every op of the registry: what its samples must satisfy (monograph/testing/checks.py)."""

import pytest

from monograph.ir.op import REGISTRY, Op
from monograph.testing import checks
from monograph.testing.samples import samples_of

OPS = [cls for cls in checks.registry() if cls.__module__.startswith("monograph.")]


@pytest.mark.parametrize("cls", OPS, ids=lambda cls: cls.name)
@pytest.mark.parametrize("check", checks.CHECKS, ids=lambda check: check.__name__[6:])
def test_every_op(check, cls):
    for sample in samples_of(cls):
        try:
            check(sample)
        except AssertionError as error:
            shapes = [(a.dtype.name, a.shape) for a in sample.arrays]
            raise AssertionError(f"{sample.op} on {shapes}: {error}") from None


def test_every_op_has_samples():
    missing = []
    for cls in OPS:
        try:
            assert samples_of(cls)
        except KeyError as error:
            missing.append(error.args[0])
    assert not missing


def test_ops_are_immutable_values_under_their_names():
    for name, cls in REGISTRY.items():
        assert cls.name == name and issubclass(cls, Op)
        one, same = samples_of(cls)[0].op, samples_of(cls)[0].op
        assert one == same and hash(one) == hash(same)
        with pytest.raises(AttributeError):
            one.field = 1
    assert len(OPS) > 90
