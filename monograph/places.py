"""PyTorch's modules that stand elsewhere here: `from monograph.nn.modules.conv import Conv2d`.

Programs name the files of PyTorch's own tree. For those in PLACES, `_Finder` answers with the
module of ours that has the same names.
"""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from typing import Any

ROOT = __name__.rpartition(".")[0]
MANY = {
    "nn.modules": """activation adaptive batchnorm channelshuffle container conv distance dropout
        flatten fold instancenorm lazy linear loss normalization padding pixelshuffle pooling rnn
        sparse transformer upsampling""",
    "optim": "adadelta adagrad adamax adamw asgd nadam radam rmsprop rprop",
    "distributions": """bernoulli beta cauchy chi2 continuous_bernoulli dirichlet exp_family
        exponential fishersnedecor generalized_pareto geometric gumbel half_cauchy half_normal
        independent inverse_gamma kumaraswamy laplace lkj_cholesky log_normal logistic_normal
        lowrank_multivariate_normal mixture_same_family multinomial multivariate_normal
        negative_binomial one_hot_categorical pareto poisson relaxed_bernoulli relaxed_categorical
        studentT transformed_distribution uniform von_mises weibull wishart""",
    "autograd": "anomaly_mode grad_mode variable",
    "nn.utils": "clip_grad convert_parameters",
}  # a package of ours and PyTorch's files of its names
PLACES = {f"{home}.{name}": home for home, names in MANY.items() for name in names.split()} | {
    "jit": "scripting", "random": "api.random", "functional": "", "serialization": "api.files",
    "autograd.function": "api.function", "autograd.functional": "api.autograd_functional",
    "autograd.profiler": "profiler", "autograd.graph": "api.autograd_graph",
    "autograd.forward_ad": "api.forward_ad",
    "_vmap_internals": "func", "nn.utils.stateless": "func",
    "utils.hooks": "nn.hooks", "utils.dlpack": "api.dlpack", "utils._pytree": "core.pytree",
    "utils.model_zoo": "hub", "utils.data.distributed": "data.distributed",
    "utils.data._utils": "data", "utils.data._utils.collate": "data.collate",
}  # fmt: skip


class _Finder(MetaPathFinder):
    """Answers for the paths in PLACES."""

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> ModuleSpec | None:
        inner = fullname.removeprefix(f"{ROOT}.")
        return ModuleSpec(fullname, _Alias(PLACES[inner])) if inner in PLACES else None


class _Alias(Loader):
    """Gives the module that has the names (for `jit`, the function) in the place of a new one."""

    def __init__(self, target: str):
        self.target, self.spec = f"{ROOT}.{target}".rstrip("."), None

    def create_module(self, spec: ModuleSpec) -> Any:
        module: Any = import_module(self.target)
        if spec.name == f"{ROOT}.jit":
            return module.jit
        self.spec = module.__spec__
        return module

    def exec_module(self, module: Any) -> None:
        if self.spec is not None:  # the import system has written the alias's over it
            module.__spec__ = self.spec


# First: a place may be in a package of ours, where Python would load the file a second time.
sys.meta_path.insert(0, _Finder())
