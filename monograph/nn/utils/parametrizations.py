"""Ready-made parametrizations: weight_norm, spectral_norm, orthogonal."""

import monograph as mg
from monograph.core.errors import ArgumentError, ShapeError
from monograph.nn import functional as F
from monograph.nn.module import Module
from monograph.nn.utils.parametrize import register_parametrization

__all__ = ["orthogonal", "spectral_norm", "weight_norm"]


def norm_except_dim(v, dim):
    """The 2-norm over all dimensions but `dim` (kept, of size 1); None or -1: over all."""
    if dim is None or dim == -1:
        return (v * v).sum().sqrt()
    axes = [a for a in range(v.ndim) if a != dim % v.ndim]
    return (v * v).sum(axes, keepdim=True).sqrt() if axes else v.abs()


class _WeightNorm(Module):
    def __init__(self, dim=0):
        super().__init__()
        self.dim = -1 if dim is None else dim

    def forward(self, weight_g, weight_v):
        return weight_v * (weight_g / norm_except_dim(weight_v, self.dim))

    def right_inverse(self, weight):
        return norm_except_dim(weight, self.dim), weight


def weight_norm(module, name="weight", dim=0):
    """Train the length and the direction of a weight apart: w = g * v / norm(v).

    dim  the dimension along which lengths differ (0: one per output); None: one length for all

    The originals are original0 (g) and original1 (v). Returns the module.
    Source: Salimans and Kingma, Weight normalization, 2016.
    """
    return register_parametrization(module, name, _WeightNorm(dim), unsafe=True)


class PowerIteration(Module):
    """A weight divided by its largest singular value, which iterations in training estimate."""

    def __init__(self, weight, n_power_iterations=1, dim=0, eps=1e-12):
        super().__init__()
        if weight.ndim == 0:
            raise ShapeError("spectral_norm: the weight must have at least one dimension")
        if n_power_iterations < 1:
            raise ArgumentError(
                f"spectral_norm: n_power_iterations must be at least 1, got {n_power_iterations}"
            )
        self.dim = dim if dim >= 0 else dim + weight.ndim
        self.n_power_iterations = n_power_iterations
        self.eps = eps
        if weight.ndim > 1:
            with mg.no_grad():
                matrix = self._matrix(weight)
                rows, columns = matrix.shape
                u, v = mg.randn(rows, dtype=weight.dtype), mg.randn(columns, dtype=weight.dtype)
                self.register_buffer("_u", F.normalize(u, dim=0, eps=eps))
                self.register_buffer("_v", F.normalize(v, dim=0, eps=eps))
                self._iterate(matrix, 15)

    def _matrix(self, weight):
        if self.dim != 0:
            others = [d for d in range(weight.ndim) if d != self.dim]
            weight = weight.permute(self.dim, *others)
        return weight.flatten(1)

    def _iterate(self, matrix, count):
        matrix = matrix.detach()
        with mg.no_grad():
            for _ in range(count):
                self._u.copy_(F.normalize(mg.mv(matrix, self._v), dim=0, eps=self.eps))
                self._v.copy_(F.normalize(mg.mv(matrix.T, self._u), dim=0, eps=self.eps))

    def forward(self, weight):
        if weight.ndim == 1:
            return F.normalize(weight, dim=0, eps=self.eps)
        matrix = self._matrix(weight)
        if self.training:
            self._iterate(matrix, self.n_power_iterations)
        u, v = self._u.clone(), self._v.clone()  # the next call overwrites them
        return weight / mg.vdot(u, mg.mv(matrix, v))

    def right_inverse(self, value):
        return value


class _SpectralNorm(PowerIteration):
    pass


def spectral_norm(module, name="weight", n_power_iterations=1, eps=1e-12, dim=None):
    """Divide a weight by its largest singular value.

    n_power_iterations  of the estimate, at each reading while training
    dim                 the dimension of the outputs (None: 1 for transposed convolutions, else 0)

    Returns the module. Source: Miyato and others, Spectral normalization for generative adversarial
    networks, 2018.
    """
    weight = getattr(module, name, None)
    if weight is None:
        raise ArgumentError(f"spectral_norm: {type(module).__name__} has no '{name}'")
    if dim is None:
        dim = 1 if "ConvTranspose" in type(module).__name__ else 0
    return register_parametrization(
        module, name, _SpectralNorm(weight, n_power_iterations, dim, eps)
    )


class _Orthogonal(Module):
    """A matrix with orthonormal columns (or rows) from one without constraints."""

    def __init__(self, shape, orthogonal_map, use_trivialization):
        super().__init__()
        self.shape = tuple(shape)
        self.orthogonal_map = orthogonal_map
        self.has_base = use_trivialization
        if use_trivialization:
            self.register_buffer("base", None)

    def forward(self, x):
        is_wide = x.shape[-2] < x.shape[-1]
        x = x.mT if is_wide else x
        n, k = x.shape[-2:]
        if self.orthogonal_map == "householder":
            a = x.tril(-1)
            q = mg.linalg.householder_product(a, 2.0 / (1.0 + (a * a).sum(-2)))
            q = q * x.diagonal(dim1=-2, dim2=-1).trunc().unsqueeze(-2)
        else:
            x = x.tril()
            if n != k:
                x = mg.cat([x, mg.zeros(*x.shape[:-1], n - k, dtype=x.dtype)], -1)
            a = x - x.mT
            if self.orthogonal_map == "matrix_exp":
                q = mg.linalg.matrix_exp(a)
            else:
                one = mg.eye(n, dtype=a.dtype)
                q = mg.linalg.solve(one - 0.5 * a, one + 0.5 * a)
            q = q[..., :k]
        if self.has_base:
            q = self.base @ q
        return q.mT if is_wide else q

    def right_inverse(self, q):
        if tuple(q.shape) != self.shape:
            raise ShapeError(f"orthogonal: needs shape {self.shape}, got {tuple(q.shape)}")
        with mg.no_grad():
            is_wide = q.shape[-2] < q.shape[-1]
            tall = q.mT if is_wide else q
            n, k = tall.shape[-2:]
            if not self.has_base:
                if self.orthogonal_map != "householder":
                    raise ArgumentError(
                        f"orthogonal: with {self.orthogonal_map} a value can be assigned with "
                        "use_trivialization=True only"
                    )
                a, tau = mg.geqrf(tall)
                signs = a.diagonal(dim1=-2, dim2=-1).sign()
                signs = mg.where(tau == 0, -signs, signs)
                a = a.tril(-1) + a.triu(1) + _diagonal(signs, a)
                return a.mT if is_wide else a
            if n != k:
                tall = mg.cat([tall, mg.randn(*tall.shape[:-1], n - k, dtype=tall.dtype)], -1)
            gram = tall.mT @ tall - mg.eye(n, dtype=tall.dtype)
            limit = 10 * n * mg.finfo(tall.dtype).eps
            if float((gram * gram).sum(-1).sum(-1).sqrt().max()) >= limit:
                q_factor, r = mg.linalg.qr(tall)
                tall = q_factor * r.diagonal(dim1=-2, dim2=-1).sign().unsqueeze(-2)
            self.base = tall.clone()
            return _diagonal(-mg.ones(*q.shape[:-2], min(q.shape[-2:]), dtype=q.dtype), q)


def _diagonal(values, like):
    """A matrix of the shape of `like` with `values` on its diagonal, else zeros."""
    rows, columns = like.shape[-2:]
    return mg.eye(rows, columns, dtype=like.dtype)[..., :, :] * (
        values.unsqueeze(-2) if columns <= rows else values.unsqueeze(-1)
    )


def orthogonal(module, name="weight", orthogonal_map=None, *, use_trivialization=True):
    """Keep a matrix (or a batch of them) orthogonal: its columns, or if it is wide its rows.

    orthogonal_map      "matrix_exp" or "cayley" of a skew-symmetric matrix, or "householder";
                        None: matrix_exp for square matrices, else householder
    use_trivialization  train the difference from a fixed matrix, the buffer `base`

    Returns the module. Source: Lezcano-Casado, Trivializations for gradient-based optimization on
    manifolds, 2019.
    """
    weight = getattr(module, name, None)
    if weight is None:
        raise ArgumentError(f"orthogonal: {type(module).__name__} has no '{name}'")
    if weight.ndim < 2:
        raise ShapeError(f"orthogonal: '{name}' must be a matrix, got shape {tuple(weight.shape)}")
    if orthogonal_map is None:
        orthogonal_map = "matrix_exp" if weight.shape[-2] == weight.shape[-1] else "householder"
    if orthogonal_map not in ("matrix_exp", "cayley", "householder"):
        raise ArgumentError(
            "orthogonal: orthogonal_map must be 'matrix_exp', 'cayley' or 'householder', got "
            f"{orthogonal_map!r}"
        )
    made = _Orthogonal(weight.shape, orthogonal_map, use_trivialization)
    return register_parametrization(module, name, made, unsafe=True)
