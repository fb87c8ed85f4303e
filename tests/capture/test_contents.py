"""What a captured function reads of outside tensors in Python decides which program it is."""

import numpy as np
import pytest

import monograph as mg
from monograph.core.errors import TraceError


def test_a_pointer_into_a_queue_moves_on():
    queue, pointer = mg.zeros(8, 2), mg.zeros(1, dtype=mg.int64)

    @mg.jit
    def append(rows):
        at = int(pointer)
        queue[at : at + 2] = rows
        pointer[0] = (at + 2) % 8

    for i in range(9):
        append(mg.full((2, 2), float(i)))
    assert queue[:, 0].tolist() == [8, 8, 5, 5, 6, 6, 7, 7]
    assert len(append.recompiles) == 3
    assert append.recompiles[0].startswith("what item reads (at test_contents.py:")
    assert append.recompiles[0].endswith("changed from '[0]' to '[2]'")


@pytest.mark.parametrize("write", [lambda m: m.__setitem__(1, True), lambda m: m.numpy().fill(1)])
def test_a_mask_that_was_written_selects_other_elements(write):
    mask, x = mg.tensor([True, False, True]), mg.arange(3)
    chosen = mg.jit(lambda x: x[mask])
    assert chosen(x).tolist() == chosen(x).tolist() == [0, 2] and not chosen.recompiles
    write(mask)
    assert chosen(x).tolist() == [0, 1, 2] and len(chosen.recompiles) == 1


def test_what_depends_on_outside_data_alone_can_be_read():
    groups = mg.tensor([0, 0, 1, 1, 1])

    @mg.jit
    def largest(x):
        return mg.stack([x[groups == g].max() for g in range(int(groups.max()) + 1)])

    x = mg.tensor([3.0, 1.0, 2.0, 5.0, 4.0])
    assert largest(x).tolist() == [3, 5]
    groups[2] = 2
    assert largest(x).tolist() == [3, 5, 2]
    with pytest.raises(TraceError, match="bool mask"):
        mg.jit(lambda x, groups: x[groups == 0])(x, groups)
    weights = mg.nn.Parameter(mg.ones(5))
    with pytest.raises(TraceError, match="bool mask"):
        mg.jit(lambda x: x[weights > 0])(x)


def test_a_tensor_that_differs_at_each_call_is_an_error_after_some_programs():
    counter = mg.zeros((), dtype=mg.int64)

    def scaled(x):
        n = counter.item()
        counter.fill_(n + 1)
        return x * n

    x, strict = mg.ones(1), mg.jit(scaled)
    assert [strict(x).item() for _ in range(8)] == list(range(8))
    with pytest.raises(TraceError) as caught:
        strict(x)
    assert caught.value.message == (
        "item: the elements of this tensor are others at each call (0, 1, 2, 3, 4, 5, 6, 7, "
        "now 8): each would need a program"
    )
    assert caught.value.place.function == "scaled" and counter.item() == 8
    counter.fill_(0)
    loose = mg.jit(scaled, fallback=True)
    with pytest.warns(RuntimeWarning, match="runs eagerly: item: the elements"):
        assert [loose(x).item() for _ in range(12)] == list(range(12))


def test_large_shared_contents_are_compared():
    values = np.zeros(1000)
    shared = mg.from_numpy(values)
    total = mg.jit(lambda x: x + sum(shared.tolist()))
    assert total(mg.zeros(1)).item() == total(mg.zeros(1)).item() == 0
    values[500] = 7
    assert total(mg.zeros(1)).item() == 7
    assert total.recompiles[0].endswith("to 'others'")
