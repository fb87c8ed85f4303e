"""Training runs with Lightning's shape: `from monograph import train`.

TrainModule (also `Module`) says how a model is trained, Trainer runs it. Start at trainer.py.
"""

from .averaging import EMA, SWA
from .callbacks import Callback, EarlyStopping, LearningRateMonitor, Timer
from .checkpoint import load_checkpoint, save_checkpoint
from .datamodule import DataModule
from .finetuning import BackboneFreezing
from .lint import LintWarning
from .loggers import CSVLogger, JSONLinesLogger, Logger
from .model_checkpoint import ModelCheckpoint
from .model_graph import model_graph
from .module import TrainModule
from .monitors import PredictionWriter, ThroughputMonitor
from .profiling import Profiler
from .progress import ProgressBar
from .recording import GraphMonitor, HistogramMonitor, SampleMonitor, SystemMonitor
from .seeding import seed_everything
from .tensorboard import TensorBoardLogger
from .tracking import MLFlowLogger, WandbLogger
from .trainer import Trainer
from .tuner import find_batch_size, lr_find
from .watchdog import NaNWatchdog, NotFiniteError

Module = TrainModule

__all__ = [
    "BackboneFreezing",
    "CSVLogger",
    "Callback",
    "DataModule",
    "EMA",
    "EarlyStopping",
    "GraphMonitor",
    "HistogramMonitor",
    "JSONLinesLogger",
    "LearningRateMonitor",
    "LintWarning",
    "Logger",
    "MLFlowLogger",
    "ModelCheckpoint",
    "Module",
    "NaNWatchdog",
    "NotFiniteError",
    "PredictionWriter",
    "Profiler",
    "ProgressBar",
    "SWA",
    "SampleMonitor",
    "SystemMonitor",
    "TensorBoardLogger",
    "ThroughputMonitor",
    "Timer",
    "TrainModule",
    "Trainer",
    "WandbLogger",
    "find_batch_size",
    "load_checkpoint",
    "lr_find",
    "model_graph",
    "save_checkpoint",
    "seed_everything",
]
