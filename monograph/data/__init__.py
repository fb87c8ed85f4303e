"""Data: datasets, samplers and the DataLoader, with the names of torch.utils.data.

Start reading at loader.py. The sample data sets: mnist.py, digits.py, text.py.
"""

from .collate import default_collate, default_convert
from .dataset import (
    ChainDataset,
    ConcatDataset,
    Dataset,
    IterableDataset,
    Rows,
    StackDataset,
    Subset,
    TensorDataset,
    random_split,
)
from .digits import Digits
from .loader import DataLoader
from .mnist import MNIST, read_idx
from .pipeline import Pipeline
from .sampler import (
    BatchSampler,
    RandomSampler,
    Sampler,
    SequentialSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)
from .text import CharText, CharVocabulary, standard_library_text
from .worker import WorkerInfo, get_worker_info

__all__ = [
    "MNIST",
    "BatchSampler",
    "ChainDataset",
    "CharText",
    "CharVocabulary",
    "ConcatDataset",
    "DataLoader",
    "Dataset",
    "Digits",
    "IterableDataset",
    "Pipeline",
    "RandomSampler",
    "Rows",
    "Sampler",
    "SequentialSampler",
    "StackDataset",
    "Subset",
    "SubsetRandomSampler",
    "TensorDataset",
    "WeightedRandomSampler",
    "WorkerInfo",
    "default_collate",
    "default_convert",
    "get_worker_info",
    "random_split",
    "read_idx",
    "standard_library_text",
]
