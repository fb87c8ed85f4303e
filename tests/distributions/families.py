"""A case for each family: constructor arguments as NumPy arrays; distributions inside as cases."""

import numpy as np

_rng = np.random.default_rng(3)


def positive(*shape):
    return _rng.uniform(0.6, 3.0, shape)


def real(*shape):
    return _rng.standard_normal(shape)


def chance(*shape):
    return _rng.uniform(0.1, 0.9, shape)


def simplex(*shape):
    x = _rng.uniform(0.2, 1.0, shape)
    return x / x.sum(-1, keepdims=True)


def covariance(*shape):
    a = _rng.standard_normal(shape)
    return a @ np.swapaxes(a, -1, -2) + np.eye(shape[-1])


class Case:
    def __init__(self, name, *args, **kwargs):
        self.name, self.args, self.kwargs = name, args, kwargs

    def make(self, lib, requires_grad=False, dtype="float64", **more):
        """The distribution with `lib`, and its parameters by name."""
        params = {}

        def convert(key, x):
            if isinstance(x, Case):
                made, inner = x.make(lib, requires_grad, dtype)
                params.update({f"{key}.{k}": v for k, v in inner.items()})
                return made
            if not isinstance(x, np.ndarray):
                return x
            t = lib.tensor(x.tolist(), dtype=getattr(lib, dtype), requires_grad=requires_grad)
            params[key] = t
            return t

        args = [convert(str(i), x) for i, x in enumerate(self.args)]
        kwargs = {k: convert(k, x) for k, x in self.kwargs.items()}
        return getattr(lib.distributions, self.name)(*args, **kwargs, **more), params


CASES = [
    Case("Bernoulli", probs=chance(3)), Case("Bernoulli", logits=real(2, 3)),
    Case("Beta", positive(3), positive(3)),
    Case("Binomial", total_count=np.array([5.0, 40.0, 9.0]), probs=chance(3)),
    Case("Binomial", total_count=7, logits=real(3)),
    Case("Categorical", probs=simplex(2, 4)), Case("Categorical", logits=real(3, 4)),
    Case("Cauchy", real(3), positive(3)), Case("Chi2", positive(3) * 4),
    Case("ContinuousBernoulli", probs=np.array([0.1, 0.5, 0.5003, 0.8])),
    Case("ContinuousBernoulli", logits=real(3)),
    Case("Dirichlet", positive(2, 3)), Case("Exponential", positive(3)),
    Case("FisherSnedecor", positive(3) * 2, positive(3) * 9),
    Case("Gamma", positive(3), positive(3)), Case("Gamma", np.array([0.2, 30.0]), 2.0),
    Case("Geometric", probs=chance(3)), Case("Geometric", logits=real(3)),
    Case("Gumbel", real(3), positive(3)), Case("HalfCauchy", positive(3)),
    Case("HalfNormal", positive(3)), Case("InverseGamma", positive(3) + 3, positive(3)),
    Case("Kumaraswamy", positive(3), positive(3)), Case("LKJCholesky", 3, positive(2)),
    Case("Laplace", real(3), positive(3)), Case("LogNormal", real(3), chance(3)),
    Case("LogisticNormal", real(3), positive(3)),
    Case("LowRankMultivariateNormal", real(2, 4), real(2, 4, 2), positive(2, 4)),
    Case("Multinomial", total_count=6, probs=simplex(2, 3)),
    Case("MultivariateNormal", real(2, 3), covariance_matrix=covariance(3, 3)),
    Case("MultivariateNormal", real(3), precision_matrix=covariance(2, 3, 3)),
    Case("MultivariateNormal", real(3), scale_tril=np.linalg.cholesky(covariance(3, 3))),
    Case("NegativeBinomial", positive(3) * 3, probs=chance(3)),
    Case("NegativeBinomial", 4, logits=-positive(3)),
    Case("Normal", real(3), positive(3)), Case("Normal", real(2, 1), positive(3)),
    Case("OneHotCategorical", probs=simplex(2, 4)),
    Case("OneHotCategoricalStraightThrough", logits=real(2, 4)),
    Case("Pareto", positive(3), positive(3) + 2.5), Case("Poisson", positive(3) * 6),
    Case("RelaxedBernoulli", np.array(0.7), probs=chance(3)),
    Case("RelaxedOneHotCategorical", np.array(0.7), logits=real(2, 3)),
    Case("StudentT", positive(3) + 4, real(3), positive(3)),
    Case("Uniform", -positive(3), positive(3)),
    Case("VonMises", real(3), positive(3)), Case("Weibull", positive(3), positive(3)),
    Case("Wishart", np.array(5.5), covariance_matrix=covariance(3, 3)),
    Case("Independent", Case("Normal", real(4, 3), positive(4, 3)), 1),
    Case(
        "MixtureSameFamily", Case("Categorical", logits=real(2, 3)),
        Case("Normal", real(2, 3), positive(2, 3)),
    ),
    Case(
        "MixtureSameFamily", Case("Categorical", logits=real(3)),
        Case("Independent", Case("Normal", real(3, 2), positive(3, 2)), 1),
    ),
]  # fmt: skip
IDS = [f"{c.name}-{i}" for i, c in enumerate(CASES)]
