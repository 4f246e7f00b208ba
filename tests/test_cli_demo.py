"""``tamis demo``: the files it ships, the whole run, running it again, its errors.

Oracles: scikit-learn for the images, onnxruntime called by hand for the recorded accuracy,
``tamis certify`` and ``Smooth`` for the log.
"""

from __future__ import annotations

import glob
import hashlib
import json
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tamis.cli import main
from tamis.smoothing import LogWriter, Smooth, load_images, load_log

FILES = Path(__file__).resolve().parent.parent / "python" / "tamis" / "demo"
SHIPPED = ("digits.onnx", "digits.npz")
COUNT = 360
QUICK = ["demo", "--n", "20"]  # copies an image: a second for all 360
WITHOUT_TORCH_OR_NETWORK = """
import runpy, sys
for name in ("torch", "sklearn", "rich"):
    sys.modules[name] = None  # an import raises ImportError
def refuse(event, arguments):
    if event == "socket.connect":
        raise SystemExit("a connection to the network")
sys.addaudithook(refuse)
runpy.run_module("tamis", run_name="__main__", alter_sys=True)
"""


@pytest.fixture(scope="module", autouse=True)
def _extras() -> None:
    for package in ("onnxruntime", "matplotlib"):
        pytest.importorskip(package)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    """Folder of one complete ``python -m tamis demo``, its stdout and its stderr.

    torch, scikit-learn and rich cannot be imported there, and no connection can be opened.
    """
    folder = tmp_path_factory.mktemp("demo")
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH_OR_NETWORK, *QUICK],
        cwd=folder,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return folder, done.stdout, done.stderr


@pytest.fixture
def copy(finished: tuple[Path, str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of that folder, to go on in; the working directory is the one around it."""
    out = tmp_path / "tamis-demo"
    out.mkdir()
    for file in (finished[0] / "tamis-demo").iterdir():
        (out / file.name).write_bytes(file.read_bytes())
    monkeypatch.chdir(tmp_path)
    return out


def without_time(path: Path) -> list[list[str]]:
    lines = path.read_text().split("\n")
    return [fields[:5] + fields[6:] for fields in (line.split("\t") for line in lines)]


# --- the files that ship --------------------------------------------------------------------------


def test_shipped_files_are_small_and_those_of_the_record() -> None:
    assert sum(file.stat().st_size for file in FILES.iterdir()) < 300_000
    record = json.loads((FILES / "training.json").read_text())
    for name in SHIPPED:
        digest = hashlib.sha256((FILES / name).read_bytes()).hexdigest()
        assert digest == record["sha256"][name], name
    images = load_images(FILES / "digits.npz")
    assert (len(images), images.shape) == (COUNT, (1, 8, 8))
    assert record["held_out_images"] == COUNT


def test_images_are_those_held_out() -> None:
    """Oracle: scikit-learn's own copy; the training images are all before these."""
    datasets = pytest.importorskip("sklearn.datasets")
    record = json.loads((FILES / "training.json").read_text())
    digits = datasets.load_digits()
    first = record["recipe"]["train_images"]
    images = load_images(FILES / "digits.npz")
    assert len(digits.images) - first == COUNT
    np.testing.assert_array_equal(images.images * 16.0, digits.images[first:])
    np.testing.assert_array_equal(images.labels, digits.target[first:])
    trained_on = {image.tobytes() for image in digits.images[:first]}
    assert not any(image.tobytes() in trained_on for image in digits.images[first:])


def test_recorded_accuracy_is_that_of_the_model() -> None:
    """Oracle: onnxruntime on NumPy's noise. False-alarm rate 1e-6: 4.9 standard deviations of the
    difference of two means over 100 and `copies` copies, each answer's variance at most 1/4.
    """
    runtime = pytest.importorskip("onnxruntime")
    record = json.loads((FILES / "training.json").read_text())
    session = runtime.InferenceSession(
        str(FILES / "digits.onnx"), providers=["CPUExecutionProvider"]
    )
    (entry,) = session.get_inputs()
    assert isinstance(entry.shape[0], str)  # a free batch dimension has a name, not a size
    images = load_images(FILES / "digits.npz")
    X = np.stack([images[i] for i in range(COUNT)])
    accuracy = record["held_out_accuracy"]
    (clean,) = session.run(None, {entry.name: X})
    assert np.mean(clean.argmax(1) == images.labels) == pytest.approx(accuracy["clean"], abs=5e-5)
    rng = np.random.default_rng(1)
    right = 0
    for _ in range(100):
        noisy = X + np.float32(0.25) * rng.standard_normal(X.shape, dtype=np.float32)
        (logits,) = session.run(None, {entry.name: noisy})
        right += int(np.sum(logits.argmax(1) == images.labels))
    deviation = np.sqrt((1 / 100 + 1 / record["copies"]) / (4 * COUNT))
    recorded = accuracy["sigma 0.25"]["one noisy copy"]
    assert abs(right / (100 * COUNT) - recorded) < 4.9 * deviation + 5e-5


# --- a whole run ----------------------------------------------------------------------------------


def test_writes_log_plot_and_table(finished: tuple[Path, str, str]) -> None:
    """Oracle for the rows: Smooth on the files that ship."""
    folder, text, errors = finished
    out = folder / "tamis-demo"
    names = {*SHIPPED, "sigma0.25-n20.tsv", "sigma0.25-n20.png"}
    assert {file.name for file in out.iterdir()} == names
    assert {file.name for file in folder.iterdir()} == {"tamis-demo"}
    for name in SHIPPED:
        assert (out / name).read_bytes() == (FILES / name).read_bytes()
    assert (out / "sigma0.25-n20.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    log = load_log(out / "sigma0.25-n20.tsv", strict=True)
    images = load_images(FILES / "digits.npz")
    np.testing.assert_array_equal(log.idx, np.arange(COUNT))
    np.testing.assert_array_equal(log.label, images.labels)
    smooth = Smooth(str(FILES / "digits.onnx"), 10, 0.25)
    expected = smooth.certify_batch([images[i] for i in range(0, COUNT, 40)], 100, 20)
    np.testing.assert_array_equal(log.predict[::40], expected.prediction)
    np.testing.assert_array_equal(log.radius[::40], expected.radius)
    # 95.0% of the images win the vote of 1000 copies; with 20 copies some abstain.
    assert log.correct.mean() > 0.8
    assert f"certified accuracy, %   {100 * log.correct.mean():5.1f}" in text
    assert all(line.startswith("tamis certify: ") for line in errors.splitlines())


def test_explains_itself_in_80_columns(finished: tuple[Path, str, str]) -> None:
    _, text, _ = finished
    assert max(map(len, text.splitlines())) <= 80
    story = " ".join(text.split())
    for said in (
        "360 handwritten digits",
        "20 copies of each image",
        "sigma 0.25",
        "certified radius: no change of the image with an l2 norm below it changes the answer",
        "time: 360 images in",
        "plot: tamis-demo/sigma0.25-n20.png",
        "log: tamis-demo/sigma0.25-n20.tsv",
    ):
        assert said in story
    log = load_log(finished[0] / "tamis-demo" / "sigma0.25-n20.tsv")
    share = 100 * np.mean(log.correct & (log.radius >= 0.25))
    assert f"at radius 0.25, {share:.1f}% of the images" in story


def test_commands_it_shows_work(
    finished: tuple[Path, str, str], copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The demo's own command takes its log for its own; the next steps do what they say."""
    text = finished[1].replace("\\\n", "")
    shown = [shlex.split(line) for line in text.splitlines() if line.startswith("  tamis ")]
    assert [words[1] for words in shown] == ["certify", "demo", "analyze", "certify"]
    before = (copy / "sigma0.25-n20.tsv").read_bytes()
    assert main(shown[0][1:]) == 0
    assert f"which holds {COUNT} images" in capsys.readouterr().err
    assert (copy / "sigma0.25-n20.tsv").read_bytes() == before
    assert shown[1] == shlex.split("tamis demo --sigma 0.5 --n 20")
    assert main(shown[1][1:]) == 0
    assert (copy / "sigma0.5-n20.png").is_file()
    capsys.readouterr()
    expanded = [name for word in shown[2][1:] for name in (sorted(glob.glob(word)) or [word])]
    assert main(expanded) == 0
    assert (copy / "compare.png").is_file()
    table = capsys.readouterr().out
    assert "sigma0.25" in table
    assert "sigma0.5" in table


# --- running it again -----------------------------------------------------------------------------


def test_a_finished_run_is_shown_again(
    finished: tuple[Path, str, str], copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log, plot = copy / "sigma0.25-n20.tsv", copy / "sigma0.25-n20.png"
    before = log.read_bytes()
    plot.unlink()
    assert main(QUICK) == 0
    text, errors = capsys.readouterr()
    assert errors == ""
    assert "tamis-demo/sigma0.25-n20.tsv is finished already" in text
    table = re.findall(r"certified accuracy, %.*", finished[1])
    assert re.findall(r"certified accuracy, %.*", text) == table
    assert log.read_bytes() == before
    assert plot.is_file()


@pytest.mark.usefixtures("python_handles_sigint")
def test_goes_on_with_an_interrupted_run(
    copy: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Interrupted in mid-run, then cut within a line: the log ends as an uninterrupted one."""
    log, plot = copy / "sigma0.25-n20.tsv", copy / "sigma0.25-n20.png"
    expected = without_time(log)
    log.unlink()
    plot.unlink()
    write = LogWriter.write

    def write_and_interrupt(self: LogWriter, idx: int, **fields: Any) -> None:
        write(self, idx, **fields)
        if idx == 100:
            signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(LogWriter, "write", write_and_interrupt)
        assert main(QUICK) == 1
    assert "interrupted after 101 of 360 images" in capsys.readouterr().err
    assert not plot.exists()
    log.write_bytes(log.read_bytes()[:-3])
    assert main(QUICK) == 0
    text, errors = capsys.readouterr()
    assert "which holds 100 images" in errors
    assert "finished already" not in text
    assert without_time(log) == expected
    assert plot.is_file()


def test_foreign_files_are_left_alone(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, log = copy / "digits.onnx", copy / "sigma0.25-n20.tsv"
    ours = model.read_bytes()
    model.write_bytes(b"another model")
    assert main(QUICK) == 1
    errors = capsys.readouterr().err
    assert errors.count("\n") == 1
    assert "digits.onnx exists and is not the file of this demo" in errors
    assert model.read_bytes() == b"another model"
    model.write_bytes(ours)
    log.unlink()
    with LogWriter.open(log, {"n": 20, "sigma": 0.25}):
        pass
    before = log.read_bytes()
    assert main(QUICK) == 1
    errors = capsys.readouterr().err
    assert errors.count("\n") == 1
    assert "another configuration" in errors
    assert errors.endswith("choose another folder with --out\n")
    assert log.read_bytes() == before


# --- errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--sigma", "0"], 2, "--sigma expects a positive number, got 0"),
        (["--sigma", "-1"], 2, "--sigma expects a positive number, got -1"),
        (["--sigma", "nan"], 2, "--sigma expects a positive number, got nan"),
        (["--sigma", "much"], 2, "invalid float value: 'much'"),
        (["--n", "9"], 2, "--n expects at least 10 at --alpha 0.001, got 9"),
        (["--m", "10"], 2, "unrecognized arguments"),
        (["--out", "a_file"], 1, "a_file"),
    ],
)
def test_errors_write_nothing(
    arguments: list[str],
    code: int,
    said: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TAMIS_DEBUG", raising=False)
    (tmp_path / "a_file").write_text("kept")
    assert main(["demo", *arguments]) == code
    text, errors = capsys.readouterr()
    assert text == ""
    assert said in errors
    assert "Traceback" not in errors
    assert [file.name for file in tmp_path.iterdir()] == ["a_file"]
    assert (tmp_path / "a_file").read_text() == "kept"


@pytest.mark.parametrize("package", ["onnxruntime", "matplotlib"])
def test_a_missing_extra_is_named(
    package: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, package, None)
    assert main(QUICK) == 1
    assert capsys.readouterr().err == (
        f"tamis demo: error: needs {package}: python -m pip install 'tamis[demo]'\n"
    )
    assert list(tmp_path.iterdir()) == []


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--help"]) == 0
    text = capsys.readouterr().out
    for option in ("--out", "--sigma", "--n"):
        assert option in text
