"""Training runs with Lightning's shape: `from monograph import train`.

TrainModule (also `Module`) says how a model is trained, Trainer runs it. Start at trainer.py.
"""

from .callbacks import Callback, EarlyStopping, LearningRateMonitor, Timer
from .checkpoint import load_checkpoint, save_checkpoint
from .datamodule import DataModule
from .loggers import CSVLogger, Logger
from .model_checkpoint import ModelCheckpoint
from .module import TrainModule
from .progress import ProgressBar
from .seeding import seed_everything
from .trainer import Trainer

Module = TrainModule

__all__ = [
    "CSVLogger",
    "Callback",
    "DataModule",
    "EarlyStopping",
    "LearningRateMonitor",
    "Logger",
    "ModelCheckpoint",
    "Module",
    "ProgressBar",
    "Timer",
    "TrainModule",
    "Trainer",
    "load_checkpoint",
    "save_checkpoint",
    "seed_everything",
]
