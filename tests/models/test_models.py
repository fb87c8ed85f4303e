"""Keras-shaped models: graphs of layers, compile, fit, evaluate, predict, errors."""

import numpy as np
import pytest

import monograph as mg
from monograph import models, nn, optim, train
from monograph.core.errors import ArgumentError, DataError, ShapeError
from monograph.data import DataLoader, TensorDataset
from monograph.metrics import F1Score
from monograph.models import layers
from monograph.nn import functional as F


def blobs(samples=240, classes=3, features=4):
    rng = np.random.default_rng(0)
    y = rng.integers(0, classes, samples)
    x = rng.normal(size=(samples, features)) + 3 * np.eye(classes, features)[y]
    return x.astype(np.float32), y


def classifier():
    mg.manual_seed(0)
    model = models.Sequential(
        [models.Input((4,)), layers.Dense(16, activation="relu"), layers.Dense(3)]
    )
    model.compile("adam", loss="cross_entropy", metrics=["accuracy"], learning_rate=0.02)
    return model


def test_fit_evaluate_predict():
    x, y = blobs()
    model = classifier()
    history = model.fit(x, y, epochs=8, validation_split=0.25, verbose=0)
    assert history.epoch == list(range(8))
    assert history.history["loss"][0] > 2 * history.history["loss"][-1]
    assert history.history["val_accuracy"][-1] > 0.9
    found = model.evaluate(x, y)
    scores = model.predict(x)
    assert scores.shape == (240, 3) and scores.dtype == np.float32
    assert found["accuracy"] == pytest.approx((scores.argmax(1) == y).mean(), abs=1e-6)
    shifted = scores - scores.max(1, keepdims=True)
    losses = np.log(np.exp(shifted).sum(1)) - shifted[np.arange(240), y]
    assert found["loss"] == pytest.approx(losses.mean(), rel=1e-5)
    more = model.fit(x, y, epochs=1, verbose=0)  # goes on with the same optimizer
    assert more.history["loss"][0] < 0.5 * history.history["loss"][0]


def test_fit_does_what_a_loop_written_out_does():
    x, y = blobs()
    model = classifier()
    net = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 3))
    for p, q in zip(net.parameters(), model.parameters()):
        with mg.no_grad():
            p.copy_(q)
    model.fit(x, y, epochs=2, shuffle=False, verbose=0, batch_size=48)
    optimizer = optim.Adam(net.parameters(), lr=0.02)
    for _ in range(2):
        for i in range(0, 240, 48):
            loss = F.cross_entropy(net(mg.tensor(x[i : i + 48])), mg.tensor(y[i : i + 48]))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    for p, q in zip(net.parameters(), model.parameters()):
        np.testing.assert_allclose(p.detach().numpy(), q.detach().numpy(), rtol=1e-4, atol=1e-6)


def test_weights_of_samples_and_classes_count_in_the_loss():
    x, y = blobs()
    weights = np.where(y == 1, 2.0, 0.5).astype(np.float32)
    trained = []
    for options in ({"sample_weight": weights}, {"class_weight": {0: 0.5, 1: 2.0, 2: 0.5}}):
        model = classifier()
        model.fit(x, y, epochs=1, shuffle=False, verbose=0, **options)
        trained.append([p.detach().numpy().copy() for p in model.parameters()])
    for a, b in zip(*trained):
        np.testing.assert_array_equal(a, b)
    model = classifier()
    each = models.losses.cross_entropy(model(mg.tensor(x)), mg.tensor(y)).detach().numpy()
    found = model.evaluate(x, y, sample_weight=weights, batch_size=240)
    assert found["loss"] == pytest.approx((each * weights).mean(), rel=1e-5)
    with pytest.raises(ArgumentError, match="class_weight says nothing of class 2"):
        model.fit(x, y, class_weight={0: 1.0, 1: 1.0}, verbose=0)


def test_a_graph_with_branches_and_two_inputs():
    a, b = models.Input((4,), name="a"), models.Input((2,), name="b")
    shared = layers.Dense(4, activation="tanh", name="shared")
    left, right = shared(a), layers.Dense(4, name="right")(b)
    joined = layers.Concatenate()([left, layers.Add()([left, right])])
    model = models.Model([a, b], layers.Dense(1, name="out")(joined), name="two")
    assert joined.shape == (8,) and model.count_params() == 20 + 12 + 9
    model.compile("sgd", "mse", learning_rate=0.1)
    x, y = blobs()
    target = (x[:, :1] * x[:, 1:2]).astype(np.float32)
    history = model.fit([x, x[:, :2]], target, epochs=6, verbose=0)
    assert history.history["loss"][-1] < history.history["loss"][0]
    assert model.predict([x, x[:, :2]]).shape == (240, 1)
    text = model.summary()
    assert "shared (Dense)" in text and "(None, 8)" in text and "parameters: 41;" in text
    dot = model.to_dot()
    assert dot.startswith("digraph model {") and dot.count("->") == 7
    with pytest.raises(ArgumentError, match="depend on 'b', which is not among inputs"):
        models.Model(a, model._outputs[0])


def test_images_with_modules_of_nn_among_the_layers():
    x = models.Input((1, 8, 8))
    y = layers.Conv2D(4, 3, padding="same", activation="relu")(x)
    y = layers.BatchNormalization()(layers.MaxPooling2D()(y))
    y = layers.Dense(2)(layers.Dropout(0.1)(layers.Flatten()(layers.as_layer(nn.GELU())(y))))
    model = models.Model(x, y)
    model.compile("adam", "cross_entropy", ["accuracy"], learning_rate=0.01)
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 64)
    images = rng.normal(size=(64, 1, 8, 8)) + labels[:, None, None, None]
    history = model.fit(images, labels, epochs=10, verbose=0)
    assert history.history["accuracy"][-1] > 0.9


def test_layers_that_learn_their_sizes_from_the_first_batch():
    model = models.Sequential([layers.Embedding(10, 6), layers.GRU(5), layers.Dense(1)])
    assert model.count_params() == 60
    model.compile("adam", "binary_crossentropy_with_logits")
    tokens = np.random.default_rng(0).integers(0, 10, (32, 7))
    model.fit(tokens, (tokens[:, -1] > 4).astype(np.float32), epochs=2, verbose=0)
    assert model.count_params() == 60 + 3 * 5 * (6 + 5 + 2) + 6
    other = models.Sequential([layers.Dense(1)])
    other.compile()
    with pytest.raises(DataError, match="does not know the shapes of its inputs"):
        other.fit(iter([(np.zeros((2, 3)), np.zeros((2, 1)))]), verbose=0)


def test_loaders_and_generators():
    x, y = blobs()
    model = classifier()
    model.fit(DataLoader(TensorDataset(x, y), 40), epochs=2, verbose=0)

    def generate():
        while True:
            for i in range(0, 240, 24):
                yield mg.tensor(x[i : i + 24]), mg.tensor(y[i : i + 24])

    seen = []

    class Count(train.Callback):
        def on_train_batch_end(self, trainer, *args):
            seen.append(trainer.global_step)

    history = model.fit(
        generate(), epochs=3, steps_per_epoch=4, verbose=0, callbacks=[Count()],
        validation_data=(x, y),
    )  # fmt: skip
    assert len(seen) == 12 and len(history.history["val_loss"]) == 3
    with pytest.raises(ArgumentError, match="validation_split needs x and y as arrays"):
        model.fit(generate(), validation_split=0.5)


def test_a_train_step_of_ones_own():
    class Noisy(models.Model):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))

        def forward(self, x):
            return self.net(x)

        def train_step(self, data):
            x, y = data
            loss = F.cross_entropy(self(x + 0.1 * mg.randn_like(x)), y)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            return {"noisy_loss": loss}

    x, y = blobs()
    model = Noisy()
    model.compile(lambda params: optim.SGD(params, lr=0.3), "cross_entropy")
    history = model.fit(x, y, epochs=4, verbose=0)
    losses = history.history["noisy_loss"]
    assert losses[-1] < 0.5 * losses[0] and "net (Sequential)" in model.summary()


def test_metric_objects_see_every_batch():
    x, y = blobs()
    model = classifier()
    model.compile("adam", "cross_entropy", [F1Score(num_classes=3)])
    history = model.fit(x, y, epochs=2, validation_data=(x, y), verbose=0)
    assert len(history.history["val_f1score"]) == 2
    metric = F1Score(num_classes=3)
    metric.update(model.predict(x), y)
    assert history.history["val_f1score"][-1] == pytest.approx(metric.compute())


def test_probabilities_and_keras_names_of_losses():
    x, y = blobs()
    model = models.Sequential([models.Input((4,)), layers.Dense(3), layers.Softmax()])
    model.compile("sgd", "sparse_categorical_crossentropy", ["accuracy"], learning_rate=0.5)
    assert model.fit(x, y, epochs=5, verbose=0).history["accuracy"][-1] > 0.9
    one = np.eye(3, dtype=np.float32)[y]
    model.compile("sgd", "categorical_crossentropy", ["accuracy"], learning_rate=0.5)
    assert model.evaluate(x, one)["accuracy"] > 0.9
    binary = models.Sequential([models.Input((4,)), layers.Dense(1, activation="sigmoid")])
    binary.compile("adam", "binary_crossentropy", ["accuracy"], learning_rate=0.1)
    assert binary.fit(x, y == 0, epochs=5, verbose=0).history["accuracy"][-1] > 0.9


def test_a_wrong_shape_names_the_layer_what_it_expects_and_what_came():
    model = classifier()
    with pytest.raises(ShapeError) as error:
        model(mg.zeros(2, 7))
    notes = "\n".join(error.value.__notes__)
    layer = model.layers[0].name
    assert f"in layer '{layer}' (Dense), which expects (None, 4): got (None, 7)" in notes
    with pytest.raises(ShapeError, match=r"Conv2D: needs images \(C, H, W\), got \(4,\)") as error:
        layers.Conv2D(2, 3, name="conv")(models.Input((4,)))
    assert "in layer 'conv' (Conv2D): got (None, 4)" in "\n".join(error.value.__notes__)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"optimizer": "best"}, "there is no optimizer 'best'; there are sgd, adam"),
        ({"loss": "mystery"}, "there is no loss 'mystery'"),
        ({"metrics": ["mystery"]}, "there is no metric 'mystery'"),
    ],
)
def test_what_compile_refuses(arguments, message):
    with pytest.raises(ArgumentError, match=message):
        classifier().compile(**arguments)
    with pytest.raises(ArgumentError, match="the model is not compiled"):
        models.Sequential([models.Input((2,)), layers.Dense(1)]).fit(np.zeros((2, 2)), np.zeros(2))


def test_a_fit_goes_on_from_its_checkpoint(tmp_path):
    x, y = blobs()

    def run(epochs, path=None, keep=()):
        train.seed_everything(0)
        model = classifier()
        model.fit(x, y, epochs=epochs, verbose=0, callbacks=keep, ckpt_path=path)
        return [p.detach().numpy() for p in model.parameters()]

    expected = run(4)
    run(2, keep=[train.ModelCheckpoint(tmp_path, save_last=True)])
    for a, b in zip(expected, run(4, tmp_path / "last.ckpt")):
        np.testing.assert_array_equal(a, b)


def two_headed():
    a, b = models.Input((4,), name="a"), models.Input((2, 3), name="b")
    h = layers.Concatenate()([layers.Dense(8, activation="relu")(a), layers.Flatten()(b)])
    kind = layers.Dense(3, name="kind")(h)
    size = layers.Dense(1, name="size")(h)
    return models.Model([a, b], [kind, size])


def two_headed_data():
    r = np.random.default_rng(0)
    a, b = r.normal(size=(48, 4)), r.normal(size=(48, 2, 3))
    return a, b, (a[:, 0] > 0).astype(np.int64), b.sum((1, 2))[:, None]


def test_losses_and_metrics_of_several_outputs():
    a, b, kinds, sizes = two_headed_data()
    model = two_headed()
    model.compile(
        lambda params: optim.SGD(params, lr=0.05),
        loss={"kind": "cross_entropy", "size": "mse"},
        loss_weights={"size": 0.5},
        metrics={"kind": ["accuracy", F1Score(num_classes=3)], "size": "mae"},
    )
    before = model.evaluate([a, b], {"kind": kinds, "size": sizes})
    a32, b32 = (mg.tensor(x.astype(np.float32)) for x in (a, b))
    with mg.no_grad():
        scores, guesses = model(a32, b32)
        first = F.cross_entropy(scores, mg.tensor(kinds)).item()
        second = ((guesses - mg.tensor(sizes.astype(np.float32))) ** 2).mean().item()
    assert before["kind_loss"] == pytest.approx(first, rel=1e-5)
    assert before["size_loss"] == pytest.approx(second, rel=1e-5)
    assert before["loss"] == pytest.approx(first + 0.5 * second, rel=1e-5)
    history = model.fit(
        {"b": b, "a": a}, [kinds, sizes], epochs=8, validation_split=0.25, verbose=0
    ).history
    names = {"loss", "kind_loss", "size_loss", "kind_accuracy", "kind_f1score", "size_mae"}
    assert history.keys() == names | {f"val_{name}" for name in names}
    assert history["loss"][-1] < 0.7 * history["loss"][0]
    metric = F1Score(num_classes=3)
    scores, guesses = model.predict({"a": a, "b": b})
    metric.update(scores[36:], kinds[36:])
    assert history["val_kind_f1score"][-1] == pytest.approx(metric.compute())
    assert model.evaluate([a, b], [kinds, sizes], return_dict=False)[0] == pytest.approx(
        model.evaluate([a, b], [kinds, sizes])["loss"]
    )


@pytest.mark.parametrize(
    "settings, message",
    [
        (dict(loss={"other": "mse"}), "loss names the output 'other'; there are kind, size"),
        (dict(loss=["mse"]), "loss must be a list of 2, one for each output"),
        (dict(loss="mse", loss_weights=[1.0]), "loss_weights must be a list of 2"),
        (dict(loss={"size": "msee"}), "there is no loss 'msee'"),
        (dict(loss="mse", metrics=[F1Score(num_classes=3)]), "need a dict by output"),
    ],
)
def test_what_compile_refuses_for_several_outputs(settings, message):
    with pytest.raises(ArgumentError, match=message):
        two_headed().compile(**settings)


def test_targets_that_do_not_fit_the_outputs():
    a, b, kinds, sizes = two_headed_data()
    model = two_headed()
    model.compile(loss={"size": "mse"})
    assert model.fit([a, b], {"size": sizes}, verbose=0).history["loss"][0] > 0
    for y, message in (
        (sizes, "the model has 2 outputs"),
        ({"kind": kinds}, "y has no targets for the output 'size'; it has kind"),
    ):
        with pytest.raises(ArgumentError, match=message):
            model.fit([a, b], y, verbose=0)
    with pytest.raises(ArgumentError, match="needs the inputs a, b, got a, c"):
        model.fit({"a": a, "c": b}, {"size": sizes}, verbose=0)


def test_a_subclass_with_call_and_a_train_step_as_in_keras(tmp_path):
    class Custom(models.Model):
        def __init__(self):
            super().__init__()
            self.hidden, self.out = layers.Dense(8, activation="tanh"), layers.Dense(3)
            self.drop = layers.Dropout(0.5)

        def call(self, x, training=False):
            seen.add(training)
            return self.out(self.drop(self.hidden(x)))

        def train_step(self, data):
            x, y = data
            y_pred = self(x, training=True)
            loss = self.compute_loss(x=x, y=y, y_pred=y_pred)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            for metric in self.metrics:
                if metric.name == "loss":
                    metric.update_state(loss)
                else:
                    metric.update_state(y, y_pred)
            return {m.name: m.result() for m in self.metrics}

    seen = set()
    x, y = blobs()
    model = Custom()
    model.compile(loss="cross_entropy", metrics=["accuracy", F1Score(num_classes=3)])
    history = model.fit(x.astype(np.float64), y, epochs=2, validation_data=(x, y), verbose=0)
    names = ("loss", "accuracy", "f1score")
    assert set(history.history) == {*names, *(f"val_{name}" for name in names)}
    assert seen == {True, False}
    model.save_weights(tmp_path / "w.safetensors")
    other = Custom()
    other(mg.tensor(x[:2]))
    other.load_weights(tmp_path / "w.safetensors")
    np.testing.assert_array_equal(other.predict(x), model.predict(x))


def test_generators_without_an_end_validate_too():
    def generate():
        r = np.random.default_rng(0)
        while True:
            x = r.normal(size=(8, 4))  # float64, as NumPy makes it
            yield x, (x[:, :1] > 0).astype(np.float64)

    model = models.Sequential([models.Input((4,)), layers.Dense(1, activation="sigmoid")])
    model.compile("adam", "binary_crossentropy", ["accuracy"])
    history = model.fit(
        generate(), steps_per_epoch=5, epochs=4, validation_data=generate(), validation_steps=3,
        validation_freq=2, verbose=0,
    )  # fmt: skip
    assert len(history.history["loss"]) == 4
    assert 0 < model.evaluate(generate(), steps=2)["loss"] < 2
    assert model.predict((x for x, _ in generate()), steps=2).shape == (16, 1)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: layers.Dense(-3), r"layer 'dense' \(Dense\): units must be .* got -3"),
        (lambda: layers.Dense(2.5, name="x"), r"layer 'x' \(Dense\): units must be .* got 2.5"),
        (lambda: layers.Conv2D(0, 3), r"layer 'conv2_d' \(Conv2D\): filters must be .* got 0"),
        (lambda: layers.LSTM(True), r"layer 'lstm' \(LSTM\): units must be .* got True"),
        (lambda: layers.Embedding(0, 4), r"\(Embedding\): input_dim must be .* got 0"),
    ],
)
def test_sizes_that_a_layer_cannot_have(make, message):
    with pytest.raises(ArgumentError, match=message):
        make()


def test_layers_are_found_by_name():
    x = models.Input((5,), dtype=mg.int64)
    found = layers.GlobalAveragePooling1D(name="mean")(layers.Embedding(9, 4, name="table")(x))
    model = models.Model(x, layers.Dense(1, name="score")(found))
    with pytest.raises(ArgumentError, match="no 'tables'; there are input, table, mean, score"):
        model.get_layer("tables")
    ids = mg.arange(10).reshape(2, 5) % 9
    table, score = model.get_layer("table"), model.get_layer("score")
    assert mg.allclose(model(ids), score(table(ids).mean(1)))
    row = models.Sequential([models.Input((3,)), layers.Dense(2, name="only")])
    assert isinstance(row.get_layer("only"), layers.Dense)
