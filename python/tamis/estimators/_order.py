"""An order of rows that does not depend on the order they came in, for tables full of ties.

One-hot columns and small integers give rows at the same distance, eigenvalues of the same size and
directions that any rotation may replace. What decides there is rounding, which is that of sums in
the order of the rows, and the number of a row. In an order that the values alone determine, both
are always the same; equal rows share one fate. A single column of many values breaks nearly all
ties by itself, and is left to do so.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tamis import _rows

__all__ = ["Order", "order_by_value"]

_FEW = 250  # rows that say whether a table is full of ties
_TIED = 0.1  # of them are equal to the one before in every column of one that is


@dataclass
class Order:
    """``X[rows]`` is the table in the order of its values."""

    rows: NDArray[np.intp]  # (n,)
    starts: NDArray[np.intp]  # of runs of equal rows in that order

    def back(self, values: Any) -> Any:
        """What was found for the rows in that order, in the order they came in."""
        return values[np.argsort(self.rows)]

    def alike(self, values: NDArray[Any]) -> NDArray[Any]:
        """The largest value of each run of equal rows, for all of them; in the order of values."""
        ends = np.append(self.starts[1:], values.size)
        return np.repeat(np.maximum.reduceat(values, self.starts), ends - self.starts)


def order_by_value(X: Any) -> Order | None:
    """The order; None where some column seldom holds equal values, or a number is not finite."""
    n = int(X.shape[0])
    few = _rows.as_float64(X[:: max(n // _FEW, 1)])
    if n < 3 or not ((few[1:] == few[:-1]).mean(axis=0) >= _TIED).all():
        return None
    keys = _keys(X)
    if keys is None:
        return None
    rows = np.argsort(keys, kind="stable")
    keys = keys[rows]
    return Order(rows, np.flatnonzero(np.append(True, keys[1:] != keys[:-1])))


def _keys(X: Any) -> NDArray[np.uint64] | None:
    """64 bits a row, the same for equal rows: sums of mixed bits times odd numbers, modulo 2^64.

    That two of n others are the same is as likely as n^2 / 2^65. None where a number is not finite.
    """
    n, d = X.shape
    odd = np.random.default_rng(0).integers(2**63, size=d, dtype=np.uint64) * np.uint64(2)
    odd += np.uint64(1)
    keys = np.empty(n, np.uint64)
    for rows in _rows.blocks(X):
        part = _rows.as_float64(X[rows]) + 0.0  # no -0; a copy
        if not np.isfinite(part).all():
            return None
        bits = part.view(np.uint64)
        bits ^= bits >> np.uint64(32)  # small numbers differ in their upper bits only
        keys[rows] = bits @ odd
    return keys
