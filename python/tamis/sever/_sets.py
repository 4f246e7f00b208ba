"""Sets of examples: their classes, how many go, which ones stay."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tamis import _arrays

__all__ = [
    "Indices",
    "RowBuffer",
    "check_fraction",
    "class_numbers",
    "drop_largest",
    "mask_of",
    "number_of",
    "parts_of",
]

Indices = NDArray[np.intp]
_MOVED_NUMBERS = 1 << 15  # at a time


class RowBuffer:
    """Copies of some rows of a table, in one piece of memory: fresh memory costs more than copies.

    Rows that are all in it already, which is what a filter leaves, move up within the buffer; the
    table itself is not read again.
    """

    def __init__(self, table: NDArray[Any]) -> None:
        self._table = table
        self._held: Indices | None = None

    def take(self, rows: Indices) -> NDArray[Any]:
        """``table[rows]`` of increasing numbers; the array of the last call is overwritten."""
        before, self._held = self._held, rows
        if before is None:
            self._buffer = np.empty_like(self._table)
        out = self._buffer[: len(rows)]
        if before is None or len(rows) > len(before):
            return np.take(self._table, rows, axis=0, out=out, mode="clip")
        at = np.searchsorted(before, rows)
        if at[-1] == len(before) or not np.array_equal(before[at], rows):
            return np.take(self._table, rows, axis=0, out=out, mode="clip")
        step = max(_MOVED_NUMBERS // self._table.shape[1], 1)
        start = np.count_nonzero(at == np.arange(len(at)))  # those are in place
        for first in range(start, len(at), step):
            some = at[first : first + step]
            out[first : first + step] = self._buffer[some]  # a copy on the way: they may overlap
        return out


def mask_of(rows: Indices, n: int) -> NDArray[np.bool_]:
    """True at ``rows``, (n,)."""
    mask = np.zeros(n, dtype=bool)
    mask[rows] = True
    return mask


def number_of(share: float, examples: int) -> int:
    """``ceil(share * examples)``; a product that only rounding has put above an integer is that."""
    return int(np.ceil(share * examples - 1e-9))


def check_fraction(fraction: Any, default: float) -> float:
    """What a round drops, in (0, 1); ``default`` where it is not given."""
    if fraction is None:
        return default
    number = _arrays.check_real(fraction, "fraction")
    if not 0.0 < number < 1.0:
        raise ValueError(f"fraction: expected a number in (0, 1), got {number}")
    return number


def class_numbers(per_class: Any, n: int) -> Indices | None:
    """Numbers 0, 1, ... of the classes of n examples, in sorted order; None without classes."""
    if per_class is None:
        return None
    labels = np.asarray(per_class)
    if labels.shape != (n,):
        raise ValueError(
            f"per_class: expected one label for each of {n} examples, got {labels.shape}"
        )
    return np.unique(labels, return_inverse=True)[1].astype(np.intp)


def parts_of(classes: Indices | None, rows: Indices) -> list[Any]:
    """Positions in ``rows`` of the examples of every class; one slice where there are none."""
    if classes is None:
        return [slice(None)]
    return [np.flatnonzero(classes[rows] == label) for label in range(classes.max() + 1)]


def drop_largest(
    scores: NDArray[np.float64], rows: Indices, order: Indices, number: int
) -> NDArray[np.bool_]:
    """Keep all but the ``number`` largest scores; equal ones go in the order of a permutation.

    Scores that differ by rounding only count as equal: 10 digits of the largest.
    """
    top = scores.max(initial=0.0)
    rounded = np.round(scores / top, 10) if top > 0 else scores
    if not 0 < number < len(scores):
        return np.full(len(scores), number <= 0)
    cut = np.partition(rounded, -number)[-number]
    keep = np.asarray(rounded < cut, dtype=bool)
    equal = np.flatnonzero(rounded == cut)
    spared = len(scores) - number - int(keep.sum())
    keep[equal[np.argsort(order[rows[equal]])[len(equal) - spared :]]] = True
    return keep
