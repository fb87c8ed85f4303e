"""Adam for gradients that hold only some rows."""

from monograph.core.errors import ArgumentError, GradError
from monograph.optim.adam import bias_correction
from monograph.optim.optimizer import Optimizer, check_option


class SparseAdam(Optimizer):
    """Adam that changes the rows that a sparse gradient holds, and their averages, and no others.

    m = m + (1 - b1) * (g - m);  v = v + (1 - b2) * (g * g - v)      of the rows in g
    p = p - lr * sqrt(1 - b2**t) / (1 - b1**t) * m / (sqrt(v) + eps)

    For weights of Embedding and EmbeddingBag with sparse=True; GradError for a dense gradient.
    The same numbers as torch.optim.SparseAdam.

    >>> table = nn.Embedding(1000, 4, sparse=True)
    >>> optimizer = optim.SparseAdam(table.parameters(), lr=0.1)
    >>> table(tensor([3, 7])).sum().backward()
    >>> optimizer.step()
    """

    _takes_rows = True

    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, maximize=False):
        check_option("SparseAdam", "lr", lr)
        check_option("SparseAdam", "eps", eps)
        for i, beta in enumerate(betas):
            if not 0 <= beta < 1:
                raise ArgumentError(f"SparseAdam: betas[{i}] must be in [0, 1), got {beta}")
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "maximize": maximize})

    def _update(self, group, pairs):
        lr = self._live(group, "lr")
        beta1, beta2 = self._betas(group)
        eps = self._fixed(group, "eps")
        maximize = self._fixed(group, "maximize")
        for param, grad in pairs:
            if not grad.is_sparse:
                raise GradError(
                    f"SparseAdam: the gradient of a parameter of shape {tuple(param.shape)} is "
                    "dense",
                    hint="take Adam, or make the embedding with sparse=True",
                )
        for count, members in self._counted(group, pairs):
            rate = lr * bias_correction(beta2, count) ** 0.5 / bias_correction(beta1, count)
            for param, grad in members:
                rows, g = (-grad if maximize else grad).distinct()
                mean, square = self._state_of(param, "exp_avg", "exp_avg_sq")
                m = mean[rows]
                m = m + (g - m) * (1 - beta1)
                v = square[rows]
                v = v + (g * g - v) * (1 - beta2)
                mean[rows], square[rows] = m, v
                param[rows] = param[rows] - m / (v.sqrt() + eps) * rate
