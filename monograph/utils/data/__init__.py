"""PyTorch's place for `monograph.data`."""

from ...data import *  # noqa: F403
from . import dataloader as dataloader
from . import dataset as dataset
from . import sampler as sampler
