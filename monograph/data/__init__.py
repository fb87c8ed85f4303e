"""Data: datasets, samplers and the DataLoader, with the names of torch.utils.data.

Start reading at loader.py. Streams by stages: pipeline.py. Files: readers.py. Images:
transforms.py. The sample data sets: mnist.py, digits.py, text.py.
"""

from . import audio, transforms
from .augment import RandAugment
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
from .lengths import BucketBatchSampler, PackedDataset, pack, pad_collate
from .loader import AUTOTUNE, DataLoader
from .mixing import CutMix, Mixup
from .mnist import MNIST, read_idx
from .pipeline import Pipeline
from .readers import ImageFolder, NumpyDataset, TarShards, decode_image
from .sampler import (
    BatchSampler,
    RandomSampler,
    Sampler,
    SequentialSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)
from .schema import Schema
from .tables import ArrowDataset, CSVDataset, Table
from .text import CharText, CharVocabulary, standard_library_text
from .tokenizing import Tokenize, train_tokenizer
from .worker import WorkerInfo, get_worker_info

__all__ = [
    "ArrowDataset",
    "BucketBatchSampler",
    "CSVDataset",
    "CutMix",
    "ImageFolder",
    "Mixup",
    "NumpyDataset",
    "PackedDataset",
    "RandAugment",
    "Schema",
    "Table",
    "Tokenize",
    "audio",
    "TarShards",
    "decode_image",
    "pack",
    "pad_collate",
    "train_tokenizer",
    "transforms",
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
    "AUTOTUNE",
    "get_worker_info",
    "random_split",
    "read_idx",
    "standard_library_text",
]
