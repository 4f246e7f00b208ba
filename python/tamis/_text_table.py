"""A table as text, for people."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence

__all__ = ["text_table"]

_NARROWEST = 12  # a column that is cut keeps as many characters


def text_table(head: Sequence[str], rows: Sequence[Sequence[str]], left: Sequence[int]) -> str:
    """A table as text: columns in ``left`` are flush left, long cells there are cut to fit."""
    width = shutil.get_terminal_size((80, 24)).columns if sys.stdout.isatty() else 80
    cells = [[str(cell) for cell in row] for row in (head, *rows)]
    sizes = [max(map(len, column)) for column in zip(*cells, strict=True)]
    over = sum(sizes) + 2 * (len(sizes) - 1) - width
    for column in sorted(left, key=lambda column: -sizes[column]):
        cut = max(min(over, sizes[column] - _NARROWEST), 0)
        sizes[column] -= cut
        over -= cut
    lines = []
    for row in cells:
        texts = [
            _cut(cell, size).ljust(size) if column in left else cell.rjust(size)
            for column, (cell, size) in enumerate(zip(row, sizes, strict=True))
        ]
        lines.append("  ".join(texts).rstrip())
    lines.insert(1, "-" * max(map(len, lines)))
    return "\n".join(lines)


def _cut(text: str, size: int) -> str:
    return text if len(text) <= size else text[: size - 2] + ".."
