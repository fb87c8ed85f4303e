"""Writes at indices of a captured tensor change its memory, without a copy of all of it."""

import numpy as np
import pytest

import monograph as mg

ROWS, WIDTH = 5000, 16


def program_of(function):
    (capture,) = next(iter(function.captures.values()))
    return capture.executable.plan


def table_and_more():
    r = np.random.default_rng(3)
    table = r.standard_normal((ROWS, WIDTH)).astype(np.float32)
    some = r.integers(0, ROWS, 100)
    some[7] = some[3]  # a row twice
    return table, some, r.standard_normal((100, WIDTH)).astype(np.float32)


def test_rows_are_added_in_place():
    array, some, values = table_and_more()
    table = mg.tensor(array)

    @mg.jit
    def step(some, values):
        before = table[some].sum()
        table.index_add_(0, some, values)
        return before

    for _ in range(3):
        expected = array[some].sum(dtype=np.float64)
        assert step(mg.tensor(some), mg.tensor(values)).item() == pytest.approx(expected, abs=1e-3)
        np.add.at(array, some, values)
        np.testing.assert_allclose(table.numpy(), array, rtol=1e-6, atol=1e-6)
    assert program_of(step).arena_bytes < array.nbytes / 4


def test_several_writes_in_turn_are_in_place():
    array, some, values = table_and_more()
    table, other = mg.tensor(array), np.arange(50, 90)

    @mg.jit
    def step(some, values, other):
        table.index_add_(0, some, values)
        table[other] = table[other] * 2
        table.index_add_(0, some, values)

    for _ in range(2):
        step(mg.tensor(some), mg.tensor(values), mg.tensor(other))
        np.add.at(array, some, values)
        array[other] *= 2
        np.add.at(array, some, values)
    np.testing.assert_allclose(table.numpy(), array, rtol=1e-5, atol=1e-5)
    assert program_of(step).arena_bytes < array.nbytes / 4


def test_what_reads_the_old_elements_later_still_sees_them():
    array, some, values = table_and_more()
    table = mg.tensor(array)

    @mg.jit
    def step(some, values):
        old = table.clone()
        table.index_add_(0, some, values)
        return old, table.sum(0), (old * table).sum()

    old, sums, product = step(mg.tensor(some), mg.tensor(values))
    new = array.copy()
    np.add.at(new, some, values)
    np.testing.assert_array_equal(old.numpy(), array)
    np.testing.assert_allclose(table.numpy(), new, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(sums.numpy(), new.sum(0), rtol=1e-3, atol=1e-3)
    assert product.item() == pytest.approx((array * new).sum(dtype=np.float64), rel=1e-4)


def test_rows_between_two_writes_are_read_in_between():
    array, some, values = table_and_more()
    table = mg.tensor(array)

    @mg.jit
    def step(some, values):
        table.index_add_(0, some, values)
        between = table.exp()
        table.index_add_(0, some, values)
        return between

    between = step(mg.tensor(some), mg.tensor(values))
    np.add.at(array, some, values)
    np.testing.assert_allclose(between.numpy(), np.exp(array), rtol=1e-5)
    np.add.at(array, some, values)
    np.testing.assert_allclose(table.numpy(), array, rtol=1e-5, atol=1e-5)


def test_a_table_that_adds_its_own_rows_to_itself():
    array, some, _ = table_and_more()
    table = mg.tensor(array)

    @mg.jit
    def step(some):
        table.index_add_(0, some, table[:100])

    step(mg.tensor(some))
    expected = array.copy()
    np.add.at(expected, some, array[:100])
    np.testing.assert_allclose(table.numpy(), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("dtype", [mg.bfloat16, mg.float64, mg.int64])
def test_other_dtypes(dtype):
    table = mg.zeros(ROWS, 4, dtype=dtype)
    some = mg.tensor([1, 2, 1])

    @mg.jit
    def step(some):
        table.index_add_(0, some, mg.ones(3, 4, dtype=dtype))

    step(some)
    step(some)
    assert table[:4].float().tolist() == [[0.0] * 4, [4.0] * 4, [2.0] * 4, [0.0] * 4]


def test_elements_are_scattered_in_place():
    array = np.zeros((ROWS, WIDTH), np.float32)
    table = mg.tensor(array)
    places = mg.tensor([[0, 1, 1], [2, 2, 2]])

    @mg.jit
    def step(places, values):
        table.scatter_add_(0, places, values)

    step(places, mg.ones(2, 3))
    assert table[:3, :3].tolist() == [[1.0, 0.0, 0.0], [0.0, 1.0, 1.0], [1.0, 1.0, 1.0]]
    assert program_of(step).arena_bytes < array.nbytes / 4


AT, ALL, SOME = ([0], [1, 2, 3, 0], [3, 1])
READS_WHAT_IT_WRITES = {
    "itself": lambda b, v: b.index_add_(0, mg.tensor(ALL), b),
    "flipped": lambda b, v: b.index_add_(0, mg.tensor(ALL), b.flip(0)),
    "rows": lambda b, v: b.index_copy_(0, mg.tensor(SOME), b[:2]),
    "gathered rows": lambda b, v: b.index_add_(0, mg.tensor(ALL), b[mg.tensor(ALL)]),
    "columns": lambda b, v: b[:3].index_add_(1, mg.tensor([0, 1, 2]), b[:3].T),
    "elements": lambda b, v: b.scatter_add_(0, mg.tensor([[1] * 3, [0] * 3, [3] * 3, [2] * 3]), b),
}


@pytest.mark.parametrize("name", READS_WHAT_IT_WRITES)
@pytest.mark.parametrize("first", [False, True], ids=["alone", "after another write"])
def test_a_write_that_reads_what_it_changes(name, first):
    found = []
    for compiled in (False, True):
        buffer = mg.arange(12.0).reshape(4, 3).clone()

        def step(v, buffer=buffer):
            if first:
                buffer.index_copy_(0, mg.tensor(AT), v)
            READS_WHAT_IT_WRITES[name](buffer, v)
            return buffer.sum() + v.sum()

        run = mg.jit(step) if compiled else step
        sums = [run(mg.ones(1, 3) * n).item() for n in (5.0, 7.0)]
        found.append((sums, buffer.tolist()))
    assert found[0] == found[1]
