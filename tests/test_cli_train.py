"""``tamis train``: from a file of images to a model that ``tamis certify`` takes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tamis.cli import main

pytest.importorskip("torch")
pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytestmark = pytest.mark.usefixtures("one_torch_thread")


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Two classes, dark and bright, as 8-bit pictures of 8 x 8."""
    rng = np.random.default_rng(0)
    y = np.arange(40) % 2
    X = (rng.integers(0, 80, (40, 8, 8)) + 170 * y[:, None, None]).astype(np.uint8)
    np.savez(tmp_path / "images.npz", X=X, y=y)
    return tmp_path / "images.npz"


def command(images: Path, out: Path, *more: str) -> list[str]:
    return [
        "train", "--method", "smoothadv", "--data", str(images), "--arch", "mlp", "--sigma", ".25",
        "--epsilon", ".5", "--steps", "2", "--num-noise", "2", "--batch", "10", "--warmup", "2",
        "--out", str(out), *more,
    ]  # fmt: skip


def test_train_then_certify(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Oracle: the classes are far apart, so a trained network certifies nearly all of them."""
    out = tmp_path / "run"
    assert main(command(images, out, "--epochs", "8")) == 0
    captured = capsys.readouterr()
    assert "8 epochs" in captured.out
    assert f"tamis certify {out / 'model.onnx'} --data IMAGES --sigma 0.25" in captured.out
    assert json.loads((out / "train.json").read_text())["classes"] == 2
    log = tmp_path / "log.tsv"
    certify = ["certify", str(out / "model.onnx"), "--data", str(images), "--sigma", ".25"]
    assert main([*certify, "--n", "200", "--out", str(log), "--quiet"]) == 0
    rows = [line.split("\t") for line in log.read_text().splitlines() if line[0].isdigit()]
    assert sum(int(row[4]) for row in rows) >= 36


def test_real_digits(data_dir: Path, tmp_path: Path) -> None:
    """MNIST from its own files: a short training certifies most of what it has not seen."""
    (digits,) = (data_dir / "vision" / "mnist").glob("*images*")
    out, log = tmp_path / "run", tmp_path / "log.tsv"
    train = ["train", "--data", str(digits), "--max", "1000", "--sigma", ".25", "--epsilon", ".25"]
    train += ["--steps", "1", "--num-noise", "1", "--epochs", "5", "--batch", "50", "--warmup", "2"]
    assert main([*train, "--out", str(out), "--quiet"]) == 0
    certify = ["certify", str(out / "model.onnx"), "--data", str(digits), "--sigma", ".25"]
    certify += ["--skip", "333", "--n", "200", "--out", str(log), "--quiet"]  # 4 of 31 were seen
    assert main(certify) == 0
    rows = [line.split("\t") for line in log.read_text().splitlines() if line[0].isdigit()]
    assert len(rows) == 31
    right = [row for row in rows if int(row[0]) >= 1000 and int(row[4]) and float(row[3]) > 0.25]
    assert len(right) >= 13  # of 27; chance certifies next to none


def test_goes_on(images: Path, tmp_path: Path) -> None:
    """Oracle: the run in one piece."""
    for epochs in ("1", "3"):
        assert main(command(images, tmp_path / "parts", "--quiet", "--epochs", epochs)) == 0
    assert main(command(images, tmp_path / "whole", "--quiet", "--epochs", "3")) == 0
    parts, whole = (tmp_path / name / "model.onnx" for name in ("parts", "whole"))
    assert parts.read_bytes() == whole.read_bytes()


def test_a_run_of_something_else_is_not_gone_on_with(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Other images or another network with the same --out: said, and the run is left as it was."""
    out = tmp_path / "run"
    assert main(command(images, out, "--quiet", "--epochs", "1")) == 0
    before = (out / "checkpoint.pt").read_bytes()
    for more, message in (
        (["--max", "20"], "holds a run with images 40 (now 20); choose another --out"),
        (["--arch", "small_cnn"], "holds a run with arch 'mlp' (now 'small_cnn')"),
        (["--steps", "3"], "expected a checkpoint of this recipe, got steps 2 (now 3)"),
    ):
        assert main(command(images, out, "--epochs", "2", *more)) == 1
        assert message in capsys.readouterr().err
    (out / "train.json").unlink()
    assert main(command(images, out, "--epochs", "2", "--arch", "small_cnn")) == 1
    assert "checkpoint.pt: expected the weights of this network" in capsys.readouterr().err
    assert (out / "checkpoint.pt").read_bytes() == before


@pytest.mark.parametrize(
    ("more", "code", "message"),
    [
        (["--warmup", "-1"], 2, "--warmup expects a number of at least 0"),
        (["--lr", "0"], 2, "--lr expects a positive number"),
        (["--device", "nowhere"], 1, "--device nowhere: "),
        (["--sigma", "-1"], 2, "--sigma expects a finite number >= 0"),
        (["--num-noise", "0"], 2, "--num-noise expects a number of at least 1"),
        (["--data", "missing.npz"], 1, "missing.npz"),
        (["--arch", "resnet"], 1, "expected 'small_cnn', 'mlp' or"),
    ],
)
def test_errors(
    images: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    more: list[str],
    code: int,
    message: str,
) -> None:
    assert main(command(images, tmp_path / "run", "--epochs", "1", *more)) == code
    assert message in capsys.readouterr().err
