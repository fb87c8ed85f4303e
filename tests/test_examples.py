"""Every example runs a few steps; the slow tests reach what the examples promise."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


def example(name):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write_mnist(folder, count=64):
    """Four idx files with squares for digits, each at its own place."""
    labels = np.arange(count, dtype=np.uint8) % 10
    images = np.zeros((count, 28, 28), np.uint8)
    for image, label in zip(images, labels):
        row, column = 8 * (label // 4) + 3, 7 * (label % 4)
        image[row : row + 6, column : column + 6] = 255
    for part in ("train", "t10k"):
        header = bytes([0, 0, 8, 3]) + np.array(images.shape, ">u4").tobytes()
        (folder / f"{part}-images-idx3-ubyte").write_bytes(header + images.tobytes())
        header = bytes([0, 0, 8, 1]) + np.array([count], ">u4").tobytes()
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(header + labels.tobytes())


def test_mnist_runs_and_resumes(tmp_path, capsys):
    write_mnist(tmp_path)
    words = ["--data-dir", str(tmp_path), "--batch-size", "16", "--output", str(tmp_path / "out")]
    module = example("mnist")
    found = module.main([*words, "--epochs", "6"])
    assert found["val_accuracy"] > 0.9
    again = module.main([*words, "--epochs", "6", "--resume", str(tmp_path / "out" / "last.ckpt")])
    assert again == found
    assert (tmp_path / "out" / "logs" / "version_0" / "metrics.csv").is_file()


def test_char_gpt_learns(tmp_path, capsys):
    (tmp_path / "t.txt").write_text("tick tock " * 400)
    words = f"--layers 2 --heads 2 --width 32 --context 16 --steps 80 --lr 0.01 --output {tmp_path}"
    assert example("char_gpt").main(["--text", str(tmp_path / "t.txt"), *words.split()]) < 0.6


def test_tabular_explains_a_made_up_table(capsys, tmp_path):
    assert example("tabular").main([]) > 0.9
    x = np.random.default_rng(0).normal(size=(300, 3))
    rows = [f"{a},{b},{'' if i % 9 == 0 else c},{a - b}" for i, (a, b, c) in enumerate(x)]
    (tmp_path / "t.csv").write_text("\n".join(["a,b,c,y", *rows]))
    words = ["--csv", str(tmp_path / "t.csv"), "--target", "y", "--epochs", "20"]
    assert example("tabular").main(words) > 0.9


def write_cifar10(folder, images):
    """train.tar and test.tar with a colour for each class."""
    import io
    import tarfile

    for part in ("train", "test"):
        with tarfile.open(folder / f"{part}.tar", "w") as tar:
            for i in range(60):
                name = example("cifar10").CLASSES[i % 10]
                pixels = np.full((32, 32, 3), 25 * (i % 10), np.uint8)
                file = io.BytesIO()
                images.fromarray(pixels).save(file, "PNG")
                member = tarfile.TarInfo(f"{part}/{name}/{i:04}.png")
                member.size = file.tell()
                file.seek(0)
                tar.addfile(member, file)


def test_cifar10_runs_and_resumes(tmp_path, capsys):
    images = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    write_cifar10(tmp_path, images)
    words = f"--data-dir {tmp_path} --batch-size 20 --width 4 --epochs 3".split()
    module = example("cifar10")
    found = module.main([*words, "--output", str(tmp_path / "a"), "--workers", "1"])
    module.main([*words, "--output", str(tmp_path / "b"), "--limit", "2", "--workers", "0"])
    assert 0.0 <= found <= 1.0
    assert module.main([*words, "--output", str(tmp_path / "a"), "--resume"]) == found


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda p: p.stem)
def test_an_example_fits_on_a_few_screens(path):
    if path.stem != "monograph_from_scratch":
        assert len(path.read_text().splitlines()) < 150


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_mnist_reaches_what_the_example_promises(real_data, tmp_path):
    words = ["--data-dir", str(real_data("mnist")), "--output", str(tmp_path)]
    assert example("mnist").main(words)["val_accuracy"] >= 0.993


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_char_gpt_writes_like_a_small_one(real_data, tmp_path):
    text = str(real_data("tinyshakespeare") / "input.txt")
    assert example("char_gpt").main(["--text", text, "--output", str(tmp_path)]) <= 1.88


def test_names_are_told_from_other_words(tmp_path, capsys):
    first, last = (
        ["an", "be", "ca", "do", "el"],
        ["na", "bert", "rina", "ris", "la", "mo", "vanta", "k"],
    )
    names = [a + b + c for a in first for b in last for c in ["", "na", "ri", "so"]]
    (tmp_path / "n.txt").write_text("\n".join(names))
    words = f"--names {tmp_path / 'n.txt'} --epochs 25 --batch-size 16 --width 16".split()
    assert example("names_lstm").main(words) > 0.5
    rows = [f"{name},{'vowel' if name[-1] in 'aeio' else 'other'}" for name in names]
    (tmp_path / "n.txt").write_text("\n".join(rows))
    assert example("names_lstm").main(words) > 0.8


def test_forecasts_run(tmp_path, capsys):
    rows = [f"{i},{np.sin(i / 4):.4f}" for i in range(400)]
    (tmp_path / "s.csv").write_text("\n".join(["hour,load", *rows]))
    words = f"--csv {tmp_path / 's.csv'} --column load --past 32 --future 8 --period 24 --epochs 6"
    assert example("forecast").main(words.split()) < 1.0  # better than a period before


def test_recommendations_beat_the_means(tmp_path, capsys):
    users, items = np.meshgrid(np.arange(30), np.arange(20))
    stars = 3 + 2 * np.sin(users) * np.cos(items)
    rows = [f"{u},{i},{s:.3f}" for u, i, s in zip(users.flat, items.flat, stars.flat)]
    (tmp_path / "r.csv").write_text("\n".join(["user,item,rating", *rows]))
    words = ["--csv", str(tmp_path / "r.csv"), "--epochs", "40", "--batch-size", "32"]
    assert example("recommend").main(words) < 0.9


def test_contrastive_learning_runs(capsys):
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    words = "--epochs 2 --samples 256 --batch-size 64 --width 8 --labels 200".split()
    found, pixels = example("contrastive").main(words)
    assert found > 0.5 and pixels > 0.5


def test_diffusion_runs_and_draws(tmp_path, capsys):
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    words = f"--epochs 2 --limit 6 --batch-size 32 --width 8 --output {tmp_path}".split()
    assert example("diffusion").main(words) < 1.3
    assert len(list((tmp_path / "logs/version_0/samples").iterdir())) >= 10


def test_a_policy_is_updated(capsys):
    pytest.importorskip("gymnasium", reason="gymnasium is not installed")
    assert 9 <= example("ppo").main("--updates 3 --envs 4 --steps 64".split()) <= 500


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_pole_is_balanced(capsys):
    pytest.importorskip("gymnasium", reason="gymnasium is not installed")
    assert example("ppo").main([]) > 400


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_names_reach_what_the_example_promises(real_data, capsys):
    words = ["--names", str(real_data("names") / "names.txt")]
    assert example("names_lstm").main(words) > 0.9


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name, most", [("forecast", 0.8), ("recommend", 0.85)])
def test_forecasts_and_recommendations_beat_simple_ones(name, most, capsys):
    assert example(name).main([]) < most
