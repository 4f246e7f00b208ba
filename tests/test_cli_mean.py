"""The command ``tamis mean``, and how both commands on tables read their files."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tamis import RobustMean
from tamis.cli import main
from tamis.cli.tables import load_table


def contaminated(n: int = 301, d: int = 4) -> Any:
    """Standard normal rows rounded to 3 places, every tenth of them moved by 8."""
    X = np.random.default_rng(7).standard_normal((n, d)).round(3)
    X[::10] += 8.0
    return X


def write_csv(path: Path, X: Any, names: str | None = "a,b,c,d", delimiter: str = ",") -> Path:
    lines = [] if names is None else [names]
    lines += [delimiter.join(f"{value:g}" for value in row) for row in X]
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write_csv(tmp_path / "data.csv", contaminated())


# --- the command ----------------------------------------------------------------------------------


def test_the_table_of_means(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Oracle: RobustMean on the array, in the documented columns; it fits a terminal."""
    assert main(["mean", str(file)]) == 0
    text, errors = capsys.readouterr()
    X = contaminated()
    found = RobustMean().fit(X)
    lines = text.splitlines()
    assert lines[0].startswith("data.csv: 301 rows, 4 columns; contamination 0.1, rule gauss")
    head = next(k for k, line in enumerate(lines) if line.startswith("column"))
    assert lines[head].split("  ")[0] == "column"
    for j, name in enumerate("abcd"):
        cells = lines[head + 2 + j].split()
        spread = np.sqrt(np.square(X[found.support_] - found.location_).mean(axis=0))[j]
        shift = (found.location_[j] - X.mean(axis=0)[j]) / spread
        expected = (found.location_[j], X.mean(axis=0)[j], spread, shift)
        assert cells[0] == name
        for cell, value in zip(cells[1:], expected, strict=True):
            assert float(cell) == pytest.approx(value, rel=1e-3, abs=6e-3)
    assert "left out: 31 of 301 rows (10.3%)" in text
    assert f"({found.stop_reason_})" in text
    assert "top eigenvalue by round: " in text
    assert max(map(len, lines)) <= 80 + 10  # the first line says it all
    assert errors == ""


def test_json(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Oracle: RobustMean with the same parameters; options arrive."""
    options = ["--contamination", "auto", "--rule", "bounded_covariance", "--assume", "scale"]
    options += ["--no-prune", "--seed", "5", "--num-threads", "1", "--json"]
    assert main(["mean", str(file), *options]) == 0
    facts = json.loads(capsys.readouterr().out)
    X = contaminated()
    found = RobustMean(
        "auto", rule="bounded_covariance", assume="scale", prune=False, random_state=5
    ).fit(X)
    assert facts["mean"] == found.location_.tolist()
    assert facts["plain_mean"] == pytest.approx(X.mean(axis=0).tolist())
    assert facts["left_out"] == np.flatnonzero(~found.support_).tolist()
    assert facts["stop_reason"] == found.stop_reason_
    assert facts["eigenvalues"] == found.eigenvalues_.tolist()
    assert (facts["columns"], facts["rows"], facts["seed"]) == (["a", "b", "c", "d"], 301, 5)
    assert (facts["contamination"], facts["prune"]) == ("auto", False)


def test_out(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    expected = RobustMean().fit(contaminated()).location_
    assert main(["mean", str(file), "-o", str(tmp_path / "m.npy")]) == 0
    assert "wrote " in capsys.readouterr().out
    np.testing.assert_array_equal(np.load(tmp_path / "m.npy"), expected)
    assert main(["mean", str(file), "--out", str(tmp_path / "m.csv"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["mean"] == expected.tolist()
    first, *rows = (tmp_path / "m.csv").read_text().splitlines()
    assert first == "column,mean,plain_mean"
    assert [float(row.split(",")[1]) for row in rows] == expected.tolist()


def test_many_columns_show_those_that_moved_most(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    X = np.random.default_rng(0).standard_normal((400, 50))
    X[:20, 33] += 30.0
    np.save(tmp_path / "wide.npy", X)
    assert main(["mean", str(tmp_path / "wide.npy")]) == 0
    text = capsys.readouterr().out
    rows = text.split("\n\n")[1].splitlines()[2:]
    assert len(rows) == 20 + 1
    assert any(row.startswith("33 ") for row in rows)
    assert rows[-1] == "The 20 of 50 columns where the means differ most; -o has all."


def test_long_names_are_cut_to_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_csv(tmp_path / "x.csv", contaminated(), ",".join([f"{k}" + "long" * 30 for k in "abcd"]))
    assert main(["mean", str(tmp_path / "x.csv")]) == 0
    table = capsys.readouterr().out.split("\n\n")[1]
    assert max(map(len, table.splitlines())) <= 80
    assert "along" in table


def test_a_limit_that_was_reached_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    X = np.random.default_rng(0).standard_normal((1000, 5))
    X[:300] += 8.0
    np.save(tmp_path / "x.npy", X)
    assert main(["mean", str(tmp_path / "x.npy"), "--contamination", "0.05"]) == 0
    text, errors = capsys.readouterr()
    assert "(removal_limit)" in text
    assert errors.startswith("tamis: warning: the filter wanted to leave out more rows than it may")
    assert errors.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--contamination", "0.5"], "expected a number in [0, 0.5) or auto, got 0.5"),
        (["--contamination", "half"], "expected a number in [0, 0.5) or auto, got half"),
        (["--rule", "dkk"], "invalid choice"),
        (["--seed", "-1"], "--seed expects a number from 0 to 2^64 - 1, got -1"),
        (["--num-threads", "0"], "--num-threads expects a number of at least 1, got 0"),
        (["-o", "mean.txt"], "--out expects a name ending in .npy or .csv, got mean.txt"),
    ],
)
def test_wrong_usage(
    file: Path, options: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["mean", str(file), *options]) == 2
    assert says in capsys.readouterr().err


def test_errors_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["mean", str(tmp_path / "none.csv")]) == 1
    error = capsys.readouterr().err
    assert error.startswith("tamis mean: error: ")
    assert "none.csv" in error
    assert error.count("\n") == 1


def test_real_tables(data_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Oracle: what is known of the files: shapes, and 14 outliers of Hawkins, Bradu and Kass."""
    classics = data_dir / "robust_classics"
    assert main(["mean", str(classics / "hbk.csv.gz"), "--columns", "X1", "X2", "X3"]) == 0
    assert "left out: 14 of 75 rows" in capsys.readouterr().out
    for path, shape in (
        (data_dir / "adbench" / "42_WBC.npz", (223, 9)),
        (classics / "octane.csv.gz", (39, 227)),
        (data_dir / "embeddings" / "MVTec-AD_bottle.npz", (292, 512)),
    ):
        assert main(["mean", str(path), "--json"]) == 0
        facts = json.loads(capsys.readouterr().out)
        assert (facts["rows"], len(facts["mean"])) == shape


# --- files ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("names", ["a,b,c,d", None])
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|", " "])
@pytest.mark.parametrize("packed", [False, True])
def test_text_files(tmp_path: Path, names: str | None, delimiter: str, packed: bool) -> None:
    """Oracle: the numbers that were written."""
    X = contaminated(33)
    head = None if names is None else names.replace(",", delimiter)
    path = write_csv(tmp_path / "data.txt", X, head, delimiter)
    if packed:
        path.write_bytes(gzip.compress(path.read_bytes()))
    table = load_table(path)
    np.testing.assert_array_equal(table.values, X)
    assert table.names == (["0", "1", "2", "3"] if names is None else ["a", "b", "c", "d"])
    assert table.lines([0, 32]) == ([1, 33] if names is None else [2, 34])


@pytest.mark.parametrize(
    ("text", "names", "values", "lines"),
    [
        ("1,2\n3,4", ["0", "1"], [[1, 2], [3, 4]], [1, 2]),  # no newline at the end
        ("\ufeffa,b\r\n1,2\r\n", ["a", "b"], [[1, 2]], [2]),  # as spreadsheets write it
        ("# made by x\n\na,b\n\n1,2\n# halfway\n3,4\n", ["a", "b"], [[1, 2], [3, 4]], [5, 7]),
        ('"x, y","say ""b"""\n"1",2e3\n', ["x, y", 'say "b"'], [[1, 2000]], [2]),
        ("2019,2020\n1,2\n", ["0", "1"], [[2019, 2020], [1, 2]], [1, 2]),  # numbers are no names
        ("a,2020\n1,2\n", ["a", "2020"], [[1, 2]], [2]),
        ("x\n1\n-2.5\n", ["x"], [[1], [-2.5]], [2, 3]),
        ("  1   2\n 3\t4 \n", ["0", "1"], [[1, 2], [3, 4]], [1, 2]),
        (",b\n1,2\n", ["0", "b"], [[1, 2]], [2]),  # a name that is missing
    ],
)
def test_text_of_many_kinds(
    tmp_path: Path, text: str, names: list[str], values: Any, lines: list[int]
) -> None:
    path = tmp_path / "data.csv"
    path.write_bytes(text.encode())
    table = load_table(path)
    assert table.names == names
    np.testing.assert_array_equal(table.values, values)
    assert table.lines(range(len(values))) == lines


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a,b\n1,2\n3,\n", "line 3, column b: expected a number, got an empty cell; columns with"),
        ("a,b\n1,2\nNA,4\n", "line 3, column a: expected a number, got 'NA'"),
        ("a,b\n1,nan\n", "line 2, column b: expected a finite number, got nan"),
        ("\na,b\n\n1,2\n-inf,2\n", "line 5, column a: expected a finite number, got -inf"),
        ("a,b\n1,2\n3\n", "line 3: expected 2 cells, got 1"),
        ("1,2\n3,4,5\n", "line 2: expected 2 cells, got 3"),
        ("a,b\n", "expected rows of numbers, got a line of names only"),
        ("\n\n", "expected rows of numbers, got blank lines"),
        ("", "got an empty file"),
        ("a;b\n1,5;2\n", "line 2, column a: expected a number, got '1,5'"),
        ("x,y\n1,1_000\n", "line 2, column y: expected a number, got '1_000'"),
        ("name,x,y\nbob,1,2\n", "column name: expected a number, got 'bob'; columns with numbers "
         "in this line: x, y"),
        ("x,y\nr1,1,2\n", "line 2, column row: expected a number, got 'r1'"),  # R's row names
    ],
)  # fmt: skip
def test_text_that_is_no_table(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "data.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"data\.csv") as error:
        load_table(path)
    assert says in str(error.value)
    assert str(error.value).count("data.csv") == 1


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    for content, says in (
        (b"\x89HDF\r\n\0\0", "expected .npy, .npz or text, got a file that begins"),
        (b"a,b\n1,\xe9\n", "expected text, in UTF-8"),
        (b"a,b\n1,2\n3,4\n5,\xe9\n", "expected text, in UTF-8"),
        (gzip.compress(b"1,2\n3,4\n" * 99)[:-9], "expected text, in UTF-8: Compressed file ended"),
        (b"\x1f\x8bnonsense", "expected text"),
        (b"PK\x03\x04nonsense", "expected an .npz file, got a damaged one"),
        (b"\x93NUMPYnonsense", "cannot be read"),
    ):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"data\.csv") as error:
            load_table(path)
        assert says in str(error.value)


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        (["c"], [2]),
        (["c", "a"], [2, 0]),
        (["c,a"], [2, 0]),
        (["1:3"], [1, 2]),
        (["0", "-1"], [0, 3]),
        ([":2", "d"], [0, 1, 3]),
        (["-2:"], [2, 3]),
    ],
)
@pytest.mark.parametrize("kind", ["csv", "npy", "npz"])
def test_columns(tmp_path: Path, columns: list[str], expected: list[int], kind: str) -> None:
    X = contaminated(33)
    path = tmp_path / f"data.{kind}"
    if kind == "csv":
        write_csv(path, X)
    else:
        columns = [text.translate(str.maketrans("abcd", "0123")) for text in columns]
        np.save(path, X) if kind == "npy" else np.savez(path, X=X)
    table = load_table(path, columns=columns)
    np.testing.assert_array_equal(table.values, X[:, expected])
    assert table.names == [("abcd" if kind == "csv" else "0123")[j] for j in expected]


def test_a_name_goes_before_a_number(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "data.csv", [[1, 2, 3]], "x,0,a:b")
    assert load_table(path, columns=["0", "a:b"]).values.tolist() == [[2, 3]]
    assert load_table(path, columns=["1"]).values.tolist() == [[2]]


def test_text_columns_are_passed_over_where_others_are_chosen(tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    path.write_text("name,x,y\nbob,1,2\nal,3,4\n")
    table = load_table(path, columns=["x", "y"])
    np.testing.assert_array_equal(table.values, [[1, 2], [3, 4]])
    assert table.names == ["x", "y"]


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        (["e"], "no column 'e', but a, b, c, d"),
        (["4"], "no column '4'"),
        (["3:2"], "no columns 3:2, it has 4"),
        (["a", "0"], "a column was asked for twice: a, 0"),
    ],
)
def test_columns_that_are_not_there(file: Path, columns: list[str], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        load_table(file, columns=columns)


def test_npy_is_mapped(tmp_path: Path) -> None:
    X = contaminated(33).astype(np.float32)
    np.save(tmp_path / "x.npy", X)
    for columns in ([], ["1:3"]):
        values = load_table(tmp_path / "x.npy", columns=columns).values
        assert values.dtype == np.float32
        base = values
        while base is not None and not isinstance(base, np.memmap):
            base = base.base  # type: ignore[assignment]
        assert base is not None
        assert not values.flags.writeable


@pytest.mark.parametrize(
    ("dtype", "read_as"),
    [("f2", "f4"), ("f4", "f4"), (">f8", "f8"), ("i8", "f8"), ("u1", "f8"), ("?", "f8")],
)
def test_dtypes(tmp_path: Path, dtype: str, read_as: str) -> None:
    X = np.arange(6).reshape(2, 3).astype(dtype)
    np.save(tmp_path / "x.npy", X)
    values = load_table(tmp_path / "x.npy").values
    assert values.dtype == np.dtype(read_as)
    np.testing.assert_array_equal(values, X)


def test_one_axis_is_one_column(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.arange(5.0))
    assert load_table(tmp_path / "x.npy").values.shape == (5, 1)


def test_which_array_of_an_npz(tmp_path: Path) -> None:
    path, X = tmp_path / "x.npz", contaminated(33)
    for arrays in ({"X": X, "Z": 0 * X}, {"y": X[:, 0], "only": X}, {"features": X, "b": X}):
        np.savez(path, **arrays)
        np.testing.assert_array_equal(load_table(path).values, X)
    np.savez_compressed(path, a=X, b=2 * X)
    np.testing.assert_array_equal(load_table(path, key="b").values, 2 * X)
    with pytest.raises(ValueError, match="an array X or a single one with two axes, got a, b; ch"):
        load_table(path)
    with pytest.raises(ValueError, match="no array 'c', but a, b"):
        load_table(path, key="c")
    np.save(tmp_path / "x.npy", X)
    for other in (tmp_path / "x.npy", write_csv(tmp_path / "x.csv", X)):
        with pytest.raises(ValueError, match=r"a key is for .npz files"):
            load_table(other, key="X")


@pytest.mark.parametrize(
    ("array", "says"),
    [
        (np.zeros((2, 2, 2)), r"array X: expected numbers in rows and columns, got float64 of sh"),
        (np.zeros((2, 2), complex), "got complex128"),
        (np.array([["a"]]), "got <U1"),
        (np.array([[{}]]), "Python objects, which are not unpickled"),
        (np.zeros((0, 3)), "is empty"),
        (np.array([[1.0, 2.0], [3.0, np.nan]]), "row 1, column 1: expected a finite number, got n"),
    ],
)
def test_arrays_that_are_no_tables(tmp_path: Path, array: Any, says: str) -> None:
    np.savez(tmp_path / "x.npz", X=array)
    with pytest.raises(ValueError, match=says):
        load_table(tmp_path / "x.npz")
