"""DataModule: all that concerns a data set in one object, apart from models."""

from __future__ import annotations

from typing import Any

from ..core.errors import DataError
from .hparams import HyperParameters


class DataModule(HyperParameters):
    """Loaders for training, validation, testing and prediction, made in one place.

    prepare_data()  before anything else: download, unpack. Keep nothing in the object
    setup(stage)    before each run; stage is "fit", "validate", "test" or "predict"
    train_dataloader(), val_dataloader(), test_dataloader(), predict_dataloader()
    teardown(stage) after each run
    state_dict(), load_state_dict(state)   what checkpoints should hold

    >>> from monograph.data import DataLoader
    >>> class Numbers(DataModule):
    ...     def setup(self, stage):
    ...         self.numbers = list(range(10))
    ...     def train_dataloader(self):
    ...         return DataLoader(self.numbers, batch_size=5)
    >>> numbers = Numbers()
    >>> numbers.setup("fit")
    >>> len(numbers.train_dataloader())
    2
    """

    trainer: Any = None  # the Trainer that used this last

    def prepare_data(self) -> None:
        """Download and unpack, once, before setup."""

    def setup(self, stage: str) -> None:
        """Make the data sets of a stage."""

    def teardown(self, stage: str) -> None:
        """Close what setup opened."""

    def train_dataloader(self) -> Any:
        """The training data."""
        raise DataError(f"{type(self).__name__}: train_dataloader is not defined")

    def val_dataloader(self) -> Any:
        """The validation data; None for none."""

    def test_dataloader(self) -> Any:
        """The test data."""

    def predict_dataloader(self) -> Any:
        """The data to predict."""

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint should hold."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from what state_dict gave."""
