"""The command ``tamis certify`` and the frame around every command: resuming, errors, help.

One file, past the usual 400 lines: one command, and every test shares its small model.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import tamis
from tamis import _progress as progress
from tamis.cli import main
from tamis.cli.results import radii_up_to
from tamis.smoothing import LogWriter, Smooth, Stream, image_id, load_images, load_log

COUNT = 12  # images, 4 classes


def write_onnx(path: Path, shape: tuple[int, int, int] = (1, 5, 7), classes: int = 4) -> Path:
    """Logits are the first pixels of the image: exact, so that every runtime votes the same."""
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    nodes = [
        helper.make_node("Flatten", ["x"], ["flat"]),
        helper.make_node("Slice", ["flat", "begin", "end", "axis"], ["logits"]),
    ]
    values = [
        onnx.numpy_helper.from_array(np.array([value], np.int64), name)
        for name, value in (("begin", 0), ("end", classes), ("axis", 1))
    ]
    graph = helper.make_graph(
        nodes,
        "first_pixels",
        [helper.make_tensor_value_info("x", kind, ["batch", *shape])],
        [helper.make_tensor_value_info("logits", kind, ["batch", classes])],
        values,
    )
    opsets = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
    return path


def write_data(path: Path, **change: Any) -> Path:
    """Images whose brightest leading pixel is their label for about two in three."""
    rng = np.random.default_rng(3)
    X = rng.random((COUNT, 1, 5, 7)).astype(np.float32)
    y = np.where(rng.random(COUNT) < 0.3, 0, X[:, 0, 0, :4].argmax(axis=1))
    np.savez(path, **{"X": X, "y": y, **change})
    return path


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    """Arguments MODEL --data FILE of a run that takes milliseconds."""
    model, data = write_onnx(tmp_path / "model.onnx"), write_data(tmp_path / "data.npz")
    return [str(model), "--data", str(data)]


@pytest.fixture
def command(files: list[str]) -> list[str]:
    return ["certify", *files, "--sigma", "0.1", "--n", "200", "--n0", "20", "--batch", "64"]


def without_time(path: Path) -> list[list[str]]:
    """Fields of every line but the sixth, the time."""
    lines = path.read_text().split("\n")
    return [fields[:5] + fields[6:] for fields in (line.split("\t") for line in lines)]


def complete_log(command: list[str], folder: Path) -> Path:
    out = folder / "complete.tsv"
    assert main([*command, "--quiet", "--out", str(out)]) == 0
    return out


# --- results --------------------------------------------------------------------------------------


def test_rows_are_those_of_certify_batch(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Oracle: Smooth on a NumPy callable; everything that the log holds, to the bit."""
    out = tmp_path / "run.tsv"
    assert main([*command, "--out", str(out)]) == 0
    text, errors = capsys.readouterr()
    images = load_images(command[3])
    smooth = Smooth(lambda batch: batch.reshape(len(batch), -1)[:, :4], 4, 0.1)
    expected = smooth.certify_batch(images, 20, 200)
    log = load_log(out, strict=True)
    np.testing.assert_array_equal(log.idx, np.arange(COUNT))
    np.testing.assert_array_equal(log.label, images.labels)
    np.testing.assert_array_equal(log.predict, expected.prediction)
    np.testing.assert_array_equal(log.radius, expected.radius)
    np.testing.assert_array_equal(log.p_lower, expected.p_lower)
    np.testing.assert_array_equal(log.n, np.full(COUNT, 200))
    votes = expected.counts[np.arange(COUNT), expected.top_class]
    np.testing.assert_array_equal(log.count, votes)
    assert 0 < log.correct.sum() < COUNT
    assert "12 images (idx 0 to 11, all)" in text
    assert f"certified accuracy, %   {100 * log.correct.mean():5.1f}" in text
    assert errors == ""
    recorded = log.metadata
    assert recorded is not None
    assert (recorded["sigma"], recorded["alpha"], recorded["seed"]) == (0.1, 0.001, 0)
    assert (recorded["tamis"], recorded["model"]) == (tamis.__version__, "model.onnx")


def test_without_out_the_rows_go_to_stdout(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What stdout gets is a log that ``load_log`` reads, equal to the one that --out writes."""
    expected = load_log(complete_log(command, tmp_path))
    capsys.readouterr()
    assert main(command) == 0
    text, errors = capsys.readouterr()
    piped = tmp_path / "piped.tsv"
    piped.write_text(text)
    log = load_log(piped, strict=True)
    for name in ("idx", "label", "predict", "radius", "correct", "p_lower", "n", "count"):
        np.testing.assert_array_equal(getattr(log, name), getattr(expected, name))
    assert "mean certified radius" in errors


def test_torchscript_gives_the_same_rows(command: list[str], tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")

    class FirstPixels(torch.nn.Module):  # type: ignore[misc, name-defined]
        def forward(self, x: Any) -> Any:
            return x.flatten(1)[:, :4]

    expected = complete_log(command, tmp_path)
    model, out = tmp_path / "model.pt", tmp_path / "torch.tsv"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # torch prefers torch.export
        torch.jit.trace(FirstPixels(), torch.zeros(2, 1, 5, 7)).save(model)
    arguments = ["certify", str(model), *command[2:], "--quiet", "--out", str(out)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        assert main(arguments) == 0
    assert without_time(out)[1:] == without_time(expected)[1:]


def test_options_reach_the_certificate(command: list[str], tmp_path: Path) -> None:
    """Oracle: Smooth with the same arguments."""
    images = load_images(command[3])
    smooth = Smooth(
        lambda batch: batch.reshape(len(batch), -1)[:, :4],
        4,
        0.2,
        seed=5,
        mean=0.5,
        std=[0.25],
        bound="two-sided",
    )
    expected = smooth.certify_batch([images[i] for i in (0, 5, 10)], 30, 100, 0.05)
    out = tmp_path / "run.tsv"
    change = "--sigma 0.2 --n 100 --n0 30 --alpha 0.05 --seed 5 --mean 0.5 --std 0.25 --skip 5"
    arguments = [*command, *change.split(), "--bound", "two-sided", "--num-threads", "1"]
    assert main([*arguments, "--out", str(out), "--quiet"]) == 0
    log = load_log(out)
    np.testing.assert_array_equal(log.idx, [0, 5, 10])
    np.testing.assert_array_equal(log.predict, expected.prediction)
    np.testing.assert_array_equal(log.radius, expected.radius)


def test_real_model_and_images(data_dir: Path, tmp_path: Path) -> None:
    """Oracle: onnxruntime called by hand, one image a batch, on the documented noise."""
    runtime = pytest.importorskip("onnxruntime")
    model = data_dir / "models" / "cifar10_resnet2b.onnx"
    data = data_dir / "vision" / "cifar10" / "cifar10_test_first100_exact.npz"
    mean, std = [0.4914, 0.4822, 0.4465], [0.2471, 0.2435, 0.2616]
    out = tmp_path / "run.tsv"
    change = f"--sigma 0.12 --n 60 --n0 10 --skip 50 --out {out} --quiet".split()
    numbers = ["--mean", *map(str, mean), "--std", *map(str, std)]
    assert main(["certify", str(model), "--data", str(data), *change, *numbers]) == 0
    log = load_log(out)
    np.testing.assert_array_equal(log.idx, [0, 50])
    session = runtime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    shift, scale = (np.float32(v).reshape(3, 1, 1) for v in (mean, std))
    stored = np.load(data)
    for row, idx in enumerate((0, 50)):
        pixels = next(stored[k][idx] for k in stored.files if stored[k].ndim == 4)
        x = np.ascontiguousarray(pixels.transpose(2, 0, 1).astype(np.float32) / np.float32(255))
        votes = {}
        for stream, count in ((Stream.SELECTION, 10), (Stream.ESTIMATION, 60)):
            noisy = tamis.gaussian_noise(
                x, count, 0.12, seed=0, image=image_id(x), stream=int(stream)
            )
            answers = [session.run(None, {name: (z[None] - shift) / scale})[0] for z in noisy]
            votes[stream] = np.bincount([int(a.argmax()) for a in answers], minlength=10)
        top = int(votes[Stream.SELECTION].argmax())
        assert log.count is not None
        assert log.count[row] == votes[Stream.ESTIMATION][top]
        assert log.predict[row] in {top, -1}


# --- going on with a log --------------------------------------------------------------------------


def test_more_images_may_be_asked_for_later(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The log grows to what one run would have written, whatever the batch size on the way."""
    expected = without_time(complete_log(command, tmp_path))
    out = tmp_path / "grows.tsv"
    capsys.readouterr()
    for most, batch in ((1, 7), (5, 500), (5, 64), (3, 64), (100, 33)):
        now = [*command, "--out", str(out), "--max", str(most), "--batch", str(batch)]
        assert main(now) == 0
    assert without_time(out) == expected
    assert "which holds 5 images" in capsys.readouterr().err
    assert main([*command, "--out", str(out)]) == 0  # nothing left to do: the summary again
    assert without_time(out) == expected
    assert "12 images (idx 0 to 11, all)" in capsys.readouterr().out


def test_a_summary_of_fewer_images_than_the_log_holds(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Oracle: the summary of a fresh log of that many images, its last line aside."""
    long, short = tmp_path / "long.tsv", tmp_path / "short.tsv"
    assert main([*command, "--quiet", "--max", "2", "--out", str(long)]) == 0
    before = long.read_bytes()
    told = []
    for out in (short, short, long):
        capsys.readouterr()
        assert main([*command, "--quiet", "--max", "1", "--out", str(out)]) == 0
        told.append(capsys.readouterr().out.splitlines())
    assert told[2][:-1] == told[1][:-1]
    assert told[1][-1] == f"log: {short}"
    assert told[2][-1] == f"log: {long} (it holds 2 images, the summary is of the first 1)"
    assert long.read_bytes() == before


def test_goes_on_from_every_kind_of_cut(command: list[str], tmp_path: Path) -> None:
    """Cut after any byte (here a spread of them, and the ends of lines), the log completes."""
    complete = complete_log(command, tmp_path)
    raw, expected = complete.read_bytes(), without_time(complete)
    ends = [k + 1 for k, byte in enumerate(raw) if byte == ord("\n")]
    out = tmp_path / "cut.tsv"
    for cut in {0, 1, 20, ends[0] - 1, *ends[:3], ends[1] + 1, ends[1] + 5, ends[4] - 1, len(raw)}:
        out.write_bytes(raw[:cut])
        assert main([*command, "--out", str(out), "--quiet"]) == 0
        assert without_time(out) == expected, cut


@pytest.mark.parametrize("share", [0.1, 0.55, 0.9])
def test_goes_on_after_sigkill(command: list[str], tmp_path: Path, share: float) -> None:
    """A process that is killed (SIGKILL) within a write leaves a log that completes.

    The process kills itself once it has written so many bytes of its log: no timing involved.
    """
    complete = complete_log(command, tmp_path)
    raw, expected = complete.read_bytes(), without_time(complete)
    out = tmp_path / "killed.tsv"
    script = (
        "import os, signal, sys\n"
        "from tamis.cli import main\n"
        "left, write = int(sys.argv[1]), os.write\n"
        "def write_or_die(file, data):\n"
        "    global left\n"
        "    written = write(file, data[:left])\n"
        "    left -= written\n"
        "    if not left: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return written\n"
        "os.write = write_or_die\n"
        "sys.exit(main(sys.argv[2:]))\n"
    )
    arguments = [str(int(share * len(raw))), *command, "--out", str(out), "--quiet"]
    killed = subprocess.run([sys.executable, "-c", script, *arguments], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert out.stat().st_size == int(share * len(raw))
    assert main([*command, "--out", str(out), "--quiet"]) == 0
    assert without_time(out) == expected


@pytest.mark.usefixtures("python_handles_sigint")
def test_goes_on_after_sigint(
    command: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    expected = without_time(complete_log(command, tmp_path))
    out = tmp_path / "interrupted.tsv"
    write = LogWriter.write

    def write_and_interrupt(self: LogWriter, idx: int, **fields: Any) -> None:
        write(self, idx, **fields)
        if idx == 4:
            signal.raise_signal(signal.SIGINT)

    capsys.readouterr()
    with monkeypatch.context() as patch:
        patch.setattr(LogWriter, "write", write_and_interrupt)
        assert main([*command, "--out", str(out)]) == 1
    text, errors = capsys.readouterr()
    assert text == ""
    assert errors.count("\n") == 1
    assert "interrupted after 5 of 12 images" in errors
    assert "the same command goes on" in errors
    assert without_time(out)[:-1] == expected[:7]  # comment, columns, 5 images
    assert main([*command, "--out", str(out)]) == 0
    assert without_time(out) == expected


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (["--sigma", "0.2"], "sigma: the log has 0.1, this run has 0.2"),
        (["--n", "300"], "n: the log has 200, this run has 300"),
        (["--seed", "1"], "seed: the log has 0, this run has 1"),
        (["--skip", "2"], "skip: the log has 1, this run has 2"),
        (["--mean", "0.1"], r"mean: the log has null, this run has [0.1]"),
        (["--bound", "two-sided"], "bound: "),
        (["--alpha", "0.01"], "alpha: the log has 0.001, this run has 0.01"),
    ],
)
def test_refuses_a_log_of_another_configuration(
    command: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    change: list[str],
    named: str,
) -> None:
    out = tmp_path / "run.tsv"
    assert main([*command, "--max", "2", "--out", str(out)]) == 0
    before = out.read_bytes()
    capsys.readouterr()
    assert main([*command, *change, "--out", str(out)]) == 1
    assert named in capsys.readouterr().err
    assert out.read_bytes() == before


def test_refuses_a_log_of_other_files(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same names with other contents: hashes tell; the same contents elsewhere are fine."""
    out = tmp_path / "run.tsv"
    assert main([*command, "--max", "2", "--out", str(out), "--quiet"]) == 0
    before = out.read_bytes()
    moved = tmp_path / "moved"
    moved.mkdir()
    model, data = moved / "model.onnx", moved / "data.npz"
    for path in (model, data):
        path.write_bytes((tmp_path / path.name).read_bytes())
    elsewhere = ["certify", str(model), "--data", str(data), *command[4:], "--out", str(out)]
    assert main([*elsewhere, "--max", "2"]) == 0
    write_data(data, y=np.zeros(COUNT, np.int64))
    capsys.readouterr()
    assert main(elsewhere) == 1
    errors = capsys.readouterr().err
    assert "data_sha256" in errors
    assert "labels_sha256" in errors
    assert "model_sha256" not in errors
    assert out.read_bytes() == before


def test_refuses_a_log_in_use_and_foreign_files(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run.tsv"
    with LogWriter.open(out, {"any": 1}):
        assert main([*command, "--out", str(out)]) == 1
        assert "another process is writing" in capsys.readouterr().err
    notes = tmp_path / "notes.txt"
    notes.write_text("not a log\n")
    assert main([*command, "--out", str(notes)]) == 1
    assert notes.read_text() == "not a log\n"


# --- errors ---------------------------------------------------------------------------------------


def wrong_shape(folder: Path) -> list[str]:
    data = write_data(folder / "wide.npz", X=np.zeros((COUNT, 1, 5, 8), np.float32))
    return ["--data", str(data)]


def wrong_labels(folder: Path) -> list[str]:
    return ["--data", str(write_data(folder / "labels.npz", y=np.full(COUNT, 4)))]


def broken_data(folder: Path) -> list[str]:
    (folder / "broken.npz").write_bytes(b"PK\x03\x04 and then nothing")
    return ["--data", str(folder / "broken.npz")]


@pytest.mark.parametrize(
    ("change", "code", "said"),
    [
        (["--data", "nowhere.npz"], 1, "nowhere.npz"),
        (broken_data, 1, "broken.npz"),
        (wrong_shape, 1, "cannot classify an image of shape 1x5x8"),
        (wrong_labels, 1, "tells 4 classes apart (0 to 3), but the labels of "),
        (["--mean", "0.1", "0.2"], 1, "mean, std: expected one number a channel"),
        (["--std", "0"], 2, "--std expects numbers > 0, got 0"),
        (["--std", "0.5", "inf"], 2, "--std expects numbers > 0, got inf"),
        (["--mean", "nan"], 2, "--mean expects finite numbers, got nan"),
        (["--n", str(2**32 + 1)], 2, "--n expects at most 4294967296, got 4294967297"),
        (["--n0", str(2**32 + 1)], 2, "--n0 expects at most 4294967296"),
        (["--sigma", "1e-40"], 2, "--sigma expects a number from 1.2e-38 to 3.4e38"),
        (
            ["--out", "no/such/folder/log.tsv"],
            1,
            "no/such/folder/log.tsv: No such file or directory",
        ),
        (["--sigma", "0"], 2, "--sigma expects a positive number, got 0"),
        (["--sigma", "nan"], 2, "--sigma expects a positive number, got nan"),
        (["--n", "9"], 2, "--n expects at least 10 at --alpha 0.001, got 9"),
        (["--n", "10", "--bound", "two-sided"], 2, "--n expects at least 11"),
        (["--n", "0"], 2, "--n expects a number of at least 1, got 0"),
        (["--num-threads", "0"], 2, "--num-threads expects a number of at least 1"),
        (["--alpha", "1"], 2, "--alpha expects a number strictly between 0 and 1"),
        (["--seed", "-1"], 2, "--seed expects a number from 0 to 2^64 - 1"),
        (["--device", "cuda"], 2, "--device is for torch files"),
    ],
)
def test_errors_are_one_line(
    command: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    change: list[str] | Callable[[Path], list[str]],
    code: int,
    said: str,
) -> None:
    monkeypatch.delenv("TAMIS_DEBUG", raising=False)
    more = change if isinstance(change, list) else change(tmp_path)
    before = sorted(tmp_path.iterdir())
    assert main([*command, *more]) == code
    text, errors = capsys.readouterr()
    assert text == ""
    assert errors.count("\n") == 1
    assert errors.startswith("tamis certify: error: ")
    assert said in errors
    assert sorted(tmp_path.iterdir()) == before  # no log is left behind
    monkeypatch.setenv("TAMIS_DEBUG", "1")
    with pytest.raises((ValueError, OSError)):
        main([*command, *more])


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("missing.onnx", None, "missing.onnx"),
        ("broken.onnx", b"no protobuf", "is no readable ONNX model"),
        ("broken.pt", b"no zip either", "broken.pt"),
    ],
)
def test_model_files_that_are_none(
    command: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
    content: bytes | None,
    said: str,
) -> None:
    if name.endswith(".pt"):
        pytest.importorskip("torch")
    if content is not None:
        (tmp_path / name).write_bytes(content)
    assert main(["certify", str(tmp_path / name), *command[2:]]) == 1
    errors = capsys.readouterr().err
    assert errors.count("\n") == 1
    assert said in errors


def test_missing_extra_is_named(
    command: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)  # import raises ImportError
    assert main(command) == 1
    errors = capsys.readouterr().err
    assert errors.count("\n") == 1
    assert "python -m pip install 'tamis[onnx]'" in errors


@pytest.mark.parametrize(
    "arguments",
    [
        ["certify"],
        ["certify", "model.onnx"],
        ["certify", "model.onnx", "--data", "x.npz"],
        ["certify", "model.onnx", "--data", "x.npz", "--sigma", "much"],
        ["certify", "model.onnx", "--data", "x.npz", "--sigma", "1", "--colour"],
        ["sieve"],
        ["--colour"],
        [],
    ],
)
def test_wrong_command_lines(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    text, errors = capsys.readouterr()
    assert text == ""
    assert "usage: tamis" in errors


def test_unforeseen_errors_name_their_type(
    command: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def surprise(args: Any) -> int:
        raise KeyError("surprise")

    monkeypatch.delenv("TAMIS_DEBUG", raising=False)
    monkeypatch.setattr("tamis.cli.certify.run", surprise)
    assert main(command) == 1
    assert capsys.readouterr().err == (
        "tamis certify: error: KeyError: 'surprise' (TAMIS_DEBUG=1 shows where)\n"
    )


def test_warnings_are_one_line(
    command: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def warned(args: Any) -> int:
        warnings.warn("careful", UserWarning, stacklevel=1)
        return 0

    monkeypatch.setattr("tamis.cli.certify.run", warned)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        assert main(command) == 0
    assert capsys.readouterr().err == "tamis: warning: careful\n"


# --- help, version, info --------------------------------------------------------------------------


def run_python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], check=False, capture_output=True, text=True, env=os.environ
    )


def test_help_is_quick_and_complete() -> None:
    """``--help`` imports nothing heavy, and lists every command."""
    script = (
        "import sys; from tamis.cli import main; code = main(['--help'])\n"
        "heavy = {'torch', 'onnxruntime', 'matplotlib', 'rich', 'tamis.smoothing'}\n"
        "print(code, sorted(heavy & set(sys.modules)))"
    )
    done = run_python("-c", script)
    assert done.stdout.splitlines()[-1] == "0 []"
    for name in ("certify", "analyze", "demo", "info"):
        assert f"\n    {name} " in done.stdout


@pytest.mark.parametrize("arguments", [["info"], ["--help"], ["certify", "--help"]])
def test_a_reader_that_left_is_no_error(arguments: list[str]) -> None:
    """``tamis ... | head`` ends without a word, also from Python's flush at exit."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tamis", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    with process.stderr:
        assert process.stderr.read() == ""
    assert process.wait() in {0, 1}


def test_version_both_ways() -> None:
    for arguments in (
        ["-m", "tamis", "--version"],
        ["-c", "from tamis.cli import main; main(['--version'])"],
    ):
        done = run_python(*arguments)
        assert (done.returncode, done.stdout) == (0, f"tamis {tamis.__version__}\n")


def test_certify_help_explains_units(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["certify", "--help"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    for word in ("input units", "abstain", "example", "exit status", "default: 100000", "p_upper"):
        assert word in text


def test_info(capsys: pytest.CaptureFixture[str]) -> None:
    """Oracle: ``tamis.info`` and the import system."""
    assert main(["info"]) == 0
    text = capsys.readouterr().out
    facts = tamis.info()
    assert facts["version"] in text
    assert f"{facts['isa']} in use" in text
    assert f"status: {facts['cuda']['status']}" in text
    assert ("driver: found" in text) == facts["cuda"]["driver"]
    assert all(f": {name}" in text for name in facts["cuda"]["devices"])
    assert main(["info", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["isas_built"] == facts["isas_built"]
    assert told["packages"]["numpy"] == np.__version__
    assert told["num_threads"] == facts["num_threads"]


# --- progress -------------------------------------------------------------------------------------


def test_plain_progress_lines(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a clock of our own: 1000 of 5000 samples in 20 s leave 80 s."""
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(progress, "perf_counter", lambda: clock.now)
    show = progress.open_display(10, 2, 5000, quiet=False)  # pytest's stderr is no terminal
    clock.now = 10.0
    show.advance(500)
    assert capsys.readouterr().err == ""
    show.image(3, "certified accuracy 66.7%, mean radius 0.100")
    clock.now = 20.0
    show.advance(500)
    show.close()
    assert capsys.readouterr().err == (
        "tamis certify: 3 of 10 images, certified accuracy 66.7%, mean radius 0.100, "
        "about 1 min 20 s left\n"
    )


def test_bar_needs_rich_and_says_so(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setitem(sys.modules, "rich.progress", None)
    show = progress.open_display(10, 0, 5000, quiet=False)
    show.row("a\tb")
    show.close()
    text, errors = capsys.readouterr()
    assert text == "a\tb\n"
    assert "python -m pip install 'tamis[cli]'" in errors


def test_bar_shows_images_and_status(
    command: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("rich")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "200")
    assert main(command) == 0
    text, errors = capsys.readouterr()
    assert len(text.splitlines()) == COUNT + 1
    assert "12/12 images" in errors
    assert "certified accuracy" in errors


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "0.0 s"),
        (59.94, "59.9 s"),
        (60, "1 min 00 s"),
        (3599.6, "1 h 00 min"),
        (9000, "2 h 30 min"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert progress.duration(seconds) == text


def test_radii_of_the_summary() -> None:
    """The grids of the data's own README (sigma 0.12, n = 2000) and of the published tables."""
    assert radii_up_to(0.324) == [0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3]
    assert radii_up_to(1.906) == [0, 0.25, 0.5, 0.75, 1, 1.25, 1.5, 1.75]
    assert radii_up_to(3.8116) == [0, 0.5, 1, 1.5, 2, 2.5, 3, 3.5]
    assert radii_up_to(0.0) == [0]
    for largest in np.geomspace(1e-6, 1e6, 200):
        radii = radii_up_to(float(largest))
        assert 4 <= len(radii) <= 10
        assert radii[-1] <= largest < radii[-1] + radii[1] * (1 + 1e-9)
