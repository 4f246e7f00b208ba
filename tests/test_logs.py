"""Certification logs: every published format is read, and a written log survives any kill.

One file, past the usual 400 lines, because reader and writer are held against the same bytes.
"""

from __future__ import annotations

import csv
import errno
import gzip
import lzma
import os
import random
import resource
import signal
import subprocess
import sys
import textwrap
import warnings
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tamis.smoothing import logs as module
from tamis.smoothing.logs import (
    CertificationLog,
    LogConfigError,
    LogFormatError,
    LogLockedError,
    LogWriter,
    TruncatedLogWarning,
    load_log,
)

HEAD = "idx\tlabel\tpredict\tradius\tcorrect\ttime\n"
CONFIG: dict[str, Any] = {"sigma": 0.25, "alpha": 0.001, "seed": 2**64 - 1, "mean": [0.5, 0.25]}
ROWS: list[dict[str, Any]] = [
    {"idx": 0, "label": 3, "predict": 3, "radius": 0.1 + 0.2, "seconds": 3661.5}
    | {"p_lower": 1 - 2**-53, "n": 1000, "count": 1000},
    {"idx": 20, "label": 7, "predict": -1, "radius": 0.0, "seconds": 0.25}
    | {"p_lower": 1e-300, "n": 1000, "count": 501},
    {"idx": 40, "label": 1, "predict": 2, "radius": 5e-324, "seconds": 59.9999996}
    | {"p_lower": 0.5, "n": 999, "count": 998},
]
GOLDEN = (
    b'# tamis certify {"alpha":0.001,"mean":[0.5,0.25],"seed":18446744073709551615,"sigma":0.25}\n'
    b"idx\tlabel\tpredict\tradius\tcorrect\ttime\tp_lower\tn\tcount\n"
    b"0\t3\t3\t0.30000000000000004\t1\t1:01:01.500000\t0.9999999999999999\t1000\t1000\n"
    b"20\t7\t-1\t0.0\t0\t0:00:00.250000\t1e-300\t1000\t501\n"
    b"40\t1\t2\t5e-324\t0\t0:01:00.000000\t0.5\t999\t998\n"
)


def finish(path: Path, **options: Any) -> None:
    """Certify what is missing, as a resumed run does."""
    with LogWriter.open(path, CONFIG, **options) as writer:
        for row in ROWS:
            if row["idx"] not in writer.finished:
                writer.write(**row)


def without_time(raw: bytes) -> list[list[bytes]]:
    return [line.split(b"\t")[:5] + line.split(b"\t")[6:] for line in raw.split(b"\n")]


# ---------------------------------------------------------------- reading


def test_every_published_log_reads_as_the_csv_module_reads_it(data_dir: Path) -> None:
    """Oracle: csv.DictReader on the text, datetime for the clock."""
    files = sorted(p for p in (data_dir / "certify_logs").rglob("*") if p.suffix in {".tsv", ".xz"})
    assert len(files) == 18
    seen = set()
    for file in files:
        log = load_log(file, strict=True)
        raw = file.read_bytes()
        text = (lzma.decompress(raw) if file.suffix == ".xz" else raw).decode()
        rows = list(csv.DictReader(text.splitlines(), delimiter="\t"))
        for name in ("idx", "label", "predict", "correct"):
            np.testing.assert_array_equal(getattr(log, name), [int(row[name]) for row in rows])
        np.testing.assert_array_equal(log.radius, [float(row["radius"]) for row in rows])
        if "time" not in rows[0]:
            seen.add("no time")
            assert log.time is None
            continue
        seen.add("clock" if ":" in rows[0]["time"] else "seconds")
        assert log.time is not None
        for seconds, row in zip(log.time, rows, strict=True):
            if ":" in row["time"]:
                form = "%H:%M:%S.%f" if "." in row["time"] else "%H:%M:%S"
                clock = datetime.strptime(row["time"], form) - datetime(1900, 1, 1)
                assert seconds == pytest.approx(clock.total_seconds(), abs=1e-9)
            else:
                assert seconds == float(row["time"])
    assert seen == {"clock", "seconds", "no time"}


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("15.4", 15.4),
        ("0", 0.0),
        ("1e-3", 0.001),
        ("0:00:13.736080", 13.73608),
        ("0:00:13", 13.0),
        ("30:00:00.5", 108000.5),
        ("1 day, 2:03:04", 93784.0),
        ("2 days, 0:00:00.000001", 172800.000001),
    ],
)
def test_time_formats(tmp_path: Path, text: str, seconds: float) -> None:
    path = tmp_path / "log.tsv"
    path.write_text(f"{HEAD}0\t1\t1\t0.5\t1\t{text}\n")
    log = load_log(path)
    assert log.time is not None
    assert log.time[0] == pytest.approx(seconds, abs=1e-9)


def test_any_timedelta_reads_back(tmp_path: Path) -> None:
    """Oracle: str(timedelta), which is what wrote the published logs."""
    draw = random.Random(0)
    times = [timedelta(microseconds=int(10 ** draw.uniform(0, 12))) for _ in range(301)]
    path = tmp_path / "log.tsv"
    path.write_text(HEAD + "".join(f"{k}\t1\t1\t0.5\t1\t{t}\n" for k, t in enumerate(times)))
    np.testing.assert_allclose(load_log(path).time, [t.total_seconds() for t in times], atol=1e-9)


def test_compression_is_recognised_by_content(tmp_path: Path) -> None:
    plain = f"{HEAD}0\t1\t1\t0.5\t1\t2.5\n".encode()
    for name, data in (
        ("a.tsv", plain),
        ("b.tsv.gz", gzip.compress(plain)),
        ("c.tsv.xz", lzma.compress(plain)),
        ("d.tsv", lzma.compress(plain)),
    ):
        (tmp_path / name).write_bytes(data)
        log = load_log(tmp_path / name)
        assert (len(log), log.radius[0], log.name) == (1, 0.5, name[0])
    for name, data in (("e.xz", lzma.compress(plain)), ("f.gz", gzip.compress(plain))):
        (tmp_path / name).write_bytes(data[:-9])
        with pytest.raises(LogFormatError, match=rf"{name}.*cut short"):
            load_log(tmp_path / name)


def test_comment_extra_columns_any_order_and_windows_lines(tmp_path: Path) -> None:
    path = tmp_path / "log.tsv"
    path.write_bytes(
        b'# some tool {"sigma": 0.5, "seed": 18446744073709551615, "model": "\xc3\xa9"}\r\n'
        b"note\tcorrect\tradius\tpredict\tlabel\tidx\r\n"
        b"hello\t1\t0.5\t4\t4\t7\r\n"
    )
    log = load_log(path, strict=True)
    assert (log.idx[0], log.label[0], log.predict[0], log.radius[0], log.correct[0]) == (
        7,
        4,
        4,
        0.5,
        True,
    )
    assert log.metadata == {"sigma": 0.5, "seed": 2**64 - 1, "model": "é"}
    assert log.setting("sigma") == 0.5
    assert log.setting("seed") == 2**64 - 1
    assert log.setting("alpha") is None
    with pytest.raises(ValueError, match="model expected a finite number, got 'é'"):
        log.setting("model")
    assert (log.time, log.p_lower, log.n, log.count) == (None, None, None, None)


def test_header_only_is_an_empty_log(tmp_path: Path) -> None:
    path = tmp_path / "log.tsv"
    path.write_text(HEAD)
    log = load_log(path)
    assert len(log) == 0
    assert log.radius.dtype == np.float64
    assert log.idx.dtype == np.int64


GOOD = "0\t1\t1\t0.5\t1\t2.5\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1: expected the column names, got nothing"),
        ("# {}\n", "line 2: expected the column names"),
        ("# {\n" + HEAD, "line 1: malformed JSON"),
        ("# no json\n" + HEAD, "line 1: expected a JSON object"),
        ("# [1]\n" + HEAD, "line 1: expected a JSON object"),
        ("idx label predict radius correct time\n", "line 1: .*found no 'idx'"),
        (HEAD.replace("radius", "r"), "line 1: .*found no 'radius'"),
        (HEAD.replace("time", "idx"), "line 1: a column name occurs twice"),
        (HEAD + GOOD + "1\t1\t1\t0.5\t1\n", "line 3: expected 6 tab-separated fields, got 5"),
        (HEAD + GOOD + "\n", "line 3: expected 6 tab-separated fields, got 1"),
        (HEAD + GOOD + GOOD, "line 3: idx expected every image once, .*got 0"),
        (HEAD + "-1\t1\t1\t0.5\t1\t2.5\n", "line 2: idx expected an index >= 0, got -1"),
        (HEAD + "x\t1\t1\t0.5\t1\t2.5\n", "line 2: idx expected an integer, got 'x'"),
        (HEAD + "1_0\t1\t1\t0.5\t1\t2.5\n", "line 2: idx expected an integer, got '1_0'"),
        (HEAD + "0\t1.0\t1\t0.5\t1\t2.5\n", "line 2: label expected an integer, got '1.0'"),
        (HEAD + "0\t1\t-2\t0.5\t0\t2.5\n", "line 2: predict expected a class or -1"),
        (HEAD + "0\t1\t1\tnan\t1\t2.5\n", "line 2: radius expected a finite number, got 'nan'"),
        (HEAD + "0\t1\t1\tinf\t1\t2.5\n", "line 2: radius expected a finite number, got 'inf'"),
        (HEAD + "0\t1\t1\t1e999\t1\t2.5\n", "line 2: radius expected a finite number"),
        (HEAD + "0\t1\t1\t-0.5\t1\t2.5\n", "line 2: radius expected a finite number >= 0"),
        (HEAD + "0\t1\t1\t 0.5\t1\t2.5\n", "line 2: radius expected a finite number, got ' 0.5'"),
        (HEAD + "0\t1\t-1\t0.5\t0\t2.5\n", "line 2: radius expected 0 where predict is -1"),
        (HEAD + "0\t1\t1\t0.5\t2\t2.5\n", "line 2: correct expected 0 or 1, got '2'"),
        (HEAD + "0\t1\t2\t0.5\t1\t2.5\n", "line 2: correct expected predict == label"),
        (HEAD + "0\t1\t1\t0.5\t0\t2.5\n", "line 2: correct expected predict == label"),
        (HEAD + "0\t-1\t-1\t0.0\t1\t2.5\n", "line 2: correct expected .* no abstention"),
        (HEAD + "0\t1\t1\t0.5\t1\t-2\n", "line 2: time expected seconds >= 0"),
        (HEAD + "0\t1\t1\t0.5\t1\t0:61:00\n", "line 2: time expected a time, got '0:61:00'"),
        (HEAD + "0\t1\t1\t0.5\t1\t-1 day, 0:00:01\n", "line 2: time expected a time"),
    ],
)
def test_malformed_logs_are_refused_with_file_and_line(
    tmp_path: Path, text: str, message: str
) -> None:
    path = tmp_path / "bad.tsv"
    path.write_text(text)
    with pytest.raises(LogFormatError, match=rf"bad\.tsv, {message}"):
        load_log(path)


@pytest.mark.parametrize(
    ("tail", "message"),
    [
        ("1.5\t10\t5", "p_lower expected 0 to 1, got 1.5"),
        ("0.5\t10\t11", "count expected 0 <= count <= n, got 11"),
        ("0.5\t-1\t0", "n expected a number of samples >= 0, got -1"),
        ("0.5\t10\t-1", "count expected 0 <= count <= n, got -1"),
    ],
)
def test_contradictory_counts_are_refused(tmp_path: Path, tail: str, message: str) -> None:
    path = tmp_path / "bad.tsv"
    path.write_text(f"{HEAD[:-1]}\tp_lower\tn\tcount\n{GOOD[:-1]}\t{tail}\n")
    with pytest.raises(LogFormatError, match=rf"bad\.tsv, line 2: {message}"):
        load_log(path)


def test_text_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bad.tsv"
    path.write_bytes(f"{HEAD}{GOOD}".encode() + b"\xff\n")
    with pytest.raises(LogFormatError, match="line 3: expected UTF-8"):
        load_log(path)


def test_every_prefix_of_a_log_gives_its_whole_lines(tmp_path: Path) -> None:
    """A running log: complete rows are returned, a partial one is never half believed."""
    path = tmp_path / "log.tsv"
    header_end = GOLDEN.index(b"count\n") + 6
    for size in range(len(GOLDEN) + 1):
        prefix = GOLDEN[:size]
        path.write_bytes(prefix)
        cut = bool(prefix) and not prefix.endswith(b"\n")
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            if size < header_end:
                with pytest.raises(LogFormatError, match=r"log\.tsv, line [12]: expected"):
                    load_log(path)
            else:
                log = load_log(path)
                assert log.idx.tolist() == [0, 20, 40][: prefix.count(b"\n") - 2]
        assert [w.category for w in caught] == [TruncatedLogWarning] * cut
        if cut:
            with pytest.raises(LogFormatError, match="expected a newline at the end"):
                load_log(path, strict=True)


def test_log_from_arrays_is_checked_and_read_only() -> None:
    columns: dict[str, Any] = {
        "idx": np.array([0, 1], np.int32),
        "label": [1, 1],
        "predict": [1, -1],
        "radius": np.array([0.5, 0], np.float32),
        "correct": [True, False],
    }
    log = CertificationLog(**columns)
    assert (log.name, len(log), log.radius.dtype, log.idx.dtype) == ("log", 2, float, np.int64)
    with pytest.raises(ValueError, match="read-only"):
        log.radius[0] = 9.0
    with pytest.raises(ValueError, match=r"time expected shape \(2,\) like idx, got \(3,\)"):
        CertificationLog(**columns, time=np.ones(3))
    with pytest.raises(TypeError, match="label expected integers, got dtype float64"):
        CertificationLog(**columns | {"label": [1.0, 1.5]})
    with pytest.raises(ValueError, match="row 1: radius expected a finite number >= 0, got nan"):
        CertificationLog(**columns | {"radius": [0.5, np.nan]})


# ---------------------------------------------------------------- writing


def test_bytes_of_a_log(tmp_path: Path) -> None:
    """Oracle: the bytes written out by hand above."""
    path = tmp_path / "log.tsv"
    finish(path)
    assert path.read_bytes() == GOLDEN


def test_values_read_back_exact(tmp_path: Path) -> None:
    path = tmp_path / "log.tsv"
    rng = np.random.default_rng(0)
    radii = np.float32(rng.random(33)) * 10.0 ** rng.integers(-8, 3, 33)
    with LogWriter.open(path, CONFIG, fsync=False) as writer:
        for k, radius in enumerate(radii):
            writer.write(
                np.int64(k), label=np.int64(1), predict=np.int32(1), radius=np.float64(radius),
                seconds=0.0, p_lower=np.float32(0.7), n=np.int64(9), count=8,
            )  # fmt: skip
    log = load_log(path, strict=True)
    np.testing.assert_array_equal(log.radius, radii)
    np.testing.assert_array_equal(log.p_lower, np.full(33, np.float64(np.float32(0.7))))
    assert log.metadata == CONFIG


def test_resuming_from_every_byte_ends_with_the_same_bytes(tmp_path: Path) -> None:
    path = tmp_path / "log.tsv"
    for tail in (b"", b"\x00\x00\x00"):  # a file system may leave zeros after a power cut
        for size in range(len(GOLDEN) + 1):
            if tail and size < GOLDEN.index(b"count\n") + 6:
                continue
            path.write_bytes(GOLDEN[:size] + tail)
            finish(path, fsync=False)
            assert path.read_bytes() == GOLDEN, f"after {size} bytes"


def test_finished_names_the_whole_rows(tmp_path: Path) -> None:
    path = tmp_path / "log.tsv"
    path.write_bytes(GOLDEN[:-2])
    with LogWriter.open(path, CONFIG) as writer:
        assert writer.finished == {0, 20}
        writer.write(**ROWS[2])
        assert writer.finished == {0, 20, 40}
        with pytest.raises(ValueError, match=r"idx expected an image not yet in .*, got 20"):
            writer.write(**ROWS[1])
    assert path.read_bytes() == GOLDEN


KILLED = """
import sys, time
from tamis.smoothing.logs import LogWriter
with LogWriter.open(sys.argv[1], {"sigma": 0.5}) as writer:
    for idx in range(0, 200, 5):
        if idx not in writer.finished:
            writer.write(idx, label=1, predict=1, radius=idx / 7, seconds=time.perf_counter(),
                         p_lower=0.9, n=100, count=99)
            print(idx, flush=True)
"""


def test_kill_9_and_the_same_command_again(tmp_path: Path) -> None:
    """A real SIGKILL, at a different row each time, against an uninterrupted run."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}

    def start(path: Path) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", KILLED, str(path)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True)

    killed, whole = tmp_path / "killed.tsv", tmp_path / "whole.tsv"
    for rows in (1, 3, 13):
        with start(killed) as process:
            assert process.stdout is not None
            for _ in range(rows):
                process.stdout.readline()
            process.send_signal(signal.SIGKILL)
        assert process.returncode == -signal.SIGKILL
    for path in (killed, whole):
        with start(path) as process:
            process.communicate()
        assert process.returncode == 0
    assert len(load_log(whole, strict=True)) == 40
    assert without_time(killed.read_bytes()) == without_time(whole.read_bytes())


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"sigma": 0.5}, r"sigma: the log has 0\.25, this run has 0\.5$"),
        ({"seed": 1}, r"seed: the log has 18446744073709551615, this run has 1$"),
        ({"n0": 100}, r"n0: the log has nothing, this run has 100$"),
        ({"mean": [0.5]}, r"mean: the log has \[0\.5,0\.25\], this run has \[0\.5\]$"),
        ({"alpha": None}, r"alpha: the log has 0\.001, this run has null$"),
        ({"sigma": 1, "alpha": 1}, r"alpha: .* has 0\.001, .* has 1; sigma: .* 0\.25, .* has 1$"),
    ],
)
def test_another_configuration_is_refused_and_the_log_left_alone(
    tmp_path: Path, changed: dict[str, Any], message: str
) -> None:
    path = tmp_path / "log.tsv"
    for size in (len(GOLDEN), len(GOLDEN) - 3, GOLDEN.index(b"\n") + 4):
        path.write_bytes(GOLDEN[:size])
        before = path.stat()
        with pytest.raises(LogConfigError, match=message):
            LogWriter.open(path, CONFIG | changed)
        assert path.read_bytes() == GOLDEN[:size]
        assert path.stat().st_mtime_ns == before.st_mtime_ns


def test_missing_key_and_number_types_count_as_other_configurations(tmp_path: Path) -> None:
    path = tmp_path / "log.tsv"
    path.write_bytes(GOLDEN)
    fewer = {key: value for key, value in CONFIG.items() if key != "seed"}
    with pytest.raises(LogConfigError, match=r"seed: the log has \d+, this run has nothing$"):
        LogWriter.open(path, fewer)
    path.unlink()
    LogWriter.open(path, {"n": 1}).close()
    with pytest.raises(LogConfigError, match=r"n: the log has 1, this run has 1\.0"):
        LogWriter.open(path, {"n": 1.0})
    LogWriter.open(path, {"n": 1}).close()


def test_header_is_compared_by_meaning(tmp_path: Path) -> None:
    """A header that was reformatted by hand still is this configuration's, cut short or not."""
    path = tmp_path / "log.tsv"
    comment = b'# tamis certify { "n": 1,  "a": [0.5] }\n'
    columns = GOLDEN.split(b"\n")[1] + b"\n"
    for size in range(len(columns) + 1):
        path.write_bytes(comment + columns[:size])
        LogWriter.open(path, {"a": (0.5,), "n": 1}, fsync=False).close()
        assert path.read_bytes() == comment + columns


def test_a_cut_header_of_another_configuration_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "log.tsv"
    other = CONFIG | {"alpha": 0.002}
    differ = GOLDEN.index(b"0.001") + 4  # up to here the two headers agree
    for size in range(GOLDEN.index(b"\n")):
        path.write_bytes(GOLDEN[:size])
        if size <= differ:
            LogWriter.open(path, other, fsync=False).close()
            assert path.read_bytes().count(b"\n") == 2
        else:
            with pytest.raises(LogConfigError, match="cut-short header of another configuration"):
                LogWriter.open(path, other)
            assert path.read_bytes() == GOLDEN[:size]


@pytest.mark.parametrize(
    "content",
    [
        f"{HEAD}{GOOD}".encode(),  # the published format
        b"\x89PNG\r\n\x1a\n",
        b"# tamis train {}\n",
        b"\n",
        b"# tamis certify {]\n",
        b"# tamis certify {}\n" + HEAD.encode(),
        GOLDEN.replace(b"0.9999999999999999", b"nan"),
        GOLDEN.replace(b"\n20\t", b"\n0\t"),
        GOLDEN + b"\x00\n",
    ],
)
def test_anything_else_is_refused_and_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "log.tsv"
    path.write_bytes(content)
    config = {} if b"{}" in content else CONFIG
    with pytest.raises(LogFormatError, match=r"log\.tsv"):
        LogWriter.open(path, config)
    assert path.read_bytes() == content


def test_impossible_paths_and_configurations(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError):
        LogWriter.open(tmp_path, CONFIG)
    with pytest.raises(FileNotFoundError):
        LogWriter.open(tmp_path / "no" / "log.tsv", CONFIG)
    with pytest.raises(ValueError, match="compress it when finished"):
        LogWriter.open(tmp_path / "log.tsv.xz", CONFIG)
    with pytest.raises(TypeError, match="config expected string keys, got 1"):
        LogWriter.open(tmp_path / "log.tsv", {1: 2})  # type: ignore[dict-item]
    with pytest.raises(ValueError, match="JSON"):
        LogWriter.open(tmp_path / "log.tsv", {"sigma": float("nan")})
    with pytest.raises(TypeError, match="JSON"):
        LogWriter.open(tmp_path / "log.tsv", {"sigma": object()})
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(LogFormatError, match="expected a regular file"):
        LogWriter.open(tmp_path / "pipe", CONFIG)
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]


def test_only_one_writer_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "log.tsv"
    with LogWriter.open(path, CONFIG) as writer:
        writer.write(**ROWS[0])
        with pytest.raises(LogLockedError, match=r"log\.tsv: another process is writing"):
            LogWriter.open(path, CONFIG)
        assert len(load_log(path)) == 1  # reading, and closing what was read, is no obstacle
        with pytest.raises(LogLockedError):
            LogWriter.open(path, CONFIG)
        writer.write(**ROWS[1])
    finish(path)
    assert path.read_bytes() == GOLDEN
    writer.close()
    with pytest.raises(ValueError, match="the log is closed"):
        writer.write(**ROWS[2] | {"idx": 60})


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"radius": np.nan}, "radius expected a finite number >= 0, got nan"),
        ({"radius": -1.0}, "radius expected a finite number >= 0"),
        ({"predict": -1}, "radius expected 0 where predict is -1"),
        ({"p_lower": 1.5}, "p_lower expected 0 to 1"),
        ({"count": 1001}, "count expected 0 <= count <= n"),
        ({"seconds": -0.1}, "time expected seconds >= 0"),
        ({"idx": -5}, "idx expected an index >= 0"),
    ],
)
def test_bad_rows_are_refused_before_anything_is_written(
    tmp_path: Path, changed: dict[str, Any], message: str
) -> None:
    path = tmp_path / "log.tsv"
    with LogWriter.open(path, CONFIG) as writer:
        empty = path.read_bytes()
        with pytest.raises(ValueError, match=f"^{message}"):
            writer.write(**ROWS[0] | changed)
        with pytest.raises(TypeError, match="label expected integers"):
            writer.write(**ROWS[0] | {"label": 1.5})
        assert path.read_bytes() == empty
        for row in ROWS:
            writer.write(**row)
    assert path.read_bytes() == GOLDEN


def test_one_write_and_one_sync_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    write, fsync = os.write, os.fsync

    def spy_write(descriptor: int, data: bytes) -> int:
        calls.append("write")
        return write(descriptor, data)

    def spy_fsync(descriptor: int) -> None:
        calls.append("fsync")
        fsync(descriptor)

    monkeypatch.setattr(module.os, "write", spy_write)
    monkeypatch.setattr(module.os, "fsync", spy_fsync)
    for sync, expected in ((True, ["write", "fsync"]), (False, ["write"])):
        path = tmp_path / f"{sync}.tsv"
        with LogWriter.open(path, CONFIG, fsync=sync) as writer:
            for row in ROWS:
                calls.clear()
                writer.write(**row)
                assert calls == expected
        assert path.read_bytes() == GOLDEN


@pytest.mark.parametrize(
    "failure", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()]
)
@pytest.mark.parametrize("written", [0, 1, 17])
def test_a_row_that_fails_halfway_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: int, failure: BaseException
) -> None:
    path = tmp_path / "log.tsv"
    write = os.write
    state = {"fail": False, "short": False}

    def full_disk(descriptor: int, data: bytes) -> int:
        if not state["fail"]:
            return write(descriptor, data)
        if written and not state["short"]:
            state["short"] = True
            return write(descriptor, data[:written])
        raise failure

    monkeypatch.setattr(module.os, "write", full_disk)
    with LogWriter.open(path, CONFIG) as writer:
        writer.write(**ROWS[0])
        before = path.read_bytes()
        state["fail"] = True
        with pytest.raises(type(failure)):
            writer.write(**ROWS[1])
        assert path.read_bytes() == before
        assert writer.finished == {0}
        state["fail"] = False  # space again: the same row goes in, the log is as it should be
        for row in ROWS[1:]:
            writer.write(**row)
    assert path.read_bytes() == GOLDEN


def test_short_writes_are_completed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr(module.os, "write", lambda fd, data: write(fd, data[:7]))
    finish(tmp_path / "log.tsv")
    assert (tmp_path / "log.tsv").read_bytes() == GOLDEN


def test_a_failed_sync_takes_the_row_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "log.tsv"
    with LogWriter.open(path, CONFIG) as writer:
        before = path.read_bytes()

        def broken(descriptor: int) -> None:
            raise OSError(errno.EIO, "Input/output error")

        with monkeypatch.context() as patch:
            patch.setattr(module.os, "fsync", broken)
            with pytest.raises(OSError, match="Input/output"):
                writer.write(**ROWS[0])
        assert path.read_bytes() == before


def test_a_real_file_size_limit(tmp_path: Path) -> None:
    """RLIMIT_FSIZE makes the kernel cut a write short and then fail it, as a full disk does."""
    code = textwrap.dedent("""
        import resource, sys
        from tamis.smoothing.logs import LogWriter
        with LogWriter.open(sys.argv[1], {"sigma": 0.5}) as writer:
            size = sys.argv[2]
            resource.setrlimit(resource.RLIMIT_FSIZE, (int(size), int(size)))
            for idx in range(9):
                writer.write(idx, label=1, predict=1, radius=0.5, seconds=1.0, p_lower=0.9,
                             n=100, count=99)
    """)
    path = tmp_path / "log.tsv"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[1] == resource.RLIM_INFINITY
    command = [sys.executable, "-c", code, str(path), "230"]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert "File too large" in result.stderr
    raw = path.read_bytes()
    assert raw.endswith(b"\t99\n")
    assert 0 < len(load_log(path, strict=True)) < 9
    assert len(raw) < 230
