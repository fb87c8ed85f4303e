import numpy as np
import pytest
import torch

import monograph as mg
from monograph.core.errors import ArgumentError, DTypeError, ShapeError
from monograph.ops import contract

from .messages import raises_message
from .oracle import check, close, rng, to_mg, to_torch

SHAPES = [
    ((3,), (3,)), ((3,), (3, 4)), ((2, 3), (3,)), ((2, 3), (3, 4)), ((5, 2, 3), (3, 4)),
    ((2, 3), (5, 3, 4)), ((5, 2, 3), (5, 3, 4)), ((1, 2, 3), (5, 3, 4)), ((5, 2, 3), (1, 3, 4)),
    ((6, 1, 2, 3), (5, 3, 4)), ((6, 1, 2, 3), (1, 5, 3, 4)), ((3,), (6, 5, 3, 4)),
    ((6, 5, 2, 3), (3,)), ((1, 1, 2, 3), (1, 1, 3, 4)), ((0, 3), (3, 4)), ((2, 0), (0, 4)),
    ((0, 2, 3), (0, 3, 4)), ((1, 2, 3), (0, 3, 4)), ((7, 1, 5, 2, 3), (6, 1, 3, 4)),
]  # fmt: skip


def arrays(*shapes, seed=0):
    r = rng(seed)
    return [r.standard_normal(s) for s in shapes]


@pytest.mark.parametrize("x, y", SHAPES)
def test_matmul_agrees_with_torch_in_value_and_two_gradients(x, y):
    check(mg.matmul, torch.matmul, *arrays(x, y), double=True)


@pytest.mark.parametrize("dtype", [np.int8, np.int32, np.int64, np.uint8])
def test_matmul_of_integers_stays_integer(dtype):
    r = rng()
    x, y = r.integers(0, 9, (3, 4)).astype(dtype), r.integers(0, 9, (4, 2)).astype(dtype)
    close(mg.matmul(mg.tensor(x), mg.tensor(y)), torch.tensor(x) @ torch.tensor(y))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_sixteen_bit_products_accumulate_in_float32(dtype):
    ones = mg.ones(1, 4096, dtype=dtype)
    assert (ones @ mg.einsum("ij->ji", ones)).item() == 4096


def test_operator_and_method_are_matmul():
    x, y = (mg.tensor(a) for a in arrays((2, 3), (3, 4)))
    close(x @ y, x.matmul(y).numpy())


def test_matmul_says_which_axes_differ():
    with raises_message(
        ShapeError,
        """matmul: inner sizes differ: input is (32, 784), other is (10, 784);
        input's last axis (784) must equal other's second-to-last (10)
        hint: other looks transposed; input @ other.T has shape (32, 10)""",
    ):
        mg.matmul(mg.zeros(32, 784), mg.zeros(10, 784))


def test_matmul_hints_at_a_transposed_first_operand():
    with raises_message(
        ShapeError,
        """matmul: inner sizes differ: input is (5, 2), other is (5, 3);
        input's last axis (2) must equal other's second-to-last (5)
        hint: input looks transposed; input.T @ other has shape (2, 3)""",
    ):
        mg.matmul(mg.zeros(5, 2), mg.zeros(5, 3))


def test_linear_refuses_mixed_dtypes():
    with raises_message(
        DTypeError,
        """linear: input is float64 but weight is float32
        hint: convert one of them first, as weight.to(input.dtype)""",
    ):
        mg.nn.functional.linear(mg.zeros(2, 2, dtype=mg.float64), mg.zeros(2, 2))


def test_matmul_refuses_zero_dimensions():
    with raises_message(
        ShapeError,
        """matmul: other is 0-dimensional; both must have at least one dimension
        hint: use * to multiply by a number""",
    ):
        mg.matmul(mg.zeros(2), mg.tensor(2.0))


def test_matmul_says_that_batches_do_not_broadcast():
    with raises_message(
        ShapeError,
        "matmul: batch dimensions (2,) of input and (3,) of other do not broadcast",
    ):
        mg.matmul(mg.zeros(2, 4, 5), mg.zeros(3, 5, 6))


NAMED = [
    ("mm", (2, 3), (3, 4)), ("bmm", (5, 2, 3), (5, 3, 4)), ("mv", (2, 3), (3,)),
    ("dot", (4,), (4,)), ("outer", (2,), (3,)), ("inner", (4,), (4,)),
    ("inner", (2, 3, 4), (5, 4)), ("inner", (), (3,)),
]  # fmt: skip


@pytest.mark.parametrize("name, x, y", NAMED)
def test_named_products_agree_with_torch(name, x, y):
    check(getattr(mg, name), getattr(torch, name), *arrays(x, y), double=True)


def test_named_products_check_dimensions():
    with raises_message(ShapeError, "mm: input must have 2 dimensions, got shape (2,)"):
        mg.mm(mg.zeros(2), mg.zeros(2, 2))
    with raises_message(
        ShapeError, "bmm: stacks have 2 and 3 matrices: input is (2, 1, 1), mat2 is (3, 1, 1)"
    ):
        mg.bmm(mg.zeros(2, 1, 1), mg.zeros(3, 1, 1))
    with raises_message(
        ShapeError,
        """mv: inner sizes differ: mat is (2, 3), vec is (2,); mat's last axis (3) must equal
        vec's last axis (2)""".replace("mat ", "input ").replace("mat's", "input's"),
    ):
        mg.mv(mg.zeros(2, 3), mg.zeros(2))


@pytest.mark.parametrize(
    "x, y, dims",
    [
        ((2, 3, 4), (3, 4, 5), 2), ((2, 3), (4, 5), 0), ((2, 3), (3, 5), 1),
        ((2, 3, 4), (4, 5, 2), ([0, 2], [2, 0])), ((2, 3, 4), (3, 6), ([-2], [0])),
        ((2, 3), (2, 3), 2 * ([0, 1],)), ((1, 1, 3), (2, 4, 2), ([0, 1], [2, 1])),
    ],
)  # fmt: skip
def test_tensordot_agrees_with_torch(x, y, dims):
    check(
        lambda a, b: mg.tensordot(a, b, dims),
        lambda a, b: torch.tensordot(a, b, dims),
        *arrays(x, y),
        double=True,
    )


def test_tensordot_names_the_dimensions_that_differ():
    with raises_message(
        ShapeError,
        "tensordot: dimension 1 of a (2, 3) and 0 of b (4, 5) differ: 3 and 4",
    ):
        mg.tensordot(mg.zeros(2, 3), mg.zeros(4, 5), 1)


EINSUMS = [
    ("ij,jk->ik", (2, 3), (3, 4)), ("ij,jk", (2, 3), (3, 4)), ("ji,jk", (3, 2), (3, 4)),
    ("ij->ji", (2, 3)), ("ij->", (2, 3)), ("ij->j", (2, 3)), ("ij", (2, 3)), ("ba", (2, 3)),
    ("ii", (3, 3)), ("ii->i", (3, 3)), ("iij->ij", (3, 3, 2)), ("iij->j", (3, 3, 2)),
    ("iii->i", (3, 3, 3)), ("ijij->ji", (2, 3, 2, 3)), ("i,j->ij", (2,), (3,)),
    ("i,i->i", (3,), (3,)), ("ij,ij->", (2, 3), (2, 3)), ("bij,bjk->bik", (5, 2, 3), (5, 3, 4)),
    ("...ij,...jk->...ik", (6, 1, 2, 3), (5, 3, 4)), ("...,...", (2, 3), (3,)),
    ("...i->...", (2, 3, 4)), ("i...->...i", (2, 3, 4)), ("...ii->...i", (2, 3, 3)),
    ("ij,jk,kl->il", (2, 3), (3, 4), (4, 5)), ("ab,cd,bd->ac", (2, 3), (4, 5), (3, 5)),
    ("bhqd,bhkd->bhqk", (2, 3, 4, 5), (2, 3, 6, 5)), ("a,b,c,d->dcba", (2,), (3,), (4,), (5,)),
    ("ij,jk->ki", (2, 1), (3, 4)), ("i,ij,j->", (2,), (2, 3), (3,)), ("ij,k->i", (2, 3), (4,)),
    ("bn,anm,bm->ba", (2, 3), (4, 3, 5), (2, 5)), (" i j , j k -> k i ", (2, 3), (3, 4)),
    ("Aij,jB->ABi", (5, 2, 3), (3, 4)), ("...a,...b", (2, 3), (2, 4)), ("ii,ii->i", (3, 3), (3, 3)),
    (",i->i", (), (3,)), ("ij->ij", (0, 3)), ("ij,jk->ik", (2, 0), (0, 4)), ("ii->i", (0, 0)),
]  # fmt: skip


@pytest.mark.parametrize("case", EINSUMS, ids=lambda c: c[0])
def test_einsum_agrees_with_torch(case):
    equation, *shapes = case
    check(
        lambda *xs: mg.einsum(equation, *xs),
        lambda *xs: torch.einsum(equation, *xs),
        *arrays(*shapes),
        double=True,
    )


def test_einsum_takes_lists_of_numbers():
    a, b = mg.arange(6.0).reshape(2, 3), mg.arange(12.0).reshape(3, 4)
    x, y = torch.arange(6.0).reshape(2, 3), torch.arange(12.0).reshape(3, 4)
    for lists in (
        [[0, 1], [1, 2]],
        [[0, 1], [1, 2], [2, 0]],
        [[30, 5], [5, 2]],
        [[..., 1], [1, 2]],
    ):
        made = mg.einsum(a, lists[0], b, *lists[1:])
        assert made.tolist() == torch.einsum(x, lists[0], y, *lists[1:]).tolist()
    with pytest.raises(ArgumentError, match=r"a dimension must be in \[0, 52\), got 52"):
        mg.einsum(a, [0, 52])
    with pytest.raises(ArgumentError, match="a list of numbers must follow an operand"):
        mg.einsum(a, b)


@pytest.mark.parametrize(
    "equation, shapes, kind, message",
    [
        ("ij,jk", [(2, 3)], ArgumentError, "einsum: 'ij,jk' names 2 operands, got 1"),
        (
            "ij", [(2, 3, 4)], ShapeError,
            "einsum: operand 0 has shape (2, 3, 4) but 'ij' in 'ij' names 2 axes",
        ),
        (
            "ij,jk", [(2, 3), (4, 5)], ShapeError,
            "einsum: 'j' in 'ij,jk' has sizes 3 and 4 in different operands",
        ),
        ("i->ii", [(2,)], ArgumentError, "einsum: the result of 'i->ii' names 'i' twice"),
        (
            "i->j", [(2,)], ArgumentError,
            "einsum: the result of 'i->j' has 'j', no operand has it",
        ),
        ("i;j", [(2,)], ArgumentError, "einsum: ';' in 'i;j' is not a letter"),
        (
            "ii", [(2, 3)], ShapeError,
            "einsum: 'i' repeats in an operand of shape (2, 3) with sizes 2 and 3",
        ),
    ],
)  # fmt: skip
def test_einsum_explains_bad_equations(equation, shapes, kind, message):
    with raises_message(kind, message):
        mg.einsum(equation, *(mg.zeros(*s) for s in shapes))


@pytest.mark.parametrize(
    "x, w, b",
    [
        ((2, 3), (4, 3), (4,)), ((3,), (4, 3), (4,)), ((5, 2, 3), (4, 3), None),
        ((5, 2, 3), (3,), ()), ((0, 3), (4, 3), (4,)), ((2, 0), (4, 0), (4,)),
    ],
)  # fmt: skip
def test_linear_agrees_with_torch(x, w, b):
    operands = arrays(x, w) if b is None else arrays(x, w, b)
    check(contract.linear, torch.nn.functional.linear, *operands, double=True)


def test_linear_explains_shapes():
    with raises_message(
        ShapeError,
        """linear: input (2, 3) and weight (3, 4) do not fit: input's last axis must equal
        weight's last hint: weight looks transposed; it must be (out_features, in_features)""",
    ):
        contract.linear(mg.zeros(2, 3), mg.zeros(3, 4))
    with raises_message(ShapeError, "linear: bias must have shape (4,), got (2, 4)"):
        contract.linear(mg.zeros(2, 3), mg.zeros(4, 3), mg.zeros(2, 4))


@pytest.mark.parametrize("lead", [(), (6,), (2, 3)])
def test_bilinear_agrees_with_torch(lead):
    operands = arrays((*lead, 4), (*lead, 5), (3, 4, 5), (3,))
    check(contract.bilinear, torch.nn.functional.bilinear, *operands, double=True)


@pytest.mark.parametrize("beta, alpha", [(1, 1), (0.5, 2), (0, 1), (2, 0)])
@pytest.mark.parametrize(
    "name, shapes",
    [
        ("addmm", [(2, 4), (2, 3), (3, 4)]), ("addmm", [(4,), (2, 3), (3, 4)]),
        ("addmm", [(2, 1), (2, 3), (3, 4)]), ("addmv", [(2,), (2, 3), (3,)]),
        ("baddbmm", [(5, 2, 4), (5, 2, 3), (5, 3, 4)]), ("addr", [(2, 3), (2,), (3,)]),
        ("baddbmm", [(4,), (5, 2, 3), (5, 3, 4)]), ("addbmm", [(2, 4), (5, 2, 3), (5, 3, 4)]),
    ],
)  # fmt: skip
def test_products_with_a_summand_agree_with_torch(name, shapes, beta, alpha):
    check(
        lambda *xs: getattr(mg, name)(*xs, beta=beta, alpha=alpha),
        lambda *xs: getattr(torch, name)(*xs, beta=beta, alpha=alpha),
        *arrays(*shapes),
    )


def test_addmm_with_beta_zero_ignores_nan_in_the_summand():
    out = mg.addmm(mg.full((2, 2), float("nan")), mg.ones(2, 3), mg.ones(3, 2), beta=0)
    assert out.tolist() == [[3.0, 3.0], [3.0, 3.0]]


def test_addmm_refuses_a_summand_that_would_enlarge_the_product():
    with raises_message(
        ShapeError,
        "addmm: input (5, 2, 2) does not broadcast to the product's shape (2, 2)",
    ):
        mg.addmm(mg.ones(5, 2, 2), mg.ones(2, 3), mg.ones(3, 2))


def test_fractions_of_integer_products_are_refused():
    x = mg.ones(2, 2, dtype=mg.int64)
    with raises_message(ArgumentError, "addmm: alpha must be an int for int64 tensors, got 0.5"):
        mg.addmm(x, x, x, alpha=0.5)


def test_chain_matmul_agrees_with_torch():
    operands = arrays((2, 30), (30, 3), (3, 20), (20, 4))
    check(mg.chain_matmul, lambda *m: torch.linalg.multi_dot(m), *operands)


def test_gradient_of_the_first_operand_alone_makes_one_product(monkeypatch):
    calls = []
    reference = contract.Contract.reference
    monkeypatch.setattr(
        contract.Contract,
        "reference",
        lambda self, x, y: calls.append(self.signature) or reference(self, x, y),
    )
    x = mg.ones(2, 3, requires_grad=True)
    out = mg.matmul(x, mg.ones(3, 4))
    out.backward(mg.ones(2, 4))
    assert len(calls) == 2


def test_strided_operands_give_the_same_product():
    x, y = arrays((6, 8), (10, 6))
    made = mg.einsum("ij->ji", to_mg(x)) @ mg.einsum("ij->ji", to_mg(y))
    close(made, to_torch(x).T @ to_torch(y).T)


def test_a_factor_that_no_gradient_needs_may_change_before_backward():
    w, x = mg.ones(3, 2, requires_grad=True), mg.ones(4, 3)
    out = x @ w
    with mg.no_grad():
        w += 1.0
    out.backward(mg.ones(4, 2))
    assert w.grad.tolist() == [[4.0, 4.0]] * 3
