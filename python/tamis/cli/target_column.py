"""Tables of which one column is to be predicted: numbers or, for classes, words."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tamis.cli import tables
from tamis.cli.tables import Table, load_table, numbers_of

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
        Name or number of a column.
    words : bool
        Whether the target of a text file may be anything; else it has to be numbers.

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


def _others(path: Path, names: list[str], number: int) -> list[int]:
    found = [other for other in range(len(names)) if other != number]
    if not found:
        raise ValueError(f"{path}: expected a column besides the target, got none")
    return found
