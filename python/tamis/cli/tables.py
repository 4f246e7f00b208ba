"""Tables of numbers from files, for ``tamis mean`` and ``tamis outliers``.

``.npy`` files are mapped, ``.npz`` and text files read. What a file is shows in its first bytes.
Nothing is unpickled, and every fault is a ValueError that names the file and the place in it.
"""

from __future__ import annotations

import csv
import gzip
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from tamis import _rows

__all__ = [
    "Layout",
    "Table",
    "head_of",
    "is_binary",
    "is_number",
    "load_table",
    "numbers_of",
    "read_text",
    "require_text",
    "text_column",
]

_KEYS = ("X", "x", "data", "features", "embeddings", "X_train", "x_train")
_DELIMITERS = ",;\t|"
_LISTED = 8  # names in one message
_FAULTS = (OSError, EOFError, UnicodeDecodeError, csv.Error)  # of text that is none


@dataclass(frozen=True, eq=False)
class Table:
    """Rows of a file.

    Attributes
    ----------
    path : Path
    values : array of shape (n, d), n >= 1, d >= 1
        float32 or float64, finite; possibly a read-only map of the file.
    names : list of str
        Of the d columns: from the header of a text file, else their numbers from 0 on.
    text : bool
        Whether rows have line numbers.
    """

    path: Path
    values: NDArray[Any]
    names: list[str]
    text: bool = False

    def lines(self, rows: Sequence[int]) -> list[int]:
        """Line numbers, from 1 on, of these rows of a text file."""
        wanted = dict.fromkeys(rows, 0)
        if wanted:
            with _open_text(self.path) as file:
                records = _records(file, Layout.of(self.path), stop=max(wanted) + 1)
                for row, (line, _) in enumerate(records):
                    if row in wanted:
                        wanted[row] = line
        return [wanted[row] for row in rows]


def load_table(path: Path, *, key: str | None = None, columns: Sequence[str] = ()) -> Table:
    """Read a table.

    Parameters
    ----------
    path : Path
        ``.npy``; ``.npz``; or text, plain or gzipped: a row a line, cells apart by commas,
        semicolons, tabs, bars or blanks, with or without a line of names; blank lines and those
        that begin with ``#`` are passed over.
    key : str, optional
        The array of an ``.npz`` file. Left out: X, x, data, features, embeddings, X_train or
        x_train, or the only array with two axes.
    columns : sequence of str
        Names, numbers from 0 on (-1: the last), or ranges ``start:stop`` of these. None: all.

    Returns
    -------
    Table
        float32 and float64 as they are, float16 as float32, all else as float64. An array with one
        axis is one column.

    Raises
    ------
    ValueError
        A damaged file, no numbers, no such array or column, or a value that is not finite.
    """
    head = head_of(path)
    if is_binary(head):
        array = _npz_array(path, key) if head[:2] == b"PK" else _npy_array(path, key)
        names = [str(column) for column in range(array.shape[1])]
        chosen = numbers_of(path, names, columns)
        first, stop = chosen[0], chosen[-1] + 1
        together = chosen == list(range(first, stop))  # then they need not be copied
        values = _rows.as_rows(array[:, first:stop] if together else array[:, chosen], str(path))
        return _finite(Table(path, values, [names[number] for number in chosen]))
    require_text(path, head, key)
    layout = Layout.of(path)
    return read_text(path, layout, numbers_of(path, layout.names, columns))


def require_text(path: Path, head: bytes, key: str | None) -> None:
    if key is not None:
        raise ValueError(f"{path}: a key is for .npz files, this is none")
    if head[:2] != b"\x1f\x8b" and b"\0" in head:
        raise ValueError(
            f"{path}: expected .npy, .npz or text, got a file that begins {head[:8]!r}"
        )


def head_of(path: Path) -> bytes:
    with path.open("rb") as file:
        head = file.read(4096)
    if not head:
        raise ValueError(f"{path}: expected a table, got an empty file")
    return head


def is_binary(head: bytes) -> bool:
    return head[:2] == b"PK" or head[:6] == b"\x93NUMPY"


def _npy_array(path: Path, key: str | None) -> NDArray[Any]:
    from tamis.smoothing.array_files import map_npy

    if key is not None:
        raise ValueError(f"{path}: a key is for .npz files, this is an .npy file")
    return _two_axes(map_npy(path), str(path))


def _npz_array(path: Path, key: str | None) -> NDArray[Any]:
    from tamis.smoothing.array_files import npz_members, read_npz_member

    members = npz_members(path)
    if key is not None and key not in members:
        raise ValueError(f"{path}: no array {key!r}, but {_list(list(members))}")
    if key is None:
        key = next((name for name in _KEYS if name in members), None)
    if key is None:
        tables = [n for n, info in members.items() if read_npz_member(path, info).ndim == 2]
        if len(tables) != 1:
            raise ValueError(
                f"{path}: expected an array X or a single one with two axes, got "
                f"{_list(list(members))}; choose one by its key"
            )
        key = tables[0]
    return _two_axes(read_npz_member(path, members[key]), f"{path}: array {key}")


def _two_axes(array: NDArray[Any], where: str) -> NDArray[Any]:
    if array.ndim == 1:
        array = array[:, np.newaxis]
    if array.ndim != 2 or 0 in array.shape or array.dtype.kind not in "fiub":
        raise ValueError(
            f"{where}: expected numbers in rows and columns, got {array.dtype} of shape "
            f"{array.shape}"
        )
    return array


def numbers_of(path: Path, names: list[str], columns: Sequence[str]) -> list[int]:
    """Numbers of columns; a name goes before a number that looks the same."""
    if not columns:
        return list(range(len(names)))
    chosen: list[int] = []
    words = ([text] if text in names else text.split(",") for text in columns)
    for word in chain.from_iterable(words):
        column = word.strip()
        bounds = re.fullmatch(r"(-?\d*):(-?\d*)", column)
        if column in names:
            chosen.append(names.index(column))
        elif re.fullmatch(r"-?\d+", column) and -len(names) <= int(column) < len(names):
            chosen.append(int(column) % len(names))
        elif bounds is not None:
            ends = (int(end) if end else None for end in bounds.groups())
            part = list(range(len(names)))[slice(*ends)]
            if not part:
                raise ValueError(f"{path}: no columns {column}, it has {len(names)}")
            chosen += part
        else:
            raise ValueError(f"{path}: no column {column!r}, but {_list(names)}")
    if len(set(chosen)) < len(chosen):
        raise ValueError(f"{path}: a column was asked for twice: {', '.join(columns)}")
    return chosen


def _list(names: Sequence[str]) -> str:
    more = f", ... ({len(names)} in all)" if len(names) > _LISTED else ""
    return ", ".join(names[:_LISTED]) + more if names else "none at all"


def _finite(table: Table) -> Table:
    """The table, or a ValueError that names its first NaN or infinity."""
    try:
        _rows.check_finite(table.values, "values")
    except ValueError:
        pass
    else:
        return table
    bad = next(
        (part.start + row, column)
        for part in _rows.blocks(table.values)
        for row, column in np.argwhere(~np.isfinite(table.values[part]))[:1]
    )
    where = f"line {table.lines([int(bad[0])])[0]}" if table.text else f"row {bad[0]}"
    raise ValueError(
        f"{table.path}, {where}, column {table.names[bad[1]]}: expected a finite number, got "
        f"{table.values[bad]}"
    )


# --- text -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Layout:
    """How the lines of a text file are to be read."""

    delimiter: str | None
    names: list[str]
    skip: int  # lines before the first row: 1 where there is one of names

    @classmethod
    def of(cls, path: Path) -> Layout:
        """Look at the first two records."""
        try:
            with _open_text(path) as file:
                lines = [text for _, text in islice(_lines(file), 2)]
        except _FAULTS as error:
            raise ValueError(f"{path}: expected text, in UTF-8: {error}") from error
        if not lines:
            raise ValueError(f"{path}: expected rows of numbers, got blank lines")
        counts = {mark: lines[0].count(mark) for mark in _DELIMITERS}
        best = max(counts, key=lambda mark: counts[mark])
        delimiter = best if counts[best] else None
        first, *rest = (_cells(line, delimiter) for line in lines)
        second = rest[0] if rest else []
        numeric = [is_number(cell) for cell in first]
        titled = not any(numeric) or any(
            not was and is_number(cell) for was, cell in zip(numeric, second, strict=False)
        )
        if not titled:
            return cls(delimiter, [str(column) for column in range(len(first))], 0)
        names = [cell.strip() or str(column) for column, cell in enumerate(first)]
        if len(second) == len(names) + 1:  # as R writes it: no name for the column of row names
            names = ["row", *names]
        return cls(delimiter, names, 1)


def _open_text(path: Path) -> TextIO:
    with path.open("rb") as file:
        zipped = file.read(2) == b"\x1f\x8b"
    if zipped:
        return gzip.open(path, "rt", encoding="utf-8-sig", newline="")
    return path.open(encoding="utf-8-sig", newline="")


def _lines(file: TextIO) -> Iterator[tuple[int, str]]:
    """Lines that hold something, with their numbers."""
    for number, line in enumerate(file, 1):
        text = line.strip(" \r\n") if line.strip() else ""
        if text and not text.startswith("#"):
            yield number, text


def _records(file: TextIO, layout: Layout, stop: int | None = None) -> Iterator[tuple[int, str]]:
    """The lines that hold rows."""
    end = None if stop is None else stop + layout.skip
    return islice(_lines(file), layout.skip, end)


def _cells(line: str, delimiter: str | None) -> list[str]:
    if delimiter is None:
        return line.split()
    return next(csv.reader([line], delimiter=delimiter))


def is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return "_" not in cell  # 1_000 is a number in Python only


def read_text(path: Path, layout: Layout, chosen: list[int]) -> Table:
    names = list(layout.names)
    try:
        with _open_text(path) as file:
            lines = (text for _, text in _records(file, layout))
            first = next(lines, None)
            if first is None:
                raise ValueError("expected rows of numbers, got a line of names only")
            values = np.loadtxt(
                _checked_widths(chain([first], lines), layout),
                delimiter=layout.delimiter,
                comments=None,
                usecols=chosen,
                ndmin=2,
                quotechar='"',
            )
    except (ValueError, *_FAULTS) as error:
        raise ValueError(_fault(path, layout, chosen) or f"{path}: {error}") from error
    return _finite(Table(path, values, [names[number] for number in chosen], text=True))


def text_column(path: Path, layout: Layout, number: int) -> list[str]:
    """The cells of a column of a text file; lines that are too short are left to `read_text`."""
    found = []
    try:
        with _open_text(path) as file:
            for _, line in _records(file, layout):
                cells = _cells(line, layout.delimiter)
                found.append(cells[number].strip() if number < len(cells) else "")
    except _FAULTS as error:
        raise ValueError(f"{path}: expected text, in UTF-8: {error}") from error
    return found


def _checked_widths(lines: Iterator[str], layout: Layout) -> Iterator[str]:
    """The lines as they are; ValueError at one that is longer or shorter than the names."""
    wanted, delimiter = len(layout.names), layout.delimiter
    for line in lines:
        count = len(line.split()) if delimiter is None else line.count(delimiter) + 1
        if count != wanted and ('"' not in line or len(_cells(line, delimiter)) != wanted):
            raise ValueError("a line of another length")
        yield line


def _fault(path: Path, layout: Layout, chosen: list[int]) -> str | None:
    """Where the first cell is that cannot be read; None if none is found."""
    try:
        with _open_text(path) as file:
            for number, line in _records(file, layout):
                cells = _cells(line, layout.delimiter)
                if len(cells) != len(layout.names):
                    return (
                        f"{path}, line {number}: expected {len(layout.names)} cells, got "
                        f"{len(cells)}"
                    )
                for column in chosen:
                    if not is_number(cells[column]):
                        return _not_a_number(path, layout, number, column, cells)
    except _FAULTS as error:
        return f"{path}: expected text, in UTF-8: {error}"
    return None


def _not_a_number(path: Path, layout: Layout, line: int, column: int, cells: list[str]) -> str:
    name, cell = layout.names[column], cells[column].strip()
    what = repr(cell if len(cell) <= 40 else cell[:37] + "...") if cell else "an empty cell"
    said = f"{path}, line {line}, column {name}: expected a number, got {what}"
    numeric = [n for n, text in zip(layout.names, cells, strict=True) if is_number(text)]
    hint = f"; columns with numbers in this line: {_list(numeric)}" if numeric else ""
    return said + hint
