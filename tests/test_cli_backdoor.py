"""``tamis backdoor scan``: what a user sees, files that are written, and wrong usage."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tamis.backdoor import SpectralSignatures, Spectre
from tamis.cli import main


def rows_and_labels() -> Any:
    """Three classes; 30 rows of class 1 share a far direction."""
    rng = np.random.default_rng(3)
    X = rng.standard_normal((901, 12)).astype(np.float32)
    y = np.arange(901) % 3
    bad = np.flatnonzero(y == 1)[:30]
    X[bad] += 4.0
    return X, y, bad


@pytest.fixture
def file(tmp_path: Path) -> Path:
    X, y, _ = rows_and_labels()
    np.savez(tmp_path / "rows.npz", X=X, y=y)
    return tmp_path / "rows.npz"


def test_report_scores_and_plot(file: Path, tmp_path: Path, capsys: Any) -> None:
    """Oracle: Spectre on the arrays."""
    pytest.importorskip("matplotlib")
    X, y, bad = rows_and_labels()
    found = Spectre(0.1, random_state=0).fit(X, y)
    out, plot = tmp_path / "scores.csv", tmp_path / "scores.png"
    command = ["backdoor", "scan", str(file), "--contamination", "0.1"]
    assert main([*command, "-o", str(out), "--plot", str(plot)]) == 0
    text, errors = capsys.readouterr()
    assert errors == ""
    assert "rows.npz: 901 rows, 12 columns, 3 classes; spectre, contamination 0.1" in text
    lines = {line.split()[0]: line.split() for line in text.splitlines() if line[:5].strip()}
    assert [lines[str(k)][-1] for k in range(3)] == ["no", "yes", "no"]
    assert "\nclass 1 looks attacked\n" in text
    assert max(map(len, text.split("wrote")[0].splitlines())) <= 80
    with out.open() as read:
        rows = list(csv.DictReader(read))
    assert [int(row["removed"]) for row in rows] == found.removed_.astype(int).tolist()
    np.testing.assert_allclose([float(r["score"]) for r in rows], found.scores_, rtol=1e-6)
    assert found.removed_[bad].all()
    assert plot.read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize("detector", ["spectre", "signatures", "clustering"])
def test_json(file: Path, detector: str, tmp_path: Path, capsys: Any) -> None:
    """Oracle: the shifted rows; and labels from another file say the same."""
    X, y, bad = rows_and_labels()
    command = ["backdoor", "scan", str(file), "--detector", detector, "--json"]
    assert main([*command, "--contamination", "0.1"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["suspected"] == [1]
    assert set(facts["removed"]) >= set(bad.tolist())
    assert [entry["rows"] for entry in facts["classes"]] == [301, 300, 300]
    np.save(tmp_path / "rows.npy", X)
    np.save(tmp_path / "labels.npy", y[:, None].astype(np.float64))
    command[2] = str(tmp_path / "rows.npy")
    more = ["--labels", str(tmp_path / "labels.npy"), "--contamination", "0.1"]
    assert main([*command, *more]) == 0
    assert json.loads(capsys.readouterr().out) == facts | {"file": "rows.npy"}


def test_outliers(file: Path, capsys: Any) -> None:
    """Oracle: Spectre in all directions."""
    X, y, _ = rows_and_labels()
    assert main(["backdoor", "scan", str(file), "--detector", "outliers", "--json"]) == 0
    found = Spectre(0.05, k="all").fit(X, y)
    removed = json.loads(capsys.readouterr().out)["removed"]
    assert removed == np.flatnonzero(found.removed_).tolist()


def test_some_classes(file: Path, capsys: Any) -> None:
    X, y, _ = rows_and_labels()
    command = ["backdoor", "scan", str(file), "--detector", "signatures"]
    assert main([*command, "--classes", "0", "2", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    found = SpectralSignatures(0.05, random_state=0).fit(X, y, classes=[0, 2])
    assert facts["suspected"] == []
    assert facts["removed"] == np.flatnonzero(found.removed_).tolist()
    assert main([*command, "--classes", "0"]) == 0
    assert "no class looks attacked" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--contamination", "0.5"], 2, "--contamination"),
        (["--multiplier", "0.5"], 2, "--multiplier"),
        (["--multiplier", "inf"], 2, "--multiplier"),
        (["--plot", "a.gif"], 2, "--plot"),
        (["--num-threads", "0"], 2, "--num-threads"),
        (["--labels-key", "z"], 2, "has no array 'z', but X, y"),
        (["--detector", "best"], 2, "--detector"),
        (["--classes", "9"], 1, "classes: expected classes of the labels, got [9]"),
        (["--labels-key", "X"], 1, "expected whole numbers of shape (n,) as labels"),
        (["--key", "no"], 1, "no array 'no'"),
    ],
)
def test_wrong_usage(file: Path, words: list[str], code: int, message: str, capsys: Any) -> None:
    assert main(["backdoor", "scan", str(file), *words]) == code
    assert message in capsys.readouterr().err


def test_files_that_do_not_fit(file: Path, tmp_path: Path, capsys: Any) -> None:
    X, y, _ = rows_and_labels()
    alone = y.copy()
    alone[17] = 8
    bad = X.copy()
    bad[5, 3] = np.nan
    cases: list[tuple[dict[str, Any], str]] = [
        ({"X": X}, "expected labels under one of y, labels"),
        ({"X": X, "y": y[:-1]}, "labels: expected 901, one a row, got 900"),
        ({"X": X, "y": alone}, "at least 2 rows in a class, got 1 in class 8 (row 17)"),
        ({"X": bad, "y": y}, "row 5, column 3: expected a finite number, got nan"),
    ]
    for arrays, message in cases:
        np.savez(tmp_path / "case.npz", **arrays)
        assert main(["backdoor", "scan", str(tmp_path / "case.npz")]) == 1
        assert message in capsys.readouterr().err
    np.save(tmp_path / "rows.npy", X)
    assert main(["backdoor", "scan", str(tmp_path / "rows.npy")]) == 2
    assert "--labels FILE is needed" in capsys.readouterr().err
    assert main(["backdoor", "scan", str(tmp_path / "none.npz")]) == 1
    assert "none.npz" in capsys.readouterr().err
