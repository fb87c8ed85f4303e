"""Model: compile, fit, evaluate, predict, summary. Sequential: a Model that is a row of layers.

Training is the Trainer's: `fit` makes loaders of what it is given and runs one. Read next:
layers.py, losses.py, ../train/trainer.py.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import numpy as np

import monograph as mg

from .. import optim
from ..core import pytree
from ..core.errors import ArgumentError, ArgumentTypeError, DataError, MonographError
from ..data import DataLoader
from ..metrics import Metric
from ..train import Callback, Trainer, TrainModule
from .arrays import Columns, Endless, as_weights, unpack
from .goals import Goals, Measure
from .layers import InputLayer, Layer, Node, as_layer, element_count

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

    A subclass calls super().__init__() and defines `forward(x)` or `call(x, training=False)`; it
    may override `train_step(data)`, which does all of one training step and returns a dict of
    numbers to log.

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

    def forward(self, *inputs: Any, training: bool | None = None) -> Any:
        """The outputs: of the graph, or what a subclass's `call` makes of the inputs."""
        if "_order" not in self.__dict__:
            call = getattr(self, "call", None)
            if call is None:
                raise NotImplementedError(f"{type(self).__name__} defines neither forward nor call")
            mode = self.training if training is None else training
            takes_mode = "training" in inspect.signature(call).parameters
            return call(*inputs, **({"training": mode} if takes_mode else {}))
        if len(inputs) == 1 and isinstance(inputs[0], dict):
            names = [node.layer.name for node in self._inputs]
            if set(names) != set(inputs[0]):
                raise ArgumentError(
                    f"{self.name}: needs the inputs {', '.join(names)}, got "
                    + ", ".join(map(str, inputs[0]))
                )
            inputs = tuple(inputs[0][name] for name in names)
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

    @property
    def output_names(self) -> list[str] | None:
        """The names of the layers that give the outputs; None for a subclass."""
        if "_order" not in self.__dict__:
            return None
        return [node.layer.name for node in self._outputs]

    # Training

    def compile(
        self,
        optimizer: Any = "adam",
        loss: Any = "mse",
        metrics: Any = (),
        loss_weights: Any = None,
        learning_rate: float | None = None,
        jit: bool = True,
        clipnorm: float | None = None,
        run_eagerly: bool = False,
    ) -> None:
        """Say how the model is trained.

        optimizer      a name, or a function params -> Optimizer (an Optimizer of this model too)
        loss           a name, or a function (predictions, targets) -> a number for each sample or
                       one for all. "cross_entropy" takes scores; Keras's names take probabilities.
                       With several outputs one for all of them, a list, or a dict by output
        metrics        names, functions like losses, or Metric objects; with several outputs a list
                       of lists, or a dict by output
        loss_weights   what the losses of several outputs count: a list, or a dict by output
        learning_rate  for an optimizer given by name
        run_eagerly    the same as jit=False
        """
        if isinstance(optimizer, str) and optimizer not in OPTIMIZERS:
            raise ArgumentError(
                f"compile: there is no optimizer {optimizer!r}; there are {', '.join(OPTIMIZERS)}"
            )
        self.__dict__["compiled"] = {
            "optimizer": optimizer, "learning_rate": learning_rate, "clipnorm": clipnorm,
            "jit": jit and not run_eagerly,
            "goals": Goals(loss, loss_weights, metrics, self.output_names),
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

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None
    ) -> Any:
        """The loss of a batch: the mean over its samples, each times its weight; with several
        outputs the sum of theirs, each times its weight."""
        return self._losses(y, y_pred, sample_weight)[0]

    def _losses(self, y: Any, preds: Any, sample_weight: Any) -> tuple[Any, dict[str, Any]]:
        """(the loss, the losses of several outputs by name)."""
        parts, total = {}, None
        for goal, p, target in self.compiled["goals"].paired(preds, y):
            if goal.loss is None:
                continue
            part = goal.loss_of(p, target, sample_weight)
            total = part * goal.weight if total is None else total + part * goal.weight
            if goal.name is not None:
                parts[goal.called("loss")] = part
        return total, parts if len(parts) > 1 else {}

    def train_step(self, data: Any) -> dict[str, Any]:
        """One step: data is (x, y) or (x, y, sample_weight). What is returned is logged."""
        x, y, weight = unpack(data)
        y_pred = self(x)
        loss = self.compute_loss(x, y, y_pred, weight)
        self.optimizer.zero_grad()
        loss.backward()
        self.clip_gradients(self.optimizer, self.compiled["clipnorm"])
        self.optimizer.step()
        return self._measured(loss, y, y_pred, weight)

    def test_step_values(self, data: Any) -> dict[str, Any]:
        """Loss and metrics of a batch, without training."""
        x, y, weight = unpack(data)
        y_pred = self(x)
        return self._measured(self.compute_loss(x, y, y_pred, weight), y, y_pred, weight)

    def _measured(self, loss: Any, y: Any, preds: Any, weight: Any) -> dict[str, Any]:
        """Losses and metrics of a batch, by name."""
        goals = self.compiled["goals"]
        found = {"loss": loss}
        if not isinstance(preds, mg.Tensor):
            found.update(self._losses(y, preds, weight)[1])
        for goal, p, target in goals.paired(preds, y):
            found.update({n: f(p, target).float().mean() for n, f in goal.functions.items()})
            for name, metric in (goal.objects if self.training else goal.checks).items():
                metric.update(p, target)
                found[name] = metric
        return found

    @property
    def metrics(self) -> list[Measure]:
        """The loss and the metrics of a model with one output, for a train_step of one's own."""
        (goal,) = self._settings("metrics")["goals"].of(None)
        return goal.measures

    def training_step(self, batch: Any, batch_idx: Any) -> Any:
        values = self.train_step(self._as_parameters(batch))
        self._log(values, "", on_step=False, on_epoch=True)
        return {k: v for k, v in values.items() if not isinstance(v, Metric)}

    def _log(self, values: dict[str, Any], prefix: str, **options: Any) -> None:
        for name, value in values.items():
            given = {} if isinstance(value, Metric) else options
            self.log(prefix + name, value, prog_bar=True, **given)

    def _as_parameters(self, batch: Any) -> Any:
        """The batch with float64 as what the parameters are: NumPy makes it by default."""
        kind = next((p.dtype for p in self.parameters() if p.dtype.is_floating_point), mg.float64)
        if kind is mg.float64:
            return batch
        return pytree.tree_map(
            lambda x: x.to(kind) if isinstance(x, mg.Tensor) and x.dtype is mg.float64 else x,
            pytree.tree_map(lambda x: mg.as_tensor(x) if isinstance(x, np.ndarray) else x, batch),
        )

    def on_train_epoch_start(self) -> None:
        for goal in self.compiled["goals"].all():
            for metric in goal.objects.values():
                metric.reset()

    def on_validation_start(self) -> None:
        for goal in self.compiled["goals"].all():
            for metric in goal.checks.values():
                metric.reset()

    def validation_step(self, batch: Any, batch_idx: Any) -> Any:
        values = self.test_step_values(self._as_parameters(batch))
        self._log(values, "val_")

    def predict_step(self, batch: Any, batch_idx: Any) -> Any:
        batch = self._as_parameters(batch)
        return self(batch[0] if type(batch) in (list, tuple) and len(batch) == 1 else batch)

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
        validation_steps: int | None = None,
        validation_batch_size: int | None = None,
        validation_freq: int = 1,
        ckpt_path: Any = None,
        **options: Any,
    ) -> History:
        """Train. Returns the History: for each metric a value for each epoch.

        x, y              arrays or tensors; of several inputs or outputs lists, or dicts by name;
                          or x alone: a DataLoader, or anything that gives batches
                          (x, y[, sample_weight])
        steps_per_epoch, validation_steps
                          batches of an epoch, and of a validation, for data without an end
        validation_freq   validate after every so many epochs
        validation_split  the part of the samples, at the end, to validate with
        validation_data   (x, y), or a loader
        class_weight      what samples of a class count in the loss
        sample_weight     what each sample counts
        options           of the Trainer
        """
        settings = self._settings("fit")
        checks = None
        if y is not None:
            weights = as_weights(y, class_weight, sample_weight)
            data = Columns(x, y, weights)
            if validation_split:
                if not 0 < validation_split < 1:
                    raise ArgumentError(
                        f"fit: validation_split must be in (0, 1), got {validation_split}"
                    )
                at = len(data) - int(len(data) * validation_split)
                data, held = data.part(0, at), data.part(at, len(data))
                checks = DataLoader(held, validation_batch_size or batch_size)
            loader: Any = DataLoader(data, batch_size, shuffle=shuffle)
        else:
            for name, given in (("class_weight", class_weight), ("sample_weight", sample_weight)):
                if given is not None:
                    raise ArgumentError(f"fit: {name} needs x and y as arrays")
            if validation_split:
                raise ArgumentError("fit: validation_split needs x and y as arrays")
            loader = x if steps_per_epoch is None else Endless(x)
        if validation_data is not None:
            given = isinstance(validation_data, (tuple, list))
            size = validation_batch_size or batch_size
            checks = DataLoader(Columns(*validation_data), size) if given else validation_data
            if not given and validation_steps is not None:
                checks = Endless(checks)
        self._build(loader)
        history = History()
        trainer = Trainer(
            max_epochs=epochs,
            callbacks=[*callbacks, history],
            jit=settings["jit"],
            enable_progress_bar=bool(verbose),
            **{
                "limit_train_batches": steps_per_epoch,
                "limit_val_batches": validation_steps,
                "check_val_every_n_epoch": validation_freq,
                **options,
            },
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
            self(unpack(self._as_parameters(batch))[0])
        for m, mode in modes.items():
            m.training = mode

    def evaluate(
        self, x: Any, y: Any = None, batch_size: int = 32, verbose: int | bool = 0,
        sample_weight: Any = None, steps: int | None = None, return_dict: bool = True,
    ) -> Any:  # fmt: skip
        """Loss and metrics over data, as a dict; return_dict=False: their values, the loss first.

        steps  how many batches, for data without an end
        """
        self._settings("evaluate")
        if y is not None:
            x = DataLoader(Columns(x, y, sample_weight), batch_size)
        trainer = Trainer(
            enable_progress_bar=bool(verbose), jit=self.compiled["jit"], limit_val_batches=steps
        )
        (found,) = trainer.validate(self, x)
        values = {name.removeprefix("val_"): value for name, value in found.items()}
        if return_dict:
            return values
        listed = [values.pop("loss"), *values.values()]
        return listed if len(listed) > 1 else listed[0]

    def predict(
        self, x: Any, batch_size: int = 32, verbose: int | bool = 0, steps: int | None = None
    ) -> Any:
        """The outputs for inputs (arrays, or a loader of inputs), as NumPy arrays: one, a list of
        them, or a dict by name, as the model gives them."""
        is_data = isinstance(x, (np.ndarray, mg.Tensor, list, tuple, dict)) or np.ndim(x)
        loader = DataLoader(Columns(x), batch_size) if is_data else x
        jit = True if self.compiled is None else self.compiled["jit"]
        trainer = Trainer(enable_progress_bar=bool(verbose), jit=jit, limit_predict_batches=steps)
        parts = trainer.predict(self, loader)
        if isinstance(parts[0], dict):
            return {k: np.concatenate([p[k].numpy() for p in parts]) for k in parts[0]}
        if isinstance(parts[0], (list, tuple)):
            return [np.concatenate([p[i].numpy() for p in parts]) for i in range(len(parts[0]))]
        return np.concatenate([p.numpy() for p in parts])

    def save_weights(self, path: Any) -> None:
        """Write parameters and buffers to a safetensors file."""
        mg.save(self.state_dict(), path)

    def load_weights(self, path: Any) -> None:
        """Read what save_weights wrote, into a model of the same layers that is built."""
        self.load_state_dict(mg.load(path))

    # Looking at it

    def count_params(self) -> int:
        """Elements of all parameters."""
        return element_count(self)

    def get_layer(self, name: str) -> Any:
        """The layer of a name, as `summary` shows it. ArgumentError names those that there are."""
        if "_order" in self.__dict__:
            known = {node.layer.name: node.layer for node in self._order}
        else:
            known = dict(self.named_children())
        if name not in known:
            raise ArgumentError(f"get_layer: there is no {name!r}; there are {', '.join(known)}")
        return known[name]

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


def _listed(nodes: Any) -> list[Node]:
    values = list(nodes) if isinstance(nodes, (list, tuple)) else [nodes]
    for node in values:
        if not isinstance(node, Node):
            raise ArgumentTypeError(
                f"Model: inputs and outputs must be Nodes, got {type(node).__name__}",
                hint="x = models.Input(shape); y = layer(x); models.Model(x, y)",
            )
    return values
