"""Tables of which one column is to be predicted: numbers or, for classes, words."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tamis.cli import tables
from tamis.cli.tables import Table, load_table, numbers_of
from tamis.smoothing.array_files import npz_members, read_npz_member

__all__ = ["load_with_target"]


def load_with_target(
    path: Path,
    target: str,
    *,
    key: str | None = None,
    columns: Sequence[str] = (),
    words: bool = False,
) -> tuple[Table, NDArray[Any]]:
    """A table without its target, and the target, which may hold words.

    Parameters
    ----------
    path, key, columns
        As in `load_table`; no columns: all but the target.
    target : str
        Name or number of a column; of an ``.npz`` file also an array with a value for each row.
    words : bool
        Whether the target of a text file, or an array of its own, may be anything; else it has to
        be numbers.

    Returns
    -------
    table : Table
    target : array of shape (n,)
        float64 where every cell is a number, else str.

    Raises
    ------
    ValueError
        As in `load_table`; also an empty target, words for numbers, no column beside the target.
    """
    head = tables.head_of(path)
    if head[:2] == b"PK":
        members = npz_members(path)
        if target in members:
            return _with_array(path, target, members[target], key, columns, words)
        if re.fullmatch(r"-?\d+", target) is None:
            raise ValueError(
                f"{path}: no array {target!r}, but {', '.join(members)}; columns are numbers"
            )
    if tables.is_binary(head):
        table = load_table(path, key=key, columns=[*columns, target] if columns else [])
        names = table.names
        number = len(names) - 1 if columns else numbers_of(path, names, [target])[0]
        others = _others(path, names, number)
        values = np.asarray(table.values, dtype=np.float64)
        part = Table(path, values[:, others], [names[other] for other in others])
        return part, values[:, number]
    tables.require_text(path, head, key)
    layout = tables.Layout.of(path)
    names = layout.names
    number = numbers_of(path, names, [target])[0]
    if columns:
        others = numbers_of(path, names, [*columns, target])[:-1]
    else:
        others = _others(path, names, number)
    cells = tables.text_column(path, layout, number)
    numeric = [tables.is_number(cell) for cell in cells]
    if all(numeric) or (any(numeric) and not words):
        table = tables.read_text(path, layout, [*others, number])  # says which cell is none
        return Table(path, table.values[:, :-1], table.names[:-1], text=True), table.values[:, -1]
    if not words:
        raise ValueError(
            f"{path}, column {names[number]}: expected numbers, got words such as {cells[0]!r}; "
            "words are classes"
        )
    table = tables.read_text(path, layout, others)
    if "" in cells:
        line = table.lines([cells.index("")])[0]
        raise ValueError(f"{path}, line {line}, column {names[number]}: expected a label, got none")
    return table, np.asarray(cells)


def _with_array(
    path: Path, target: str, member: Any, key: str | None, columns: Sequence[str], words: bool
) -> tuple[Table, NDArray[Any]]:
    """A table of an .npz file, and another of its arrays as target."""
    table = load_table(path, key=key, columns=columns)
    where = f"{path}: array {target}"
    array = read_npz_member(path, member)
    if array.shape not in ((len(table.values),), (len(table.values), 1)):
        raise ValueError(
            f"{where}: expected a value for each of {len(table.values)} rows, got shape "
            f"{array.shape}"
        )
    array = array.ravel()
    if array.dtype.kind in "US" and words:
        labels = np.char.strip(array.astype(str))
        if (labels == "").any():
            raise ValueError(f"{where}: expected a label in row {np.argmax(labels == '')}")
        return table, labels
    if array.dtype.kind not in "fiub":
        hint = "; words are classes" if array.dtype.kind in "US" else ""
        raise ValueError(f"{where}: expected numbers, got {array.dtype}{hint}")
    values = array.astype(np.float64)
    bad = np.flatnonzero(~np.isfinite(values))
    if bad.size:
        raise ValueError(f"{where}: expected a finite number in row {bad[0]}, got {values[bad[0]]}")
    return table, values


def _others(path: Path, names: list[str], number: int) -> list[int]:
    found = [other for other in range(len(names)) if other != number]
    if not found:
        raise ValueError(f"{path}: expected a column besides the target, got none")
    return found
