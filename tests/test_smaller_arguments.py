"""Arguments and names that programs of PyTorch use now and then, against PyTorch."""

import numpy as np
import pytest

import monograph as mg
from monograph import nn
from monograph.nn import functional as F

torch = pytest.importorskip("torch", reason="compared with PyTorch")
RNG = np.random.default_rng(0)


def same(got, expected):
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-6)
        assert str(a.dtype).split(".")[1] == str(b.dtype).split(".")[1]


@pytest.mark.parametrize(
    ("name", "shape", "size"),
    [("max_pool1d", (2, 3, 8), 2), ("max_pool2d", (2, 3, 6, 6), 2), ("max_pool3d", (1, 4, 4, 4), 2),
     ("adaptive_max_pool1d", (2, 3, 8), 3), ("adaptive_max_pool2d", (2, 3, 6, 6), 4),
     ("adaptive_max_pool3d", (1, 2, 4, 4, 4), 3)],
)  # fmt: skip
def test_pooling_with_indices(name, shape, size):
    x = RNG.standard_normal(shape)
    got = getattr(F, f"{name}_with_indices")(mg.tensor(x), size)
    same(got, getattr(torch.nn.functional, f"{name}_with_indices")(torch.tensor(x), size))


@pytest.mark.parametrize(
    ("name", "gates"),
    [("lstm_cell", 4), ("gru_cell", 3), ("rnn_tanh_cell", 1), ("rnn_relu_cell", 1)],
)
def test_cells(name, gates):
    shapes = [(2, 3), (2, 5), (2, 5), (5 * gates, 3), (5 * gates, 5), (5 * gates,), (5 * gates,)]
    arrays = [RNG.standard_normal(s) for s in shapes]
    found = []
    for lib in (mg, torch):
        x, h, c, *weights = (lib.tensor(a) for a in arrays)
        made = getattr(lib, name)(x, (h, c) if gates == 4 else h, *weights)
        found.append(made if gates == 4 else (made,))
    same(*found)
    with pytest.raises(ValueError, match=rf"{name}: w_hh must have shape \({5 * gates}, 5\), got"):
        x, h, c, w, *_ = (mg.tensor(a) for a in arrays)
        getattr(mg, name)(x, (h, c) if gates == 4 else h, w, w)


def test_norms_of_another_dtype():
    x = RNG.standard_normal((3, 4)).astype("f4")
    for ord in ("fro", 1, None):
        got = mg.linalg.norm(mg.tensor(x), ord, dtype=mg.float64)
        same([got], [torch.linalg.norm(torch.tensor(x), ord, dtype=torch.float64)])
    got = mg.linalg.matrix_norm(mg.tensor(x), dtype=mg.float64)
    same([got], [torch.linalg.matrix_norm(torch.tensor(x), dtype=torch.float64)])
    same([mg.linalg.svdvals(mg.tensor(x), driver=None)], [torch.linalg.svdvals(torch.tensor(x))])
    for f in (mg.linalg.svd, mg.linalg.svdvals):
        with pytest.raises(ValueError, match="driver must be None on the CPU, got 'gesvd'"):
            f(mg.tensor(x), driver="gesvd")


def test_weights_of_huber_loss():
    x, y, w = RNG.standard_normal((3, 5))
    got = F.huber_loss(mg.tensor(x), mg.tensor(y), weight=mg.tensor(w * w), reduction="sum")
    t = torch.tensor
    same([got], [torch.nn.functional.huber_loss(t(x), t(y), weight=t(w * w), reduction="sum")])


def test_forked_generators_of_devices():
    before = mg.get_rng_state().tolist()
    with mg.random.fork_rng(devices=[], device_type="cpu"):
        mg.rand(3)
    assert mg.get_rng_state().tolist() == before


def test_dictionaries_of_parameters():
    d = nn.ParameterDict({"a": nn.Parameter(mg.ones(1)), "b": nn.Parameter(mg.zeros(1))})
    other = d.copy()
    assert [*other] == ["a", "b"] and other["a"] is d["a"]
    assert d.popitem()[0] == "b" and [*d] == ["a"] and [*other] == ["a", "b"]
    assert d.setdefault("a", None) is d["a"]
    assert [*d.fromkeys(["x", "y"], mg.ones(2))] == ["x", "y"]


def test_dtypes_of_packed_sequences():
    packed = nn.utils.rnn.pack_sequence([mg.ones(3), mg.ones(2)])
    assert packed.double().data.dtype is mg.float64 and packed.half().data.dtype is mg.float16
    assert packed.long().data.dtype is mg.int64 and packed.cpu() is packed
    assert not packed.is_pinned()
