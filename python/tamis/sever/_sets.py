"""Sets of examples: their classes, how many go, which ones stay."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tamis import _arrays

__all__ = [
    "Arranged",
    "Indices",
    "RowBuffer",
    "check_fraction",
    "check_left",
    "class_numbers",
    "drop_largest",
    "mask_of",
    "number_of",
    "parts_of",
]

Indices = NDArray[np.intp]
_MOVED_NUMBERS = 1 << 15  # at a time


class Arranged:
    """A model that holds its examples in an order of its own.

    What `sever` is told of the model's own examples then goes by ``rows``, their numbers.
    """

    rows: Indices


class RowBuffer:
    """Copies of some rows of a table, in one piece of memory: fresh memory costs more than copies.

    From one set of rows to the next only those are copied that are new; they take the places of
    those that left. So the order of the rows is the buffer's own.
    """

    def __init__(self, table: NDArray[Any]) -> None:
        self._table = table
        self._held = np.zeros(0, dtype=np.intp)

    def take(self, rows: Indices) -> tuple[NDArray[Any], Indices]:
        """``table[order]`` and the order, a permutation of ``rows``.

        The array of the last call is overwritten.
        """
        if not self._held.size:
            self._buffer, self._held = np.empty_like(self._table), rows
            out = self._buffer[: len(rows)]
            return np.take(self._table, rows, axis=0, out=out, mode="clip"), rows
        held = self._held[: len(rows)]
        missing = mask_of(rows, len(self._table))
        stays = missing[held]
        missing[held[stays]] = False
        new = np.flatnonzero(missing)
        places = np.concatenate([np.flatnonzero(~stays), np.arange(len(held), len(rows))])
        order = np.empty(len(rows), dtype=np.intp)
        order[: len(held)] = held
        order[places] = new
        step = max(_MOVED_NUMBERS // max(self._table.shape[1], 1), 1)
        for first in range(0, len(new), step):  # in cache on their way
            some = slice(first, first + step)
            self._buffer[places[some]] = self._table[new[some]]
        self._held = order
        return self._buffer[: len(rows)], order


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


def check_left(classes: Indices | None, per_class: Any, rows: Indices) -> None:
    """Refuse to go on with no example, or with none of some class."""
    if not len(rows):
        raise ValueError("contamination, fraction, rounds: every example would be dropped")
    if classes is not None:
        left = np.bincount(classes[rows], minlength=int(classes.max()) + 1)
        if not left.all():
            lost = np.unique(per_class)[left == 0][0]
            raise ValueError(
                f"per_class: class {lost} would lose all its examples: too small for this "
                "fraction and number of rounds"
            )


def parts_of(classes: Indices | None, rows: Indices) -> list[Any]:
    """Positions in ``rows`` of the examples of every class; one slice where there are none."""
    if classes is None:
        return [slice(None)]
    return [np.flatnonzero(classes[rows] == label) for label in range(classes.max() + 1)]


def drop_largest(
    scores: NDArray[np.float64], rows: Indices, order: Indices, number: int
) -> NDArray[np.bool_]:
    """Keep all but the ``number`` largest scores; equal ones go in the order of a permutation.

    Scores that differ by rounding only count as equal: by 1e-10 of the largest.
    """
    if not 0 < number < len(scores):
        return np.full(len(scores), number <= 0)
    spared = len(scores) - number
    cut = np.partition(scores, spared)[spared]
    rounding = 1e-10 * scores.max()
    keep = np.asarray(scores < cut - rounding, dtype=bool)
    equal = np.flatnonzero(np.abs(scores - cut) <= rounding)
    spared -= np.count_nonzero(keep)
    keep[equal[np.argsort(order[rows[equal]])[len(equal) - spared :]]] = True
    return keep
