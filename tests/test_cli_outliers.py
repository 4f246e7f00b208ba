"""The command ``tamis outliers``."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tamis import QUEOutlierDetector, RobustCovariance, SpectralOutlierDetector, outlier_map
from tamis.cli import main


def contaminated() -> Any:
    """Standard normal rows rounded to 3 places; rows 7, 17, ... are moved in column b."""
    X = np.random.default_rng(7).standard_normal((301, 4)).round(3)
    X[7::10, 1] += 9.0 + np.arange(30)
    return X


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "data.csv"
    np.savetxt(path, contaminated(), "%.3f", ",", header="a,b,c,d", comments="")
    return path


def rows_of(text: str) -> list[list[str]]:
    return [line.split() for line in text.split("\n\n")[1].splitlines()]


def test_the_rows_that_stand_out(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Oracle: SpectralOutlierDetector on the array; rows 7 + 10 k are in lines 9 + 10 k."""
    assert main(["outliers", str(file), "--top", "31"]) == 0
    text, errors = capsys.readouterr()
    X = contaminated()
    found = SpectralOutlierDetector("auto").fit(X)
    assert (found.predict(X) == -1).sum() == 30
    head, rule, *rows = rows_of(text)
    assert " ".join(head) == "row line score outlier furthest column value sd from mean"
    assert set(rule[0]) == {"-"}
    assert len(rows) == 31
    assert sorted(int(cells[0]) for cells in rows[:30]) == list(range(7, 301, 10))
    scores = [float(cells[2]) for cells in rows]
    assert scores == sorted(scores, reverse=True)
    for row, line, score, outlier, column, value, deviation in rows[:30]:
        assert int(line) == int(row) + 2
        assert float(score) == pytest.approx(-found.training_scores_[int(row)], rel=1e-3)
        assert (outlier, column) == ("yes", "b")
        assert float(value) == pytest.approx(X[int(row), 1], rel=1e-5)
        spread = X[found.support_, 1].std()
        assert float(deviation) == pytest.approx(
            (float(value) - found.location_[1]) / spread, rel=0.01
        )
    assert rows[30][3] == "no"
    assert f"outliers: 30 of 301 rows, with scores above {-found.offset_:.4g}" in text
    assert "left out: 30 of 301 rows (9.967%)" in text
    assert max(len(line) for line in text.split("\n\n")[1].splitlines()) <= 80
    assert errors == ""


def test_top(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for top, shown in ((0, 0), (1, 1), (20, 20), (1000, 301)):
        assert main(["outliers", str(file), "--top", str(top)]) == 0
        text = capsys.readouterr().out
        assert (len(rows_of(text)) - 2 == shown) if shown else ("furthest" not in text)


def test_contamination_sets_the_threshold(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["outliers", str(file), "--contamination", "0.2", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    found = SpectralOutlierDetector(0.2).fit(contaminated())
    assert len(facts["outliers"]) == 60
    assert facts["outliers"] == np.flatnonzero(found.predict(contaminated()) < 0).tolist()
    assert facts["threshold"] == -found.offset_
    assert facts["stop_reason"] == found.stop_reason_
    assert len(facts["top"]) == 20
    first = facts["top"][0]
    assert (first["row"], first["line"], first["outlier"], first["column"]) == (297, 299, True, "b")


def test_csv_has_the_scores_of_all_rows(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    X = contaminated()
    found = SpectralOutlierDetector("auto").fit(X)
    np.save(tmp_path / "data.npy", X)
    for path, head in ((file, ["row", "line"]), (tmp_path / "data.npy", ["row"])):
        out = tmp_path / "scores.csv"
        assert main(["outliers", str(path), "--csv", str(out)]) == 0
        assert f"wrote {out}" in capsys.readouterr().out
        with out.open() as stream:
            rows = list(csv.DictReader(stream))
        assert list(rows[0]) == [*head, "score", "outlier"]
        assert [float(row["score"]) for row in rows] == (-found.training_scores_).tolist()
        assert [int(row["outlier"]) for row in rows] == (found.predict(X) < 0).astype(int).tolist()
        if "line" in head:
            assert [int(row["line"]) for row in rows] == list(range(2, 303))


def test_scale_makes_units_irrelevant(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Oracle: the same rows in other units give the same scores; without --scale they do not."""
    X = contaminated()
    units = np.array([1e-6, 1.0, 1e3, 1e9])
    answers = []
    for name, values, options in (
        ("a", X, ["--scale"]), ("b", X * units, ["--scale"]), ("c", X, []), ("d", X * units, []),
    ):  # fmt: skip
        np.save(tmp_path / f"{name}.npy", values)
        assert main(["outliers", str(tmp_path / f"{name}.npy"), "--json", *options]) == 0
        answers.append(json.loads(capsys.readouterr().out))
    scores = [[row["score"] for row in answer["top"]] for answer in answers]
    np.testing.assert_allclose(scores[0], scores[1], rtol=1e-6)
    assert answers[0]["outliers"] == answers[1]["outliers"] == list(range(7, 301, 10))
    assert not np.allclose(scores[2], scores[3], rtol=1e-3)
    assert answers[1]["top"][0]["value"] == X[297, 1]  # values are those of the file


def test_scale_with_constant_and_almost_constant_columns(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    X = np.column_stack([contaminated(), np.full(301, 7.0), np.zeros(301)])
    X[5, 5] = 3.0
    np.save(tmp_path / "x.npy", X.astype(np.float32))
    assert main(["outliers", str(tmp_path / "x.npy"), "--scale", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert np.isfinite([row["score"] for row in facts["top"]]).all()


@pytest.mark.parametrize("suffix", ["png", "pdf", "svg"])
def test_plot(file: Path, tmp_path: Path, suffix: str, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    out = tmp_path / f"scores.{suffix}"
    assert main(["outliers", str(file), "--plot", str(out)]) == 0
    assert f"wrote {out}" in capsys.readouterr().out
    assert out.stat().st_size > 5000


def test_a_missing_matplotlib_is_said_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert main(["outliers", str(tmp_path / "none.csv"), "--plot", "x.png"]) == 1
    assert "needs matplotlib: python -m pip install 'tamis[plot]'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--top", "-1"], "--top expects a number of at least 0, got -1"),
        (["--contamination", "0"], "--contamination expects a number above 0 or auto, got 0"),
        (["--plot", "x.bmp"], "--plot expects a name ending in .png, .pdf or .svg, got x.bmp"),
        (["--num-threads", "-1"], "--num-threads expects a number of at least 1, got -1"),
        (["--map", "x.txt"], "--map expects a name ending in .png, .pdf or .svg, got x.txt"),
        (["--components", "2"], "--components expects a number of at least 1, beside --map"),
        (["--components", "5", "--map", "x.png"], "--components expects at most 4, got 5"),
        (["--explain", "3", "301"], "--explain expects rows from 0 to 300, got 301"),
        (["--alpha", "2"], "--alpha is for --method que, not spectral"),
        (["--alpha", "-1", "--method", "que"], "--alpha expects a number of at least 0, got -1"),
        (["--rule", "soft", "--method", "que"], "--rule is for --method spectral or mahalanobis"),
        (["--rule", "bounded"], "--rule bounded is not one of --method spectral"),
        (["--no-prune", "--method", "que"], "--no-prune is for --method spectral, not que"),
    ],
)
def test_wrong_usage(
    file: Path, options: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["outliers", str(file), *options]) == 2
    assert says in capsys.readouterr().err


METHODS = {
    "spectral": lambda: SpectralOutlierDetector("auto"),
    "mahalanobis": lambda: RobustCovariance("auto"),
    "que": lambda: QUEOutlierDetector("auto"),
}


@pytest.mark.parametrize("method", METHODS)
def test_methods_with_map_and_explanation(
    method: str, file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Oracle: the estimator on the array, and `tamis.outlier_map` of the rows that it kept."""
    pytest.importorskip("matplotlib")
    X = contaminated()
    found = METHODS[method]().fit(X)
    assert (found.predict(X) == -1)[7::10].all()
    out, picture = tmp_path / "scores.csv", tmp_path / "map.png"
    command = ["outliers", str(file), "--method", method, "--csv", str(out), "--explain", "297"]
    assert main([*command, "--map", str(picture), "--plot", str(tmp_path / "s.png")]) == 0
    text = capsys.readouterr().out
    assert text.startswith(f"data.csv: 301 rows, 4 columns; contamination auto, method {method}")
    with out.open() as stream:
        rows = list(csv.DictReader(stream))
    scores = -found.score_samples(X)
    np.testing.assert_allclose([float(row["score"]) for row in rows], scores, rtol=1e-9)
    assert [int(row["outlier"]) for row in rows] == (found.predict(X) < 0).astype(int).tolist()
    expected = outlier_map(X, found.support_)
    for name in ("robust", "orthogonal"):
        column = [float(row[f"{name}_distance"]) for row in rows]
        np.testing.assert_allclose(column, getattr(expected, f"{name}_distances"), rtol=1e-12)
    assert picture.stat().st_size > 5000
    explained = text.split("\nrow 297 (line 299): score ")[1].splitlines()
    assert explained[0].endswith("an outlier")
    assert explained[5].split()[0] == "b"
    assert float(explained[5].split()[1]) == pytest.approx(X[297, 1], rel=1e-5)
    assert main([*command, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    (why,) = facts["explained"]
    assert facts["method"] == method
    assert max(why["contributions"], key=lambda name: why["contributions"][name]) == "b"
    assert sum(why["contributions"].values()) == pytest.approx(why["score"])
    assert why["score"] == pytest.approx(scores[297])


def test_options_of_methods(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    X = contaminated()
    for options, expected in (
        (["que", "--alpha", "0.5"], QUEOutlierDetector(0.1, 0.5)),
        (["mahalanobis", "--rule", "bounded"], RobustCovariance(0.1, rule="bounded")),
        (["spectral", "--rule", "soft"], SpectralOutlierDetector(0.1, rule="soft")),
    ):
        assert (
            main(["outliers", str(file), "--contamination", "0.1", "--json", "--method", *options])
            == 0
        )
        facts = json.loads(capsys.readouterr().out)
        assert facts["threshold"] == pytest.approx(-expected.fit(X).offset_)


def test_a_bad_cell_is_named(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_text(file.read_text() + "1,2,oops,4\n")
    assert main(["outliers", str(file)]) == 1
    error = capsys.readouterr().err
    assert error.startswith("tamis outliers: error: ")
    assert "data.csv, line 303, column c: expected a number, got 'oops'" in error
    assert error.count("\n") == 1


def test_both_commands_are_in_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("mean", "outliers"):
        assert main(["--help"]) == 0
        assert f"\n    {name} " in capsys.readouterr().out
        assert main([name, "--help"]) == 0
        text = capsys.readouterr().out
        assert "--contamination E" in text
        assert max(map(len, text.splitlines())) <= 100


def test_real_table(data_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Oracle: the giants of the star cluster CYG OB1 are its stars 11, 20, 30 and 34."""
    path = data_dir / "robust_classics" / "starsCYG.csv.gz"
    assert main(["outliers", str(path), "--contamination", "0.1", "--top", "4"]) == 0
    rows = rows_of(capsys.readouterr().out)[2:]
    assert sorted(int(cells[0]) + 1 for cells in rows) == [11, 20, 30, 34]
    assert {cells[4] for cells in rows} == {"log.Te"}
