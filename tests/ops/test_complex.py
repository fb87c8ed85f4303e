"""Complex numbers: promotion, views, gradients as PyTorch's, loops of real and complex parts."""

import numpy as np
import pytest

import monograph as mg
from monograph.core.errors import DTypeError, FileFormatError, GradError, ShapeError
from monograph.testing import assert_close

RNG = np.random.default_rng(5)
Z = RNG.standard_normal((3, 3)) + 1j * RNG.standard_normal((3, 3))


def gradient_of(f, array, module=mg):
    """The gradient of the sum of |f(x)|^2 weighted by place."""
    x = module.tensor(array, requires_grad=True)
    out = f(x)
    weights = module.arange(1.0, out.numel() + 1, dtype=module.float64).reshape(out.shape)
    size = (out * out.conj()).real if out.is_complex() else out * out
    (size * weights).sum().backward()
    return x.grad.resolve_conj().numpy()


def test_promotion_is_pytorch_s():
    torch = pytest.importorskip("torch", reason="the oracle of promotion is PyTorch")
    names = ["bool", "int32", "int64", "bfloat16", "float32", "float64", "complex64", "complex128"]
    for first in names:
        for second in names:
            pairs = [
                (m.ones(2, dtype=getattr(m, first)), m.ones((), dtype=getattr(m, second)))
                for m in (mg, torch)
            ]
            for left, right in ((0, 1), (0, 0), (1, 0)):
                got = mg.result_type(pairs[0][left], pairs[0][right])
                assert got.name == str(torch.result_type(pairs[1][left], pairs[1][right]))[6:]
            if first in ("float16", "bfloat16"):
                continue  # complex32 is not here
            got = mg.result_type(pairs[0][0], 1j)
            assert got.name == str(torch.result_type(pairs[1][0], 1j))[6:]


def test_printing_is_pytorch_s():
    torch = pytest.importorskip("torch", reason="the oracle of printing is PyTorch")
    for value in ([1 + 2j, 3 - 1j], [0.5 - 1.25j, 3], [1e10 + 1j, 2], 1j, [[1j, 2], [3, 4 - 0.5j]]):
        assert repr(mg.tensor(value)) == repr(torch.tensor(value))


def test_real_and_imag_are_views_that_can_be_written():
    z = mg.tensor([1 + 2j, 3 + 4j])
    z.real[0] = 7.0
    z.imag = mg.tensor([5.0, 6.0])
    assert z.tolist() == [7 + 5j, 3 + 6j]
    assert z.real.stride() == (2,)
    pairs = mg.view_as_real(z)
    pairs[1, 0] = 0.0
    assert z.tolist() == [7 + 5j, 6j]
    back = mg.view_as_complex(pairs)
    back.mul_(1j)
    assert_close(z, mg.tensor([-5 + 7j, -6 + 0j]))


def test_writes_through_parts_are_differentiated_and_captured():
    def f(z):
        y = z * 1
        y.real.mul_(3.0)
        y.imag[0] = 2.0
        return (y * y).real

    z = mg.tensor(Z[0], requires_grad=True)
    f(z).sum().backward()
    expected = 18 * Z[0].real - 2j * Z[0].imag * np.array([0, 1, 1])
    assert_close(z.grad, expected)
    assert_close(mg.jit(f)(z.detach()), f(z.detach()))
    rows = mg.tensor(Z)
    assert_close(mg.func.vmap(f)(rows), mg.stack([f(r) for r in rows]))


def test_view_as_complex_needs_neighbours():
    with pytest.raises(ShapeError, match="neighbours"):
        mg.view_as_complex(mg.zeros(2, 3).T)
    with pytest.raises(ShapeError, match="size 2"):
        mg.view_as_complex(mg.zeros(2, 3))


def test_what_has_no_order_refuses_complex_numbers():
    z = mg.tensor(Z)
    for f in (mg.sort, mg.amax, mg.floor, mg.relu, lambda x: x < x, mg.median):
        with pytest.raises(DTypeError):
            f(z)
    with pytest.raises(DTypeError, match="imag: needs a complex"):
        mg.imag(mg.ones(2))
    with pytest.raises(GradError):
        (mg.tensor(Z, requires_grad=True) * 2).sum().backward()


FUNCTIONS = {
    "mul": lambda x: x * x.conj() * (1 + 2j),
    "div": lambda x: (1 - 1j) / x + x / 3,
    "pow": lambda x: x**2.5 + x**x + (2 + 1j) ** x,
    "abs": lambda x: x.abs() + x.angle(),
    "sgn": lambda x: x.sgn(),
    "parts": lambda x: x.real * 1j + x.imag,
    "prod": lambda x: x.prod(0) + x.cumprod(0)[-1],
    "var": lambda x: x.var(0) + x.std(1),
    "logsumexp": lambda x: x.logsumexp(0) + x.logcumsumexp(1).sum(1),
    "matmul": lambda x: x @ x.mH,
    "index": lambda x: x[[0, 2, 0], 1:] * 1j,
    "sigmoid": lambda x: x.sigmoid() * x.tanh() + x.rsqrt() + x.reciprocal(),
    "norm": lambda x: x.norm(dim=0) + x.norm(1, dim=1) + x.norm(3),
    "det": lambda x: x.det(),
    "inverse": lambda x: x.inverse() + x.logdet(),
    "hermitian": lambda x: (x @ x.mH + 3 * (x * 0 + 1).diag_embed()[0]).sum(),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_gradients_are_pytorch_s(name):
    torch = pytest.importorskip("torch", reason="the oracle of gradients is PyTorch")
    f = FUNCTIONS[name]
    assert_close(gradient_of(f, Z), gradient_of(f, Z, torch), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", ["mul", "pow", "sgn", "prod", "var", "norm", "inverse"])
def test_second_derivatives_agree_with_differences(name):
    x = mg.tensor(Z, requires_grad=True)
    assert mg.autograd.gradcheck(FUNCTIONS[name], x)
    assert mg.autograd.gradgradcheck(FUNCTIONS[name], x)


def decomposition(name):
    """A function of square matrices that does not depend on what a decomposition leaves free."""
    linalg = {
        "cholesky": lambda m, x: m.linalg.cholesky(x @ x.mH + 2 * m.eye(3, dtype=m.complex128)),
        "qr": lambda m, x: m.linalg.qr(x).R,
        "qr_wide": lambda m, x: m.linalg.qr(m.cat([x, x * 2j], -1)).Q,
        "eigh": lambda m, x: (lambda w, v: (v * (w * w)) @ v.mH)(*m.linalg.eigh(x + x.mH)),
        "svd": lambda m, x: (lambda u, s, v: (u * s.exp()) @ v)(*m.linalg.svd(x)),
        "svd_tall": lambda m, x: (lambda u, s, v: (u / s) @ v)(*m.linalg.svd(x[:, :2], False)),
        "svdvals": lambda m, x: m.linalg.svdvals(x),
        "eig": lambda m, x: (lambda w, v: v @ m.diag(w * w) @ m.linalg.inv(v))(*m.linalg.eig(x)),
        "eigvals": lambda m, x: (m.linalg.eigvals(x) ** 3).sum(),
        "slogdet": lambda m, x: m.linalg.slogdet(x).sign * m.linalg.slogdet(x).logabsdet,
        "pinv": lambda m, x: m.linalg.pinv(x[:, :2]),
        "solve": lambda m, x: m.linalg.solve(x, x.mH, left=False),
        "lu_solve": lambda m, x: m.linalg.lu_solve(*m.linalg.lu_factor(x), x.mT, adjoint=True),
        "matrix_exp": lambda m, x: m.matrix_exp(x),
        "lstsq": lambda m, x: m.linalg.lstsq(x[:, :2], x).solution,
    }
    return linalg[name]


DECOMPOSITIONS = """
cholesky qr qr_wide eigh svd svd_tall svdvals eig eigvals slogdet pinv solve lu_solve
matrix_exp lstsq
""".split()


@pytest.mark.parametrize("name", DECOMPOSITIONS)
def test_decompositions_and_their_gradients_are_pytorch_s(name):
    torch = pytest.importorskip("torch", reason="the oracle of gradients is PyTorch")
    f = decomposition(name)
    assert_close(
        f(mg, mg.tensor(Z)), f(torch, torch.tensor(Z)).resolve_conj(), rtol=1e-9, atol=1e-9
    )
    got = gradient_of(lambda x: f(mg, x), Z)
    assert_close(got, gradient_of(lambda x: f(torch, x), Z, torch), rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("name", ["cholesky", "qr", "eigh", "svd", "eigvals", "slogdet", "pinv"])
def test_second_derivatives_of_decompositions_agree_with_differences(name):
    f = decomposition(name)
    x = mg.tensor(Z, requires_grad=True)
    assert mg.autograd.gradgradcheck(lambda t: f(mg, t), x)


def test_eig_of_a_real_matrix_has_a_real_gradient():
    torch = pytest.importorskip("torch", reason="the oracle of gradients is PyTorch")
    real = Z.real.copy()
    results = []
    for m in (mg, torch):
        x = m.tensor(real, requires_grad=True)
        (m.linalg.eigvals(x) ** 3).sum().abs().backward()
        results.append(x.grad.numpy())
    assert results[0].dtype == np.float64
    assert_close(*results, rtol=1e-9, atol=1e-9)


def test_transforms_compose_over_complex_numbers():
    def loss(z):
        return ((z @ z.mH).real.exp() * 0.01).sum() + (z.abs() + 1j).log().real.sum()

    z = mg.tensor(np.stack([Z, 1j * Z, Z + 1]))
    each = mg.stack([mg.func.grad(loss)(one) for one in z])
    assert_close(mg.func.vmap(mg.func.grad(loss))(z), each)
    assert_close(mg.jit(mg.func.vmap(mg.func.grad(loss)))(z), each)
    way = mg.tensor(Z[::-1].copy())
    out, tangent = mg.func.jvp(loss, (z[0],), (way,))
    assert_close(tangent, (each[0].conj() * way).real.sum())

    def step(carry, x):
        carry = carry * x + 1j
        return carry, carry.abs()

    def scanned(x):
        last, sizes = mg.scan(step, x[0] * 0, x)
        return (last.conj() * last).real.sum() + sizes.sum()

    expected = mg.func.grad(scanned)(z)
    assert_close(mg.jit(mg.func.grad(scanned))(z), expected)


def test_an_optimizer_step_on_complex_parameters_is_captured():
    torch = pytest.importorskip("torch", reason="the oracle is PyTorch")
    found = []
    for m in (mg, torch):
        w = m.tensor(Z, requires_grad=True)
        optimizer = m.optim.SGD([w], lr=0.01, momentum=0.9)

        def step(w=w, optimizer=optimizer):
            loss = (w @ w.mH - 1j).abs().sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            return loss

        step = mg.jit(step) if m is mg else step
        losses = [step().item() for _ in range(4)]
        found.append((losses, w.detach().numpy()))
    assert_close(found[0][0], found[1][0], rtol=1e-9, atol=1e-9)
    assert_close(found[0][1], found[1][1], rtol=1e-9, atol=1e-9)


def test_arrays_and_files_keep_complex_numbers(tmp_path):
    z = mg.tensor(Z)
    assert z.numpy().dtype == np.complex128 and mg.from_numpy(Z).dtype is mg.complex128
    mg.save({"z": z, "narrow": z.to(mg.complex64)}, tmp_path / "z.safetensors")
    back = mg.load(tmp_path / "z.safetensors")
    assert (back["z"].dtype, back["narrow"].dtype) == (mg.complex128, mg.complex64)
    assert mg.equal(back["z"], z) and mg.equal(back["narrow"], z.to(mg.complex64))
    assert complex(z[0, 0]) == Z[0, 0] and mg.tensor(1j).item() == 1j


def test_complex_checkpoints_of_pytorch_load(tmp_path):
    torch = pytest.importorskip("torch", reason="it writes the checkpoint")
    torch.save({"z": torch.tensor(Z), "w": torch.tensor(Z).to(torch.complex64)}, tmp_path / "z.pt")
    back = mg.load(tmp_path / "z.pt")
    assert_close(back["z"], Z)
    assert back["w"].dtype is mg.complex64


def test_a_file_with_wrong_names_of_pairs_is_refused(tmp_path):
    path = tmp_path / "z.safetensors"
    for names in ("[1", '["absent"]', '["z", "z"]', '{"z": 1}'):
        mg.save_file({"z": mg.zeros(2)}, path, {"monograph.complex128": names})
        with pytest.raises(FileFormatError):
            mg.load(path)


def test_the_compiled_graph_leaves_real_parts_to_kernels():
    def f(z):
        return (z * z).real.exp().sin()

    text = str(mg.explain(f, mg.tensor(Z)))
    assert "numpy_mul" in text
    assert_close(mg.jit(f)(mg.tensor(Z)), f(mg.tensor(Z)))


def test_angles_of_real_numbers_have_all_digits_of_their_dtype():
    assert mg.angle(mg.tensor([-1.0, 2.0], dtype=mg.float64)).tolist() == [np.pi, 0.0]
    assert mg.angle(mg.tensor([-1.0], dtype=mg.float16)).dtype is mg.float16
