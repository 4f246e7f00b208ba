"""``tamis sever``: what a user sees, and wrong usage."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tamis.cli import main


@pytest.fixture
def table(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 3))
    y = X @ [1.0, 2.0, 3.0] + 0.1 * rng.normal(size=200)
    X[:15], y[:15] = 1.0 + 0.1 * X[:15], -40.0
    label = (y > 0).astype(float)
    path = tmp_path / "data.csv"
    np.savetxt(path, np.c_[X, y, label], delimiter=",", header="a,b,c,price,label", comments="")
    return path


def test_regress_reports_rows_and_fits(table: Path, tmp_path: Path, capsys: Any) -> None:
    out = tmp_path / "scores.csv"
    command = ["sever", "regress", str(table), "--target", "price", "--contamination", "0.08"]
    assert main([*command, "--report", "-o", str(out)]) == 0
    text = capsys.readouterr().out
    assert "16 rows dropped" in text
    assert "SEVER" in text
    assert max(map(len, text.splitlines())) <= 100
    with out.open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 200
    assert [row["kept"] for row in rows[:15]] == ["0"] * 15
    assert main([*command, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert {entry["row"] for entry in facts["dropped"]} >= set(range(15))
    assert facts["error_on_kept"]["sever"] < 0.5 < facts["error_on_kept"]["plain"]
    np.testing.assert_allclose(facts["weights"]["sever"][0][:3], [1, 2, 3], atol=0.2)


def test_classify(table: Path, capsys: Any) -> None:
    assert main(["sever", "classify", str(table), "--target", "-1", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["task"] == "classify"
    assert 0 <= facts["error_on_kept"]["sever"] < 0.1


@pytest.mark.parametrize("header", [True, False])
def test_classes_may_be_words(table: Path, header: bool, capsys: Any) -> None:
    """The same rows go as with numbers, in every place of the target."""
    _, *lines = table.read_text().splitlines()
    cells = [line.split(",") for line in lines]
    words = [[row[0], "spam" if float(row[4]) else " ham", *row[1:4]] for row in cells]
    numbers = [[row[0], row[4], *row[1:4]] for row in cells]
    found = []
    for rows in (numbers, words):
        text = [",".join(row) for row in rows]
        table.write_text("\n".join(["a,kind,b,c,price", *text] if header else text))
        target = "kind" if header else "1"
        assert main(["sever", "classify", str(table), "--target", target, "--json"]) == 0
        found.append(json.loads(capsys.readouterr().out))
    assert [facts.pop("classes") for facts in found] == [[0.0, 1.0], ["ham", "spam"]]
    for facts in found:
        assert {entry.pop("target") for entry in facts["dropped"]} <= {0.0, 1.0, "ham", "spam"}
        assert {entry.pop("predicted") for entry in facts["dropped"]} <= {0.0, 1.0, "ham", "spam"}
    assert found[0] == found[1]
    assert found[0]["columns"] == (["a", "b", "c", "price"] if header else ["0", "2", "3", "4"])
    assert main(["sever", "regress", str(table), "--target", target]) == 1
    assert "expected numbers, got words such as" in capsys.readouterr().err
    words[6][1] = " "
    table.write_text("\n".join(",".join(row) for row in words))
    assert main(["sever", "classify", str(table), "--target", "1"]) == 1
    assert "line 7, column 1: expected a label, got none" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--target", "colour"], 1, "no column 'colour'"),
        (["--target", "price", "--contamination", "0.5"], 2, "contamination"),
        (["--target", "price", "--alpha", "0"], 2, "alpha"),
        (["--target", "price", "--alpha", "inf"], 2, "--alpha: expected a finite number"),
        (["--target", "price", "--seed", "-1"], 2, "--seed: expected an integer in"),
        ([], 2, "target"),
    ],
)
def test_wrong_usage(table: Path, words: list[str], code: int, message: str, capsys: Any) -> None:
    assert main(["sever", "regress", str(table), *words]) == code
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("task", "rows", "message"),
    [
        ("regress", "1,2", "expected at least 2 rows, got 1"),
        ("classify", "1,ham", "expected at least 2 rows, got 1"),
        (
            "classify",
            "1,0\n2,1\n3,.25",
            "column y: expected classes (words or whole numbers), got ",
        ),
        ("classify", "1,0\n2,1\n3,.25", "0.25 in row 2; `tamis sever regress` predicts numbers"),
        ("classify", "1,ham\n2,ham", "column y: expected at least 2 classes, got only ham"),
    ],
)
def test_targets_that_nothing_can_be_fitted_to(
    task: str, rows: str, message: str, tmp_path: Path, capsys: Any
) -> None:
    path = tmp_path / "data.csv"
    path.write_text(f"x,y\n{rows}\n")
    assert main(["sever", task, str(path), "--target", "y"]) == 1
    assert message in capsys.readouterr().err


def test_no_dropped_rows_have_no_errors(table: Path, capsys: Any) -> None:
    """Not a column of NaN, which JSON has no word for either."""
    command = ["sever", "regress", str(table), "--target", "price", "--contamination", "0"]
    assert main([*command, "--report"]) == 0
    text = capsys.readouterr().out
    assert "0 rows dropped in 0 rounds (contamination)" in text
    assert "nan" not in text
    assert "dropped rows" not in text.split("dropped in", 1)[1]
    assert main([*command, "--json"]) == 0

    def refuse(name: str) -> Any:
        raise AssertionError(f"{name} is no JSON")

    facts = json.loads(capsys.readouterr().out, parse_constant=refuse)
    assert facts["error_on_dropped"] == {"plain": None, "sever": None}
    assert facts["dropped"] == []


def test_missing_file(tmp_path: Path, capsys: Any) -> None:
    assert main(["sever", "regress", str(tmp_path / "no.csv"), "--target", "y"]) == 1
    assert "no.csv" in capsys.readouterr().err


def test_chosen_columns(table: Path, capsys: Any) -> None:
    command = ["sever", "regress", str(table), "--target", "price", "--json"]
    assert main([*command, "--columns", "a", "2"]) == 0
    assert json.loads(capsys.readouterr().out)["columns"] == ["a", "c"]
    assert main([*command, "--columns", "0:3", "--target", "-2"]) == 0
    assert json.loads(capsys.readouterr().out)["columns"] == ["a", "b", "c"]
    assert main([*command, "--columns", "a", "price"]) == 1
    assert "twice" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["mean", "outliers", "sever"])
def test_outputs_are_checked_before_the_work(command: str, tmp_path: Path, capsys: Any) -> None:
    """Even before the file is read, which is not there."""
    words = {
        "mean": ["-o"],
        "outliers": ["--csv"],
        "sever": ["regress", "--target", "y", "-o"],
    }[command]
    file = str(tmp_path / "no.csv")
    task, options = (words[:1], words[1:]) if command == "sever" else ([], words)
    for name, reason in ((tmp_path / "no" / "out.csv", "in no folder"), (tmp_path, "is a folder")):
        assert main([command, *task, file, *options, str(name)]) == 2
        assert reason in capsys.readouterr().err
    source = tmp_path / "source.csv"
    source.write_text("x,y\n1,2\n")
    assert main([command, *task, str(source), *options, str(source)]) == 2
    assert "is what is read" in capsys.readouterr().err
    assert source.read_text() == "x,y\n1,2\n"


def test_the_report_says_where_rows_are_and_what_the_fits_are(table: Path, capsys: Any) -> None:
    command = ["sever", "regress", str(table), "--target", "price", "--columns", "a", "b", "c"]
    assert main([*command, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    data = np.genfromtxt(table, delimiter=",", skip_header=1)
    lines = table.read_text().splitlines()
    weights, intercept = (facts[key]["sever"][0] for key in ("weights", "intercepts"))
    for entry in facts["dropped"]:
        row = data[entry["row"]]
        assert float(lines[entry["line"] - 1].split(",")[3]) == entry["target"] == row[3]
        assert entry["predicted"] == pytest.approx(row[:3] @ weights + intercept)
    assert main([*command, "--report"]) == 0
    first, text = facts["dropped"][0], capsys.readouterr().out
    (shown,) = (line for line in text.splitlines() if line.split()[:1] == [str(first["row"])])
    assert shown.split()[1] == str(first["line"])
    assert "(intercept)" in text


def test_the_report_names_classes(tmp_path: Path, capsys: Any) -> None:
    rng = np.random.default_rng(0)
    kinds = np.array(["tea", "ham", "spam"])[rng.integers(0, 3, size=120)]
    X = rng.normal(size=(120, 2)) + 2.0 * (kinds == "ham")[:, None] * [1.0, 0.0]
    path = tmp_path / "data.csv"
    rows = [f"{a},{b},{kind}" for (a, b), kind in zip(X, kinds, strict=True)]
    for names, head in (("two", "weight for tea of"), ("three", "for class")):
        keep = rows if names == "three" else [row for row in rows if not row.endswith("spam")]
        path.write_text("\n".join(["a,b,kind", *keep]))
        assert main(["sever", "classify", str(path), "--target", "kind", "--report"]) == 0
        assert head in capsys.readouterr().out


def test_the_target_may_be_an_array_of_its_own(table: Path, tmp_path: Path, capsys: Any) -> None:
    """The same answer as from a column."""
    data = np.genfromtxt(table, delimiter=",", skip_header=1)
    words = np.where(data[:, 4] > 0, "spam", "ham")
    np.save(tmp_path / "data.npy", data[:, [0, 1, 2, 4]])
    path = tmp_path / "data.npz"
    np.savez(path, X=data[:, :3], kind=data[:, 4].astype(bool), word=words, price=data[:, 3:4],
             short=words[1:], broken=np.where(np.arange(200) == 7, np.nan, 1.0),
             empty=np.where(np.arange(200) == 7, " ", "x"))  # fmt: skip
    found = []
    for file, target in ((tmp_path / "data.npy", "-1"), (path, "kind"), (path, "word")):
        assert main(["sever", "classify", str(file), "--target", target, "--json"]) == 0
        facts = json.loads(capsys.readouterr().out)
        found.append([entry["score"] for entry in facts["dropped"]])
        assert facts["columns"] == ["0", "1", "2"]
    assert found[0] == found[1] == found[2]
    assert main(["sever", "regress", str(path), "--target", "price", "--columns", "0", "2"]) == 0
    assert "200 rows, 2 columns" in capsys.readouterr().out
    for task, target, message in (
        ("classify", "colour", "no array 'colour', but X, kind, word, price, short, broken, empty"),
        ("classify", "short", "array short: expected a value for each of 200 rows"),
        ("classify", "empty", "array empty: expected a label in row 7"),
        ("regress", "word", "array word: expected numbers, got <U4; words are classes"),
        ("regress", "broken", "array broken: expected a finite number in row 7, got nan"),
        ("regress", "X", "array X: expected a value for each of 200 rows, got shape (200, 3)"),
    ):
        assert main(["sever", task, str(path), "--target", target]) == 1
        assert message in capsys.readouterr().err


@pytest.mark.filterwarnings("always")
def test_a_warning_is_said_once(tmp_path: Path, capsys: Any) -> None:
    """Every fit of many says it again: here that each row is a class of its own."""
    path = tmp_path / "data.csv"
    path.write_text("x,y\n" + "\n".join(f"{k},{k}" for k in range(30)))
    assert main(["sever", "classify", str(path), "--target", "y"]) == 0
    assert capsys.readouterr().err.count("number of unique classes") == 1
