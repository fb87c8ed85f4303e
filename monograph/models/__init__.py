"""Models in the shape of Keras: layers that build themselves, compile, fit, evaluate, predict.

    from monograph import models
    from monograph.models import layers

    model = models.Sequential([
        models.Input((784,)), layers.Dense(128, activation="relu"), layers.Dense(10)
    ])
    model.compile("adam", loss="cross_entropy", metrics=["accuracy"])
    model.fit(x, y, epochs=3, validation_split=0.1)

A Model is a TrainModule: a Trainer trains it, and all callbacks of monograph.train serve it. Images
are (N, C, H, W), as everywhere in this package. Start reading at model.py.
"""

from . import layers, losses
from .layers import Input, Layer
from .model import History, Model, Sequential

__all__ = ["History", "Input", "Layer", "Model", "Sequential", "layers", "losses"]
