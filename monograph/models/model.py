"""Model: compile, fit, evaluate, predict, summary. Sequential: a Model that is a row of layers.

Training is the Trainer's: `fit` makes loaders of what it is given and runs one. Read next:
layers.py, losses.py, ../train/trainer.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

import monograph as mg

from .. import optim
from ..core.errors import ArgumentError, ArgumentTypeError, DataError, MonographError
from ..data import DataLoader, Dataset, Rows
from ..metrics import Metric
from ..train import Callback, Trainer, TrainModule
from .layers import InputLayer, Layer, Node, as_layer, element_count
from .losses import LOSSES, METRICS, by_name

OPTIMIZERS = {
    "sgd": (optim.SGD, 0.01), "adam": (optim.Adam, 1e-3), "adamw": (optim.AdamW, 1e-3),
    "rmsprop": (optim.RMSprop, 1e-3), "adagrad": (optim.Adagrad, 1e-2),
}  # fmt: skip


class History(Callback):
    """What fit returns: `history` has for each metric a list with a value for each epoch."""

    def __init__(self) -> None:
        self.history: dict[str, list[float]] = {}
        self.epoch: list[int] = []

    def on_train_epoch_end(self, trainer: Any, module: Any) -> None:
        self.epoch.append(trainer.current_epoch)
        for name, value in trainer.callback_metrics.items():
            self.history.setdefault(name, []).append(value)


class Model(TrainModule):
    """A network to compile and fit: a graph of layers, or a subclass that defines forward.

    inputs, outputs   Nodes, or lists of them (layers called on Input)

    A subclass calls super().__init__() and defines `forward(x)`; it may override
    `train_step(data)`, which does all of one training step and returns a dict of numbers to log.

    >>> from monograph.models import Input, layers
    >>> x = Input((4,))
    >>> y = layers.Dense(1)(layers.Dense(8, activation="relu")(x))
    >>> model = Model(x, y)
    >>> model.count_params()
    49
    """

    automatic_optimization = False  # train_step does it all

    def __init__(self, inputs: Any = None, outputs: Any = None, name: str | None = None):
        super().__init__()
        self.__dict__["name"] = name or type(self).__name__.lower()
        self.__dict__["compiled"] = None
        if (inputs is None) != (outputs is None):
            raise ArgumentError("Model: give both inputs and outputs, or neither")
        if inputs is not None:
            self._set_graph(inputs, outputs)

    # The graph

    def _set_graph(self, inputs: Any, outputs: Any) -> None:
        self.__dict__["_inputs"] = _listed(inputs)
        self.__dict__["_outputs"] = _listed(outputs)
        self.__dict__["_single"] = isinstance(outputs, Node)
        order: list[Node] = []
        self._walk(self._outputs, order, set())
        self.__dict__["_order"] = order
        missing = [n for n in order if not n.inputs and n not in self._inputs]
        if missing:
            raise ArgumentError(
                f"Model: the outputs depend on {missing[0].layer.name!r}, which is not among inputs"
            )
        for node in order:
            if not isinstance(node.layer, InputLayer):
                self._adopt(node.layer)

    def _adopt(self, layer: Layer) -> None:
        """Make a layer a part of this model, under a name of its own."""
        if any(part is layer for part in self._modules.values()):
            return
        name, number = layer.name.replace(".", "_"), 0
        while name in self._modules:
            if layer.is_named:
                raise ArgumentError(f"Model: there are two layers called {layer.name!r}")
            number += 1
            name = f"{layer.name}_{number}"
        layer.__dict__["name"], layer.__dict__["is_named"] = name, True
        self.add_module(name, layer)

    def _walk(self, nodes: Sequence[Node], order: list[Node], seen: set[int]) -> None:
        for node in nodes:
            if id(node) not in seen:
                seen.add(id(node))
                self._walk(node.inputs, order, seen)
                order.append(node)

    def forward(self, *inputs: Any) -> Any:
        if "_order" not in self.__dict__:
            raise NotImplementedError(f"{type(self).__name__}.forward is not defined")
        if len(inputs) == 1 and isinstance(inputs[0], (list, tuple)):
            inputs = tuple(inputs[0])
        if len(inputs) != len(self._inputs):
            raise ArgumentError(f"{self.name}: needs {len(self._inputs)} inputs, got {len(inputs)}")
        values = {id(node): x for node, x in zip(self._inputs, inputs)}
        for node in self._order:
            if id(node) not in values:
                values[id(node)] = node.layer(*(values[id(i)] for i in node.inputs))
        outputs = [values[id(node)] for node in self._outputs]
        return outputs[0] if self._single else outputs

    # Training

    def compile(
        self,
        optimizer: Any = "adam",
        loss: Any = "mse",
        metrics: Sequence[Any] = (),
        learning_rate: float | None = None,
        jit: bool = True,
        clipnorm: float | None = None,
    ) -> None:
        """Say how the model is trained.

        optimizer      a name, or a function params -> Optimizer (an Optimizer of this model too)
        loss           a name, or a function (predictions, targets) -> a number for each sample or
                       one for all. "cross_entropy" takes scores; Keras's names take probabilities
        metrics        names, functions like losses, or Metric objects
        learning_rate  for an optimizer given by name
        """
        if isinstance(optimizer, str) and optimizer not in OPTIMIZERS:
            raise ArgumentError(
                f"compile: there is no optimizer {optimizer!r}; there are {', '.join(OPTIMIZERS)}"
            )
        functions, objects = {}, {}
        for given in metrics:
            if isinstance(given, Metric):
                objects[type(given).__name__.lower()] = given
            else:
                function = by_name("metric", given, METRICS)
                functions[given if isinstance(given, str) else function.__name__] = function
        self.__dict__["compiled"] = {
            "optimizer": optimizer, "learning_rate": learning_rate, "jit": jit,
            "loss": by_name("loss", loss, LOSSES), "functions": functions, "objects": objects,
            "clipnorm": clipnorm,
        }  # fmt: skip
        self.__dict__["optimizer"] = None if isinstance(optimizer, str) else optimizer

    def configure_optimizers(self) -> Any:
        """The optimizer of compile, made at the first fit and kept for later ones."""
        settings = self._settings("fit")
        if self.optimizer is None:
            kind, rate = OPTIMIZERS[settings["optimizer"]]
            self.__dict__["optimizer"] = kind(self.parameters(), settings["learning_rate"] or rate)
        elif not isinstance(self.optimizer, optim.Optimizer):
            self.__dict__["optimizer"] = self.optimizer(self.parameters())
        return self.optimizer

    def _settings(self, what: str) -> dict[str, Any]:
        if self.compiled is None:
            raise ArgumentError(f"{what}: the model is not compiled", hint="call compile() first")
        return self.compiled

    def compute_loss(self, x: Any, y: Any, preds: Any, sample_weight: Any = None) -> Any:
        """The loss of a batch: the mean over its samples, each times its weight."""
        each = self.compiled["loss"](preds, y)
        if sample_weight is None:
            return each.mean()
        if each.ndim == 0:
            raise ArgumentError(
                "fit: weights of samples need a loss that gives a number for each sample"
            )
        return (each * sample_weight.to(each.dtype)).mean()

    def train_step(self, data: Any) -> dict[str, Any]:
        """One step: data is (x, y) or (x, y, sample_weight). What is returned is logged."""
        x, y, weight = unpack(data)
        preds = self(x)
        loss = self.compute_loss(x, y, preds, weight)
        self.optimizer.zero_grad()
        loss.backward()
        self.clip_gradients(self.optimizer, self.compiled["clipnorm"])
        self.optimizer.step()
        return {"loss": loss, **self._measured(y, preds)}

    def test_step_values(self, data: Any) -> dict[str, Any]:
        """Loss and metrics of a batch, without training."""
        x, y, weight = unpack(data)
        preds = self(x)
        return {"loss": self.compute_loss(x, y, preds, weight), **self._measured(y, preds)}

    def _measured(self, y: Any, preds: Any) -> dict[str, Any]:
        found = {n: f(preds, y).float().mean() for n, f in self.compiled["functions"].items()}
        self.__dict__["_seen"] = (preds, y)
        return found

    def training_step(self, batch: Any, batch_idx: Any) -> Any:
        self.__dict__["_seen"] = None
        values = self.train_step(batch)
        self.log_dict(values, prog_bar=True, on_step=False, on_epoch=True)
        return self._outputs_for(values)

    def _outputs_for(self, values: dict[str, Any]) -> Any:
        if self.compiled["objects"] and self._seen is not None:
            return {**values, "preds": self._seen[0], "target": self._seen[1]}
        return dict(values)

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        self._update_objects(outputs, "")

    def _update_objects(self, outputs: Any, prefix: str) -> None:
        for name, metric in self.compiled["objects"].items():
            if isinstance(outputs, dict) and "preds" in outputs:
                metric.update(outputs["preds"], outputs["target"])
                self.log(prefix + name, metric, prog_bar=True)

    def on_train_epoch_start(self) -> None:
        for metric in self.compiled["objects"].values():
            metric.reset()

    on_validation_start = on_train_epoch_start

    def validation_step(self, batch: Any, batch_idx: Any) -> Any:
        self.__dict__["_seen"] = None
        values = self.test_step_values(batch)
        self.log_dict({f"val_{k}": v for k, v in values.items()}, prog_bar=True)
        return self._outputs_for(values)

    def on_validation_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        self._update_objects(outputs, "val_")

    def predict_step(self, batch: Any, batch_idx: Any) -> Any:
        return self(batch[0] if type(batch) is list and len(batch) == 1 else batch)

    def fit(
        self,
        x: Any,
        y: Any = None,
        batch_size: int = 32,
        epochs: int = 1,
        verbose: int | bool = 1,
        callbacks: Sequence[Callback] = (),
        validation_split: float = 0.0,
        validation_data: Any = None,
        shuffle: bool = True,
        class_weight: dict[int, float] | None = None,
        sample_weight: Any = None,
        steps_per_epoch: int | None = None,
        ckpt_path: Any = None,
        **options: Any,
    ) -> History:
        """Train. Returns the History: for each metric a value for each epoch.

        x, y              arrays or tensors (x may be a list of several inputs); or x alone: a
                          DataLoader, or anything that gives batches (x, y[, sample_weight])
        validation_split  the part of the samples, at the end, to validate with
        validation_data   (x, y), or a loader
        class_weight      what samples of a class count in the loss
        sample_weight     what each sample counts
        options           of the Trainer
        """
        settings = self._settings("fit")
        checks = None
        if y is not None:
            weights = _weights(y, class_weight, sample_weight)
            data = Columns(x, y, weights)
            if validation_split:
                if not 0 < validation_split < 1:
                    raise ArgumentError(
                        f"fit: validation_split must be in (0, 1), got {validation_split}"
                    )
                at = len(data) - int(len(data) * validation_split)
                data, held = data.part(0, at), data.part(at, len(data))
                checks = DataLoader(held, batch_size)
            loader: Any = DataLoader(data, batch_size, shuffle=shuffle)
        else:
            for name, given in (("class_weight", class_weight), ("sample_weight", sample_weight)):
                if given is not None:
                    raise ArgumentError(f"fit: {name} needs x and y as arrays")
            if validation_split:
                raise ArgumentError("fit: validation_split needs x and y as arrays")
            loader = x if steps_per_epoch is None else _Endless(x)
        if validation_data is not None:
            given = isinstance(validation_data, (tuple, list))
            checks = DataLoader(Columns(*validation_data), batch_size) if given else validation_data
        self._build(loader)
        history = History()
        trainer = Trainer(
            max_epochs=epochs,
            callbacks=[*callbacks, history],
            jit=settings["jit"],
            enable_progress_bar=bool(verbose),
            **{"limit_train_batches": steps_per_epoch, **options},
        )
        trainer.fit(self, loader, checks, ckpt_path=ckpt_path)
        return history

    def _build(self, loader: Any) -> None:
        """Let layers that do not know their inputs yet see a batch."""
        if all(p.shapes is not None for p in self.modules() if isinstance(p, Layer)):
            return
        if not hasattr(loader, "__len__") and iter(loader) is loader:
            raise DataError(
                f"fit: {self.name} does not know the shapes of its inputs, and the data can be "
                "read only once",
                hint="begin with models.Input(shape), or call the model on an example first",
            )
        state = mg.get_rng_state()
        batch = next(iter(loader))
        mg.set_rng_state(state)
        modes = {m: m.training for m in self.modules()}
        self.eval()
        with mg.no_grad():
            self(unpack(batch)[0])
        for m, mode in modes.items():
            m.training = mode

    def evaluate(
        self, x: Any, y: Any = None, batch_size: int = 32, sample_weight: Any = None
    ) -> dict[str, float]:
        """Loss and metrics over data, as dict."""
        self._settings("evaluate")
        if y is not None:
            x = DataLoader(Columns(x, y, sample_weight), batch_size)
        trainer = Trainer(enable_progress_bar=False, jit=self.compiled["jit"])
        (found,) = trainer.validate(self, x)
        return {name.removeprefix("val_"): value for name, value in found.items()}

    def predict(self, x: Any, batch_size: int = 32) -> Any:
        """The outputs for inputs (arrays, or a loader of inputs), as NumPy arrays."""
        is_data = isinstance(x, (np.ndarray, mg.Tensor, list, tuple)) or np.ndim(x)
        loader = DataLoader(Columns(x), batch_size) if is_data else x
        jit = True if self.compiled is None else self.compiled["jit"]
        parts = Trainer(enable_progress_bar=False, jit=jit).predict(self, loader)
        if isinstance(parts[0], (list, tuple)):
            return [np.concatenate([p[i].numpy() for p in parts]) for i in range(len(parts[0]))]
        return np.concatenate([p.numpy() for p in parts])

    # Looking at it

    def count_params(self) -> int:
        """Elements of all parameters."""
        return element_count(self)

    def summary(self) -> str:
        """A table of layers with output shapes and numbers of parameters."""
        rows = [("layer", "output", "parameters")]
        for name, kind, shape, count in self._rows():
            rows.append((f"{name} ({kind})", shape, f"{count:,}"))
        wide = [max(len(row[i]) for row in rows) for i in range(3)]
        lines = [f"{a:<{wide[0]}}  {b:<{wide[1]}}  {c:>{wide[2]}}" for a, b, c in rows]
        trainable = sum(p.numel() for p in self.parameters() if p.requires_grad)
        lines.append(f"parameters: {self.count_params():,}; trainable: {trainable:,}")
        return "\n".join(lines)

    def _rows(self) -> Any:
        if "_order" in self.__dict__:
            for node in self._order:
                shape = f"(None, {', '.join(map(str, node.shape))})"
                layer = node.layer
                yield layer.name, type(layer).__name__, shape, element_count(layer)
            return
        for name, part in self.named_children():
            yield name, type(part).__name__, "", element_count(part)

    def to_dot(self) -> str:
        """The graph in the language of Graphviz."""
        if "_order" not in self.__dict__:
            raise ArgumentError("to_dot: only a model made of Inputs and layers has a graph")
        lines = ["digraph model {", "  node [shape=box];"]
        names = {id(node): f"n{i}" for i, node in enumerate(self._order)}
        for node in self._order:
            shape = ", ".join(["None", *map(str, node.shape)])
            kind = type(node.layer).__name__
            lines.append(f'  {names[id(node)]} [label="{node.layer.name}: {kind}\\n({shape})"];')
            for source in node.inputs:
                lines.append(f"  {names[id(source)]} -> {names[id(node)]};")
        return "\n".join([*lines, "}"])


class Sequential(Model):
    """Layers one after the other. With Input(shape) first (or `input_shape`), it is built at once.

    >>> from monograph.models import Input, layers
    >>> model = Sequential([Input((3,)), layers.Dense(4), layers.ReLU(), layers.Dense(2)])
    >>> model(mg.zeros(5, 3)).shape
    (5, 2)
    """

    def __init__(self, layers: Sequence[Any] = (), name: str | None = None):
        super().__init__(name=name)
        self.__dict__["layers"] = []
        for layer in layers:
            self.add(layer)

    def add(self, layer: Any) -> None:
        """Append a layer, a module, or (first) an Input."""
        if isinstance(layer, Node):
            if self.layers:
                raise ArgumentError("Sequential: Input must come first")
            self.__dict__["_start"] = self.__dict__["_end"] = layer
            return
        layer = as_layer(layer)
        if layer in self.layers:
            raise ArgumentError(f"Sequential: the layer {layer.name!r} is in it already")
        self._adopt(layer)
        self.layers.append(layer)
        if "_start" in self.__dict__:
            self.__dict__["_end"] = layer(self._end)
            self._set_graph(self._start, self._end)

    def forward(self, *inputs: Any) -> Any:
        x = inputs[0] if len(inputs) == 1 else inputs
        for layer in self.layers:
            try:
                x = layer(x)
            except MonographError as error:
                error.add_note(f"  in {self.name!r}")
                raise
        return x


class Columns(Dataset):
    """Samples (x, y, weight) of arrays with equal first axes; x may be a list of arrays."""

    def __init__(self, x: Any, y: Any = None, weight: Any = None):
        several = isinstance(x, (list, tuple))
        self.inputs = [_array(a) for a in x] if several else [_array(x)]
        self.several = several
        self.rest = [_array(a) for a in (y, weight) if a is not None]
        lengths = {len(a) for a in (*self.inputs, *self.rest)}
        if len(lengths) > 1:
            raise ArgumentError(
                "fit: x, y and sample_weight must have as many samples each, got "
                + ", ".join(str(len(a)) for a in (*self.inputs, *self.rest))
            )

    def __len__(self) -> int:
        return len(self.inputs[0])

    def part(self, start: int, stop: int) -> Columns:
        made = Columns.__new__(Columns)
        made.several = self.several
        made.inputs = [a[start:stop] for a in self.inputs]
        made.rest = [a[start:stop] for a in self.rest]
        return made

    def __getitem__(self, index: int) -> tuple:
        inputs = [a[index] for a in self.inputs]
        return (inputs if self.several else inputs[0], *(a[index] for a in self.rest))

    def __getitems__(self, indices: Sequence[int]) -> Any:
        if self.several:
            return [self[i] for i in indices]
        index = np.asarray(indices, dtype=np.int64)
        return Rows((self.inputs[0][index], *(a[index] for a in self.rest)))


class _Endless:
    """Batches of something that is read on from epoch to epoch, and again when it ends."""

    def __init__(self, batches: Any):
        self.batches, self._position = batches, None

    def __iter__(self) -> Any:
        while True:
            if self._position is None:
                self._position = iter(self.batches)
            empty = True
            for batch in self._position:
                empty = False
                yield batch
            self._position = None
            if empty:
                return


def unpack(data: Any) -> tuple[Any, Any, Any]:
    """(x, y, sample_weight) of a batch; what is not there is None."""
    if not isinstance(data, (list, tuple)):
        return data, None, None
    if not 1 <= len(data) <= 3:
        raise DataError(f"fit: a batch must be x, (x, y) or (x, y, weight), got {len(data)} parts")
    x, y, weight = (*data, None, None)[:3]
    return x, y, weight


def _array(x: Any) -> np.ndarray:
    array = x.detach().numpy() if isinstance(x, mg.Tensor) else np.asarray(x)
    if array.dtype == np.float64 and not isinstance(x, mg.Tensor):
        array = array.astype(np.float32)  # what models are made of
    if not array.ndim:
        raise ArgumentTypeError("fit: x and y must be arrays of samples, got one number")
    return array


def _weights(y: Any, class_weight: dict[int, float] | None, sample_weight: Any) -> Any:
    if class_weight is None:
        return sample_weight
    labels = _array(y)
    labels = (labels.argmax(1) if labels.ndim > 1 and labels.shape[1] > 1 else labels).reshape(-1)
    unknown = sorted({int(v) for v in labels} - set(class_weight))
    if unknown:
        raise ArgumentError(f"fit: class_weight says nothing of class {unknown[0]}")
    weights = np.array([class_weight[int(v)] for v in labels], np.float32)
    return weights if sample_weight is None else weights * _array(sample_weight)


def _listed(nodes: Any) -> list[Node]:
    values = list(nodes) if isinstance(nodes, (list, tuple)) else [nodes]
    for node in values:
        if not isinstance(node, Node):
            raise ArgumentTypeError(
                f"Model: inputs and outputs must be Nodes, got {type(node).__name__}",
                hint="x = models.Input(shape); y = layer(x); models.Model(x, y)",
            )
    return values
