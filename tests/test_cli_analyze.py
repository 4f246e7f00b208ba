"""``tamis analyze``: the numbers of ``tamis.analysis``, readable in every format.

Oracles: ``tamis.analysis`` for the numbers (itself tested against published tables), the csv
module for the file format, and the layout's own promises (80 columns, nothing lost).

One file, past the usual 400 lines, because it checks one command.
"""

from __future__ import annotations

import argparse
import builtins
import csv
import io
import itertools
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tamis import analysis
from tamis.cli import analyze, main
from tamis.smoothing.logs import LogWriter

RADII = ["0", "0.25", "0.5", "0.75", "1", "1.25", "1.5", "1.75", "2", "2.25"]


@pytest.fixture(autouse=True)
def _show_warnings() -> Any:
    """Let warnings reach stderr, as in a shell, where the test suite makes them errors."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        yield


def plain_log(path: Path, size: int, seed: int, scale: float = 0.3, step: int = 1) -> str:
    """Write a log in the published format, without anything that says how it was made."""
    rng = np.random.default_rng(seed)
    lines = ["idx\tlabel\tpredict\tradius\tcorrect\ttime"]
    for k in range(size):
        predict = int(rng.integers(-1, 3))
        radius = 0.0 if predict < 0 else min(rng.exponential(scale), 3.0)
        lines.append(f"{k * step}\t1\t{predict}\t{radius:.3g}\t{int(predict == 1)}\t0:00:02.500000")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def full_log(path: Path, **config: Any) -> str:
    config = {"sigma": 0.5, "alpha": 0.01, "n": 1000, "seed": 7} | config
    with LogWriter.open(path, config, fsync=False) as writer:
        for k in range(9):
            writer.write(
                k, label=1, predict=1 if k else -1, radius=0.1 * k, seconds=0.5,
                p_lower=0.5 + k / 20 if k else 0.4, n=1000, count=900,
            )  # fmt: skip
    return str(path)


def run(capsys: pytest.CaptureFixture[str], *arguments: str, status: int = 0) -> tuple[str, str]:
    assert main(["analyze", *arguments]) == status
    out, err = capsys.readouterr()
    return out, err


def tables(text: str) -> dict[str, dict[str, list[str]]]:
    """Rows of every table by title, wrapped parts joined again."""
    found: dict[str, dict[str, list[str]]] = {}
    lines = text.split("\n")
    title = ""
    for before, line in itertools.pairwise(lines):
        if set(line) == {"-"} and before and set(before) != {"-"} and "  " not in before:
            title = before
            found.setdefault(title, {})
        cells = re.split(r" {2,}", line)
        if title and len(cells) > 1:
            found[title].setdefault(cells[0], []).extend(cells[1:])
    return found


# ---------------------------------------------------------------- numbers


def test_published_row_of_the_slides(data_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Oracle: the row "Cohen et al." of the published table."""
    logs = [
        str(path) for path in sorted((data_dir / "certify_logs/original500/cohen").glob("*.tsv"))
    ]
    out, err = run(capsys, *logs, "--radii", *RADII[1:])
    rows = tables(out)["Certified accuracy, %"]
    assert rows["envelope"] == [
        "60.0",
        "42.8",
        "32.0",
        "23.4",
        "17.4",
        "14.0",
        "11.8",
        "10.0",
        "7.6",
    ]
    assert rows["attained by"] == ["B", "B", "C", "C", "D", "D", "D", "D", "D"]
    assert rows["radius (l2)"] == [f"{float(r):.2f}" for r in RADII[1:]]
    assert "500 images (idx 0 to 9980, every 20th); alpha 0.001 (assumed)" in out
    assert err == ""


def test_table_of_one_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = full_log(tmp_path / "run.tsv", model="m.onnx", data="d.npz", bound="one-sided")
    out, err = run(capsys, path, "--radii", "0:1:0.3")
    log = analysis.load_log(path)
    found = tables(out)
    legend = " ".join(out.split("\n\n")[0].split())
    assert legend.endswith(
        "run.tsv: model m.onnx; data d.npz; bound one-sided; 9 images (idx 0 to 8, all); "
        "sigma 0.5; n 1000; alpha 0.01; seed 7"
    )
    share = 100 * analysis.certified_accuracy(log, [0, 0.3, 0.6, 0.9])
    expected = [f"{value:.1f}" if value else "0" for value in share]
    assert found["Certified accuracy, %"] == {
        "radius (l2)": ["0.0", "0.3", "0.6", "0.9"],
        "run": expected,
    }
    bound = 100 * analysis.certified_accuracy_lower_bound(log, [0, 0.3, 0.6, 0.9], 0.01)
    assert found["Certified accuracy, %, at least (with probability 99.9%)"]["run"] == [
        f"{value:.1f}" if value else "0" for value in bound
    ]
    assert found["Overall"]["run"] == ["88.9", "11.1", "0.4000", "0.5"]
    quantiles = found["Quantiles over the images of p_lower, the bound on the top class"]
    assert quantiles["run"] == ["0.40000", "0.60000", "0.70000", "0.80000", "0.90000"]
    assert err == ""
    assert "assume" not in out
    assert "--sigma" not in out


def test_csv_is_unrounded_and_complete(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Oracle: tamis.analysis, equal to the last bit after reading the csv back."""
    paths = [plain_log(tmp_path / f"{k}.tsv", 33, k) for k in range(2)]
    paths.append(full_log(tmp_path / "full,quoted.tsv"))
    out, _ = run(capsys, *paths, "--format", "csv", "--radii", "0:1:0.1", "--rho", ".05")
    rows = list(csv.DictReader(io.StringIO(out)))
    radii = [float(f"0.{k}") for k in range(10)] + [1.0]
    assert len(rows) == 4 * len(radii)
    logs = [analysis.load_log(path) for path in paths]
    for path, log in zip(paths, logs, strict=True):
        summary = analysis.summary(log, radii, rho=0.05)
        mine = [row for row in rows if row["log"] == path]
        assert [float(row["radius"]) for row in mine] == radii
        for name in ("certified_accuracy", "lower_bound"):
            np.testing.assert_array_equal([float(r[name]) for r in mine], getattr(summary, name))
        for row in mine:
            assert int(row["images"]) == len(log)
            assert row["subset"] == analysis.describe_subset(log)
            assert float(row["abstention_rate"]) == summary.abstention_rate
            assert float(row["average_certified_radius"]) == summary.average_certified_radius
            assert (float(row["alpha"]), row["rho"]) == (summary.alpha, "0.05")
            assert bool(int(row["alpha_assumed"])) == summary.alpha_assumed
    assert (rows[0]["sigma"], rows[0]["seed"], rows[0]["p_lower_q50"]) == ("", "", "")
    assert (rows[-12]["sigma"], rows[-12]["seed"], rows[-12]["n"]) == ("0.5", "7", "1000")
    assert float(rows[-12]["p_lower_q50"]) == pytest.approx(0.7)
    with pytest.warns(analysis.AnalysisWarning):
        envelope = analysis.upper_envelope(logs, radii)
    for k, row in enumerate(row for row in rows if row["log"] == "envelope"):
        assert float(row["certified_accuracy"]) == envelope.values[k]
        assert row["attained_by"] == (paths[envelope.winner[k]] if envelope.winner[k] >= 0 else "")


def test_markdown_and_latex_hold_the_same_cells(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [plain_log(tmp_path / f"a_b|c&{k}.tsv", 33, k) for k in range(3)]
    arguments = [*paths, "--radii", "0:2.4:0.1"]
    plain, _ = run(capsys, *arguments)
    markdown, _ = run(capsys, *arguments, "--format", "md")
    latex, _ = run(capsys, *arguments, "--format", "latex")
    rows = tables(plain)["Certified accuracy, %"]
    assert len(rows["radius (l2)"]) == 25
    cells = {}
    for line in markdown.split("\n"):
        if line.startswith("| "):
            name, *values = (cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1])
            cells.setdefault(name.replace("\\|", "|"), values)
    assert {name: cells[name] for name in rows} == rows
    assert cells["---"] == ["---:"] * 25
    cells = {}
    for line in latex.split("\n"):
        if line.endswith(r" \\"):
            name, *values = (cell.strip() for cell in re.split(r"(?<!\\)&", line[:-3]))
            cells.setdefault(re.sub(r"\\([&_])", r"\1", name), values)
    assert {name: cells[name] for name in rows} == rows
    assert latex.count(r"\begin{tabular}{l" + "r" * 25 + "}") == 2
    assert latex.count(r"\end{tabular}") == latex.count(r"\begin{tabular}") == 3


# ---------------------------------------------------------------- layout


def test_everything_fits_80_columns(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = "PGD_10steps_multiNoiseSamples__{}-multitrain__eps_512__noise_0.50__sigma_0.50.tsv"
    paths = [plain_log(tmp_path / name.format(k), 33, k) for k in range(30)]
    out, _ = run(capsys, *paths, "--radii", "0:3:0.05", "--sigma", "0.5")
    # A path has no spaces to break at, but the temporary folder may be long in itself.
    assert max(map(len, out.replace(str(tmp_path), "T").split("\n"))) <= 80
    rows = tables(out)["Certified accuracy, %"]
    assert len(rows) == 33
    assert {len(cells) for cells in rows.values()} == {61}
    assert [row.split()[0] for row in rows][1:31] == [
        *"ABCDEFGHIJKLMNOPQRSTUVWXYZ",
        *["AA", "AB", "AC", "AD"],
    ]
    for path in paths:
        assert path in out.replace("\n     ", "")


@pytest.mark.parametrize("width", [40, 60, 80, 132])
def test_tables_use_the_width_of_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    path = plain_log(tmp_path / "run.tsv", 1023, 0)
    piped, _ = run(capsys, path, "--radii", "0:1.2:0.05", "--sigma", "0.5")
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setitem(sys.modules, "rich", None)
    monkeypatch.setitem(sys.modules, "rich.console", None)
    out, _ = run(capsys, path, "--radii", "0:1.2:0.05", "--sigma", "0.5")
    assert tables(out)["Certified accuracy, %"] == tables(piped)["Certified accuracy, %"]
    assert max(map(len, out.replace(path, "").split("\n"))) <= width
    parts = out.split("Overall")[0].count("radius (l2)")
    assert parts == {40: 14, 60: 8, 80: 6, 132: 4}[width]


def test_rich_adds_style_and_nothing_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("rich")
    paths = [plain_log(tmp_path / f"[red]{k}[/red].tsv", 33, k) for k in range(2)]
    piped, _ = run(capsys, *paths)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm-256color")
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    out, _ = run(capsys, *paths)
    assert "\x1b[1menvelope" in out
    assert re.sub(r"\x1b\[[0-9;]*m", "", out) == piped


@pytest.mark.parametrize(
    ("names", "short"),
    [
        (["run"], ["run"]),
        (["model_sigma_0.25", "model_sigma_0.50"], ["sigma_0.25", "sigma_0.50"]),
        (["cohen_sigma0.12", "cohen_sigma0.25"], ["sigma0.12", "sigma0.25"]),
        (["a-x.full", "b-x.full"], ["a", "b"]),
        (["run", "run"], ["run", "run"]),
        (["abcdefghijklmnopqrstuvwxyz"], ["abcde~pqrstuvwxyz"]),
    ],
)
def test_short_names(names: list[str], short: list[str]) -> None:
    assert analyze.short_names(names, 17) == short


def test_envelope_is_shown_for_two_logs_unless_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [plain_log(tmp_path / f"{k}.tsv", 33, k) for k in range(2)]
    for chosen, option, shown in (
        (paths, [], True),
        (paths, ["--no-envelope"], False),
        (paths[:1], [], False),
    ):
        rows = tables(run(capsys, *chosen, *option)[0])["Certified accuracy, %"]
        assert ("envelope" in rows) == ("attained by" in rows) == shown


def test_same_file_name_in_two_folders(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = [plain_log(tmp_path / folder / "log.tsv", 9, 0) for folder in ("one", "two")]
    out, _ = run(capsys, *paths)
    assert list(tables(out)["Overall"]) == ["log", "A one", "B two"]


# ---------------------------------------------------------------- options, notes and warnings


@pytest.mark.parametrize(
    ("text", "radii"),
    [
        ("0.5", [0.5]),
        ("0,.25, 1e-1", [0, 0.25, 0.1]),
        ("0:1:0.1", [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]),
        ("0.5:1:.3", [0.5, 0.8]),
        ("1:1:1", [1.0]),
        ("0:0.5:0.25,2", [0, 0.25, 0.5, 2.0]),
    ],
)
def test_parse_radii(text: str, radii: list[float]) -> None:
    assert analyze.parse_radii(text) == radii


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a",
        "-1",
        "nan",
        "inf",
        "1:0:1",
        "0:1:0",
        "0:1",
        "0:1:.1:2",
        "0:1:-1",
        "0,,1",
        "0:9:1e-9",
    ],
)
def test_parse_radii_refuses(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="expected"):
        analyze.parse_radii(text)


def test_default_radii_reach_the_largest_certified_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [plain_log(tmp_path / f"{scale}.tsv", 101, 0, scale) for scale in (0.02, 0.3)]
    for chosen in (paths[:1], paths):
        out, _ = run(capsys, *chosen)
        radii = [float(text) for text in tables(out)["Certified accuracy, %"]["radius (l2)"]]
        most = max(log.radius[log.correct].max() for log in map(analysis.load_log, chosen))
        assert radii[0] == 0
        assert 4 <= len(radii) <= 10
        assert radii[-1] <= most < 2 * radii[-1] - radii[-2]


def test_notes_name_the_logs_they_are_about(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bare, full = plain_log(tmp_path / "bare.tsv", 9, 0), full_log(tmp_path / "full.tsv")

    def notes(*arguments: str) -> str:
        return " ".join(run(capsys, *arguments)[0].split("\n\n")[-1].split())

    assert notes(bare) == (
        "alpha is not recorded in the log: the lower bound assumes 0.001, --alpha changes it. "
        "sigma is not recorded in the log: give --sigma to see p_lower."
    )
    assert notes(full, bare).startswith("alpha is not recorded in B: the lower bound assumes")
    assert "sigma is not recorded in B: give --sigma" in notes(full, bare)
    assert notes(bare, bare).startswith("alpha is not recorded in any log")
    told = notes(full, bare, "--alpha", "0.05", "--sigma", "0.5", "--no-envelope")
    assert told == (
        "alpha is recorded in A: --alpha was not used there. "
        "p_lower of B is Phi(radius / sigma), as exact as the radii are."
    )
    told = notes(full, bare, "--sigma", "0.75", "0.5", "--no-envelope")
    assert "sigma is recorded in A, and another one than --sigma: --sigma was not used" in told
    assert "sigma is recorded in the log, and" in notes(full, "--sigma", "0.75")
    assert "sigma is recorded" not in notes(full, bare, "--sigma", "0.5")
    assert "The envelope picks the best log" in notes(bare, bare)
    assert "The envelope" not in notes(bare, bare, "--no-envelope")
    assert "The envelope" not in notes(bare)


def test_alpha_rho_and_bound_reach_the_lower_bound(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = plain_log(tmp_path / "run.tsv", 333, 0)
    log = analysis.load_log(path)
    arguments = (path, "--radii", "0.1", "--alpha", "0.02", "--rho", "0.1")
    for method in ("binomial", "published"):
        out, _ = run(capsys, *arguments, "--bound", method)
        bound = analysis.certified_accuracy_lower_bound(log, 0.1, 0.02, 0.1, method=method)  # type: ignore[arg-type]
        title = "Certified accuracy, %, at least (with probability 90%)"
        assert tables(out)[title]["run"] == [f"{100 * bound:.1f}"]


def test_logs_of_different_images_are_warned_about(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [plain_log(tmp_path / f"{k}.tsv", 9, 0, step=k) for k in (1, 2)]
    out, err = run(capsys, *paths)
    assert err == (
        "tamis: warning: the logs differ in the images they cover and do not compare "
        "(9 images (idx 0 to 8, all): A; 9 images (idx 0 to 16, every 2nd): B)\n"
    )
    assert "A    " in out


def test_running_log_is_analysed_with_a_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = Path(plain_log(tmp_path / "run.tsv", 9, 0))
    path.write_text(path.read_text()[:-4])
    out, err = run(capsys, str(path))
    assert "8 images" in out
    assert re.fullmatch(
        r"tamis: warning: .*run\.tsv: ignored line 10, which has no newline.*\n", err
    )
    out, err = run(capsys, str(path), "--strict", status=1)
    assert out == ""
    assert "line 10: expected a newline at the end" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--radii", "x"), "argument --radii: expected radii >= 0 such as 0.5 or 0,0.25,0.5"),
        (("--radii", "0.5", "other.tsv"), "name the logs before the options"),
        (("--alpha", "1"), "--alpha expects a number strictly between 0 and 1, got 1"),
        (("--rho", "nan"), "--rho expects a number strictly between 0 and 1, got nan"),
        (("--sigma", "1", "2"), "--sigma expects 1 number, got 2"),
        (("--sigma", "0"), "--sigma expects a number > 0, got 0"),
        (("--sigma", "x"), "argument --sigma: invalid float value: 'x'"),
        (("--plot", "a.jpg"), "--plot expects a name ending in .png, .pdf or .svg, got a.jpg"),
        (("--plot-p-lower", "a"), "--plot-p-lower expects a name ending in"),
        (("--format", "html"), "invalid choice: 'html'"),
        (("--nonsense",), "unrecognized arguments: --nonsense"),
    ],
)
def test_wrong_usage_exits_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], message: str
) -> None:
    out, err = run(capsys, plain_log(tmp_path / "run.tsv", 9, 0), *arguments, status=2)
    assert out == ""
    assert message in err


def test_no_logs_exit_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert "arguments are required: LOG" in run(capsys, status=2)[1]


def test_what_cannot_be_analysed_exits_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = plain_log(tmp_path / "good.tsv", 9, 0)
    bad, empty = tmp_path / "bad.tsv", tmp_path / "empty.tsv"
    bad.write_text("a\tb\n1\t2\n")
    empty.write_text("idx\tlabel\tpredict\tradius\tcorrect\n")
    for arguments, message in (
        ((str(tmp_path / "none.tsv"),), "No such file or directory"),
        ((str(tmp_path),), "Is a directory"),
        ((good, str(bad)), "bad.tsv, line 1: expected tab-separated columns"),
        ((str(empty),), "log expected at least one row, got none in"),
        ((good, "--sigma", "0.001"), "which no sampling certifies"),
    ):
        out, err = run(capsys, *arguments, status=1)
        assert out == ""
        assert err.startswith("tamis analyze: error: ")
        assert message in err
        assert err.count("\n") == 1


def test_help_is_readable(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    out, _ = run(capsys, "--help")
    assert max(map(len, out.split("\n"))) <= 80
    for option in [
        "--radii",
        "--no-envelope",
        "--format",
        "--plot",
        "--alpha",
        "--rho",
        "--bound",
        "--sigma",
        "--strict",
    ]:
        assert option in out


# ---------------------------------------------------------------- plots


def test_plots_are_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    paths = [plain_log(tmp_path / f"{k}.tsv", 33, k) for k in range(2)]
    curves, histogram = tmp_path / "curves.png", tmp_path / "p.pdf"
    arguments = ("--plot", str(curves), "--plot-p-lower", str(histogram))
    out, err = run(capsys, *paths, "--sigma", "0.5", *arguments)
    assert curves.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    assert histogram.read_bytes().startswith(b"%PDF-")
    assert err == f"wrote {curves}\nwrote {histogram}\n"
    assert "Certified accuracy, %" in out
    out, err = run(capsys, *paths, "--plot-p-lower", str(histogram), status=1)
    assert "--plot-p-lower needs --sigma" in err
    out, err = run(capsys, *paths, "--plot", str(tmp_path / "no" / "a.png"), status=1)
    assert "No such file or directory" in err


def test_missing_matplotlib_is_said_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    path = plain_log(tmp_path / "run.tsv", 9, 0)
    out, err = run(capsys, path, "--plot", str(tmp_path / "a.png"), status=1)
    assert out == ""
    assert "needs matplotlib: python -m pip install 'tamis[plot]'" in err
    out, _ = run(capsys, path)
    assert "Overall" in out
