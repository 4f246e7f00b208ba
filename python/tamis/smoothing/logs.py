"""Certification logs: reading every format the field uses, and writing one that survives a kill.

A log is a tab-separated table with one row per certified image, columns ``idx label predict radius
correct time`` (the format of [Cohen19]'s published logs); anything more goes after them. The logs
written here add ``p_lower n count`` and a first line ``# tamis certify {json}`` that records the
configuration, so that a log explains itself and a resumed run cannot mix two configurations.
Reader and writer stand in one file, past the usual 400 lines, because a resumed writer must accept
exactly what the reader accepts.
"""

from __future__ import annotations

import errno
import gzip
import json
import lzma
import math
import os
import re
import stat
import warnings
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "ABSTAIN",
    "CertificationLog",
    "LogConfigError",
    "LogFormatError",
    "LogLockedError",
    "LogWriter",
    "TruncatedLogWarning",
    "load_log",
]

ABSTAIN: Final = -1
COLUMNS: Final = ("idx", "label", "predict", "radius", "correct", "time", "p_lower", "n", "count")
_REQUIRED: Final = COLUMNS[:5]  # the published 10,000-image logs carry no time
_INTEGER_COLUMNS: Final = frozenset({"idx", "label", "predict", "correct", "n", "count"})
_PREFIX: Final = b"# tamis certify "
_COLUMN_ROW: Final = ("\t".join(COLUMNS) + "\n").encode()

# Stricter than int() and float(), which take "1_0", " 1" and other scripts' digits.
_INTEGER = re.compile(r"[+-]?[0-9]{1,18}")
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_CLOCK = re.compile(r"(?:([0-9]+) days?, )?([0-9]+):([0-5]?[0-9]):([0-5]?[0-9](?:\.[0-9]{1,9})?)")


class LogFormatError(ValueError):
    """A file is not a well-formed certification log; the message names file and line."""


class LogConfigError(ValueError):
    """An existing log records another configuration than the one asked for."""


class LogLockedError(RuntimeError):
    """Another process is writing to this log."""


class TruncatedLogWarning(UserWarning):
    """The last line of a log has no newline, as in a run in progress; it was ignored."""


class _RowError(ValueError):
    def __init__(self, row: int, problem: str) -> None:
        super().__init__(f"row {row}: {problem}")
        self.row = row
        self.problem = problem


@dataclass(frozen=True, eq=False)
class CertificationLog:
    """One certification run: a column per field, a row per image, in the order of the file.

    Parameters
    ----------
    idx : array of int64, shape (m,)
        Index of the image in its data set; no index occurs twice.
    label, predict : array of int64, shape (m,)
        True class, and certified class or ``ABSTAIN`` (-1).
    radius : array of float64, shape (m,)
        Certified l2 radius in input units; 0 where the run abstained. Published logs round it to
        3 significant digits or 4 decimals.
    correct : array of bool, shape (m,)
        ``predict == label``, false for abstentions.
    time : array of float64, shape (m,), or None
        Seconds spent on the image.
    p_lower : array of float64, shape (m,), or None
        Lower confidence bound on the probability of the predicted class.
    n, count : array of int64, shape (m,), or None
        Noisy samples used for the bound, and how many of them voted for the predicted class.
    metadata : dict or None
        What the ``#`` comment in the header recorded.
    path : pathlib.Path or None
        Where the log was read from.

    Raises
    ------
    TypeError
        If an integer column does not hold integers.
    ValueError
        If columns differ in length or a row contradicts itself (the message names the row).

    Notes
    -----
    Arrays are copied and made read-only. ``m = 0`` is a valid log: a run that has just begun.
    """

    idx: NDArray[np.int64]
    label: NDArray[np.int64]
    predict: NDArray[np.int64]
    radius: NDArray[np.float64]
    correct: NDArray[np.bool_]
    time: NDArray[np.float64] | None = None
    p_lower: NDArray[np.float64] | None = None
    n: NDArray[np.int64] | None = None
    count: NDArray[np.int64] | None = None
    metadata: dict[str, Any] | None = None
    path: Path | None = None

    def __post_init__(self) -> None:
        for name in COLUMNS:
            value = getattr(self, name)
            if value is None and name not in _REQUIRED:
                continue
            source = np.asarray(value)
            if name in _INTEGER_COLUMNS and source.size and source.dtype.kind not in "iub":
                raise TypeError(f"{name} expected integers, got dtype {source.dtype}")
            integer: type = np.bool_ if name == "correct" else np.int64
            kind = integer if name in _INTEGER_COLUMNS else np.float64
            column: NDArray[Any] = source.astype(kind)
            if column.shape != (np.size(self.idx),):
                raise ValueError(
                    f"{name} expected shape ({np.size(self.idx)},) like idx, got {column.shape}"
                )
            column.setflags(write=False)
            object.__setattr__(self, name, column)
        self._check_rows()

    def __len__(self) -> int:
        return int(self.idx.size)

    @property
    def name(self) -> str:
        """File name without the endings .tsv, .txt, .log, .xz and .gz; ``"log"`` if not read."""
        if self.path is None:
            return "log"
        return re.sub(r"(\.(tsv|txt|log))?(\.(xz|gz))?$", "", self.path.name) or self.path.name

    def setting(self, key: str) -> float | None:
        """Number that the header recorded under `key`, or None if it recorded none.

        Raises
        ------
        ValueError
            If the recorded value is not a finite number.
        """
        got = None if self.metadata is None else self.metadata.get(key)
        if got is None:
            return None
        if isinstance(got, bool) or not isinstance(got, int | float) or not math.isfinite(got):
            raise ValueError(f"{self.path or 'log'}: {key} expected a finite number, got {got!r}")
        return got

    def _check_rows(self) -> None:
        """Raise for the first row that contradicts itself or an earlier one."""

        def refuse(bad: NDArray[np.bool_], problem: str, column: str) -> None:
            if bad.any():
                row = int(np.argmax(bad))
                got = getattr(self, column)[row]
                raise _RowError(row, f"{column} {problem}, got {got}")

        def not_finite(values: NDArray[np.float64]) -> NDArray[np.bool_]:
            return ~(np.isfinite(values) & (values >= 0))

        first = np.zeros(len(self), dtype=np.bool_)
        first[np.unique(self.idx, return_index=True)[1]] = True
        refuse(self.idx < 0, "expected an index >= 0", "idx")
        refuse(~first, "expected every image once, this one occurs twice", "idx")
        abstained = self.predict == ABSTAIN
        refuse(self.predict < ABSTAIN, "expected a class or -1 (abstain)", "predict")
        refuse(not_finite(self.radius), "expected a finite number >= 0", "radius")
        refuse(abstained & (self.radius > 0), "expected 0 where predict is -1", "radius")
        right = (self.predict == self.label) & ~abstained
        refuse(self.correct != right, "expected predict == label and no abstention", "correct")
        if self.time is not None:
            refuse(not_finite(self.time), "expected seconds >= 0", "time")
        if self.p_lower is not None:
            refuse(not_finite(self.p_lower) | (self.p_lower > 1), "expected 0 to 1", "p_lower")
        if self.n is not None:
            refuse(self.n < 0, "expected a number of samples >= 0", "n")
        if self.count is not None:
            most = np.inf if self.n is None else self.n
            refuse((self.count < 0) | (self.count > most), "expected 0 <= count <= n", "count")


def load_log(path: str | os.PathLike[str], *, strict: bool = False) -> CertificationLog:
    """Read a certification log.

    Understands tab-separated logs, plain or compressed (xz, gzip; recognised by content), with or
    without a ``#`` line of JSON before the column names, columns in any order, and a ``time``
    column holding seconds, ``H:MM:SS.ffffff`` or ``N days, H:MM:SS.ffffff``. Columns of other names
    are ignored; ``time``, ``p_lower``, ``n`` and ``count`` may be absent.

    Parameters
    ----------
    path : path-like
        File to read.
    strict : bool, default False
        A last line without newline is an error instead of a ``TruncatedLogWarning``.

    Returns
    -------
    CertificationLog
        With no rows if the file holds only its header.

    Raises
    ------
    OSError
        If the file cannot be read.
    LogFormatError
        (a ValueError) If anything in it is malformed; the message names file and line.
    """
    where = Path(path)
    raw = _decompress(where.read_bytes(), where)
    end = raw.rfind(b"\n") + 1
    if end < len(raw):
        line = raw.count(b"\n") + 1
        if strict:
            raise LogFormatError(f"{where}, line {line}: expected a newline at the end, got none")
        # A cut number still reads as a number, so a line without newline can never be trusted.
        message = f"{where}: ignored line {line}, which has no newline (a run in progress?)"
        warnings.warn(message, TruncatedLogWarning, stacklevel=2)
    return _parse(raw[:end], where)


def _decompress(raw: bytes, where: Path) -> bytes:
    try:
        if raw.startswith(b"\xfd7zXZ\x00"):
            return lzma.decompress(raw)
        if raw.startswith(b"\x1f\x8b"):
            return gzip.decompress(raw)
    except (lzma.LZMAError, EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise LogFormatError(f"{where}: damaged or cut short: {error}") from error
    return raw


def _parse(raw: bytes, where: Path) -> CertificationLog:
    """Parse a whole log; `raw` is empty or ends with a newline."""
    try:
        lines = raw.decode("utf-8").split("\n")[:-1]
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise LogFormatError(f"{where}, line {line}: expected UTF-8 text") from error
    lines = [line.removesuffix("\r") for line in lines]
    metadata = None
    start = 0
    if lines and lines[0].startswith("#"):
        metadata = _parse_comment(lines[0], where)
        start = 1
    if len(lines) <= start:
        raise LogFormatError(f"{where}, line {start + 1}: expected the column names, got nothing")
    header = lines[start].split("\t")
    for name in _REQUIRED:
        if name not in header:
            raise LogFormatError(
                f"{where}, line {start + 1}: expected tab-separated columns "
                f"{' '.join(_REQUIRED)}, found no {name!r} in {lines[start][:80]!r}"
            )
    if len(set(header)) < len(header):
        raise LogFormatError(f"{where}, line {start + 1}: a column name occurs twice: {header}")
    places = {name: header.index(name) for name in COLUMNS if name in header}
    values: dict[str, list[float]] = {name: [] for name in places}
    for number, row in enumerate(lines[start + 1 :], start + 2):
        fields = row.split("\t")
        if len(fields) != len(header):
            raise LogFormatError(
                f"{where}, line {number}: expected {len(header)} tab-separated fields, "
                f"got {len(fields)}"
            )
        for name, place in places.items():
            value = _parse_field(name, fields[place])
            if value is None:
                kind = {"time": "a time", "correct": "0 or 1"}.get(
                    name, "an integer" if name in _INTEGER_COLUMNS else "a finite number"
                )
                raise LogFormatError(
                    f"{where}, line {number}: {name} expected {kind}, got {fields[place]!r}"
                )
            values[name].append(value)
    columns: dict[str, Any] = dict(values)
    try:
        return CertificationLog(**columns, metadata=metadata, path=where)
    except _RowError as error:
        raise LogFormatError(f"{where}, line {start + 2 + error.row}: {error.problem}") from None


def _parse_comment(line: str, where: Path) -> dict[str, Any]:
    brace = line.find("{")
    try:
        metadata = json.loads(line[brace:]) if brace >= 0 else None
    except json.JSONDecodeError as error:
        raise LogFormatError(f"{where}, line 1: malformed JSON after '#': {error}") from error
    if not isinstance(metadata, dict):
        raise LogFormatError(f"{where}, line 1: expected a JSON object after '#'")
    return metadata


def _parse_field(name: str, text: str) -> float | None:
    """Value of one field, None if malformed."""
    if name == "correct":
        return {"0": 0, "1": 1}.get(text)
    if name in _INTEGER_COLUMNS:
        return int(text) if _INTEGER.fullmatch(text) else None
    if _NUMBER.fullmatch(text):
        return float(text) if math.isfinite(float(text)) else None
    clock = _CLOCK.fullmatch(text) if name == "time" else None
    if clock is None:
        return None
    days, hours, minutes, seconds = clock.groups(default="0")
    return 86400.0 * int(days) + 3600.0 * int(hours) + 60.0 * int(minutes) + float(seconds)


def _format_time(seconds: float) -> str:
    microseconds = round(seconds * 1e6)
    minutes, rest = divmod(microseconds, 60_000_000)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest // 1_000_000:02d}.{rest % 1_000_000:06d}"


def _dump(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


class LogWriter:
    """Append-only writer of a certification log that any kill leaves resumable.

    Use ``LogWriter.open``. Each row reaches the file in one write to an ``O_APPEND`` descriptor
    and is then synced. Whatever byte a killed run stopped at, opening the log again with the same
    configuration cuts off a torn last line or completes a torn header; certifying the images that
    are not in ``finished``, in the order of the first run, then ends with the bytes of an
    uninterrupted run (the ``time`` column aside).

    One thread at a time may write. The lock goes with the descriptor, so processes forked while
    the log is open hold it until they end.
    """

    def __init__(self, descriptor: int, path: Path, finished: set[int], fsync: bool) -> None:
        self.path = path
        self._descriptor: int | None = descriptor
        self._finished = finished
        self._fsync = fsync

    @classmethod
    def open(
        cls, path: str | os.PathLike[str], config: Mapping[str, Any], *, fsync: bool = True
    ) -> LogWriter:
        """Create the log, or open it to go on where it stopped.

        Parameters
        ----------
        path : path-like
            The log. An existing file must be a log of this very configuration.
        config : mapping of str to JSON values
            Everything that decides the results (sigma, alpha, n0, n, seed, model hash, ...). Values
            are compared as JSON text: 1 and 1.0 differ, because the files would.
        fsync : bool, default True
            Sync each row to disk. Without it a kill loses nothing, a power cut may.

        Returns
        -------
        LogWriter
            ``writer.finished`` holds the indices already in the log.

        Raises
        ------
        LogConfigError
            (a ValueError) If the log records another configuration; each differing key is named.
        LogFormatError
            (a ValueError) If the file is not a log of this kind or is damaged.
        LogLockedError
            If another process is writing to it.
        TypeError, ValueError
            If `config` cannot be written as JSON.
        OSError
            If the file cannot be opened or written.

        Notes
        -----
        A file that is refused is not changed.
        """
        where = Path(path)
        if where.suffix in {".xz", ".gz"}:
            raise ValueError(f"path expected a plain file, got {where}: compress it when finished")
        for key in config:
            if not isinstance(key, str):
                raise TypeError(f"config expected string keys, got {key!r}")
        recorded = json.loads(_dump(dict(config)))  # tuples become lists, as a reader will see them
        header = _PREFIX + _dump(recorded).encode() + b"\n" + _COLUMN_ROW
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        descriptor = os.open(where, flags, 0o666)
        writer = cls(descriptor, where, set(), fsync)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise LogFormatError(f"{where}: expected a regular file")
            _lock(descriptor, where)
            raw = _read_all(descriptor, where)
            missing = _missing_header(raw, header, recorded, where)
            keep = len(raw) if missing else raw.rfind(b"\n") + 1
            if not missing:
                writer._finished.update(_parse(raw[:keep], where).idx.tolist())
            if keep < len(raw):
                os.ftruncate(descriptor, keep)
            writer._append(missing)
            if fsync and not raw:
                _sync_folder(where.parent)
        except BaseException:
            writer.close()
            raise
        return writer

    @property
    def finished(self) -> frozenset[int]:
        """Indices of the images that are in the log."""
        return frozenset(self._finished)

    def write(
        self,
        idx: int,
        *,
        label: int,
        predict: int,
        radius: float,
        seconds: float,
        p_lower: float,
        n: int,
        count: int,
    ) -> None:
        """Append the row of one image; when this returns, the row is in the file.

        Parameters
        ----------
        idx, label, predict : int
            Image, true class, and certified class or -1.
        radius : float
            Certified l2 radius in input units, 0 if abstained; written so that it reads back exact.
        seconds : float
            Time spent, rounded to microseconds.
        p_lower : float
            Lower confidence bound on the probability of the predicted class.
        n, count : int
            Samples used for the bound and votes for the predicted class among them.

        Raises
        ------
        ValueError
            If a value is out of range, contradicts another, or `idx` is in the log already.
        OSError
            If the row could not be written in full (disk full, ...). Nothing of it is left behind,
            and the same row may be written again.
        """
        if idx in self._finished:
            raise ValueError(f"idx expected an image not yet in {self.path}, got {idx}")
        correct = predict == label and predict != ABSTAIN
        try:  # the row must satisfy whatever the reader asks of it
            CertificationLog(
                idx=np.array([idx]),
                label=np.array([label]),
                predict=np.array([predict]),
                radius=np.array([radius]),
                correct=np.array([correct]),
                time=np.array([seconds]),
                p_lower=np.array([p_lower]),
                n=np.array([n]),
                count=np.array([count]),
            )
        except _RowError as error:
            raise ValueError(error.problem) from None
        # float(): the repr of a NumPy scalar names its type, and float32 would not read back exact.
        fields = (int(idx), int(label), int(predict), repr(float(radius)), int(correct))
        tail = (_format_time(seconds), repr(float(p_lower)), int(n), int(count))
        self._append(("\t".join(str(field) for field in fields + tail) + "\n").encode())
        self._finished.add(int(idx))

    def close(self) -> None:
        """Close the log and give up its lock; closing twice is harmless."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> LogWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _append(self, data: bytes) -> None:
        """Append all of `data` or, when that raises, nothing of it."""
        if self._descriptor is None:
            raise ValueError(f"{self.path}: the log is closed")
        start = os.fstat(self._descriptor).st_size
        try:
            rest = data
            while rest:  # a second turn only after a short write
                written = os.write(self._descriptor, rest)
                if written == 0:
                    raise OSError(errno.EIO, os.strerror(errno.EIO), str(self.path))
                rest = rest[written:]
            if self._fsync:
                os.fsync(self._descriptor)
        except BaseException:
            os.ftruncate(self._descriptor, start)
            raise


def _lock(descriptor: int, where: Path) -> None:
    try:
        import fcntl
    except ImportError as error:  # pragma: no cover - Windows
        raise OSError(f"{where}: writing a log needs POSIX file locks") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise LogLockedError(f"{where}: another process is writing to this log") from error


def _read_all(descriptor: int, where: Path) -> bytes:
    # A look at the start first: --out may name some huge file by mistake.
    start = os.pread(descriptor, len(_PREFIX), 0)
    if not _PREFIX.startswith(start):
        raise LogFormatError(
            f"{where}: the file exists and is not a log written by tamis certify (those begin with "
            f"{_PREFIX.decode().strip()!r}); it was left as it is, choose another name"
        )
    with os.fdopen(os.dup(descriptor), "rb") as file:
        file.seek(0)
        return file.read()


def _missing_header(raw: bytes, header: bytes, config: dict[str, Any], where: Path) -> bytes:
    """Bytes of the header that `raw` lacks at its end; LogConfigError if it is another run's."""
    if header.startswith(raw):
        return header[len(raw) :]
    comment, newline, rest = raw.partition(b"\n")
    if not newline:
        raise LogConfigError(
            f"{where}: holds the cut-short header of another configuration and no results; "
            "it was left as it is, remove it or choose another name"
        )
    recorded = _parse_comment(comment.decode("utf-8", "replace"), where)
    differing = []
    for key in sorted(recorded.keys() | config.keys()):
        ours, theirs = (_dump(c[key]) if key in c else "nothing" for c in (config, recorded))
        if ours != theirs:
            differing.append(f"{key}: the log has {theirs}, this run has {ours}")
    if differing:
        raise LogConfigError(
            f"{where}: the log was written with another configuration; it was left as it is. "
            + "; ".join(differing)
        )
    if not rest.startswith(_COLUMN_ROW) and not _COLUMN_ROW.startswith(rest):
        raise LogFormatError(f"{where}, line 2: expected the columns {' '.join(COLUMNS)}")
    return _COLUMN_ROW[len(rest) :]


def _sync_folder(folder: Path) -> None:
    # The name of a new file is safe only once its folder is on disk too.
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
