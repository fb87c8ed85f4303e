"""Optimizers and learning-rate schedules with PyTorch's names: `from monograph import optim`.

AdamWScheduleFree, LAMB and Lion are not in PyTorch.
"""

from . import lr_scheduler, swa_utils
from .adam import Adam, AdamW
from .adaptive import Adadelta, Adagrad, RMSprop
from .averaged import ASGD
from .lbfgs import LBFGS
from .matrices import Adafactor, Muon
from .moments import LAMB, Adamax, AdamWScheduleFree, NAdam, RAdam
from .optimizer import Optimizer
from .sgd import SGD
from .signs import Lion, Rprop
from .sparse_adam import SparseAdam

__all__ = [
    "ASGD", "LAMB", "LBFGS", "SGD", "Adadelta", "Adafactor", "Adagrad", "Adam", "AdamW",
    "AdamWScheduleFree", "Adamax", "Lion", "Muon", "NAdam", "Optimizer", "RAdam", "RMSprop",
    "Rprop", "SparseAdam", "lr_scheduler", "swa_utils",
]  # fmt: skip
